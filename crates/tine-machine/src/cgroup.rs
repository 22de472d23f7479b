//! The cgroups of boxes: limits, freezing, membership and removal, on cgroup version 1 (also hybrid) and 2.
//!
//! A box's groups are `tine/<box id>` below the hierarchy's mount point; monitors live in `tine/monitors`. Everything
//! goes through directory descriptors, so that it works also where the hierarchy is out of sight.

mod files;
mod limits;

use crate::{
    error::{MachineError, MachineResult},
    rundir::open_dir,
    spec::check_id,
};
use files::{is_missing, make_dir_at, open_at, read_at, write_at};
use rustix::{fs::AtFlags, io::Errno};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tine_model::Limits;

/// Where the kernel's cgroup file systems are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The group that holds everything of Tine.
const TOP: &str = "tine";
/// The group of the monitors, below [`TOP`].
const MONITORS: &str = "monitors";
/// The version 1 controllers a box has a group in.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "freezer"];
/// How long a group may take to freeze or to become empty. A program that waits for a disk does neither before that has
/// answered. Less than who asks a monitor for it waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a group of version 1 may be half frozen before it is asked to freeze again.
const RETRY: Duration = Duration::from_millis(100);

/// How the host's cgroups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Version 1 controllers, each in a hierarchy of its own.
    Split,
    /// Version 2 alone.
    Unified,
}

/// One group of a box: in version 1 one per controller, in version 2 the only one.
#[derive(Debug)]
struct Group {
    /// The controller's name; empty in version 2.
    controller: &'static str,
    /// `tine` in this hierarchy.
    top: OwnedFd,
    /// `tine/<box id>`.
    dir: OwnedFd,
}

/// The cgroups of one box.
#[derive(Debug)]
pub(crate) struct BoxCgroup {
    id: String,
    layout: Layout,
    groups: Vec<Group>,
}

/// The host's layout in words, for `doctor`.
///
/// # Errors
/// A host without cgroups where they are looked for, or without a controller that limits need.
pub fn describe() -> MachineResult<String> {
    let layout = layout()?;
    let found = hierarchies(layout);
    match layout {
        Layout::Unified => Ok("version 2".to_owned()),
        Layout::Split => {
            let names: Vec<&str> = found.iter().map(|(controller, _)| *controller).collect();
            match CONTROLLERS.iter().find(|c| !names.contains(c)) {
                Some(missing) => Err(MachineError::Unsupported(format!("no cgroup controller {missing}"))),
                None => Ok(format!("version 1 with {}", names.join(", "))),
            }
        }
    }
}

fn layout() -> MachineResult<Layout> {
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    let fs = rustix::fs::statfs(MOUNT).map_err(|e| MachineError::io("look at", MOUNT, e))?;
    Ok(if fs.f_type as i64 == CGROUP2_MAGIC { Layout::Unified } else { Layout::Split })
}

/// The hierarchies that exist, as controller and mount point.
fn hierarchies(layout: Layout) -> Vec<(&'static str, PathBuf)> {
    match layout {
        Layout::Unified => vec![("", PathBuf::from(MOUNT))],
        Layout::Split => CONTROLLERS
            .into_iter()
            .map(|c| (c, Path::new(MOUNT).join(c)))
            .filter(|(_, path)| path.join("tasks").exists())
            .collect(),
    }
}

impl BoxCgroup {
    /// Makes the groups of a box and sets its limits; groups that are there already are used.
    pub(crate) fn create(id: &str, limits: &Limits) -> MachineResult<Self> {
        check_id(id)?;
        let layout = layout()?;
        let mut groups = Vec::new();
        for (controller, mount) in hierarchies(layout) {
            groups.push(create_group(layout, controller, &mount, id)?);
        }
        let cgroup = Self { id: id.to_owned(), layout, groups };
        cgroup.set_limits(limits)?;
        Ok(cgroup)
    }

    /// The groups of a box as far as they exist.
    pub(crate) fn open(id: &str) -> MachineResult<Self> {
        check_id(id)?;
        let layout = layout()?;
        let mut groups = Vec::new();
        for (controller, mount) in hierarchies(layout) {
            let top = mount.join(TOP);
            match (open_dir(&top), open_dir(&top.join(id))) {
                (Ok(top), Ok(dir)) => groups.push(Group { controller, top, dir }),
                (Err(e), _) | (_, Err(e)) if !is_missing(&e) => return Err(e),
                _ => {}
            }
        }
        Ok(Self { id: id.to_owned(), layout, groups })
    }

