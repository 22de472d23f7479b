//! Fetching one file: begun or taken up again, by several streams, readable while it grows.
//!
//! Beside the data (`NAME.partial`, at the end `NAME`) lies the journal (`NAME.partial.json`) with what is durably here; it is
//! also the lock that two downloads of one name meet at. Nothing of what lies there is believed beyond what the journal
//! says, and the server's version of the file must be the journal's.

mod job;
mod kept;
mod partial;
mod reader;
mod state;
mod stream;
mod write_buffer;

pub use reader::GrowingReader;

use crate::{
    error::{RemoteError, Result},
    journal::{Journal, Record},
    location::Location,
    ranges::RangeSet,
    remote::Remote,
};
use job::{Files, Job};
use partial::Partial;
use sha2::{Digest, Sha256};
use state::Shared;
use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tine_model::{Reporter, Sha256Digest};
use tokio::task::JoinHandle;

/// How often progress is told and the reporter asked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What is known of the content before it is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its digest, checked by whoever reads it to the end: [`GrowingReader`], or [`Finished::check_digest`].
    pub sha256: Option<Sha256Digest>,
}

/// What to fetch, and where to.
#[derive(Debug, Clone, Copy)]
pub struct DownloadRequest<'a> {
    /// The file.
    pub location: &'a Location,
    /// An existing folder of this host.
    pub dir: &'a Path,
    /// The file's name there; the same name goes on with what is there of it.
    pub name: &'a str,
    /// What is known of the content.
    pub expected: Expected,
    /// A longer file is refused, in bytes.
    pub max_bytes: u64,
    /// Fetch only these parts, ascending; all without. What else a server sends that has no ranges is there too, and a
    /// digest is not checked.
    pub parts: Option<&'a [Range<u64>]>,
    /// Whether the whole file becomes durable under its name. Else it keeps that of an unfinished one, and what came last
    /// may have to be fetched again: for who reads it while it comes, and deletes it then. On btrfs such a file has no
    /// checksums.
    pub durable: bool,
}

/// What a download took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DownloadStats {
    /// Bytes that came from the server.
    pub fetched: u64,
    /// Bytes that were here already.
    pub reused: u64,
    /// How long it took.
    pub seconds: f64,
    /// The most streams that were used at once; 0 when nothing was fetched.
    pub streams: usize,
}

/// A download under way. Dropped before [`Download::finish`], it stops and leaves what it has for the next one.
pub struct Download {
    remote: Remote,
    shared: Arc<Shared>,
    journal: Arc<Mutex<Option<Journal>>>,
    task: Option<JoinHandle<Result<()>>>,
    paths: Paths,
    parts: Option<Vec<Range<u64>>>,
    durable: bool,
    shown: String,
    begun: Instant,
}

/// Where a download's files lie.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) done: PathBuf,
    pub(crate) partial: PathBuf,
    pub(crate) journal: PathBuf,
}

/// A file that is wholly here, and durable where that was asked for. Its digest is the expected one only where a reader has come to its end without an error,
/// or [`Finished::check_digest`] says so; what turns out wrong is to be [discarded](Finished::discard).
#[derive(Debug)]
pub struct Finished {
    /// Where it lies. Another download of the same name may replace it; [`Finished::file`] stays what was fetched.
    pub path: PathBuf,
    /// The open file, for reading.
    pub file: File,
    /// What it took.
    pub stats: DownloadStats,
    paths: Paths,
    expected: Option<Sha256Digest>,
}

impl Download {
    /// Begins a download, or goes on with one. Waits while another process has the same name.
    ///
    /// # Errors
    /// [`RemoteError::Io`] of the folder; [`RemoteError::Cancelled`] while waiting. What the server does shows in
    /// [`Download::finish`] and the readers.
    pub fn start(remote: &Remote, request: DownloadRequest<'_>, reporter: &dyn Reporter) -> Result<Self> {
        let begun = Instant::now();
        let paths = Paths::of(request.dir, request.name)?;
        let mut journal = Journal::open(&paths.journal, reporter)?;
        let record = journal.read()?;
        let (file, record) = take_up(&paths, record)?;
        let journal = Arc::new(Mutex::new(Some(journal)));
        let file = opened(file, &paths.partial, request.durable);
        let shared = Arc::new(Shared::new(file, request.expected.sha256, request.parts));
        let files = Files { shared: Arc::clone(&shared), journal: Arc::clone(&journal) };
        let job = Job::new(Arc::clone(&remote.core), files, request, &paths.partial);
        let task = remote.runtime.spawn(job.run(record));
        let (shown, parts) = (request.location.to_string(), request.parts.map(<[_]>::to_vec));
        let durable = request.durable;
        Ok(Self {
            remote: remote.clone(),
            shared,
            journal,
            task: Some(task),
            paths,
            parts,
            durable,
            shown,
            begun,
        })
    }

    /// A reader of the file from its beginning, or of its parts, that waits for what is not here yet. Dropping it does not stop the download.
    #[must_use]
    pub fn reader(&self) -> GrowingReader {
        GrowingReader::new(Arc::clone(&self.shared), self.parts.clone())
    }

    /// Waits for the end, tells progress, and makes the file durable under its name where that is wanted; a file of which
    /// only parts were wanted keeps the name of an unfinished one. Within 200 ms of the reporter's wish it
    /// stops, leaving what is here for the next download.
    ///
    /// # Errors
    /// Why the file is not wholly here: [`RemoteError::Cancelled`], the server's or network's, this host's.
    pub fn finish(mut self, reporter: &dyn Reporter) -> Result<Finished> {
        self.watch(reporter);
        self.ended()?;
        if self.shared.is_spoiled() {
            return Err(self.spoiled());
        }
        let path = self.publish()?;
        let file = File::open(&path).map_err(|e| RemoteError::io("opening", path.display(), e))?;
        let stats = self.shared.stats(self.begun.elapsed());
        let expected = self.shared.digest().filter(|_| self.parts.is_none());
        Ok(Finished { path, file, stats, paths: self.paths.clone(), expected })
    }

