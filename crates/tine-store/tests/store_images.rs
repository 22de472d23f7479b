//! Images and live snapshots on real btrfs: what is sealed stays as it was, or is told of. No machine runs.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::{
    fs::{self, File},
    io::Read,
    os::{fd::AsFd, unix::fs::FileExt},
    path::PathBuf,
    sync::Barrier,
    time::{Duration, Instant},
};
use store_support::{
    TestPool, assert_clean, box_ref, lock,
    machine::{
        contract, make_image, make_kernel, make_vm, new_image, scribble, set_read_only, small_base,
        stage_machine, tag, write_machine,
    },
    snap,
};
use tine_model::{
    BoxSettings, BoxSource, ByteSize, CheckRequest, CreateSnapshot, Error, ErrorCode, RestoreSnapshot,
    Silent, StoredKind,
};
use tine_store::{Pool, StoreError};
use tine_sys::reflink;

fn code<T>(result: Result<T, StoreError>) -> ErrorCode {
    Error::from(result.err().unwrap()).code
}

fn problems(pool: &Pool, read_data: bool) -> Vec<String> {
    let report = pool.check(&CheckRequest { read_data }, &Silent).unwrap();
    report.problems.into_iter().map(|p| format!("{}: {}", p.object, p.problem)).collect()
}

/// The vm box `web` of the base `deb`, and the kernel of every image.
fn with_box(pool: &Pool) -> tine_model::BoxRef {
    small_base(pool, "deb");
    make_kernel(pool, "6.1.0-test", &"k".repeat(50_000)).unwrap();
    make_vm(pool, "web", "deb")
}

#[test]
fn an_image_is_listed_renamed_opened_and_deleted() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    let image = make_image(&pool, "Warm_1.0", &web);
    assert!(image.has_rootfs && image.contract == Some(contract()) && image.description == "warm");
    let other = make_image(&pool, "other", &web);
    assert_eq!(image.memory_digest, other.memory_digest);
    assert_ne!(image.id, other.id);
    // two pages of memory, the device state, and the disk
    let disk = image.size_bytes.bytes() - 4096 - (100_000_u64.next_multiple_of(4096));
    assert!((64 << 10..30 << 20).contains(&disk), "{}", image.size_bytes);
    assert_eq!(pool.list_images(&Silent).unwrap(), [image.clone(), other]);
    assert_eq!(
        code(stage_machine(&pool, &web).publish_image(&image.tag, new_image())),
        ErrorCode::AlreadyExists
    );
    assert_eq!(code(pool.rename_image(&image.tag, &tag("other"))), ErrorCode::AlreadyExists);
    let renamed = pool.rename_image(&image.tag, &tag("renamed")).unwrap();
    assert_eq!((renamed.id, renamed.memory_digest), (image.id, image.memory_digest));
    for missing in ["Warm_1.0", "no"].map(tag) {
        assert_eq!(code(pool.image_info(&missing)), ErrorCode::NotFound);
        assert_eq!(code(pool.open_image(&missing)), ErrorCode::NotFound);
        assert_eq!(code(pool.rename_image(&missing, &tag("x"))), ErrorCode::NotFound);
        assert_eq!(code(pool.delete_image(&missing, Duration::ZERO)), ErrorCode::NotFound);
    }
    assert_clean(&pool);
    pool.delete_image(&tag("renamed"), Duration::ZERO).unwrap();
    pool.delete_image(&tag("other"), Duration::ZERO).unwrap();
    assert!(pool.list_images(&Silent).unwrap().is_empty());
    assert_clean(&pool);
}

#[test]
fn an_image_takes_the_place_of_another() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    let replace = || stage_machine(&pool, &web).replace_image(&tag("warm"), new_image(), Duration::ZERO);
    let first = replace().unwrap();
    let second = replace().unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(pool.list_images(&Silent).unwrap(), std::slice::from_ref(&second));
    let forking = pool.open_image(&tag("warm")).unwrap();
    assert_eq!(code(replace()), ErrorCode::Busy);
    drop(forking);
    let broken = stage_machine(&pool, &web);
    fs::remove_file(broken.path().join("state/vmstate")).unwrap();
    let refused = broken.replace_image(&tag("warm"), new_image(), Duration::ZERO);
    assert_eq!(code(refused), ErrorCode::Corrupt);
    assert_eq!(pool.image_info(&tag("warm")).unwrap(), second, "what was there is not lost");
    assert_clean(&pool);
}

