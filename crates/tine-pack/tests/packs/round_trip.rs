//! What is written is read back, by us and by others.

use crate::support::{
    CHUNK, Machine, PAGE, Store, by_other_tools, chain, content, digest, facts, file, noise, pack, pack_with,
    same, sha256, source, sparse, unpack, unpack_with,
};
use std::{
    os::unix::fs::FileExt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tine_model::{ErrorCode, Reporter, Sha256Digest, Silent};
use tine_pack::{
    Layout, Limits, Manifest, PackError, Reused, Role, SidecarRef, Source, frames::SeekTable, read, write,
};

const LAYOUTS: [Layout; 3] = [Layout::V1, Layout::V2, Layout::V3];

fn machines_for(layout: Layout) -> Vec<Machine> {
    chain(if layout == Layout::V1 { 1 } else { 4 }, 5)
}

#[test]
fn every_layout_round_trips_with_all_it_says() {
    for layout in LAYOUTS {
        let machines = machines_for(layout);
        let (unpacked, store) = unpack(&pack(&source(layout, &machines))).unwrap();
        same(&unpacked, &store, &machines);
        let manifest = &unpacked.manifest;
        assert_eq!((manifest.layout, manifest.writer.as_str()), (layout, "tine 0.1.0"));
        assert_eq!(manifest.description.as_deref(), Some("about it"));
        assert!(manifest.links.iter().all(|link| link.facts == Some(facts())));
        assert_eq!(Manifest::parse(&store.raw).unwrap(), *manifest);
        assert_eq!(manifest.to_toml().unwrap().as_bytes(), store.raw);
    }
}

#[test]
fn other_tools_open_every_layout() {
    for layout in LAYOUTS {
        let machines = machines_for(layout);
        let pack = pack(&source(layout, &machines));
        let found = by_other_tools(&pack);
        assert!(
            found["manifest.toml"]
                .starts_with(format!("forkd_pack_version = {}\n", layout.number()).as_bytes())
        );
        for (n, machine) in machines.iter().enumerate() {
            let name = |file: &str| if layout == Layout::V1 { file.into() } else { format!("m{n}/{file}") };
            assert_eq!(found[&name("vmstate")], content(&machine.vmstate));
            // later links of the third layout hold what differs
            if n == 0 || layout == Layout::V2 {
                assert!(found[&name("memory.bin")] == content(&machine.memory));
                assert!(found[&name("rootfs.ext4")] == content(machine.disk.as_ref().unwrap()));
            }
            assert_eq!(found.contains_key(&name("snapshot.json")), layout != Layout::V3);
        }
        // and so does a reader in another language than tar's
        let tar = zstd::decode_all(pack.as_slice()).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            assert!(bytes == found[&path], "{path}");
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.mode().unwrap()), (0, 0o644));
            assert_eq!(header.mtime().unwrap(), 1_768_000_000);
        }
    }
}

#[test]
fn plain_layouts_declare_plain_digests_and_parents() {
    let machines = chain(3, 3);
    let (unpacked, _) = unpack(&pack(&source(Layout::V2, &machines))).unwrap();
    let mut parent = None;
    for (link, machine) in unpacked.manifest.links.iter().zip(&machines) {
        let memory = sha256(&content(&machine.memory));
        assert_eq!(link.file(Role::Memory).unwrap().digest, memory);
        assert_eq!(link.parent_content_hash, parent);
        parent = Some(memory);
    }
    let json = unpacked.links[2].snapshot_json.as_deref().unwrap();
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!((&json["memory"], &json["vmstate"]), (&"memory.bin".into(), &"vmstate".into()));
    assert_eq!((&json["parent_tag"], &json["volumes"]), (&"m1".into(), &serde_json::json!([])));
    let hash = unpacked.manifest.links[2].parent_content_hash.unwrap().to_string();
    assert_eq!(json["parent_content_hash"], serde_json::Value::from(hash));
}

