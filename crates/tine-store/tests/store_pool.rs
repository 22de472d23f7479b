//! Making, mounting, leaving and checking a pool on a real loop file.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};
use store_support::{TestPool, WAIT, assert_clean, lock, make_base, make_box, take};
use tine_model::{ByteSize, CheckRequest, Error, ErrorCode, Silent};
use tine_store::Pool;

fn code(error: impl Into<Error>) -> ErrorCode {
    error.into().code
}

#[test]
fn init_twice_makes_one_pool_and_a_reboot_loses_nothing() {
    let Some(test) = TestPool::empty() else { return };
    assert_eq!(code(Pool::open(&test.root, WAIT).unwrap_err()), ErrorCode::NoPool);
    let first = Pool::init(&test.root, ByteSize::gib(1)).unwrap();
    assert!(first.created);
    let image = first.image_file.clone().unwrap();
    assert_eq!(fs::metadata(&image).unwrap().len(), 1 << 30);
    let second = Pool::init(&test.root, ByteSize::gib(3)).unwrap();
    assert!(!second.created);
    assert_eq!(second.pool.created_at(), first.pool.created_at());
    make_base(&first.pool, "deb");
    let name = make_box(&first.pool, "web", "deb");
    drop((first, second));
    test.reboot();
    assert!(fs::read_dir(&test.root).unwrap().next().is_none(), "still mounted");
    let pool = test.open();
    assert_eq!(fs::read_to_string(pool.box_root_path(&name).join("etc/motd")).unwrap(), "hello\n");
    assert_clean(&pool);
}

#[test]
fn two_inits_at_once_make_one_pool() {
    let Some(test) = TestPool::empty() else { return };
    let created: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Pool::init(&test.root, ByteSize::mib(512)).unwrap().created))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(created.iter().filter(|c| **c).count(), 1);
    assert_clean(&test.open());
}

#[test]
fn what_a_killed_init_left_is_made_anew() {
    let Some(test) = TestPool::empty() else { return };
    fs::create_dir(&test.root).unwrap();
    fs::write(test.root.with_extension("img.tmp"), "half a file system").unwrap();
    assert!(Pool::init(&test.root, ByteSize::mib(512)).unwrap().created);
    // killed after the image got its name and before the pool was laid out in it
    fs::remove_file(test.root.join("store.json")).unwrap();
    test.reboot();
    assert_eq!(code(Pool::open(&test.root, WAIT).unwrap_err()), ErrorCode::NoPool);
    test.reboot();
    assert!(Pool::init(&test.root, ByteSize::mib(512)).unwrap().created);
    assert_clean(&test.open());
}

#[test]
fn a_directory_with_something_else_in_it_is_refused_and_a_tiny_pool_too() {
    let Some(test) = TestPool::empty() else { return };
    fs::create_dir(&test.root).unwrap();
    assert_eq!(code(Pool::init(&test.root, ByteSize::mib(1)).unwrap_err()), ErrorCode::Usage);
    fs::write(test.root.join("precious"), "x").unwrap();
    assert_eq!(code(Pool::init(&test.root, ByteSize::gib(1)).unwrap_err()), ErrorCode::WrongState);
    assert!(!test.root.with_extension("img").exists());
}

#[test]
fn a_pool_on_btrfs_lies_in_place() {
    let Some(outer) = TestPool::new() else { return };
    let root = outer.root.join("tmp/inner");
    let made = Pool::init(&root, ByteSize::gib(1)).unwrap();
    assert!(made.created && made.image_file.is_none());
    make_base(&made.pool, "deb");
    make_box(&made.pool, "web", "deb");
    assert_clean(&made.pool);
    drop(made);
    assert!(!Pool::open_exclusive(&root, WAIT).unwrap().unmount().unwrap());
    assert!(root.join("store.json").exists());
}

#[test]
fn an_unknown_feature_is_refused_by_name() {
    let Some(test) = TestPool::new() else { return };
    let path = test.root.join("store.json");
    let text =
        fs::read_to_string(&path).unwrap().replace("\"incompat\":[]", "\"incompat\":[\"time-travel\"]");
    fs::write(&path, text).unwrap();
    let error: Error = Pool::open(&test.root, WAIT).unwrap_err().into();
    assert_eq!(error.code, ErrorCode::Incompatible);
    assert!(error.message.contains("time-travel"), "{}", error.message);
}

