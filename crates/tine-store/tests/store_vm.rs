//! Kernels, cached disks, vm boxes and staged boxes on real btrfs. No machine runs.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::{
    fs::{self, File},
    io::Write,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::PathBuf,
    sync::Barrier,
    time::{Duration, Instant},
};
use store_support::{
    TestPool, assert_clean, box_ref, from_base, lock,
    machine::{DISK, kernel_name, make_image, make_kernel, make_vm, scribble, small_base, tag, vm_settings},
    make_base, make_box, snap, take,
};
use tine_model::{
    BoxKind, BoxSettings, BoxSource, ByteSize, DeleteBase, Error, ErrorCode, Limits, RestoreSnapshot, Silent,
};
use tine_store::{Pool, StoreError};
use tine_sys::lock::OfdLock;

fn code<T>(result: Result<T, StoreError>) -> ErrorCode {
    Error::from(result.err().unwrap()).code
}

fn disk(pool: &Pool, name: &str) -> PathBuf {
    pool.box_root_path(&box_ref(name)).join("disk.img")
}

fn collect(test: &TestPool) -> Vec<String> {
    let pool = Pool::open_exclusive(&test.root, store_support::WAIT).unwrap();
    let plan = pool.plan_gc().unwrap();
    pool.apply_gc(&plan, &Silent).unwrap();
    plan.into_iter().map(|g| g.what).collect()
}

#[test]
fn a_kernel_is_put_there_once_and_the_newest_is_the_default() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let missing = pool.default_kernel(&Silent).unwrap_err();
    assert!(Error::from(missing).hint.unwrap().contains("tine kernel install"));
    make_kernel(&pool, "6.1.0-b", "first").unwrap();
    let second = make_kernel(&pool, "6.1.0-a", "second").unwrap();
    assert!(second.default && second.size_bytes.bytes() == 6 + 10 + 8000, "{second:?}");
    assert_eq!(pool.default_kernel(&Silent).unwrap().name, kernel_name("6.1.0-a"));
    assert_eq!(make_kernel(&pool, "6.1.0-a", "second").unwrap(), second);
    assert_eq!(code(make_kernel(&pool, "6.1.0-a", "other")), ErrorCode::AlreadyExists);
    let list: Vec<_> =
        pool.list_kernels(&Silent).unwrap().into_iter().map(|k| (k.name.to_string(), k.default)).collect();
    assert_eq!(list, [("6.1.0-a".to_owned(), true), ("6.1.0-b".to_owned(), false)]);
    let record = pool.kernel(&second.name).unwrap();
    assert_eq!(fs::read(record.vmlinuz).unwrap(), b"second");
    assert_eq!(fs::read(record.modules.join("order")).unwrap(), b"a.ko\nb.ko\n");
    drop(pool.stage_kernel().unwrap());
    assert_eq!(code(pool.stage_kernel().unwrap().publish(&kernel_name("x"), "")), ErrorCode::Usage);
    assert_clean(&pool);
    scribble(&pool.root().join("kernels/6.1.0-a/modules/b.ko"), 10);
    let report = pool.check(&tine_model::CheckRequest { read_data: true }, &Silent).unwrap();
    assert!(report.problems.len() == 1 && report.problems[0].problem.contains("b.ko"), "{report:?}");
}

#[test]
fn boot_archives_are_made_whole_and_old_ones_are_garbage() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_kernel(&pool, "6.1", "k").unwrap();
    let name = kernel_name("6.1");
    assert_eq!(pool.kernel_initrd(&name, "one").unwrap(), None);
    let broken = pool.put_kernel_initrd(&name, "one", |file| {
        file.write_all(b"half")?;
        Err(std::io::Error::other("no"))
    });
    assert!(broken.is_err() && pool.kernel_initrd(&name, "one").unwrap().is_none());
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                barrier.wait();
                pool.put_kernel_initrd(&name, "one", |file| file.write_all(&[b'1'; 100_000])).unwrap();
            });
        }
    });
    assert_eq!(fs::read(pool.kernel_initrd(&name, "one").unwrap().unwrap()).unwrap(), [b'1'; 100_000]);
    std::thread::sleep(Duration::from_millis(20));
    pool.put_kernel_initrd(&name, "two", |file| file.write_all(b"2")).unwrap();
    for bad in ["", "../x", "A", "a/b", &"a".repeat(65)] {
        assert_eq!(code(pool.kernel_initrd(&name, bad)), ErrorCode::Usage, "{bad}");
    }
    assert_eq!(code(pool.put_kernel_initrd(&kernel_name("no"), "x", |_| Ok(()))), ErrorCode::NotFound);
    assert_clean(&pool);
    drop(pool);
    assert_eq!(collect(&test), ["initrd 6.1/one"]);
    let pool = test.open();
    assert!(pool.kernel_initrd(&name, "two").unwrap().is_some());
}