#[test]
fn plain_digests_that_are_known_are_not_worked_out_again() {
    let machines = [Machine::new(&noise(1, 3 * PAGE), Some(&noise(2, 5 * PAGE)), b"state")];
    let known = |memory: &[u8], disk: &[u8]| {
        let mut source = source(Layout::V1, &machines);
        source.links[0].memory.sha256 = Some(sha256(memory));
        source.links[0].disk.as_mut().unwrap().sha256 = Some(sha256(disk));
        pack(&source)
    };
    let (memory, disk) = (content(&machines[0].memory), content(machines[0].disk.as_ref().unwrap()));
    let right = known(&memory, &disk);
    assert!(right == pack(&source(Layout::V1, &machines)));
    let sums = unpack(&right).unwrap().0.links[0].clone();
    assert_eq!((sums.memory_plain, sums.disk_plain), (Some(sha256(&memory)), Some(sha256(&disk))));
    for wrong in [known(&disk, &disk), known(&memory, &memory)] {
        assert!(matches!(unpack(&wrong), Err(PackError::Corrupt { .. })));
    }
}

#[test]
fn packs_are_the_same_bytes_every_time_and_with_any_number_of_threads() {
    for layout in LAYOUTS {
        let machines = machines_for(layout);
        let first = pack(&source(layout, &machines));
        for threads in [1, 2, 3, 8] {
            let (again, _) = pack_with(&source(layout, &machines), threads).unwrap();
            assert!(again == first, "{layout:?} with {threads}");
        }
    }
}

#[test]
fn holes_stay_holes_and_zeros_become_holes() {
    let mut memory = vec![0; 40 * CHUNK];
    memory[11 * CHUNK..11 * CHUNK + PAGE].copy_from_slice(&noise(1, PAGE));
    let dense = tempfile::tempfile().unwrap();
    dense.write_all_at(&memory, 0).unwrap();
    let machines = [Machine { memory: dense, disk: None, vmstate: file(b"state") }];
    for layout in LAYOUTS {
        let (pack, written) = pack_with(&source(layout, &machines), 2).unwrap();
        assert!(pack.len() < 3 * PAGE, "{layout:?}: {}", pack.len());
        assert_eq!(written.content_bytes - written.stored_bytes, (40 * CHUNK - PAGE) as u64);
        let (unpacked, store) = unpack(&pack).unwrap();
        same(&unpacked, &store, &machines);
        assert!(store.allocated(0, Role::Memory) <= 2 * PAGE as u64);
    }
}

#[test]
fn zeros_that_are_no_holes_are_met_on_the_way_and_make_no_difference() {
    let noisy = noise(3, 5 * CHUNK + PAGE);
    for zero_at in [0, 7 * CHUNK + PAGE, 40 * CHUNK - PAGE, 40 * CHUNK] {
        let memory = |is_written: bool| {
            let memory = tempfile::tempfile().unwrap();
            memory.set_len((40 * CHUNK + 7) as u64).unwrap();
            for at in [2 * CHUNK, 20 * CHUNK] {
                memory.write_all_at(&noisy, at as u64).unwrap();
            }
            let zeros = vec![0; PAGE.min(40 * CHUNK + 7 - zero_at)];
            if is_written {
                memory.write_all_at(&zeros, zero_at as u64).unwrap();
            }
            memory
        };
        let machine =
            |is_written| [Machine { memory: memory(is_written), disk: None, vmstate: file(b"state") }];
        for layout in LAYOUTS {
            let [holes, zeros] = [false, true].map(|is_written| pack(&source(layout, &machine(is_written))));
            assert!(holes == zeros, "{layout:?} with a page at {zero_at}");
        }
    }
}

#[test]
fn a_link_that_changed_little_takes_little() {
    let machines = chain(4, 64);
    let (alone, _) = pack_with(&source(Layout::V3, &machines[..1]), 2).unwrap();
    let (pack, _) = pack_with(&source(Layout::V3, &machines), 2).unwrap();
    // three pages of memory and one of the disk for each, and what names them
    assert!(pack.len() < alone.len() + 3 * (6 * PAGE), "{} after {}", pack.len(), alone.len());
}

