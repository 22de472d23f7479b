//! Machines made of bytes, packs made of machines, and somewhere to put what comes out.

use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    process::{Command, Stdio},
};
use tine_model::{Accel, ByteSize, Contract, Reporter, Sha256Digest, Silent, Timestamp};
use tine_pack::{
    Begin, Facts, Layout, Limits, Manifest, PackError, Receiver, Reused, Role, Source, SourceFile,
    SourceLink, Unpacked, Written, read, write_with,
};

pub const PAGE: usize = 4096;
pub const CHUNK: usize = 256 << 10;

/// A file with these pieces of content and holes elsewhere.
pub fn sparse(size: usize, pieces: &[(usize, &[u8])]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size as u64).unwrap();
    for (at, bytes) in pieces {
        file.write_all_at(bytes, *at as u64).unwrap();
    }
    file
}

/// A file with this content, its zero pages left out.
pub fn file(content: &[u8]) -> File {
    let pages = content.chunks(PAGE).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0));
    let pieces: Vec<(usize, &[u8])> = pages.map(|(n, page)| (n * PAGE, page)).collect();
    sparse(content.len(), &pieces)
}

pub fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Bytes that do not compress to nothing, different for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub fn sha256(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

pub fn digest(file: &File) -> Sha256Digest {
    tine_digest::of_data(file).unwrap()
}

/// A saved machine.
pub struct Machine {
    pub memory: File,
    pub disk: Option<File>,
    pub vmstate: File,
}

impl Machine {
    pub fn new(memory: &[u8], disk: Option<&[u8]>, vmstate: &[u8]) -> Self {
        Self { memory: file(memory), disk: disk.map(file), vmstate: file(vmstate) }
    }
}

pub fn facts() -> Facts {
    let contract = Contract {
        engine: "qemu".into(),
        engine_version: "7.2.22".into(),
        accel: Accel::Tcg,
        machine: "pc-q35-7.2".into(),
        cpu_model: "qemu64".into(),
        cpu_features: vec!["+rdrand".into()],
        cpus: 1,
        memory_bytes: ByteSize::mib(256),
        kernel: "6.1.0-41-cloud-amd64".parse().unwrap(),
        kernel_digest: Sha256Digest([7; 32]),
        devices: vec!["virtio-blk-pci".into(), "virtio-rng-pci".into()],
    };
    Facts {
        id: "0123456789abcdef0123456789abcdef".into(),
        description: "a machine".into(),
        source: "base box-base".into(),
        base: Some("box-base".parse().unwrap()),
        created_at: Timestamp::from_second(1_767_000_000),
        contract,
    }
}

/// What packs `machines`, tagged `m0`, `m1`, …, root first.
pub fn source<'a>(layout: Layout, machines: &'a [Machine]) -> Source<'a> {
    let tag = |n: usize| format!("m{n}").parse().unwrap();
    let links = machines.iter().enumerate().map(|(n, machine)| SourceLink {
        tag: tag(n),
        parent: n.checked_sub(1).map(tag),
        facts: Some(facts()),
        memory: SourceFile { file: &machine.memory, digest: digest(&machine.memory), sha256: None },
        vmstate: SourceFile {
            file: &machine.vmstate,
            digest: sha256(&content(&machine.vmstate)),
            sha256: None,
        },
        disk: machine.disk.as_ref().map(|file| SourceFile { file, digest: digest(file), sha256: None }),
        snapshot_json: None,
    });
    Source {
        layout,
        tag: tag(machines.len() - 1),
        description: Some("about it".into()),
        base_image: Some("box-base".into()),
        created_at: Timestamp::from_second(1_768_000_000),
        writer: "tine 0.1.0".into(),
        links: links.collect(),
        rootfs: None,
    }
}

pub fn pack_with(source: &Source<'_>, threads: usize) -> Result<(Vec<u8>, Written), PackError> {
    let out = tempfile::tempfile().unwrap();
    let written = write_with(source, None, &out, &Silent, threads)?;
    assert_eq!(written.file_bytes, out.metadata().unwrap().len());
    Ok((content(&out), written))
}

pub fn pack(source: &Source<'_>) -> Vec<u8> {
    pack_with(source, 2).unwrap().0
}

/// Where files of a pack end up.
#[derive(Default)]
pub struct Store {
    pub files: BTreeMap<(usize, Role), File>,
    pub manifest: Option<Manifest>,
    pub raw: Vec<u8>,
    pub signature: Option<String>,
    pub reuse: BTreeMap<usize, Reused>,
    pub left_out: BTreeSet<usize>,
    pub refuse: bool,
}

impl Receiver for Store {
    fn begin(
        &mut self,
        manifest: &Manifest,
        raw: &[u8],
        signature: Option<&str>,
    ) -> tine_model::Result<Begin> {
        if self.refuse {
            return Err(tine_model::Error::new(tine_model::ErrorCode::AlreadyExists, "the tag is taken"));
        }
        self.manifest = Some(manifest.clone());
        self.raw = raw.to_vec();
        self.signature = signature.map(str::to_owned);
        Ok(Begin { reuse: std::mem::take(&mut self.reuse), left_out: self.left_out.clone() })
    }

