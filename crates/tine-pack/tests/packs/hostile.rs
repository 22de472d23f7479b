//! Packs made by hand to do harm: each is refused, or does none.

use crate::support::{
    Broken, CHUNK, PAGE, Store, chain, compressed, noise, pack, refusal, sha256, source, unpack,
};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};
use tine_archive::{GnuFile, SparseMap};
use tine_model::{ErrorCode, Reporter, Silent};
use tine_pack::{Layout, Limits, PackError, Role, read};

/// A tar made by hand.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// A header of any kind and name, its sum right.
    fn header(mut self, kind: u8, name: &[u8], size: u64) -> Self {
        let mut header = GnuFile { name: "x", mtime: 0 }.regular(size);
        header[0] = 0;
        header[..name.len()].copy_from_slice(name);
        header[156] = kind;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.header(b'0', name.as_bytes(), content.len() as u64).content(content)
    }

    fn sparse(mut self, name: &str, size: u64, data: &[(u64, &[u8])]) -> Self {
        let map =
            SparseMap { size, data: data.iter().map(|(at, bytes)| (*at, bytes.len() as u64)).collect() };
        self.0.extend(GnuFile { name, mtime: 0 }.sparse(&map));
        let content: Vec<u8> = data.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        self.content(&content)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        compressed(&self.0)
    }
}

const STATE: &[u8] = b"device state";

fn memory() -> Vec<u8> {
    noise(1, 2 * PAGE)
}

/// A line for each file.
fn files(table: &str, files: &[(&str, &[u8])]) -> String {
    files.iter().fold(String::new(), |mut text, (path, content)| {
        let (size, digest) = (content.len(), sha256(content));
        write!(text, "[[{table}]]\npath = {path:?}\nsize = {size}\nsha256 = \"{digest}\"\n").unwrap();
        text
    })
}

fn head(version: i64, tag: &str) -> String {
    format!(
        "forkd_pack_version = {version}\ntag = {tag:?}\ncreated_at = \"2026-01-01T00:00:00Z\"\nforkd_version = \"0.5.3\"\n"
    )
}

fn manifest() -> String {
    head(1, "t") + &files("files", &[("vmstate", STATE), ("memory.bin", &memory())])
}

/// A good pack up to the end mark.
fn good() -> Tar {
    with_manifest(&manifest())
}

fn with_manifest(manifest: &str) -> Tar {
    Tar::default()
        .file("manifest.toml", manifest.as_bytes())
        .file("vmstate", STATE)
        .file("memory.bin", &memory())
}

#[track_caller]
fn refused(pack: &[u8], why: &str) {
    let reason = refusal(pack);
    assert!(reason.contains(why), "{reason}");
}

#[track_caller]
fn manifest_refused(change: impl FnOnce(String) -> String, why: &str) {
    refused(&with_manifest(&change(manifest())).end(), why);
}

#[test]
fn the_good_one_is_taken() {
    let (_, store) = unpack(&good().end()).unwrap();
    assert_eq!((store.content(0, Role::Memory), store.content(0, Role::Vmstate)), (memory(), STATE.to_vec()));
}

#[test]
fn traversal_and_absolute_names_of_entries() {
    for name in
        ["../memory.bin", "/etc/passwd", "./memory.bin", "a/../memory.bin", "t/memory.bin", "memory.bin/"]
    {
        let tar = Tar::default().file("manifest.toml", manifest().as_bytes()).file("vmstate", STATE);
        let reason = refusal(&tar.clone().file(name, &memory()).end());
        // a closing slash makes a directory, which has no content
        assert!(reason.contains("is not declared") || name.ends_with('/'), "{reason}");
    }
    for name in ["../..", "/", "a/../../b", "/etc/cron.d/"] {
        refused(&good().header(b'5', name.as_bytes(), 0).end(), "leads out of the pack");
    }
}

#[test]
fn traversal_and_absolute_names_in_tags() {
    for tag in ["../../etc/x", "/etc", "..", ".", "", "a/b", "a\\u0000b", "a\\nb", "ä", &"a".repeat(65)] {
        manifest_refused(|m| m.replacen("tag = \"t\"", &format!("tag = \"{tag}\""), 1), "not allowed");
        let two = v2(&[("a", None, None)]).replacen(
            "[[chain]]\ntag = \"a\"",
            &format!("[[chain]]\ntag = \"{tag}\""),
            1,
        );
        refused(&with_manifest(&two).end(), "not allowed");
    }
}

