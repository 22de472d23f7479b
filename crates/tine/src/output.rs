//! What a command says: data on stdout as text, names or one JSON document; everything else on stderr.
//!
//! Owns the choice of form and the cleaning of text for a terminal. Knows no command.

use crate::{
    confirm::Permission,
    failure::{Failure, Outcome, usage},
    progress::{Length, Place, Progress},
    screen, table,
};
use serde::Serialize;
use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, PoisonError},
};
use tine_model::{Error, ErrorCode, Result};

/// In which form data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One name per line.
    Names,
    /// One document.
    Json,
}

/// How the user wants to be talked to.
#[derive(Debug, Clone)]
pub struct Manner {
    /// One JSON document instead of text.
    pub json: bool,
    /// Names only, and nothing on stderr but errors.
    pub quiet: bool,
    /// How a destroying command gets its permission.
    pub permission: Permission,
}

/// Both output streams and how to use them.
pub struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write>,
    form: Form,
    quiet: bool,
    stdout_is_terminal: bool,
    /// How a destroying command gets its permission.
    pub permission: Permission,
}

impl Output {
    /// The streams of this process.
    pub fn of_process(manner: Manner) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let (stdout, stderr) = (io::BufWriter::new(io::stdout()), io::stderr());
        Self { stdout_is_terminal, ..Self::to(Box::new(stdout), Box::new(stderr), manner) }
    }

    /// Any two streams, neither of them a terminal.
    pub fn to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write>, manner: Manner) -> Self {
        let form = match (manner.json, manner.quiet) {
            (true, _) => Form::Json,
            (false, true) => Form::Names,
            (false, false) => Form::Text,
        };
        let Manner { quiet, permission, .. } = manner;
        Self { stdout, stderr, form, quiet, stdout_is_terminal: false, permission }
    }

    /// Prints the same facts in the form asked for.
    pub fn present<T: Serialize>(
        &mut self,
        document: &T,
        names: impl IntoIterator<Item = String>,
        text: impl FnOnce(&mut Self) -> Outcome<()>,
    ) -> Outcome<()> {
        match self.form {
            Form::Json => self.document(document),
            Form::Names => names.into_iter().try_for_each(|name| self.line(&name)),
            Form::Text => text(self),
        }
    }

    /// Prints a table, or its first column's names, or the document.
    pub fn rows<T: Serialize>(
        &mut self,
        document: &T,
        headers: &[&str],
        rows: &[Vec<String>],
    ) -> Outcome<()> {
        let names = rows.iter().filter_map(|row| row.first().cloned());
        self.present(document, names, |out| out.table(headers, rows))
    }

    /// Prints one name per line, or the document.
    pub fn names<T: Serialize>(&mut self, document: &T, names: &[impl ToString]) -> Outcome<()> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.present(document, names.clone(), |out| names.iter().try_for_each(|name| out.line(name)))
    }

    /// Prints one name, or the document.
    pub fn name<T: Serialize>(&mut self, document: &T, name: impl ToString) -> Outcome<()> {
        self.names(document, &[name.to_string()])
    }

    /// One JSON document.
    pub fn document<T: Serialize>(&mut self, document: &T) -> Outcome<()> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|e| Error::new(ErrorCode::Internal, format!("writing JSON: {e}")))?;
        Ok(writeln!(self.stdout, "{}", screen::json(&text))?)
    }

    /// One line of data.
    pub fn line(&mut self, text: &str) -> Outcome<()> {
        Ok(writeln!(self.stdout, "{}", screen::line(text))?)
    }

    /// `key: value`.
    pub fn field(&mut self, key: &str, value: impl ToString) -> Outcome<()> {
        self.line(&format!("{key}: {}", value.to_string()))
    }

    /// Several lines of data, exact unless they go to a terminal.
    pub fn lines(&mut self, text: &str) -> Outcome<()> {
        let shown = if self.stdout_is_terminal { screen::lines(text) } else { text.into() };
        self.stdout.write_all(shown.as_bytes())?;
        if text.is_empty() || text.ends_with('\n') { Ok(()) } else { Ok(writeln!(self.stdout)?) }
    }

    /// Exact bytes of Tine's own.
    pub fn exact(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.stdout.write_all(bytes)?)
    }

    /// A table of data.
    pub fn table(&mut self, headers: &[&str], rows: &[Vec<String>]) -> Outcome<()> {
        Ok(self.stdout.write_all(table::draw(headers, rows).as_bytes())?)
    }

    /// Something the user should know, on stderr; nothing when quiet.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            // nobody is left to tell when stderr is gone
            let _ = writeln!(self.stderr, "{}", screen::line(text));
        }
    }

    /// Lets `write` fill stdout with exact bytes.
    pub fn stream<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> Result<T, Error>) -> Outcome<T> {
        let mut stream = Watched { inner: &mut *self.stdout, at_once: false, reader_gone: false };
        let result = write(&mut stream);
        stream.conclude(result)
    }

    /// Lets `write` fill stdout with a program's output, as it comes: exact unless it goes to a terminal.
    pub fn live_stream<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> Result<T, Error>) -> Outcome<T> {
        let inner: Box<dyn Write + '_> = match self.stdout_is_terminal {
            true => Box::new(screen::Guarded::new(&mut *self.stdout)),
            false => Box::new(&mut *self.stdout),
        };
        let mut stream = Watched { inner, at_once: true, reader_gone: false };
        let result = write(&mut stream);
        stream.conclude(result)
    }

    /// A way to print from any thread, for work that tells its results one by one.
    pub fn at_once(&mut self) -> AtOnce<'_> {
        AtOnce { form: self.form, stream: Mutex::new((&mut *self.stdout, Ok(()))) }
    }

    /// Refuses to write binary data to a terminal.
    pub fn refuse_terminal(&self, what: &str) -> Outcome<()> {
        match self.stdout_is_terminal {
            true => {
                Err(usage(format!("{what} does not belong on a terminal: send it to a file or pipe")).into())
            }
            false => Ok(()),
        }
    }

    /// A reporter for long work; from here on Ctrl-C asks that work to stop.
    pub fn progress(&self, length: Length) -> Progress {
        let place = match self.quiet {
            true => Place::Nowhere,
            false if io::stderr().is_terminal() => Place::Terminal,
            false => Place::Log,
        };
        Progress::new(place, length)
    }

    /// Does long work with a reporter, and names the true cause when it failed because the user asked to stop.
    pub fn long_work<T>(&self, work: impl FnOnce(&Progress) -> Result<T>) -> Result<T> {
        let progress = self.progress(Length::Long);
        progress.cause(work(&progress))
    }

    /// Makes sure that everything said has left the process.
    pub fn flush(&mut self) -> Outcome<()> {
        Ok(self.stdout.flush()?)
    }

    /// A failure of one part of the work, on stderr; a document tells it itself.
    pub fn complain(&mut self, text: &str) {
        self.tell("error", text);
    }

    /// Suggests the command to type next, except where only names are wanted.
    pub fn suggest(&mut self, command: &str) {
        if !self.quiet {
            self.advise(command);
        }
    }

    /// The command that mends it, on stderr; a document tells it itself.
    pub fn advise(&mut self, command: &str) {
        self.tell("hint", command);
    }

    fn tell(&mut self, what: &str, text: &str) {
        if self.form != Form::Json {
            // nobody is left to tell when stderr is gone
            let _ = writeln!(self.stderr, "{what}: {}", screen::line(text));
        }
    }

    /// Prints an error: text on stderr, or the document on stdout so that whoever reads it sees it.
    pub fn error(&mut self, error: &Error) -> Result<(), Failure> {
        if self.form == Form::Json {
            return self.document(&error.body());
        }
        writeln!(self.stderr, "error: {}", screen::line(&error.message))?;
        match &error.hint {
            Some(hint) => Ok(writeln!(self.stderr, "hint: {}", screen::line(hint))?),
            None => Ok(()),
        }
    }
}

