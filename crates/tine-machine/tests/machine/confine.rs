//! What a program in a real box cannot do.

use crate::support::{TestBox, command, containers};
use std::os::unix::fs::MetadataExt;

#[test]
fn a_device_node_made_in_the_box_opens_nothing() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    // The numbers of /dev/zero: harmless, and readable wherever device nodes work.
    for dir in ["/tmp", "/dev", "/dev/shm", "/root"] {
        let ran = tested.sh(&format!("mknod {dir}/z c 1 5 && head -c 1 {dir}/z"));
        assert!(ran.code != 0 && ran.err.contains("Permission denied"), "{dir}: {ran:?}");
    }
    let ran = tested.sh("mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk");
    assert!(ran.code != 0 && ran.err.contains("Permission denied"), "{ran:?}");
    let ran = tested.sh(
        "head -c 4 /dev/zero | wc -c; echo x > /dev/null; head -c 4 /dev/urandom | wc -c; echo x > /dev/full",
    );
    assert!(ran.out == "4\n4\n" && !ran.err.is_empty(), "{ran:?}");
}

#[test]
fn dangerous_calls_are_refused_and_ordinary_ones_work() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    for script in [
        "unshare -m true",
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs x /tmp",
        "umount /proc",
        "mount -o remount,rw /usr",
        "hostname other",
        "date -s 2020-01-01",
        "chroot /proc/1/root true && exit 0; exit 1",
        "nsenter -t 1 -m true",
        "dmesg",
        "swapoff -a && exit 1; exit 1",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/kernel/uevent_helper",
        "kill -9 1; sleep 0.1; kill -0 1 && exit 1",
    ] {
        let ran = tested.sh(script);
        assert_ne!(ran.code, 0, "{script}: {ran:?}");
    }
    let ran = tested.sh("setpriv --no-new-privs true; setarch -R true; ls / | sort | wc -l; chown 1 /tmp; nice true; sleep 0.01 & wait");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn the_inits_program_is_neither_readable_nor_writable_from_the_box() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let before = std::fs::metadata(&tested.program.path).unwrap();
    for script in [
        "ls -l /proc/1/exe",
        "cat /proc/1/exe | head -c 1 | grep -q .",
        "cat /proc/1/environ",
        "cat /proc/1/maps | grep -q .",
        "readlink /proc/1/fd/3",
        "echo x > /proc/1/fd/4",
        // An interpreter that is the process itself is how a program gets hold of what was executed.
        "printf '#!/proc/self/exe\\n' > /tmp/i; chmod +x /tmp/i; (echo x > /proc/1/exe)",
    ] {
        let ran = tested.sh(script);
        assert_ne!(ran.code, 0, "{script}: {ran:?}");
    }
    let after = std::fs::metadata(&tested.program.path).unwrap();
    assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()));
}

#[test]
fn what_tells_of_the_host_is_masked_and_no_descriptor_leaks() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
        assert_eq!(tested.sh(&format!("head -c 1 {path} | wc -c")).out, "0\n", "{path}");
    }
    assert_eq!(tested.sh("ls -A /sys/firmware | wc -l").out, "0\n");
    assert_eq!(tested.sh("ls /proc/self/fd | tr '\\n' ' '").out, "0 1 2 3 ");
    assert_eq!(tested.sh("ls /proc | grep -c '^[0-9]'").code, 0);
    let mounts = tested.sh("cat /proc/self/mountinfo").out;
    assert!(!mounts.contains("cgroup") || mounts.contains("cgroup2 "), "{mounts}");
    assert!(!mounts.contains(tested.run_dir().to_str().unwrap()) || mounts.contains("/etc/"), "{mounts}");
    let status = tested.sh("grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|Seccomp|NoNewPrivs):' /proc/self/status").out;
    let set = "00000000a80425fb";
    for line in
        [format!("CapBnd:\t{set}"), format!("CapEff:\t{set}"), "Seccomp:\t2".into(), "NoNewPrivs:\t0".into()]
    {
        assert!(status.contains(&line), "{status}");
    }
}

#[test]
fn a_host_file_given_as_a_stream_cannot_be_opened_from_the_box() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"host data").unwrap();
    let readonly = std::fs::File::open(file.path()).unwrap();
    let script = "cat; echo stolen > /proc/self/fd/0; readlink /proc/self/fd/0";
    let ran = tested.exec_with(&command(&["sh", "-c", script]), Some(readonly.into())).unwrap();
    assert!(ran.out.starts_with("host data") && ran.out.contains("pipe:"), "{ran:?}");
    assert_eq!(std::fs::read(file.path()).unwrap(), b"host data");
}

#[test]
fn ordinary_programs_work() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let python = "import threading,socket,os,tempfile,subprocess,sys\nt=threading.Thread(target=print,args=('t',))\nt.start();t.join()\ns=socket.socket();s.bind(('127.0.0.1',0));s.listen()\nprint(subprocess.check_output(['echo','sub']).decode().strip())";
    for (argv, expected) in [
        (vec!["bash", "-c", "x=$(echo a | tr a b); echo $x"], "b\n"),
        (vec!["perl", "-e", "print fork() ? do { wait; \"p\" } : do { exit }"], "p"),
        (vec!["python3", "-c", python], "t\nsub\n"),
    ] {
        if tested.exec(&command(&["which", argv[0]])).unwrap().code != 0 {
            continue;
        }
        let ran = tested.exec(&command(&argv)).unwrap();
        assert_eq!((ran.code, ran.out.as_str()), (0, expected), "{ran:?}");
    }
}