#[test]
fn traversal_and_absolute_names_in_declared_paths() {
    for path in [
        "../memory.bin",
        "/memory.bin",
        "./memory.bin",
        "manifest.toml",
        "t/memory.bin",
        "memory.bin\\u0000",
        "",
    ] {
        manifest_refused(|m| m.replacen("\"memory.bin\"", &format!("\"{path}\""), 1), "which no pack has");
    }
}

#[test]
fn target_paths_are_never_followed() {
    for path in ["/etc/passwd", "../../../etc/passwd", "~/x", "a\\nb"] {
        let rootfs =
            format!("[rootfs]\ntarget_path = \"{path}\"\nsha256 = \"{}\"\nsize = 3\n", sha256(b"abc"));
        let (unpacked, store) = unpack(&with_manifest(&(manifest() + &rootfs)).end()).unwrap();
        assert!(unpacked.manifest.rootfs.is_some());
        assert_eq!(
            store.files.keys().map(|(_, role)| *role).collect::<Vec<_>>(),
            [Role::Vmstate, Role::Memory]
        );
    }
    let rootfs =
        format!("[rootfs]\ntarget_path = \"a\\u001b[2J\"\nsha256 = \"{}\"\nsize = 3\n", sha256(b"abc"));
    refused(&with_manifest(&(manifest() + &rootfs)).end(), "control characters");
}

#[test]
fn digests_that_are_none() {
    let digest = sha256(&memory()).to_string();
    for bad in ["../../../../etc/passwd", "", "00", &"g".repeat(64), &format!("{digest}0"), &digest[..63]] {
        manifest_refused(|m| m.replacen(&digest, bad, 1), "is not a SHA-256 digest");
    }
    let rootfs = "[rootfs]\ntarget_path = \"x\"\nsha256 = \"../../../../../../../../../../../../../../etc/passwd\"\nsize = 1\n";
    refused(&with_manifest(&(manifest() + rootfs)).end(), "is not a SHA-256 digest");
}

#[test]
fn digests_in_capitals_are_read() {
    let digest = sha256(&memory()).to_string();
    unpack(&with_manifest(&manifest().replacen(&digest, &digest.to_uppercase(), 1)).end()).unwrap();
}

#[test]
fn headers_that_rename_what_follows() {
    let record = b"24 path=../../etc/passwd\n";
    let tricks = [
        (b'x', &record[..]),
        (b'g', &record[..]),
        (b'X', b"20 GNU.sparse.size=9\n"),
        (b'L', b"../../etc/passwd\0"),
        (b'K', b"/etc/passwd\0"),
        (b'V', b""),
    ];
    for (kind, data) in tricks {
        let trick = |tar: Tar| tar.header(kind, b"././@LongLink", data.len() as u64).content(data);
        let tar = trick(Tar::default()).file("manifest.toml", manifest().as_bytes());
        refused(&tar.file("vmstate", STATE).file("memory.bin", &memory()).end(), "extends another");
        let tar = trick(Tar::default().file("manifest.toml", manifest().as_bytes()).file("vmstate", STATE));
        refused(&tar.file("memory.bin", &memory()).end(), "extends another");
        refused(&trick(good()).end(), "extends another");
    }
}

#[test]
fn a_manifest_twice_missing_late_or_odd() {
    let text = manifest();
    refused(&good().file("manifest.toml", text.as_bytes()).end(), "comes a second time");
    let files = || Tar::default().file("vmstate", STATE).file("memory.bin", &memory());
    refused(&files().end(), "does not begin with manifest.toml");
    refused(&files().file("manifest.toml", text.as_bytes()).end(), "does not begin with manifest.toml");
    refused(&Tar::default().end(), "the pack is empty");
    for kind in *b"1235 6" {
        let tar = Tar::default().header(kind, b"manifest.toml", 0).0;
        assert!(unpack(&compressed(&[tar, good().0].concat())).is_err());
    }
    refused(&Tar::default().sparse("manifest.toml", 4096, &[]).end(), "does not begin with");
    refused(&with_manifest("").end(), "forkd_pack_version");
    refused(&with_manifest("\u{1}").end(), "cannot be read");
    let tar = Tar::default().file("manifest.toml", b"tag = \"\xff\"");
    refused(&tar.end(), "not UTF-8");
}

