//! Damage: every byte flipped, every length cut.

use crate::support::{Machine, PAGE, Store, noise, pack, sample, source, unpack};
use tine_pack::{Layout, Manifest, Role, Unpacked};

/// Small machines: packs of a few kilobytes.
fn small(layout: Layout) -> Vec<u8> {
    let memory = [vec![0; PAGE], noise(1, 300), vec![0; 3 * PAGE - 300]].concat();
    let mut changed = memory.clone();
    changed[3 * PAGE + 5] = 7;
    let mut machines = vec![Machine::new(&memory, Some(&noise(2, 200)), b"state one")];
    if layout != Layout::V1 {
        machines.push(Machine::new(&changed, Some(&noise(3, 200)), b"state two"));
    }
    pack(&source(layout, &machines))
}

/// All that counts of what came out.
fn result(unpacked: &Unpacked, store: &Store) -> Vec<(usize, Role, Vec<u8>)> {
    let files = store.files.keys().map(|(link, role)| (*link, *role, store.content(*link, *role)));
    let json = unpacked.links.iter().enumerate();
    let json = json.filter_map(|(n, link)| Some((n, Role::SnapshotJson, link.snapshot_json.clone()?)));
    files.chain(json).collect()
}

/// Flips every byte in turn; gives how many flips were not refused. Those must have changed nothing, or nothing but
/// what `forgiven` says may change.
fn flips(pack: &[u8], forgiven: impl Fn(&Manifest, &Manifest) -> bool) -> usize {
    let (unpacked, store) = unpack(pack).unwrap();
    let wanted = result(&unpacked, &store);
    let mut taken = 0;
    for at in 0..pack.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = pack.to_vec();
            bad[at] ^= flip;
            if let Ok((other, store)) = unpack(&bad) {
                assert!(result(&other, &store) == wanted, "byte {at} ^ {flip:#x} changed a file");
                let same =
                    other.manifest == unpacked.manifest || forgiven(&unpacked.manifest, &other.manifest);
                assert!(same, "byte {at} ^ {flip:#x}: {:?}", other.manifest);
                taken += 1;
            }
        }
    }
    taken
}

#[test]
fn no_byte_of_our_first_layout_can_change_unseen() {
    let pack = small(Layout::V1);
    let taken = flips(&pack, |_, _| false);
    assert!(taken < pack.len(), "{taken} of {}", 3 * pack.len());
}

#[test]
fn no_byte_of_our_second_layout_can_change_unseen() {
    let pack = small(Layout::V2);
    let taken = flips(&pack, |_, _| false);
    assert!(taken < pack.len(), "{taken} of {}", 3 * pack.len());
}

#[test]
fn no_byte_of_the_third_layout_can_change_unseen() {
    let pack = small(Layout::V3);
    let taken = flips(&pack, |_, _| false);
    // what remains are owners and times of members, padding, and the table of frames
    assert!(taken < pack.len(), "{taken} of {}", 3 * pack.len());
}

#[test]
fn no_byte_of_a_pack_of_others_can_change_a_file_unseen() {
    // nothing covers the words in such a manifest: tag, description, base, time and version
    let words = |a: &Manifest, b: &Manifest| {
        let files = |m: &Manifest| m.links.iter().map(|link| link.files.clone()).collect::<Vec<_>>();
        files(a) == files(b) && a.rootfs.as_ref().map(|r| r.size) == b.rootfs.as_ref().map(|r| r.size)
    };
    flips(&sample("v1-base.forkd-snapshot.tar.zst"), words);
}

#[test]
fn a_pack_cut_off_anywhere_is_refused() {
    let packs = [Layout::V1, Layout::V2, Layout::V3].map(small);
    let samples = ["v1-base.forkd-snapshot.tar.zst", "v1-sidecar.forkd-snapshot.tar.zst"].map(sample);
    for pack in packs.iter().chain(&samples) {
        unpack(pack).unwrap();
        for length in 0..pack.len() {
            assert!(unpack(&pack[..length]).is_err(), "{length} of {}", pack.len());
        }
    }
}
