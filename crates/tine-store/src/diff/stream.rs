//! The kernel's send stream: a header, then commands of attributes (`fs/btrfs/send.h`, version 1).
//!
//! Reads paths as bytes and only what says which paths may differ. Every length is checked against what holds it.

use std::io::Read;

/// What a command says about which paths may differ.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// An object appears at a path.
    Make(&'a [u8]),
    /// An object gets one more name.
    Link(&'a [u8]),
    /// An object moves.
    Rename(&'a [u8], &'a [u8]),
    /// A name goes.
    Remove(&'a [u8]),
    /// Content, mode, owner or attributes of an object may be others.
    Change(&'a [u8]),
    /// Times of an object are others; those of a directory when its list of names is.
    Times(&'a [u8]),
    /// Nothing of interest.
    Other,
}

/// Why a stream could not be used.
#[derive(Debug)]
pub(super) struct Odd;

/// Commands of a stream.
pub(super) struct Commands<R> {
    input: R,
    payload: Vec<u8>,
}

const MAGIC: &[u8; 13] = b"btrfs-stream\0";
/// A command without file data holds a few paths and an xattr; this is four times the longest.
const PAYLOAD_MAX: usize = 1 << 20;

const PATH: u16 = 15;
const PATH_TO: u16 = 16;

impl<R: Read> Commands<R> {
    /// Reads the stream's header.
    pub fn new(mut input: R) -> Result<Self, Odd> {
        let mut header = [0; MAGIC.len() + 4];
        input.read_exact(&mut header).map_err(|_| Odd)?;
        // later versions only add commands, which would be unknown ones
        if header.starts_with(MAGIC) { Ok(Self { input, payload: Vec::new() }) } else { Err(Odd) }
    }

    /// The next command; `None` at the end mark.
    pub fn next(&mut self) -> Result<Option<Command<'_>>, Odd> {
        let mut header = [0; 10];
        self.input.read_exact(&mut header).map_err(|_| Odd)?;
        // the checksum is not looked at: the bytes come from the kernel through a pipe
        let [a, b, c, d, low, high, ..] = header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| Odd)?;
        if length > PAYLOAD_MAX {
            return Err(Odd);
        }
        self.payload.resize(length, 0);
        self.input.read_exact(&mut self.payload).map_err(|_| Odd)?;
        command(u16::from_le_bytes([low, high]), &self.payload)
    }
}

fn command(number: u16, payload: &[u8]) -> Result<Option<Command<'_>>, Odd> {
    let path = || attribute(payload, PATH);
    Ok(Some(match number {
        // subvol, snapshot: the name of the whole
        1 | 2 => Command::Other,
        // mkfile, mkdir, mknod, mkfifo, mksock, symlink
        3..=8 => Command::Make(path()?),
        9 => Command::Rename(path()?, attribute(payload, PATH_TO)?),
        10 => Command::Link(path()?),
        // unlink, rmdir
        11 | 12 => Command::Remove(path()?),
        // set and remove xattr, write, clone, truncate, chmod, chown
        13..=19 => Command::Change(path()?),
        20 => Command::Times(path()?),
        21 => return Ok(None),
        // update extent, fallocate
        22 | 23 => Command::Change(path()?),
        // file attributes are no part of a difference
        24 => Command::Other,
        _ => return Err(Odd),
    }))
}

/// The value of an attribute: type and length of two bytes each come before it.
fn attribute(mut payload: &[u8], wanted: u16) -> Result<&[u8], Odd> {
    while let Some((&[a, b, c, d], rest)) = payload.split_first_chunk::<4>() {
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([c, d]))).ok_or(Odd)?;
        if u16::from_le_bytes([a, b]) == wanted {
            return Ok(value);
        }
        payload = rest;
    }
    Err(Odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(number: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (kind, value) in attributes {
            payload.extend(kind.to_le_bytes());
            payload.extend((value.len() as u16).to_le_bytes());
            payload.extend(*value);
        }
        let mut command = (payload.len() as u32).to_le_bytes().to_vec();
        command.extend(number.to_le_bytes());
        command.extend([0; 4]);
        command.extend(payload);
        command
    }

    #[test]
    fn reads_odd_paths_and_stops_at_the_end_mark() {
        let mut stream = [MAGIC.as_slice(), &1u32.to_le_bytes()].concat();
        stream.extend(encoded(9, &[(15, b"a\n\xff"), (16, b"b")]));
        stream.extend(encoded(21, &[]));
        let mut commands = Commands::new(stream.as_slice()).unwrap();
        assert_eq!(commands.next().unwrap(), Some(Command::Rename(b"a\n\xff", b"b")));
        assert_eq!(commands.next().unwrap(), None);
        assert!(commands.next().is_err());
    }

    #[test]
    fn every_cut_and_every_lie_about_a_length_is_noticed() {
        let header = [MAGIC.as_slice(), &1u32.to_le_bytes()].concat();
        let whole = [header.clone(), encoded(3, &[(15, b"abc")])].concat();
        for cut in 0..whole.len() {
            let read = Commands::new(&whole[..cut]).and_then(|mut c| c.next().map(|_| ()));
            assert!(read.is_err(), "{cut}");
        }
        for (at, byte) in
            [(header.len() + 2, 0xff), (header.len() + 12, 200), (0, b'x'), (header.len() + 4, 99)]
        {
            let mut lie = whole.clone();
            lie[at] = byte;
            let read = Commands::new(lie.as_slice()).and_then(|mut c| c.next().map(|_| ()));
            assert!(read.is_err(), "{at}");
        }
    }
}
