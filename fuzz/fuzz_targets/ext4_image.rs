//! A disk image of any bytes: it is refused, or every question about it has an answer that ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{collections::HashSet, fs::File, io::Write};
use tine_model::RawPath;
use tine_store::{
    StoreError,
    diff::{disk_file, disk_status},
    disk::{Image, logical_size},
};
use tine_sys::tree::{Kind, LastLink};

fuzz_target!(|bytes: &[u8]| {
    let _ = ask(bytes);
});

fn ask(bytes: &[u8]) -> Result<(), StoreError> {
    let Ok(memory) = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC) else { return Ok(()) };
    let mut file = File::from(memory);
    if file.write_all(bytes).is_err() {
        return Ok(());
    }
    let image = Image::open(file.into())?;
    let _ = logical_size(&image);
    let _ = disk_status(&image, &image);
    let _ = image.resolve(&RawPath::new("a/link/../b/./c"), LastLink::Follow);
    let _ = disk_file(&image, &image, &RawPath::new("etc/motd"));
    walk(&image)
}

/// Reads all there is of every object whose directory was not met before.
fn walk(image: &Image) -> Result<(), StoreError> {
    let (mut todo, mut met) = (vec![image.root()?], HashSet::new());
    while let Some(inode) = todo.pop() {
        let _ = image.xattrs(&inode);
        match inode.meta().kind {
            Kind::Dir if met.insert(inode.number()) => {
                let names = image.names(&inode)?;
                todo.extend(names.into_values().filter_map(|number| image.inode(number).ok()));
            }
            Kind::File => drop(image.read_file(&inode, 1 << 20)),
            Kind::Symlink => drop(image.read_link(&inode)),
            _ => {}
        }
    }
    Ok(())
}
