//! Which programs a root may hold.

use crate::support::Target;
use std::{fs, os::unix::fs::symlink};
use tine_archive::check_architecture;
use tine_model::ErrorCode;

fn elf(class: u8, machine: u16) -> Vec<u8> {
    let mut head = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0];
    head.extend(machine.to_le_bytes());
    head.resize(64, 0);
    head
}

fn verdict(make: impl FnOnce(&Target)) -> Result<(), String> {
    let target = Target::new();
    make(&target);
    check_architecture(&target.tree()).map_err(|e| {
        let error = tine_model::Error::from(e);
        assert_eq!(error.code, ErrorCode::WrongArchitecture);
        error.message
    })
}

#[test]
fn the_machine_of_a_real_program_decides() {
    let shell = |class, machine| {
        verdict(move |t| {
            fs::create_dir_all(t.path("usr/bin")).unwrap();
            symlink("usr/bin", t.path("bin")).unwrap();
            fs::write(t.path("usr/bin/dash"), elf(class, machine)).unwrap();
            symlink("dash", t.path("usr/bin/sh")).unwrap();
        })
    };
    assert_eq!(shell(2, 62), Ok(()));
    assert!(shell(2, 183).unwrap_err().contains("aarch64"));
    assert!(shell(1, 3).unwrap_err().contains("i386"));
    assert!(shell(1, 62).unwrap_err().contains("x32"));
}

#[test]
fn scripts_links_and_fifos_are_no_programs() {
    let nothing = verdict(|t| {
        fs::create_dir_all(t.path("bin")).unwrap();
        fs::write(t.path("bin/sh"), "#!/bin/true\n").unwrap();
        symlink("/proc/self/exe", t.path("bin/ls")).unwrap();
        symlink("env", t.path("bin/env")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, t.path("bin/fifo"), fifo, mode, 0).unwrap();
        fs::write(t.path("bin/cut"), &elf(2, 62)[..19]).unwrap();
    });
    assert!(nothing.unwrap_err().contains("no program"));
    assert!(verdict(|_| {}).is_err());
}

#[test]
fn a_program_anywhere_is_found() {
    let found = verdict(|t| {
        fs::create_dir_all(t.path("opt/a/b/c")).unwrap();
        fs::write(t.path("opt/a/b/c/static"), elf(2, 62)).unwrap();
    });
    assert_eq!(found, Ok(()));
}
