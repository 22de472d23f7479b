//! Packs that are read without the links that are here, and tables of frames that lie.

use crate::support::{CHUNK, Machine, PAGE, Store, chain, content, digest, noise, pack, source};
use std::{
    collections::BTreeSet,
    io::{self, Cursor, Read},
    ops::Range,
};
use tine_model::{Error, ErrorCode, PackInput, Silent};
use tine_pack::{
    Layout, Limits, PackError, Reused, Role, Unpacked,
    outline::{self, Parts},
    read,
};

fn there(machine: &Machine) -> Reused {
    let disk = machine.disk.as_ref().map(|disk| disk.try_clone().unwrap());
    Reused { memory: machine.memory.try_clone().unwrap(), disk }
}

fn parts(pack: &[u8], left_out: &BTreeSet<usize>) -> Option<Vec<Range<u64>>> {
    let mut input = Cursor::new(pack);
    let manifest = outline::manifest(&mut input).unwrap()?;
    assert_eq!(input.position(), 0);
    outline::parts(&mut input, &manifest, left_out).unwrap()
}

/// Reads a pack without some of its links, by its own table.
fn read_without(
    pack: &[u8],
    machines: &[Machine],
    left_out: &BTreeSet<usize>,
) -> Option<Result<(Unpacked, Store), PackError>> {
    let parts = parts(pack, left_out)?;
    let reuse = left_out.iter().map(|link| (*link, there(&machines[*link]))).collect();
    let mut store = Store { reuse, left_out: left_out.clone(), ..Store::default() };
    let mut input = Cursor::new(pack);
    let unpacked = read(&mut Parts::new(&mut input, parts), &Limits::default(), &mut store, &Silent);
    Some(unpacked.map(|unpacked| (unpacked, store)))
}

/// Machines of which the first has memory in several frames.
fn machines() -> Vec<Machine> {
    let mut memory = noise(1, 40 * CHUNK + 3 * PAGE);
    memory[7 * PAGE..9 * PAGE].fill(0);
    let mut all = Vec::new();
    for n in 0..4 {
        memory[n * 5 * PAGE..][..PAGE].copy_from_slice(&noise(10 + n as u64, PAGE));
        all.push(Machine::new(&memory, Some(&noise(2, 3 * PAGE)), &noise(30 + n as u64, 999)));
    }
    all
}

