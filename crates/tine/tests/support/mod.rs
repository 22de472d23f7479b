//! A pool of its own for each test, and the commands typed against it.
//!
//! Everything a fixture makes is gone when it is dropped, also when the test fails.

#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test uses its own part, and fails by panicking"
)]

pub mod fingerprint;
pub mod root;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

/// Whether the host can do `ability`; without it the test is skipped loudly, or fails where `TINE_REQUIRE` names it.
pub fn able(ability: &str) -> bool {
    let problem = match ability {
        "btrfs" | "container" => root_problem(),
        "vm" => vm_problem(),
        "servers" => missing(&["nginx", "openssl"]),
        other => Some(format!("nobody knows how to look for {other}")),
    };
    let Some(problem) = problem else { return true };
    let required = std::env::var("TINE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == ability), "{ability} is required and missing: {problem}");
    eprintln!("SKIPPED: no {ability}: {problem}");
    false
}

fn root_problem() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let btrfs = filesystems.contains("btrfs")
        || Command::new("modprobe").arg("btrfs").status().is_ok_and(|s| s.success());
    (!btrfs).then(|| "the kernel has no btrfs".into())
}

fn missing(programs: &[&str]) -> Option<String> {
    programs.iter().find(|program| root::which(program).is_none()).map(|program| format!("no {program}"))
}

fn vm_problem() -> Option<String> {
    let missing = missing(&["qemu-system-x86_64", "modprobe", "mkfs.btrfs", "nft"]);
    if missing.is_some() {
        return missing;
    }
    let kernel = std::env::var_os("TINE_TEST_KERNEL").map(PathBuf::from);
    match kernel.filter(|folder| folder.join("vmlinuz").exists()) {
        Some(_) => None,
        None => Some("$TINE_TEST_KERNEL names no folder with a kernel".into()),
    }
}

/// Ends the test early, saying so, when the host lacks an ability.
#[macro_export]
macro_rules! require {
    ($ability:literal) => {
        if !support::able($ability) {
            return;
        }
    };
}

/// The tine program under test.
pub const TINE: &str = env!("CARGO_BIN_EXE_tine");

/// A pool in a folder of its own.
pub struct Fixture {
    dir: PathBuf,
}

impl Fixture {
    /// A pool of 3 GiB (sparse) without any base.
    pub fn empty() -> Self {
        Self::sized("3GiB")
    }

    /// A pool of that size without any base.
    pub fn sized(size: &str) -> Self {
        let fixture = Self::unmade();
        fixture.ok(&["init", "--size", size]);
        fixture
    }

    /// A folder in which a pool can be made.
    pub fn unmade() -> Self {
        let unique = format!("tine-test-{}-{:x}", std::process::id(), nanos());
        let dir = Path::new("/var/tmp").join(unique);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    /// A pool with a tiny `box-base`.
    pub fn new() -> Self {
        let fixture = Self::empty();
        fixture.import_tiny("box-base");
        fixture
    }

    /// A pool with a tiny `box-base` and a stopped box of each name.
    pub fn with_boxes(names: &[&str]) -> Self {
        let fixture = Self::new();
        for name in names {
            fixture.ok(&["create", name, "--no-start", "--net", "none"]);
        }
        fixture
    }

    /// Imports the tiny root under `name`.
    pub fn import_tiny(&self, name: &str) {
        let tar = self.file("tiny.tar", tiny_root());
        self.ok(&["base", "import", name, "--file", tar.to_str().unwrap()]);
    }

    /// The pool's directory.
    pub fn pool(&self) -> PathBuf {
        self.dir.join("pool")
    }

    /// A folder beside the pool, for the test's own files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file beside the pool.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Where a box's root lies.
    pub fn root_of(&self, name: &str) -> PathBuf {
        self.pool().join("boxes/default").join(name).join("root")
    }

    /// The command, to be changed before it runs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TINE);
        command.arg("--root").arg(self.pool()).args(args).stdin(Stdio::null());
        for variable in ["TINE_ROOT", "TINE_HOST", "TINE_TOKEN", "TINE_PROJECT", "TINE_HUB_URL"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        Done::new(args, self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed and gives its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    }

    /// Runs a command that must fail and gives its standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.err.starts_with("error: ") || code != 1, "{done:?}");
        done.err
    }

    /// Runs a command that must fail with this code in its JSON document.
    pub fn refuses(&self, code: &str, args: &[&str]) -> String {
        let mut words = vec!["--json"];
        words.extend(args);
        let done = self.run(&words);
        assert!([1, 2, 125].contains(&done.code), "{done:?}");
        let document: serde_json::Value =
            serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {done:?}"));
        assert_eq!(document["error"]["code"], code, "{done:?}");
        document["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Runs a command that must succeed and parses its JSON document.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut words = vec!["--json"];
        words.extend(args);
        serde_json::from_str(&self.ok(&words)).unwrap()
    }

    /// Runs a shell script in a box; it must succeed.
    pub fn sh(&self, name: &str, script: &str) -> String {
        self.ok(&["exec", name, "--", "sh", "-c", script])
    }

    /// Runs a command with this standard input.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Done::new(args, output)
    }

    /// Asserts that the store's invariants hold.
    pub fn check(&self) {
        self.ok(&["check"]);
    }

    /// Names left in the pool's staging folder.
    pub fn staging(&self) -> Vec<String> {
        names(&self.pool().join("tmp"))
    }

    /// Ids of all subvolumes in the pool, as `btrfs` sees them.
    pub fn subvolumes(&self) -> Vec<String> {
        let out = Command::new("btrfs").args(["subvolume", "list"]).arg(self.pool()).output().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::env::var_os("TINE_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
            return;
        }
        let detached = self.run(&["--yes", "detach"]);
        if detached.code != 0 {
            eprintln!("detach: {detached:?}");
            let _ = Command::new("umount").arg("-l").arg(self.pool()).output();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What a command said and how it ended; 128+n for a signal.
#[derive(Debug)]
pub struct Done {
    pub args: Vec<String>,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn new(args: &[&str], output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self {
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            code,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// File names in a folder, sorted; empty when there is none.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).map(|e| e.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let mut names: Vec<String> =
        entries.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until `condition` holds, at most a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within a minute: {what}");
}

fn tiny_root() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(root::tiny_root_tar)
}

/// Nanoseconds of the wall clock, to tell one fixture from the next.
pub fn nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}
