//! Running programs in a real box.

use crate::support::{TestBox, command, containers, eventually, streams};
use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};
use tine_machine::MachineError;
use tine_model::{ExecEvent, ExecOutcome, ExecRequest, WindowSize};

#[test]
fn exit_codes_output_and_errors_come_apart() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let ran = tested.sh("echo out; echo err >&2; exit 3");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (3, "out\n", "err\n"));
    assert_eq!(tested.sh("kill -9 $$").code, 137);
    assert_eq!(tested.sh("kill -TERM $$").code, 143);
    let missing = tested.exec(&command(&["no-such-program"])).unwrap();
    assert_eq!((missing.code, missing.err.as_str()), (127, "tine: exec: \"no-such-program\": not found\n"));
    assert_eq!(tested.exec(&command(&["/etc/passwd"])).unwrap().code, 126);
    assert_eq!(tested.exec(&command(&["/tmp"])).unwrap().code, 126);
    assert!(matches!(tested.exec(&command(&[])), Err(MachineError::Invalid(_))));
    tested.sh("echo 'echo script $1' > /tmp/plain; chmod +x /tmp/plain");
    assert_eq!(tested.exec(&command(&["/tmp/plain", "arg"])).unwrap().out, "script arg\n");
}

#[test]
fn user_environment_and_directory_are_as_asked() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let as_user = |user: &str| ExecRequest {
        user: Some(user.to_owned()),
        ..command(&["sh", "-c", "id -u; id -g; id -G; echo $HOME; pwd"])
    };
    assert_eq!(tested.exec(&as_user("ann")).unwrap().out, "1000\n1000\n1000 2000\n/tmp\n/tmp\n");
    assert_eq!(tested.exec(&as_user("1234:77")).unwrap().out, "1234\n77\n77\n/\n/\n");
    assert_eq!(tested.sh("id -u; echo $HOME; pwd").out, "0\n/root\n/root\n");
    let error = tested.exec(&as_user("nobody-here")).unwrap_err();
    assert!(matches!(&error, MachineError::NoSuchUser(m) if m.contains("nobody-here")), "{error}");
    let request = ExecRequest {
        env: vec!["A=1".parse().unwrap(), "PATH=/usr/bin:/bin".parse().unwrap()],
        working_dir: Some("/usr/bin".to_owned()),
        ..command(&["sh", "-c", "echo $A; pwd; echo $PATH; env | wc -l"])
    };
    assert_eq!(tested.exec(&request).unwrap().out, "1\n/usr/bin\n/usr/bin:/bin\n5\n");
    let lost = ExecRequest { working_dir: Some("/nowhere".to_owned()), ..command(&["true"]) };
    let ran = tested.exec(&lost).unwrap();
    assert_eq!((ran.code, ran.err.contains("/nowhere")), (126, true), "{}", ran.err);
    // The program cannot have kept what it is not: the user's program has no capabilities.
    let caps =
        ExecRequest { user: Some("ann".to_owned()), ..command(&["grep", "CapEff", "/proc/self/status"]) };
    assert_eq!(tested.exec(&caps).unwrap().out, "CapEff:\t0000000000000000\n");
}

#[test]
fn input_from_pipes_files_and_nothing_reaches_the_program() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    assert_eq!(tested.exec(&command(&["cat"])).unwrap().out, "");
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"piped").unwrap();
    drop(write);
    assert_eq!(tested.exec_with(&command(&["cat"]), Some(read.into())).unwrap().out, "piped");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![b'x'; 3_000_000]).unwrap();
    file.rewind().unwrap();
    assert_eq!(tested.exec_with(&command(&["wc", "-c"]), Some(file.into())).unwrap().out, "3000000\n");
    // A program that does not read its input does not hold up the end.
    let zero = File::open("/dev/zero").unwrap();
    assert_eq!(tested.exec_with(&command(&["true"]), Some(zero.into())).unwrap().code, 0);
}

#[test]
fn a_hundred_megabytes_arrive_whole_in_a_file_and_through_a_pipe() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let mut file = tempfile::tempfile().unwrap();
    let (_events, to_file) =
        streams(None, file.try_clone().unwrap().into(), tempfile::tempfile().unwrap().into());
    let started = Instant::now();
    let request = command(&["head", "-c", "104857600", "/dev/zero"]);
    let outcome = tine_machine::exec(tested.context(), &request, to_file).unwrap();
    eprintln!("100 MiB copied in {:?}", started.elapsed());
    assert_eq!(outcome, ExecOutcome::Exited { code: 0 });
    assert_eq!(file.stream_position().unwrap(), 104_857_600);
    assert_eq!(tested.exec(&request).unwrap().out.len(), 104_857_600);
}