#[test]
fn two_that_want_the_disk_of_a_base_make_it_once() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let base = small_base(&pool, "deb").name;
    let barrier = Barrier::new(2);
    let inodes: Vec<u64> = std::thread::scope(|scope| {
        let make = || {
            let pool = test.open();
            barrier.wait();
            let root = pool.disk_of_base(&base, DISK).unwrap();
            tine_sys::btrfs::subvolume_info(root.as_fd()).unwrap().id
        };
        let threads = [scope.spawn(make), scope.spawn(make)];
        threads.map(|t| t.join().unwrap()).to_vec()
    });
    assert_eq!(inodes[0], inodes[1]);
    let begun = Instant::now();
    pool.disk_of_base(&base, DISK).unwrap();
    println!("found again in {:?}", begun.elapsed());
    pool.disk_of_base(&base, ByteSize::mib(65)).unwrap();
    assert_eq!(code(pool.disk_of_base(&"no".parse().unwrap(), DISK)), ErrorCode::NotFound);
    assert_eq!(code(pool.disk_of_base(&base, ByteSize(1000))), ErrorCode::Usage);
    let image = pool.root().join("disks/deb.67108864/root/disk.img");
    let refused = File::options().write(true).open(&image).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(30), "a cached disk is read-only");
    assert_clean(&pool);
    let delete = DeleteBase::Version { name: base, force: true };
    pool.delete_base(&delete).unwrap();
    drop(pool);
    assert_eq!(collect(&test), ["disk deb.67108864", "disk deb.68157440"]);
}

#[test]
fn a_vm_box_has_a_disk_of_its_own_and_the_verbs_of_any_box() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let base = small_base(&pool, "deb");
    let web = make_vm(&pool, "web", "deb");
    let meta = pool.box_meta(&web).unwrap();
    assert_eq!((meta.kind, meta.base, meta.image), (BoxKind::Vm, Some(base.name), None));
    assert_eq!(meta.settings.limits.disk_bytes, Some(DISK));
    assert_eq!(fs::metadata(disk(&pool, "web")).unwrap().len(), DISK.bytes());
    let before = fs::read(disk(&pool, "web")).unwrap();
    take(&pool, &web, "clean");
    scribble(&disk(&pool, "web"), 1 << 20);
    let web_lock = lock(&pool, &web);
    web_lock.restore(&RestoreSnapshot { name: snap("clean"), keep_as: None }).unwrap();
    assert_eq!(fs::read(disk(&pool, "web")).unwrap(), before);
    web_lock.undo_restore().unwrap();
    assert_ne!(fs::read(disk(&pool, "web")).unwrap(), before);
    let from_snapshot = BoxSource::Snapshot { name: web.clone(), snapshot: snap("clean") };
    let settings = BoxSettings::default();
    let copy = pool.create_vm_box(&box_ref("copy"), &from_snapshot, &settings, None).unwrap();
    assert_eq!((copy.kind, copy.settings.limits.disk_bytes), (BoxKind::Vm, Some(DISK)));
    assert_eq!(fs::read(disk(&pool, "copy")).unwrap(), before);
    let info = pool.snapshot_info(&web, &snap("clean")).unwrap();
    let held = fs::metadata(disk(&pool, "copy")).unwrap().blocks() * 512;
    assert!(!info.live && info.size_bytes == Some(ByteSize(held)), "{info:?} {held}");
    assert!(held < 30 << 20, "{held}");
    web_lock.delete().unwrap();
    assert_clean(&pool);
}

