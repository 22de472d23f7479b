//! Starting, pausing, limiting, stopping and losing a real box.

use crate::support::{TestBox, command, containers, eventually, streams};
use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tine_machine::{MachineError, cgroup};
use tine_model::{BoxStatus, ByteSize, CpuLimit, ExecRequest, Limits};

fn status(tested: &TestBox) -> BoxStatus {
    tine_machine::status(tested.run_dir()).unwrap()
}

fn in_background(tested: &TestBox, script: &str) {
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let (_events, nothing) = streams(None, null(), null());
    let request = ExecRequest { background: true, ..command(&["sh", "-c", script]) };
    tine_machine::exec(tested.context(), &request, nothing).unwrap();
}

/// The host's process id of the monitor: the parent of the box's init.
fn monitor_of(tested: &TestBox) -> u32 {
    let init = std::fs::read_to_string(format!("/sys/fs/cgroup/pids/tine/{}/cgroup.procs", tested.spec.id))
        .or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/tine/{}/cgroup.procs", tested.spec.id)))
        .unwrap();
    let init = init.lines().next().unwrap().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_box_starts_stops_and_starts_again_and_leaves_nothing() {
    if !containers() {
        return;
    }
    let tested = TestBox::new();
    let before = std::fs::read_dir(tested.run_dir()).unwrap().count();
    assert_eq!((status(&tested), before), (BoxStatus::Stopped, 0));
    assert!(matches!(tested.exec(&command(&["true"])), Err(MachineError::NotRunning)));
    for _ in 0..3 {
        let started = Instant::now();
        tested.start().unwrap();
        eprintln!("start: {:?}", started.elapsed());
        assert_eq!(status(&tested), BoxStatus::Running);
        assert!(matches!(tested.start(), Err(MachineError::AlreadyRunning)));
        assert!(cgroup::list_cgroups().unwrap().contains(&tested.spec.id));
        let stopped = Instant::now();
        tine_machine::stop(tested.run_dir(), 10).unwrap();
        eprintln!("stop: {:?}", stopped.elapsed());
        assert!(stopped.elapsed() < Duration::from_secs(8), "it waited for nothing");
        assert_eq!(status(&tested), BoxStatus::Stopped);
        assert!(!cgroup::list_cgroups().unwrap().contains(&tested.spec.id));
    }
    tine_machine::stop(tested.run_dir(), 10).unwrap();
    let left: Vec<_> = std::fs::read_dir(tested.run_dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().ends_with(".sock")), "{left:?}");
}

#[test]
fn programs_get_their_grace_and_no_more() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    in_background(&tested, "trap 'echo bye > /tmp/bye; exit' TERM; while :; do sleep 0.05; done");
    std::thread::sleep(Duration::from_millis(200));
    let stopped = Instant::now();
    tine_machine::stop(tested.run_dir(), 10).unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(8));
    assert_eq!(std::fs::read_to_string(tested.root().join("tmp/bye")).unwrap(), "bye\n");

    tested.start().unwrap();
    in_background(&tested, "trap '' TERM; while :; do sleep 0.05; done");
    std::thread::sleep(Duration::from_millis(200));
    let stopped = Instant::now();
    tine_machine::stop(tested.run_dir(), 1).unwrap();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&stopped.elapsed()));
}

#[test]
fn a_paused_box_stands_still_and_can_be_stopped() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    in_background(&tested, "while :; do echo x >> /tmp/count; sleep 0.01; done");
    let count = || std::fs::read(tested.root().join("tmp/count")).unwrap_or_default().len();
    eventually("it counts", || count() > 0);
    tine_machine::pause(tested.run_dir()).unwrap();
    assert_eq!(status(&tested), BoxStatus::Paused);
    let at = count();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(), at);
    assert!(matches!(tested.exec(&command(&["true"])), Err(MachineError::Paused)));
    tine_machine::resume(tested.run_dir()).unwrap();
    eventually("it counts again", || count() > at);
    tine_machine::pause(tested.run_dir()).unwrap();
    tine_machine::stop(tested.run_dir(), 5).unwrap();
    assert_eq!(status(&tested), BoxStatus::Stopped);
}

#[test]
fn limits_hold_and_change_while_it_runs() {
    if !containers() {
        return;
    }
    let mut tested = TestBox::new();
    tested.spec.limits = Limits {
        cpu: Some(CpuLimit(200)),
        memory_bytes: Some(ByteSize(64 << 20)),
        pids: Some(20),
        disk_bytes: None,
    };
    tested.start().unwrap();
    let hungry =
        tested.sh("head -c 300000000 /dev/zero | tail -n 1 > /dev/null; echo ${PIPESTATUS[*]}; exit 9");
    let direct = tested.exec(&command(&["tail", "-n", "1", "/dev/zero"])).unwrap();
    assert_eq!(direct.code, 137, "{hungry:?}");
    let bomb = tested.sh("for i in $(seq 100); do sleep 5 & done 2>&1; echo end");
    assert!(bomb.code != 0 || bomb.out.contains("fork"), "{bomb:?}");
    tested.sh("pkill sleep");
    let started = Instant::now();
    tested.exec(&command(&["bash", "-c", "for ((i=0;i<150000;i++)); do :; done"])).unwrap();
    let slow = started.elapsed();
    tine_machine::set_limits(tested.run_dir(), &Limits::default()).unwrap();
    let started = Instant::now();
    tested.exec(&command(&["bash", "-c", "for ((i=0;i<150000;i++)); do :; done"])).unwrap();
    eprintln!("a fifth of a processor {slow:?}, all {:?}", started.elapsed());
    let quota =
        std::fs::read_to_string(format!("/sys/fs/cgroup/cpu/tine/{}/cpu.cfs_quota_us", tested.spec.id));
    if let Ok(quota) = quota {
        assert_eq!(quota.trim(), "-1");
        assert!(slow > started.elapsed());
    }
}