#[test]
fn of_two_that_publish_one_tag_one_does() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    let stages = [stage_machine(&pool, &web), stage_machine(&pool, &web)];
    let barrier = Barrier::new(2);
    let done: Vec<bool> = std::thread::scope(|scope| {
        let publish = stages.map(|stage| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                stage.publish_image(&tag("one"), new_image()).is_ok()
            })
        });
        publish.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(done.iter().filter(|d| **d).count(), 1);
    pool.open_image(&tag("one")).unwrap().state.verify_content().unwrap();
    assert_clean(&pool);
}

#[test]
fn an_image_that_is_not_whole_is_not_published_and_leaves_nothing() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    for missing in ["memory.bin", "vmstate"] {
        let stage = stage_machine(&pool, &web);
        fs::remove_file(stage.path().join("state").join(missing)).unwrap();
        assert_eq!(code(stage.publish_image(&tag("x"), new_image())), ErrorCode::Corrupt);
    }
    let stage = stage_machine(&pool, &web);
    let vmstate = stage.vmstate_path();
    fs::remove_file(&vmstate).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &vmstate).unwrap();
    assert!(stage.publish_image(&tag("x"), new_image()).is_err());
    // a root that is no subvolume
    let stage = pool.stage_state().unwrap();
    write_machine(&stage, "x");
    fs::create_dir(stage.path().join("root")).unwrap();
    fs::write(stage.path().join("root/disk.img"), "disk").unwrap();
    assert_eq!(code(stage.publish_image(&tag("x"), new_image())), ErrorCode::Corrupt);
    drop(stage_machine(&pool, &web));
    assert!(pool.list_images(&Silent).unwrap().is_empty());
    assert_clean(&pool);
    // without a disk it is whole
    let stage = pool.stage_state().unwrap();
    write_machine(&stage, "bare");
    let bare = stage.publish_image(&tag("bare"), new_image()).unwrap();
    assert!(!bare.has_rootfs && bare.disk_digest.is_none());
    assert_eq!(code(pool.vm_root_origin(&BoxSource::Image(bare.tag), None)), ErrorCode::WrongState);
    assert_clean(&pool);
}

/// The files of an image, by who would write to them.
fn files_of(pool: &Pool, name: &str) -> [PathBuf; 3] {
    let dir = pool.root().join("images").join(name);
    [dir.join("state/memory.bin"), dir.join("state/vmstate"), dir.join("root/disk.img")]
}

#[test]
fn nothing_writes_to_an_image_and_who_forces_it_is_found_out() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    for (file, name) in ["memory.bin", "vmstate", "disk.img"].into_iter().enumerate() {
        make_image(&pool, name, &web);
        let path = &files_of(&pool, name)[file];
        let refused = File::options().write(true).open(path).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(30), "EROFS");
        let subvolume = path.parent().unwrap();
        set_read_only(subvolume, false);
        let open = pool.open_image(&tag(name)).unwrap();
        open.state.verify().unwrap();
        scribble(path, 5000);
        let wrong = open.state.verify().unwrap_err().to_string();
        assert!(
            wrong.contains(&format!("image {name}")) && wrong.contains("bake or pull it again"),
            "{wrong}"
        );
        set_read_only(subvolume, true);
        let wrong = open.state.verify().unwrap_err();
        assert!(wrong.to_string().contains(name), "{wrong}");
        assert_eq!(Error::from(wrong).code, ErrorCode::Corrupt);
        let found = problems(&pool, false);
        assert!(found.iter().any(|p| p.starts_with(&format!("image {name}"))), "{found:?}");
        let found = problems(&pool, true);
        assert!(found.iter().any(|p| p.contains("not what was saved")), "{found:?}");
        drop(open);
        pool.delete_image(&tag(name), Duration::ZERO).unwrap();
    }
    // a file that is cut short
    make_image(&pool, "cut", &web);
    let path = &files_of(&pool, "cut")[0];
    set_read_only(path.parent().unwrap(), false);
    File::options().write(true).open(path).unwrap().set_len(15 << 20).unwrap();
    assert_eq!(code(pool.open_image(&tag("cut")).unwrap().state.verify()), ErrorCode::Corrupt);
}