#[test]
fn a_terminal_has_a_size_that_changes_and_signals_pass() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let script = "tty; stty size; trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.05; done";
    let request =
        ExecRequest { tty: Some(WindowSize { rows: 31, columns: 117 }), ..command(&["bash", "-c", script]) };
    let (mut out, stdout) = std::io::pipe().unwrap();
    let (events, streams) = streams(None, stdout.into(), tempfile::tempfile().unwrap().into());
    let resizer = std::thread::spawn(move || {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.contains("ready") {
            let n = out.read(&mut buffer).unwrap();
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        events.send(ExecEvent::Resize(WindowSize { rows: 40, columns: 80 })).unwrap();
        out.read_to_string(&mut text).unwrap();
        text
    });
    let outcome = tine_machine::exec(tested.context(), &request, streams).unwrap();
    let text = resizer.join().unwrap();
    assert_eq!(outcome, ExecOutcome::Exited { code: 7 }, "{text}");
    assert_eq!(text.replace('\r', ""), "/dev/pts/0\n31 117\nready\n40 80\n");
}

#[test]
fn typing_reaches_a_terminals_program_and_control_c_ends_it() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let size = WindowSize { rows: 24, columns: 80 };
    let typed = |bytes: &[u8], argv: &[&str]| {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(bytes).unwrap();
        let request = ExecRequest { tty: Some(size), ..command(argv) };
        let ran = tested.exec_with(&request, Some(OwnedFd::from(read))).unwrap();
        drop(write);
        ran
    };
    let ran = typed(b"hello\nexit 5\n", &["sh", "-c", "read x; echo got $x; exit 5"]);
    assert_eq!((ran.code, ran.out.contains("got hello")), (5, true), "{ran:?}");
    assert_eq!(typed(b"\x03", &["sleep", "30"]).code, 130);
}

#[test]
fn a_signal_reaches_the_whole_group() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let (out, stdout) = std::io::pipe().unwrap();
    let (events, streams) = streams(None, stdout.into(), tempfile::tempfile().unwrap().into());
    let sender = std::thread::spawn(move || {
        let mut byte = [0];
        (&out).read_exact(&mut byte).unwrap();
        events.send(ExecEvent::Signal(15)).unwrap();
        (events, out)
    });
    let request = command(&["sh", "-c", "echo; sleep 3030; exit 1"]);
    let outcome = tine_machine::exec(tested.context(), &request, streams).unwrap();
    assert_eq!(outcome, ExecOutcome::Exited { code: 143 });
    drop(sender.join().unwrap());
    eventually("nothing sleeps", || !tested.sh("ps ax").out.contains("sleep 3030"));
}

#[test]
fn time_limits_end_a_program_also_one_that_ignores_the_first_signal() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let started = Instant::now();
    let limited = |script: &str| ExecRequest { timeout_seconds: Some(1), ..command(&["sh", "-c", script]) };
    assert_eq!(tested.exec(&limited("sleep 60")).unwrap().code, 124);
    assert!(started.elapsed() < Duration::from_secs(9));
    assert_eq!(tested.exec(&limited("trap '' TERM; while :; do sleep 0.1; done")).unwrap().code, 124);
    assert!(started.elapsed() < Duration::from_secs(11));
    assert_eq!(tested.exec(&limited("exit 4")).unwrap().code, 4);
}

#[test]
fn descendants_that_keep_the_output_open_do_not_hold_up_the_end() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let file = tempfile::tempfile().unwrap();
    let (_events, to_file) = streams(None, file.try_clone().unwrap().into(), file.into());
    let started = Instant::now();
    let request = command(&["sh", "-c", "sleep 20 & echo done"]);
    let outcome = tine_machine::exec(tested.context(), &request, to_file).unwrap();
    assert_eq!(outcome, ExecOutcome::Exited { code: 0 });
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn background_output_goes_to_the_log() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    let request =
        ExecRequest { background: true, ..command(&["sh", "-c", "echo one; echo two >&2; sleep 60"]) };
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let (_events, nothing) = streams(None, null(), null());
    let outcome = tine_machine::exec(tested.context(), &request, nothing).unwrap();
    let ExecOutcome::Started { pid } = outcome else { panic!("{outcome:?}") };
    let log = tested.spec.log_dir.join("log");
    eventually("the log is written", || std::fs::read_to_string(&log).is_ok_and(|text| text == "one\ntwo\n"));
    let list = || tine_machine::processes(&tested.spec.id).unwrap();
    eventually("it sleeps", || list().iter().any(|p| p.pid == pid && p.state == "S"));
    let processes = list();
    let told = processes.iter().find(|p| p.pid == pid).unwrap();
    assert!(told.command.contains("echo one") && told.uid == 0, "{told:?}");
    assert_eq!(processes[0].pid, 1);
}

#[test]
fn orphans_are_reaped() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    tested.sh("for i in $(seq 50); do (sleep 0.05 &) ; done");
    eventually("only the init is left", || tine_machine::processes(&tested.spec.id).unwrap().len() == 1);
}

#[test]
fn many_at_once_each_get_their_own_answer() {
    if !containers() {
        return;
    }
    let tested = TestBox::started();
    std::thread::scope(|scope| {
        for code in 0..40_u8 {
            let tested = &tested;
            scope.spawn(move || {
                assert_eq!(tested.sh(&format!("echo {code}; exit {code}")).out, format!("{code}\n"))
            });
        }
    });
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(tested.exec(&command(&["true"])).unwrap().code, 0);
    }
    eprintln!("exec true: {:?} each", started.elapsed() / 50);
}