#[test]
fn any_links_but_the_last_can_be_left_out() {
    for machines in [machines(), chain(4, 5)] {
        let pack = pack(&source(Layout::V3, &machines));
        for set in 0..8usize {
            let left_out: BTreeSet<usize> = (0..3).filter(|link| set >> link & 1 != 0).collect();
            let (unpacked, store) = read_without(&pack, &machines, &left_out).unwrap().unwrap();
            assert!(store.files.keys().all(|(link, _)| !left_out.contains(link)), "{left_out:?}");
            for link in (0..4).filter(|link| !left_out.contains(link)) {
                assert!(store.content(link, Role::Memory) == content(&machines[link].memory));
                assert!(store.content(link, Role::Rootfs) == content(machines[link].disk.as_ref().unwrap()));
            }
            let sums: Vec<_> = unpacked.links.iter().map(|sums| sums.memory).collect();
            assert_eq!(sums, machines.iter().map(|machine| digest(&machine.memory)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_signature_lies_in_front_of_all_links() {
    let machines = machines();
    let out = tempfile::tempfile().unwrap();
    let sign = |_: &[u8]| Ok("a signature".to_owned());
    tine_pack::write(&source(Layout::V3, &machines), Some(&sign), &out, &Silent).unwrap();
    let signed = content(&out);
    let (_, store) = read_without(&signed, &machines, &BTreeSet::from([0, 2])).unwrap().unwrap();
    assert_eq!(store.signature.as_deref(), Some("a signature"));
    assert!(store.content(3, Role::Memory) == content(&machines[3].memory));
}

#[test]
fn a_member_that_fills_its_frames_hides_where_the_next_begins() {
    let state = noise(5, (4 << 20) - 512);
    let one = Machine::new(&noise(1, CHUNK), None, &state);
    let two = Machine::new(&noise(1, CHUNK), None, &state[1..]);
    let machines = [one, two];
    let pack = pack(&source(Layout::V3, &machines));
    assert_eq!(parts(&pack, &BTreeSet::from([0])), None);
    crate::support::unpack(&pack).unwrap();
}

#[test]
fn what_is_here_needs_no_room() {
    let machines = machines();
    let pack = pack(&source(Layout::V3, &machines));
    let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
    let unpacked = |reuse: &[usize]| {
        let reuse = reuse.iter().map(|link| (*link, there(&machines[*link]))).collect();
        let mut store = Store { reuse, ..Store::default() };
        read(&mut pack.as_slice(), &limits, &mut store, &Silent).map(|_| ())
    };
    assert!(matches!(unpacked(&[1, 2]), Err(PackError::Full { .. })));
    unpacked(&[0]).unwrap();
}

#[test]
fn what_is_left_out_is_not_read() {
    let machines = machines();
    let pack = pack(&source(Layout::V3, &machines));
    let length = |left_out| -> u64 {
        let parts = parts(&pack, &BTreeSet::from_iter(left_out)).unwrap();
        parts.iter().map(|part| part.end - part.start).sum()
    };
    assert_eq!(length(vec![]), pack.len() as u64);
    assert!(length(vec![0, 1, 2]) < 64 << 10, "{}", length(vec![0, 1, 2]));
    assert!(length(vec![1, 2]) > 10 << 20);
}

#[test]
fn a_link_that_is_left_out_must_be_here_and_be_the_one() {
    let machines = machines();
    let pack = pack(&source(Layout::V3, &machines));
    let left_out = BTreeSet::from([0]);
    let mut input = Cursor::new(&pack[..]);
    let wrong = [None, Some(there(&machines[1]))];
    for reused in wrong {
        let parts = parts(&pack, &left_out).unwrap();
        let reuse = reused.map(|reused| (0, reused)).into_iter().collect();
        let mut store = Store { reuse, left_out: left_out.clone(), ..Store::default() };
        let unpacked = read(&mut Parts::new(&mut input, parts), &Limits::default(), &mut store, &Silent);
        let code = Error::from(unpacked.unwrap_err()).code;
        assert!(matches!(code, ErrorCode::Corrupt | ErrorCode::InvalidInput), "{code:?}");
    }
}

#[test]
fn older_layouts_and_packs_without_a_table_have_no_outline() {
    let machines = chain(3, 2);
    for layout in [Layout::V1, Layout::V2] {
        let machines = if layout == Layout::V1 { &machines[..1] } else { &machines[..] };
        assert_eq!(parts(&pack(&source(layout, machines)), &BTreeSet::from([0])), None);
    }
    let ours = pack(&source(Layout::V3, &machines));
    assert!(parts(&ours, &BTreeSet::from([0])).is_some());
    for bad in [&ours[..ours.len() - 1], &ours[..100], b"", b"text"] {
        assert_eq!(parts(bad, &BTreeSet::from([0])), None);
    }
}

/// The frames of a pack's table as stored length and content's length, and where the table begins.
fn entries(pack: &[u8]) -> (Vec<(u32, u32)>, usize) {
    let number = |at: usize| u32::from_le_bytes(pack[at..at + 4].try_into().unwrap());
    let count = number(pack.len() - 9) as usize;
    let at = pack.len() - 9 - count * 8;
    ((0..count).map(|n| (number(at + n * 8), number(at + n * 8 + 4))).collect(), at - 8)
}

/// The pack with another table.
fn with_table(pack: &[u8], entries: &[(u32, u32)]) -> Vec<u8> {
    let begin = self::entries(pack).1;
    let mut all = pack[..begin].to_vec();
    all.extend(0x184d_2a5e_u32.to_le_bytes());
    all.extend((entries.len() as u32 * 8 + 9).to_le_bytes());
    for (stored, content) in entries {
        all.extend(stored.to_le_bytes());
        all.extend(content.to_le_bytes());
    }
    all.extend((entries.len() as u32).to_le_bytes());
    all.push(0);
    all.extend(0x8f92_eab1_u32.to_le_bytes());
    all
}

#[test]
fn a_table_that_lies_leads_to_nothing_wrong() {
    let machines = machines();
    let pack = pack(&source(Layout::V3, &machines));
    let (honest, _) = entries(&pack);
    assert!(with_table(&pack, &honest) == pack);
    let left_out = BTreeSet::from([0, 1, 2]);
    let (mut refused, mut unfit) = (0, 0);
    let mut check = |entries: &[(u32, u32)]| {
        let bad = with_table(&pack, entries);
        match read_without(&bad, &machines, &left_out) {
            None => unfit += 1,
            Some(Err(_)) => refused += 1,
            Some(Ok((_, store))) => {
                assert!(store.content(3, Role::Memory) == content(&machines[3].memory), "{entries:?}");
            }
        }
    };
    for n in 0..honest.len() - 1 {
        for by in [1, 7, honest[n].0 - 1] {
            // one frame a little shorter, the next as much longer: all after it lie elsewhere
            let mut moved = honest.clone();
            moved[n].0 -= by;
            moved[n + 1].0 += by;
            check(&moved);
        }
        let mut swapped = honest.clone();
        swapped.swap(n, n + 1);
        check(&swapped);
        for content in [1, honest[n].1.saturating_sub(512), honest[n].1 + 512, 4 << 20] {
            let mut lying = honest.clone();
            lying[n].1 = content;
            check(&lying);
        }
        let mut joined = honest.clone();
        let (stored, content) = joined.remove(n + 1);
        joined[n] = (joined[n].0 + stored, joined[n].1 + content);
        check(&joined);
        let mut doubled = honest.clone();
        doubled.insert(n, honest[n]);
        check(&doubled);
    }
    assert!(refused > 3 && unfit > 50, "refused {refused}, without use {unfit}");
}

#[test]
fn every_flipped_byte_of_a_table_leads_to_nothing_wrong() {
    let machines = chain(2, 2);
    let pack = pack(&source(Layout::V3, &machines));
    let (_, begin) = entries(&pack);
    for at in begin..pack.len() {
        for bit in [1, 0x10, 0x80] {
            let mut bad = pack.clone();
            bad[at] ^= bit;
            if let Some(Ok((_, store))) = read_without(&bad, &machines, &BTreeSet::from([0])) {
                assert!(store.content(1, Role::Memory) == content(&machines[1].memory), "{at}");
            }
        }
    }
}

/// An input that ends before it says it does.
struct Short(Cursor<Vec<u8>>);

impl Read for Short {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.position() > 1000 { Ok(0) } else { self.0.read(buffer) }
    }
}

impl io::Seek for Short {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn parts_that_are_not_all_there_are_an_error() {
    let mut input = Short(Cursor::new(noise(1, 5000)));
    let dynamic: &mut dyn PackInput = &mut input;
    let mut read = Vec::new();
    let parts = vec![0..10, 20..20, 990..3000];
    let error = Parts::new(dynamic, parts).read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(read[..20], [&noise(1, 5000)[..10], &noise(1, 5000)[990..1000]].concat());
}
