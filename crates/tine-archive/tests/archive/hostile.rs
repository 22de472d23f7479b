//! Every attack and every damage an archive can carry, made by hand.

use crate::support::{ENTRY, Entry, Tar, Target, gzip, is_root, read};
use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt, symlink},
};
use tine_archive::{Limits, Policy, extract};
use tine_model::{ErrorCode, Reporter, Silent};

#[track_caller]
fn refused(tar: Tar, why: &str) {
    let message = Target::new().refused(&tar.end());
    assert!(message.contains(why), "{message}");
}

#[test]
fn paths_that_lead_out_are_refused() {
    refused(Tar::default().file("/etc/passwd", b"x"), "absolute");
    refused(Tar::default().file("../outside/x", b"x"), "..");
    refused(Tar::default().file("a/../../outside/x", b"x"), "..");
    refused(Tar::default().dir("a/.."), "..");
    refused(Tar::default().pax(&[("path", b"../outside/x")]).file("fine", b"x"), "..");
    refused(Tar::default().data(b'L', "long", b"/etc/passwd\0").file("fine", b"x"), "absolute");
    refused(Tar::default().pax(&[("path", b"a\0b")]).file("fine", b"x"), "NUL");
    refused(Tar::default().pax(&[("path", b"")]).file("", b"x"), "empty path");
}

#[test]
fn hard_links_that_lead_out_are_refused() {
    for target in ["/etc/passwd", "../outside/secret", "missing", "dir", "", "."] {
        refused(Tar::default().dir("dir").link(b'1', "x", target), "hard link");
    }
    let outside = Tar::default().link(b'2', "d", "../outside").link(b'1', "x", "d/secret");
    refused(outside, "behind a link");
}

#[test]
fn writing_through_a_link_of_the_archive_is_refused() {
    for target in ["../outside", "/etc", ".", "real"] {
        let tar = Tar::default().dir("real").link(b'2', "d", target).file("d/secret", b"overwritten");
        refused(tar, "link that the archive itself made");
    }
    // also through a second name of the link, and through a link to it that was there before
    let tar = Tar::default().link(b'2', "d", "real").link(b'1', "e", "d").file("e/x", b"");
    refused(tar, "link that the archive itself made");
    let target = Target::new();
    symlink("made", target.path("before")).unwrap();
    let tar = Tar::default().dir("real").link(b'2', "made", "real").file("before/x", b"").end();
    assert!(target.refused(&tar).contains("link that the archive itself made"));
}

#[test]
fn a_member_over_a_link_replaces_the_link() {
    let target = Target::new();
    let tar = Tar::default().link(b'2', "x", "../outside/secret").file("x", b"mine").end();
    target.extract(&tar).unwrap();
    assert_eq!(read(target.path("x")), "mine");
}

#[test]
fn links_that_were_there_before_stay_inside_the_root() {
    let target = Target::new();
    fs::create_dir_all(target.path("usr/lib")).unwrap();
    symlink("usr/lib", target.path("lib")).unwrap();
    symlink(target.outside(), target.path("evil")).unwrap();
    symlink("../../../../outside", target.path("up")).unwrap();
    symlink("loop", target.path("loop")).unwrap();
    let tar =
        Tar::default().file("lib/new.so", b"lib").file("evil/secret", b"in").file("up/secret", b"in").end();
    target.extract(&tar).unwrap();
    assert_eq!(read(target.path("usr/lib/new.so")), "lib");
    assert_eq!(read(target.path("outside/secret")), "in");
    assert!(target.path("lib").is_symlink());
    assert!(target.extract(&Tar::default().file("loop/x", b"").end()).is_err());
}

#[test]
fn only_harmless_devices_are_made() {
    for (kind, device) in [(b'4', (8, 0)), (b'3', (1, 1)), (b'3', (10, 200)), (b'4', (1, 3)), (b'3', (0, 0))]
    {
        refused(Tar::default().raw(Entry { kind, name: b"dev/x", device, ..ENTRY }), "device node");
    }
    if !is_root() {
        return;
    }
    let target = Target::new();
    let null =
        Tar::default().raw(Entry { kind: b'3', name: b"dev/null", device: (1, 3), mode: 0o666, ..ENTRY });
    target.extract(&null.clone().end()).unwrap();
    let made = fs::symlink_metadata(target.path("dev/null")).unwrap();
    assert!(
        made.file_type().is_char_device()
            && made.rdev() == rustix::fs::makedev(1, 3)
            && made.mode() & 0o777 == 0o666
    );
    let copy = Target::new();
    copy.extract_as(&null.end(), &Policy::copy(), &Limits::default()).unwrap();
    assert!(!copy.path("dev/null").exists());
}