#[test]
fn nothing_declared() {
    for files in ["", "files = []\n", "files = []\nchain = []\n"] {
        refused(&with_manifest(&(head(1, "t") + files)).end(), "declares no files");
    }
    let tar = Tar::default()
        .file("manifest.toml", (head(1, "t") + &files("files", &[("vmstate", STATE)])).as_bytes());
    refused(&tar.file("vmstate", STATE).end(), "declares no memory.bin");
}

#[test]
fn what_is_not_declared_is_not_taken() {
    for name in ["snapshot.json", "rootfs.ext4", "extra", "manifest.toml.minisig", "\u{1b}[2J"] {
        refused(&good().file(name, b"extra").end(), "pack");
    }
    refused(&good().file("vmstate", STATE).end(), "comes a second time");
    refused(&good().file("memory.bin", &memory()).end(), "comes a second time");
}

#[test]
fn what_is_declared_and_missing() {
    let tar = Tar::default().file("manifest.toml", manifest().as_bytes());
    refused(&tar.clone().end(), "does not hold vmstate");
    refused(&tar.file("vmstate", STATE).end(), "does not hold memory.bin");
}

#[test]
fn declared_twice() {
    let twice = manifest() + &files("files", &[("memory.bin", &memory())]);
    refused(&with_manifest(&twice).end(), "declares memory.bin twice");
}

#[test]
fn files_of_one_image_in_any_order_are_read() {
    let tar = Tar::default().file("manifest.toml", manifest().as_bytes()).file("memory.bin", &memory());
    unpack(&tar.file("vmstate", STATE).end()).unwrap();
}

#[test]
fn a_wrong_size() {
    for size in ["0", "8191", "8193", "9223372036854775807", "9223372036854775808"] {
        let reason =
            refusal(&with_manifest(&manifest().replacen("size = 8192", &format!("size = {size}"), 1)).end());
        assert!(
            reason.contains("8192 bytes and is declared with")
                || reason.contains("at most")
                || reason.contains("may have"),
            "{reason}"
        );
    }
    for size in ["-1", "1.5", "\"8192\"", "0x10000000000000000"] {
        manifest_refused(|m| m.replacen("size = 8192", &format!("size = {size}"), 1), "cannot be read");
    }
}

#[test]
fn a_wrong_digest() {
    for content in [STATE, &memory()] {
        let digest = sha256(content).to_string();
        let pack = with_manifest(&manifest().replacen(&digest, &"0".repeat(64), 1)).end();
        let error = unpack(&pack).map(|_| ()).unwrap_err();
        assert!(matches!(error, PackError::Corrupt { .. }), "{error}");
    }
    let json = head(1, "t")
        + &files("files", &[("snapshot.json", b"{}"), ("vmstate", STATE), ("memory.bin", &memory())]);
    let tar = Tar::default().file("manifest.toml", json.as_bytes()).file("snapshot.json", b"{ ");
    refused(&tar.file("vmstate", STATE).file("memory.bin", &memory()).end(), "snapshot.json in the pack");
}

#[test]
fn versions_that_are_none_or_not_known() {
    for (version, why) in
        [(0, "0 or less"), (-1, "0 or less"), (3, "newer"), (4, "newer"), (i64::MAX, "newer")]
    {
        let pack =
            with_manifest(&manifest().replacen("version = 1", &format!("version = {version}"), 1)).end();
        refused(&pack, why);
        let code = tine_model::Error::from(unpack(&pack).map(|_| ()).unwrap_err()).code;
        assert_eq!(code, if version > 0 { ErrorCode::Incompatible } else { ErrorCode::InvalidInput });
    }
    manifest_refused(|m| m.replacen("version = 1", "version = 2", 1), "where its layout has none");
    refused(&with_manifest(&(head(2, "t") + "files = []\n")).end(), "no images");
    refused(&with_manifest(&(head(2, "t") + "files = []\nchain = []\n")).end(), "no images");
    manifest_refused(|m| m.replacen("version = 1", "version = \"1\"", 1), "cannot be read");
}

