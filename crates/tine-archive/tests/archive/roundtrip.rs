//! What is written reads back the same, here and by GNU tar; what GNU tar writes reads back the same here.

use crate::support::{Tar, Target, gzip, is_root, read};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};
use tine_archive::{Limits, Policy, WriteStats, write};
use tine_model::{Reporter, Silent};
use tine_sys::tree::Tree;

fn written(root: &Path, start: &str, name: Option<&str>) -> (Vec<u8>, WriteStats) {
    let mut out = Vec::new();
    let tree = Tree::open(root).unwrap();
    let stats = write(&tree, Path::new(start), name.map(OsStr::new), &mut out, &Silent).unwrap();
    (out, stats)
}

/// Everything an archive keeps, by path.
fn described(root: &Path) -> BTreeMap<OsString, String> {
    let (mut all, mut todo, mut inodes) = (BTreeMap::new(), vec![root.to_path_buf()], BTreeMap::new());
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().to_os_string();
        let content = match () {
            () if meta.is_file() => format!("{:?}", fs::read(&path).unwrap()),
            () if meta.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            () => String::new(),
        };
        let mut value = [0; 64];
        let xattr = rustix::fs::lgetxattr(&path, "user.k", &mut value).map_or(0, |n| n);
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let text = format!(
            "{:o} {}:{} {:x} {links} {}.{:09} {:?} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev(),
            meta.mtime(),
            meta.mtime_nsec(),
            &value[..xattr]
        );
        if !meta.is_dir() && meta.nlink() > 1 {
            inodes.entry(meta.ino()).or_insert_with(Vec::new).push(name.clone());
        }
        all.insert(name, text);
    }
    for mut names in inodes.into_values() {
        names.sort();
        let first = names[0].clone();
        for name in names {
            all.get_mut(&name).unwrap().push_str(&format!(" = {first:?}"));
        }
    }
    all
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// A tree with every kind of object, names of every length, odd bytes, holes, hard links, owners and times.
fn random_tree(root: &Path, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut dirs, mut files): (Vec<PathBuf>, Vec<PathBuf>) = (vec![root.to_path_buf()], Vec::new());
    for i in 0..40u32 {
        let stem: &[u8] =
            [&b"plain"[..], b"new\nline", b"\xff\xfe", b" blank ", b"h\xc3\xa4llo"][random.below(5)];
        let long = "x".repeat([0, 0, 90, 110, 200][random.below(5)]);
        let name = [stem, long.as_bytes(), i.to_string().as_bytes()].concat();
        let path = dirs[random.below(dirs.len())].join(OsStr::from_bytes(&name));
        match random.below(8) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                dirs.push(path.clone());
            }
            2 => symlink("../".repeat(random.below(60)) + "target", &path).unwrap(),
            3 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            4 => {
                let null = rustix::fs::makedev(1, 3);
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), null)
                    .unwrap();
            }
            5 if !files.is_empty() => fs::hard_link(&files[random.below(files.len())], &path).unwrap(),
            6 => {
                let file = fs::File::create(&path).unwrap();
                file.set_len(300_000 + random.below(9000) as u64).unwrap();
                (0..random.below(3)).for_each(|at| file.write_all_at(b"data", 70_000 * at as u64).unwrap());
                files.push(path.clone());
            }
            _ => {
                fs::write(&path, vec![i as u8; random.below(2000)]).unwrap();
                rustix::fs::setxattr(&path, "user.k", b"v\0\n", XattrFlags::empty()).unwrap();
                files.push(path.clone());
            }
        }
        lchown(&path, Some([0, 1000, 4_000_000_000][random.below(3)]), Some(7)).unwrap();
        if !path.is_symlink() {
            let mode = [0o4755, 0o644, 0o700, 0o1777][random.below(4)];
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let seconds = [0, -5, 1_700_000_000, 9_000_000_000][random.below(4)];
        set_time(&path, seconds, [0, 123_456_789][random.below(2)]);
    }
    dirs.iter().for_each(|dir| set_time(dir, 1_600_000_000, 5));
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let spec = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: spec, last_modification: spec };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn random_trees_read_back_the_same() {
    if !is_root() {
        return;
    }
    for seed in 1..=25 {
        let (from, to, again) = (Target::new(), Target::new(), Target::new());
        random_tree(&from.path(""), seed);
        let (tar, _) = written(&from.path(""), "/", None);
        to.extract(&tar).unwrap();
        let expected = described(&from.path(""));
        assert_eq!(described(&to.path("")), expected, "seed {seed}");
        // the order does not depend on the file system's
        assert_eq!(written(&to.path(""), "/", None).0, tar, "seed {seed}");
        again.extract(&gzip(&tar)).unwrap();
        assert_eq!(described(&again.path("")), expected, "seed {seed}, gzip");
    }
}

