//! Sessions: beginning, beginning anew, garbage in between, identity, freezing, shutting down.

use crate::host::{End, TestAgent, eventually, exec, identity, request, runs};
use std::time::Duration;
use tine_agent::message::{GuestControl, HostControl, Order, Phase};
use tine_model::{ErrorCode, ExecRequest, RawPath};

#[test]
fn nothing_is_heard_before_the_first_hello_and_nothing_runs_before_the_thaw() {
    let mut host = TestAgent::silent();
    host.say(&HostControl::Thaw);
    assert_eq!(host.hello(5), Phase::Booted, "a thaw outside a session is none");
    host.sh(1, "true");
    let End::Failed(ErrorCode::WrongState, message) = host.end(1) else { panic!("{:?}", host.end(1)) };
    assert!(message.contains("thawed"));
    host.say(&HostControl::Thaw);
    host.sh(1, "true");
    assert_eq!(host.end(1), End::Exited(0));
    assert_eq!(host.hello(6), Phase::Running);
}

#[test]
fn a_new_session_forgets_the_channels_of_the_old_one_and_their_programs_go_on() {
    let mut host = TestAgent::running();
    let marker = host.dir.path().join("marker");
    let script = format!("cat >/dev/null; head -c 2000000 /dev/zero; touch {}; sleep 60", marker.display());
    host.slow.push(1);
    host.sh(1, &script);
    host.sh(2, "trap 'exit 9' HUP; while :; do echo noise; sleep 0.01; done");
    host.until_said(2, "noise");
    let pid = host.channels[&2].started.unwrap();
    assert!(!marker.exists(), "the program waits for the end of its input");
    assert_eq!(host.hello(2), Phase::Running);
    // Its input has ended, and what it writes is taken though nobody listens.
    eventually("the program has written everything", || marker.exists());
    for _ in 0..10 {
        host.hear();
    }
    assert!(host.channels.is_empty() && runs(pid), "the former session's programs run unheard");
    host.sh(2, "echo mine");
    assert_eq!((host.end(2), host.out(2).as_str()), (End::Exited(0), "mine\n"));
}

#[test]
fn what_the_guest_was_saying_to_an_earlier_host_never_reaches_the_next() {
    let mut host = TestAgent::running();
    host.sh(1, "yes");
    // Nobody reads, so that the agent is in the middle of a frame when the next host begins.
    std::thread::sleep(Duration::from_millis(300));
    host.say(&HostControl::Close { channel: 1 });
    assert_eq!(host.hello(77), Phase::Running);
    host.sh(1, "echo new");
    assert_eq!((host.end(1), host.out(1).as_str()), (End::Exited(0), "new\n"));
}

#[test]
fn garbage_between_and_within_messages_costs_only_what_it_hits() {
    let mut host = TestAgent::running();
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    host.send_raw(&noise);
    host.send_raw(&[0]);
    host.sh(1, "echo one");
    assert_eq!((host.end(1), host.out(1).as_str()), (End::Exited(0), "one\n"));
    let mut frames = Vec::new();
    exec(request(&["true"])).append(2, &mut frames).unwrap();
    host.send_raw(&frames[..frames.len() / 2]);
    assert_eq!(host.hello(2), Phase::Running, "a frame that is cut off costs the next one nothing");
    host.sh(3, "echo three");
    assert_eq!((host.end(3), host.out(3).as_str()), (End::Exited(0), "three\n"));
}

#[test]
fn an_identity_is_written_in_place_and_answered_with_the_clock() {
    let mut host = TestAgent::silent();
    host.hello(1);
    let open = std::fs::File::open(host.files().join("hosts")).unwrap();
    for name in ["first-rather-long-name", "second"] {
        host.controls.clear();
        host.say(&HostControl::Identity(Box::new(identity(name))));
        host.until("answered", |host| !host.controls.is_empty());
        let [GuestControl::IdentitySet { wall_clock_ns }] = host.controls[..] else {
            panic!("{:?}", host.controls);
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let apart = u128::from(wall_clock_ns).abs_diff(now.as_nanos());
        assert!(apart < 20_000_000_000, "the clock of an ordinary process is not touched");
    }
    let content = |name: &str| std::fs::read_to_string(host.files().join(name)).unwrap();
    assert_eq!(content("hostname"), "second\n");
    assert_eq!(content("machine-id"), "0123456789abcdef0123456789abcdef\n");
    assert_eq!(content("resolv.conf"), "nameserver 10.0.0.1\n");
    let seen = std::io::read_to_string(open).unwrap();
    assert_eq!(seen, "127.0.0.1 second\n", "whoever has the file open sees the new content");
}

#[test]
fn quiescing_and_thawing_are_answered_and_may_be_repeated() {
    let mut host = TestAgent::running();
    for control in [HostControl::Quiesce { programs: true }, HostControl::Quiesce { programs: false }] {
        host.controls.clear();
        host.say(&control);
        host.until("quiesced", |host| host.controls == [GuestControl::Quiesced]);
    }
    for _ in 0..2 {
        host.controls.clear();
        host.say(&HostControl::Thaw);
        host.until("thawed", |host| host.controls == [GuestControl::Thawed]);
    }
    host.controls.clear();
    host.say(&HostControl::SetClock { wall_clock_ns: 1 });
    host.until("set", |host| matches!(host.controls[..], [GuestControl::ClockSet { wall_clock_ns: 2.. }]));
}

#[test]
fn shutting_down_asks_first_and_kills_what_stays() {
    let mut host = TestAgent::running();
    host.sh(1, "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    host.sh(2, "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    for channel in [1, 2] {
        host.until_said(channel, "ready");
    }
    host.say(&HostControl::Shutdown { grace_seconds: 1 });
    host.open(3, &exec(request(&["true"])));
    assert_eq!(host.end(1), End::Exited(5));
    assert!(host.out(1).contains("asked"));
    assert!(matches!(host.end(3), End::Failed(ErrorCode::WrongState, _)));
    assert_eq!(host.end(2), End::Exited(137));
    let agent = host.agent_pid();
    eventually("the agent has ended", || !runs(agent));
}

#[test]
fn an_agent_whose_host_is_gone_takes_its_programs_along() {
    let mut host = TestAgent::running();
    host.open(1, &exec(ExecRequest { background: true, ..request(&["sleep", "60"]) }));
    host.until("started", |host| host.channels[&1].started.is_some());
    let (agent, program) = (host.agent_pid(), host.channels[&1].started.unwrap());
    host.hang_up();
    eventually("both are gone", || !runs(agent) && !runs(program));
}

#[test]
fn an_open_channel_stays_what_it_is_when_its_number_is_used_again() {
    let mut host = TestAgent::running();
    host.sh(1, "read x; echo first");
    host.until("started", |host| host.channels[&1].started.is_some());
    let mut frames = Vec::new();
    Order::StatPath { path: RawPath::new("/") }.append(1, &mut frames).unwrap();
    host.send_raw(&frames);
    host.eof(1);
    assert_eq!((host.end(1), host.out(1).as_str()), (End::Exited(0), "first\n"));
}
