//! Bases, boxes, snapshots, volumes, images and kernels as directories and subvolumes of one btrfs file system.
//!
//! The file system is the database: a thing exists when its directory does. Everything is made in `tmp/` and appears
//! by one rename, so a name is taken or free by the kernel's word, and whatever a killed process leaves in `tmp/`
//! is garbage. Knows nothing of running machines: callers stop a box before they change its root.
#![forbid(unsafe_code)]

mod bases;
mod boxes;
mod check;
pub mod diff;
pub mod disk;
mod disks;
mod document;
mod error;
mod gc;
mod images;
mod kernels;
mod layout;
mod pool;
mod root;
mod snapshots;
mod staging;
mod state;
mod volumes;

pub use bases::{BaseStage, DeletePlan as BaseDeletePlan};
pub use boxes::{BoxMeta, BoxRecord, LockedBox, RootOrigin, StagedBox};
pub use disks::DEFAULT_DISK;
pub use error::{Result, StoreError};
pub use gc::Garbage;
pub use images::{ImageMeta, NewImage, OpenImage};
pub use kernels::{KernelRecord, KernelStage};
pub use layout::SharedDirs;
pub use pool::{ExclusivePool, Pool, PoolInit};
pub use root::measure::{TreeSize, logical_size, stored_size, tree_size};
pub use root::{guest_mount_points, prepare_mount_point, standard_mount_points};
pub use snapshots::{Restored, RootView, SnapshotRecord, plan_prune};
pub use staging::Staging;
pub use state::{Digests, FileSum, OpenState, SavedState, StateFiles, StateStage};