    fn file(&mut self, link: usize, role: Role, _: u64) -> tine_model::Result<File> {
        let file = tempfile::tempfile().unwrap();
        assert!(self.files.insert((link, role), file.try_clone().unwrap()).is_none());
        Ok(file)
    }
}

impl Store {
    pub fn content(&self, link: usize, role: Role) -> Vec<u8> {
        content(&self.files[&(link, role)])
    }

    /// Bytes that the file takes on the disk.
    pub fn allocated(&self, link: usize, role: Role) -> u64 {
        let file = &self.files[&(link, role)];
        file.sync_all().unwrap();
        file.metadata().unwrap().blocks() * 512
    }
}

pub fn unpack_with(
    pack: &[u8],
    limits: &Limits,
    reporter: &dyn Reporter,
) -> Result<(Unpacked, Store), PackError> {
    let mut store = Store::default();
    let mut input = pack;
    let unpacked = read(&mut input, limits, &mut store, reporter)?;
    assert_eq!(unpacked.consumed, pack.len() as u64);
    Ok((unpacked, store))
}

pub fn unpack(pack: &[u8]) -> Result<(Unpacked, Store), PackError> {
    unpack_with(pack, &Limits { max_bytes: 1 << 30, ..Limits::default() }, &Silent)
}

/// The reason for which a pack is refused.
#[track_caller]
pub fn refusal(pack: &[u8]) -> String {
    match unpack(pack) {
        Ok((unpacked, _)) => panic!("accepted: {:?}", unpacked.manifest),
        Err(error) => error.to_string(),
    }
}

/// What is in the store is what the machines were, and the digests say so.
pub fn same(unpacked: &Unpacked, store: &Store, machines: &[Machine]) {
    assert_eq!(unpacked.links.len(), machines.len());
    for (n, (sums, machine)) in unpacked.links.iter().zip(machines).enumerate() {
        assert!(store.content(n, Role::Memory) == content(&machine.memory), "memory of {n}");
        assert_eq!(store.content(n, Role::Vmstate), content(&machine.vmstate), "vmstate of {n}");
        assert_eq!(
            (sums.memory, sums.vmstate),
            (digest(&machine.memory), sha256(&content(&machine.vmstate)))
        );
        assert_eq!(sums.disk, machine.disk.as_ref().map(digest));
        if let Some(disk) = &machine.disk {
            assert!(store.content(n, Role::Rootfs) == content(disk), "disk of {n}");
        }
        if let Some(plain) = sums.memory_plain {
            assert_eq!(plain, sha256(&content(&machine.memory)));
        }
    }
}

/// A chain of machines, each a little different from the one before.
pub fn chain(links: usize, chunks: usize) -> Vec<Machine> {
    let mut memory = vec![0; chunks * CHUNK];
    memory[..PAGE * 3].copy_from_slice(&noise(1, PAGE * 3));
    memory[CHUNK + 5 * PAGE..CHUNK + 40 * PAGE].copy_from_slice(&noise(2, 35 * PAGE));
    let mut disk = vec![0; CHUNK + 7 * PAGE];
    disk[CHUNK..CHUNK + PAGE].copy_from_slice(&noise(3, PAGE));
    let mut machines = vec![Machine::new(&memory, Some(&disk), &noise(4, 1007))];
    for n in 1..links {
        // one page anew, one changed by a byte, one that becomes zero
        let at = n * 3 * PAGE;
        memory[at..at + PAGE].copy_from_slice(&noise(10 + n as u64, PAGE));
        memory[CHUNK + (6 + n) * PAGE + 17] ^= 0x55;
        memory[CHUNK + (20 + n) * PAGE..CHUNK + (21 + n) * PAGE].fill(0);
        disk[n * PAGE] = n as u8;
        machines.push(Machine::new(&memory, Some(&disk), &noise(40 + n as u64, 1007 + n)));
    }
    machines
}

/// What `tar` finds in a pack that `zstd -dc` has decompressed: names and whole contents, in order.
pub fn by_other_tools(pack: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pack.tar.zst"), pack).unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let mut zstd = Command::new("zstd")
        .args(["-dcq", "pack.tar.zst"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tar =
        Command::new("tar").args(["xf", "-"]).current_dir(&out).stdin(zstd.stdout.take().unwrap()).status();
    assert!(tar.unwrap().success() && zstd.wait().unwrap().success());
    let mut found = BTreeMap::new();
    collect(&out, "", &mut found);
    found
}

fn collect(folder: &std::path::Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// A pack as others make it: a tar of these bytes in one frame.
pub fn compressed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

/// One of the sample packs.
pub fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// A stream that ends with an error.
pub struct Broken<'a>(pub &'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::ErrorKind::ConnectionReset.into()),
            read => Ok(read),
        }
    }
}
