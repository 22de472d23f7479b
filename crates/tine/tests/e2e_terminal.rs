//! The terminal and signals, as a user has them.

#[path = "support/monitor.rs"]
mod monitor;
mod support;
#[path = "support/terminal.rs"]
mod terminal;

use monitor::kill_monitor;
use rustix::process::Signal;
use std::{process::Stdio, time::Duration};
use support::{Fixture, eventually};
use terminal::Terminal;

/// Whether a program with this argument runs in the box.
fn runs(f: &Fixture, name: &str, argument: &str) -> bool {
    f.ok(&["ps", name]).contains(argument)
}

#[test]
fn the_terminal_is_given_back_however_the_program_ends() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let before = terminal.settings();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -HUP $$", 129)] {
        let client =
            terminal.start_raw(&f, &["exec", "-it", "b", "--", "sh", "-c", &format!("read x; {script}")]);
        assert_ne!(terminal.settings(), before);
        terminal.press("\r");
        assert_eq!((client.end(), terminal.settings()), (code, before.clone()), "{script}");
    }
    for (args, code) in [
        (&["exec", "-it", "b", "--", "no-such-program"][..], 127),
        (&["exec", "-it", "b", "--", "/etc/motd"], 126),
        (&["exec", "-it", "b", "--user", "nobody-here", "--", "true"], 2),
        (&["exec", "-it", "nobody", "--", "true"], 125),
        (&["exec", "-it", "b", "--timeout", "1", "--", "sleep", "60"], 124),
        (&["exec", "-it", "b", "--", "sh", "-c", "sleep 1000 & exit 3"], 3),
    ] {
        assert_eq!((terminal.run(&f, args).0, terminal.settings()), (code, before.clone()), "{args:?}");
    }
    terminal.shows("error: box nobody does not exist\r\n");
}

#[test]
fn the_terminal_is_given_back_when_the_box_goes_from_under_it() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let before = terminal.settings();
    let shell = || {
        let mark = terminal.mark();
        let client = terminal.start_raw(&f, &["shell", "b"]);
        terminal.press("trap '' HUP TERM; echo re''ady\r");
        terminal.shows_after(mark, "ready");
        client
    };
    let stopped = shell();
    f.ok(&["stop", "b"]);
    assert_eq!((stopped.end(), terminal.settings()), (137, before.clone()), "stopped");
    let killed = shell();
    let status: serde_json::Value = f.json(&["info", "b"]);
    assert_eq!(status["status"], "running", "{status}");
    kill_monitor(&f, "default", "b");
    assert_eq!((killed.end(), terminal.settings()), (137, before.clone()), "monitor killed");
    let deleted = shell();
    f.ok(&["delete", "b", "--yes"]);
    assert_eq!((deleted.end(), terminal.settings()), (137, before), "deleted");
}

#[test]
fn the_terminal_is_given_back_when_the_client_is_told_to_end() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let before = terminal.settings();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let mark = terminal.mark();
        let script = "echo re''ady; exec sleep 4711";
        let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "sh", "-c", script]);
        terminal.shows_after(mark, "ready");
        client.signal(signal);
        assert_eq!((client.end(), terminal.settings()), (code, before.clone()), "{signal:?}");
        eventually("its program ends too", || !runs(&f, "b", "4711"));
    }
}

#[test]
fn the_program_sees_the_windows_size_at_once_and_when_it_changes() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let script =
        "stty size; trap 'stty size' WINCH; trap 'exit 130' INT; echo re''ady; while :; do sleep 0.05; done";
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "bash", "-c", script]);
    terminal.shows("ready");
    assert!(terminal.text().starts_with("31 97\r\n"), "{}", terminal.text());
    terminal.resize(40, 120);
    terminal.shows("40 120\r\n");
    terminal.resize(10, 500);
    terminal.shows("10 500\r\n");
    terminal.press(b"\x03");
    assert_eq!(client.end(), 130);
    terminal.resize(0, 0);
    assert_eq!(terminal.run(&f, &["exec", "-it", "b", "--", "stty", "size"]), (0, "24 80\r\n".into()));
}

#[test]
fn a_window_that_changes_while_the_box_starts_is_not_missed() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    for wait in [0, 10, 20, 40, 60, 80] {
        f.ok(&["stop", "b"]);
        let terminal = Terminal::new();
        let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "sh", "-c", "sleep 0.3; stty size"]);
        std::thread::sleep(Duration::from_millis(wait));
        terminal.resize(50, 150);
        assert_eq!(client.end(), 0);
        assert_eq!(terminal.settled(0), "50 150\r\n", "resized after {wait} ms");
    }
}

#[test]
fn keys_reach_the_program_and_not_the_client() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let script =
        "trap 'echo int' INT; trap 'echo quit' QUIT; echo re''ady; while read line; do :; done; exit 9";
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "bash", "-c", script]);
    terminal.shows("ready");
    terminal.press(b"\x03");
    terminal.shows("int\r\n");
    terminal.press(b"\x1c");
    terminal.shows("quit\r\n");
    terminal.press(b"\x04");
    assert_eq!(client.end(), 9);
}