#[test]
fn gnu_tar_reads_what_is_written_and_is_read() {
    if !is_root() {
        return;
    }
    for (seed, format) in [(101, "gnu"), (102, "posix"), (103, "gnu"), (104, "posix")] {
        let (from, by_tar, by_us, dir) =
            (Target::new(), Target::new(), Target::new(), tempfile::tempdir().unwrap());
        random_tree(&from.path(""), seed);
        let file = dir.path().join("a.tar");
        fs::write(&file, written(&from.path(""), "/", None).0).unwrap();
        let tar = |args: &[&str], at: &Path| {
            let done = Command::new("tar")
                .args(args)
                .arg("-f")
                .arg(&file)
                .arg("-C")
                .arg(at)
                .arg(".")
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        let done = Command::new("tar")
            .args(["-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-f"])
            .arg(&file)
            .arg("-C")
            .arg(by_tar.path(""))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(described(&by_tar.path("")), described(&from.path("")), "seed {seed}");
        let format = format!("--format={format}");
        let xattrs = if format.ends_with("posix") { "--xattrs" } else { "--no-xattrs" };
        tar(&["-c", "--sparse", xattrs, "--numeric-owner", &format], &from.path(""));
        by_us.extract(&fs::read(&file).unwrap()).unwrap();
        let (mut was, mut is) = (described(&from.path("")), described(&by_us.path("")));
        if format.ends_with("gnu") {
            // that format has neither fractions of seconds nor attributes
            for text in was.values_mut().chain(is.values_mut()) {
                *text =
                    text.replace(".123456789", ".0").replace(".000000005", ".0").replace(".000000000", ".0");
                *text = text.replace("[118, 0, 10]", "[]");
            }
        }
        assert_eq!(is, was, "seed {seed} {format}");
    }
}

#[test]
fn holes_stay_holes_and_giants_cost_nothing() {
    let (from, to) = (Target::new(), Target::new());
    let file = fs::File::create(from.path("giant")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_at(b"here", 1 << 39).unwrap();
    let (tar, stats) = written(&from.path(""), "/", None);
    assert!(tar.len() < 100_000 && stats.bytes < 100_000, "{stats:?}");
    to.extract(&tar).unwrap();
    let meta = fs::metadata(to.path("giant")).unwrap();
    assert!(meta.len() == 1 << 40 && meta.blocks() < 1000);
    let mut back = [0; 4];
    fs::File::open(to.path("giant")).unwrap().read_exact_at(&mut back, 1 << 39).unwrap();
    assert_eq!(&back, b"here");
}

#[test]
fn one_file_or_one_directory_has_the_name_it_is_given() {
    let from = Target::new();
    fs::create_dir_all(from.path("etc/x")).unwrap();
    fs::write(from.path("etc/x/f"), "content").unwrap();
    symlink("/etc/shadow", from.path("etc/l")).unwrap();
    for (start, name, made) in [("/etc/x", "y", "y/f"), ("/etc/x/f", "g", "g"), ("etc//x/../x", "z", "z/f")] {
        let to = Target::new();
        to.extract(&written(&from.path(""), start, Some(name)).0).unwrap();
        assert_eq!(read(to.path(made)), "content");
    }
    let to = Target::new();
    to.extract(&written(&from.path(""), "/etc/l", Some("l")).0).unwrap();
    assert_eq!(fs::read_link(to.path("l")).unwrap(), Path::new("/etc/shadow"));
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, _: &str) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn sockets_are_left_out_with_a_note() {
    let from = Target::new();
    let _socket = std::os::unix::net::UnixListener::bind(from.path("s")).unwrap();
    let (mut out, notes) = (Vec::new(), Notes::default());
    let stats = write(&from.tree(), Path::new("/"), None, &mut out, &notes).unwrap();
    assert_eq!((stats.members, notes.0.into_inner().unwrap()), (1, vec!["s: socket left out".to_owned()]));
}

/// A writer during whose work a file shrinks to nothing and another grows.
struct Meddler<'a>(Vec<u8>, &'a Path);

impl std::io::Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        fs::File::options().write(true).open(self.1.join("shrinks"))?.set_len(10)?;
        fs::File::options().append(true).open(self.1.join("grows"))?.write_all(b"more")?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_size_meanwhile_breaks_nothing() {
    let (from, to) = (Target::new(), Target::new());
    fs::write(from.path("grows"), vec![1; 3 << 20]).unwrap();
    fs::write(from.path("shrinks"), vec![2; 4 << 20]).unwrap();
    fs::write(from.path("z-last"), "last").unwrap();
    let mut out = Meddler(Vec::new(), &from.path(""));
    let notes = Notes::default();
    write(&from.tree(), Path::new("/"), None, &mut out, &notes).unwrap();
    to.extract(&out.0).unwrap();
    assert_eq!(read(to.path("z-last")), "last");
    assert_eq!(fs::metadata(to.path("grows")).unwrap().len(), 3 << 20);
}

#[test]
fn a_tar_by_another_library_reads_back() {
    let long = "long/".repeat(40) + "name";
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o600);
    builder.append_data(&mut header.clone(), &long, &b"long"[..]).unwrap();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "link", &long).unwrap();
    let target = Target::new();
    target.extract(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(read(target.path(&long)), "long");
    assert_eq!(fs::read_link(target.path("link")).unwrap(), Path::new(&long));
}

#[test]
fn a_copy_leaves_the_directory_it_goes_into_alone() {
    let target = Target::new();
    fs::create_dir(target.path("tmp")).unwrap();
    fs::set_permissions(target.path("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let tar = Tar::default().dir(".").dir("tmp").file("tmp/f", b"x").end();
    target.extract_as(&tar, &Policy::copy(), &Limits::default()).unwrap();
    assert_eq!(fs::metadata(target.path("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert!(
        fs::metadata(target.path("")).unwrap().modified().unwrap() > UNIX_EPOCH + Duration::from_secs(1000)
    );
}