#[test]
fn links_devices_fifos_and_stranger_things() {
    for kind in *b"1234567DMN" {
        let tar = Tar::default().file("manifest.toml", manifest().as_bytes()).file("vmstate", STATE);
        let mut tar = tar.header(kind, b"memory.bin", 0);
        let header = tar.0.len() - 512;
        tar.0[header + 157..header + 168].copy_from_slice(b"/etc/passwd");
        let reason = refusal(&compressed(&[tar.0, vec![0; 1024]].concat()));
        assert!(!reason.is_empty());
        // with a right checksum too
        let tar = Tar::default().file("manifest.toml", manifest().as_bytes()).file("vmstate", STATE);
        let reason = refusal(&tar.header(kind, b"memory.bin", 0).end());
        let known = ["neither a regular file", "is not read", "declared", "does not hold"];
        assert!(known.iter().any(|why| reason.contains(why)), "{kind}: {reason}");
    }
}

#[test]
fn directories_are_harmless_and_bounded() {
    let tar = Tar::default().file("manifest.toml", manifest().as_bytes()).header(b'5', b"t/", 0);
    let tar = tar.file("vmstate", STATE).header(b'5', b"./", 0).file("memory.bin", &memory());
    let (_, store) = unpack(&tar.end()).unwrap();
    assert_eq!(store.files.len(), 2);
    let many = (0..300).fold(good(), |tar, _| tar.header(b'5', b"d/", 0));
    refused(&many.end(), "directories");
}

#[test]
fn names_that_are_not_utf_8() {
    for kind in *b"05" {
        refused(&good().header(kind, b"\xff\xfe", 0).end(), "not UTF-8");
    }
}

#[test]
fn truncated_trailing_and_other_bytes() {
    let pack = good().end();
    for bad in [&b""[..], b"x", b"PK\x03\x04", b"\x1f\x8b\x08", &good().0, &[0; 10240]] {
        assert!(unpack(bad).is_err());
    }
    for tail in
        [&b"x"[..], &[0; 4], &[0x28, 0xb5, 0x2f, 0xfd], &noise(1, 100), &pack[..pack.len() - 1], &pack]
    {
        assert!(unpack(&[&pack, tail].concat()).is_err(), "{} bytes more", tail.len());
    }
    // a frame to be skipped is no content
    let skippable = [&0x184d_2a50u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
    unpack(&[&skippable[..], &pack, &skippable].concat()).unwrap();
    // any number of frames
    let tar = zstd::decode_all(pack.as_slice()).unwrap();
    let frames: Vec<u8> = tar.chunks(700).flat_map(compressed).collect();
    unpack(&frames).unwrap();
    // no end mark
    assert!(unpack(&compressed(&good().0)).is_err());
    let mut after = good().0;
    after.extend([0; 1024]);
    after.extend(Tar::default().file("memory.bin", b"x").0);
    refused(&compressed(&after), "after the end");
    let mut long = good().0;
    long.extend(vec![0; 64 << 20]);
    refused(&compressed(&long), "more than 1 MiB after the end");
}

#[test]
fn a_stream_that_breaks_is_told_of() {
    let machines = chain(2, 3);
    for layout in [Layout::V2, Layout::V3] {
        let pack = pack(&source(layout, &machines));
        for length in [0, 100, pack.len() / 2, pack.len() - 5] {
            let mut input = Broken(&pack[..length]);
            let error = read(&mut input, &Limits::default(), &mut Store::default(), &Silent).unwrap_err();
            assert!(matches!(error, PackError::Io { .. }), "{error:?}");
        }
    }
}

#[test]
fn a_manifest_of_hundreds_of_mebibytes() {
    let mut tar = Tar::default().header(b'0', b"manifest.toml", 400 << 20).0;
    tar.resize(tar.len() + (400 << 20), b'#');
    let pack = compressed(&tar);
    assert!(pack.len() < 1 << 20);
    let begun = Instant::now();
    refused(&pack, "manifest.toml in the pack has more than 1048576 bytes");
    assert!(begun.elapsed().as_secs() < 30);
    // without one that large, too
    let comment = "#".repeat(1 << 20);
    refused(&with_manifest(&(manifest() + &comment)).end(), "more than 1048576 bytes");
}

#[test]
fn manifests_that_are_deep_wide_or_long() {
    let deep = format!("x = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    manifest_refused(|m| deep + &m, "cannot be read");
    let wide = format!("x = [{}]\n", "[],".repeat(200_000));
    unpack(&with_manifest(&(wide + &manifest())).end()).unwrap();
    assert_little_memory();
    manifest_refused(|m| format!("description = \"{}\"\n", "d".repeat(4097)) + &m, "more than 4096 bytes");
    manifest_refused(|m| "description = \"\\u001b]0;x\\u0007\"\n".to_owned() + &m, "control characters");
    manifest_refused(|m| "tag = \"t\"\n".to_owned() + &m, "cannot be read");
}

#[test]
fn gigabytes_of_zeros_from_a_few_kilobytes() {
    let size = 2u64 << 30;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let digest = "a7c744c13cc101ed66c29f672f92455547889cc586ce6d44fe76ae824958ea51";
    let text = head(1, "t")
        + &files("files", &[("vmstate", STATE)])
        + &format!("[[files]]\npath = \"memory.bin\"\nsize = {size}\nsha256 = \"{digest}\"\n");
    let tar = Tar::default().file("manifest.toml", text.as_bytes()).file("vmstate", STATE);
    let tar = tar.header(b'0', b"memory.bin", size);
    std::io::Write::write_all(&mut encoder, &tar.0).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size + 1024), &mut encoder).unwrap();
    let pack = encoder.finish().unwrap();
    assert!(pack.len() < 300_000, "{}", pack.len());
    // what is declared is read, and takes no room; what is not declared is not read
    let mut store = Store::default();
    let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
    let unpacked = read(&mut pack.as_slice(), &limits, &mut store, &Silent).unwrap();
    assert_eq!(unpacked.links[0].memory, tine_digest::ChunkSums::new().digest());
    assert_eq!(store.allocated(0, Role::Memory), 0);
    assert_little_memory();
    let other = text.replace(&size.to_string(), "4096");
    let tar = Tar::default().file("manifest.toml", other.as_bytes()).file("vmstate", STATE);
    refused(&compressed(&tar.header(b'0', b"memory.bin", size).0), "and is declared with 4096");
}