#[test]
fn files_of_odd_and_changing_sizes_round_trip() {
    let shapes: [(usize, usize); 9] = [
        (0, 0),
        (1, 1),
        (PAGE - 1, PAGE + 1),
        (CHUNK, 1),
        (1, CHUNK + 1),
        (CHUNK + 7, 7),
        (3 * CHUNK, CHUNK),
        (PAGE, 5 * CHUNK),
        (5, 4),
    ];
    for (first, second) in shapes {
        let grown = [noise(1, first.min(second)), noise(9, second.saturating_sub(first))].concat();
        let machines = [
            Machine::new(&noise(1, first), Some(&noise(2, second)), b"a"),
            Machine::new(&grown, Some(&vec![0; first]), b""),
        ];
        for layout in [Layout::V2, Layout::V3] {
            let (unpacked, store) = unpack(&pack(&source(layout, &machines))).unwrap();
            same(&unpacked, &store, &machines);
        }
    }
}

#[test]
fn a_disk_that_only_one_link_has_round_trips() {
    for (first, second) in [(true, false), (false, true)] {
        let disk = noise(5, 3 * PAGE);
        let machines = [
            Machine::new(&noise(1, PAGE), first.then_some(&disk), b"a"),
            Machine::new(&noise(2, PAGE), second.then_some(&disk), b"b"),
        ];
        for layout in [Layout::V2, Layout::V3] {
            let (unpacked, store) = unpack(&pack(&source(layout, &machines))).unwrap();
            same(&unpacked, &store, &machines);
        }
    }
}

#[test]
fn a_device_state_with_another_digest_is_not_packed() {
    for layout in LAYOUTS {
        let machines = machines_for(layout);
        let mut source = source(layout, &machines);
        source.links.last_mut().unwrap().vmstate.digest = Sha256Digest([3; 32]);
        assert!(matches!(pack_with(&source, 2), Err(PackError::Corrupt { .. })));
    }
}

#[test]
fn memory_and_disk_packed_with_another_digest_are_refused_by_who_reads_them() {
    let machines = machines_for(Layout::V3);
    let refused = |change: &dyn Fn(&mut Source<'_>)| {
        let mut source = source(Layout::V3, &machines);
        change(&mut source);
        let (pack, _) = pack_with(&source, 2).unwrap();
        matches!(unpack(&pack), Err(PackError::Corrupt { .. }))
    };
    let wrong = Sha256Digest([3; 32]);
    assert!(!refused(&|_| {}));
    assert!(refused(&|s| s.links.last_mut().unwrap().memory.digest = wrong));
    assert!(refused(&|s| s.links.last_mut().unwrap().disk.as_mut().unwrap().digest = wrong));
}

#[test]
fn what_is_no_chain_is_not_packed() {
    let machines = chain(3, 2);
    for layout in [Layout::V2, Layout::V3] {
        let refused = |change: &dyn Fn(&mut Source<'_>)| {
            let mut source = source(layout, &machines);
            change(&mut source);
            pack_with(&source, 2).is_err()
        };
        assert!(!refused(&|_| {}));
        assert!(refused(&|s| s.tag = "other".parse().unwrap()));
        assert!(refused(&|s| s.links[1].parent = None));
        assert!(refused(&|s| s.links[0].parent = Some("m2".parse().unwrap())));
        assert!(refused(&|s| s.links.swap(0, 1)));
        assert!(refused(&|s| s.links.clear()));
    }
    assert!(pack_with(&source(Layout::V1, &machines), 2).is_err());
}

#[test]
fn a_signature_comes_second_and_only_in_our_layout() {
    let machines = chain(2, 2);
    let sign = |bytes: &[u8]| Ok(format!("signature of {}", sha256(bytes)));
    let out = tempfile::tempfile().unwrap();
    write(&source(Layout::V3, &machines), Some(&sign), &out, &Silent).unwrap();
    let (unpacked, store) = unpack(&content(&out)).unwrap();
    same(&unpacked, &store, &machines);
    assert_eq!(store.signature, Some(format!("signature of {}", sha256(&store.raw))));
    let tar = zstd::decode_all(content(&out).as_slice()).unwrap();
    let names: Vec<_> = tar::Archive::new(tar.as_slice())
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names[..3], ["manifest.toml", "manifest.toml.minisig", "m0/vmstate"]);
    // every member and the end mark begin a frame, and so does the content of two memories and two disks
    let bytes = content(&out);
    let frames = SeekTable::parse(&bytes, bytes.len() as u64).unwrap();
    assert_eq!(frames.frames().len(), names.len() + 1 + 4);
    for layout in [Layout::V1, Layout::V2] {
        let out = tempfile::tempfile().unwrap();
        let machines = machines_for(layout);
        let error = write(&source(layout, &machines), Some(&sign), &out, &Silent).unwrap_err();
        assert_eq!(tine_model::Error::from(error).code, ErrorCode::Usage);
    }
    let fails = |_: &[u8]| Err(tine_model::Error::new(ErrorCode::Untrusted, "no key"));
    let error = write(&source(Layout::V3, &machines), Some(&fails), &out, &Silent).unwrap_err();
    assert_eq!(tine_model::Error::from(error).code, ErrorCode::Untrusted);
}

