//! A service for tests: writes down what it is asked and answers with a small fixed world.

mod hubs;
mod machines;
mod world;

use hubs::{hub_check, hub_package, key, published, pulled, pushed};
use machines::{built, forked, image, kernel, machine, packed, recipe, unpacked};
use std::{
    io::{Read, Write},
    sync::{Mutex, PoisonError},
};
use tine_model::*;
use world::{info, name, restored, snapshot, summary, time, version, volume, written};

/// The fixed world.
#[derive(Debug, Default)]
pub struct Fake {
    asked: Mutex<Vec<String>>,
    empty: bool,
}

impl Fake {
    /// The fixed world, or one without anything in it.
    pub fn new(empty: bool) -> Self {
        Self { empty, ..Self::default() }
    }

    /// What was asked, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, what: impl std::fmt::Debug) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what:?}").replace('\\', ""));
    }

    fn some<T>(&self, items: Vec<T>) -> Vec<T> {
        if self.empty { Vec::new() } else { items }
    }
}

impl Service for Fake {
    fn init(&self, request: &InitRequest, _: &dyn Reporter) -> Result<PoolInfo> {
        self.note(request);
        Ok(PoolInfo {
            root: "/var/lib/tine".into(),
            image_file: Some("/var/lib/tine.img".into()),
            created_at: time(),
            created: true,
        })
    }
    fn detach(&self, _: &dyn Reporter) -> Result<DetachReport> {
        Ok(DetachReport { stopped: vec![BoxRef::parse("web", &name("default"))?], unmounted: true })
    }
    fn doctor(&self) -> Result<DoctorReport> {
        let item = |name: &str, status, detail: &str, mend: Option<&str>| DoctorItem {
            name: name.into(),
            status,
            detail: detail.into(),
            mend: mend.map(Into::into),
        };
        Ok(DoctorReport {
            healthy: false,
            items: vec![
                item("kernel", CheckStatus::Ok, "6.18", None),
                item("tools", CheckStatus::Failed, "nft is missing", Some("apt-get install nftables")),
            ],
        })
    }
    fn disk_usage(&self, _: &dyn Reporter) -> Result<DiskUsage> {
        let web = BoxUsage {
            name: BoxRef::parse("web", &name("default"))?,
            logical_bytes: ByteSize::mib(300),
            exclusive_bytes: ByteSize(4096),
        };
        Ok(DiskUsage {
            total_bytes: ByteSize::gib(20),
            used_bytes: ByteSize::gib(2),
            free_bytes: ByteSize::gib(18),
            boxes: self.some(vec![web]),
            stored: self.some(machines::stored()),
        })
    }
    fn gc(&self, dry_run: bool, _: &dyn Reporter) -> Result<GcReport> {
        Ok(GcReport { dry_run, removed: self.some(vec!["staging 0a1b".into()]) })
    }
    fn check(&self, request: &CheckRequest, _: &dyn Reporter) -> Result<CheckReport> {
        self.note(request);
        let problem =
            CheckProblem { object: "box web".into(), problem: "its root is missing".into(), mend: None };
        Ok(CheckReport { checked: 7, problems: self.some(vec![problem]) })
    }

