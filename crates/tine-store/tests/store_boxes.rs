//! Boxes, volumes and disk limits on real btrfs.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::{
    fs,
    io::Write,
    os::fd::AsFd,
    time::{Duration, Instant},
};
use store_support::{
    TestPool, assert_clean, box_ref, fingerprint, from_base, lock, make_base, make_box, snap, take,
};
use tine_model::{
    BoxSettings, BoxSource, ByteSize, Error, ErrorCode, Limits, ProjectName, RestoreSnapshot, VolumeRef,
};
use tine_store::{Pool, StoreError};

fn code<T>(result: Result<T, StoreError>) -> ErrorCode {
    Error::from(result.err().unwrap()).code
}

fn volume(name: &str) -> VolumeRef {
    VolumeRef { project: ProjectName::default_project(), name: name.parse().unwrap() }
}

fn with_volume(mount: &str) -> BoxSettings {
    BoxSettings { volumes: vec![mount.parse().unwrap()], ..BoxSettings::default() }
}

#[test]
fn a_box_is_a_copy_of_its_source_and_independent_of_it() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let base = make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    assert_eq!(fingerprint(&pool.box_root_path(&web)), fingerprint(&pool.base_root_path(&base.name)));
    fs::write(pool.box_root_path(&web).join("mine"), "1").unwrap();
    take(&pool, &web, "s1");
    fs::write(pool.box_root_path(&web).join("mine"), "2").unwrap();
    let read = |name: &str| fs::read_to_string(pool.box_root_path(&box_ref(name)).join("mine")).unwrap();
    let settings = BoxSettings::default();
    pool.create_box(&box_ref("fork"), &BoxSource::Box(web.clone()), &settings).unwrap();
    let from_snapshot = BoxSource::Snapshot { name: web.clone(), snapshot: snap("s1") };
    let copy = pool.create_box(&box_ref("other:copy"), &from_snapshot, &settings).unwrap();
    assert_eq!((read("fork").as_str(), read("other:copy").as_str()), ("2", "1"));
    assert_eq!((copy.base, copy.size_bytes), (Some(base.name), Some(base.size_bytes)));
    let names = |project: Option<&str>| -> Vec<String> {
        let project = project.map(|p| p.parse().unwrap());
        pool.list_boxes(project.as_ref()).unwrap().iter().map(|r| r.name.to_string()).collect()
    };
    assert_eq!(names(None), ["fork", "web", "other:copy"]);
    assert_eq!(names(Some("other")), ["other:copy"]);
    assert_eq!(names(Some("nobody")), [""; 0]);
    assert_clean(&pool);
}

#[test]
fn taken_and_unknown_names_are_refused_and_leave_nothing() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    make_box(&pool, "web", "deb");
    let create = |name: &str, source: &BoxSource| {
        code(pool.create_box(&box_ref(name), source, &BoxSettings::default()))
    };
    assert_eq!(create("web", &from_base("deb")), ErrorCode::AlreadyExists);
    assert_eq!(create("new", &from_base("nope")), ErrorCode::NotFound);
    assert_eq!(create("new", &BoxSource::Box(box_ref("nope"))), ErrorCode::NotFound);
    let missing = |name: &str| BoxSource::Snapshot { name: box_ref(name), snapshot: snap("nope") };
    assert_eq!(create("new", &missing("web")), ErrorCode::NotFound);
    assert_eq!(create("new", &missing("nope")), ErrorCode::NotFound);
    assert_eq!(code(pool.box_meta(&box_ref("new"))), ErrorCode::NotFound);
    assert_eq!(code(pool.lock_box(&box_ref("new"), Duration::ZERO)), ErrorCode::NotFound);
    assert_clean(&pool);
}