#[test]
fn set_id_bits_are_kept_in_a_root_and_dropped_in_a_copy() {
    let tar = Tar::default().raw(Entry { name: b"su", mode: 0o4755, ..ENTRY }).end();
    for (policy, mode) in
        [(Policy::root_image(), 0o4755), (Policy::copy(), 0o755), (Policy::archive_copy(), 0o4755)]
    {
        let target = Target::new();
        target.extract_as(&tar, &policy, &Limits::default()).unwrap();
        assert_eq!(fs::metadata(target.path("su")).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn every_cut_is_noticed_and_none_panics() {
    let tar = Tar::default().dir("d").file("d/f", &[7; 700]).pax(&[("mtime", b"1.5")]).file("g", b"x").end();
    let (end, packed) = (tar.len() - 1024, gzip(&tar));
    for cut in (0..end).step_by(128).chain([end, end + 511]) {
        Target::new().refused(&tar[..cut]);
    }
    for cut in (2..packed.len()).step_by(5) {
        Target::new().refused(&packed[..cut]);
    }
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    Target::new().refused(&zstd[..zstd.len() - 3]);
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(tar.as_slice(), 1).read_to_end(&mut xz).unwrap();
    Target::new().refused(&xz[..xz.len() - 13]);
    for whole in [tar, packed, zstd, xz] {
        Target::new().extract(&whole).unwrap();
    }
}

#[test]
fn damage_and_trailing_data_are_noticed() {
    let tar = Tar::default().file("f", b"x").end();
    let mut flipped = gzip(&tar);
    let sum = flipped.len() - 6;
    flipped[sum] ^= 1;
    Target::new().refused(&flipped);
    let mut damaged = tar.clone();
    damaged[3] ^= 1;
    assert!(Target::new().refused(&damaged).contains("not a tar archive"));
    let after = [tar.as_slice(), b"more"].concat();
    assert!(Target::new().refused(&after).contains("after the end"));
    let after = [gzip(&tar).as_slice(), b"more"].concat();
    assert!(Target::new().refused(&after).contains("after the compressed stream"));
    assert!(Target::new().refused(b"").contains("too short"));
    assert!(Target::new().refused(&[b'x'; 4096]).contains("not a tar"));
    assert!(Target::new().refused(b"BZh91AY").contains("bzip2"));
    Target::new().extract(&[tar.as_slice(), &[0; 10_000]].concat()).unwrap();
    Target::new().extract(&[gzip(&tar).as_slice(), &[0; 500]].concat()).unwrap();
}

#[test]
fn a_gzip_of_several_members_is_one_stream() {
    let tar = Tar::default().file("a", &[1; 3000]).file("b", b"second").end();
    let (first, second) = tar.split_at(1700);
    let target = Target::new();
    target.extract(&[gzip(first), gzip(second)].concat()).unwrap();
    assert_eq!(read(target.path("b")), "second");
}

#[test]
fn limits_are_kept_before_anything_is_written() {
    let target = Target::new();
    let limits = Limits { members: 3, bytes: 1000 };
    let terabyte = Tar::default().raw(Entry { name: b"zeros", size: 1 << 33, ..ENTRY }).0;
    let sized = Tar::default().pax(&[("size", b"1099511627776")]).file("zeros", b"").0;
    let sum = Tar::default().file("a", &[1; 600]).file("b", &[1; 600]).end();
    let many = (0..4).fold(Tar::default(), |tar, i| tar.file(&format!("{i}"), b"")).end();
    for tar in [terabyte, sized, sum, many] {
        let error = target.extract_as(&tar, &Policy::root_image(), &limits).unwrap_err();
        assert_eq!(tine_model::Error::from(error).code, ErrorCode::TooLarge);
    }
    assert!(!target.path("zeros").exists() && !target.path("3").exists());
}

/// Members without end.
struct Endless(Vec<u8>, usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = buffer.len().min(self.0.len() - self.1);
        buffer[..read].copy_from_slice(&self.0[self.1..self.1 + read]);
        self.1 = (self.1 + read) % self.0.len();
        Ok(read)
    }
}

#[test]
fn an_endless_archive_ends_at_the_limit() {
    let target = Target::new();
    let limits = Limits { members: 10_000, bytes: 1 << 20 };
    let mut input = Endless(Tar::default().file("same", b"").0, 0);
    let error = extract(&mut input, &target.tree(), &limits, &Policy::root_image(), &Silent).unwrap_err();
    assert!(error.to_string().contains("10000 members"), "{error}");
}

#[test]
fn headers_without_bounds_are_refused() {
    refused(Tar::default().raw(Entry { kind: b'x', name: b"p", size: 1 << 30, ..ENTRY }), "1 MiB");
    refused(Tar::default().raw(Entry { kind: b'L', name: b"p", size: 1 << 30, ..ENTRY }), "1 MiB");
    let chain = (0..20).fold(Tar::default(), |tar, _| tar.pax(&[("comment", b"x")])).file("f", b"");
    refused(chain, "too many extended headers");
    refused(Tar::default().data(b'g', "g", b"10 path=x\n").file("f", b""), "global header");
    refused(Tar::default().pax(&[("size", b"18446744073709551615")]).file("f", b""), "damaged");
    refused(Tar::default().pax(&[("size", b"9223372036854775807")]).file("f", b""), "cut off");
    let deep = "d/".repeat(300) + "f";
    refused(Tar::default().pax(&[("path", deep.as_bytes())]).file("f", b""), "deeper");
    let wide = "n".repeat(256);
    refused(Tar::default().pax(&[("path", wide.as_bytes())]).file("f", b""), "255 bytes");
    let long = "dddddddd/".repeat(600);
    refused(Tar::default().pax(&[("path", long.as_bytes())]).file("f", b""), "too long");
    refused(Tar::default().raw(Entry { kind: b'M', name: b"volume", ..ENTRY }), "type M");
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for map in ["0,10", "0,3,2,2", "1000000,5", "18446744073709551615,5"] {
        let records: [(&str, &[u8]); 3] =
            [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"2000"), ("GNU.sparse.name", b"s")];
        refused(Tar::default().pax(&records).file("x", b"12345"), "sparse map");
    }
    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"2000")];
    refused(Tar::default().pax(&records).file("x", b"99999999999\n"), "too many stretches");
    refused(Tar::default().pax(&records).file("x", b"junk"), "damaged");
    refused(Tar::default().pax(&records).file("x", &[b'1'; 2000]), "damaged");
}

