//! The one interface of Tine: a method per verb.
//!
//! The local engine and the HTTP client implement it; commands see nothing else.

#![expect(
    clippy::missing_errors_doc,
    reason = "every method returns the service's Error with the code that fits"
)]

use crate::{
    AddToHub, BakeImage, BaseAlias, BaseInfo, BaseRef, BaseSummary, BoxInfo, BoxName, BoxPath, BoxRef,
    BoxSummary, BuildBase, BuildRecipe, BuiltRecipe, CheckReport, CheckRequest, CreateBox, CreateSnapshot,
    DeleteBase, DeleteBaseReport, DeleteBoxReport, DetachReport, DiffFile, DiffFileRequest, DiffStatus,
    DiffStatusRequest, DiskUsage, DoctorReport, ExecOutcome, ExecRequest, ExecStreams, ForkReport,
    ForkRequest, ForkedBox, GcReport, HubCheck, HubPackage, ImageInfo, ImageTag, ImportBase, ImportKernel,
    InitHub, InitRequest, InstallBase, KernelInfo, KeyInfo, KeyName, KeyRef, ListBoxes, ListHub, LogsRequest,
    NewFiles, PackImage, PackInput, PackReport, PathKind, PoolInfo, ProcessInfo, ProjectName, PruneReport,
    PruneSnapshots, PublishedPack, PullImage, PullReport, PushImage, PushReport, RecipeInfo, RemoveFromHub,
    Reporter, RestoreReport, RestoreSnapshot, Result, SaveBase, Sha256Digest, Siblings, SnapshotInfo,
    SnapshotName, StopBox, TrustPolicy, TrustRule, UnpackImage, UnpackReport, UpdateBox, UpdateReport,
    VolumeInfo, VolumeRef, WrittenBase,
};
use std::io::{Read, Write};

/// Every verb of Tine. Methods may be called from several threads at once.
pub trait Service: Sync {
    /// Makes the pool, or makes sure that the one there is mounted.
    fn init(&self, request: &InitRequest, reporter: &dyn Reporter) -> Result<PoolInfo>;
    /// Stops every box and unmounts the pool.
    fn detach(&self, reporter: &dyn Reporter) -> Result<DetachReport>;
    /// Looks at everything Tine needs of the host.
    fn doctor(&self) -> Result<DoctorReport>;
    /// Tells how full the pool is and what each box takes.
    fn disk_usage(&self, reporter: &dyn Reporter) -> Result<DiskUsage>;
    /// Removes what nothing refers to.
    fn gc(&self, dry_run: bool, reporter: &dyn Reporter) -> Result<GcReport>;
    /// Verifies the store's invariants.
    fn check(&self, request: &CheckRequest, reporter: &dyn Reporter) -> Result<CheckReport>;