#[test]
fn one_who_wants_the_pool_alone_waits_and_then_gives_up() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let error = Pool::open_exclusive(&test.root, Duration::from_millis(30)).unwrap_err();
    assert_eq!(code(error), ErrorCode::Busy);
    drop(pool);
    let alone = Pool::open_exclusive(&test.root, WAIT).unwrap();
    assert_eq!(code(Pool::open(&test.root, Duration::from_millis(30)).unwrap_err()), ErrorCode::Busy);
    drop(alone);
    test.open();
}

#[test]
fn unmounting_lets_the_loop_device_go_and_refuses_while_in_use() {
    let Some(test) = TestPool::new() else { return };
    let image = test.open().image_file().unwrap();
    let backed = || {
        let file = fs::File::open(&image).unwrap();
        tine_sys::loopdev::devices_backed_by(std::os::fd::AsFd::as_fd(&file)).unwrap().len()
    };
    assert_eq!(backed(), 1);
    let user = fs::File::open(test.root.join("store.json")).unwrap();
    let busy = Pool::open_exclusive(&test.root, WAIT).unwrap().unmount().unwrap_err();
    assert_eq!(code(busy), ErrorCode::Busy);
    drop(user);
    assert!(Pool::open_exclusive(&test.root, WAIT).unwrap().unmount().unwrap());
    for _ in 0..100 {
        if backed() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(backed(), 0);
    test.open();
}

#[test]
fn gc_removes_what_killed_processes_left_and_nothing_else() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let name = make_box(&pool, "web", "deb");
    take(&pool, &name, "s1");
    let before = store_support::fingerprint(&pool.box_root_path(&name));
    // a process killed while it made a base: a staging directory with a subvolume, another one nested in it
    let stage = pool.stage_base(None).unwrap();
    let nested = fs::File::open(stage.root_path()).unwrap();
    tine_sys::btrfs::create_subvolume(std::os::fd::AsFd::as_fd(&nested), "nested").unwrap();
    fs::write(stage.root_path().join("nested/file"), "x").unwrap();
    std::mem::forget(stage);
    fs::write(pool.root().join("tmp/stray"), "x").unwrap();
    fs::create_dir(pool.root().join("boxes/empty-project")).unwrap();
    drop((pool, nested));
    let alone = Pool::open_exclusive(&test.root, WAIT).unwrap();
    let plan = alone.plan_gc().unwrap();
    assert_eq!(plan.len(), 3, "{plan:?}");
    assert!(plan.iter().any(|g| g.what == "empty boxes of project empty-project"), "{plan:?}");
    alone.apply_gc(&plan, &Silent).unwrap();
    assert!(alone.plan_gc().unwrap().is_empty());
    drop(alone);
    let pool = test.open();
    assert_eq!(store_support::fingerprint(&pool.box_root_path(&name)), before);
    assert_clean(&pool);
}

#[test]
fn check_names_every_broken_invariant() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let version = make_base(&pool, "deb");
    let name = make_box(&pool, "web", "deb");
    take(&pool, &name, "s1");
    assert_clean(&pool);
    fs::write(pool.root().join("aliases/lost"), "nowhere\n").unwrap();
    fs::write(pool.root().join("bases/Not-A-Name"), "").unwrap();
    fs::write(pool.root().join("boxes/default/web/meta.json"), "{").unwrap();
    let root = pool.open_base_root(&version.name).unwrap();
    tine_sys::btrfs::set_read_only(std::os::fd::AsFd::as_fd(&root), false).unwrap();
    fs::remove_dir(pool.root().join("boxes/default/web/run")).unwrap();
    let report = pool.check(&CheckRequest { read_data: false }, &Silent).unwrap();
    let mut objects: Vec<&str> = report.problems.iter().map(|p| p.object.as_str()).collect();
    objects.sort_unstable();
    assert_eq!(objects, ["alias lost", "base deb", "bases", "box web", "box web"], "{:?}", report.problems);
}

