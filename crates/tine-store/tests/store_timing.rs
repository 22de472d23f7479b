//! How long the store's own operations take, on demand: `cargo nextest run -p tine-store --release --run-ignored
//! only -E 'binary(store_timing)' --no-capture`.
#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed, in its helpers too")]

mod store_support;

use std::{fs, os::fd::AsFd, path::Path, time::Instant};
use store_support::{TestPool, alias, box_ref, from_base, imported, lock, snap, take};
use tine_model::{BoxSettings, CreateSnapshot, RestoreSnapshot, Silent};
use tine_store::Pool;

/// A tree of 150,000 small files.
fn large_tree(root: &Path) {
    for dir in 0..1500 {
        let dir = root.join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..100 {
            fs::write(dir.join(format!("f{file}")), vec![b'x'; file * 40]).unwrap();
        }
    }
}

/// The median and the ninth decile in milliseconds of `count` calls.
fn time(what: &str, count: usize, mut work: impl FnMut(usize)) -> f64 {
    let mut times: Vec<f64> = (0..count)
        .map(|i| {
            let begun = Instant::now();
            work(i);
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (median, tail) = (times[count / 2], times[count * 9 / 10]);
    println!("{what:40} median {median:8.2} ms  p90 {tail:8.2} ms");
    median
}

fn create(pool: &Pool, name: &str) {
    pool.create_box(&box_ref(name), &from_base("large"), &BoxSettings::default()).unwrap();
}

#[test]
#[ignore = "takes a minute and wants a quiet machine"]
fn operations_on_150_000_files_take_a_few_milliseconds() {
    let Some(test) = TestPool::sized(tine_model::ByteSize::gib(8)) else { return };
    let pool = test.open();
    let stage = pool.stage_base(None).unwrap();
    large_tree(&stage.root_path());
    stage.publish(&alias("large"), imported()).unwrap();
    let source = pool.open_base_root(&"large".parse().unwrap()).unwrap();
    let tmp = fs::File::open(pool.root().join("tmp")).unwrap();
    time("floor: clone ioctl alone", 50, |i| {
        tine_sys::btrfs::snapshot(source.as_fd(), tmp.as_fd(), &format!("floor{i}"), false).unwrap();
    });
    time("floor: mkdir and commit", 50, |i| {
        fs::create_dir(pool.root().join(format!("tmp/dir{i}"))).unwrap();
        pool.commit().unwrap();
    });
    time("floor: clone ioctl, mkdir, commit", 50, |i| {
        tine_sys::btrfs::snapshot(source.as_fd(), tmp.as_fd(), &format!("both{i}"), false).unwrap();
        fs::create_dir(pool.root().join(format!("tmp/more{i}"))).unwrap();
        pool.commit().unwrap();
    });
    let mut medians = vec![
        time("open the pool", 50, |_| drop(test.open())),
        time("create a box", 50, |i| create(&pool, &format!("b{i}"))),
    ];
    let name = box_ref("b0");
    medians.push(time("snapshot", 50, |_| {
        lock(&pool, &name).create_snapshot(&CreateSnapshot::default()).unwrap();
    }));
    medians.push(time("restore", 50, |_| {
        lock(&pool, &name).restore(&RestoreSnapshot { name: snap("v0"), keep_as: None }).unwrap();
    }));
    medians
        .push(time("delete a box", 40, |i| lock(&pool, &box_ref(&format!("b{}", i + 1))).delete().unwrap()));
    medians.push(time("size of a snapshot, first look", 3, |i| {
        pool.snapshot_size(&name, &snap(&format!("v{i}"))).unwrap();
    }));
    take(&pool, &name, "last");
    time("disk usage of 10 boxes", 1, |_| drop(pool.disk_usage(&Silent).unwrap()));
    assert!(medians[1] < 14.0 && medians[2] < 12.0 && medians[3] < 15.0, "{medians:?}");
}

#[test]
#[ignore = "takes a minute and wants a quiet machine"]
fn a_thousand_boxes_are_listed_at_once_and_slow_nothing_down() {
    let Some(test) = TestPool::new() else { return };
    let pool = test.open();
    pool.stage_base(None).unwrap().publish(&alias("large"), imported()).unwrap();
    let few = time("create a box, the first 100", 100, |i| create(&pool, &format!("a{i}")));
    for i in 0..850 {
        create(&pool, &format!("b{i}"));
    }
    let many = time("create a box, the last 50", 50, |i| create(&pool, &format!("c{i}")));
    let list = time("list 1,000 boxes", 20, |_| assert_eq!(pool.list_boxes(None).unwrap().len(), 1000));
    assert!(list < 20.0 && many < few * 1.5, "{list} {few} {many}");
}
