//! Which pages of another process's private file mapping are its own.
//!
//! A private mapping shares the file's pages until it writes to one. What it has written is what has to be kept of it.
//! Knows nothing of machines.

use crate::error::{SysError, SysResult};
use rustix::process::Pid;
use std::{
    fs::File,
    io,
    ops::Range,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// `PAGEMAP_SCAN` of `linux/fs.h`, since Linux 6.7.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Ranges asked for at a time.
const BATCH: usize = 4096;
/// Entries of the older interface read at a time.
const ENTRIES: usize = 64 << 10;

/// `struct pm_scan_arg`.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The pages of `mapping`, a range of addresses of a process, that are not the mapped file's any more, as ranges of
/// addresses in ascending order. The process must not run meanwhile, or the answer is of no moment in particular.
///
/// # Errors
/// The kernel's: ESRCH when the process has ended.
pub fn own_pages(process: Pid, mapping: Range<u64>) -> SysResult<Vec<Range<u64>>> {
    let path = format!("/proc/{}/pagemap", process.as_raw_nonzero());
    let err = |e| SysError::new("read", &path, e);
    let pagemap = File::open(&path).map_err(err)?;
    match scan(&pagemap, mapping.clone()) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
            read_entries(&pagemap, mapping).map_err(err)
        }
        found => found.map_err(err),
    }
}

fn scan(pagemap: &File, mapping: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut regions = vec![Region::default(); BATCH];
    let mut from = mapping.start;
    while from < mapping.end {
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            flags: 0,
            start: from,
            end: mapping.end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: BATCH as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_FILE,
            category_mask: PAGE_IS_FILE,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_FILE,
        };
        // SAFETY: the kernel writes at most `vec_len` regions to `vec` and the end of its walk to the argument.
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = (count as usize).min(BATCH);
        regions[..count].iter().for_each(|region| push(&mut found, region.start..region.end));
        if argument.walk_end <= from {
            break;
        }
        from = argument.walk_end;
    }
    Ok(found)
}

/// By the entries of `/proc/<pid>/pagemap` (the kernel's `admin-guide/mm/pagemap.rst`).
fn read_entries(pagemap: &File, mapping: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    const OF_FILE: u64 = 1 << 61;
    let mut found = Vec::new();
    let mut buffer = vec![0; ENTRIES * 8];
    let mut page = mapping.start / PAGE;
    let end = mapping.end / PAGE;
    while page < end {
        let count = ENTRIES.min((end - page) as usize);
        pagemap.read_exact_at(&mut buffer[..count * 8], page * 8)?;
        for (index, entry) in buffer[..count * 8].as_chunks::<8>().0.iter().enumerate() {
            let entry = u64::from_le_bytes(*entry);
            if entry & PRESENT_OR_SWAPPED != 0 && entry & OF_FILE == 0 {
                let at = (page + index as u64) * PAGE;
                push(&mut found, at..at + PAGE);
            }
        }
        page += count as u64;
    }
    Ok(found)
}

fn push(ranges: &mut Vec<Range<u64>>, next: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, ptr};

    #[test]
    fn only_written_pages_are_own() {
        let mut file = tempfile();
        file.write_all(&vec![7; 64 * PAGE as usize]).unwrap();
        let length = 64 * PAGE as usize;
        // SAFETY: a new private mapping of a file this test owns, written to within its length only.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE;
            let at = libc::mmap(ptr::null_mut(), length, 3, flags, file.as_raw_fd(), 0).cast::<u8>();
            at.add(5 * PAGE as usize).write_volatile(1);
            at.add(6 * PAGE as usize).write_volatile(1);
            at.add(40 * PAGE as usize).write_volatile(1);
            assert_eq!(at.add(50 * PAGE as usize).read_volatile(), 7);
            at as u64
        };
        let wanted = vec![start + 5 * PAGE..start + 7 * PAGE, start + 40 * PAGE..start + 41 * PAGE];
        let mapping = start..start + length as u64;
        assert_eq!(own_pages(rustix::process::getpid(), mapping.clone()).unwrap(), wanted);
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        assert_eq!(read_entries(&pagemap, mapping).unwrap(), wanted);
    }

    fn tempfile() -> File {
        let fd = rustix::fs::memfd_create("pages", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        File::from(fd)
    }
}
