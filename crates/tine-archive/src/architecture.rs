//! Whether the programs in a tree are for this machine.

use crate::error::{ArchiveError, Result};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};
use tine_sys::tree::{Kind, Node, Tree};

/// Programs that nearly every root has; a link among them is followed inside the tree.
const LIKELY: [&str; 9] = [
    "/bin/sh",
    "/usr/bin/env",
    "/bin/busybox",
    "/usr/bin/sh",
    "/bin/ls",
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
];
/// Where programs lie, looked through before the rest of the tree.
const FIRST: [&str; 8] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/lib64", "/usr/lib", "/lib"];
/// Objects looked at before giving up.
const LOOKED_AT_MAX: usize = 50_000;
/// All that is read of a file.
const HEAD: u64 = 64;
/// `EM_X86_64` of `elf(5)`.
const X86_64: u16 = 62;

/// Looks for a real program in the tree and at what it was made for.
///
/// # Errors
/// [`ArchiveError::WrongArchitecture`] when the first program found is not for x86-64, or there is none.
pub fn check_architecture(tree: &Tree) -> Result<()> {
    for path in LIKELY {
        let path = Path::new(path);
        if let Some(machine) = tree.follow(path).ok().and_then(|node| machine(&node)) {
            return verdict(&machine, path);
        }
    }
    let mut todo: VecDeque<PathBuf> = FIRST.iter().map(PathBuf::from).collect();
    todo.push_back(PathBuf::from("/"));
    let mut left = LOOKED_AT_MAX;
    while let Some(path) = todo.pop_front() {
        if let Some((machine, path)) = search(tree, &path, &mut todo, &mut left) {
            return verdict(&machine, &path);
        }
    }
    Err(ArchiveError::WrongArchitecture("there is no program in the tree (no ELF file was found)".into()))
}

/// Looks at the files of one directory, and puts off its directories.
fn search(
    tree: &Tree,
    path: &Path,
    todo: &mut VecDeque<PathBuf>,
    left: &mut usize,
) -> Option<(Machine, PathBuf)> {
    let dir = tree.exact_dir(path).ok()?;
    let mut entries = dir.entries().ok()?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        *left = left.checked_sub(1)?;
        let below = path.join(&entry.name);
        match entry.kind {
            Some(Kind::Dir) => todo.push_back(below),
            Some(Kind::File) | None => {
                if let Some(machine) = dir.node(&entry.name).ok().and_then(|node| machine(&node)) {
                    return Some((machine, below));
                }
            }
            Some(_) => {}
        }
    }
    None
}

/// What an ELF header says of the machine it is for.
struct Machine {
    class_64: bool,
    number: u16,
}

/// Reads the start of a regular file; `None` when it is no ELF program or library.
fn machine(node: &Node) -> Option<Machine> {
    use std::io::Read;
    let mut head = Vec::new();
    node.open_file().ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    let &[0x7f, b'E', b'L', b'F', class, order, _, ..] = head.as_slice() else { return None };
    let number = |at: usize| {
        let bytes = [*head.get(at)?, *head.get(at + 1)?];
        Some(if order == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    // executable or shared, as relocatable objects and core dumps may be of any machine
    let program = matches!(number(16)?, 2 | 3);
    let number = number(18)?;
    program.then_some(Machine { class_64: class == 2 && order == 1, number })
}

fn verdict(machine: &Machine, path: &Path) -> Result<()> {
    if machine.class_64 && machine.number == X86_64 {
        return Ok(());
    }
    let name = match machine.number {
        3 => "i386".to_owned(),
        40 => "arm".to_owned(),
        62 => "x32".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv".to_owned(),
        n => format!("machine {n}"),
    };
    let path = path.to_string_lossy().escape_debug().to_string();
    Err(ArchiveError::WrongArchitecture(format!("{path} is a program for {name}, not for x86_64")))
}
