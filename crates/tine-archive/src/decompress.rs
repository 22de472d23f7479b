//! The archive's bytes: which compression they have, and undoing it in a thread of its own.
//!
//! A bounded number of buffers goes round between that thread and the reader, so memory stays bounded whatever the
//! ratio of compression.

#[cfg(feature = "decompress")]
mod gzip;

#[cfg(feature = "decompress")]
use gzip::Gzip;
#[cfg(feature = "decompress")]
use liblzma::stream::{CONCATENATED, Stream};
use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Scope},
};

const BUFFER: usize = 256 * 1024;
const BUFFERS: usize = 8;
/// What an xz stream may make its decoder allocate; `xz -9` asks for 65 MiB.
#[cfg(feature = "decompress")]
const XZ_MEMORY: u64 = 256 << 20;

/// Decompressed bytes as they come from the thread that makes them.
pub(crate) struct Decompressed {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Starts a thread that decompresses `input` and counts the bytes it has read of it in `consumed`.
///
/// It ends when the data does, or when the answer is dropped, at the latest after the next read of `input`.
pub(crate) fn decompress<'scope>(
    scope: &'scope Scope<'scope, '_>,
    input: &'scope mut (dyn Read + Send),
    consumed: &'scope AtomicU64,
) -> io::Result<Decompressed> {
    let (to_reader, full) = sync_channel(BUFFERS);
    let (empty, from_reader) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // the channel has room for exactly these
        let _ = empty.send(Vec::new());
    }
    thread::Builder::new().name("decompress".into()).spawn_scoped(scope, move || {
        let counted = Counted { input, consumed };
        if let Err(e) = pump(BufReader::with_capacity(BUFFER, counted), &from_reader, &to_reader) {
            // a reader that has gone wants to hear nothing more
            let _ = to_reader.send(Err(e));
        }
    })?;
    Ok(Decompressed { full, empty, current: Vec::new(), at: 0, ended: false })
}

/// Fills buffers with decompressed bytes until the data ends or nobody takes them.
fn pump(
    input: BufReader<Counted<'_>>,
    empty: &Receiver<Vec<u8>>,
    full: &SyncSender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let mut decoder = decoder(input)?;
    while let Ok(mut buffer) = empty.recv() {
        buffer.clear();
        buffer.reserve_exact(BUFFER);
        let read = decoder.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
        let ended = matches!(read, Ok(0));
        // what came before an error still counts: the error then names the member it is in
        if !buffer.is_empty() && full.send(Ok(buffer)).is_err() {
            return Ok(());
        }
        read?;
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

fn decoder<'a>(mut input: BufReader<Counted<'a>>) -> io::Result<Box<dyn Read + 'a>> {
    let head = first_bytes(&mut input)?;
    let chained = BufReader::with_capacity(BUFFER, io::Cursor::new(head.clone()).chain(input));
    Ok(match head.as_slice() {
        #[cfg(feature = "decompress")]
        [0x1f, 0x8b, ..] => Box::new(Gzip::new(chained)),
        #[cfg(feature = "decompress")]
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(chained)?)
        }
        #[cfg(feature = "decompress")]
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(chained, stream))
        }
        #[cfg(not(feature = "decompress"))]
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            return Err(damaged("only a plain tar can be read here"));
        }
        [b'B', b'Z', b'h', ..] => return Err(damaged("bzip2 is not among gzip, zstd, xz and plain tar")),
        _ => Box::new(chained),
    })
}

/// Up to 8 bytes: enough for every magic number.
fn first_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(8);
    input.take(8).read_to_end(&mut head)?;
    Ok(head)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

struct Counted<'a> {
    input: &'a mut (dyn Read + Send),
    consumed: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl BufRead for Decompressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() && !self.ended {
            let spent = std::mem::take(&mut self.current);
            self.at = 0;
            if spent.capacity() > 0 {
                // the thread has gone when the data has ended
                let _ = self.empty.try_send(spent);
            }
            match self.full.recv() {
                Ok(next) => self.current = next?,
                Err(_) => self.ended = true,
            }
        }
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.current.len().min(self.at + amount);
    }
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let read = available.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(available) {
            *to = *from;
        }
        self.consume(read);
        Ok(read)
    }
}
