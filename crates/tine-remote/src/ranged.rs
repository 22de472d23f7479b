//! A file at a server, read at any place, some at a time: for a look at its ends. What is wanted of it as a whole is a
//! [`crate::Download`].

use crate::{
    error::{RemoteError, Result},
    location::Location,
    remote::{Core, Remote},
    retry::{Fault, retrying},
    source::{Part, Source, Version},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::Arc,
};

/// How much is fetched at once, in bytes.
const WINDOW: u64 = 64 << 10;

/// A file at a server that answers ranges. Each read is of the version that was there first, or fails.
#[derive(Debug)]
pub struct Ranged {
    remote: Remote,
    location: Location,
    size: u64,
    version: Version,
    at: u64,
    /// What was fetched last, and where it lies.
    window: (u64, Bytes),
}

/// A part of a file, as a server answered it.
struct Piece {
    bytes: Bytes,
    total: u64,
    version: Version,
}

impl Remote {
    /// Opens a file at a server; none when the server does not answer ranges, or does not tell one version of the file from
    /// the next. Fetches the first 64 KiB.
    ///
    /// # Errors
    /// Those of the server and the network, after the configured retries or deadline.
    pub fn ranged(&self, location: &Location) -> Result<Option<Ranged>> {
        let Some(piece) = self.piece(location, 0..WINDOW, None)? else { return Ok(None) };
        let Piece { bytes, total, version } = piece;
        let (remote, location) = (self.clone(), location.clone());
        let file = Ranged { remote, location, size: total, version, at: 0, window: (0, bytes) };
        Ok(Some(file).filter(|file| file.version.is_known()))
    }

    fn piece(
        &self,
        location: &Location,
        range: Range<u64>,
        known: Option<&Version>,
    ) -> Result<Option<Piece>> {
        let core = &self.core;
        let work = async {
            let fetched = retrying(&core.config, || piece(core, location, range.clone(), known)).await;
            match fetched {
                Err(Fault::NoRanges) => Ok(None),
                fetched => fetched.map(Some),
            }
        };
        self.in_time(location, work)
    }
}

async fn piece(
    core: &Arc<Core>,
    location: &Location,
    range: Range<u64>,
    known: Option<&Version>,
) -> Result<Piece, Fault> {
    let (source, _) = Source::connect(core, location).await?;
    let mut reply = source.get(Some(range), known).await?;
    let Part::Range { range, total } = reply.part else { return Err(Fault::NoRanges) };
    if known.is_some_and(|known| !known.agrees(&reply.version)) {
        return Err(Fault::Changed);
    }
    let (length, mut bytes) = (range.end - range.start, BytesMut::new());
    while let Some(chunk) = reply.body.next().await {
        let chunk = chunk?;
        if bytes.len() as u64 + chunk.len() as u64 > length {
            let why = format!("the server sends more than the {length} bytes it announced");
            return Err(RemoteError::refused(location, why).into());
        }
        bytes.extend_from_slice(&chunk);
    }
    if (bytes.len() as u64) < length {
        return Err(Fault::passing(RemoteError::unreachable(location, "the server broke off")));
    }
    Ok(Piece { bytes: bytes.freeze(), total, version: reply.version })
}

impl Ranged {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What of the window lies at the present place.
    fn here(&self) -> &[u8] {
        let (start, bytes) = &self.window;
        let at = self.at.checked_sub(*start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| bytes.get(at..)).unwrap_or_default()
    }

    fn fetch(&mut self) -> io::Result<()> {
        let range = self.at..self.at.saturating_add(WINDOW).min(self.size);
        let piece = self.remote.piece(&self.location, range, Some(&self.version));
        let changed = || io::Error::other("the file changed at the server");
        let piece = piece.map_err(io::Error::other)?.ok_or_else(changed)?;
        if piece.total != self.size {
            return Err(changed());
        }
        self.window = (self.at, piece.bytes);
        Ok(())
    }
}

impl Read for Ranged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.at >= self.size {
            return Ok(0);
        }
        if self.here().is_empty() {
            self.fetch()?;
        }
        let read = self.here().read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Ranged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
