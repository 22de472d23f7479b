//! Random machines and chains come back as they were.

use crate::support::{CHUNK, Machine, PAGE, pack_with, same, source, unpack};
use proptest::prelude::*;
use tine_pack::{FileEntry, Layout, Link, Manifest, Role, SidecarRef};

/// A change of a memory: where, how long, and with what.
type Change = (usize, usize, u8);

fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((0..4 * CHUNK, 1..3 * PAGE, prop_oneof![Just(0u8), any::<u8>()]), 0..most)
}

fn apply(memory: &mut [u8], changes: &[Change]) {
    for (at, length, byte) in changes {
        let at = (*at).min(memory.len());
        let end = (at + length).min(memory.len());
        for (n, to) in memory[at..end].iter_mut().enumerate() {
            *to = if *byte == 0 { 0 } else { byte.wrapping_add((n / 7) as u8) };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn chains_round_trip(
        sizes in prop::collection::vec(0..4 * CHUNK, 1..5),
        edits in prop::collection::vec(changes(12), 5),
        layout in prop_oneof![Just(Layout::V2), Just(Layout::V3)],
        threads in 1usize..4,
    ) {
        let (mut memory, mut machines) = (Vec::new(), Vec::new());
        for (n, size) in sizes.iter().enumerate() {
            memory.resize(*size, 0);
            apply(&mut memory, &edits[n]);
            let disk: Vec<u8> = memory.iter().rev().copied().collect();
            machines.push(Machine::new(&memory, (n % 3 != 2).then_some(&disk), &memory[..size.min(&100).to_owned()]));
        }
        let (pack, written) = pack_with(&source(layout, &machines), threads).unwrap();
        prop_assert!(written.stored_bytes <= written.content_bytes);
        let (unpacked, store) = unpack(&pack).unwrap();
        same(&unpacked, &store, &machines);
    }

    #[test]
    fn single_machines_round_trip(size in 0..4 * CHUNK, edits in changes(40), ours in any::<bool>()) {
        let mut memory = vec![0; size];
        apply(&mut memory, &edits);
        let machines = [Machine::new(&memory, None, b"state")];
        let layout = if ours { Layout::V3 } else { Layout::V1 };
        let (unpacked, store) = unpack(&pack_with(&source(layout, &machines), 2).unwrap().0).unwrap();
        same(&unpacked, &store, &machines);
    }

    #[test]
    fn manifests_round_trip(
        description in prop::option::of("[^\\p{Cc}]{0,40}"),
        tags in prop::collection::btree_set("[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", 1..6),
        sizes in prop::collection::vec(any::<u32>(), 12),
        target in prop::option::of("[a-z/]{1,20}"),
        layout in prop_oneof![Just(Layout::V1), Just(Layout::V2), Just(Layout::V3)],
    ) {
        let mut tags: Vec<_> = tags.into_iter().collect();
        tags.truncate(if layout == Layout::V1 { 1 } else { 6 });
        let mut links: Vec<Link> = Vec::new();
        for (n, tag) in tags.iter().enumerate() {
            let size = |k: usize| u64::from(sizes[(n + k) % sizes.len()]);
            let entry = |role, k| {
                let digest = tine_model::Sha256Digest([k as u8 + 10 * n as u8; 32]);
                let delta = layout == Layout::V3 && n > 0 && role == Role::Memory;
                FileEntry { role, size: size(k), digest, delta, stored: if delta { size(k) / 2 } else { size(k) } }
            };
            let parent = links.last();
            links.push(Link {
                tag: tag.parse().unwrap(),
                parent: parent.map(|p| p.tag.clone()),
                parent_content_hash: parent.and_then(|p| p.file(Role::Memory)).map(|file| file.digest),
                files: vec![entry(Role::Vmstate, 1), entry(Role::Memory, 2)],
                facts: (n % 2 == 0).then(crate::support::facts),
            });
        }
        let target_path = target.map(|path| path.trim_start_matches('/').to_owned());
        let manifest = Manifest {
            layout,
            tag: tags.last().unwrap().parse().unwrap(),
            description,
            base_image: None,
            created_at: tine_model::Timestamp::from_second(i64::from(sizes[0])),
            writer: "w".into(),
            links,
            rootfs: target_path.map(|target_path| SidecarRef {
                target_path,
                sha256: tine_model::Sha256Digest([0xab; 32]),
                size: u64::from(sizes[1]),
            }),
            features: if layout == Layout::V3 { vec!["later".into()] } else { Vec::new() },
        };
        let text = manifest.to_toml().unwrap();
        prop_assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn no_bytes_make_the_manifest_reader_die(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let _ = Manifest::parse(&bytes);
        let _ = Manifest::parse(text.as_bytes());
        let lead = format!("forkd_pack_version = 3\nformat = \"tine\"\n{text}");
        let _ = Manifest::parse(lead.as_bytes());
    }
}