#[test]
fn a_seal_outlives_use_and_reboot() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    make_image(&pool, "warm", &web);
    let sealed = |pool: &Pool| {
        let open = pool.open_image(&tag("warm")).unwrap();
        // far too short for reading anything
        let begun = Instant::now();
        open.state.verify().unwrap();
        let files = &open.state.files;
        let info = |fd| tine_sys::btrfs::subvolume_info(fd).unwrap();
        let root = info(files.root.as_ref().unwrap().as_fd());
        let state = info(files.memory.as_fd());
        (begun.elapsed(), [root.changed_in, state.changed_in], root.read_only && state.read_only)
    };
    let (_, before, _) = sealed(&pool);
    pool.create_vm_box(&box_ref("child"), &BoxSource::Image(tag("warm")), &BoxSettings::default(), None)
        .unwrap();
    scribble(&pool.box_root_path(&box_ref("child")).join("disk.img"), 77);
    let copy = File::create_new(pool.root().join("tmp/copy")).unwrap();
    reflink::clone_file(pool.open_image(&tag("warm")).unwrap().state.files.memory.as_fd(), copy.as_fd())
        .unwrap();
    copy.write_at(b"changed", 0).unwrap();
    fs::remove_file(pool.root().join("tmp/copy")).unwrap();
    pool.commit().unwrap();
    assert_eq!(sealed(&pool).1, before, "using it is no change");
    drop((pool, copy));
    test.reboot();
    let pool = test.open();
    let (took, after, read_only) = sealed(&pool);
    assert!(after == before && read_only);
    println!("verified in {took:?}");
    pool.open_image(&tag("warm")).unwrap().state.verify_content().unwrap();
    assert_clean(&pool);
}

#[test]
fn files_of_a_deleted_image_serve_whoever_has_them_open() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    make_image(&pool, "warm", &web);
    let expected = fs::read(&files_of(&pool, "warm")[0]).unwrap();
    let open = pool.open_image(&tag("warm")).unwrap();
    assert_eq!(code(pool.delete_image(&tag("warm"), Duration::ZERO)), ErrorCode::Busy);
    let mut memory = open.state.files.memory.try_clone().unwrap();
    drop(open);
    pool.delete_image(&tag("warm"), Duration::ZERO).unwrap();
    pool.commit().unwrap();
    fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    let mut found = Vec::new();
    memory.read_to_end(&mut found).unwrap();
    assert!(found == expected);
    let copy = File::create_new(pool.root().join("tmp/copy")).unwrap();
    reflink::clone_file(memory.as_fd(), copy.as_fd()).unwrap();
    drop(memory);
    assert!(fs::read(pool.root().join("tmp/copy")).unwrap() == expected);
    reflink::clone_range(copy.as_fd(), 9 << 20, 4096, copy.as_fd(), 0).unwrap();
    assert_eq!(fs::read(pool.root().join("tmp/copy")).unwrap()[..4096], [9; 4096]);
    fs::remove_file(pool.root().join("tmp/copy")).unwrap();
    assert_clean(&pool);
}

#[test]
fn a_box_is_made_of_an_image_and_keeps_it_from_being_deleted_meanwhile() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    make_image(&pool, "warm", &web);
    let source = BoxSource::Image(tag("warm"));
    let origin = pool.vm_root_origin(&source, None).unwrap();
    assert_eq!(code(pool.delete_image(&tag("warm"), Duration::from_millis(20))), ErrorCode::Busy);
    let child =
        pool.stage_box(&origin, &BoxSettings::default(), None).unwrap().publish(&box_ref("c")).unwrap();
    drop(origin);
    assert_eq!(child.image, Some(tag("warm")));
    assert_eq!(child.kernel, Some(contract().kernel));
    assert_eq!((child.source.as_str(), child.base.unwrap().as_str()), ("image warm", "deb"));
    pool.delete_image(&tag("warm"), Duration::ZERO).unwrap();
    assert!(pool.box_root_path(&box_ref("c")).join("disk.img").exists());
    fs::remove_dir_all(pool.root().join("kernels/6.1.0-test")).unwrap();
    assert_eq!(problems(&pool, true), ["box c: its kernel 6.1.0-test does not exist"]);
}

#[test]
fn a_stage_serves_a_fork_without_being_published() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    let stage = stage_machine(&pool, &web);
    let files = stage.freeze().unwrap();
    assert_eq!(File::options().write(true).open(stage.memory_path()).unwrap_err().raw_os_error(), Some(30));
    stage.freeze().unwrap();
    let origin = stage.root_origin(&web).unwrap();
    pool.stage_box(&origin, &BoxSettings::default(), None).unwrap().publish(&box_ref("web-1")).unwrap();
    drop((origin, stage));
    let mut bytes = [0; 10];
    files.memory.read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"first page");
    assert_eq!(pool.box_meta(&box_ref("web-1")).unwrap().source, "box web");
    assert_clean(&pool);
}

fn live(name: Option<&str>) -> CreateSnapshot {
    CreateSnapshot { name: name.map(snap), description: "live".to_owned(), live: true }
}