#[test]
fn a_disk_beside_the_pack_is_told_of() {
    let machines = [Machine::new(&noise(1, PAGE), None, b"s")];
    for (layout, target_path) in
        [(Layout::V1, "/srv/disk.ext4"), (Layout::V2, "../x"), (Layout::V3, "disk.ext4")]
    {
        let mut source = source(layout, &machines);
        let rootfs = SidecarRef { target_path: target_path.into(), sha256: sha256(b"disk"), size: 4 };
        source.rootfs = Some(rootfs.clone());
        let (unpacked, _) = unpack(&pack(&source)).unwrap();
        assert_eq!(unpacked.manifest.rootfs, Some(rootfs));
        if layout == Layout::V3 {
            source.rootfs.as_mut().unwrap().target_path = "/etc/passwd".into();
            assert!(pack_with(&source, 1).is_err());
        }
    }
}

#[test]
fn given_notes_of_another_tool_are_kept() {
    let machines = [Machine::new(&noise(1, PAGE), None, b"s")];
    for layout in LAYOUTS {
        let mut source = source(layout, &machines);
        source.links[0].snapshot_json = Some(b"{\"memory\": \"/x\"}".to_vec());
        let (unpacked, _) = unpack(&pack(&source)).unwrap();
        assert_eq!(unpacked.links[0].snapshot_json.as_deref(), Some(&b"{\"memory\": \"/x\"}"[..]));
    }
}

