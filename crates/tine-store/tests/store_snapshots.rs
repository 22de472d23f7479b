//! Snapshots, restore and undo on real btrfs.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::{fs, os::fd::AsFd};
use store_support::{
    TestPool, assert_clean, box_ref, fingerprint, from_base, lock, make_base, make_box, snap, take,
};
use tine_model::{
    BoxRef, BoxSettings, ByteSize, CreateSnapshot, Error, ErrorCode, PruneSnapshots, RestoreSnapshot,
};
use tine_store::{Pool, StoreError, plan_prune};

fn code<T>(result: Result<T, StoreError>) -> ErrorCode {
    Error::from(result.err().unwrap()).code
}

fn create(pool: &Pool, name: &BoxRef, snapshot: Option<&str>) -> Result<String, StoreError> {
    let request =
        CreateSnapshot { name: snapshot.map(snap), description: "text".into(), ..CreateSnapshot::default() };
    lock(pool, name).create_snapshot(&request).map(|r| r.name.to_string())
}

fn restore(pool: &Pool, name: &BoxRef, snapshot: &str) {
    lock(pool, name).restore(&RestoreSnapshot { name: snap(snapshot), keep_as: None }).unwrap();
}

fn names(pool: &Pool, name: &BoxRef) -> Vec<String> {
    pool.list_snapshots(name).unwrap().iter().map(|r| r.name.to_string()).collect()
}

#[test]
fn names_follow_the_rules_to_the_letter() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    assert_eq!(create(&pool, &web, None).unwrap(), "v0");
    assert_eq!(create(&pool, &web, Some("v7")).unwrap(), "v7");
    assert_eq!(create(&pool, &web, Some("v09")).unwrap(), "v09");
    assert_eq!(create(&pool, &web, None).unwrap(), "v8");
    assert_eq!(code(create(&pool, &web, Some("v7"))), ErrorCode::AlreadyExists);
    assert_eq!(names(&pool, &web), ["v0", "v7", "v09", "v8"], "oldest first, also within a second");
    let held = lock(&pool, &web);
    assert_eq!(code(held.rename_snapshot(&snap("v0"), &snap("v7"))), ErrorCode::AlreadyExists);
    assert_eq!(held.rename_snapshot(&snap("v0"), &snap("first")).unwrap().description, "text");
    assert_eq!(code(held.rename_snapshot(&snap("v0"), &snap("x"))), ErrorCode::NotFound);
    assert_eq!(code(held.delete_snapshots(&[snap("first"), snap("nope")])), ErrorCode::NotFound);
    assert_eq!(names(&pool, &web).len(), 4, "all or none");
    held.delete_snapshots(&[snap("first"), snap("v7"), snap("v7")]).unwrap();
    assert_eq!(names(&pool, &web), ["v09", "v8"]);
    let error: Error = pool.snapshot(&web, &snap("nope")).unwrap_err().into();
    assert_eq!(error.hint.as_deref(), Some("tine snapshot list web"));
    assert_eq!(code(pool.list_snapshots(&box_ref("nope"))), ErrorCode::NotFound);
    drop(held);
    assert_clean(&pool);
}

#[test]
fn many_snapshots_at_once_all_get_their_own_number() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| create(&test.open(), &web, None).unwrap());
        }
    });
    assert_eq!(names(&pool, &web), ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"]);
    assert_clean(&pool);
}

#[test]
fn a_size_is_measured_once_and_its_cache_can_be_thrown_away() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let base = make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    take(&pool, &web, "s1");
    let cache = pool.snapshot_root_path(&web, &snap("s1")).with_file_name("size");
    assert!(!cache.exists());
    assert_eq!(
        pool.list_snapshot_infos(&web, &tine_model::Silent).unwrap()[0].size_bytes,
        Some(base.size_bytes)
    );
    assert!(cache.exists());
    fs::write(&cache, "rubbish").unwrap();
    assert_eq!(pool.snapshot_info(&web, &snap("s1")).unwrap().size_bytes, Some(base.size_bytes));
    fs::write(&cache, "77\n").unwrap();
    assert_eq!(pool.snapshot_size(&web, &snap("s1")).unwrap(), ByteSize(77));
    assert_clean(&pool);
}

#[test]
fn back_forward_and_undo_give_byte_identical_trees() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    let root = pool.box_root_path(&web);
    take(&pool, &web, "old");
    let old = fingerprint(&root);
    fs::remove_file(root.join("usr/bin/tool")).unwrap();
    fs::write(root.join("etc/motd"), "changed").unwrap();
    fs::create_dir(root.join("new")).unwrap();
    store_support::fill_tree(&root.join("new"));
    take(&pool, &web, "new");
    let new = fingerprint(&root);
    assert_ne!(old, new);
    restore(&pool, &web, "old");
    assert_eq!(fingerprint(&root), old);
    restore(&pool, &web, "new");
    assert_eq!(fingerprint(&root), new);
    fs::write(root.join("late"), "unsaved").unwrap();
    let late = fingerprint(&root);
    restore(&pool, &web, "old");
    assert!(pool.can_undo(&web).unwrap());
    lock(&pool, &web).undo_restore().unwrap();
    assert_eq!(fingerprint(&root), late);
    assert!(!pool.can_undo(&web).unwrap());
    assert_eq!(code(lock(&pool, &web).undo_restore()), ErrorCode::WrongState);
    assert_eq!(names(&pool, &web), ["old", "new"], "snapshots stay");
    fs::write(root.join("still"), "writable").unwrap();
    assert_clean(&pool);
    drop(pool);
    test.reboot();
    assert!(test.open().box_root_path(&web).join("late").exists());
}