#[test]
fn a_shell_has_job_control() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let before = terminal.settings();
    let client = terminal.start_raw(&f, &["shell", "b"]);
    terminal.press("test -t 0 && test -t 1 && echo kind=$TERM on a tty\r");
    terminal.shows("kind=xterm-256color on a tty\r\n");
    terminal.press("sleep 4242\r");
    eventually("sleep runs", || runs(&f, "b", "4242"));
    terminal.press(b"\x1a");
    terminal.shows("Stopped");
    terminal.press("bg; jo\x08\x08jobs\r");
    terminal.shows("Running");
    terminal.press("fg\r");
    let mark = terminal.mark();
    terminal.shows_after(mark.saturating_sub(20), "sleep 4242");
    std::thread::sleep(Duration::from_millis(200));
    terminal.press(b"\x03");
    eventually("sleep ends", || !runs(&f, "b", "4242"));
    terminal.press("echo code $?\r");
    terminal.shows("code 130\r\n");
    terminal.press("exit 5\r");
    assert_eq!((client.end(), terminal.settings()), (5, before));
    assert!(!terminal.text().contains("job control"), "{}", terminal.text());
}

#[test]
fn the_terminal_is_clean_for_every_byte_both_ways() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 256) as u8).collect();
    let script = "stty raw -echo; echo re''ady; head -c 200000 > /root/got; cat /root/got; echo END";
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "sh", "-c", script]);
    terminal.shows("ready\n");
    let from = terminal.mark();
    terminal.press(&bytes);
    terminal.shows("END\n");
    assert_eq!(client.end(), 0);
    assert!(std::fs::read(f.root_of("b").join("root/got")).unwrap() == bytes, "what was typed");
    assert!(terminal.bytes()[from..].starts_with(&bytes), "what was shown");
}

#[test]
fn a_long_paste_is_not_lost() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let client =
        terminal.start_raw(&f, &["exec", "-it", "b", "--", "sh", "-c", "echo re''ady; cat > /root/pasted"]);
    terminal.shows("ready");
    let line = |n: u32| format!("{n:06} of a paste that goes on and on and on\n");
    let text: String = (0..5000).map(line).collect();
    terminal.press(text.replace('\n', "\r"));
    terminal.press(b"\x04");
    assert_eq!(client.end(), 0);
    assert!(std::fs::read_to_string(f.root_of("b").join("root/pasted")).unwrap() == text);
    terminal.shows(line(4999).trim());
}

#[test]
fn a_terminal_that_is_not_there_is_refused_and_shell_reads_a_script() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let said = f.fails(2, &["exec", "-t", "b", "--", "true"]);
    assert_eq!(said, "error: the input device is not a terminal\nhint: tine exec -i b -- …\n");
    assert_eq!(f.refuses("usage", &["exec", "-it", "b", "--", "true"]), "the input device is not a terminal");
    let done = f.feed(&["shell", "b"], b"test -t 0 || echo piped; hostname; exit 4\n");
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (4, "piped\nb\n", ""));
}

#[test]
fn the_terminals_output_may_go_elsewhere() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let file = std::fs::File::create(f.dir().join("out")).unwrap();
    let client =
        terminal.start_with(&f, &["exec", "-it", "b", "--", "sh", "-c", "echo one; echo two >&2"], |c| {
            c.stdout(file);
        });
    assert_eq!(client.end(), 0);
    assert_eq!(std::fs::read_to_string(f.dir().join("out")).unwrap(), "one\r\ntwo\r\n");
    let (code, shown) = terminal.run(&f, &["exec", "-t", "b", "--", "sh", "-c", "test -t 1 && echo yes"]);
    assert_eq!((code, shown.trim_end()), (0, "yes"));
}

#[test]
fn ctrl_c_without_dash_i_reaches_the_program_as_a_signal() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    for flags in [&["exec", "-t"][..], &["exec"], &["exec", "-i"]] {
        let terminal = Terminal::new();
        let script = "trap 'echo caught; exit 6' INT; echo re''ady; while :; do sleep 0.05; done";
        let client = terminal.start(&f, &[flags, &["b", "--", "bash", "-c", script]].concat());
        terminal.shows("ready");
        terminal.press(b"\x03");
        assert_eq!(client.end(), 6, "{flags:?}");
        terminal.shows("caught");
    }
}

#[test]
fn a_given_kind_of_terminal_wins() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    let args = ["exec", "-it", "b", "-e", "TERM=dumb", "--", "sh", "-c", "echo $TERM"];
    assert_eq!(terminal.run(&f, &args), (0, "dumb\r\n".into()));
    let args = ["exec", "b", "--", "sh", "-c", "echo [$TERM]"];
    let client = terminal.start_with(&f, &["exec", "-it", "b", "--", "sh", "-c", "echo [$TERM]"], |c| {
        c.env("TERM", "no\x1bkind");
    });
    assert_eq!(client.end(), 0);
    terminal.shows("[xterm]\r\n");
    assert_eq!(f.ok(&args), "[]\n");
}

