//! Packs that others have made are read exactly.

use crate::support::{content, refusal, sample, sha256, unpack};
use tine_model::{Sha256Digest, Silent};
use tine_pack::{Layout, Role, sidecar};

/// What lies in a pack, by the tools that everybody has.
fn members(name: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    crate::support::by_other_tools(&sample(name))
}

#[test]
fn one_image() {
    let name = "v1-base.forkd-snapshot.tar.zst";
    let (unpacked, store) = unpack(&sample(name)).unwrap();
    let manifest = &unpacked.manifest;
    assert_eq!((manifest.layout, manifest.tag.as_str()), (Layout::V1, "v1-base"));
    assert_eq!(manifest.description.as_deref(), Some("tiny v1 vector"));
    assert_eq!(manifest.base_image.as_deref(), Some("python:3.12-slim"));
    assert_eq!(manifest.created_at.to_string(), "2026-11-21T00:38:55Z");
    assert_eq!((manifest.writer.as_str(), manifest.links.len()), ("0.5.3", 1));
    assert!(manifest.links[0].facts.is_none() && manifest.rootfs.is_none());
    let members = members(name);
    assert_eq!(store.content(0, Role::Memory), members["memory.bin"]);
    assert_eq!(store.content(0, Role::Vmstate), members["vmstate"]);
    let sums = &unpacked.links[0];
    assert_eq!(sums.snapshot_json.as_deref(), Some(members["snapshot.json"].as_slice()));
    assert_eq!(sums.memory_plain, Some(sha256(&members["memory.bin"])));
    assert_eq!(sums.vmstate, sha256(&members["vmstate"]));
    assert_eq!(store.raw, members["manifest.toml"]);
}

#[test]
fn a_chain() {
    let name = "v2-chain3-full.forkd-snapshot.tar.zst";
    let (unpacked, store) = unpack(&sample(name)).unwrap();
    let manifest = &unpacked.manifest;
    let tags: Vec<_> = manifest.links.iter().map(|link| link.tag.as_str()).collect();
    assert_eq!((manifest.layout, tags.as_slice()), (Layout::V2, &["py-base", "py-numpy", "py-pandas"][..]));
    let members = members(name);
    for (n, tag) in tags.iter().enumerate() {
        assert_eq!(store.content(n, Role::Memory), members[&format!("{tag}/memory.bin")]);
        assert_eq!(store.content(n, Role::Vmstate), members[&format!("{tag}/vmstate")]);
        let json = members[&format!("{tag}/snapshot.json")].as_slice();
        assert_eq!(unpacked.links[n].snapshot_json.as_deref(), Some(json));
        let hash = n.checked_sub(1).map(|parent| sha256(&members[&format!("{}/memory.bin", tags[parent])]));
        assert_eq!(manifest.links[n].parent_content_hash, hash);
    }
}

#[test]
fn a_disk_beside_the_pack() {
    let (unpacked, store) = unpack(&sample("v1-sidecar.forkd-snapshot.tar.zst")).unwrap();
    let rootfs = unpacked.manifest.rootfs.unwrap();
    assert_eq!(
        (rootfs.target_path.as_str(), rootfs.size),
        ("/tmp/forkd-vector-cache/vector-base.ext4", 262_144)
    );
    assert!(!store.files.contains_key(&(0, Role::Rootfs)));
    assert_eq!(sidecar::name(&rootfs.sha256), "11d46e8a91a43991.rootfs.zst");
    let disk = tempfile::tempfile().unwrap();
    let packed = sample(&sidecar::name(&rootfs.sha256));
    let digest =
        sidecar::read_sidecar(&mut packed.as_slice(), rootfs.sha256, rootfs.size, &disk, &Silent).unwrap();
    assert_eq!(sha256(&content(&disk)), rootfs.sha256);
    assert_eq!(digest, crate::support::digest(&disk));
    let wrong = Sha256Digest([1; 32]);
    let other = tempfile::tempfile().unwrap();
    assert!(sidecar::read_sidecar(&mut packed.as_slice(), wrong, rootfs.size, &other, &Silent).is_err());
}

#[test]
fn hand_made_ones_are_taken_or_refused_as_they_are_named() {
    let (unpacked, store) = unpack(&sample("b00-control-ok.tar.zst")).unwrap();
    assert_eq!(unpacked.manifest.tag.as_str(), "victim");
    assert_eq!(store.content(0, Role::Memory).len(), 16384);
    let tag = refusal(&sample("b06-tag-traversal-v1.tar.zst"));
    assert!(tag.contains("../../etc/x") && tag.contains("not allowed"), "{tag}");
    let digest = refusal(&sample("b16-sha-mismatch.tar.zst"));
    assert!(digest.contains("memory.bin") && digest.contains("digest"), "{digest}");
    let link = refusal(&sample("b28-symlink-entry.tar.zst"));
    assert!(link.contains("declares no files"), "{link}");
}
