//! Programs on channels: streams, windows, signals, terminals, time limits.

use crate::host::{End, TestAgent, eventually, exec, more_than_a_window, request, runs};
use std::time::{Duration, Instant};
use tine_agent::{
    message::{Data, ExecOrder, HostControl, HostMessage, MAX_ORDER, Order, Stream},
    window::WINDOW,
};
use tine_model::{ErrorCode, ExecRequest, WindowSize};

#[test]
fn a_program_has_its_streams_its_code_and_its_environment() {
    let mut host = TestAgent::running();
    host.sh(7, "read x; echo out $x $BOX $HOME; echo err >&2; exit 3");
    host.feed(7, b"given\n");
    assert_eq!(host.end(7), End::Exited(3));
    assert_eq!((host.out(7).as_str(), host.err(7).as_str()), ("out given here /root\n", "err\n"));
    let heard = &host.channels[&7];
    assert!(heard.ended.contains(&1) && heard.ended.contains(&2) && heard.started.is_some());
    // The number of a channel that has ended is free again.
    host.sh(7, "kill -9 $$");
    assert_eq!(host.end(7), End::Exited(137));
}

#[test]
fn what_is_no_program_says_so_as_a_shell_would() {
    let mut host = TestAgent::running();
    host.open(1, &exec(request(&["no-such-program"])));
    assert_eq!(host.end(1), End::Exited(127));
    assert_eq!(host.err(1), "tine: exec: \"no-such-program\": not found\n");
    host.open(2, &exec(request(&["/etc/passwd"])));
    assert_eq!((host.end(2), host.err(2).contains("permission denied")), (End::Exited(126), true));
    host.open(3, &exec(ExecRequest { user: Some("nobody-here".to_owned()), ..request(&["true"]) }));
    let End::Failed(ErrorCode::Usage, message) = host.end(3) else { panic!("{:?}", host.end(3)) };
    assert!(message.contains("nobody-here"), "{message}");
    let streams = [Stream::Null; 3];
    let order = ExecOrder { request: request(&["sh", "-c", "cat; echo lost"]), env: Vec::new(), streams };
    host.open(4, &Order::Exec(Box::new(order)));
    assert_eq!((host.end(4), host.out(4)), (End::Exited(0), String::new()));
}

#[test]
fn a_megabyte_goes_through_a_window_of_a_quarter_both_ways_and_arrives_whole() {
    let mut host = TestAgent::running();
    host.open(1, &exec(request(&["cat"])));
    let sent: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    let mut at = 0;
    while at < sent.len() {
        let fed = host.feed(1, &sent[at..]);
        at += fed;
        host.hear();
    }
    host.eof(1);
    assert_eq!(host.end(1), End::Exited(0));
    assert!(host.channels[&1].out == sent, "{} bytes came back", host.channels[&1].out.len());
}

#[test]
fn a_listener_that_takes_nothing_holds_up_its_own_program_and_no_other() {
    let mut host = TestAgent::running();
    host.slow.push(1);
    host.sh(1, "head -c 600000 /dev/zero; echo done >&2");
    host.until("the window is full", |host| host.channels[&1].out.len() == WINDOW as usize);
    host.sh(2, "head -c 3000000 /dev/zero | tr '\\0' x");
    assert_eq!(host.end(2), End::Exited(0));
    assert_eq!(host.channels[&2].out.len(), 3_000_000);
    let heard = &host.channels[&1];
    assert_eq!((heard.out.len(), heard.err.len(), heard.end.is_none()), (WINDOW as usize, 0, true));
    // A program that has ended is not reported before its last words could be passed on.
    host.sh(3, &format!("head -c {} /dev/zero", more_than_a_window()));
    host.slow.push(3);
    host.until("the window is full", |host| host.channels[&3].out.len() == WINDOW as usize);
    eventually("it has ended", || !runs(host.channels[&3].started.unwrap()));
    assert!(host.channels[&3].end.is_none());
    host.acknowledge(3);
    host.slow.clear();
    host.say(&HostControl::Close { channel: 1 });
    host.until("the rest", |host| host.channels[&3].end.is_some());
}