#[test]
fn a_live_snapshot_is_a_snapshot_with_a_machine() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    let held = lock(&pool, &web);
    held.create_snapshot(&CreateSnapshot::default()).unwrap();
    let record = held.publish_live_snapshot(stage_machine(&pool, &web), &live(None), contract()).unwrap();
    assert!(record.live && record.name == snap("v1") && record.description == "live");
    let taken = held.publish_live_snapshot(stage_machine(&pool, &web), &live(Some("v1")), contract());
    assert_eq!(code(taken), ErrorCode::AlreadyExists);
    let bare = pool.stage_state().unwrap();
    write_machine(&bare, "bare");
    assert_eq!(code(held.publish_live_snapshot(bare, &live(None), contract())), ErrorCode::Corrupt);
    let infos = pool.list_snapshot_infos(&web, &Silent).unwrap();
    let [plain, with_machine] = [&infos[0], &infos[1]].map(|i| (i.live, i.size_bytes.unwrap().bytes()));
    assert!(!plain.0 && with_machine.0);
    let more = with_machine.1 - plain.1;
    assert!((100_000..200_000).contains(&more), "the memory's two stretches: {more}");
    assert!(pool.live_state(&web, &snap("v0")).unwrap().is_none());
    assert_eq!(code(pool.live_state(&web, &snap("v9"))), ErrorCode::NotFound);
    let state = pool.live_state(&web, &snap("v1")).unwrap().unwrap();
    state.verify().unwrap();
    assert_eq!(state.saved.contract, Some(contract()));
    assert_eq!(problems(&pool, true), [""; 0]);
    held.rename_snapshot(&snap("v1"), &snap("kept")).unwrap();
    pool.live_state(&web, &snap("kept")).unwrap().unwrap().verify().unwrap();
    held.restore(&RestoreSnapshot { name: snap("kept"), keep_as: None }).unwrap();
    pool.live_state(&web, &snap("kept")).unwrap().unwrap().verify().unwrap();
    let memory = pool.root().join("boxes/default/web/snapshots/kept/state/memory.bin");
    assert_eq!(File::options().write(true).open(&memory).unwrap_err().raw_os_error(), Some(30));
    set_read_only(memory.parent().unwrap(), false);
    scribble(&memory, 0);
    let wrong = pool.live_state(&web, &snap("kept")).unwrap().unwrap().verify().unwrap_err().to_string();
    assert!(wrong.contains("web/kept") && wrong.contains("memory.bin"), "{wrong}");
    assert!(problems(&pool, false).iter().any(|p| p.starts_with("snapshot web/kept")));
    held.delete_snapshots(&[snap("kept")]).unwrap();
    assert_clean(&pool);
    held.publish_live_snapshot(stage_machine(&pool, &web), &live(None), contract()).unwrap();
    held.delete().unwrap();
    assert_clean(&pool);
}

#[test]
fn disk_usage_tells_images_kernels_and_disks() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    let web = with_box(&pool);
    make_image(&pool, "warm", &web);
    let child = BoxSource::Image(tag("warm"));
    pool.create_vm_box(&box_ref("child"), &child, &BoxSettings::default(), None).unwrap();
    scribble(&pool.box_root_path(&box_ref("child")).join("disk.img"), 40 << 20);
    let usage = pool.disk_usage(&Silent).unwrap();
    let rows: Vec<_> = usage.stored.iter().map(|s| (s.kind, s.name.as_str())).collect();
    let disk_name = "deb.67108864";
    assert_eq!(
        rows,
        [(StoredKind::Image, "warm"), (StoredKind::Kernel, "6.1.0-test"), (StoredKind::Disk, disk_name)]
    );
    let [image, kernel, disk] = [0, 1, 2].map(|i| &usage.stored[i]);
    // the disk is shared by all, so the image holds its memory alone
    assert!(image.exclusive_bytes.bytes() < 300_000 && image.logical_bytes > disk.logical_bytes, "{image:?}");
    assert!(kernel.logical_bytes == ByteSize(50_000 + 10 + 8000), "{kernel:?}");
    assert!(disk.exclusive_bytes.bytes() < 100_000 && disk.logical_bytes.bytes() > 64 << 10, "{disk:?}");
    let child = usage.boxes.iter().find(|b| b.name == box_ref("child")).unwrap();
    assert!(child.logical_bytes >= disk.logical_bytes && child.logical_bytes.bytes() < 40 << 20, "{child:?}");
    assert_eq!(child.exclusive_bytes, ByteSize(4096));
}
