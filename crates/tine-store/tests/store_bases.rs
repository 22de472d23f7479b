//! Bases on real btrfs: versions, aliases, publishing, deleting, collisions.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::fs;
use store_support::{TestPool, alias, assert_clean, fingerprint, imported, make_base, make_box};
use tine_model::{
    BaseVersion, BuildProvenance, DeleteBase, Error, ErrorCode, Provenance, ProvenanceKind, Sha256Digest,
};
use tine_store::Pool;

fn version(name: &str) -> BaseVersion {
    name.parse().unwrap()
}

fn delete(pool: &Pool, name: &str, force: bool) -> Result<tine_store::BaseDeletePlan, Error> {
    Ok(pool.delete_base(&DeleteBase::Version { name: version(name), force })?)
}

fn code<T>(result: Result<T, tine_store::StoreError>) -> ErrorCode {
    Error::from(result.err().unwrap()).code
}

#[test]
fn the_first_write_takes_the_name_and_later_ones_move_the_alias() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let first = make_base(&pool, "deb");
    let second = make_base(&pool, "deb");
    let third = make_base(&pool, "deb");
    assert_eq!(first.name.as_str(), "deb");
    assert!(second.name.as_str().starts_with("deb-v2") && second.name < third.name);
    let info = pool.base_info(&alias("deb"), None).unwrap();
    assert_eq!(info.latest_version, Some(third.name.clone()));
    let names: Vec<_> = info.versions.iter().map(|v| v.name.clone()).collect();
    assert_eq!(names, [third.name.clone(), second.name.clone(), first.name.clone()]);
    let list = pool.list_bases(&tine_model::Silent).unwrap();
    assert_eq!((list.len(), &list[0].version), (1, &third.name));
    let resolved = |text: &str| pool.resolve_base(&text.parse().unwrap()).map(|v| v.name);
    assert_eq!(resolved("deb").unwrap(), third.name);
    assert_eq!(resolved("deb@deb").unwrap(), first.name);
    assert_eq!(resolved(second.name.as_str()).unwrap(), second.name);
    make_base(&pool, "other");
    for missing in ["nope", "other@deb", "deb@nope", &format!("deb:{}", "0".repeat(64))] {
        let error: Error = resolved(missing).unwrap_err().into();
        assert_eq!(
            (error.code, error.hint.as_deref()),
            (ErrorCode::NotFound, Some("tine base list")),
            "{missing}"
        );
    }
    assert_clean(&pool);
}

#[test]
fn a_version_is_read_only_has_its_mount_points_and_the_size_of_its_files() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let base = make_base(&pool, "deb");
    let root = pool.base_root_path(&base.name);
    assert_eq!(fs::write(root.join("x"), "").unwrap_err().raw_os_error(), Some(30));
    for dir in ["proc", "sys", "dev", "home", "box/proj", "box/all", "box/bin"] {
        assert!(fs::symlink_metadata(root.join(dir)).unwrap().is_dir(), "{dir}");
    }
    for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        let stat = fs::symlink_metadata(root.join(file)).unwrap();
        assert!(stat.is_file() && stat.len() == 0, "{file}");
    }
    // motd once though it has two names, tool, sparse, and the target of /bin
    assert_eq!(base.size_bytes.bytes(), 6 + 200_000 + (9 << 20) + 3 + (1 << 20) - 3 + 7);
}

