//! The manifest of a pack, of any bytes: refused, or said again in words that mean the same.
#![no_main]

#[path = "closing.rs"]
mod closing;

use libfuzzer_sys::fuzz_target;
use tine_pack::{Layout, Link, Manifest, Role};

fuzz_target!(|bytes: &[u8]| {
    understood(bytes);
    let mut sealed = bytes.to_vec();
    closing::seal_manifest(&mut sealed);
    understood(&sealed);
});

fn understood(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    assert!(manifest.links.last().is_some_and(|head| head.tag == manifest.tag));
    assert!(manifest.links.len() <= tine_pack::LINKS_MAX);
    assert!(manifest.layout != Layout::V1 || manifest.links.len() == 1);
    for (number, link) in manifest.links.iter().enumerate() {
        assert_eq!(link.parent.as_ref(), number.checked_sub(1).map(|parent| &manifest.links[parent].tag));
        assert!(Role::ALL.iter().all(|role| count(link, *role) <= 1));
        assert!(!link.tag.as_str().contains('/'));
    }
    match manifest.to_toml() {
        Ok(text) => assert_eq!(Manifest::parse(text.as_bytes()).expect("it is ours"), manifest),
        // ours may be longer, by quotes and by what others leave out
        Err(error) => assert!(bytes.len() > 64 << 10, "{error}"),
    }
}

fn count(link: &Link, role: Role) -> usize {
    link.files.iter().filter(|file| file.role == role).count()
}
