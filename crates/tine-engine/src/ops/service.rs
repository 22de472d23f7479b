//! `trait Service`, each method handing over to its verb.

use super::{
    base_build, base_export, base_import, base_install, base_save, check, copy, create, delete, detach, diff,
    exec, fork, gc, hub, image, image_bake, info, init, kernel, key, logs, pack, pause, pull, push, recipe,
    rename, snapshot_create, snapshot_restore, start, status, stop, unpack, update,
};
use crate::{LocalEngine, doctor};
use std::io::{Read, Write};
use tine_model::{
    AddToHub, BakeImage, BaseAlias, BaseInfo, BaseRef, BaseSummary, BoxInfo, BoxKind, BoxName, BoxPath,
    BoxRef, BoxStatus, BoxSummary, BuildBase, BuildRecipe, BuiltRecipe, CheckReport, CheckRequest, CreateBox,
    CreateSnapshot, DeleteBase, DeleteBaseReport, DeleteBoxReport, DetachReport, DiffFile, DiffFileRequest,
    DiffStatus, DiffStatusRequest, DiskUsage, DoctorReport, Error, ErrorCode, ExecOutcome, ExecRequest,
    ExecStreams, ForkReport, ForkRequest, ForkedBox, GcReport, HubCheck, HubPackage, ImageInfo, ImageTag,
    ImportBase, ImportKernel, InitHub, InitRequest, InstallBase, KernelInfo, KeyInfo, KeyName, KeyRef,
    ListBoxes, ListHub, LogsRequest, NewFiles, PackImage, PackInput, PackReport, PathKind, PoolInfo,
    ProcessInfo, ProjectName, PruneReport, PruneSnapshots, PublishedPack, PullImage, PullReport, PushImage,
    PushReport, RecipeInfo, RemoveFromHub, Reporter, RestoreReport, RestoreSnapshot, Result, SaveBase,
    Service, Sha256Digest, Siblings, SnapshotInfo, SnapshotName, StopBox, TrustPolicy, TrustRule,
    UnpackImage, UnpackReport, UpdateBox, UpdateReport, VolumeInfo, VolumeRef, WrittenBase,
};

impl Service for LocalEngine {
    fn init(&self, request: &InitRequest, reporter: &dyn Reporter) -> Result<PoolInfo> {
        init::run(self, request, reporter)
    }
    fn detach(&self, reporter: &dyn Reporter) -> Result<DetachReport> {
        detach::run(self, reporter)
    }
    fn doctor(&self) -> Result<DoctorReport> {
        Ok(doctor::run(self))
    }
    fn disk_usage(&self, reporter: &dyn Reporter) -> Result<DiskUsage> {
        Ok(self.pool()?.disk_usage(reporter)?)
    }
    fn gc(&self, dry_run: bool, reporter: &dyn Reporter) -> Result<GcReport> {
        gc::run(self, dry_run, reporter)
    }
    fn check(&self, request: &CheckRequest, reporter: &dyn Reporter) -> Result<CheckReport> {
        check::run(self, request, reporter)
    }