#[test]
fn what_a_vm_box_cannot_be_is_refused() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    small_base(&pool, "deb");
    let web = make_vm(&pool, "web", "deb");
    let of_web = BoxSource::Box(web.clone());
    let create = |settings: &BoxSettings, source: &BoxSource| {
        pool.create_vm_box(&box_ref("new"), source, settings, None).map(drop)
    };
    let mut settings = vm_settings();
    settings.volumes = vec!["data=/data".parse().unwrap()];
    assert_eq!(code(create(&settings, &from_base("deb"))), ErrorCode::Usage);
    let other = Limits { disk_bytes: Some(ByteSize::mib(70)), ..Limits::default() };
    let other = BoxSettings { limits: other, ..BoxSettings::default() };
    let refused = create(&other, &of_web).unwrap_err().to_string();
    assert!(refused.contains("64.0 MiB") && refused.contains("70.0 MiB"), "{refused}");
    let container = pool.create_box(&box_ref("new"), &of_web, &BoxSettings::default()).unwrap_err();
    assert!(Error::from(container).hint.unwrap().contains("tine base save"));
    make_image(&pool, "warm", &web);
    let of_image = BoxSource::Image(tag("warm"));
    let container = pool.create_box(&box_ref("new"), &of_image, &BoxSettings::default()).unwrap_err();
    assert!(container.to_string().contains("kind vm"), "{container}");
    assert_eq!(code(create(&settings, &BoxSource::Image(tag("no")))), ErrorCode::Usage);
    assert_eq!(code(create(&vm_settings(), &BoxSource::Image(tag("no")))), ErrorCode::NotFound);
    assert_eq!(code(create(&other, &of_image)), ErrorCode::Usage);
    let held = lock(&pool, &web);
    assert_eq!(code(held.write_settings(&settings)), ErrorCode::Usage);
    assert_eq!(code(held.write_settings(&other)), ErrorCode::Usage);
    assert_eq!(code(held.set_disk_limit(None)), ErrorCode::Usage);
    held.write_settings(&BoxSettings { remove_on_stop: true, ..vm_settings() }).unwrap();
    for (source, kind) in
        [(from_base("deb"), BoxKind::Container), (of_web, BoxKind::Vm), (of_image, BoxKind::Vm)]
    {
        assert_eq!(pool.kind_of_source(&source).unwrap(), kind);
    }
    assert_clean(&pool);
}

#[test]
fn a_disk_is_made_of_a_container_box_and_a_base_of_a_disk() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let tree = make_box(&pool, "tree", "deb");
    fs::write(pool.box_root_path(&tree).join("mine"), "of the box").unwrap();
    pool.create_vm_box(&box_ref("vm"), &BoxSource::Box(tree.clone()), &vm_settings(), None).unwrap();
    assert!(!pool.root().join("disks").read_dir().unwrap().any(|_| true), "not kept");
    assert!(!pool.box_root_path(&tree).join("run").exists(), "the box itself is left alone");
    let saved = pool.stage_base_from_box(&box_ref("vm")).unwrap();
    let root = saved.root_path();
    assert_eq!(fs::read(root.join("mine")).unwrap(), b"of the box");
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().mode(), 0o41777);
    assert_eq!(fs::metadata(root.join("etc/machine-id")).unwrap().len(), 0);
    assert_eq!(fs::metadata(root.join("usr/bin/tool")).unwrap().mode(), 0o104755);
    assert_eq!(fs::metadata(root.join("etc/motd")).unwrap().uid(), 1000);
    let version = saved.publish(&store_support::alias("saved"), store_support::imported()).unwrap();
    assert_eq!(version.name.as_str(), "saved");
    assert_clean(&pool);
}

#[test]
fn a_staged_box_is_not_seen_until_it_has_a_name() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    small_base(&pool, "deb");
    let origin = pool.vm_root_origin(&from_base("deb"), Some(DISK)).unwrap();
    let stage = || pool.stage_box(&origin, &vm_settings(), Some(kernel_name("6.1"))).unwrap();
    let (first, second, dropped) = (stage(), stage(), stage());
    assert!(pool.list_boxes(None).unwrap().is_empty());
    assert!(first.root_path().join("disk.img").exists() && first.path().join("meta.json").exists());
    let gone = dropped.path().to_owned();
    drop(dropped);
    assert!(!gone.exists());
    // as a monitor does: the lock and a file are held over the renaming
    let held = OfdLock::try_acquire(&first.run_path().join("lock")).unwrap().unwrap();
    let open = File::options().write(true).open(first.root_path().join("disk.img")).unwrap();
    let (id, name) = (first.meta().id.clone(), box_ref("child-1"));
    first.publish(&name).unwrap();
    std::os::unix::fs::FileExt::write_at(&open, b"after", 9000).unwrap();
    assert_eq!(&fs::read(disk(&pool, "child-1")).unwrap()[9000..9005], b"after");
    assert!(tine_sys::lock::is_locked(&pool.box_run_path(&name).join("lock")).unwrap());
    let meta = pool.box_meta(&name).unwrap();
    assert_eq!((meta.id, meta.kernel), (id, Some(kernel_name("6.1"))));
    assert_eq!(code(second.publish(&name)), ErrorCode::AlreadyExists);
    drop(held);
    make_kernel(&pool, "6.1", "k").unwrap();
    assert_clean(&pool);
}

