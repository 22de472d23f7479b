//! Zeros, of which plain digests want to see every one.

use sha2::{Digest, Sha256};
use std::io;

const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Adds `count` zeros.
///
/// # Errors
/// `Interrupted` once `stopped` says so.
pub(crate) fn hash_zeros(hasher: &mut Sha256, mut count: u64, stopped: impl Fn() -> bool) -> io::Result<()> {
    while count > 0 {
        if stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = usize::try_from(count).unwrap_or(BLOCK).min(BLOCK);
        hasher.update(ZEROS.get(..step).unwrap_or_default());
        count -= step as u64;
    }
    Ok(())
}
