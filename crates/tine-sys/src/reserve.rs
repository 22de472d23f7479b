//! Memory that is held without being used, so that others can have it at a moment that is known.

use crate::error::{SysError, SysResult};
use rustix::mm::{MapFlags, ProtFlags};
use std::{ffi::c_void, ptr};

/// Memory of the host that nobody else gets until this is dropped.
#[derive(Debug)]
pub struct Reserve {
    start: *mut c_void,
    bytes: usize,
}

impl Reserve {
    /// Takes so many bytes, each of them backed by memory at once (`MAP_POPULATE`, see mmap(2)). A host that is short
    /// of them does as with everybody who needs memory: it may kill the caller.
    ///
    /// # Errors
    /// EINVAL for no bytes; ENOMEM beyond the limits of the process.
    pub fn take(bytes: usize) -> SysResult<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches none that is there.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, access, flags) }
            .map_err(|e| SysError::new("reserve", "memory", e))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing was ever given a reference into it.
        let _ = unsafe { rustix::mm::munmap(self.start, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kibibytes of memory that this process has itself.
    fn own() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_reserved_is_there_until_it_is_dropped() {
        let before = own();
        let reserve = Reserve::take(64 << 20).unwrap();
        assert!(own() >= before + (60 << 10), "{before} {}", own());
        drop(reserve);
        assert!(own() < before + (30 << 10), "{before} {}", own());
        assert_eq!(Reserve::take(0).unwrap_err().errno(), libc::EINVAL);
    }
}