    fn list_bases(&self, reporter: &dyn Reporter) -> Result<Vec<BaseSummary>> {
        Ok(self.pool()?.list_bases(reporter)?)
    }
    fn base_info(&self, name: &BaseAlias, tag: Option<&Sha256Digest>) -> Result<BaseInfo> {
        Ok(self.pool()?.base_info(name, tag)?)
    }
    fn import_base(
        &self,
        request: &ImportBase,
        tar: &mut (dyn Read + Send),
        reporter: &dyn Reporter,
    ) -> Result<WrittenBase> {
        base_import::run(self, request, tar, reporter)
    }
    fn export_base(&self, base: &BaseRef, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()> {
        base_export::run(self, base, out, reporter)
    }
    fn save_base(&self, request: &SaveBase, reporter: &dyn Reporter) -> Result<WrittenBase> {
        base_save::run(self, request, reporter)
    }
    fn build_base(&self, request: &BuildBase, reporter: &dyn Reporter) -> Result<WrittenBase> {
        base_build::run(self, request, reporter)
    }
    fn install_base(&self, request: &InstallBase, reporter: &dyn Reporter) -> Result<WrittenBase> {
        base_install::run(self, request, reporter)
    }
    fn delete_base(&self, request: &DeleteBase, dry_run: bool) -> Result<DeleteBaseReport> {
        delete::base(self, request, dry_run)
    }

    fn create_box(&self, request: &CreateBox, reporter: &dyn Reporter) -> Result<BoxInfo> {
        create::run(self, request, reporter)
    }
    fn list_boxes(&self, request: &ListBoxes, reporter: &dyn Reporter) -> Result<Vec<BoxSummary>> {
        info::list(self, request, reporter)
    }
    fn box_info(&self, name: &BoxRef) -> Result<BoxInfo> {
        info::run(&self.pool()?, name)
    }
    fn start_box(&self, name: &BoxRef) -> Result<BoxInfo> {
        start::run(self, name)
    }
    fn stop_box(&self, name: &BoxRef, request: &StopBox) -> Result<()> {
        stop::run(self, name, request)
    }
    fn pause_box(&self, name: &BoxRef) -> Result<()> {
        pause::pause(self, name)
    }
    fn resume_box(&self, name: &BoxRef) -> Result<()> {
        pause::resume(self, name)
    }
    fn rename_box(&self, name: &BoxRef, new_name: &BoxName) -> Result<BoxInfo> {
        rename::run(self, name, new_name)
    }
    fn delete_box(&self, name: &BoxRef, dry_run: bool) -> Result<DeleteBoxReport> {
        delete::run(self, name, dry_run)
    }
    fn update_box(&self, name: &BoxRef, request: &UpdateBox) -> Result<UpdateReport> {
        update::run(self, name, request)
    }
    fn exec(&self, name: &BoxRef, request: &ExecRequest, streams: ExecStreams) -> Result<ExecOutcome> {
        exec::run(self, name, request, streams)
    }
    fn processes(&self, name: &BoxRef) -> Result<Vec<ProcessInfo>> {
        let pool = self.pool()?;
        let meta = pool.box_meta(name)?;
        if status(&pool, name)? == BoxStatus::Stopped {
            let message = format!("box {name} is stopped and has no processes");
            return Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine start {name}")));
        }
        let found = match meta.kind {
            BoxKind::Container => tine_machine::processes(&meta.id),
            BoxKind::Vm => tine_machine::vm::processes(&pool.box_run_path(name)),
        };
        found.map_err(|e| super::for_box(name)(e.into()))
    }
    fn logs(
        &self,
        name: &BoxRef,
        request: &LogsRequest,
        out: &mut dyn Write,
        reporter: &dyn Reporter,
    ) -> Result<()> {
        logs::run(self, name, request, out, reporter)
    }
    fn stat_path(&self, path: &BoxPath) -> Result<PathKind> {
        copy::stat(self, path)
    }
    fn copy_out(&self, path: &BoxPath, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()> {
        copy::out(self, path, out, reporter)
    }
    fn copy_in(&self, path: &BoxPath, tar: &mut (dyn Read + Send), reporter: &dyn Reporter) -> Result<()> {
        copy::into(self, path, tar, reporter)
    }

    fn create_snapshot(
        &self,
        name: &BoxRef,
        request: &CreateSnapshot,
        reporter: &dyn Reporter,
    ) -> Result<SnapshotInfo> {
        snapshot_create::run(self, name, request, reporter)
    }
    fn list_snapshots(&self, name: &BoxRef, reporter: &dyn Reporter) -> Result<Vec<SnapshotInfo>> {
        Ok(self.pool()?.list_snapshot_infos(name, reporter)?)
    }
    fn snapshot_info(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<SnapshotInfo> {
        Ok(self.pool()?.snapshot_info(name, snapshot)?)
    }
    fn restore_snapshot(
        &self,
        name: &BoxRef,
        request: &RestoreSnapshot,
        _: &dyn Reporter,
    ) -> Result<RestoreReport> {
        snapshot_restore::restore(self, name, request)
    }
    fn undo_restore(&self, name: &BoxRef, _: &dyn Reporter) -> Result<RestoreReport> {
        snapshot_restore::undo(self, name)
    }
    fn delete_snapshots(&self, name: &BoxRef, snapshots: &[SnapshotName]) -> Result<()> {
        let pool = self.pool()?;
        Ok(self.lock(&pool, name)?.delete_snapshots(snapshots)?)
    }
    fn rename_snapshot(
        &self,
        name: &BoxRef,
        snapshot: &SnapshotName,
        new_name: &SnapshotName,
    ) -> Result<SnapshotInfo> {
        let pool = self.pool()?;
        self.lock(&pool, name)?.rename_snapshot(snapshot, new_name)?;
        Ok(pool.snapshot_info(name, new_name)?)
    }
    fn prune_snapshots(&self, name: &BoxRef, request: &PruneSnapshots) -> Result<PruneReport> {
        let pool = self.pool()?;
        let locked = self.lock(&pool, name)?;
        let plan = tine_store::plan_prune(&pool.list_snapshots(name)?, request)?;
        if !plan.dry_run {
            locked.delete_snapshots(&plan.removed)?;
        }
        Ok(plan)
    }

    fn diff_status(&self, name: &BoxRef, request: &DiffStatusRequest) -> Result<DiffStatus> {
        diff::status(self, name, request)
    }
    fn diff_file(&self, name: &BoxRef, request: &DiffFileRequest) -> Result<DiffFile> {
        diff::file(self, name, request)
    }

    fn bake_image(&self, request: &BakeImage, reporter: &dyn Reporter) -> Result<ImageInfo> {
        image_bake::run(self, request, reporter)
    }
    fn list_images(&self, reporter: &dyn Reporter) -> Result<Vec<ImageInfo>> {
        image::list(self, reporter)
    }
    fn image_info(&self, tag: &ImageTag) -> Result<ImageInfo> {
        image::show(self, tag)
    }
    fn delete_image(&self, tag: &ImageTag, dry_run: bool) -> Result<ImageInfo> {
        image::delete(self, tag, dry_run)
    }
    fn rename_image(&self, tag: &ImageTag, new_tag: &ImageTag) -> Result<ImageInfo> {
        image::rename(self, tag, new_tag)
    }
    fn pack_image(
        &self,
        request: &PackImage,
        files: &dyn NewFiles,
        reporter: &dyn Reporter,
    ) -> Result<PackReport> {
        pack::run(self, request, &pack::Output::Outside(files), reporter)
    }
    fn unpack_image(
        &self,
        request: &UnpackImage,
        pack: &mut dyn PackInput,
        siblings: &Siblings<'_>,
        reporter: &dyn Reporter,
    ) -> Result<UnpackReport> {
        unpack::run(self, request, pack, siblings, reporter)
    }
    fn pull_image(&self, request: &PullImage, reporter: &dyn Reporter) -> Result<PullReport> {
        pull::run(self, request, reporter)
    }
    fn push_image(&self, request: &PushImage, reporter: &dyn Reporter) -> Result<PushReport> {
        push::run(self, request, reporter)
    }
    fn init_hub(&self, request: &InitHub) -> Result<()> {
        hub::init(self, request)
    }
    fn add_to_hub(&self, request: &AddToHub, reporter: &dyn Reporter) -> Result<PublishedPack> {
        hub::add(self, request, reporter)
    }
    fn remove_from_hub(&self, request: &RemoveFromHub) -> Result<()> {
        hub::remove(self, request)
    }
    fn list_hub(&self, request: &ListHub, reporter: &dyn Reporter) -> Result<Vec<HubPackage>> {
        hub::list(self, request, reporter)
    }
    fn verify_hub(&self, hub: Option<&str>, reporter: &dyn Reporter) -> Result<HubCheck> {
        hub::verify(self, hub, reporter)
    }
    fn default_hub(&self, new: Option<&str>) -> Result<Option<String>> {
        hub::default(self, new)
    }
    fn generate_key(&self, name: &KeyName, password: Option<&str>) -> Result<KeyInfo> {
        key::generate(self, name, password)
    }
    fn list_keys(&self) -> Result<Vec<KeyInfo>> {
        key::list(self)
    }
    fn trust_key(&self, name: &KeyName, public: &str) -> Result<KeyInfo> {
        key::trust(self, name, public)
    }
    fn revoke_key(&self, key: &KeyRef) -> Result<KeyInfo> {
        key::revoke(self, key)
    }
    fn trust_rules(&self) -> Result<Vec<TrustRule>> {
        key::rules(self)
    }
    fn set_trust_rule(&self, hub: Option<&str>, policy: Option<TrustPolicy>) -> Result<()> {
        key::set_rule(self, hub, policy)
    }
    fn fork(
        &self,
        request: &ForkRequest,
        on_ready: &(dyn Fn(&ForkedBox) + Sync),
        reporter: &dyn Reporter,
    ) -> Result<ForkReport> {
        fork::run(self, request, on_ready, reporter)
    }
    fn list_kernels(&self, reporter: &dyn Reporter) -> Result<Vec<KernelInfo>> {
        kernel::list(self, reporter)
    }
    fn install_kernel(&self, reporter: &dyn Reporter) -> Result<KernelInfo> {
        kernel::install(self, reporter)
    }
    fn import_kernel(&self, request: &ImportKernel, reporter: &dyn Reporter) -> Result<KernelInfo> {
        kernel::import(self, request, reporter)
    }

    fn list_recipes(&self) -> Result<Vec<RecipeInfo>> {
        recipe::list(self)
    }
    fn build_recipe(&self, request: &BuildRecipe, reporter: &dyn Reporter) -> Result<BuiltRecipe> {
        recipe::build(self, request, reporter)
    }

    fn create_volume(&self, name: &VolumeRef) -> Result<VolumeInfo> {
        Ok(self.pool()?.create_volume(name)?)
    }
    fn list_volumes(
        &self,
        project: Option<&ProjectName>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<VolumeInfo>> {
        Ok(self.pool()?.list_volumes(project, reporter)?)
    }
    fn volume_info(&self, name: &VolumeRef) -> Result<VolumeInfo> {
        Ok(self.pool()?.volume_info(name)?)
    }
    fn delete_volume(&self, name: &VolumeRef, dry_run: bool) -> Result<VolumeInfo> {
        delete::volume(self, name, dry_run)
    }
}
