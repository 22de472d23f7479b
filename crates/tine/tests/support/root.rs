//! A tiny root made of the host's own programs and the libraries they need.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAMS: [&str; 49] = [
    "bash", "sh", "basename", "cat", "chgrp", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname",
    "env", "expr", "false", "find", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mkfifo",
    "mknod", "mount", "mv", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq", "sleep", "sort",
    "stat", "stty", "tail", "tar", "touch", "tr", "true", "truncate", "uname", "wc",
];

/// A tar of the tiny root: merged `/usr`, `root` and `dev` (1000) as users.
pub fn tiny_root_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for folder in ["usr", "usr/bin", "usr/lib", "usr/lib64", "etc", "root", "tmp", "var"] {
        add_dir(&mut tar, folder);
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        add_link(&mut tar, link, target);
    }
    add_file(&mut tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/tmp:/bin/sh\n");
    add_file(&mut tar, "etc/group", b"root:x:0:\nstaff:x:50:dev\ndev:x:1000:\n");
    add_file(&mut tar, "etc/motd", b"welcome\n");
    let programs: Vec<PathBuf> = PROGRAMS.iter().filter_map(|p| which(p)).collect();
    for program in &programs {
        let name = program.file_name().unwrap().to_str().unwrap();
        add_program(&mut tar, program, &format!("usr/bin/{name}"));
    }
    for library in libraries(&programs) {
        let name = library.file_name().unwrap().to_str().unwrap();
        let folder = if name.starts_with("ld-linux") { "usr/lib64" } else { "usr/lib" };
        add_program(&mut tar, &library, &format!("{folder}/{name}"));
    }
    tar.into_inner().unwrap()
}

/// Where the host has a program.
pub fn which(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin"].iter().map(|d| Path::new(d).join(program)).find(|p| p.exists())
}

/// The shared libraries that programs are linked with, the dynamic loader included.
pub fn libraries(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let out = Command::new("ldd").args(programs).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut found = BTreeSet::new();
    for word in text.split_whitespace().filter(|w| w.starts_with('/') && !w.ends_with(':')) {
        found.insert(PathBuf::from(word));
    }
    found
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header
}

fn add_dir(tar: &mut tar::Builder<Vec<u8>>, path: &str) {
    let mode = if path == "tmp" { 0o1777 } else { 0o755 };
    tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), path, &[][..]).unwrap();
}

fn add_link(tar: &mut tar::Builder<Vec<u8>>, path: &str, target: &str) {
    tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target).unwrap();
}

fn add_file(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    tar.append_data(&mut header(tar::EntryType::Regular, 0o644, content.len() as u64), path, content)
        .unwrap();
}

fn add_program(tar: &mut tar::Builder<Vec<u8>>, source: &Path, path: &str) {
    let content = std::fs::read(source).unwrap();
    tar.append_data(&mut header(tar::EntryType::Regular, 0o755, content.len() as u64), path, &content[..])
        .unwrap();
}
