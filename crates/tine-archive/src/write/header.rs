//! The headers of a member to be written.

use crate::{
    entry::{BLOCK, Header, NAME_MAX, OCTAL_8_MAX, OCTAL_12_MAX, SparseMap},
    pax,
};
use std::os::unix::ffi::OsStrExt;
use tine_sys::tree::{Kind, Meta, Xattr};

/// A member to be written.
pub(super) struct Outgoing {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub xattrs: Vec<Xattr>,
    /// Bytes of content in the archive.
    pub stored: u64,
    pub map: Option<SparseMap>,
    meta: Meta,
    kind: u8,
}

impl Outgoing {
    pub fn new(mut path: Vec<u8>, meta: &Meta) -> Self {
        let kind = match meta.kind {
            Kind::File | Kind::Socket => b'0',
            Kind::Symlink => b'2',
            Kind::Char => b'3',
            Kind::Block => b'4',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
        };
        if meta.kind == Kind::Dir {
            path.push(b'/');
        }
        Self { path, link: Vec::new(), xattrs: Vec::new(), stored: 0, map: None, meta: *meta, kind }
    }

    /// The same as a second name of what was written as `first`.
    pub fn hard_link(mut self, first: Vec<u8>) -> Self {
        self.kind = b'1';
        self.link = first;
        self
    }

    /// Makes it a sparse file and gives the blocks that come in front of its content.
    pub fn sparse(&mut self, mut map: SparseMap) -> Vec<u8> {
        if map.data.last().is_none_or(|(offset, length)| offset + length < map.size) {
            // an empty stretch at the end is how other readers learn of a hole there
            map.data.push((map.size, 0));
        }
        let mut text = format!("{}\n", map.data.len());
        for (offset, length) in &map.data {
            text.push_str(&format!("{offset}\n{length}\n"));
        }
        let mut blocks = text.into_bytes();
        pad(&mut blocks);
        self.stored = blocks.len() as u64 + map.data.iter().map(|(_, length)| length).sum::<u64>();
        self.map = Some(map);
        blocks
    }

    /// The header block, after an extended header where one is needed.
    pub fn bytes(&self) -> Vec<u8> {
        let records = self.records();
        let mut bytes = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            let mut header = Header::new(b'x', &self.extension_name(), records.len() as u64);
            header.put_owner(0o644, 0, 0);
            bytes.extend_from_slice(&header.sealed());
            bytes.extend_from_slice(&records);
            pad(&mut bytes);
        }
        bytes.extend_from_slice(&self.plain());
        bytes
    }

    fn plain(&self) -> [u8; BLOCK] {
        let name = if self.map.is_some() { self.extension_name() } else { self.path.clone() };
        let mut header = Header::new(self.kind, &name, self.stored);
        header.put_link(&self.link);
        header.put_owner(self.meta.mode, u64::from(self.meta.uid), u64::from(self.meta.gid));
        header.put_mtime(u64::try_from(self.meta.mtime.seconds).unwrap_or(0));
        if matches!(self.meta.kind, Kind::Char | Kind::Block) {
            header.put_device(self.meta.device);
        }
        header.sealed()
    }

    /// What a plain header cannot say.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut put = |key: &[u8], value: &[u8]| pax::append(&mut records, key, value);
        let long = |name: &[u8]| name.len() > NAME_MAX;
        let odd = std::str::from_utf8(&self.path).is_err() || std::str::from_utf8(&self.link).is_err();
        if odd && (long(&self.path) || long(&self.link) || self.map.is_some()) {
            put(b"hdrcharset", b"BINARY");
        }
        if long(&self.path) && self.map.is_none() {
            put(b"path", &self.path);
        }
        if long(&self.link) {
            put(b"linkpath", &self.link);
        }
        for (key, value, most) in [
            (&b"size"[..], self.stored, OCTAL_12_MAX),
            (b"uid", u64::from(self.meta.uid), OCTAL_8_MAX),
            (b"gid", u64::from(self.meta.gid), OCTAL_8_MAX),
        ] {
            if value > most {
                put(key, value.to_string().as_bytes());
            }
        }
        let time = self.meta.mtime;
        if time.nanoseconds != 0 || !u64::try_from(time.seconds).is_ok_and(|s| s <= OCTAL_12_MAX) {
            put(b"mtime", pax::time_text(time).as_bytes());
        }
        if let Some(map) = &self.map {
            put(b"GNU.sparse.major", b"1");
            put(b"GNU.sparse.minor", b"0");
            put(b"GNU.sparse.name", &self.path);
            put(b"GNU.sparse.realsize", map.size.to_string().as_bytes());
        }
        for xattr in &self.xattrs {
            put(&[b"SCHILY.xattr.", xattr.name.as_bytes()].concat(), &xattr.value);
        }
        records
    }

    /// What a reader that knows no extended headers calls them.
    fn extension_name(&self) -> Vec<u8> {
        let last = self.path.split(|b| *b == b'/').rfind(|part| !part.is_empty()).unwrap_or_default();
        let room = NAME_MAX - EXTENSION_DIR.len();
        [EXTENSION_DIR, last.get(..room).unwrap_or(last)].concat()
    }
}

const EXTENSION_DIR: &[u8] = b"./PaxHeaders/";

/// Fills up to a whole number of blocks.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}