#[test]
fn a_tree_that_leads_mount_points_out_is_refused_or_stays_inside() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let outside = tempfile::tempdir().unwrap();
    for (at, is_refused) in [("proc", true), ("box", true), ("home", false), ("etc", false)] {
        let stage = pool.stage_base(None).unwrap();
        // what exists only on the host is a link to nowhere inside
        let target = if is_refused { outside.path() } else { std::path::Path::new("/inside") };
        fs::create_dir(stage.root_path().join("inside")).unwrap();
        std::os::unix::fs::symlink(target, stage.root_path().join(at)).unwrap();
        let published = stage.publish(&alias(&format!("l-{at}")), imported());
        assert_eq!(published.is_err(), is_refused, "{at}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let stage = pool.stage_base(None).unwrap();
    fs::write(stage.root_path().join("dev"), "").unwrap();
    assert_eq!(code(stage.publish(&alias("f"), imported())), ErrorCode::InvalidPath);
    assert_clean(&pool);
}

#[test]
fn saving_one_name_from_many_threads_within_a_second_collides_nowhere() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let name = make_box(&pool, "web", "deb");
    let mut names: Vec<BaseVersion> = std::thread::scope(|scope| {
        let save = || {
            let pool = test.open();
            pool.stage_base_from_box(&name).unwrap().publish(&alias("deb"), imported()).unwrap().name
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(save)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6);
    let info = pool.base_info(&alias("deb"), None).unwrap();
    assert_eq!(info.latest_version.as_ref(), names.last());
    assert_clean(&pool);
}

#[test]
fn a_saved_root_equals_the_boxs() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let name = make_box(&pool, "web", "deb");
    fs::write(pool.box_root_path(&name).join("new"), "not yet written back").unwrap();
    let before = fingerprint(&pool.box_root_path(&name));
    let saved = pool.stage_base_from_box(&name).unwrap().publish(&alias("mine"), imported()).unwrap();
    drop(pool);
    // only what is durable survives this
    test.reboot();
    assert_eq!(fingerprint(&test.open().base_root_path(&saved.name)), before);
}

#[test]
fn scripts_select_versions() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let digest = |n: u8| Sha256Digest([n; 32]);
    for n in [1, 2, 1] {
        let build = BuildProvenance {
            builder: "box".into(),
            parent_alias: None,
            parent_version: None,
            script: "true".into(),
            script_sha256: digest(n),
        };
        let provenance = Provenance { kind: ProvenanceKind::Recipe, build: Some(build) };
        pool.stage_base(None).unwrap().publish(&alias("py"), provenance).unwrap();
    }
    let tagged = pool.base_info(&alias("py"), Some(&digest(1))).unwrap();
    assert_eq!(tagged.versions.len(), 2);
    let by_script = pool.resolve_base(&format!("py:{}", digest(1)).parse().unwrap()).unwrap();
    assert_eq!(Some(by_script.name), tagged.latest_version);
    let two = pool.base_info(&alias("py"), Some(&digest(2))).unwrap();
    assert_eq!((two.versions.len(), two.latest_version), (1, None));
}

#[test]
fn deleting_versions_and_aliases() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let second = make_base(&pool, "deb").name;
    let name = make_box(&pool, "web", "deb");
    let refused = delete(&pool, second.as_str(), false).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(refused.hint.unwrap().ends_with("--force"));
    let plan = delete(&pool, second.as_str(), true).unwrap();
    assert_eq!(plan.moved, Some((alias("deb"), version("deb"))));
    assert_eq!(pool.resolve_base(&"deb".parse().unwrap()).unwrap().name, version("deb"));
    assert!(pool.box_root_path(&name).join("etc/motd").exists(), "boxes stay");
    pool.delete_base(&DeleteBase::Alias { name: alias("deb") }).unwrap();
    assert!(pool.list_bases(&tine_model::Silent).unwrap().is_empty());
    assert_eq!(code(pool.delete_base(&DeleteBase::Alias { name: alias("deb") })), ErrorCode::NotFound);
    // the version of that name is still there, so the next write cannot be it
    assert!(make_base(&pool, "deb").name.as_str().starts_with("deb-v"));
    assert_clean(&pool);
    let last = make_base(&pool, "solo").name;
    assert_eq!(delete(&pool, last.as_str(), true).unwrap().alias, Some(alias("solo")));
    assert!(pool.base_info(&alias("solo"), None).is_err());
    assert_clean(&pool);
}

#[test]
fn a_base_over_a_parent_starts_as_the_parent_and_a_dropped_one_leaves_nothing() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let parent = make_base(&pool, "deb").name;
    let stage = pool.stage_base(Some(&parent)).unwrap();
    assert_eq!(fingerprint(&stage.root_path()), fingerprint(&pool.base_root_path(&parent)));
    drop(stage);
    assert_eq!(code(pool.stage_base(Some(&version("nope"))).map(drop)), ErrorCode::NotFound);
    assert_clean(&pool);
}
