//! What the kernel is told of memory that is about to be used.

use rustix::{mm::Advice, param::page_size};
use std::mem::MaybeUninit;

/// Asks for large pages under memory that is going to be filled: one page fault instead of hundreds, which counts where
/// faults are dear, as under a hypervisor. Only a hint, so nothing comes of a failure (`MADV_HUGEPAGE`, see madvise(2)); the
/// kernel gives them where a whole one fits and has not been touched yet.
pub fn prefer_large_pages(memory: &mut [MaybeUninit<u8>]) {
    if memory.is_empty() {
        return;
    }
    let page = page_size();
    let before = memory.as_ptr().addr() % page;
    let start = memory.as_mut_ptr().wrapping_byte_sub(before);
    let length = (before + memory.len()).next_multiple_of(page);
    // SAFETY: the advice changes the content of no page; those at both ends hold bytes of `memory`, so they are mapped.
    let _ = unsafe { rustix::mm::madvise(start.cast(), length, Advice::LinuxHugepage) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LARGE: usize = 2 << 20;

    #[test]
    fn what_is_advised_is_marked_and_holds_what_is_written() {
        let mut memory = Vec::<u8>::with_capacity(4 * LARGE);
        prefer_large_pages(memory.spare_capacity_mut());
        memory.resize(4 * LARGE, 7);
        assert!(memory.iter().all(|byte| *byte == 7));
        let flags = flags_at(memory.as_ptr().addr() + LARGE);
        // a kernel without large pages has no such flag to set
        let known = fs::exists("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
        assert_eq!(flags.split(' ').any(|flag| flag == "hg"), known, "{flags}");
    }

    /// The flags of the mapping with this address (proc_pid_smaps(5)).
    fn flags_at(address: usize) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            let numbers = range.map(|(a, b)| (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16)));
            if let Some((Ok(from), Ok(to))) = numbers {
                inside = (from..to).contains(&address);
            }
            if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags: ")) {
                return flags.to_owned();
            }
        }
        panic!("no mapping at {address:x}");
    }
}
