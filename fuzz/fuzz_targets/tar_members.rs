//! A tar of any bytes: what is read of it is bounded by it, and what the strict reader takes the other takes as well.
#![no_main]

#[path = "sealing.rs"]
mod sealing;

use libfuzzer_sys::fuzz_target;
use tine_archive::{ArchiveError, Member, MemberKind, TarReader};

fuzz_target!(|bytes: &[u8]| {
    both(bytes);
    let mut sealed = bytes.to_vec();
    sealing::seal_tar(&mut sealed);
    both(&sealed);
});

fn both(bytes: &[u8]) {
    let any = members(TarReader::new(bytes), bytes.len());
    let Ok(plain) = members(TarReader::plain(bytes), bytes.len()) else { return };
    let any = any.expect("a strict reader took it");
    assert!(any.len() == plain.len() && any.iter().zip(&plain).all(|(a, b)| a.name == b.name));
}

/// Every member, all of its content read.
fn members(mut tar: TarReader<&[u8]>, length: usize) -> Result<Vec<Member>, ArchiveError> {
    let (mut found, mut total) = (Vec::new(), 0);
    while let Some(member) = tar.next()? {
        let mut read = 0;
        loop {
            let piece = tar.content()?.len();
            if piece == 0 {
                break;
            }
            // small steps in what is not large
            let step = if length < 1 << 12 { 1 + piece / 2 } else { piece };
            tar.consume(step);
            read += step as u64;
        }
        assert_eq!(read, member.stored);
        check(&member);
        total += read;
        found.push(member);
    }
    assert!(total <= length as u64 && found.len() <= length / 512);
    Ok(found)
}

fn check(member: &Member) {
    assert!(member.kind == MemberKind::File || member.stored == 0);
    let Some(map) = &member.sparse else { return };
    let mut end = 0;
    for (offset, length) in &map.data {
        assert!(*offset >= end);
        end = offset + length;
    }
    assert!(end <= map.size);
    assert_eq!(map.data.iter().map(|(_, length)| length).sum::<u64>(), member.stored);
}