#[test]
fn of_many_who_create_one_name_exactly_one_wins() {
    let Some(test) = TestPool::new() else { return };
    make_base(&test.open(), "deb");
    let outcomes: Vec<Result<_, StoreError>> = std::thread::scope(|scope| {
        let create = || test.open().create_box(&box_ref("web"), &from_base("deb"), &BoxSettings::default());
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(
        outcomes.into_iter().filter_map(Result::err).all(|e| Error::from(e).code == ErrorCode::AlreadyExists)
    );
    assert_clean(&test.open());
}

#[test]
fn a_second_operation_waits_and_then_says_which_box_is_busy() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let (web, other) = (make_box(&pool, "web", "deb"), make_box(&pool, "other", "deb"));
    let held = lock(&pool, &web);
    let begun = Instant::now();
    let error: Error = pool.lock_box(&web, Duration::from_millis(50)).unwrap_err().into();
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(error.code, ErrorCode::Busy);
    assert!(error.message.contains("web"), "{}", error.message);
    drop(lock(&pool, &other));
    drop(held);
    drop(lock(&pool, &web));
}

#[test]
fn one_who_waited_for_a_deleted_box_is_told_that_it_is_gone() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    let held = lock(&pool, &web);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| code(test.open().lock_box(&web, Duration::from_secs(10)).map(drop)));
        std::thread::sleep(Duration::from_millis(30));
        held.delete().unwrap();
        assert_eq!(waiter.join().unwrap(), ErrorCode::NotFound);
    });
    assert_clean(&pool);
}

#[test]
fn renaming_keeps_everything_and_respects_taken_names() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    make_box(&pool, "taken", "deb");
    take(&pool, &web, "s1");
    let id = pool.box_meta(&web).unwrap().id;
    let mut held = lock(&pool, &web);
    assert_eq!(code(held.rename(&"taken".parse().unwrap())), ErrorCode::AlreadyExists);
    held.rename(&"shop".parse().unwrap()).unwrap();
    assert_eq!(held.name(), &box_ref("shop"));
    assert_eq!(held.meta().unwrap().id, id);
    assert_eq!(pool.list_snapshots(&box_ref("shop")).unwrap().len(), 1);
    assert_eq!(code(pool.box_meta(&web)), ErrorCode::NotFound);
    drop(held);
    assert_clean(&pool);
}

#[test]
fn deleting_takes_snapshots_undo_and_subvolumes_nested_deeper_than_a_path_reaches() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    take(&pool, &web, "s1");
    lock(&pool, &web).restore(&RestoreSnapshot { name: snap("s1"), keep_as: None }).unwrap();
    // a program in a box can go deeper than any path is long, and make subvolumes there
    let mut dir = pool.open_box_root(&web).unwrap();
    let step = "d".repeat(250);
    for depth in 0..40 {
        if depth % 15 == 5 {
            tine_sys::btrfs::create_subvolume(dir.as_fd(), &step).unwrap();
        } else {
            rustix::fs::mkdirat(&dir, &*step, rustix::fs::Mode::RWXU).unwrap();
        }
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, &*step, flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(dir);
    let root = pool.open_box_root(&web).unwrap();
    let nested = tine_sys::btrfs::nested_subvolumes(root.as_fd()).unwrap();
    assert_eq!(nested.len(), 3);
    // nothing can be deleted from a read-only subvolume, the box's own root included
    for id in [nested[0].id, nested[1].id] {
        let subvolume = tine_sys::btrfs::open_inode(root.as_fd(), id, 256).unwrap();
        tine_sys::btrfs::set_read_only(subvolume.as_fd(), true).unwrap();
    }
    tine_sys::btrfs::set_read_only(root.as_fd(), true).unwrap();
    drop(root);
    lock(&pool, &web).delete().unwrap();
    assert!(pool.list_boxes(None).unwrap().is_empty());
    assert_clean(&pool);
    // nothing but the base's own subvolume is left in the whole file system
    let top = fs::File::open(&test.root).unwrap();
    let left = tine_sys::btrfs::nested_subvolumes(top.as_fd()).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn settings_are_replaced_in_one_step_and_bring_their_mount_points() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    pool.create_volume(&volume("data")).unwrap();
    let web = make_box(&pool, "web", "deb");
    let held = lock(&pool, &web);
    held.write_settings(&with_volume("data=/bin/deep/er")).unwrap();
    // /bin leads to usr/bin inside the box
    assert!(pool.box_root_path(&web).join("usr/bin/deep/er").is_dir());
    assert_eq!(pool.box_meta(&web).unwrap().settings, with_volume("data=/bin/deep/er"));
    assert_eq!(code(held.write_settings(&with_volume("nope=/x"))), ErrorCode::NotFound);
    assert_eq!(code(held.write_settings(&with_volume("data=/etc/motd/x"))), ErrorCode::InvalidPath);
    assert_eq!(pool.box_meta(&web).unwrap().settings, with_volume("data=/bin/deep/er"));
    drop(held);
    assert_clean(&pool);
}

