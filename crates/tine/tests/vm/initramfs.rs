//! A root for a virtual machine, as an initramfs: the host's own programs with the libraries they need, in the
//! kernel's cpio format ("newc", `Documentation/driver-api/early-userspace/buffer-format.rst`).

use super::support::root::{libraries, which};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// An initramfs that is being written.
pub struct Initramfs {
    file: BufWriter<File>,
    known: BTreeSet<String>,
    inode: u32,
}

impl Initramfs {
    /// An empty root with merged `/usr` and a console.
    pub fn create(path: &Path) -> Self {
        let file = BufWriter::new(File::create(path).unwrap());
        let mut made = Self { file, known: BTreeSet::new(), inode: 0 };
        for folder in ["usr", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "etc", "root", "dev"] {
            made.folders(&format!("{folder}/."));
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            made.link(name, &format!("usr/{name}"));
        }
        made.entry("dev/console", CONSOLE, (5, 1), b"");
        made
    }

    /// A file that may be executed, with the folders that lead to it.
    pub fn add(&mut self, path: &str, content: &[u8]) {
        self.folders(path);
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK, (0, 0), target.as_bytes());
    }

    /// The host's programs of these names, with what they are linked with.
    pub fn add_programs(&mut self, names: &[&str]) {
        for name in names {
            let program = which(name).unwrap_or_else(|| panic!("this host has no {name}"));
            self.add_program(&format!("usr/bin/{name}"), &program);
        }
    }

    /// A program of the host, with what it is linked with.
    pub fn add_program(&mut self, path: &str, program: &Path) {
        self.add(path, &std::fs::read(program).unwrap());
        for library in libraries(&[program.to_owned()]) {
            let name = library.file_name().unwrap().to_str().unwrap();
            let folder = if name.starts_with("ld-linux") { "lib64" } else { "lib" };
            let path = format!("usr/{folder}/{name}");
            if !self.known.contains(&path) {
                self.add(&path, &std::fs::read(&library).unwrap());
            }
        }
    }

    /// Ends the archive.
    pub fn finish(mut self) {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.file.flush().unwrap();
    }

    fn folders(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            if !self.known.contains(&path[..at]) {
                self.entry(&path[..at], FOLDER, (0, 0), b"");
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.known.insert(path.to_owned());
        self.inode += 1;
        let (size, name_size) = (content.len() as u32, path.len() as u32 + 1);
        // inode, mode, owner, group, links, time, size, device it lies on, device it is, length of the name, sum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let header: String = fields.iter().map(|field| format!("{field:08X}")).collect();
        write!(self.file, "070701{header}{path}\0").unwrap();
        self.pad(6 + 8 * fields.len() + path.len() + 1);
        self.file.write_all(content).unwrap();
        self.pad(content.len());
    }

    fn pad(&mut self, written: usize) {
        self.file.write_all(&[0; 3][..written.wrapping_neg() % 4]).unwrap();
    }
}
