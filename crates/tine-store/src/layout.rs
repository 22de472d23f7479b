//! Where everything lies in a pool.
//!
//! ```text
//! store.json                     format and features
//! lock                           shared by every operation, exclusive by gc and detach
//! tmp/<id>                       staging; leftovers are garbage by definition
//! bases/<version>/               meta.json root/
//! aliases/<alias>                one line: a version
//! boxes/<project>/<box>/         meta.json lock root/ run/ snapshots/<name>/{meta.json,size,root/} undo/{meta.json,root/}
//! volumes/<project>/<name>/      meta.json data/
//! shared/all  shared/bin         mounted into every container box
//! shared/projects/<project>/     home/ proj/: mounted into the boxes of one project
//! kernels/<name>/                meta.json vmlinuz modules/ initrd/<id>.cpio
//! disks/<version>.<bytes>/       meta.json root/disk.img    the disk made of a base version at a size
//! images/<tag>/                  meta.json root/disk.img state/{memory.bin,vmstate}
//! trust/                         signing keys, policies, what was seen of hubs
//! downloads/                     what a broken pull goes on from; garbage to `gc`
//! uploads/                       what a broken push goes on from; garbage to `gc`
//! ```
//! The root of a vm box holds nothing but `disk.img`. A live snapshot has, beside its root, a `state/` as an image has.
//! Only makes paths; looks at nothing.

use std::path::{Path, PathBuf};
use tine_model::{
    BaseAlias, BaseVersion, BoxRef, ImageTag, KernelName, ProjectName, SnapshotName, VolumeRef,
};

/// The document that every base, box, snapshot, volume and undo directory holds.
pub(crate) const META: &str = "meta.json";
/// The subvolume of a base, box, snapshot or undo directory.
pub(crate) const ROOT: &str = "root";
/// The subvolume of a volume.
pub(crate) const DATA: &str = "data";
/// The cached size of a snapshot.
pub(crate) const SIZE: &str = "size";
/// The lock of the pool, and that of a box.
pub(crate) const LOCK: &str = "lock";
/// What the machine layer keeps of a box.
pub(crate) const RUN: &str = "run";
/// What a box's programs, and the kernel of a vm box, have written.
pub(crate) const LOGS: [&str; 4] = ["log", "log.1", "console", "console.1"];
/// What the last restore of a box replaced.
pub(crate) const UNDO: &str = "undo";
/// The snapshots of a box.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// The file in the root of a vm box, image or cached disk.
pub(crate) const DISK: &str = "disk.img";
/// The subvolume of an image or live snapshot that holds the machine.
pub(crate) const STATE: &str = "state";
/// The guest's memory.
pub(crate) const MEMORY: &str = "memory.bin";
/// The state of processors and devices.
pub(crate) const VMSTATE: &str = "vmstate";
/// The kernel's own file.
pub(crate) const VMLINUZ: &str = "vmlinuz";
/// The kernel's modules.
pub(crate) const MODULES: &str = "modules";
/// The boot archives made for a kernel.
pub(crate) const INITRD: &str = "initrd";

/// The pool's own entries that are directories.
pub(crate) const DIRECTORIES: [&str; 12] = [
    "tmp",
    "bases",
    "aliases",
    "boxes",
    "volumes",
    "shared",
    "kernels",
    "disks",
    "images",
    "trust",
    "downloads",
    "uploads",
];

/// The directories that are mounted over the boxes of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedDirs {
    /// At `/home`, shared inside the project.
    pub home: PathBuf,
    /// At `/box/proj`, shared inside the project.
    pub project: PathBuf,
    /// At `/box/all`, shared by all.
    pub all: PathBuf,
    /// At `/box/bin`, read-only.
    pub bin: PathBuf,
}

/// The paths of one pool.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }
    pub fn store(&self) -> PathBuf {
        self.root.join("store.json")
    }
    pub fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
    pub fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }
    pub fn base(&self, version: &BaseVersion) -> PathBuf {
        self.bases().join(version)
    }
    pub fn aliases(&self) -> PathBuf {
        self.root.join("aliases")
    }
    pub fn alias(&self, alias: &BaseAlias) -> PathBuf {
        self.aliases().join(alias)
    }
    pub fn boxes(&self) -> PathBuf {
        self.root.join("boxes")
    }
    pub fn project_boxes(&self, project: &ProjectName) -> PathBuf {
        self.boxes().join(project)
    }
    pub fn box_dir(&self, name: &BoxRef) -> PathBuf {
        self.project_boxes(&name.project).join(&name.name)
    }
    pub fn snapshot(&self, name: &BoxRef, snapshot: &SnapshotName) -> PathBuf {
        self.box_dir(name).join(SNAPSHOTS).join(snapshot)
    }
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
    pub fn project_volumes(&self, project: &ProjectName) -> PathBuf {
        self.volumes().join(project)
    }
    pub fn volume(&self, name: &VolumeRef) -> PathBuf {
        self.project_volumes(&name.project).join(&name.name)
    }
    pub fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }
    pub fn kernel(&self, name: &KernelName) -> PathBuf {
        self.kernels().join(name)
    }
    pub fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    pub fn image(&self, tag: &ImageTag) -> PathBuf {
        self.images().join(tag)
    }
    pub fn shared(&self, project: &ProjectName) -> SharedDirs {
        let shared = self.root.join("shared");
        let own = shared.join("projects").join(project);
        SharedDirs {
            home: own.join("home"),
            project: own.join("proj"),
            all: shared.join("all"),
            bin: shared.join("bin"),
        }
    }
}

/// The image file of a pool that is not on btrfs by itself: `<root>.img` beside it.
pub(crate) fn image_beside(root: &Path) -> PathBuf {
    beside(root, ".img")
}

/// A half-made image file.
pub(crate) fn unfinished_image_beside(root: &Path) -> PathBuf {
    beside(root, ".img.tmp")
}

fn beside(root: &Path, suffix: &str) -> PathBuf {
    let mut name = root.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