    fn watch(&self, reporter: &dyn Reporter) {
        let (mut told, mut begun) = (0, false);
        loop {
            let over = self.shared.wait_for_end(LOOK);
            let (size, done) = match self.shared.wanted() {
                Some((total, left)) => (Some(total), total - left),
                None => (None, self.shared.done()),
            };
            // a server that tells the length does so before the first byte
            if !begun && (over || size.is_some() || done > 0) {
                begun = true;
                reporter.step(&format!("fetching {}", self.shown), size);
            }
            for note in self.shared.take_notes() {
                reporter.note(&note);
            }
            if done != told {
                told = done;
                reporter.advance(done);
            }
            if over {
                return;
            }
            if reporter.is_cancelled() {
                self.shared.stop();
            }
        }
    }

    fn ended(&mut self) -> Result<()> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let joined = self.remote.runtime.block_on(task);
        joined.unwrap_or_else(|e| Err(RemoteError::Internal(format!("fetching {}: {e}", self.shown))))
    }

    /// The content is wrong though all of it came: nothing of it is worth keeping.
    fn spoiled(&self) -> RemoteError {
        discard(&self.paths, take(&self.journal));
        RemoteError::unexpected(&self.shown, "its SHA-256 is another one")
    }

    /// Gives the file its name, and tells it.
    fn publish(&self) -> Result<PathBuf> {
        let Some(mut journal) = take(&self.journal) else { return Ok(self.paths.done.clone()) };
        if self.parts.is_some() || !self.durable {
            return Ok(self.paths.partial.clone());
        }
        if self.paths.partial.exists() {
            let wrong = |e| RemoteError::io("renaming", self.paths.partial.display(), e);
            std::fs::rename(&self.paths.partial, &self.paths.done).map_err(wrong)?;
            let folder = self.paths.done.parent().unwrap_or(Path::new("/"));
            File::open(folder).and_then(|f| f.sync_all()).map_err(wrong)?;
            journal.complete()?;
        }
        Ok(self.paths.done.clone())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.stop();
        // so that the lock is free and the journal written when this returns
        let _ = self.ended();
    }
}

fn take(journal: &Mutex<Option<Journal>>) -> Option<Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Paths {
    fn of(dir: &Path, name: &str) -> Result<Self> {
        let odd = |c: char| c == '/' || c.is_control();
        if name.is_empty() || name.starts_with('.') || name.len() > 200 || name.contains(odd) {
            return Err(RemoteError::location(format!("{name:?}"), "as the name of a file".to_owned()));
        }
        Ok(Self {
            done: dir.join(name),
            partial: dir.join(format!("{name}.partial")),
            journal: dir.join(format!("{name}.partial.json")),
        })
    }
}

/// Opens the data and strikes from the record what the data cannot bear out. A finished file is taken up under its name.
fn take_up(paths: &Paths, mut record: Record) -> Result<(File, Record)> {
    let mut options = File::options();
    options.read(true).write(true);
    if record.complete
        && let Ok(file) = options.open(&paths.done)
    {
        // a finished file that is wanted still may be of an older version, and is replaced then
        std::fs::rename(&paths.done, &paths.partial)
            .map_err(|e| RemoteError::io("renaming", paths.done.display(), e))?;
        return Ok((bounded(file, &mut record), record));
    }
    let opened = options.create(true).truncate(false).open(&paths.partial);
    let file = opened.map_err(|e| RemoteError::io("making", paths.partial.display(), e))?;
    Ok((bounded(file, &mut record), record))
}

/// How the data is written: a file that stays is one like any other.
fn opened(file: File, path: &Path, durable: bool) -> Partial {
    if durable { Partial::cached(file) } else { Partial::uncached(file, path) }
}

fn bounded(file: File, record: &mut Record) -> File {
    let length = file.metadata().map_or(0, |meta| meta.len());
    let size = record.object.as_ref().and_then(|object| object.size);
    if record.have.last() > length || size.is_some_and(|size| record.have.last() > size) {
        record.have = RangeSet::default();
    }
    file
}

fn discard(paths: &Paths, journal: Option<Journal>) {
    // whatever stays is garbage that the journal no longer vouches for
    for path in [&paths.done, &paths.partial] {
        let _ = std::fs::remove_file(path);
    }
    if let Some(journal) = journal {
        let _ = journal.delete();
    }
}

impl Finished {
    /// Reads the file through and compares its digest with the expected one, where there is one. Not needed after a
    /// [`GrowingReader`] has come to its end.
    ///
    /// # Errors
    /// [`RemoteError::Unexpected`] when it is another one, [`RemoteError::Io`].
    pub fn check_digest(&self) -> Result<()> {
        let Some(expected) = self.expected else { return Ok(()) };
        let mut hasher = Sha256::new();
        let mut file = &self.file;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0))
            .and_then(|_| std::io::copy(&mut file, &mut hasher))
            .map_err(|e| RemoteError::io("reading", self.path.display(), e))?;
        if Sha256Digest(hasher.finalize().into()) == expected {
            return Ok(());
        }
        Err(RemoteError::unexpected(self.path.display(), "its SHA-256 is another one"))
    }

    /// Deletes the file and its journal, unless another download has taken them up meanwhile.
    pub fn discard(self) {
        if let Some(journal) = Journal::try_open(&self.paths.journal) {
            discard(&self.paths, Some(journal));
        }
    }
}
