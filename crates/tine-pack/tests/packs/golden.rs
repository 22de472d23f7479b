//! Packs of the third layout as they were once written: they are read, and written the same, for ever.
//!
//! `TINE_WRITE_GOLDEN=1` writes the files anew, for a layout that has deliberately changed.

use crate::support::{Machine, PAGE, noise, pack, same, source, unpack};
use std::{env, fs};
use tine_pack::Layout;

fn machines() -> Vec<Machine> {
    let memory = [vec![0; PAGE], noise(1, 300), vec![0; 7 * PAGE - 300], noise(2, PAGE)].concat();
    let mut changed = memory.clone();
    changed[2 * PAGE + 9] = 1;
    changed[8 * PAGE..].fill(0);
    let disk = [vec![0; 2 * PAGE], noise(3, 100)].concat();
    vec![
        Machine::new(&memory, Some(&disk), b"devices of the first"),
        Machine::new(&changed, Some(&disk), b"devices of the second"),
    ]
}

fn check(name: &str, layout: Layout, machines: &[Machine]) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let made = pack(&source(layout, machines));
    if env::var_os("TINE_WRITE_GOLDEN").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let golden = fs::read(&path).unwrap();
    let (unpacked, store) = unpack(&golden).unwrap();
    same(&unpacked, &store, machines);
    assert!(made == golden, "{name} is written otherwise now");
}

#[test]
fn one_image_of_the_third_layout() {
    check("one.tine.tar.zst", Layout::V3, &machines()[..1]);
}

#[test]
fn a_chain_of_the_third_layout() {
    check("chain.tine.tar.zst", Layout::V3, &machines());
}

#[test]
fn a_manifest_of_each_layout() {
    for (name, layout) in [("v1.toml", Layout::V1), ("v2.toml", Layout::V2), ("v3.toml", Layout::V3)] {
        let machines = machines();
        let count = if layout == Layout::V1 { 1 } else { 2 };
        let (_, store) = unpack(&pack(&source(layout, &machines[..count]))).unwrap();
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        if env::var_os("TINE_WRITE_GOLDEN").is_some() {
            fs::write(&path, &store.raw).unwrap();
        }
        assert_eq!(String::from_utf8(store.raw).unwrap(), fs::read_to_string(&path).unwrap(), "{name}");
    }
}
