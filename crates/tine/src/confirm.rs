//! Asking before something is destroyed.

use crate::failure::Outcome;
use std::{
    ffi::OsString,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
};
use tine_model::{Error, ErrorCode};

/// How a destroying command gets its permission.
#[derive(Debug, Clone)]
pub enum Permission {
    /// `--yes` was given.
    Given,
    /// There is someone to ask.
    Ask,
    /// Nobody can be asked; this is the command to type instead.
    Refuse {
        /// The command line with `--yes`.
        command: String,
    },
}

impl Permission {
    /// What holds for this process: `yes` was given, or both ends of the conversation are a terminal, or neither.
    pub fn of_process(yes: bool, command_line: &[OsString]) -> Self {
        if yes {
            return Self::Given;
        }
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            return Self::Ask;
        }
        Self::Refuse { command: format!("{} --yes", shown(command_line)) }
    }

    /// True when the user will read the question, so that it is worth finding out what to ask.
    pub fn will_ask(&self) -> bool {
        matches!(self, Self::Ask)
    }

    /// Asks `question`, a sentence with a question mark, and returns when the answer is yes.
    pub fn get(&self, question: &str) -> Outcome<()> {
        match self {
            Self::Given => Ok(()),
            Self::Refuse { command } => {
                let message = format!("confirmation is needed and no terminal is there to ask: {question}");
                Err(Error::new(ErrorCode::ConfirmationRequired, message).hint(command.clone()).into())
            }
            Self::Ask if asked(question)? => Ok(()),
            Self::Ask => Err(Error::new(ErrorCode::Declined, "not confirmed, nothing was changed").into()),
        }
    }
}

fn asked(question: &str) -> io::Result<bool> {
    write!(io::stderr(), "{} [y/N] ", crate::screen::line(question))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The command line as one would type it in a shell.
fn shown(words: &[OsString]) -> String {
    let rest = words.iter().skip(1).map(|w| quoted(&w.to_string_lossy()));
    std::iter::once("tine".to_owned()).chain(rest).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", crate::screen::line(word).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn the_hint_repeats_the_command_with_yes() {
        let words: Vec<OsString> = ["/usr/bin/tine", "delete", "web", "it's"].map(OsString::from).to_vec();
        assert_eq!(shown(&words), r"tine delete web 'it'\''s'");
    }

    #[test]
    fn without_anyone_to_ask_the_error_says_what_to_type() {
        let refuse = Permission::Refuse { command: "tine delete web --yes".into() };
        let Err(Failure::Told(error)) = refuse.get("Delete box \"web\"?") else { panic!("must refuse") };
        assert_eq!(
            (error.code, error.hint.as_deref(), error.code.exit_code()),
            (ErrorCode::ConfirmationRequired, Some("tine delete web --yes"), 2)
        );
        assert!(Permission::Given.get("Delete?").is_ok());
    }
}
