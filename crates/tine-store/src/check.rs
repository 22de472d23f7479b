//! Verifying the invariants of the layout, and on demand every stored byte by the file system's checksums.
//!
//! Changes nothing, and goes on after every problem. What other operations are making meanwhile is no problem: it
//! is in `tmp/`, which is not looked at.

mod stored;

use crate::{
    bases::{BaseMeta, names_in},
    boxes::BoxMeta,
    document,
    error::{Result, StoreError, at},
    layout::{DATA, DIRECTORIES, LOCK, LOGS, META, ROOT, RUN, SIZE, SNAPSHOTS, STATE, UNDO},
    pool::Pool,
    snapshots::{SnapshotMeta, has_former_root},
    staging::open_dir,
    volumes::VolumeMeta,
};
use rustix::{fs::SeekFrom, io::Errno};
use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};
use tine_model::{
    BaseAlias, BaseVersion, BoxKind, BoxName, BoxRef, CheckProblem, CheckReport, CheckRequest, ProjectName,
    Reporter, SnapshotName, VolumeName, VolumeRef,
};
use tine_sys::btrfs;

/// How a subvolume must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    Writable,
}

struct Checker<'a> {
    pool: &'a Pool,
    reporter: &'a dyn Reporter,
    read_data: bool,
    report: CheckReport,
}

impl Pool {
    /// Verifies that everything in the pool is as it should be.
    ///
    /// # Errors
    /// `Cancelled`, or the kernel's when not even a directory of the pool can be read.
    pub fn check(&self, request: &CheckRequest, reporter: &dyn Reporter) -> Result<CheckReport> {
        let (read_data, report) = (request.read_data, CheckReport::default());
        let mut checker = Checker { pool: self, reporter, read_data, report };
        checker.top()?;
        checker.bases()?;
        checker.aliases()?;
        checker.boxes()?;
        checker.volumes()?;
        checker.kernels()?;
        checker.disks()?;
        checker.images()?;
        Ok(checker.report)
    }
}