    /// The group in which the monitor is to be started; only version 2 has one.
    pub(crate) fn start_dir(&self) -> Option<BorrowedFd<'_>> {
        self.groups.first().filter(|_| self.layout == Layout::Unified).map(|g| g.dir.as_fd())
    }

    /// True on a host with version 2 alone.
    pub(crate) fn is_unified(&self) -> bool {
        self.layout == Layout::Unified
    }

    /// Moves the calling single-threaded process into the box's groups. In version 1 a thread that writes to `tasks`
    /// moves at a fraction of what `cgroup.procs` costs; in version 2 the process was started there.
    pub(crate) fn enter(&self) -> MachineResult<()> {
        if self.layout == Layout::Split {
            for group in &self.groups {
                write_at(group.dir.as_fd(), "tasks", "0")?;
            }
        }
        Ok(())
    }

    /// Moves the calling process out of the box's groups, into those of the monitors, where that is cheap.
    pub(crate) fn leave_early(&self) -> MachineResult<()> {
        if self.is_unified() { Ok(()) } else { self.leave() }
    }

    /// As [`BoxCgroup::leave_early`], where that takes many milliseconds: for which nobody is to wait.
    pub(crate) fn leave_late(&self) -> MachineResult<()> {
        if self.is_unified() { self.leave() } else { Ok(()) }
    }

    fn leave(&self) -> MachineResult<()> {
        self.groups.iter().try_for_each(|group| enter_monitors(group.top.as_fd(), self.process_list()))
    }

    /// Moves the calling process to the root of each hierarchy, so that no group of Tine's is in use by it. For a
    /// monitor that is about to end; what fails is left to that end.
    pub(crate) fn leave_for_good(&self) {
        for group in &self.groups {
            let _ = write_at(group.top.as_fd(), &format!("../{}", self.process_list()), "0");
        }
    }

    /// The file that moves the single-threaded process which writes to it.
    fn process_list(&self) -> &'static str {
        match self.layout {
            Layout::Split => "tasks",
            Layout::Unified => "cgroup.procs",
        }
    }

    /// Freezes or thaws every process of the box, and returns when that is so. One that cannot be frozen in time
    /// leaves the box running.
    ///
    /// In version 1 a program that could not be frozen at once is only frozen when that is asked for again
    /// (Linux, `Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst`).
    pub(crate) fn freeze(&self, frozen: bool) -> MachineResult<()> {
        self.ask_to_freeze(frozen)?;
        let deadline = Instant::now() + PATIENCE;
        let mut again = Instant::now() + RETRY;
        while self.is_frozen()? != frozen {
            if frozen && !self.is_unified() && Instant::now() > again {
                self.ask_to_freeze(true)?;
                again = Instant::now() + RETRY;
            }
            if Instant::now() > deadline {
                let what = if frozen { "freezing the box" } else { "thawing the box" };
                let _ = self.ask_to_freeze(false);
                return Err(MachineError::Timeout { what, seconds: PATIENCE.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn ask_to_freeze(&self, frozen: bool) -> MachineResult<()> {
        let unified = self.layout == Layout::Unified;
        let (file, value) = match (unified, frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        self.set("freezer", file, value, true)
    }

    fn is_frozen(&self) -> MachineResult<bool> {
        let find = |name: &str| self.groups.iter().find(|g| g.controller == name).map(|g| g.dir.as_fd());
        if let Some(dir) = find("") {
            return Ok(read_at(dir, "cgroup.events")?.lines().any(|l| l == "frozen 1"));
        }
        match find("freezer") {
            Some(dir) => Ok(read_at(dir, "freezer.state")?.trim() == "FROZEN"),
            None => Ok(false),
        }
    }

    /// Process ids of the box as the host counts them.
    pub(crate) fn processes(&self) -> MachineResult<Vec<u32>> {
        let Some(group) =
            self.groups.iter().find(|g| matches!(g.controller, "" | "pids")).or(self.groups.first())
        else {
            return Ok(Vec::new());
        };
        let text = match read_at(group.dir.as_fd(), "cgroup.procs") {
            Err(e) if is_missing(&e) => return Ok(Vec::new()),
            other => other?,
        };
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills every process in the groups until none is left.
    fn kill_all(&self) -> MachineResult<()> {
        // A frozen process dies only when it is thawed.
        let _ = self.freeze(false);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids.iter().filter_map(|p| rustix::process::Pid::from_raw(i32::try_from(*p).ok()?)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            if Instant::now() > deadline {
                return Err(MachineError::Timeout {
                    what: "killing what is left",
                    seconds: PATIENCE.as_secs(),
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the groups, which must be empty or about to be.
    pub(crate) fn remove(&self) -> MachineResult<()> {
        let deadline = Instant::now() + PATIENCE;
        for group in &self.groups {
            let mut pause = Duration::from_micros(200);
            loop {
                match rustix::fs::unlinkat(&group.top, self.id.as_str(), AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => break,
                    Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(pause),
                    Err(e) => return Err(MachineError::io("remove cgroup of", &self.id, e)),
                }
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// Kills and removes what a box whose monitor is dead has left in its cgroups; true when there was something. Not for
/// a running box.
///
/// # Errors
/// The kernel's; a timeout when a process does not die.
pub fn reap_leftovers(id: &str) -> MachineResult<bool> {
    let cgroup = BoxCgroup::open(id)?;
    if cgroup.groups.is_empty() {
        return Ok(false);
    }
    cgroup.kill_all()?;
    cgroup.remove()?;
    remove_empty_parents();
    Ok(true)
}

/// The ids of all boxes that have a cgroup, running or left over.
///
/// # Errors
/// The kernel's.
pub fn list_cgroups() -> MachineResult<Vec<String>> {
    let mut ids = Vec::new();
    for (_, mount) in hierarchies(layout()?) {
        let Ok(entries) = std::fs::read_dir(mount.join(TOP)) else { continue };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        ids.extend(names.filter(|name| check_id(name).is_ok()));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Removes the groups that hold those of the boxes, where nothing is left in them. For the last of all boxes.
pub fn remove_empty_parents() {
    let Ok(layout) = layout() else { return };
    for (_, mount) in hierarchies(layout) {
        let top = mount.join(TOP);
        let _ = std::fs::remove_dir(top.join(MONITORS));
        let _ = std::fs::remove_dir(top);
    }
}

fn create_group(layout: Layout, controller: &'static str, mount: &Path, id: &str) -> MachineResult<Group> {
    // The top may be removed at the same moment by whoever finds it empty.
    for _ in 0..8 {
        let hierarchy = open_dir(mount)?;
        make_dir_at(hierarchy.as_fd(), TOP)?;
        let Ok(top) = open_at(hierarchy.as_fd(), TOP) else { continue };
        if layout == Layout::Unified {
            enable_controllers(hierarchy.as_fd());
            enable_controllers(top.as_fd());
        }
        if make_dir_at(top.as_fd(), id).is_err() {
            continue;
        }
        let dir = open_at(top.as_fd(), id)?;
        return Ok(Group { controller, top, dir });
    }
    Err(MachineError::io("make cgroup", mount.join(TOP).join(id).display(), Errno::BUSY))
}

/// Lets the groups below use the controllers; one that is not there shows when its limit is set. Written only where
/// something is missing: the kernel first waits for groups that are being removed.
fn enable_controllers(dir: BorrowedFd<'_>) {
    let enabled = read_at(dir, "cgroup.subtree_control").unwrap_or_default();
    for controller in ["cpu", "memory", "pids"] {
        if !enabled.split_whitespace().any(|name| name == controller) {
            let _ = write_at(dir, "cgroup.subtree_control", &format!("+{controller}"));
        }
    }
}

/// Moves the calling process to the monitors' group, which whoever finds it empty may be removing.
fn enter_monitors(top: BorrowedFd<'_>, process_list: &str) -> MachineResult<()> {
    let enter = || {
        make_dir_at(top, MONITORS)?;
        write_at(open_at(top, MONITORS)?.as_fd(), process_list, "0")
    };
    let mut entered = enter();
    for _ in 0..8 {
        match &entered {
            Err(e) if is_missing(e) => entered = enter(),
            _ => break,
        }
    }
    entered
}