#[test]
fn a_killed_monitor_takes_the_box_along_and_the_next_start_works() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    in_background(&tested, "trap '' TERM HUP; while :; do sleep 1; done");
    kill(monitor_of(&tested));
    eventually("it is stopped", || status(&tested) == BoxStatus::Stopped);
    eventually("nothing lives", || {
        matches!(tine_machine::processes(&tested.spec.id), Err(MachineError::NotRunning))
    });
    assert!(cgroup::list_cgroups().unwrap().contains(&tested.spec.id));
    assert!(cgroup::reap_leftovers(&tested.spec.id).unwrap());
    assert!(!cgroup::list_cgroups().unwrap().contains(&tested.spec.id));
    tested.start().unwrap();
    assert_eq!(tested.sh("echo again").out, "again\n");
}

#[test]
fn a_monitor_killed_at_any_moment_of_the_start_leaves_no_box() {
    if !containers() {
        return;
    }
    let tested = TestBox::new();
    for delay in 0..12 {
        let started = std::thread::scope(|scope| {
            let starter = scope.spawn(|| tested.start());
            std::thread::sleep(Duration::from_millis(4 + 2 * delay));
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
                let cwd_lock = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
                let lock = tested.run_dir().join("lock");
                let holds = cwd_lock.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to == lock);
                let own = pid == std::process::id();
                if holds && !own {
                    kill(pid);
                    break;
                }
            }
            starter.join().unwrap()
        });
        eventually("it is stopped", || {
            let running = status(&tested) != BoxStatus::Stopped;
            if running && started.is_ok() {
                tine_machine::kill(tested.run_dir()).unwrap();
            }
            !running
        });
        let _ = cgroup::reap_leftovers(&tested.spec.id).unwrap();
    }
    tested.start().unwrap();
    assert_eq!(tested.sh("echo works").out, "works\n");
}

#[test]
fn a_client_that_dies_takes_its_program_along_but_none_in_the_background() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    in_background(&tested, "sleep 6666");
    let runs = |command: &str| {
        tine_machine::processes(&tested.spec.id).unwrap().iter().any(|p| p.command == command)
    };
    let mut client = Command::new(tested.program.path.with_file_name("client"))
        .arg(tested.run_dir())
        .args(["sh", "-c", "trap '' HUP; sleep 7777; sleep 7777"])
        .spawn()
        .unwrap();
    eventually("it sleeps", || runs("sleep 7777"));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("it sleeps no more", || !runs("sleep 7777"));
    assert!(runs("sleep 6666"));
}

#[test]
fn a_program_whose_box_ends_is_told_as_killed() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| tested.exec(&command(&["sleep", "77"])));
        eventually("it sleeps", || tine_machine::processes(&tested.spec.id).unwrap().len() == 2);
        tine_machine::kill(tested.run_dir()).unwrap();
        assert_eq!(run.join().unwrap().unwrap().code, 137);
    });
}

#[test]
fn an_idle_monitor_is_small() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let monitor = monitor_of(&tested);
    let rollup = std::fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let line = rollup.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    eprintln!("monitor: {} KiB PSS, {} KiB private dirty", field("Pss:"), field("Private_Dirty:"));
    assert!(field("Pss:") <= 6 * 1024, "{rollup}");
    let fds = std::fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().flatten();
    let open: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    eprintln!("{open:?}");
    let mounts = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(mounts(&monitor.to_string()), mounts("self"), "an idle monitor pins no mounts");
}

#[test]
fn a_root_that_leads_elsewhere_is_refused_and_nothing_is_left() {
    if !containers() {
        return;
    }
    let tested = TestBox::new();
    std::fs::remove_dir(tested.root().join("dev")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), tested.root().join("dev")).unwrap();
    let error = tested.start().unwrap_err();
    assert!(error.to_string().contains("/dev is not a directory"), "{error}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(status(&tested), BoxStatus::Stopped);
    eventually("no cgroup is left", || !cgroup::list_cgroups().unwrap().contains(&tested.spec.id));
    assert!(Path::new("/dev/ptmx").exists());
}

#[test]
fn a_program_that_is_no_monitor_is_reported() {
    if !containers() {
        return;
    }
    let mut tested = TestBox::new();
    tested.program.path = "/bin/true".into();
    assert!(tested.start().unwrap_err().to_string().contains("monitor died"));
    assert!(!cgroup::list_cgroups().unwrap().contains(&tested.spec.id));
}