#[test]
fn a_sparse_entry_that_claims_a_terabyte() {
    let size = 1u64 << 40;
    let declared = |size: u64| {
        head(1, "t")
            + &files("files", &[("vmstate", STATE)])
            + &format!("[[files]]\npath = \"memory.bin\"\nsize = {size}\nsha256 = \"{}\"\n", "0".repeat(64))
    };
    let small = Tar::default().file("manifest.toml", declared(4096).as_bytes()).file("vmstate", STATE);
    refused(&small.sparse("memory.bin", size, &[]).end(), "and is declared with 4096");
    let large = Tar::default().file("manifest.toml", declared(size + 1).as_bytes()).file("vmstate", STATE);
    refused(&large.sparse("memory.bin", size + 1, &[]).end(), "at most 1099511627776 are read");
    // maps that lie about what they hold
    for data in [&[(0u64, 8192u64)][..], &[(8192, 4096)], &[(4096, 4096), (0, 4096)], &[(u64::MAX, 1)]] {
        let map = SparseMap { size: 8192, data: data.to_vec() };
        let mut tar = Tar::default().file("manifest.toml", declared(8192).as_bytes()).file("vmstate", STATE);
        tar.0.extend(GnuFile { name: "memory.bin", mtime: 0 }.sparse(&map));
        assert!(unpack(&tar.content(&noise(1, 4096)).end()).is_err(), "{data:?}");
    }
}

/// Cancelled some time after it was made.
struct Impatient(Instant);

impl Reporter for Impatient {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.0.elapsed() > Duration::from_millis(200)
    }
}

#[test]
fn a_terabyte_of_zeros_before_or_after_data_is_not_waited_for_when_cancelled() {
    let (size, data) = (1u64 << 40, noise(1, 32 << 20));
    let text = head(1, "t")
        + &files("files", &[("vmstate", STATE)])
        + &format!("[[files]]\npath = \"memory.bin\"\nsize = {size}\nsha256 = \"{}\"\n", "0".repeat(64));
    for at in [0, size - data.len() as u64] {
        let tar = Tar::default().file("manifest.toml", text.as_bytes()).file("vmstate", STATE);
        let pack = tar.sparse("memory.bin", size, &[(at, &data)]).end();
        let impatient = Impatient(Instant::now());
        let mut store = Store::default();
        let result = read(&mut pack.as_slice(), &Limits::default(), &mut store, &impatient);
        assert!(matches!(result, Err(PackError::Cancelled)), "{result:?}");
        // its digest would take minutes
        assert!(impatient.0.elapsed() < Duration::from_secs(20), "{:?}", impatient.0.elapsed());
    }
}