#[test]
fn a_host_that_sends_more_than_it_may_ends_the_input_and_nothing_else() {
    let mut host = TestAgent::running();
    host.slow.push(1);
    host.sh(1, "sleep 1; wc -c");
    for _ in 0..20 {
        host.send(&HostMessage::Data(Data { channel: 1, stream: 0, bytes: &[b'x'; 32 << 10] }));
    }
    assert_eq!(host.end(1), End::Exited(0));
    let counted: usize = host.out(1).trim().parse().unwrap();
    assert!((WINDOW as usize..20 * (32 << 10)).contains(&counted), "{counted}");
}

#[test]
fn a_program_that_reads_no_input_lets_the_host_know() {
    let mut host = TestAgent::running();
    host.sh(1, "exec <&-; sleep 60");
    host.until("started", |host| host.channels[&1].started.is_some());
    eventually("the input is closed", || {
        let pid = host.channels[&1].started.unwrap();
        !std::path::Path::new(&format!("/proc/{pid}/fd/0")).exists()
    });
    host.feed(1, b"nobody reads this");
    host.until("told", |host| host.channels[&1].ended == [0]);
}

#[test]
fn a_large_order_arrives_whole_and_one_that_is_too_large_is_refused() {
    let mut host = TestAgent::running();
    let variables = (0..15).map(|n| format!("V{n}={}", "x".repeat(100_000)).parse().unwrap()).collect();
    let script = "env | wc -c";
    host.open(1, &exec(ExecRequest { env: variables, ..request(&["sh", "-c", script]) }));
    assert_eq!(host.end(1), End::Exited(0));
    assert!(host.out(1).trim().parse::<usize>().unwrap() > 1_500_000);
    host.channels.insert(2, crate::host::Heard::default());
    let bytes = [b'x'; 32 << 10];
    for _ in 0..=MAX_ORDER / bytes.len() {
        let part = tine_agent::message::OrderPart { channel: 2, last: false, bytes: &bytes };
        host.send(&HostMessage::Order(part));
    }
    assert!(matches!(host.end(2), End::Failed(ErrorCode::TooLarge, _)));
    host.channels.insert(3, crate::host::Heard::default());
    let part = tine_agent::message::OrderPart { channel: 3, last: true, bytes: b"{}" };
    host.send(&HostMessage::Order(part));
    assert!(matches!(host.end(3), End::Failed(ErrorCode::Internal, _)));
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let mut host = TestAgent::running();
    host.sh(1, "sleep 61 & echo $!; wait");
    host.until_said(1, "\n");
    let sleeper: u32 = host.out(1).trim().parse().unwrap();
    host.say(&HostControl::Signal { channel: 1, number: 15 });
    assert_eq!(host.end(1), End::Exited(143));
    eventually("the sleeper is gone", || !runs(sleeper));
    host.say(&HostControl::Signal { channel: 1, number: 9 });
    host.say(&HostControl::Signal { channel: 99, number: 9 });
    host.sh(2, "echo still here");
    assert_eq!((host.end(2), host.out(2).as_str()), (End::Exited(0), "still here\n"));
}