#[test]
fn directories_are_replaced_only_when_empty() {
    let tar = Tar::default().dir("d").file("d/f", b"x").file("d", b"file");
    refused(tar, "not empty");
    let target = Target::new();
    target.extract(&Tar::default().dir("d").file("d", b"file").end()).unwrap();
    assert_eq!(read(target.path("d")), "file");
    target.extract(&Tar::default().dir("d").file("d/f", b"1").file("d/f", b"2").end()).unwrap();
    assert_eq!(read(target.path("d/f")), "2");
    // a copy never puts one in the place of the other
    let limits = Limits::default();
    assert!(target.extract_as(&Tar::default().file("d", b"").end(), &Policy::copy(), &limits).is_err());
    assert!(target.extract_as(&Tar::default().dir("d/f").end(), &Policy::copy(), &limits).is_err());
    refused(Tar::default().file("f", b"").file("f/below", b""), "no directory");
}

#[test]
fn attributes_of_the_host_are_left_out() {
    let target = Target::new();
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.user.k", b"v"),
        ("SCHILY.xattr.trusted.k", b"v"),
        ("SCHILY.xattr.security.selinux", b"v"),
    ];
    target.extract(&Tar::default().pax(&records).file("f", b"").end()).unwrap();
    let node = target.tree().node("f".as_ref()).unwrap();
    let names: Vec<_> = node.xattrs().unwrap().into_iter().map(|x| x.name).collect();
    assert_eq!(names, ["user.k"]);
}

struct Impatient;

impl Reporter for Impatient {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_cancelled_extraction_ends() {
    let target = Target::new();
    let mut input = Endless(Tar::default().file("same", b"").0, 0);
    let error =
        extract(&mut input, &target.tree(), &Limits::default(), &Policy::copy(), &Impatient).unwrap_err();
    assert_eq!(tine_model::Error::from(error).code, ErrorCode::Cancelled);
}