/// A manifest of layout 2: tag, parent and hash of each link, all with the same files.
fn v2(links: &[(&str, Option<&str>, Option<String>)]) -> String {
    let mut text = head(2, links.last().unwrap().0) + "files = []\n";
    for (tag, parent, hash) in links {
        write!(text, "[[chain]]\ntag = {tag:?}\n").unwrap();
        parent.iter().for_each(|parent| writeln!(text, "parent_tag = {parent:?}").unwrap());
        hash.iter().for_each(|hash| writeln!(text, "parent_content_hash = {hash:?}").unwrap());
        text += &files("chain.files", &[("vmstate", STATE), ("memory.bin", &memory())]);
    }
    text
}

fn v2_pack(manifest: &str, tags: &[&str]) -> Vec<u8> {
    let start = Tar::default().file("manifest.toml", manifest.as_bytes());
    let tar = tags.iter().fold(start, |tar, tag| {
        tar.file(&format!("{tag}/vmstate"), STATE).file(&format!("{tag}/memory.bin"), &memory())
    });
    tar.end()
}

#[test]
fn chains_with_cycles_doubles_gaps_and_wrong_hashes() {
    let hash = || Some(sha256(&memory()).to_string());
    let good = [("a", None, None), ("b", Some("a"), hash()), ("c", Some("b"), hash())];
    unpack(&v2_pack(&v2(&good), &["a", "b", "c"])).unwrap();
    let parent = "has another parent than the image before it";
    for (links, why) in [
        (vec![("a", Some("b"), hash()), ("b", Some("a"), hash())], parent),
        (vec![("a", Some("a"), hash())], parent),
        (vec![("b", Some("a"), hash())], parent),
        (vec![("a", None, None), ("b", None, None)], parent),
        (vec![("a", None, None), ("c", Some("b"), hash()), ("b", Some("a"), hash())], parent),
        (vec![("a", None, None), ("a", Some("a"), hash())], "is in the manifest twice"),
        (vec![("a", None, hash())], "another digest of its parent's memory"),
        (
            vec![("a", None, None), ("b", Some("a"), Some("0".repeat(64)))],
            "another digest of its parent's memory",
        ),
        (
            vec![("a", None, None), ("b", Some("a"), hash()), ("c", Some("b"), Some("0".repeat(64)))],
            "made of another memory",
        ),
    ] {
        let tags: Vec<_> = links.iter().map(|link| link.0).collect();
        let reason = refusal(&v2_pack(&v2(&links), &tags));
        assert!(reason.contains(why), "{reason}");
    }
    for (order, why) in [
        (&["b", "a", "c"][..], "not in its place"),
        (&["a", "b"], "does not hold c/"),
        (&["a", "b", "c", "a"], "comes a second time"),
        (&["a", "b", "c", "d"], "is not declared"),
    ] {
        refused(&v2_pack(&v2(&good), order), why);
    }
    let other = v2(&good).replacen("tag = \"c\"", "tag = \"b\"", 1);
    refused(&v2_pack(&other, &["a", "b", "c"]), "not the one it is named after");
    let parent = v2(&good).replacen("files = []", "parent_tag = \"a\"\nfiles = []", 1);
    refused(&v2_pack(&parent, &["a", "b", "c"]), "not that of its last link");
}

#[test]
fn chains_that_are_too_deep() {
    let tags: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    let hash = sha256(&memory()).to_string();
    let links = |n: usize| -> Vec<_> {
        let parent = |i: usize| i.checked_sub(1).map(|p| tags[p].as_str());
        (0..n).map(|i| (tags[i].as_str(), parent(i), parent(i).map(|_| hash.clone()))).collect()
    };
    let names: Vec<&str> = tags.iter().map(String::as_str).collect();
    unpack(&v2_pack(&v2(&links(64)), &names[..64])).unwrap();
    refused(&v2_pack(&v2(&links(65)), &names), "at most 64 are read");
}

/// A chain of layout 2 whose second link holds only what differs.
pub struct DeltaChain {
    pub pack: Vec<u8>,
    pub second: Vec<u8>,
    pub third: Vec<u8>,
}

/// What a test may change of it.
pub struct DeltaParts {
    pub second_hash: Option<String>,
    pub third_hash: Option<String>,
}