impl Checker<'_> {
    fn top(&mut self) -> Result<()> {
        let mut known = vec!["store.json", LOCK];
        known.extend(DIRECTORIES);
        self.only_entries("the pool", self.pool.root().to_owned().as_path(), &known)
    }

    fn bases(&mut self) -> Result<()> {
        let dir = self.pool.layout().bases();
        self.only_names::<BaseVersion>("bases", &dir)?;
        for version in names_in::<BaseVersion>(&dir)? {
            self.begin()?;
            let (path, object) = (dir.join(&version), format!("base {version}"));
            self.only_entries(&object, &path, &[META, ROOT])?;
            if let Some(meta) = self.document::<BaseMeta>(&object, &path)
                && meta.name != version
            {
                self.problem(&object, format!("its document says that it is {}", meta.name), None);
            }
            self.subvolume(&object, &path.join(ROOT), Access::ReadOnly)?;
        }
        Ok(())
    }

    fn aliases(&mut self) -> Result<()> {
        let dir = self.pool.layout().aliases();
        self.only_names::<BaseAlias>("aliases", &dir)?;
        for alias in names_in::<BaseAlias>(&dir)? {
            self.begin()?;
            let object = format!("alias {alias}");
            let mend = Some(format!("tine base delete --alias {alias}"));
            match self.pool.alias_target(&alias) {
                Ok(Some(version)) if !self.pool.layout().base(&version).exists() => {
                    self.problem(&object, format!("names version {version}, which does not exist"), mend);
                }
                Ok(_) => {}
                Err(e) => self.problem(&object, e.to_string(), mend),
            }
        }
        Ok(())
    }

    fn boxes(&mut self) -> Result<()> {
        let dir = self.pool.layout().boxes();
        self.only_names::<ProjectName>("boxes", &dir)?;
        for project in names_in::<ProjectName>(&dir)? {
            let dir = self.pool.layout().project_boxes(&project);
            self.only_names::<BoxName>(&format!("boxes of project {project}"), &dir)?;
            for name in names_in::<BoxName>(&dir)? {
                self.one_box(&BoxRef { project: project.clone(), name })?;
            }
        }
        Ok(())
    }

    fn one_box(&mut self, name: &BoxRef) -> Result<()> {
        self.begin()?;
        let (path, object) = (self.pool.layout().box_dir(name), format!("box {name}"));
        let own = [META, LOCK, ROOT, RUN, SNAPSHOTS, UNDO];
        self.only_entries(&object, &path, &[&own[..], &LOGS].concat())?;
        let mut kind = BoxKind::Container;
        if let Some(meta) = self.document::<BoxMeta>(&object, &path) {
            kind = meta.kind;
            if let Some(kernel) = meta.kernel.filter(|k| !self.pool.layout().kernel(k).exists()) {
                let mend = Some("tine kernel install".to_owned());
                self.problem(&object, format!("its kernel {kernel} does not exist"), mend);
            }
            for volume in &meta.settings.volumes {
                let volume = VolumeRef { project: name.project.clone(), name: volume.volume.clone() };
                if !self.pool.layout().volume(&volume).exists() {
                    self.problem(&object, format!("its volume {volume} does not exist"), None);
                }
            }
        }
        self.root_of_kind(&object, &path.join(ROOT), kind, Access::Writable)?;
        for entry in [LOCK, RUN, SNAPSHOTS] {
            if !path.join(entry).exists() {
                self.problem(&object, format!("has no {entry}"), None);
            }
        }
        self.undo(&object, &path.join(UNDO))?;
        self.snapshots(name, &path.join(SNAPSHOTS))
    }

    fn root_of_kind(&mut self, object: &str, path: &Path, kind: BoxKind, access: Access) -> Result<()> {
        match kind {
            BoxKind::Container => self.subvolume(object, path, access),
            BoxKind::Vm => self.disk_root(object, path, access),
        }
    }

    fn undo(&mut self, object: &str, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        self.only_entries(object, path, &[META, ROOT])?;
        if let Err(e) = has_former_root(path) {
            self.problem(object, format!("undo: {e}"), None);
        }
        self.subvolume(object, &path.join(ROOT), Access::Writable)
    }

    fn snapshots(&mut self, name: &BoxRef, dir: &Path) -> Result<()> {
        if !dir.exists() {
            return Ok(());
        }
        self.only_names::<SnapshotName>(&format!("snapshots of box {name}"), dir)?;
        for snapshot in names_in::<SnapshotName>(dir)? {
            self.begin()?;
            let (path, object) = (dir.join(&snapshot), format!("snapshot {name}/{snapshot}"));
            self.only_entries(&object, &path, &[META, ROOT, SIZE, STATE])?;
            match self.document::<SnapshotMeta>(&object, &path).and_then(|meta| meta.live) {
                Some(saved) => self.saved_state(&object, &path, saved)?,
                None => self.subvolume(&object, &path.join(ROOT), Access::ReadOnly)?,
            }
        }
        Ok(())
    }

    fn volumes(&mut self) -> Result<()> {
        let dir = self.pool.layout().volumes();
        self.only_names::<ProjectName>("volumes", &dir)?;
        for project in names_in::<ProjectName>(&dir)? {
            let dir = self.pool.layout().project_volumes(&project);
            self.only_names::<VolumeName>(&format!("volumes of project {project}"), &dir)?;
            for name in names_in::<VolumeName>(&dir)? {
                self.begin()?;
                let volume = VolumeRef { project: project.clone(), name };
                let (path, object) = (self.pool.layout().volume(&volume), format!("volume {volume}"));
                self.only_entries(&object, &path, &[META, DATA])?;
                self.document::<VolumeMeta>(&object, &path);
                self.subvolume(&object, &path.join(DATA), Access::Writable)?;
            }
        }
        Ok(())
    }

    /// Counts one more object.
    fn begin(&mut self) -> Result<()> {
        self.report.checked += 1;
        self.reporter.advance(self.report.checked);
        if self.reporter.is_cancelled() { Err(StoreError::Cancelled) } else { Ok(()) }
    }

    fn problem(&mut self, object: &str, problem: String, mend: Option<String>) {
        self.report.problems.push(CheckProblem { object: object.to_owned(), problem, mend });
    }

    fn document<T: document::Document>(&mut self, object: &str, dir: &Path) -> Option<T> {
        document::read(&dir.join(META)).map_err(|e| self.problem(object, e.to_string(), None)).ok()
    }

    /// Every entry's name must be of the kind `T`.
    fn only_names<T: std::str::FromStr>(&mut self, object: &str, dir: &Path) -> Result<()> {
        self.entries(object, dir, |name| name.parse::<T>().is_ok())
    }

    fn only_entries(&mut self, object: &str, dir: &Path, known: &[&str]) -> Result<()> {
        self.entries(object, dir, |name| known.contains(&name))
    }

    fn entries(&mut self, object: &str, dir: &Path, is_known: impl Fn(&str) -> bool) -> Result<()> {
        for entry in fs::read_dir(dir).map_err(at("list", dir))? {
            let name = entry.map_err(at("list", dir))?.file_name();
            if !name.to_str().is_some_and(&is_known) {
                let path = dir.join(&name);
                self.problem(object, format!("unknown entry {}", path.display()), None);
            }
        }
        Ok(())
    }

    fn subvolume(&mut self, object: &str, path: &Path, access: Access) -> Result<()> {
        let root = match open_dir(path) {
            Ok(root) => root,
            Err(e) => {
                self.problem(object, e.to_string(), None);
                return Ok(());
            }
        };
        if !btrfs::is_subvolume(root.as_fd())? {
            self.problem(object, format!("{} is no subvolume", path.display()), None);
            return Ok(());
        }
        if access == Access::ReadOnly && !btrfs::is_read_only(root.as_fd())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.problem(object, format!("its {name} can be changed"), Some(set_read_only(path)));
        }
        if access == Access::Writable && btrfs::is_read_only(root.as_fd())? {
            self.problem(object, "its root cannot be changed".to_owned(), None);
        }
        // a running box changes its files under the reader; what never changes must read back whole
        if self.read_data && access == Access::ReadOnly { self.read_all(object, &root) } else { Ok(()) }
    }

    fn read_all(&mut self, object: &str, root: &OwnedFd) -> Result<()> {
        self.reporter.step(&format!("reading {object}"), None);
        let mut files = Vec::new();
        btrfs::inodes(root.as_fd(), |inode| {
            if inode.is_file() && inode.size > 0 {
                files.push(inode.number);
            }
        })?;
        let subvolume = btrfs::subvolume_info(root.as_fd())?.id;
        for inode in files {
            let read = read_through(root, subvolume, inode, self.reporter);
            if self.reporter.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            if let Err(e) = read {
                self.problem(object, format!("file with inode {inode} cannot be read: {e}"), None);
            }
        }
        Ok(())
    }
}

fn set_read_only(path: &Path) -> String {
    format!("btrfs property set -ts {} ro true", path.display())
}

/// Reads what is stored of a file. Its holes, which may be exabytes, are passed over.
fn read_through(root: &OwnedFd, subvolume: u64, inode: u64, reporter: &dyn Reporter) -> std::io::Result<()> {
    let file = btrfs::open_inode(root.as_fd(), subvolume, inode).map_err(|e| e.source)?;
    let file = File::from(file);
    let mut buffer = vec![0; 1 << 20];
    let (mut at, mut hole) = (0, 0);
    while !reporter.is_cancelled() {
        if at >= hole {
            at = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => return Ok(()),
                data => data?,
            };
            hole = rustix::fs::seek(&file, SeekFrom::Hole(at))?;
        }
        let most = usize::try_from(hole - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..most], at)? {
            0 => return Ok(()),
            read => at += read as u64,
        }
    }
    Ok(())
}