#[test]
fn the_former_root_can_be_kept_by_name() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    let root = pool.box_root_path(&web);
    take(&pool, &web, "s1");
    fs::write(root.join("work"), "precious").unwrap();
    let before = fingerprint(&root);
    let request = |keep: &str| RestoreSnapshot { name: snap("s1"), keep_as: Some(snap(keep)) };
    assert_eq!(code(lock(&pool, &web).restore(&request("s1"))), ErrorCode::AlreadyExists);
    assert_eq!(fingerprint(&root), before, "a conflict changes nothing");
    assert!(!pool.can_undo(&web).unwrap());
    let restored = lock(&pool, &web).restore(&request("kept")).unwrap();
    assert_eq!(restored.kept_as, Some(snap("kept")));
    assert!(!root.join("work").exists());
    assert_eq!(fingerprint(&pool.snapshot_root_path(&web, &snap("kept"))), before);
    assert_eq!(
        code(lock(&pool, &web).restore(&RestoreSnapshot { name: snap("x"), keep_as: None })),
        ErrorCode::NotFound
    );
    assert_clean(&pool);
}

/// A restore that is killed before its swap leaves the clone at `undo/root`: the box is as it was, nothing can be
/// undone, and the next restore works.
#[test]
fn a_restore_killed_before_the_swap_never_happened() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    let (root, undo) = (pool.box_root_path(&web), pool.root().join("boxes/default/web/undo"));
    take(&pool, &web, "s1");
    fs::write(root.join("now"), "x").unwrap();
    restore(&pool, &web, "s1");
    // swapping back by hand is what the kernel's state is just before the swap
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        undo.join("root"),
        rustix::fs::CWD,
        &root,
        rustix::fs::RenameFlags::EXCHANGE,
    )
    .unwrap();
    assert!(root.join("now").exists());
    assert!(!pool.can_undo(&web).unwrap());
    assert_eq!(code(lock(&pool, &web).undo_restore()), ErrorCode::WrongState);
    assert_eq!(
        pool.check(&tine_model::CheckRequest { read_data: false }, &tine_model::Silent).unwrap().problems,
        []
    );
    drop(pool);
    let alone = Pool::open_exclusive(&test.root, store_support::WAIT).unwrap();
    let plan = alone.plan_gc().unwrap();
    assert_eq!(plan.len(), 1, "{plan:?}");
    alone.apply_gc(&plan, &tine_model::Silent).unwrap();
    drop(alone);
    let pool = test.open();
    restore(&pool, &web, "s1");
    lock(&pool, &web).undo_restore().unwrap();
    assert!(root.join("now").exists());
    assert_clean(&pool);
}

#[test]
fn nested_subvolumes_are_named_as_missing() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    let etc = fs::File::open(pool.box_root_path(&web).join("etc")).unwrap();
    tine_sys::btrfs::create_subvolume(etc.as_fd(), "sub").unwrap();
    let sub = fs::File::open(pool.box_root_path(&web).join("etc/sub")).unwrap();
    tine_sys::btrfs::create_subvolume(sub.as_fd(), "inner").unwrap();
    drop((etc, sub));
    take(&pool, &web, "s1");
    let record = pool.snapshot(&web, &snap("s1")).unwrap();
    assert_eq!(record.missing_subvolumes, ["/etc/sub", "/etc/sub/inner"]);
    restore(&pool, &web, "s1");
    restore(&pool, &web, "s1");
    lock(&pool, &web).delete().unwrap();
    assert_clean(&pool);
}

#[test]
fn pruning_applies_its_plan() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    for _ in 0..4 {
        create(&pool, &web, None).unwrap();
    }
    let rules = PruneSnapshots { keep_last: Some(2), keep_daily: None, dry_run: false };
    let plan = plan_prune(&pool.list_snapshots(&web).unwrap(), &rules).unwrap();
    lock(&pool, &web).delete_snapshots(&plan.removed).unwrap();
    assert_eq!(names(&pool, &web), ["v2", "v3"]);
    assert_clean(&pool);
}

/// What was acknowledged is on disk: the image is copied at that moment, as a power cut would leave it, and holds it.
#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let Some(test) = TestPool::empty() else { return };
    let pool = Pool::init(&test.root, ByteSize::mib(256)).unwrap().pool;
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    take(&pool, &web, "s1");
    let mut settings = BoxSettings::default();
    settings.tags.push("k=v".parse().unwrap());
    lock(&pool, &web).write_settings(&settings).unwrap();
    restore(&pool, &web, "s1");
    pool.create_box(&box_ref("two"), &from_base("deb"), &BoxSettings::default()).unwrap();
    let Some(after) = TestPool::empty() else { return };
    let image = pool.image_file().unwrap();
    fs::copy(&image, after.root.with_extension("img")).unwrap();
    drop(pool);
    // two file systems with one UUID cannot be mounted at once
    test.reboot();
    fs::create_dir(&after.root).unwrap();
    let pool = after.open();
    assert_eq!(pool.list_boxes(None).unwrap().len(), 2);
    assert_eq!(pool.box_meta(&web).unwrap().settings, settings);
    assert!(pool.can_undo(&web).unwrap());
    assert_clean(&pool);
}