pub fn delta_chain(change: impl FnOnce(&mut DeltaParts)) -> DeltaChain {
    let first = [noise(1, CHUNK), vec![0; CHUNK], noise(2, 3 * PAGE)].concat();
    let patch =
        [(PAGE + 512, noise(3, 1024)), (CHUNK + PAGE, noise(4, 2 * PAGE)), (2 * CHUNK, vec![0; PAGE])];
    let (mut second, mut alone) = (first.clone(), vec![0; first.len()]);
    for (at, bytes) in &patch {
        second[*at..at + bytes.len()].copy_from_slice(bytes);
        alone[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let third = noise(9, first.len());
    let mut parts = DeltaParts {
        second_hash: Some(sha256(&first).to_string()),
        third_hash: Some(sha256(&second).to_string()),
    };
    change(&mut parts);
    let mut text = head(2, "c") + "files = []\n";
    let links = [
        ("a", None, None, &first),
        ("b", Some("a"), parts.second_hash, &alone),
        ("c", Some("b"), parts.third_hash, &third),
    ];
    for (tag, parent, hash, memory) in links {
        write!(text, "[[chain]]\ntag = {tag:?}\n").unwrap();
        parent.iter().for_each(|parent| writeln!(text, "parent_tag = {parent:?}").unwrap());
        hash.iter().for_each(|hash| writeln!(text, "parent_content_hash = {hash:?}").unwrap());
        text += &files("chain.files", &[("vmstate", STATE), ("memory.bin", memory)]);
    }
    let data: Vec<(u64, &[u8])> = patch.iter().map(|(at, bytes)| (*at as u64, bytes.as_slice())).collect();
    let tar = Tar::default()
        .file("manifest.toml", text.as_bytes())
        .file("a/vmstate", STATE)
        .file("a/memory.bin", &first)
        .file("b/vmstate", STATE)
        .sparse("b/memory.bin", first.len() as u64, &data)
        .file("c/vmstate", STATE)
        .file("c/memory.bin", &third);
    DeltaChain { pack: tar.end(), second, third }
}

#[test]
fn deltas_of_what_is_not_the_parent() {
    // the digest of the member instead of the whole is as good
    let alone = delta_chain(|_| {});
    let manifest = zstd::decode_all(alone.pack.as_slice()).unwrap();
    let text = String::from_utf8_lossy(&manifest[512..2048]).into_owned();
    let declared =
        text.split("tag = \"b\"").nth(1).unwrap().split("sha256 = \"").nth(2).unwrap()[..64].to_owned();
    unpack(&delta_chain(|parts| parts.third_hash = Some(declared)).pack).unwrap();
    refused(&delta_chain(|parts| parts.second_hash = None).pack, "differs from nothing known");
    let wrong = || Some("1".repeat(64));
    refused(&delta_chain(|parts| parts.second_hash = wrong()).pack, "another digest of its parent's memory");
    refused(&delta_chain(|parts| parts.third_hash = wrong()).pack, "made of another memory");
}

#[test]
fn a_map_of_very_many_stretches_takes_bounded_memory() {
    let map =
        |count: u64| SparseMap { size: count * 8192, data: (0..count).map(|n| (n * 8192, 1)).collect() };
    let pack = |count: u64| {
        let map = map(count);
        let text = head(1, "t")
            + &files("files", &[("vmstate", STATE)])
            + &format!(
                "[[files]]\npath = \"memory.bin\"\nsize = {}\nsha256 = \"{}\"\n",
                map.size,
                "0".repeat(64)
            );
        let mut tar = Tar::default().file("manifest.toml", text.as_bytes()).file("vmstate", STATE);
        tar.0.extend(GnuFile { name: "memory.bin", mtime: 0 }.sparse(&map));
        compressed(&tar.0)
    };
    refused(&pack((1 << 20) + 100), "too many stretches");
    // the pack and its parts take memory here too
    let begun = peak();
    refused(&pack(1 << 19), "cut off");
    assert!(begun.is_none_or(|begun| peak().is_some_and(|peak| peak < begun + (96 << 20))));
}

/// The most memory that this process has had so far in bytes; none where it runs other tests as well.
fn peak() -> Option<u64> {
    std::env::var_os("NEXTEST")?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

#[track_caller]
fn assert_little_memory() {
    if let Some(peak) = peak() {
        assert!(peak < 96 << 20, "{peak}");
    }
}
