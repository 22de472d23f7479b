//! The initramfs of a guest: the agent as `/init`, and the modules it loads.
//!
//! A `newc` archive (the kernel's `driver-api/early-userspace/buffer-format.rst`), not compressed: unpacking is then
//! a copy, also under an emulator.

use super::modules::Module;
use crate::error::{MachineError, MachineResult};
use cpio::newc::{Builder, ModeFileType, trailer};
use sha2::{Digest, Sha256};
use std::io::Write;

/// The guest's agent: a static program.
const AGENT: &[u8] = include_bytes!(env!("TINE_AGENT"));
/// Directories the agent mounts things on before it has the disk.
const DIRECTORIES: [&str; 5] = ["dev", "proc", "sys", "root", "modules"];

/// What the kernel and the agent's runtime want before anything is mounted, with their numbers.
const DEVICES: [(&str, (u32, u32)); 2] = [("dev/console", (5, 1)), ("dev/null", (1, 3))];

/// Identifies this program's agent: an initramfs made with another one is not to be used.
#[must_use]
pub fn agent_id() -> String {
    Sha256::digest(AGENT)[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes the initramfs: the agent, and the modules in the order in which it is to load them.
///
/// # Errors
/// The writer's.
pub fn write(modules: &[Module], out: &mut dyn Write) -> MachineResult<()> {
    let err = |e| MachineError::io("write", "initramfs", e);
    let mut archive = Archive { out, inode: 0 };
    for directory in DIRECTORIES {
        archive.directory(directory).map_err(err)?;
    }
    for (device, number) in DEVICES {
        archive.device(device, number).map_err(err)?;
    }
    archive.file("init", 0o755, AGENT).map_err(err)?;
    for module in modules {
        archive.file(&format!("modules/{}", module.name), 0o644, &module.content).map_err(err)?;
    }
    let order: String = modules.iter().map(|m| format!("{}\n", m.name)).collect();
    archive.file("modules/order", 0o644, order.as_bytes()).map_err(err)?;
    trailer(archive.out).map_err(err)?;
    Ok(())
}

struct Archive<'a> {
    out: &'a mut dyn Write,
    inode: u32,
}

impl Archive<'_> {
    fn directory(&mut self, name: &str) -> std::io::Result<()> {
        let entry = Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Directory);
        self.entry(entry, &[])
    }

    fn device(&mut self, name: &str, (major, minor): (u32, u32)) -> std::io::Result<()> {
        let entry = Builder::new(name).mode(0o600).set_mode_file_type(ModeFileType::Char);
        self.entry(entry.rdev_major(major).rdev_minor(minor), &[])
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
        let entry = Builder::new(name).mode(mode).set_mode_file_type(ModeFileType::Regular);
        self.entry(entry, content)
    }

    fn entry(&mut self, entry: Builder, content: &[u8]) -> std::io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
        let entry = entry.ino(self.inode).uid(0).gid(0);
        let mut writer = entry.write(&mut *self.out, size);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_lists_the_agent_and_the_modules_in_order() {
        let module = |name: &str| Module { name: name.to_owned(), content: name.as_bytes().to_vec() };
        let mut bytes = Vec::new();
        write(&[module("b.ko"), module("a.ko")], &mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
            seen.push((reader.entry().name().to_owned(), content));
            rest = reader.finish().unwrap();
        }
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[5..7], ["dev/console", "dev/null"]);
        assert_eq!(names[7..], ["init", "modules/b.ko", "modules/a.ko", "modules/order"]);
        assert_eq!(seen[7].1, AGENT);
        assert_eq!(seen[10].1, b"b.ko\na.ko\n");
    }
}
