//! The command line as a process, as far as no pool is needed.

#![expect(clippy::unwrap_used, reason = "a test ends where its setup fails")]

use assert_cmd::Command;
use std::process::Stdio;

fn tine(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tine"));
    command.args(args);
    for variable in ["TINE_ROOT", "TINE_HOST", "TINE_TOKEN", "TINE_PROJECT"] {
        command.env_remove(variable);
    }
    command
}

/// Exit code, stdout and stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    said(&mut tine(args))
}

fn said(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn code_in(document: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(document).unwrap();
    value["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn wrong_usage_is_2_with_the_help_to_read() {
    let (code, out, err) = run(&["snapshot", "restore", "web"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(
        err,
        "error: the following required arguments were not provided: <NAME>\nhint: tine snapshot restore --help\n"
    );
    for line in [&["lisst"][..], &["list", "--nope"], &["create"], &["--root", "/a", "--host", "b", "list"]] {
        assert_eq!(run(line).0, 2, "{line:?}");
    }
    assert_eq!(run(&[]).0, 2);
}

#[test]
fn wrong_usage_is_a_document_when_json_is_asked_for() {
    for line in [&["--json", "lisst"][..], &["snapshot", "-j"], &["create", "--json", "--nope"], &["-qj"]] {
        let (code, out, err) = run(line);
        assert_eq!((code, code_in(&out).as_str(), err.as_str()), (2, "usage", ""), "{line:?}");
    }
}

#[test]
fn bad_names_are_refused_before_anything_is_touched() {
    let long = "a".repeat(64);
    for bad in ["", &long, "Web", "a--b", "web\n", ".", "..", "ünï", "a_b", "-"] {
        for line in [
            &["create", bad][..],
            &["snapshot", "create", "b", "--name", bad],
            &["base", "info", bad],
            &["base", "save", bad, "b"],
            &["volume", "create", bad],
            &["--project", bad, "list"],
            &["exec", bad, "--", "true"],
        ] {
            let line = [&["--root", "/nonexistent/pool", "--json"], line].concat();
            let (code, out, _) = run(&line);
            assert_eq!((code, code_in(&out).as_str()), (2, "invalid_name"), "{line:?}");
        }
    }
    let in_environment = said(tine(&["--json", "list"]).env("TINE_PROJECT", "Bad"));
    assert_eq!((in_environment.0, code_in(&in_environment.1).as_str()), (2, "invalid_name"));
}

#[test]
fn bad_tags_of_images_are_refused_before_anything_is_touched() {
    let long = "a".repeat(65);
    for bad in ["", &long, ".hidden", "-", "a/b", "../x", "web\n", "ünï", "a b", "a:b"] {
        for line in [
            &["image", "bake", "--base=box-base", "--", bad][..],
            &["image", "show", "--", bad],
            &["image", "rename", "good", "--", bad],
            &["image", "delete", "--yes", "good", "--", bad],
            &["fork", "--", bad],
            &["fork", &format!("--tag={bad}")],
            &["create", "web", &format!("--image={bad}")],
            &["kernel", "import", "--vmlinuz=a", "--modules=b", &format!("--name={bad}")],
        ] {
            let line = [&["--root", "/nonexistent/pool", "--json"], line].concat();
            let (code, out, _) = run(&line);
            assert_eq!((code, code_in(&out).as_str()), (2, "invalid_name"), "{line:?}");
        }
    }
    let prefix = ["--json", "fork", "x", "--prefix", &"a".repeat(57)];
    assert_eq!((run(&prefix).0, code_in(&run(&prefix).1).as_str()), (2, "invalid_name"));
}

#[test]
fn a_fork_is_of_one_source_and_of_a_number_that_can_be_made() {
    for line in [
        &["fork"][..],
        &["fork", "x", "--tag", "y"],
        &["fork", "x", "--box", "web"],
        &["fork", "--tag", "x", "--box", "web"],
        &["fork", "--box", "web", "--cold"],
        &["fork", "x", "-n", "0"],
        &["fork", "x", "-n", "10001"],
        &["fork", "x", "-n", "-1"],
        &["fork", "x", "--net", "bridge"],
        &["image", "bake", "x"],
        &["image", "bake", "x", "--base", "a", "--box", "b"],
        &["image", "bake", "x", "--base", "a", "--cpus", "0"],
        &["image", "bake", "x", "--base", "a", "--timeout", "0"],
        &["image", "delete", "--yes"],
        &["create", "web", "--vm", "--cpus", "65"],
        &["create", "web", "--vm", "--accel", "xen"],
        &["create", "web", "--cold"],
        &["create", "web", "--image", "x", "--base", "y"],
        &["kernel", "import", "--vmlinuz", "x"],
    ] {
        let line = [&["--root", "/nonexistent/pool", "--json"], line].concat();
        let (code, out, err) = run(&line);
        assert_eq!((code, code_in(&out).as_str(), err.as_str()), (2, "usage", ""), "{line:?}");
    }
    let (_, _, err) = run(&["fork"]);
    assert_eq!(
        err,
        "error: the following required arguments were not provided: <TAG|--tag <TAG>|--box <BOX>>\nhint: tine fork --help\n"
    );
}

#[test]
fn a_server_is_not_supported_yet_whoever_names_it() {
    let (code, out, _) = run(&["--json", "--host", "http://x", "list"]);
    assert_eq!((code, code_in(&out).as_str()), (1, "unsupported"));
    let (code, out, _) = said(tine(&["--json", "list"]).env("TINE_HOST", "http://x"));
    assert_eq!((code, code_in(&out).as_str()), (1, "unsupported"));
}

#[test]
fn help_version_and_completion_need_no_pool() {
    assert_eq!(run(&["version"]).1, format!("tine {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        run(&["version", "--json"]).1.trim(),
        format!("{{\n  \"version\": \"{}\"\n}}", env!("CARGO_PKG_VERSION"))
    );
    let (code, help, err) = run(&["create", "--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(help.contains("tine create web") && help.contains("--root") && !help.contains('\x1b'), "{help}");
    assert!(run(&["completion", "bash"]).1.contains("_tine"));
    assert_eq!(run(&["completion", "tcsh"]).0, 2);
}

#[test]
fn the_completion_script_is_one_bash_accepts() {
    let script = run(&["completion", "bash"]).1;
    Command::new("bash").args(["-n", "-s"]).write_stdin(script).assert().success();
}

#[test]
fn import_takes_a_parent_and_no_project() {
    let (code, out, _) = run(&["-j", "base", "import", "x", "--project", "y", "--file", "z"]);
    assert_eq!((code, code_in(&out).as_str()), (2, "usage"));
    let (code, out, _) = run(&["-j", "-p", "y", "base", "import", "x", "--file", "z"]);
    assert_eq!((code, code_in(&out).as_str()), (2, "usage"));
}

#[test]
fn a_destroying_command_asks_before_it_looks() {
    let (code, out, err) = run(&["--root", "/nonexistent/pool", "delete", "web"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.ends_with("hint: tine --root /nonexistent/pool delete web --yes\n"), "{err}");
}

#[test]
fn exec_fails_with_125_when_it_is_not_the_programs_fault() {
    let (code, out, _) = run(&["--root", "/nonexistent/pool", "exec", "web", "--", "true"]);
    assert_eq!((code, out.as_str()), (125, ""));
    assert_eq!(run(&["--root", "/nonexistent/pool", "info", "web"]).0, 1);
    assert_eq!(run(&["exec", "web"]).0, 2);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tine"))
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
