//! Stretches of real files.

use crate::support::{Random, noise};
use std::{fs::File, os::unix::fs::FileExt};
use tine_pack::pages::{Stretch, Stretches, changed, stored};

const PAGE: usize = 4096;

/// Both files and their contents: random pages set, some to zero, of `pages` pages and a bit.
fn random_file(seed: u64, pages: u64, length: usize) -> (File, Vec<u8>) {
    let mut random = Random(seed * 2 + 1);
    let file = tempfile::tempfile().unwrap();
    let mut content = vec![0; length];
    while random.below(40) != 0 {
        let first = random.below(pages) as usize * PAGE;
        let end = (first + (1 + random.below(100)) as usize * PAGE).min(length);
        let byte = [0, 0, 7, 8][random.below(4) as usize];
        if first < end {
            content[first..end].fill(byte);
            file.write_all_at(&content[first..end], first as u64).unwrap();
        }
    }
    file.set_len(length as u64).unwrap();
    (file, content)
}

/// The pages that `different` names, as stretches.
fn expected(length: usize, different: impl Fn(usize) -> bool) -> Stretches {
    let mut stretches: Stretches = Vec::new();
    for page in (0..length.div_ceil(PAGE)).filter(|page| different(*page)) {
        let (offset, end) = ((page * PAGE) as u64, ((page + 1) * PAGE).min(length) as u64);
        match stretches.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length = end - last.offset,
            _ => stretches.push(Stretch { offset, length: end - offset }),
        }
    }
    stretches
}

fn page(content: &[u8], page: usize, length: usize) -> Vec<u8> {
    let end = ((page + 1) * PAGE).min(length);
    (page * PAGE..end).map(|at| content.get(at).copied().unwrap_or(0)).collect()
}

#[test]
fn what_is_not_zero_is_stored() {
    for seed in 0..60 {
        let length = [0, 1, PAGE, 300 * PAGE, 1000 * PAGE + 17, 1000 * PAGE - 1][seed as usize % 6];
        let (file, content) = random_file(seed, 1000, length);
        let found = stored(&file).unwrap();
        assert_eq!(found, expected(length, |n| page(&content, n, length).iter().any(|b| *b != 0)), "{seed}");
    }
}

#[test]
fn what_differs_from_the_parent_is_stored_whatever_their_lengths() {
    let lengths = [0, PAGE / 2, 500 * PAGE + 1, 500 * PAGE + 2, 1000 * PAGE, 700 * PAGE - 5];
    for seed in 0..72_usize {
        let (ours, theirs) = (lengths[seed % 6], lengths[seed / 6 % 6]);
        let (file, content) = random_file(seed as u64, 1000, ours);
        let (parent, had) = random_file(seed as u64 + 500, 1000, theirs);
        let differs = |n| page(&content, n, ours) != page(&had, n, ours);
        assert_eq!(changed(&file, &parent).unwrap(), expected(ours, differs), "{seed}");
    }
}

#[test]
fn a_file_does_not_differ_from_itself_and_is_all_new_to_an_empty_one() {
    let (file, _) = random_file(3, 1000, 1000 * PAGE + 1);
    let empty = tempfile::tempfile().unwrap();
    assert_eq!(changed(&file, &file).unwrap(), []);
    assert_eq!(changed(&file, &empty).unwrap(), stored(&file).unwrap());
}

#[test]
fn pages_written_to_a_reflink_clone_are_found_before_they_are_on_disk() {
    let dir = tempfile::tempdir_in(std::env::var("TINE_TEST_BTRFS").unwrap_or("/var/tmp".into())).unwrap();
    let parent = File::create_new(dir.path().join("parent")).unwrap();
    parent.write_all_at(&noise(600 * PAGE, 5), 10 * PAGE as u64).unwrap();
    parent.sync_all().unwrap();
    let parent = File::open(dir.path().join("parent")).unwrap();
    let file = File::create_new(dir.path().join("file")).unwrap();
    if rustix::fs::ioctl_ficlone(&file, &parent).is_err() {
        // the same, without anything shared
        std::io::copy(&mut &parent, &mut &file).unwrap();
    }
    assert_eq!(changed(&file, &parent).unwrap(), []);
    file.write_all_at(&[0; PAGE], 20 * PAGE as u64).unwrap();
    file.write_all_at(b"x", 333 * PAGE as u64 + 5).unwrap();
    file.write_all_at(b"y", 5000 * PAGE as u64).unwrap();
    let stretch = |page: u64, length: u64| Stretch { offset: page * PAGE as u64, length };
    let whole = PAGE as u64;
    let expected = [stretch(20, whole), stretch(333, whole), stretch(5000, 1)];
    assert_eq!(changed(&file, &parent).unwrap(), expected);
    file.sync_all().unwrap();
    assert_eq!(changed(&file, &parent).unwrap(), expected);
}
