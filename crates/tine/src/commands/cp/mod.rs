//! `tine cp`: files into and out of boxes, with the rules of `docker cp`.
//!
//! Every copy is one tar stream from a source to a target; what the target calls its first member is decided
//! before, from what lies at both ends.

mod ends;
mod landing;
mod retop;

use crate::{
    args::Side,
    failure::{Outcome, usage},
    interrupt::Interrupt,
    output::Output,
    progress::{Length, Progress},
    terminal::{Patient, copy_of},
};
use ends::{Source, Target};
use retop::Retop;
use std::{
    ffi::OsString,
    fs::File,
    io::{self, PipeReader, PipeWriter, Write},
    thread,
};
use tine_model::{Error, ErrorCode, Muted, ProjectName, Reporter, Result, Service};

/// What `cp` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tine cp notes.txt web:/srv/
  tine cp web:/etc/nginx ./nginx
  tine cp web:/var/log - > logs.tar
  tine cp site/. web:/var/www
  tine cp web:/srv/data other:web:/srv")]
pub struct Args {
    /// PATH, BOX:PATH, PROJECT:BOX:PATH, or - for a tar on stdin; a local a:b is written ./a:b
    pub source: OsString,
    /// The same, or - for a tar on stdout
    pub target: OsString,
    /// Keep owners, set-id bits and extended attributes when copying out
    #[arg(short, long)]
    pub archive: bool,
}

/// Copies.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let (from, to) = (Side::parse(&args.source)?, Side::parse(&args.target)?);
    match (from, to) {
        (Side::Box { name, path }, Side::Stream) => {
            out.refuse_terminal("a tar")?;
            let source = Source::in_box(service, name.within(project), &path);
            let progress = out.progress(Length::Short);
            source.existing()?;
            out.stream(|stream| source.send(stream, &progress))?;
        }
        (Side::Stream, Side::Box { name, path }) => {
            let target = Target::in_box(service, name.within(project), &path);
            let progress = out.progress(Length::Short);
            let stdin = File::from(copy_of(io::stdin(), "stdin")?);
            let mut tar = Patient::new(stdin, progress.interrupt().clone());
            progress.cause(target.receive_as_it_is(&mut tar, &progress))?;
        }
        (from @ (Side::Box { .. } | Side::Local(_)), to @ (Side::Box { .. } | Side::Local(_))) => {
            if let (Side::Local(_), Side::Local(_)) = (&from, &to) {
                return Err(usage("one side must be in a box: BOX:PATH").hint("tine cp --help").into());
            }
            let source = Source::new(service, project, &from);
            let target = Target::new(service, project, &to, args.archive);
            let progress = out.progress(Length::Short);
            progress.cause(transfer(&source, &target, &progress))?;
        }
        _ => {
            return Err(usage("a tar stream goes to or comes from a box: BOX:PATH")
                .hint("tine cp --help")
                .into());
        }
    }
    Ok(0)
}

/// Copies from one end to the other through a pipe.
fn transfer(source: &Source<'_>, target: &Target<'_>, progress: &Progress) -> Result<()> {
    let landing = landing::land(&source.existing()?, &target.place()?)?;
    let pipe = |e: io::Error| Error::new(ErrorCode::Internal, format!("making a pipe: {e}"));
    let (reader, writer) = io::pipe().map_err(pipe)?;
    let muted = Muted(progress);
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(move || send(source, writer, progress));
        let received = receive(target, reader, &landing, progress.interrupt(), &muted);
        (sender.join(), received)
    });
    let sent = sent.unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, "reading the source failed")));
    // when one end fails the other sees only a broken stream: the cause is the first's
    match (sent, received) {
        (Ok(()), received) => received,
        (Err(error), Ok(())) => Err(error),
        (Err(sent), Err(received)) => Err(if sent.message == TARGET_GONE { received } else { sent }),
    }
}

/// The error of a source whose target stopped reading.
const TARGET_GONE: &str = "the target stopped reading";

fn send(source: &Source<'_>, writer: PipeWriter, reporter: &dyn Reporter) -> Result<()> {
    let mut writer = Noticing { inner: writer, reader_gone: false };
    let result = source.send(&mut writer, reporter);
    result.map_err(|e| if writer.reader_gone { Error::new(ErrorCode::Internal, TARGET_GONE) } else { e })
}

fn receive(
    target: &Target<'_>,
    reader: PipeReader,
    landing: &landing::Landing,
    interrupt: &Interrupt,
    reporter: &dyn Reporter,
) -> Result<()> {
    let mut tar = Retop::new(Patient::new(reader, interrupt.clone()), landing.top.clone());
    target.receive(&landing.folder, &mut tar, reporter)?;
    // a sender that has more to say after the end mark must not see a closed pipe
    io::copy(&mut tar, &mut io::sink())
        .map(|_| ())
        .map_err(|e| Error::new(ErrorCode::Internal, format!("reading the source: {e}")))
}

/// Notices that nobody reads any more.
struct Noticing {
    inner: PipeWriter,
    reader_gone: bool,
}

impl Write for Noticing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        self.reader_gone |= written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