    /// Every alias and the version it names, by name.
    fn list_bases(&self, reporter: &dyn Reporter) -> Result<Vec<BaseSummary>>;
    /// An alias and its versions, newest first; with `tag` only those whose script has that digest.
    fn base_info(&self, name: &BaseAlias, tag: Option<&Sha256Digest>) -> Result<BaseInfo>;
    /// Reads a tar (plain, gzip, zstd or xz) as a new version.
    fn import_base(
        &self,
        request: &ImportBase,
        tar: &mut (dyn Read + Send),
        reporter: &dyn Reporter,
    ) -> Result<WrittenBase>;
    /// Writes a version's tree as a plain tar.
    fn export_base(&self, base: &BaseRef, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()>;
    /// Makes a box's root a new version.
    fn save_base(&self, request: &SaveBase, reporter: &dyn Reporter) -> Result<WrittenBase>;
    /// Builds a Dockerfile as a new version.
    fn build_base(&self, request: &BuildBase, reporter: &dyn Reporter) -> Result<WrittenBase>;
    /// Builds one of the maintained definitions.
    fn install_base(&self, request: &InstallBase, reporter: &dyn Reporter) -> Result<WrittenBase>;
    /// Deletes an alias or a version.
    fn delete_base(&self, request: &DeleteBase, dry_run: bool) -> Result<DeleteBaseReport>;

    /// Makes a box, and starts it if asked.
    fn create_box(&self, request: &CreateBox, reporter: &dyn Reporter) -> Result<BoxInfo>;
    /// Boxes by project and name.
    fn list_boxes(&self, request: &ListBoxes, reporter: &dyn Reporter) -> Result<Vec<BoxSummary>>;
    /// One box.
    fn box_info(&self, name: &BoxRef) -> Result<BoxInfo>;
    /// Starts a stopped box; nothing for a running one.
    fn start_box(&self, name: &BoxRef) -> Result<BoxInfo>;
    /// Stops a box; nothing for a stopped one.
    fn stop_box(&self, name: &BoxRef, request: &StopBox) -> Result<()>;
    /// Freezes every process of a running box.
    fn pause_box(&self, name: &BoxRef) -> Result<()>;
    /// Thaws a paused box.
    fn resume_box(&self, name: &BoxRef) -> Result<()>;
    /// Gives a stopped box another name in its project.
    fn rename_box(&self, name: &BoxRef, new_name: &BoxName) -> Result<BoxInfo>;
    /// Deletes a box and its snapshots; a running one is killed.
    fn delete_box(&self, name: &BoxRef, dry_run: bool) -> Result<DeleteBoxReport>;
    /// Changes a box's settings.
    fn update_box(&self, name: &BoxRef, request: &UpdateBox) -> Result<UpdateReport>;
    /// Runs a program in a box, starting the box if it is stopped, and returns when the program has ended and all
    /// of its output is written.
    fn exec(&self, name: &BoxRef, request: &ExecRequest, streams: ExecStreams) -> Result<ExecOutcome>;
    /// The processes of a running box.
    fn processes(&self, name: &BoxRef) -> Result<Vec<ProcessInfo>>;
    /// Writes the output of the box's background programs.
    fn logs(
        &self,
        name: &BoxRef,
        request: &LogsRequest,
        out: &mut dyn Write,
        reporter: &dyn Reporter,
    ) -> Result<()>;
    /// What lies at a path of a box, links in it followed inside the box.
    fn stat_path(&self, path: &BoxPath) -> Result<PathKind>;
    /// Writes the file or tree at `path` as a tar whose first entry is named by the path's last component.
    fn copy_out(&self, path: &BoxPath, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()>;
    /// Extracts a tar into the directory at `path`, which must exist.
    fn copy_in(&self, path: &BoxPath, tar: &mut (dyn Read + Send), reporter: &dyn Reporter) -> Result<()>;

    /// Takes a snapshot of a box's root.
    fn create_snapshot(
        &self,
        name: &BoxRef,
        request: &CreateSnapshot,
        reporter: &dyn Reporter,
    ) -> Result<SnapshotInfo>;
    /// A box's snapshots, oldest first.
    fn list_snapshots(&self, name: &BoxRef, reporter: &dyn Reporter) -> Result<Vec<SnapshotInfo>>;
    /// One snapshot.
    fn snapshot_info(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<SnapshotInfo>;
    /// Puts a snapshot's tree in the place of the box's root.
    fn restore_snapshot(
        &self,
        name: &BoxRef,
        request: &RestoreSnapshot,
        reporter: &dyn Reporter,
    ) -> Result<RestoreReport>;
    /// Puts back what the last restore replaced.
    fn undo_restore(&self, name: &BoxRef, reporter: &dyn Reporter) -> Result<RestoreReport>;
    /// Deletes snapshots: all of those named, or none when one is unknown.
    fn delete_snapshots(&self, name: &BoxRef, snapshots: &[SnapshotName]) -> Result<()>;
    /// Gives a snapshot another name.
    fn rename_snapshot(
        &self,
        name: &BoxRef,
        snapshot: &SnapshotName,
        new_name: &SnapshotName,
    ) -> Result<SnapshotInfo>;
    /// Deletes snapshots by rule.
    fn prune_snapshots(&self, name: &BoxRef, request: &PruneSnapshots) -> Result<PruneReport>;

    /// Which paths differ between two trees of a box.
    fn diff_status(&self, name: &BoxRef, request: &DiffStatusRequest) -> Result<DiffStatus>;
    /// How one file differs between two trees of a box.
    fn diff_file(&self, name: &BoxRef, request: &DiffFileRequest) -> Result<DiffFile>;

    /// Boots a machine, warms it up and freezes it into an image.
    fn bake_image(&self, request: &BakeImage, reporter: &dyn Reporter) -> Result<ImageInfo>;
    /// Every image, by tag.
    fn list_images(&self, reporter: &dyn Reporter) -> Result<Vec<ImageInfo>>;
    /// One image.
    fn image_info(&self, tag: &ImageTag) -> Result<ImageInfo>;
    /// Deletes an image; boxes forked from it go on.
    fn delete_image(&self, tag: &ImageTag, dry_run: bool) -> Result<ImageInfo>;
    /// Gives an image another tag.
    fn rename_image(&self, tag: &ImageTag, new_tag: &ImageTag) -> Result<ImageInfo>;
    /// Writes an image, with the ancestors that its layout takes along, as one verified file.
    fn pack_image(
        &self,
        request: &PackImage,
        files: &dyn NewFiles,
        reporter: &dyn Reporter,
    ) -> Result<PackReport>;
    /// Verifies everything in a pack, and then makes images of it.
    fn unpack_image(
        &self,
        request: &UnpackImage,
        pack: &mut dyn PackInput,
        siblings: &Siblings<'_>,
        reporter: &dyn Reporter,
    ) -> Result<UnpackReport>;
    /// Fetches a pack, verifies it and makes images of it.
    fn pull_image(&self, request: &PullImage, reporter: &dyn Reporter) -> Result<PullReport>;
    /// Packs an image and sends it somewhere.
    fn push_image(&self, request: &PushImage, reporter: &dyn Reporter) -> Result<PushReport>;
    /// Makes a folder, of this host or of a bucket, a hub.
    fn init_hub(&self, request: &InitHub) -> Result<()>;
    /// Publishes a pack at a hub.
    fn add_to_hub(&self, request: &AddToHub, reporter: &dyn Reporter) -> Result<PublishedPack>;
    /// Takes a package, or one version of it, from a hub.
    fn remove_from_hub(&self, request: &RemoveFromHub) -> Result<()>;
    /// The packages of a hub.
    fn list_hub(&self, request: &ListHub, reporter: &dyn Reporter) -> Result<Vec<HubPackage>>;
    /// Reads everything a hub's registry names.
    fn verify_hub(&self, hub: Option<&str>, reporter: &dyn Reporter) -> Result<HubCheck>;
    /// The hub that is used when none is named; another one from now on where one is given.
    fn default_hub(&self, new: Option<&str>) -> Result<Option<String>>;
    /// Makes a signing key.
    fn generate_key(&self, name: &KeyName, password: Option<&str>) -> Result<KeyInfo>;
    /// Every key, revoked ones included.
    fn list_keys(&self) -> Result<Vec<KeyInfo>>;
    /// Trusts a public key.
    fn trust_key(&self, name: &KeyName, public: &str) -> Result<KeyInfo>;
    /// Trusts a key no more, for good.
    fn revoke_key(&self, key: &KeyRef) -> Result<KeyInfo>;
    /// What is asked of signatures where; the one for everything else comes first.
    fn trust_rules(&self) -> Result<Vec<TrustRule>>;
    /// Sets what is asked of signatures below a URL, or everywhere else; none takes a rule away.
    fn set_trust_rule(&self, hub: Option<&str>, policy: Option<TrustPolicy>) -> Result<()>;
    /// Makes running boxes that go on from one instant. `on_ready` is called for each, from any thread, as it becomes
    /// ready. Succeeds when the fork could begin; the report tells which children failed.
    fn fork(
        &self,
        request: &ForkRequest,
        on_ready: &(dyn Fn(&ForkedBox) + Sync),
        reporter: &dyn Reporter,
    ) -> Result<ForkReport>;
    /// The guest kernels in the pool, newest first.
    fn list_kernels(&self, reporter: &dyn Reporter) -> Result<Vec<KernelInfo>>;
    /// Fetches the distribution's kernel for virtual machines.
    fn install_kernel(&self, reporter: &dyn Reporter) -> Result<KernelInfo>;
    /// Puts a kernel of this host into the pool.
    fn import_kernel(&self, request: &ImportKernel, reporter: &dyn Reporter) -> Result<KernelInfo>;

    /// Every recipe, and how what it makes stands in the pool.
    fn list_recipes(&self) -> Result<Vec<RecipeInfo>>;
    /// Makes a recipe's base, those it is built over, and its image, as far as they are not there.
    fn build_recipe(&self, request: &BuildRecipe, reporter: &dyn Reporter) -> Result<BuiltRecipe>;

    /// Makes an empty volume.
    fn create_volume(&self, name: &VolumeRef) -> Result<VolumeInfo>;
    /// The volumes of a project, or of all.
    fn list_volumes(&self, project: Option<&ProjectName>, reporter: &dyn Reporter)
    -> Result<Vec<VolumeInfo>>;
    /// One volume.
    fn volume_info(&self, name: &VolumeRef) -> Result<VolumeInfo>;
    /// Deletes a volume that no box has attached.
    fn delete_volume(&self, name: &VolumeRef, dry_run: bool) -> Result<VolumeInfo>;
}
