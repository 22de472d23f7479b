//! Which modules a guest kernel needs, in which order, taken from its modules' directory.
//!
//! Reads `modules.dep` and `modules.builtin` as depmod(8) writes them. Decompresses; the agent loads plain files.

use crate::error::{MachineError, MachineResult};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

/// What a guest needs, by file name without suffix; those that the kernel has built in are not looked for.
const NEEDED: [&str; 7] =
    ["virtio_pci", "virtio_console", "virtio_blk", "ext4", "virtio-rng", "virtio_net", "vmgenid"];
/// What some kernels have not, and a guest can do without.
const OPTIONAL: [&str; 2] = ["vmgenid", "virtio-rng"];
/// The largest list that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;
/// The largest module, decompressed, in bytes.
const MAX_MODULE: u64 = 64 << 20;

/// A module to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its file's name, as `virtio_blk.ko`.
    pub name: String,
    /// Its plain content.
    pub content: Vec<u8>,
}

/// The modules a guest needs of `dir` (as `/lib/modules/6.1.0-1-amd64`), each after those it depends on.
///
/// # Errors
/// A directory without the lists that depmod(8) makes, or without a module that is needed.
pub fn collect(dir: &Path) -> MachineResult<Vec<Module>> {
    let dependencies = parse_dependencies(&read_list(&dir.join("modules.dep"))?);
    let builtin = read_list(&dir.join("modules.builtin")).unwrap_or_default();
    let is_builtin = |name: &str| builtin.lines().any(|line| module_name(line) == Some(canonical(name)));
    let mut order: Vec<PathBuf> = Vec::new();
    for name in NEEDED.into_iter().filter(|name| !is_builtin(name)) {
        match dependencies.get(&canonical(name)) {
            Some((path, needs)) => {
                // modules.dep lists the nearest first; what all others need stands last
                for path in needs.iter().rev().chain([path]) {
                    if !order.contains(path) {
                        order.push(path.clone());
                    }
                }
            }
            None if OPTIONAL.contains(&name) => {}
            None => {
                return Err(MachineError::Invalid(format!(
                    "the kernel of {} has no module {name}, which a guest needs",
                    dir.display()
                )));
            }
        }
    }
    order.iter().map(|path| load(dir, path)).collect()
}

/// By canonical name: the module's path and the paths it depends on.
fn parse_dependencies(text: &str) -> BTreeMap<String, (PathBuf, Vec<PathBuf>)> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let Some((path, needs)) = line.split_once(':') else { continue };
        if let Some(name) = module_name(path) {
            let needs = needs.split_ascii_whitespace().map(PathBuf::from).collect();
            all.insert(name, (PathBuf::from(path), needs));
        }
    }
    all
}

/// `kernel/drivers/block/virtio_blk.ko.xz` is `virtio_blk`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(canonical(name))
}

/// The kernel takes `-` and `_` for the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn load(dir: &Path, path: &Path) -> MachineResult<Module> {
    let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
    let file_name = path.file_name().and_then(|n| n.to_str()).filter(|_| inside);
    let name =
        file_name.ok_or_else(|| MachineError::Invalid(format!("modules.dep names {}", path.display())))?;
    let full = dir.join(path);
    let err = |e| MachineError::io("read", full.display(), e);
    let mut content = Vec::new();
    let reader = decompressed(File::open(&full).map_err(err)?, name).map_err(err)?;
    reader.take(MAX_MODULE + 1).read_to_end(&mut content).map_err(err)?;
    if content.len() as u64 > MAX_MODULE {
        return Err(MachineError::Invalid(format!(
            "{} is larger than {} MiB",
            full.display(),
            MAX_MODULE >> 20
        )));
    }
    let plain = name.split_once(".ko").map_or(name, |(stem, _)| stem);
    Ok(Module { name: format!("{plain}.ko"), content })
}

/// By the suffix, as the kernel's build names them.
fn decompressed(file: File, name: &str) -> std::io::Result<Box<dyn Read>> {
    Ok(match name.rsplit('.').next() {
        Some("xz") => Box::new(liblzma::read::XzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        Some("gz") => Box::new(flate2::read::GzDecoder::new(file)),
        _ => Box::new(file),
    })
}

fn read_list(path: &Path) -> MachineResult<String> {
    let err = |e| MachineError::io("read", path.display(), e);
    let mut text = String::new();
    File::open(path).map_err(err)?.take(MAX_LIST).read_to_string(&mut text).map_err(err)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn kernel(dep: &str, builtin: &str, files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("modules.dep"), dep).unwrap();
        fs::write(dir.path().join("modules.builtin"), builtin).unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    #[test]
    fn what_others_need_comes_first_and_once() {
        let dep = "k/virtio_pci.ko: k/virtio_ring.ko k/virtio.ko\nk/virtio_blk.ko: k/virtio_ring.ko k/virtio.ko\n\
                   k/virtio_console.ko:\nk/virtio-rng.ko:\nk/virtio_net.ko: k/failover.ko\n";
        let files =
            ["k/virtio.ko", "k/virtio_ring.ko", "k/virtio_pci.ko", "k/virtio_blk.ko", "k/virtio_console.ko"];
        let more = ["k/virtio-rng.ko", "k/virtio_net.ko", "k/failover.ko"];
        let dir = kernel(dep, "kernel/fs/ext4/ext4.ko\n", &[&files[..], &more[..]].concat());
        let names: Vec<String> = collect(dir.path()).unwrap().into_iter().map(|m| m.name).collect();
        let expected = ["virtio", "virtio_ring", "virtio_pci", "virtio_console", "virtio_blk", "virtio-rng"];
        assert_eq!(
            names,
            [&expected[..], &["failover", "virtio_net"]]
                .concat()
                .iter()
                .map(|n| format!("{n}.ko"))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_missing_module_is_named_and_a_path_that_leads_out_is_refused() {
        let missing = kernel("", "", &[]);
        assert!(collect(missing.path()).unwrap_err().to_string().contains("virtio_pci"));
        let all = NEEDED.map(|name| format!("../../{name}.ko:\n")).concat();
        let hostile = kernel(&all, "", &[]);
        assert!(collect(hostile.path()).unwrap_err().to_string().contains("names"));
    }
}
