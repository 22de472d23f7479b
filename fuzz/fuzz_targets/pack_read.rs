//! A pack of any bytes: refused, or its files are what its manifest says.
//!
//! The first byte says how the rest is used: as the pack, or as its tar, whose sums are put right and which is
//! compressed into one frame or into those of the third layout.
#![no_main]

#[path = "sealing.rs"]
mod sealing;

use libfuzzer_sys::fuzz_target;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Cursor, Write},
};
use tine_model::{Error, ErrorCode, Result, Silent};
use tine_pack::{
    Begin, Limits, Manifest, Receiver, Role,
    frames::{Compression, FrameWriter},
    outline, read,
};

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_file: 1 << 20, max_waiting: 1 << 20 };

fuzz_target!(|input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut tar = bytes.to_vec();
    match mode % 3 {
        0 => unpack(bytes),
        1 => {
            sealing::seal_tar(&mut tar);
            unpack(&frames(&[&tar]));
        }
        _ => {
            sealing::seal_tar(&mut tar);
            let (first, rest) = tar.split_at(tar.len().min(4 * usize::from(*mode)));
            let pack = frames(&[first, rest]);
            outlined(&pack);
            unpack(&pack);
        }
    }
});

/// What is left of a pack without its first images lies in it, in order.
fn outlined(pack: &[u8]) {
    let mut input = Cursor::new(pack);
    let Ok(Some(manifest)) = outline::manifest(&mut input) else { return };
    let left_out = (1..manifest.links.len()).map(|link| link - 1).collect();
    let Ok(Some(parts)) = outline::parts(&mut input, &manifest, &left_out) else { return };
    assert!(parts.iter().all(|part| part.start < part.end && part.end <= pack.len() as u64));
    assert!(parts.is_sorted_by(|a, b| a.end < b.start));
}

/// These contents as a stream with a table.
fn frames(contents: &[&[u8]]) -> Vec<u8> {
    let mut writer = FrameWriter::new(Vec::new(), Compression::level(1), 1).expect("a thread");
    for content in contents {
        writer.boundary().expect("memory never fails");
        writer.write_all(content).expect("memory never fails");
    }
    writer.finish().expect("memory never fails").0
}

fn unpack(mut pack: &[u8]) {
    let length = pack.len() as u64;
    let mut folder = Folder::default();
    let Ok(unpacked) = read(&mut pack, &LIMITS, &mut folder, &Silent) else { return };
    assert_eq!(unpacked.consumed, length);
    for (number, (link, sums)) in unpacked.manifest.links.iter().zip(&unpacked.links).enumerate() {
        for entry in link.files.iter().filter(|entry| entry.role != Role::SnapshotJson) {
            let file = &folder.0[&(number, entry.role)];
            assert_eq!(file.metadata().expect("it is open").len(), entry.size);
        }
        let memory = &folder.0[&(number, Role::Memory)];
        assert_eq!(tine_digest::of_data(memory).expect("it can be read"), sums.memory);
    }
}

/// Files in memory.
#[derive(Default)]
struct Folder(BTreeMap<(usize, Role), File>);

impl Receiver for Folder {
    fn begin(&mut self, _: &Manifest, _: &[u8], _: Option<&str>) -> Result<Begin> {
        Ok(Begin::default())
    }

    fn file(&mut self, link: usize, role: Role, size: u64) -> Result<File> {
        assert!(size <= LIMITS.max_file && role != Role::SnapshotJson);
        let failed = |e: std::io::Error| Error::new(ErrorCode::Internal, e.to_string());
        let file = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.map_err(|e| failed(e.into()))?);
        let former = self.0.insert((link, role), file.try_clone().map_err(failed)?);
        assert!(former.is_none(), "no file is asked for twice");
        Ok(file)
    }
}
