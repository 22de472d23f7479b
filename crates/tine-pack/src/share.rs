//! A file that begins as the content of another: shared where the file system can, copied where not.

use rustix::{fs::SeekFrom, io::Errno};
use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};
use tine_digest::CHUNK;

/// Makes the empty file `to` hold what `from` holds; holes stay holes.
///
/// # Errors
/// The kernel's.
pub(crate) fn share(from: &File, to: &File) -> io::Result<()> {
    match tine_sys::reflink::clone_file(from.as_fd(), to.as_fd()) {
        Ok(()) => Ok(()),
        Err(e) if cannot_share(e.errno()) => copy(from, to),
        Err(e) => Err(e.source),
    }
}

/// Errors that say that these two files cannot share at all.
fn cannot_share(errno: i32) -> bool {
    let errno = Errno::from_raw_os_error(errno);
    [Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL, Errno::NOTTY, Errno::NOSYS].contains(&errno)
}

fn copy(from: &File, to: &File) -> io::Result<()> {
    let (size, mut at, mut buffer) = (from.metadata()?.len(), 0, vec![0; CHUNK]);
    to.set_len(size)?;
    while at < size {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()),
            start => start?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += wanted as u64;
        }
    }
    Ok(())
}