/// Prints results as they come: each leaves the process before the call returns. Nothing where one document is
/// asked for, which is printed at the end.
pub struct AtOnce<'a> {
    form: Form,
    stream: Mutex<(&'a mut (dyn Write + Send), io::Result<()>)>,
}

impl AtOnce<'_> {
    /// One result: its name, or for people a line about it. Nothing once printing has failed.
    pub fn item(&self, name: &str, line: &str) {
        let text = match self.form {
            Form::Json => return,
            Form::Names => name,
            Form::Text => line,
        };
        let mut guard = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, result) = &mut *guard;
        if result.is_ok() {
            *result = writeln!(stream, "{}", screen::line(text)).and_then(|()| stream.flush());
        }
    }

    /// Whether all of it was printed.
    pub fn conclude(self) -> Outcome<()> {
        Ok(self.stream.into_inner().unwrap_or_else(PoisonError::into_inner).1?)
    }
}

/// Remembers that the reader has gone, which a service can only report as an error of its own.
struct Watched<W: Write> {
    inner: W,
    at_once: bool,
    reader_gone: bool,
}

impl<W: Write> Watched<W> {
    fn conclude<T>(self, result: Result<T, Error>) -> Outcome<T> {
        match result {
            Err(_) if self.reader_gone => Err(Failure::ReaderGone),
            result => Ok(result?),
        }
    }

    fn watch<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.reader_gone |= result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        let written = self.watch(written)?;
        if self.at_once {
            self.flush()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        self.watch(flushed)
    }
}