#[test]
fn what_destroys_asks_on_a_terminal() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b"]);
    let terminal = Terminal::new();
    let answers = [("n\r", 1), ("\r", 1), ("\x04", 1), ("yep\r", 1), ("\x03", 130), ("Y\r", 0)];
    for (keys, code) in answers {
        let mark = terminal.mark();
        let client = terminal.start(&f, &["delete", "b"]);
        terminal.shows_after(mark, "Delete box \"b\" and its snapshot? [y/N] ");
        terminal.press(keys);
        assert_eq!(client.end(), code, "{keys:?}");
        let said = terminal.settled(mark);
        assert_eq!(said.contains("error: not confirmed, nothing was changed"), code == 1, "{said}");
        assert_eq!(f.ok(&["-q", "list", "-a"]).lines().count(), usize::from(code != 0), "{keys:?}");
    }
    terminal.shows("deleted box \"b\" and its snapshot\r\n");
}

#[test]
fn long_work_draws_a_bar_on_a_terminal_and_lines_in_a_log() {
    require!("btrfs");
    let f = Fixture::new();
    let tar = f.dir().join("tiny.tar");
    let tar = tar.to_str().unwrap();
    let log = f.run(&["base", "import", "one", "--file", tar]).err;
    assert!(!log.contains(['\x1b', '\r']) && log.lines().count() >= 1, "{log:?}");
    let terminal = Terminal::new();
    let (code, shown) = terminal.run(&f, &["base", "import", "two", "--file", tar]);
    assert_eq!(code, 0, "{shown:?}");
    assert!(log.contains("importing one\n") && shown.contains("importing two"), "{log:?} {shown:?}");
    assert!(shown.contains("\x1b[2K") && !shown.contains("0/0"), "a bar in its own style: {shown:?}");
    let quiet = terminal.run(&f, &["-q", "base", "import", "three", "--file", tar]);
    assert_eq!(quiet, (0, "three\r\n".into()));
}

#[test]
fn no_color_means_no_colour() {
    require!("btrfs");
    let f = Fixture::unmade();
    let terminal = Terminal::new();
    for args in [&["--help"][..], &["lisst"], &["info", "Bad"], &["create", "--help"]] {
        let mark = terminal.mark();
        let client = terminal.start_with(&f, args, |c| {
            c.env("NO_COLOR", "1");
        });
        client.end();
        let shown = terminal.settled(mark);
        assert!(!shown.is_empty() && !shown.contains('\x1b'), "{args:?} {shown:?}");
    }
}

#[test]
fn following_a_log_ends_with_ctrl_c() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let script = "while :; do echo tick; sleep 0.1; done";
    f.ok(&["exec", "b", "--bg", "--", "sh", "-c", script]);
    let terminal = Terminal::new();
    let client = terminal.start(&f, &["logs", "-f", "b"]);
    terminal.shows("tick\r\ntick\r\n");
    terminal.press(b"\x03");
    assert_eq!(client.end(), 0);
    assert!(!terminal.text().contains("error"), "{}", terminal.text());
    assert!(runs(&f, "b", "tick"), "the program goes on");
}

#[test]
fn signals_to_the_client_reach_a_program_without_a_terminal() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let names = [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3), ("USR1", 10), ("USR2", 12)];
    for (name, number) in names {
        for (trap, code) in [(format!("trap 'exit 9' {name}; "), 9), (String::new(), 128 + number)] {
            let wait = if trap.is_empty() { "exec sleep 60" } else { "while :; do sleep 0.05; done" };
            let script = format!("{trap}touch /tmp/up; {wait}");
            let mut command = f.command(&["exec", "b", "--", "bash", "-c", &script]);
            let client = terminal::Client { child: command.stdout(Stdio::null()).spawn().unwrap() };
            let up = f.root_of("b").join("tmp/up");
            eventually("the program runs", || up.exists());
            client.signal(Signal::from_named_raw(number).unwrap());
            assert_eq!(client.end(), code, "{name} {trap}");
            std::fs::remove_file(up).unwrap();
        }
    }
}

#[test]
fn a_closed_terminal_ends_its_program() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let mut terminal = Terminal::new();
    let script = "trap 'echo bye > /tmp/bye; exit' HUP; echo re''ady; while :; do sleep 0.05; done";
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "bash", "-c", script]);
    terminal.shows("ready");
    terminal.close();
    assert_eq!(client.end(), 129);
    let said = f.root_of("b").join("tmp/bye");
    eventually("the program hears it", || said.exists());
    let mut terminal = Terminal::new();
    let script = "trap '' HUP; echo re''ady; exec sleep 5151";
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "bash", "-c", script]);
    terminal.shows("ready");
    terminal.close();
    client.end();
    eventually("a deaf one is killed", || !runs(&f, "b", "5151"));
}

#[test]
fn a_killed_client_takes_its_program_along() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let terminal = Terminal::new();
    for flag in ["-it", "-i"] {
        let mark = terminal.mark();
        let script = "echo re''ady; exec sleep 6161";
        let client = terminal.start(&f, &["exec", flag, "b", "--", "sh", "-c", script]);
        terminal.shows_after(mark, "ready");
        client.signal(Signal::KILL);
        assert_eq!(client.end(), 137);
        eventually("its program ends", || !runs(&f, "b", "6161"));
    }
}
