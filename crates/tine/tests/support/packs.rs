//! Packs to try things with: samples of others, packs made here of any size, damaged and tampered ones.

#![expect(dead_code, clippy::unwrap_used, reason = "each test uses its own part, and fails by panicking")]

use crate::support::{Fixture, names};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
};
use tine_model::{Accel, ByteSize, Contract, Sha256Digest, Silent, Timestamp};
use tine_pack::{Facts, Layout, SidecarRef, Source, SourceFile, SourceLink};

pub const V1: &str = "v1-base.forkd-snapshot.tar.zst";
pub const V2: &str = "v2-chain3-full.forkd-snapshot.tar.zst";
pub const BESIDE: &str = "v1-sidecar.forkd-snapshot.tar.zst";
pub const DISK: &str = "11d46e8a91a43991.rootfs.zst";

/// Copies a sample pack of others into `folder`.
pub fn sample(folder: &Path, name: &str) -> String {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tine-pack/tests/vectors");
    let to = folder.join(name);
    fs::create_dir_all(folder).unwrap();
    fs::copy(vectors.join(name), &to).unwrap();
    text(&to)
}

/// A path as it is typed.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Bytes that do not compress, others for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = vec![0; length.next_multiple_of(8)];
    data.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&next().to_le_bytes()));
    data.truncate(length);
    data
}

/// Makes a pack of one machine with so many MiB of memory full of noise; another seed gives another machine.
pub fn make(path: &Path, layout: Layout, tag: &str, mib: usize, seed: u64) -> String {
    make_chain(path, layout, &[tag], mib, seed)
}

/// Makes a pack of machines of which each differs from the one before in a page.
pub fn make_chain(path: &Path, layout: Layout, tags: &[&str], mib: usize, seed: u64) -> String {
    write_chain(path, layout, tags, mib, seed, None)
}

/// Makes a pack of one machine with a MiB of memory and a contract for so many.
pub fn make_promising(path: &Path, mib: u64) -> String {
    write_chain(path, Layout::V3, &["image"], 1, 1, Some(facts(mib)))
}

/// Makes a pack of one machine with a disk of so many MiB, which goes beside it.
pub fn make_beside(path: &Path, mib: usize) -> String {
    let (memory, state, disk) = (noise(1, 1 << 20), noise(2, 1007), noise(3, mib << 20));
    let plain = |content: &[u8]| Sha256Digest(Sha256::digest(content).into());
    let (memory, vmstate) = (anonymous(&memory), anonymous(&state));
    let link = SourceLink {
        tag: "image".parse().unwrap(),
        parent: None,
        facts: None,
        memory: SourceFile { file: &memory, digest: tine_digest::of_data(&memory).unwrap(), sha256: None },
        vmstate: SourceFile { file: &vmstate, digest: plain(&state), sha256: None },
        disk: None,
        snapshot_json: None,
    };
    let rootfs =
        SidecarRef { target_path: "rootfs.ext4".into(), sha256: plain(&disk), size: disk.len() as u64 };
    let beside = path.with_file_name(tine_pack::sidecar::name(&rootfs.sha256));
    fs::write(beside, zstd::bulk::compress(&disk, 1).unwrap()).unwrap();
    let source = Source {
        layout: Layout::V1,
        tag: "image".parse().unwrap(),
        description: None,
        base_image: None,
        created_at: Timestamp::from_second(1_768_000_000),
        writer: "tine 0.1.0".into(),
        links: vec![link],
        rootfs: Some(rootfs),
    };
    let out = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    tine_pack::write(&source, None, &out, &Silent).unwrap();
    text(path)
}

fn write_chain(
    path: &Path,
    layout: Layout,
    tags: &[&str],
    mib: usize,
    seed: u64,
    facts: Option<Facts>,
) -> String {
    let mut memory = noise(seed, mib << 20);
    let mut files = Vec::new();
    for n in 0..tags.len() {
        memory[n * 8192..n * 8192 + 4096].copy_from_slice(&noise(seed + 1000 + n as u64, 4096));
        let state = noise(seed + n as u64, 1007);
        files.push((anonymous(&memory), anonymous(&state), Sha256Digest(Sha256::digest(&state).into())));
    }
    let link = |n: usize| SourceLink {
        tag: tags[n].parse().unwrap(),
        parent: n.checked_sub(1).map(|n| tags[n].parse().unwrap()),
        facts: facts.clone(),
        memory: SourceFile {
            file: &files[n].0,
            digest: tine_digest::of_data(&files[n].0).unwrap(),
            sha256: None,
        },
        vmstate: SourceFile { file: &files[n].1, digest: files[n].2, sha256: None },
        disk: None,
        snapshot_json: None,
    };
    let source = Source {
        layout,
        tag: tags[tags.len() - 1].parse().unwrap(),
        description: Some(format!("made of seed {seed}")),
        base_image: None,
        created_at: Timestamp::from_second(1_768_000_000),
        writer: "tine 0.1.0".into(),
        links: (0..tags.len()).map(link).collect(),
        rootfs: None,
    };
    let out = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    tine_pack::write(&source, None, &out, &Silent).unwrap();
    text(path)
}

