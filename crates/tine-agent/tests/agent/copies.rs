//! Files in and out, what lies at a path, and processes.

use crate::host::{End, TestAgent, TestHost, exec, request};
use std::{fs, os::unix::fs::symlink, path::Path};
use tine_agent::{
    message::{Order, stream},
    processes::parse_list,
};
use tine_model::{ErrorCode, ExecRequest, PathKind, RawPath};

fn copy_out(path: &str) -> Order {
    Order::CopyOut { path: RawPath::new(path) }
}

fn copy_in(path: &str) -> Order {
    Order::CopyIn { path: RawPath::new(path) }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root, to see a root without what is mounted over it");
    }
    root
}

/// Sends a whole tar.
fn send_tar(host: &mut TestHost, channel: u32, tar: &[u8]) {
    let mut at = 0;
    while at < tar.len() && host.channels[&channel].end.is_none() {
        at += host.feed(channel, &tar[at..]);
        host.hear();
    }
    host.eof(channel);
}

#[test]
fn a_tree_goes_out_and_comes_in_again() {
    if !is_root() {
        return;
    }
    let mut host = TestAgent::running();
    let source = host.root().join("source/inner");
    fs::create_dir_all(&source).unwrap();
    let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 253) as u8).collect();
    fs::write(source.join("file"), &content).unwrap();
    symlink("/source/inner", host.root().join("link")).unwrap();
    host.open(1, &copy_out("/source"));
    assert_eq!(host.end(1), End::Exited(0));
    let tar = host.channels[&1].out.clone();
    assert!(tar.len() > content.len() && tar.len().is_multiple_of(512));
    fs::create_dir(host.root().join("target")).unwrap();
    symlink("../target", host.root().join("source/to-target")).unwrap();
    host.open(2, &copy_in("/source/to-target"));
    send_tar(&mut host, 2, &tar);
    assert_eq!(host.end(2), End::Exited(0));
    assert!(fs::read(host.root().join("target/source/inner/file")).unwrap() == content);
    // A link at the end is copied as a link, and one file has its own name.
    host.open(3, &copy_out("/link"));
    assert_eq!(host.end(3), End::Exited(0));
    assert!(host.out(3).contains("\0link\0") && host.out(3).len() < 8192, "{:?}", host.out(3));
}

#[test]
fn paths_that_do_not_do_are_refused_and_nothing_leads_out() {
    if !is_root() {
        return;
    }
    let mut host = TestAgent::running();
    fs::write(host.root().join("file"), "x").unwrap();
    symlink("/etc/../../../etc/passwd", host.root().join("out")).unwrap();
    symlink("loop", host.root().join("loop")).unwrap();
    let mut next = 0;
    let mut ends = |host: &mut TestHost, order: &Order| {
        next += 1;
        host.open(next, order);
        host.end(next)
    };
    let code = |end: End| match end {
        End::Failed(code, message) => (code, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        code(ends(&mut host, &copy_out("/nothing"))),
        (ErrorCode::NotFound, "/nothing does not exist".to_owned())
    );
    assert_eq!(code(ends(&mut host, &copy_in("/nothing"))).0, ErrorCode::NotFound);
    assert_eq!(
        code(ends(&mut host, &copy_in("/file"))),
        (ErrorCode::InvalidPath, "/file is not a directory".to_owned())
    );
    assert_eq!(code(ends(&mut host, &copy_in("/loop"))).0, ErrorCode::InvalidPath);
    let mut stat = |path: &str| ends(&mut host, &Order::StatPath { path: RawPath::new(path) });
    assert_eq!(stat("/"), End::Stat(PathKind::Directory));
    assert_eq!(stat("/file"), End::Stat(PathKind::File));
    assert_eq!(stat("/../../../file"), End::Stat(PathKind::File));
    assert_eq!(stat("/file/below"), End::Stat(PathKind::Missing));
    assert_eq!(stat("/out"), End::Stat(PathKind::Missing), "a link leads nowhere but into the root");
    assert_eq!(stat("/\u{fffd}"), End::Stat(PathKind::Missing));
}

#[test]
fn a_tar_that_is_none_or_is_cut_off_or_packed_is_refused() {
    if !is_root() {
        return;
    }
    let mut host = TestAgent::running();
    fs::write(host.root().join("file"), vec![b'x'; 100_000]).unwrap();
    host.open(1, &copy_out("/file"));
    assert_eq!(host.end(1), End::Exited(0));
    let cut = host.channels[&1].out[..50_000].to_vec();
    fs::create_dir(host.root().join("into")).unwrap();
    let packed = [&[0x1f, 0x8b, 8][..], &[0; 600]].concat();
    for (channel, tar) in [(2, vec![b'x'; 5000]), (3, cut), (4, packed)] {
        host.open(channel, &copy_in("/into"));
        send_tar(&mut host, channel, &tar);
        let end = host.end(channel);
        assert!(matches!(end, End::Failed(ErrorCode::InvalidInput, _)), "{end:?}");
    }
}

#[test]
fn a_copy_whose_listener_is_gone_ends() {
    if !is_root() {
        return;
    }
    let mut host = TestAgent::running();
    fs::write(host.root().join("file"), vec![b'x'; 3_000_000]).unwrap();
    host.slow.push(1);
    host.open(1, &copy_out("/file"));
    host.until("it writes", |host| !host.channels[&1].out.is_empty());
    let pid = host.channels[&1].started.unwrap();
    host.say(&tine_agent::message::HostControl::Close { channel: 1 });
    crate::host::eventually("the copy is gone", || !crate::host::runs(pid));
}

#[test]
fn processes_are_listed() {
    let mut host = TestAgent::running();
    host.open(1, &exec(ExecRequest { user: Some("1".to_owned()), ..request(&["sleep", "61"]) }));
    host.until("started", |host| host.channels[&1].started.is_some());
    let pid = host.channels[&1].started.unwrap();
    crate::host::eventually("it is executed", || {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm")).unwrap() == "sleep\n"
    });
    host.open(2, &Order::Processes);
    assert_eq!(host.end(2), End::Exited(0));
    assert_eq!(host.channels[&2].ended, [stream::OUTPUT]);
    let listed = parse_list(&host.channels[&2].out).unwrap();
    let found = listed.iter().find(|process| process.pid == pid).unwrap();
    assert_eq!((found.command.as_str(), found.uid, found.state.as_str()), ("sleep 61", 1, "S"));
}
