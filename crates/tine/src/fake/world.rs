//! The things of the fixed world: boxes, snapshots, bases and volumes.

use tine_model::*;

/// A name that is well formed.
pub fn name<T: std::str::FromStr<Err = Error>>(text: &str) -> T {
    text.parse().unwrap()
}

/// The moment everything was made at.
pub fn time() -> Timestamp {
    Timestamp::from_second(1_767_268_800)
}

/// A box, as `list` shows it.
pub fn summary(of: &BoxRef, status: BoxStatus) -> BoxSummary {
    BoxSummary {
        name: of.clone(),
        kind: BoxKind::Container,
        status,
        base: Some(name("box-base-v20260101120000")),
        created_at: time(),
        tags: vec!["team=a".parse().unwrap()],
    }
}

/// A box, as `info` shows it.
pub fn info(of: &BoxRef) -> BoxInfo {
    BoxInfo {
        summary: summary(of, BoxStatus::Running),
        id: "0123456789abcdef".repeat(2),
        source: "base box-base".into(),
        settings: BoxSettings { tags: vec!["team=a".parse().unwrap()], ..BoxSettings::default() },
        address: Some([10, 88, 0, 2].into()),
        snapshots: vec![name("v0"), name("v1")],
        can_undo: true,
        root_path: "/pool/boxes/default/web/root".into(),
        accel: None,
        last_end: None,
    }
}

/// A snapshot with a hostile description.
pub fn snapshot(of: &SnapshotName) -> SnapshotInfo {
    SnapshotInfo {
        name: of.clone(),
        size_bytes: Some(ByteSize::mib(1536)),
        created_at: time(),
        description: "before\x1b[2J the accident".into(),
        live: of.as_str() == "live",
        pause_us: None,
        missing_subvolumes: vec![],
    }
}

/// A version of a base, built by a recipe.
pub fn version(text: &str) -> BaseVersionInfo {
    let build = BuildProvenance {
        builder: "mmdebstrap".into(),
        parent_alias: None,
        parent_version: None,
        script: "#!/bin/sh\n\techo hi\n".into(),
        script_sha256: Sha256Digest([0xab; 32]),
    };
    BaseVersionInfo {
        name: name(text),
        created_at: time(),
        size_bytes: ByteSize::mib(300),
        provenance: Provenance { kind: ProvenanceKind::Recipe, build: Some(build) },
    }
}

/// What the verbs that write a base answer.
pub fn written(alias: &BaseAlias, created: bool) -> WrittenBase {
    WrittenBase { alias: alias.clone(), version: version("box-base"), created }
}

/// A volume that two boxes use.
pub fn volume(of: &VolumeRef) -> VolumeInfo {
    VolumeInfo {
        volume: of.clone(),
        size_bytes: ByteSize(12),
        created_at: time(),
        attached_to: vec![name("web"), name("api")],
    }
}

/// What a restore answers.
pub fn restored(snapshot: Option<SnapshotName>, kept_as: Option<SnapshotName>) -> RestoreReport {
    let resumed = snapshot.as_ref().is_some_and(|s| s.as_str() == "live");
    RestoreReport {
        restored: snapshot,
        kept_as,
        restarted: true,
        resumed,
        untouched_volumes: vec!["data".into()],
    }
}