/// What is known of a machine that was promised so many MiB of memory.
fn facts(mib: u64) -> Facts {
    let contract = Contract {
        engine: "qemu".into(),
        engine_version: "7.2.22".into(),
        accel: Accel::Tcg,
        machine: "pc-q35-7.2".into(),
        cpu_model: "max".into(),
        cpu_features: Vec::new(),
        cpus: 1,
        memory_bytes: ByteSize(mib << 20),
        kernel: "k".parse().unwrap(),
        kernel_digest: Sha256Digest([1; 32]),
        devices: Vec::new(),
    };
    Facts {
        id: "0123456789abcdef0123456789abcdef".into(),
        description: "a machine".into(),
        source: "a test".into(),
        base: None,
        created_at: Timestamp::from_second(1_768_000_000),
        contract,
    }
}

fn anonymous(content: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(content, 0).unwrap();
    file
}

/// What is in a pack, file by file, but the manifest.
pub fn contents(pack: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = everything(pack);
    all.remove("manifest.toml");
    all
}

/// The manifest of a pack.
pub fn manifest(pack: &str) -> String {
    String::from_utf8(everything(pack).remove("manifest.toml").unwrap()).unwrap()
}

fn everything(pack: &str) -> BTreeMap<String, Vec<u8>> {
    let tar = zstd::decode_all(File::open(pack).unwrap()).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let read = |mut entry: tar::Entry<'_, &[u8]>| {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    };
    entries.map(read).collect()
}

pub fn sha256(path: &Path) -> String {
    Sha256Digest(Sha256::digest(fs::read(path).unwrap()).into()).to_string()
}

/// Changes the manifest of a pack of the third layout as somebody would who knows the layout: its closing line and the
/// table of frames are right again. Only what is replaced by as many bytes keeps the tar whole.
pub fn tamper(pack: &str, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let bytes = fs::read(pack).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let frames = number(bytes.len() - 9);
    let table = bytes.len() - 9 - frames * 8;
    let (length, content) = (number(table), number(table + 4));
    let mut first = zstd::bulk::decompress(&bytes[..length], content).unwrap();
    let size = usize::from_str_radix(std::str::from_utf8(&first[124..135]).unwrap(), 8).unwrap();
    let text = String::from_utf8(first[512..512 + size].to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let mut text = text.replacen(from, to, 1);
    let closing = text.rfind("# sha256 ").unwrap();
    text.truncate(closing);
    let digest = Sha256Digest(Sha256::digest(&text).into());
    text += &format!("# sha256 {digest}\n");
    first[512..512 + size].copy_from_slice(text.as_bytes());
    let fresh = zstd::bulk::compress(&first, 3).unwrap();
    let mut all = fresh.clone();
    all.extend(&bytes[length..table]);
    all.extend((fresh.len() as u32).to_le_bytes());
    all.extend(&bytes[table + 4..]);
    fs::write(pack, all).unwrap();
}

/// What a refused command must not have changed.
#[derive(Debug, PartialEq)]
pub struct Seen {
    images: serde_json::Value,
    staging: Vec<String>,
    subvolumes: usize,
}

impl Fixture {
    /// What is visible of images, and of what is half made.
    pub fn seen(&self) -> Seen {
        Seen { images: self.json(&["images"]), staging: self.staging(), subvolumes: self.subvolumes().len() }
    }

    /// Runs a command that must fail with this code and must not have changed anything.
    pub fn leaves_all(&self, code: &str, args: &[&str]) -> String {
        let before = self.seen();
        let message = self.refuses(code, args);
        self.assert_unchanged(&before);
        message
    }

    /// Asserts that images are as they were, nothing is half made and the store is in order.
    pub fn assert_unchanged(&self, before: &Seen) {
        assert_eq!((&self.seen(), self.staging()), (before, vec![]));
        self.check();
    }

    /// The tags of its images.
    pub fn tags(&self) -> Vec<String> {
        self.ok(&["-q", "images"]).lines().map(str::to_owned).collect()
    }

    /// One fact of an image.
    pub fn fact(&self, tag: &str, fact: &str) -> serde_json::Value {
        self.json(&["image", "show", tag])[fact].clone()
    }

    /// Files of the downloads that are here.
    pub fn downloads(&self) -> Vec<String> {
        names(&self.pool().join("downloads"))
    }
}