#[test]
fn check_with_data_finds_a_flipped_bit() {
    let Some(test) = TestPool::new() else { return };
    let marker = b"this very text is looked for in the image file".repeat(400);
    let pool = test.open();
    let stage = pool.stage_base(None).unwrap();
    fs::write(stage.root_path().join("file"), &marker).unwrap();
    stage.publish(&store_support::alias("deb"), store_support::imported()).unwrap();
    assert_clean(&pool);
    let image = pool.image_file().unwrap();
    drop(pool);
    test.reboot();
    flip_one_byte(&image, &marker[..4096]);
    let report = test.open().check(&CheckRequest { read_data: true }, &Silent).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].object, "base deb");
    assert!(test.open().check(&CheckRequest { read_data: false }, &Silent).unwrap().problems.is_empty());
}

fn flip_one_byte(image: &Path, block: &[u8]) {
    let file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    let mut buffer = vec![0u8; 4096];
    let mut is_there = |at: &u64| {
        file.read_exact_at(&mut buffer, *at).unwrap();
        buffer == block
    };
    let at = (0..file.metadata().unwrap().len()).step_by(4096).find(&mut is_there).unwrap();
    file.write_all_at(b"X", at + 100).unwrap();
}

#[test]
fn a_full_pool_says_so_loses_nothing_and_still_deletes() {
    let Some(test) = TestPool::sized(ByteSize::mib(300)) else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let name = make_box(&pool, "web", "deb");
    let before = store_support::fingerprint(&pool.box_root_path(&name));
    let hog = make_box(&pool, "hog", "deb");
    let mut file = fs::File::create(pool.box_root_path(&hog).join("hog")).unwrap();
    let block: Vec<u8> = (0..1 << 20).map(|i: u32| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let full = (0..400).find_map(|_| std::io::Write::write_all(&mut file, &block).err()).unwrap();
    assert_eq!(full.raw_os_error(), Some(28));
    let _ = file.sync_all();
    drop(file);
    let stage = pool.stage_base(None).unwrap();
    let error = fs::write(stage.root_path().join("more"), &block)
        .and_then(|()| fs::File::open(stage.root_path().join("more"))?.sync_all());
    assert!(error.is_err(), "the pool is not full");
    drop(stage);
    assert_eq!(store_support::fingerprint(&pool.box_root_path(&name)), before);
    lock(&pool, &hog).delete().unwrap();
    assert_eq!(store_support::fingerprint(&pool.box_root_path(&name)), before);
    assert_clean(&pool);
    make_box(&pool, "again", "deb");
}

#[test]
fn disk_usage_tells_shared_from_own_data() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let base = make_base(&pool, "deb");
    let name = make_box(&pool, "web", "deb");
    let usage = pool.disk_usage(&Silent).unwrap();
    assert_eq!(usage.boxes[0].logical_bytes, base.size_bytes);
    assert_eq!(usage.boxes[0].exclusive_bytes, ByteSize(0));
    fs::write(pool.box_root_path(&name).join("own"), vec![1u8; 1 << 20]).unwrap();
    let root = pool.open_box_root(&name).unwrap();
    rustix::fs::syncfs(root).unwrap();
    let usage = pool.disk_usage(&Silent).unwrap();
    assert_eq!(usage.boxes[0].logical_bytes, ByteSize(base.size_bytes.bytes() + (1 << 20)));
    assert_eq!(usage.boxes[0].exclusive_bytes, ByteSize(1 << 20));
    take(&pool, &name, "s1");
    assert_eq!(pool.disk_usage(&Silent).unwrap().boxes[0].exclusive_bytes, ByteSize(0));
    lock(&pool, &name).delete_snapshots(&[store_support::snap("s1")]).unwrap();
    // with its base gone the box alone holds everything it was cloned from
    pool.delete_base(&tine_model::DeleteBase::Version { name: base.name, force: true }).unwrap();
    let alone = (0..200).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        pool.disk_usage(&Silent).unwrap().boxes[0].exclusive_bytes.bytes()
    });
    let grown = alone.take(100).find(|b| *b >= (1 << 20) + 200_000);
    assert!(grown.is_some(), "the base's data counts once its deletion is through");
    assert!(usage.total_bytes > usage.used_bytes && usage.free_bytes > ByteSize(0));
}
