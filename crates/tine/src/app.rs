//! From the words of a command line to an exit code: parse, connect, run, report.

use crate::{
    cli::{self, Cli},
    commands,
    confirm::Permission,
    failure::{Failure, Outcome, usage},
    output::{Manner, Output},
    service::{self, Said, Target},
};
use clap::{
    ArgMatches, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{env, error::Error as _, ffi::OsString, process::ExitCode, time::Duration};
use tine_model::{Error, ErrorCode, ProjectName};

/// Runs the command line `args` (the program's name included) to its exit code.
pub fn main(args: &[OsString]) -> ExitCode {
    let parsed =
        cli::grammar().try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m).map(|c| (m, c)));
    let (matches, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return ExitCode::from(refuse(args, &error)),
    };
    let permission = Permission::of_process(cli.global.yes, args);
    let mut out = Output::of_process(Manner { json: cli.global.json, quiet: cli.global.quiet, permission });
    let result = run(&matches, &cli, &mut out).and_then(|code| out.flush().map(|()| code));
    ExitCode::from(finish(result, &cli, &mut out))
}

fn run(matches: &ArgMatches, cli: &Cli, out: &mut Output) -> Outcome {
    let project = project(matches, &cli.command)?;
    if let Some(outcome) = commands::without_service(&cli.command, out) {
        return outcome;
    }
    let flags = Said { root: cli.global.root.clone(), host: cli.global.host.clone() };
    let environment = Said {
        root: set("TINE_ROOT").map(Into::into),
        host: set("TINE_HOST").map(|h| h.to_string_lossy().into_owned()),
    };
    let target = Target::choose(flags, environment);
    let service = service::connect(&target, Duration::from_secs(cli.global.wait.into()))?;
    commands::run(&*service, &project, &cli.command, out)
}

/// An environment variable that is set to something.
fn set(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

fn project(matches: &ArgMatches, command: &cli::Command) -> Outcome<ProjectName> {
    match (cli::typed_project(matches), command.takes_project()) {
        (Some(_), false) => {
            let error = usage("bases belong to no project: --project is not accepted here");
            Err(error.hint("tine base import --help").into())
        }
        (Some(project), true) => Ok(project),
        (None, false) => Ok(ProjectName::default_project()),
        (None, true) => match set("TINE_PROJECT") {
            Some(project) => Ok(project.to_string_lossy().parse()?),
            None => Ok(ProjectName::default_project()),
        },
    }
}

/// Reports a failure and gives the exit code.
pub fn finish(result: Outcome, cli: &Cli, out: &mut Output) -> u8 {
    let error = match result {
        Ok(code) => return code,
        Err(Failure::ReaderGone) => return 0,
        Err(Failure::Told(error)) => error,
    };
    // when the error cannot be printed either, the exit code still tells
    let _ = out.error(&error).and_then(|()| out.flush());
    match error.code.exit_code() {
        1 if commands::runs_a_program(&cli.command) => 125,
        code => code,
    }
}

/// Answers a command line outside the grammar, or one that asks for help.
fn refuse(args: &[OsString], error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // a reader that has gone needs no help
        let _ = error.print();
        return 0;
    }
    let json = wants_json(args);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        let _ = error.print();
        return 2;
    }
    let told = told(error);
    let manner = Manner { json, quiet: false, permission: Permission::Given };
    let mut out = Output::of_process(manner);
    let _ = out.error(&told).and_then(|()| out.flush());
    told.code.exit_code()
}

/// Whether a line that could not be parsed asks for JSON: a look at its words up to `--`.
fn wants_json(args: &[OsString]) -> bool {
    let words = args.iter().skip(1).take_while(|w| *w != "--").filter_map(|w| w.to_str());
    words.into_iter().any(|word| {
        let cluster = word.strip_prefix('-').filter(|rest| !rest.is_empty());
        word == "--json" || cluster.is_some_and(|c| c.contains('j') && c.chars().all(|c| "jq".contains(c)))
    })
}

/// clap's error as one of ours: a value's own error as it is, anything else as wrong usage.
fn told(error: &clap::Error) -> Error {
    let own = error.source().and_then(|source| source.downcast_ref::<Error>());
    let mut told = own.cloned().unwrap_or_else(|| usage(first_part(error)));
    if told.hint.is_none() && told.code == ErrorCode::Usage {
        told.hint = Some(format!("{} --help", command_of(error)));
    }
    told
}

/// What clap says before it repeats the usage, on one line.
fn first_part(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing".to_owned();
    }
    let text = error.render().to_string().replace("\n\n  tip: ", "; ").replace("\n  tip: ", "; ");
    let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|mark| text.find(mark)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let words: Vec<&str> = text.trim().trim_start_matches("error: ").split_whitespace().collect();
    words.join(" ")
}

/// The command that was typed wrongly, from the usage clap gives with the error.
fn command_of(error: &clap::Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let words = usage.trim_start_matches("Usage:").split_whitespace();
    let names: Vec<&str> =
        words.take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase()) && !w.contains('=')).collect();
    if names.is_empty() { "tine".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &[&str]) -> Error {
        told(&cli::grammar().try_get_matches_from(line).unwrap_err())
    }

    #[test]
    fn a_bad_value_is_told_in_its_own_words() {
        let error = error_of(&["tine", "info", "Web"]);
        assert_eq!(error.code, ErrorCode::InvalidName);
        assert!(error.message.starts_with("box name \"Web\" is not allowed"), "{error}");
        let error = error_of(&["tine", "create", "web", "--memory", "much"]);
        assert_eq!((error.code, error.hint.as_deref()), (ErrorCode::Usage, Some("tine --help")));
    }

    #[test]
    fn a_wrong_line_is_told_with_the_command_whose_help_to_read() {
        let error = error_of(&["tine", "snapshot", "restore", "web"]);
        assert_eq!(error.hint.as_deref(), Some("tine snapshot restore --help"));
        assert_eq!(error.message, "the following required arguments were not provided: <NAME>");
        let error = error_of(&["tine", "lisst"]);
        assert_eq!(
            error.message,
            "unrecognized subcommand 'lisst'; some similar subcommands exist: 'ls', 'list'"
        );
        assert_eq!(error.hint.as_deref(), Some("tine --help"));
    }

    #[test]
    fn each_suggestion_is_set_off_from_the_error() {
        let error = error_of(&["tine", "exec", "web", "--workdri", "/"]);
        let said = "unexpected argument '--workdri' found; a similar argument exists: '--workdir'; \
                    to pass '--workdri' as a value, use '-- --workdri'";
        assert_eq!(error.message, said);
    }

    #[test]
    fn json_is_seen_even_in_a_line_that_cannot_be_parsed() {
        let wants = |line: &str| wants_json(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(wants("tine --json x") && wants("tine x -j") && wants("tine -qj x"));
        assert!(!wants("tine exec web -- -j") && !wants("tine --jsonx") && !wants("tine -"));
    }
}
