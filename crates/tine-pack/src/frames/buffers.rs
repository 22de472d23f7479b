//! Buffers that go round, so that their pages are not taken from and given back to the kernel for every frame.

use std::sync::{Mutex, PoisonError};
use tine_sys::memory::prefer_large_pages;

/// Spent buffers of one capacity.
pub(super) struct Buffers {
    capacity: usize,
    kept_max: usize,
    spent: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Those of `capacity` bytes, of which at most `kept_max` are kept while nobody needs them.
    pub fn new(capacity: usize, kept_max: usize) -> Self {
        Self { capacity, kept_max, spent: Mutex::new(Vec::new()) }
    }

    /// A buffer, empty or with whatever it last held.
    pub fn take(&self) -> Vec<u8> {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spent.unwrap_or_else(|| {
            let mut new = Vec::with_capacity(self.capacity);
            prefer_large_pages(new.spare_capacity_mut());
            new
        })
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Vec<u8>) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() >= self.capacity && spent.len() < self.kept_max {
            spent.push(buffer);
        }
    }
}