#[test]
fn time_limits_end_a_program_also_one_that_ignores_the_first_signal() {
    let mut host = TestAgent::running();
    let started = Instant::now();
    let limited =
        |script: &str| exec(ExecRequest { timeout_seconds: Some(1), ..request(&["sh", "-c", script]) });
    host.open(1, &limited("trap '' TERM; while :; do sleep 0.1; done"));
    host.open(2, &limited("sleep 60"));
    assert_eq!(host.end(2), End::Exited(124));
    assert_eq!(host.end(1), End::Exited(124));
    assert!((2..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[test]
fn a_terminal_has_a_size_that_changes_and_takes_what_is_typed() {
    let mut host = TestAgent::running();
    let script = "test -t 0 && test -t 1; echo $?; stty size; trap 'stty size; exit 7' WINCH; \
        read x; echo got $x; while :; do sleep 0.05; done";
    let size = WindowSize { rows: 31, columns: 117 };
    host.open(1, &exec(ExecRequest { tty: Some(size), ..request(&["bash", "-c", script]) }));
    host.feed(1, b"typed\n");
    host.until_said(1, "got typed");
    host.say(&HostControl::Resize { channel: 1, size: WindowSize { rows: 40, columns: 80 } });
    assert_eq!(host.end(1), End::Exited(7));
    let out = host.out(1).replace('\r', "");
    assert!(out.contains("0\n31 117\n") && out.ends_with("got typed\n40 80\n"), "{out}");
    // The end of what is typed is typed.
    host.open(2, &exec(ExecRequest { tty: Some(size), ..request(&["cat"]) }));
    host.until("started", |host| host.channels[&2].started.is_some());
    host.eof(2);
    assert_eq!(host.end(2), End::Exited(0));
    host.open(3, &exec(ExecRequest { tty: Some(size), ..request(&["sleep", "60"]) }));
    host.until("started", |host| host.channels[&3].started.is_some());
    host.feed(3, b"\x03");
    assert_eq!(host.end(3), End::Exited(130));
}

#[test]
fn the_last_words_on_a_terminal_are_not_lost() {
    let mut host = TestAgent::running();
    let size = WindowSize { rows: 24, columns: 80 };
    for round in 0..20 {
        host.open(round, &exec(ExecRequest { tty: Some(size), ..request(&["seq", "1", "2000"]) }));
        assert_eq!(host.end(round), End::Exited(0));
        assert_eq!(host.out(round).lines().count(), 2000, "round {round}");
    }
}

#[test]
fn descendants_that_keep_the_output_open_do_not_hold_up_the_end() {
    let mut host = TestAgent::running();
    let started = Instant::now();
    host.sh(1, "sleep 20 & echo done");
    assert_eq!((host.end(1), host.out(1).as_str()), (End::Exited(0), "done\n"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn background_programs_write_to_the_log_and_outlive_their_channel() {
    let mut host = TestAgent::running();
    let script = "echo one; echo two >&2; sleep 0.5; echo three; sleep 60";
    host.open(1, &exec(ExecRequest { background: true, ..request(&["sh", "-c", script]) }));
    host.until("started", |host| host.channels[&1].started.is_some());
    let pid = host.channels[&1].started.unwrap();
    host.say(&HostControl::Close { channel: 1 });
    host.until("logged", |host| host.log == b"one\ntwo\nthree\n");
    assert!(runs(pid));
}

#[test]
fn a_program_whose_listener_is_gone_hangs_up_and_is_killed_when_it_does_not_heed_that() {
    let mut host = TestAgent::running();
    host.sh(1, "trap 'echo hung up > hup; exit' HUP; echo ready; while :; do sleep 0.05; done");
    host.sh(2, "trap '' HUP; echo ready; while :; do sleep 0.05; done");
    for channel in [1, 2] {
        host.until_said(channel, "ready");
    }
    let (heeds, heeds_not) = (host.channels[&1].started.unwrap(), host.channels[&2].started.unwrap());
    let closed = Instant::now();
    host.say(&HostControl::Close { channel: 1 });
    host.say(&HostControl::Close { channel: 2 });
    eventually("the one that heeds is gone", || !runs(heeds));
    eventually("the other is gone", || !runs(heeds_not));
    assert!(closed.elapsed() > Duration::from_secs(1), "SIGKILL came too early");
    assert!(host.channels.values().all(|heard| heard.end.is_none()), "nobody is told");
}

#[test]
fn many_at_once_each_get_their_own_answer_and_no_more_than_there_may_be() {
    let mut host = TestAgent::running();
    for channel in 0..60 {
        host.sh(channel, &format!("echo {channel}; exit {channel}"));
    }
    for channel in 0..60 {
        assert_eq!(host.end(channel), End::Exited(channel as u8));
        assert_eq!(host.out(channel), format!("{channel}\n"));
    }
    for channel in 1000..1257 {
        host.open(channel, &exec(request(&["sleep", "60"])));
    }
    assert!(matches!(host.end(1256), End::Failed(ErrorCode::Busy, _)));
    assert!(host.channels[&1255].end.is_none() && host.channels[&1255].started.is_some());
}