    fn list_bases(&self, _: &dyn Reporter) -> Result<Vec<BaseSummary>> {
        Ok(self.some(vec![BaseSummary {
            name: name("box-base"),
            version: name("box-base-v20260101120000"),
            size_bytes: ByteSize::mib(300),
            created_at: time(),
        }]))
    }
    fn base_info(&self, alias: &BaseAlias, tag: Option<&Sha256Digest>) -> Result<BaseInfo> {
        self.note(tag);
        Ok(BaseInfo {
            name: alias.clone(),
            latest_version: Some(name("box-base")),
            versions: vec![version("box-base")],
        })
    }
    fn import_base(
        &self,
        request: &ImportBase,
        tar: &mut (dyn Read + Send),
        _: &dyn Reporter,
    ) -> Result<WrittenBase> {
        self.note(request);
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).unwrap();
        Ok(written(&request.name, true))
    }
    fn export_base(&self, base: &BaseRef, out: &mut dyn Write, _: &dyn Reporter) -> Result<()> {
        self.note(base);
        out.write_all(b"a tar").map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))
    }
    fn save_base(&self, request: &SaveBase, _: &dyn Reporter) -> Result<WrittenBase> {
        self.note(request);
        Ok(written(&request.name, true))
    }
    fn build_base(&self, request: &BuildBase, _: &dyn Reporter) -> Result<WrittenBase> {
        self.note(request);
        Ok(written(&request.name, true))
    }
    fn install_base(&self, request: &InstallBase, _: &dyn Reporter) -> Result<WrittenBase> {
        self.note(request);
        Ok(written(&request.name, request.rebuild))
    }
    fn delete_base(&self, request: &DeleteBase, dry_run: bool) -> Result<DeleteBaseReport> {
        self.note(request);
        let moved = Some((name("web"), name("web")));
        Ok(DeleteBaseReport { dry_run, removed: vec!["version web-v20260101120000".into()], moved })
    }

    fn create_box(&self, request: &CreateBox, _: &dyn Reporter) -> Result<BoxInfo> {
        self.note(request);
        Ok(info(&request.name))
    }
    fn list_boxes(&self, request: &ListBoxes, _: &dyn Reporter) -> Result<Vec<BoxSummary>> {
        self.note(request);
        let all: ProjectName = name("other");
        let of = |text: &str| BoxRef::parse(text, request.project.as_ref().unwrap_or(&all)).unwrap();
        Ok(self.some(vec![summary(&of("api"), BoxStatus::Stopped), summary(&of("web"), BoxStatus::Running)]))
    }
    fn box_info(&self, of: &BoxRef) -> Result<BoxInfo> {
        self.note(of.to_string());
        Ok(if of.name.as_str() == "machine" { machine(of) } else { info(of) })
    }
    fn start_box(&self, of: &BoxRef) -> Result<BoxInfo> {
        self.note(of.to_string());
        Ok(info(of))
    }
    fn stop_box(&self, of: &BoxRef, request: &StopBox) -> Result<()> {
        self.note((of.to_string(), request));
        Ok(())
    }
    fn pause_box(&self, of: &BoxRef) -> Result<()> {
        let error = Error::new(ErrorCode::WrongState, format!("box {of} is stopped"));
        Err(error.hint(format!("tine start {of}")))
    }
    fn resume_box(&self, _: &BoxRef) -> Result<()> {
        Ok(())
    }
    fn rename_box(&self, of: &BoxRef, new_name: &BoxName) -> Result<BoxInfo> {
        Ok(info(&BoxRef { name: new_name.clone(), ..of.clone() }))
    }
    fn delete_box(&self, of: &BoxRef, dry_run: bool) -> Result<DeleteBoxReport> {
        self.note((of.to_string(), dry_run));
        Ok(DeleteBoxReport {
            name: of.clone(),
            dry_run,
            snapshots: vec![name("v0"), name("v1")],
            was_running: true,
            kept_volumes: vec!["data".into()],
        })
    }
    fn update_box(&self, of: &BoxRef, request: &UpdateBox) -> Result<UpdateReport> {
        self.note(request);
        Ok(UpdateReport { info: info(of), needs_restart: true })
    }
    fn exec(&self, of: &BoxRef, request: &ExecRequest, streams: ExecStreams) -> Result<ExecOutcome> {
        self.note((of.to_string(), request, streams.stdin.is_some()));
        Ok(if request.background {
            ExecOutcome::Started { pid: 42 }
        } else {
            ExecOutcome::Exited { code: 7 }
        })
    }
    fn processes(&self, _: &BoxRef) -> Result<Vec<ProcessInfo>> {
        Ok(self.some(vec![ProcessInfo {
            pid: 7,
            uid: 1000,
            state: "S".into(),
            rss_bytes: ByteSize::mib(3),
            started_at: time(),
            command: "sleep 1000".into(),
        }]))
    }
    fn logs(&self, _: &BoxRef, request: &LogsRequest, out: &mut dyn Write, _: &dyn Reporter) -> Result<()> {
        self.note(request);
        out.write_all(b"tick\n").map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))
    }
    fn stat_path(&self, path: &BoxPath) -> Result<PathKind> {
        Ok(match path.path.as_bytes() {
            b"/etc/motd" => PathKind::File,
            b"/etc" | b"/tmp" | b"/" => PathKind::Directory,
            _ => PathKind::Missing,
        })
    }
    fn copy_out(&self, path: &BoxPath, out: &mut dyn Write, _: &dyn Reporter) -> Result<()> {
        self.note(("copy_out", path.path.to_string()));
        let failed = |e: std::io::Error| Error::new(ErrorCode::Internal, e.to_string());
        let mut tar = tar::Builder::new(out);
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o640);
        let base = path.path.as_path().file_name().unwrap_or_default();
        tar.append_data(&mut header, base, &b"hello"[..]).map_err(failed)?;
        tar.finish().map_err(failed)
    }
    fn copy_in(&self, path: &BoxPath, tar: &mut (dyn Read + Send), _: &dyn Reporter) -> Result<()> {
        let mut archive = tar::Archive::new(tar);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        self.note(("copy_in", path.path.to_string(), names));
        Ok(())
    }

    fn create_snapshot(
        &self,
        _: &BoxRef,
        request: &CreateSnapshot,
        _: &dyn Reporter,
    ) -> Result<SnapshotInfo> {
        self.note(request);
        let taken = snapshot(&request.name.clone().unwrap_or_else(|| name("v2")));
        Ok(SnapshotInfo { live: request.live, pause_us: request.live.then_some(3_100), ..taken })
    }
    fn list_snapshots(&self, _: &BoxRef, _: &dyn Reporter) -> Result<Vec<SnapshotInfo>> {
        Ok(self.some(vec![snapshot(&name("v0")), snapshot(&name("good"))]))
    }
    fn snapshot_info(&self, _: &BoxRef, of: &SnapshotName) -> Result<SnapshotInfo> {
        Ok(snapshot(of))
    }
    fn restore_snapshot(
        &self,
        _: &BoxRef,
        request: &RestoreSnapshot,
        _: &dyn Reporter,
    ) -> Result<RestoreReport> {
        Ok(restored(Some(request.name.clone()), request.keep_as.clone()))
    }
    fn undo_restore(&self, _: &BoxRef, _: &dyn Reporter) -> Result<RestoreReport> {
        Ok(restored(None, None))
    }
    fn delete_snapshots(&self, of: &BoxRef, snapshots: &[SnapshotName]) -> Result<()> {
        self.note((of.to_string(), snapshots));
        Ok(())
    }
    fn rename_snapshot(&self, _: &BoxRef, _: &SnapshotName, new_name: &SnapshotName) -> Result<SnapshotInfo> {
        Ok(snapshot(new_name))
    }
    fn prune_snapshots(&self, _: &BoxRef, request: &PruneSnapshots) -> Result<PruneReport> {
        self.note(request);
        Ok(PruneReport {
            dry_run: request.dry_run,
            kept: vec![name("v2")],
            removed: vec![name("v1"), name("v0")],
        })
    }

    fn diff_status(&self, _: &BoxRef, request: &DiffStatusRequest) -> Result<DiffStatus> {
        let path = |text: &str| RawPath::new(text);
        Ok(DiffStatus {
            against: request.against.clone().unwrap_or_else(|| name("v0")),
            to: request.to.clone(),
            added: self.some(vec![path("/etc/new"), path("/odd\nname")]),
            modified: self.some(vec![path("/etc/motd")]),
            deleted: self.some(vec![path("/bin/less")]),
        })
    }
    fn diff_file(&self, _: &BoxRef, request: &DiffFileRequest) -> Result<DiffFile> {
        let modified = request.path.as_bytes() == b"/etc/motd";
        Ok(DiffFile {
            path: request.path.clone(),
            status: if modified { FileStatus::Modified } else { FileStatus::Added },
            current: Some("b\n".into()),
            previous: None,
            diff: modified.then(|| "--- a/etc/motd\n+++ b/etc/motd\n@@ -1 +1 @@\n-a\n+b\n".into()),
        })
    }

    fn bake_image(&self, request: &BakeImage, _: &dyn Reporter) -> Result<ImageInfo> {
        self.note(request);
        Ok(image(&request.tag))
    }
    fn list_images(&self, _: &dyn Reporter) -> Result<Vec<ImageInfo>> {
        let days = |n: i64| Timestamp::from_second(Timestamp::now().as_second() - n * 86_400);
        let old = ImageInfo { created_at: days(3), ..image(&name("python-numpy")) };
        let new = ImageInfo { created_at: days(0), has_rootfs: false, ..image(&name("Web_1.0")) };
        Ok(self.some(vec![new, old]))
    }
    fn image_info(&self, tag: &ImageTag) -> Result<ImageInfo> {
        Ok(image(tag))
    }
    fn delete_image(&self, tag: &ImageTag, dry_run: bool) -> Result<ImageInfo> {
        self.note((tag.as_str(), dry_run));
        match tag.as_str() {
            "gone" => Err(Error::new(ErrorCode::NotFound, "there is no image gone").hint("tine image list")),
            "stuck" if !dry_run => Err(Error::new(ErrorCode::Busy, "image stuck is being forked")),
            _ => Ok(image(tag)),
        }
    }
    fn rename_image(&self, tag: &ImageTag, new_tag: &ImageTag) -> Result<ImageInfo> {
        self.note(tag.as_str());
        Ok(image(new_tag))
    }
    fn pack_image(&self, request: &PackImage, files: &dyn NewFiles, _: &dyn Reporter) -> Result<PackReport> {
        self.note(request);
        packed(request, files)
    }
    fn unpack_image(
        &self,
        request: &UnpackImage,
        pack: &mut dyn PackInput,
        _: &Siblings<'_>,
        _: &dyn Reporter,
    ) -> Result<UnpackReport> {
        self.note(request);
        unpacked(request, pack)
    }
    fn pull_image(&self, request: &PullImage, _: &dyn Reporter) -> Result<PullReport> {
        self.note(request);
        pulled(request)
    }
    fn push_image(&self, request: &PushImage, _: &dyn Reporter) -> Result<PushReport> {
        self.note(request);
        pushed(request)
    }
    fn init_hub(&self, request: &InitHub) -> Result<()> {
        self.note(request);
        Ok(())
    }
    fn add_to_hub(&self, request: &AddToHub, _: &dyn Reporter) -> Result<PublishedPack> {
        self.note(request);
        Ok(published(request))
    }
    fn remove_from_hub(&self, request: &RemoveFromHub) -> Result<()> {
        self.note(request);
        Ok(())
    }
    fn list_hub(&self, request: &ListHub, _: &dyn Reporter) -> Result<Vec<HubPackage>> {
        self.note(request);
        Ok(self.some(vec![hub_package()]))
    }
    fn verify_hub(&self, hub: Option<&str>, _: &dyn Reporter) -> Result<HubCheck> {
        self.note(hub);
        Ok(hub_check(hub.is_some_and(|hub| hub.contains("bad"))))
    }
    fn default_hub(&self, new: Option<&str>) -> Result<Option<String>> {
        self.note(new);
        Ok(new.map(str::to_owned).filter(|_| !self.empty))
    }
    fn generate_key(&self, name: &KeyName, password: Option<&str>) -> Result<KeyInfo> {
        self.note((name, password));
        Ok(key(name, true))
    }
    fn list_keys(&self) -> Result<Vec<KeyInfo>> {
        Ok(self.some(vec![key(&name("friend"), false), key(&name("release"), true)]))
    }
    fn trust_key(&self, name: &KeyName, public: &str) -> Result<KeyInfo> {
        self.note((name, public));
        Ok(key(name, false))
    }
    fn revoke_key(&self, of: &KeyRef) -> Result<KeyInfo> {
        self.note(of.to_string());
        Ok(KeyInfo { revoked_at: Some(time()), ..key(&name("friend"), false) })
    }
    fn trust_rules(&self) -> Result<Vec<TrustRule>> {
        Ok(vec![
            TrustRule { hub: None, policy: TrustPolicy::Warn },
            TrustRule { hub: Some("https://hub.example.org/".into()), policy: TrustPolicy::Require },
        ])
    }
    fn set_trust_rule(&self, hub: Option<&str>, policy: Option<TrustPolicy>) -> Result<()> {
        self.note((hub, policy));
        Ok(())
    }
    fn fork(
        &self,
        request: &ForkRequest,
        on_ready: &(dyn Fn(&ForkedBox) + Sync),
        _: &dyn Reporter,
    ) -> Result<ForkReport> {
        self.note(request);
        forked(request, on_ready)
    }
    fn list_kernels(&self, _: &dyn Reporter) -> Result<Vec<KernelInfo>> {
        Ok(self.some(vec![kernel("6.1.0-2-cloud-amd64", true), kernel("6.1.0-1-cloud-amd64", false)]))
    }
    fn install_kernel(&self, _: &dyn Reporter) -> Result<KernelInfo> {
        Ok(kernel("6.1.0-2-cloud-amd64", true))
    }
    fn import_kernel(&self, request: &ImportKernel, _: &dyn Reporter) -> Result<KernelInfo> {
        self.note(request);
        Ok(kernel(request.name.as_ref().map_or("6.1.0-1-cloud-amd64", |n| n.as_str()), true))
    }

    fn list_recipes(&self) -> Result<Vec<RecipeInfo>> {
        let image = if self.empty { RecipeState::Missing } else { RecipeState::Outdated };
        Ok(vec![recipe("nodejs", RecipeState::Missing), recipe("python-numpy", image)])
    }
    fn build_recipe(&self, request: &BuildRecipe, _: &dyn Reporter) -> Result<BuiltRecipe> {
        self.note(request);
        built(request)
    }

    fn create_volume(&self, of: &VolumeRef) -> Result<VolumeInfo> {
        Ok(volume(of))
    }
    fn list_volumes(&self, project: Option<&ProjectName>, _: &dyn Reporter) -> Result<Vec<VolumeInfo>> {
        let project = project.cloned().unwrap_or_else(|| name("other"));
        Ok(self.some(vec![volume(&VolumeRef { project, name: name("data") })]))
    }
    fn volume_info(&self, of: &VolumeRef) -> Result<VolumeInfo> {
        Ok(volume(of))
    }
    fn delete_volume(&self, of: &VolumeRef, dry_run: bool) -> Result<VolumeInfo> {
        self.note((of.to_string(), dry_run));
        Ok(volume(of))
    }
}
