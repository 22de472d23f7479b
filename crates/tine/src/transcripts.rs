//! Golden transcripts: command lines against the fake service, with everything they ask and say.

mod machines;
mod packs;

use crate::{
    app,
    cli::{self, Cli, Command},
    commands,
    confirm::Permission,
    failure::Failure,
    fake::Fake,
    output::{Manner, Output},
};
use clap::FromArgMatches as _;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};
use tine_model::ProjectName;

/// A stream whose bytes a test can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a command said, asked and ended with.
struct Said {
    code: u8,
    out: String,
    err: String,
    asked: Vec<String>,
}

/// Splits a line at spaces, with single quotes around words that hold some.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let mut words = Vec::new();
    for (index, part) in parts {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn say(line: &str, service: &Fake) -> Said {
    let matches = cli::grammar().try_get_matches_from(words(line)).unwrap_or_else(|e| panic!("{line}: {e}"));
    let cli = Cli::from_arg_matches(&matches).unwrap();
    let permission = match cli.global.yes {
        true => Permission::Given,
        false => Permission::Refuse { command: format!("{line} --yes") },
    };
    let manner = Manner { json: cli.global.json, quiet: cli.global.quiet, permission };
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let mut out = Output::to(Box::new(stdout.clone()), Box::new(stderr.clone()), manner);
    let project = cli::typed_project(&matches).unwrap_or_else(ProjectName::default_project);
    let result = commands::run(service, &project, &cli.command, &mut out);
    let code = app::finish(result, &cli, &mut out);
    Said { code, out: stdout.text(), err: stderr.text(), asked: service.asked() }
}

fn transcript(lines: &[&str], empty: bool) -> String {
    let mut text = String::new();
    for line in lines {
        let said = say(line, &Fake::new(empty));
        text.push_str(&format!("$ {line}\n"));
        said.asked.iter().for_each(|a| text.push_str(&format!("? {a}\n")));
        text.push_str(&said.out);
        said.err.lines().for_each(|l| text.push_str(&format!("! {l}\n")));
        match said.code {
            0 => text.push('\n'),
            code => text.push_str(&format!("= {code}\n\n")),
        }
    }
    text
}

#[test]
fn tables_and_lines() {
    insta::assert_snapshot!(transcript(
        &[
            "tine list",
            "tine list -a -t team=a",
            "tine -p other list",
            "tine -q list",
            "tine info web",
            "tine ps web",
            "tine df",
            "tine doctor",
            "tine gc --dry-run",
            "tine check --read-data",
            "tine base list",
            "tine base info box-base",
            "tine snapshot list web",
            "tine snapshot show web v0",
            "tine volume list",
            "tine volume list -a",
            "tine volume info data",
            "tine diff status web",
            "tine diff file web /etc/motd",
            "tine diff file web /etc/new",
            "tine version",
        ],
        false
    ));
}

#[test]
fn nothing_there() {
    insta::assert_snapshot!(transcript(
        &[
            "tine list",
            "tine list -q",
            "tine list -j",
            "tine base list",
            "tine snapshot list web",
            "tine volume list",
            "tine ps web",
            "tine diff status web",
            "tine gc",
            "tine check",
        ],
        true
    ));
}

#[test]
fn what_is_asked() {
    insta::assert_snapshot!(transcript(
        &[
            "tine init --size 1.5GiB",
            "tine create web",
            "tine create team:web --fork other:web --no-start --rm",
            "tine create old --from web/v0",
            "tine create api -b box-base@box-base-v20260101120000 -d data=/srv/data:ro -e K=V=W -t k=v --cpu 1.5 --memory 512MiB --disk 1GiB --pids 100 --net none --publish 127.0.0.1:8080:80 --publish 53:53/udp --host-port 5432",
            "tine update web --cpu none --memory 1GiB --pids 7 -e A=1 --unset-env B --tag k=v --untag old -d data=/srv --detach /old --net host",
            "tine update web",
            "tine start web",
            "tine stop web --grace 3",
            "tine pause web",
            "tine resume web",
            "tine rename web web2",
            "tine logs web -n 5",
            "tine base install box-base",
            "tine base update box-base",
            "tine base save new web",
            "tine base build made -f /x/Dockerfile --engine podman /x/.",
            "tine snapshot create web",
            "tine snapshot create web first --name second -m 'one line'",
            "tine snapshot restore web v0 --keep-as broken",
            "tine snapshot undo web",
            "tine snapshot rename web v0 good",
            "tine diff status web --against v0 --to v1 -q",
            "tine volume create data",
        ],
        false
    ));
}

#[test]
fn what_destroys() {
    insta::assert_snapshot!(transcript(
        &[
            "tine delete web",
            "tine delete web --dry-run",
            "tine delete web --yes",
            "tine -q delete web --yes",
            "tine -j delete web",
            "tine detach",
            "tine detach --yes",
            "tine snapshot delete web v0 v1",
            "tine snapshot delete web v0 v1 --dry-run",
            "tine snapshot delete web v0 v1 --yes",
            "tine snapshot prune web",
            "tine snapshot prune web --keep-last 1",
            "tine snapshot prune web --keep-last 1 --keep-daily 2 --dry-run",
            "tine snapshot prune web --keep-last 1 --yes",
            "tine base delete --yes",
            "tine base delete --alias web --version web --yes",
            "tine base delete --alias web",
            "tine base delete --version web-v20260101120000 --force --yes",
            "tine base delete --version web-v20260101120000 --dry-run",
            "tine volume delete data",
            "tine volume delete data --dry-run",
            "tine volume delete data --yes",
        ],
        false
    ));
}

#[test]
fn documents() {
    insta::assert_snapshot!(transcript(
        &[
            "tine -j info web",
            "tine -j stop web",
            "tine -j pause web",
            "tine -j snapshot list web",
            "tine -j snapshot delete web v0 --yes",
            "tine -j diff status web",
            "tine -j diff file web /etc/motd",
            "tine -j version",
            "tine -j exec web --bg -- sleep 1",
        ],
        false
    ));
}

#[test]
fn programs_and_their_codes() {
    insta::assert_snapshot!(transcript(
        &[
            "tine exec web -- sh -c 'exit 7'",
            "tine exec web ls -l --yes -j",
            "tine exec --user dev:staff web --env A=1 -e B=2 --wd /srv --timeout 5 -i -- cat",
            "tine exec web --bg -- sleep 600",
        ],
        false
    ));
}

#[test]
fn a_failure_of_tine_in_exec_is_125_and_elsewhere_1() {
    let failure = || Err(Failure::Told(tine_model::Error::new(tine_model::ErrorCode::NotFound, "gone")));
    for (line, code) in [("tine exec web true", 125), ("tine shell web", 125), ("tine info web", 1)] {
        let cli = Cli::from_arg_matches(&cli::grammar().try_get_matches_from(words(line)).unwrap()).unwrap();
        let manner = Manner { json: false, quiet: false, permission: Permission::Given };
        let mut out = Output::to(Box::new(io::sink()), Box::new(io::sink()), manner);
        assert_eq!(app::finish(failure(), &cli, &mut out), code, "{line}");
        assert_eq!(app::finish(Err(Failure::ReaderGone), &cli, &mut out), 0);
    }
}

#[test]
fn a_terminal_is_needed_for_a_terminal() {
    if io::IsTerminal::is_terminal(&io::stdin()) {
        eprintln!("SKIPPED: stdin is a terminal");
        return;
    }
    let said = say("tine exec -it web bash", &Fake::default());
    assert_eq!((said.code, said.asked.len()), (2, 0));
    assert!(said.err.starts_with("error: the input device is not a terminal"), "{}", said.err);
}

#[test]
fn copies_land_where_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("folder/inner"), "x").unwrap();
    std::fs::write(at("file"), "x").unwrap();
    let copied = |line: String| {
        let said = say(&line, &Fake::default());
        assert_eq!(said.code, 0, "{line}: {}", said.err);
        said.asked.concat()
    };
    assert_eq!(copied(format!("tine cp {} web:/etc/motd", at("file"))), r#"("copy_in", "/etc", ["motd"])"#);
    assert_eq!(copied(format!("tine cp {} web:/tmp", at("file"))), r#"("copy_in", "/tmp", ["file"])"#);
    let renamed = copied(format!("tine cp {} web:/tmp/new", at("folder")));
    assert!(
        renamed.starts_with(r#"("copy_in", "/tmp", ["new"#) && renamed.contains("new/inner"),
        "{renamed}"
    );
    let contents = copied(format!("tine cp {}/. web:/tmp", at("folder")));
    assert_eq!(contents, r#"("copy_in", "/tmp", ["inner"])"#);
    assert_eq!(
        copied("tine cp web:/etc/motd p:api:/tmp/x".into()),
        r#"("copy_out", "/etc/motd")("copy_in", "/tmp", ["x"])"#
    );
    copied(format!("tine cp web:/etc/motd {}", at("folder")));
    copied(format!("tine cp web:/etc/motd {}", at("folder/as")));
    for name in ["folder/motd", "folder/as"] {
        assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "hello");
    }
    let refused = |line: String| {
        let said = say(&line, &Fake::default());
        (said.code, said.err)
    };
    assert_eq!(refused("tine cp a b".into()).0, 2);
    assert_eq!(refused("tine cp - -".into()).0, 2);
    assert_eq!(refused("tine cp Web:/x .".into()).0, 2);
    let (code, err) = refused(format!("tine cp web:/no/such {}", at("x")));
    assert!(code == 1 && err.starts_with("error: web:/no/such does not exist"), "{err}");
    let (code, err) = refused(format!("tine cp {} web:/tmp", at("none")));
    assert!(code == 1 && err.contains("none does not exist"), "{err}");
    assert_eq!(refused(format!("tine cp {} web:/etc/motd", at("folder"))).0, 1);
    assert_eq!(refused(format!("tine cp {} web:/no/such/", at("file"))).0, 1);
}

#[test]
fn a_base_goes_in_and_out_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for (name, magic) in
        [("a.tar", &b"a tar"[..]), ("a.tgz", b"\x1f\x8b"), ("a.tar.zst", b"\x28\xb5\x2f\xfd")]
    {
        assert_eq!(say(&format!("tine base export box-base --file {}", at(name)), &Fake::default()).code, 0);
        assert!(std::fs::read(at(name)).unwrap().starts_with(magic), "{name}");
    }
    assert_eq!(say("tine base export box-base --file -", &Fake::default()).out, "a tar");
    let said = say(&format!("tine base import new --file {} -p box-base", at("a.tar")), &Fake::default());
    assert_eq!(said.code, 0);
    assert!(said.asked[0].contains("parent: Some(Name(BaseVersion(\"box-base\")))"), "{:?}", said.asked);
    let missing = say(&format!("tine base import new --file {}", at("none")), &Fake::default());
    assert_eq!((missing.code, missing.asked.len()), (1, 0));
}

/// Every command and group, with the words that lead to it.
fn every(command: &clap::Command, path: &str, visit: &mut dyn FnMut(&str, &clap::Command)) {
    visit(path, command);
    command.get_subcommands().for_each(|c| every(c, &format!("{path} {}", c.get_name()), visit));
}

#[test]
fn every_command_has_an_example_that_is_true() {
    every(&cli::grammar(), "tine", &mut |path, command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> = help.lines().filter_map(|l| l.strip_prefix("  ")).collect();
        assert!(examples.iter().any(|e| e.starts_with(path)), "{path} has no example");
        for example in examples {
            // what follows is for the shell, unless it is quoted
            let line =
                if example.contains('\'') { example } else { example.split(['|', '>']).next().unwrap() };
            let parsed = cli::grammar().try_get_matches_from(words(line));
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    });
}

#[test]
fn help_texts() {
    let mut grammar = cli::grammar().term_width(100);
    grammar.build();
    let mut text = String::new();
    every(&grammar, "tine", &mut |path, command| {
        text.push_str(&format!("=== {path}\n{}\n", command.clone().render_help()));
    });
    insta::assert_snapshot!(text);
}

#[test]
fn shells_are_completed() {
    for (shell, mark) in [("bash", "_tine()"), ("zsh", "#compdef tine"), ("fish", "complete -c tine")] {
        let said = say(&format!("tine completion {shell}"), &Fake::default());
        assert!(said.out.contains(mark) && said.out.contains("snapshot"), "{shell}");
    }
}

#[test]
fn a_command_is_known_to_run_a_program() {
    let of = |line: &str| {
        Cli::from_arg_matches(&cli::grammar().try_get_matches_from(words(line)).unwrap()).unwrap().command
    };
    assert!(
        matches!(of("tine version"), Command::Version(_)) && !commands::runs_a_program(&of("tine version"))
    );
}
