//! Tars made by hand, and directories to extract them into.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use tine_archive::{ArchiveError, ExtractStats, Limits, Policy, extract};
use tine_model::{ErrorCode, Silent};
use tine_sys::tree::Tree;

/// A tar without its end mark.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

/// What a member is made of.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub kind: u8,
    pub name: &'a [u8],
    pub link: &'a [u8],
    pub mode: u32,
    pub device: (u32, u32),
    pub size: u64,
    pub data: &'a [u8],
}

pub const ENTRY: Entry<'static> =
    Entry { kind: b'0', name: b"", link: b"", mode: 0o644, device: (0, 0), size: 0, data: b"" };

impl Tar {
    pub fn raw(mut self, entry: Entry<'_>) -> Self {
        let mut h = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &entry.name[..entry.name.len().min(100)]);
        put(100, format!("{:07o}", entry.mode).as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", entry.size).as_bytes());
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[entry.kind]);
        put(157, &entry.link[..entry.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", entry.device.0).as_bytes());
        put(337, format!("{:07o}", entry.device.1).as_bytes());
        let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
        h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(h);
        self.0.extend(entry.data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    pub fn data(self, kind: u8, name: &str, data: &[u8]) -> Self {
        self.raw(Entry { kind, name: name.as_bytes(), size: data.len() as u64, data, ..ENTRY })
    }
    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.data(b'0', name, data)
    }
    pub fn dir(self, name: &str) -> Self {
        self.raw(Entry { kind: b'5', name: name.as_bytes(), mode: 0o755, ..ENTRY })
    }
    pub fn link(self, kind: u8, name: &str, target: &str) -> Self {
        self.raw(Entry { kind, name: name.as_bytes(), link: target.as_bytes(), mode: 0o777, ..ENTRY })
    }
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend(format!("{length} {key}=").as_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.data(b'x', "pax", &data)
    }
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A directory to extract into, with a neighbour that must stay as it is.
pub struct Target {
    dir: tempfile::TempDir,
}

impl Target {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        Self { dir }
    }
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }
    pub fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }
    pub fn tree(&self) -> Tree {
        Tree::open(&self.path("")).unwrap()
    }
    pub fn extract(&self, tar: &[u8]) -> Result<ExtractStats, ArchiveError> {
        self.extract_as(tar, &Policy::root_image(), &Limits::default())
    }
    pub fn extract_as(
        &self,
        tar: &[u8],
        policy: &Policy,
        limits: &Limits,
    ) -> Result<ExtractStats, ArchiveError> {
        let mut input = tar;
        let done = extract(&mut input, &self.tree(), limits, policy, &Silent);
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"], "something was made outside");
        assert_eq!(fs::read_to_string(self.outside().join("secret")).unwrap(), "untouched");
        done
    }
    pub fn refused(&self, tar: &[u8]) -> String {
        let error = tine_model::Error::from(self.extract(tar).unwrap_err());
        assert!(matches!(error.code, ErrorCode::InvalidInput | ErrorCode::TooLarge), "{error:?}");
        error.message
    }
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}
