//! Machines without a machine: small files of known content in the place of memory, device state and kernels.

use super::{alias, box_ref, from_base, imported};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};
use tine_model::{
    Accel, BaseVersionInfo, BoxRef, BoxSettings, ByteSize, Contract, ImageInfo, ImageTag, KernelName, Limits,
    Sha256Digest,
};
use tine_store::{NewImage, Pool, StateStage};

/// The smallest disk there is.
pub const DISK: ByteSize = ByteSize::mib(64);

pub fn tag(text: &str) -> ImageTag {
    text.parse().unwrap()
}

pub fn kernel_name(text: &str) -> KernelName {
    text.parse().unwrap()
}

pub fn contract() -> Contract {
    Contract {
        engine: "qemu".to_owned(),
        engine_version: "7.2.22".to_owned(),
        accel: Accel::Tcg,
        machine: "pc-q35-7.2".to_owned(),
        cpu_model: "qemu64".to_owned(),
        cpu_features: vec!["+ssse3".to_owned()],
        cpus: 1,
        memory_bytes: ByteSize::mib(16),
        kernel: kernel_name("6.1.0-test"),
        kernel_digest: Sha256Digest([7; 32]),
        devices: vec!["virtio-blk-pci".to_owned()],
    }
}

pub fn new_image() -> NewImage {
    NewImage {
        description: "warm".to_owned(),
        source: "box web".to_owned(),
        base: Some("deb".parse().unwrap()),
        parent: None,
        parent_memory: None,
        contract: Some(contract()),
        created_at: None,
        pack: None,
        digests: None,
    }
}

/// A base of a few files.
pub fn small_base(pool: &Pool, name: &str) -> BaseVersionInfo {
    let stage = pool.stage_base(None).unwrap();
    fs::create_dir(stage.root_path().join("etc")).unwrap();
    fs::write(stage.root_path().join("etc/motd"), format!("hello from {name}\n")).unwrap();
    stage.publish(&alias(name), imported()).unwrap()
}

pub fn vm_settings() -> BoxSettings {
    let limits =
        Limits { disk_bytes: Some(DISK), memory_bytes: Some(ByteSize::mib(16)), ..Limits::default() };
    BoxSettings { limits, ..BoxSettings::default() }
}

pub fn make_vm(pool: &Pool, name: &str, base: &str) -> BoxRef {
    let name = box_ref(name);
    pool.create_vm_box(&name, &from_base(base), &vm_settings(), None).unwrap();
    name
}

/// 16 MiB of memory with two pages in it, and a device state; `mark` makes it unlike another's.
pub fn write_machine(stage: &StateStage<'_>, mark: &str) {
    let memory = File::create_new(stage.memory_path()).unwrap();
    memory.set_len(16 << 20).unwrap();
    memory.write_at(format!("first page of {mark}").as_bytes(), 4096).unwrap();
    memory.write_at(&vec![9; 100_000], 9 << 20).unwrap();
    fs::write(stage.vmstate_path(), format!("devices of {mark}")).unwrap();
}

/// A stage with a machine of the box `of` in it.
pub fn stage_machine<'p>(pool: &'p Pool, of: &BoxRef) -> StateStage<'p> {
    let stage = pool.stage_state().unwrap();
    write_machine(&stage, &of.to_string());
    stage.snapshot_root_from(&pool.open_box_root(of).unwrap()).unwrap();
    stage
}

pub fn make_image(pool: &Pool, name: &str, of: &BoxRef) -> ImageInfo {
    stage_machine(pool, of).publish_image(&tag(name), new_image()).unwrap()
}

/// Puts a kernel of two modules into the pool.
pub fn make_kernel(pool: &Pool, name: &str, content: &str) -> tine_store::Result<tine_model::KernelInfo> {
    let stage = pool.stage_kernel().unwrap();
    fs::write(stage.vmlinuz_path(), content).unwrap();
    fs::write(stage.modules_path().join("order"), "a.ko\nb.ko\n").unwrap();
    for module in ["a.ko", "b.ko"] {
        fs::write(stage.modules_path().join(module), module.repeat(1000)).unwrap();
    }
    stage.publish(&kernel_name(name), "a test")
}

/// What someone with root can do to a subvolume behind the store's back.
pub fn set_read_only(path: &Path, read_only: bool) {
    let dir = File::open(path).unwrap();
    tine_sys::btrfs::set_read_only(std::os::fd::AsFd::as_fd(&dir), read_only).unwrap();
}

/// Writes a few bytes into a file.
pub fn scribble(path: &Path, at: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_at(b"scribble", at).unwrap();
    file.sync_all().unwrap();
}