#[test]
fn a_volume_outlives_boxes_and_is_not_deleted_while_attached() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let data = volume("data");
    pool.create_volume(&data).unwrap();
    assert_eq!(code(pool.create_volume(&data)), ErrorCode::AlreadyExists);
    let web = box_ref("web");
    pool.create_box(&web, &from_base("deb"), &with_volume("data=/srv/data")).unwrap();
    assert!(pool.box_root_path(&web).join("srv/data").is_dir());
    fs::write(pool.volume_data_path(&data).join("row"), "12345").unwrap();
    pool.commit().unwrap();
    rustix::fs::syncfs(fs::File::open(&test.root).unwrap()).unwrap();
    let info = pool.volume_info(&data).unwrap();
    assert_eq!((info.attached_to, info.size_bytes), (vec![web.name.clone()], ByteSize(5)));
    let refused: Error = pool.delete_volume(&data).unwrap_err().into();
    assert_eq!(refused.code, ErrorCode::WrongState);
    assert!(refused.message.contains("box web"), "{}", refused.message);
    let missing = pool.create_box(&box_ref("x"), &from_base("deb"), &with_volume("nope=/srv"));
    assert_eq!(code(missing), ErrorCode::NotFound);
    lock(&pool, &web).delete().unwrap();
    assert_eq!(fs::read(pool.volume_data_path(&data).join("row")).unwrap(), b"12345");
    pool.delete_volume(&data).unwrap();
    assert_eq!(code(pool.volume_info(&data)), ErrorCode::NotFound);
    assert!(pool.list_volumes(None, &tine_model::Silent).unwrap().is_empty());
    assert_clean(&pool);
}

#[test]
fn a_disk_limit_bounds_what_the_box_writes_and_outlives_a_restore() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let stage = pool.stage_base(None).unwrap();
    fs::write(stage.root_path().join("large"), vec![3u8; 30 << 20]).unwrap();
    stage.publish(&store_support::alias("deb"), store_support::imported()).unwrap();
    let limits = Limits { disk_bytes: Some(ByteSize::mib(20)), ..Limits::default() };
    let web = box_ref("web");
    let settings = BoxSettings { limits, ..BoxSettings::default() };
    pool.create_box(&web, &from_base("deb"), &settings).unwrap();
    // what it was cloned from does not count
    assert!((15 << 20..=20 << 20).contains(&written_until_full(&pool, "a")));
    // a full box can be snapshotted and emptied
    take(&pool, &web, "full");
    lock(&pool, &web).delete_snapshots(&[snap("full")]).unwrap();
    fs::remove_file(pool.box_root_path(&web).join("a")).unwrap();
    take(&pool, &web, "s1");
    lock(&pool, &web).restore(&RestoreSnapshot { name: snap("s1"), keep_as: None }).unwrap();
    assert!((15 << 20..=20 << 20).contains(&written_until_full(&pool, "b")));
    lock(&pool, &web).undo_restore().unwrap();
    fs::write(pool.box_root_path(&web).join("small"), "x").unwrap();
    lock(&pool, &web).set_disk_limit(Some(ByteSize::mib(60))).unwrap();
    assert!((40 << 20..=60 << 20).contains(&written_until_full(&pool, "c")));
    lock(&pool, &web).set_disk_limit(None).unwrap();
    fs::write(pool.box_root_path(&web).join("d"), vec![1u8; 100 << 20]).unwrap();
    assert_clean(&pool);
}

/// Bytes that could be written to a new file before the limit.
fn written_until_full(pool: &Pool, file: &str) -> u64 {
    let path = pool.box_root_path(&box_ref("web")).join(file);
    let mut out = fs::File::create(path).unwrap();
    let block = vec![5u8; 1 << 20];
    for count in 0..200 {
        if let Err(e) = out.write_all(&block).and_then(|()| out.sync_data()) {
            assert_eq!(e.raw_os_error(), Some(122), "EDQUOT");
            return count << 20;
        }
    }
    200 << 20
}

#[test]
fn shared_directories_are_made_once_per_project() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let project: ProjectName = "p1".parse().unwrap();
    let dirs = pool.shared_dirs(&project).unwrap();
    fs::write(dirs.home.join("file"), "x").unwrap();
    assert_eq!(pool.shared_dirs(&project).unwrap(), dirs);
    assert!(
        dirs.project.is_dir() && dirs.all.is_dir() && dirs.bin.is_dir() && dirs.home.join("file").exists()
    );
    assert_clean(&pool);
}