#[test]
fn links_that_are_there_already_are_not_written_again() {
    let machines = chain(3, 6);
    for layout in [Layout::V2, Layout::V3] {
        let pack = pack(&source(layout, &machines));
        let there = |n: usize| Reused {
            memory: machines[n].memory.try_clone().unwrap(),
            disk: machines[n].disk.as_ref().map(|disk| disk.try_clone().unwrap()),
        };
        let mut store = Store { reuse: [(0, there(0)), (1, there(1))].into(), ..Store::default() };
        let unpacked = read(&mut pack.as_slice(), &Limits::default(), &mut store, &Silent).unwrap();
        assert!(store.files.keys().all(|(link, _)| *link == 2));
        assert!(store.content(2, Role::Memory) == content(&machines[2].memory));
        assert_eq!(unpacked.links[1].memory, digest(&machines[1].memory));
        assert_eq!(unpacked.links[2].memory, digest(&machines[2].memory));
        let mut store = Store { reuse: [(0, there(1))].into(), ..Store::default() };
        let error = read(&mut pack.as_slice(), &Limits::default(), &mut store, &Silent).unwrap_err();
        assert!(matches!(error, PackError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_receiver_that_refuses_ends_it_before_any_file() {
    let machines = chain(1, 2);
    let pack = pack(&source(Layout::V3, &machines));
    let mut store = Store { refuse: true, ..Store::default() };
    let error = read(&mut pack.as_slice(), &Limits::default(), &mut store, &Silent).unwrap_err();
    assert_eq!(tine_model::Error::from(error).code, ErrorCode::AlreadyExists);
    assert!(store.files.is_empty());
}

#[test]
fn more_than_there_is_room_for_is_refused_and_zeros_need_none() {
    let mut memory = vec![0; 20 * CHUNK];
    memory[..4 * PAGE].copy_from_slice(&noise(1, 4 * PAGE));
    let machines = [Machine::new(&memory, None, b"state")];
    for layout in LAYOUTS {
        let pack = pack(&source(layout, &machines));
        let room =
            |max_bytes| unpack_with(&pack, &Limits { max_bytes, ..Limits::default() }, &Silent).map(|_| ());
        room(4 * PAGE as u64 + 1024).unwrap();
        let error = tine_model::Error::from(room(4 * PAGE as u64 - 1).unwrap_err());
        assert_eq!((error.code, error.hint.as_deref()), (ErrorCode::PoolFull, Some("tine gc")));
        let small = Limits { max_file: 20 * CHUNK as u64 - 1, ..Limits::default() };
        assert!(matches!(unpack_with(&pack, &small, &Silent), Err(PackError::TooLarge(_))));
    }
}

#[test]
fn how_much_may_wait_for_a_digest_makes_no_difference() {
    // data, a hole that its digest takes long over, and more data than waits without any memory for it
    let mut memory = vec![0; 600 * CHUNK];
    memory[..CHUNK].copy_from_slice(&noise(1, CHUNK));
    memory[560 * CHUNK..].copy_from_slice(&noise(2, 40 * CHUNK));
    let machines = [Machine::new(&memory, None, b"state")];
    for layout in [Layout::V1, Layout::V2] {
        let pack = pack(&source(layout, &machines));
        for max_waiting in [0, CHUNK - 1, 3 * CHUNK, 1 << 30] {
            let limits = Limits { max_waiting, ..Limits::default() };
            let (unpacked, store) = unpack_with(&pack, &limits, &Silent).unwrap();
            same(&unpacked, &store, &machines);
        }
    }
}

/// Counts and cancels after so much.
#[derive(Default)]
struct Watch {
    cancel_after: Option<u64>,
    done: AtomicU64,
    steps: Mutex<Vec<(String, Option<u64>)>>,
}

impl Reporter for Watch {
    fn step(&self, what: &str, total: Option<u64>) {
        self.steps.lock().unwrap().push((what.to_owned(), total));
    }
    fn advance(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
    fn output(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.cancel_after.is_some_and(|after| self.done.load(Ordering::Relaxed) >= after)
    }
}

#[test]
fn progress_is_told_and_cancelling_heard() {
    let machines = [Machine::new(&noise(1, 6 * CHUNK), None, b"state")];
    for layout in LAYOUTS {
        let source = source(layout, &machines);
        let watch = Watch::default();
        let out = tempfile::tempfile().unwrap();
        write(&source, None, &out, &watch).unwrap();
        let (what, total) = watch.steps.lock().unwrap().last().unwrap().clone();
        assert_eq!(what, "packing m0");
        assert_eq!(Some(watch.done.load(Ordering::Relaxed)), total);
        let watch = Watch::default();
        unpack_with(&content(&out), &Limits::default(), &watch).unwrap();
        assert_eq!(watch.steps.lock().unwrap().as_slice(), [("unpacking m0".to_owned(), total)]);
        assert_eq!(Some(watch.done.load(Ordering::Relaxed)), total);
        let impatient = || Watch { cancel_after: Some(CHUNK as u64), ..Watch::default() };
        let other = tempfile::tempfile().unwrap();
        assert!(matches!(write(&source, None, &other, &impatient()), Err(PackError::Cancelled)));
        let result = unpack_with(&content(&out), &Limits::default(), &impatient());
        assert!(matches!(result, Err(PackError::Cancelled)));
    }
}

#[test]
fn deltas_in_the_second_layout_lie_over_the_parent() {
    let delta = crate::hostile::delta_chain(|_| {});
    let (unpacked, store) = unpack(&delta.pack).unwrap();
    assert!(store.content(1, Role::Memory) == delta.second && store.content(2, Role::Memory) == delta.third);
    assert_eq!(unpacked.links[1].memory, digest(&file(&delta.second)));
    assert_eq!(unpacked.links[1].memory_plain, None);
    assert_eq!(unpacked.links[2].memory, digest(&sparse(delta.third.len(), &[(0, &delta.third)])));
}

#[test]
fn a_full_disk_under_the_pack_is_told_of() {
    for layout in LAYOUTS {
        let machines = machines_for(layout);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error =
            tine_model::Error::from(write(&source(layout, &machines), None, &full, &Silent).unwrap_err());
        assert!(error.message.contains("No space left"), "{error}");
        assert_eq!(error.code, ErrorCode::Internal);
    }
}