#[test]
fn of_many_that_want_one_name_one_gets_it() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    small_base(&pool, "deb");
    let origin = pool.vm_root_origin(&from_base("deb"), Some(DISK)).unwrap();
    let barrier = Barrier::new(4);
    let done: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let staged = pool.stage_box(&origin, &vm_settings(), None).unwrap();
                    barrier.wait();
                    staged.publish(&box_ref("only")).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(done.iter().filter(|d| **d).count(), 1);
    assert_clean(&pool);
}

#[test]
fn staging_that_was_left_is_garbage_unless_a_machine_runs_in_it() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    small_base(&pool, "deb");
    let origin = pool.vm_root_origin(&from_base("deb"), Some(DISK)).unwrap();
    let running = pool.stage_box(&origin, &vm_settings(), None).unwrap();
    let left = pool.stage_box(&origin, &vm_settings(), None).unwrap();
    let image = store_support::machine::stage_machine(&pool, &make_vm(&pool, "web", "deb"));
    let held = OfdLock::try_acquire(&running.run_path().join("lock")).unwrap().unwrap();
    let path = running.path().to_owned();
    // what a killed process does not do
    std::mem::forget((running, left, image));
    drop(origin);
    drop(pool);
    assert_eq!(collect(&test).len(), 2);
    assert!(path.join("root/disk.img").exists());
    drop(held);
    assert_eq!(collect(&test).len(), 1);
    assert_clean(&test.open());
}

#[test]
fn a_hundred_children_are_staged_and_published_by_two_threads() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    small_base(&pool, "deb");
    let image = make_image(&pool, "warm", &make_vm(&pool, "web", "deb"));
    let open = pool.open_image(&image.tag).unwrap();
    open.state.verify().unwrap();
    let origin = open.root_origin().unwrap();
    let settings = BoxSettings::default();
    let spent = |of: u32| {
        let (mut staging, mut publishing) = (Duration::ZERO, Duration::ZERO);
        for i in (of..100).step_by(2) {
            let begun = Instant::now();
            let staged = pool.stage_box(&origin, &settings, None).unwrap();
            staging += begun.elapsed();
            let begun = Instant::now();
            staged.publish(&box_ref(&format!("child-{i}"))).unwrap();
            publishing += begun.elapsed();
        }
        (staging, publishing)
    };
    let begun = Instant::now();
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| spent(0));
        (spent(1), one.join().unwrap())
    });
    println!(
        "100 boxes in {:?}; each {:?} to stage and {:?} to publish",
        begun.elapsed(),
        (one.0 + two.0) / 100,
        (one.1 + two.1) / 100
    );
    let boxes = pool.list_boxes(None).unwrap();
    assert_eq!(boxes.iter().filter(|b| b.meta.image.as_ref() == Some(&image.tag)).count(), 100);
    let mut ids: Vec<&str> = boxes.iter().map(|b| b.meta.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 101);
}

#[test]
fn an_older_pool_gets_what_it_lacks_and_old_documents_are_read() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    make_base(&pool, "deb");
    let web = make_box(&pool, "web", "deb");
    for dir in ["kernels", "disks", "images"] {
        fs::remove_dir(pool.root().join(dir)).unwrap();
    }
    drop(pool);
    let pool = test.open();
    let document = fs::read_to_string(pool.root().join("boxes/default/web/meta.json")).unwrap();
    assert!(!document.contains("kernel") && !document.contains("\"image\""), "{document}");
    assert_eq!(pool.box_meta(&web).unwrap().kernel, None);
    make_kernel(&pool, "6.1", "k").unwrap();
    assert_clean(&pool);
}
