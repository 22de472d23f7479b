//! The course of a download: which version, by ranges or whole, begun anew when the file changes; and what is durable.

use super::{DownloadRequest, Expected, opened, state::Shared, stream::Stream};
use crate::{
    error::{RemoteError, Result},
    journal::{Journal, Object, Record},
    location::{Location, shown},
    remote::Core,
    retry::{Fault, retrying},
    source::{Part, Reply, Source, Version},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinSet;

/// How often a file may change at the server while it is fetched.
const RESTARTS_MAX: u32 = 3;
/// New bytes are made durable this often at least.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What lies on this host's disk.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Arc<Mutex<Option<Journal>>>,
}

/// A download as its task sees it.
pub(super) struct Job {
    core: Arc<Core>,
    location: Location,
    files: Files,
    object: Object,
    expected: Expected,
    max_bytes: u64,
    partial: PathBuf,
    /// Whether only parts are wanted.
    partly: bool,
    durable: bool,
}

/// By which kind of request the rest is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ranges,
    Whole,
}

/// Tells the readers when the task ends in a way that nothing else tells.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.end(&Err(RemoteError::Internal("the download ended without a word".to_owned())));
    }
}

impl Files {
    /// Makes what is here durable, then writes down that it is.
    fn save(&self) -> Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(journal) = journal.as_mut() else { return Ok(()) };
        let (file, written) = self.shared.saving();
        file.file().sync_data().map_err(|e| RemoteError::io("writing", "the download", e))?;
        journal.have(&written)
    }

    /// Once nothing is written any more, makes durable what is new.
    fn save_all(&self) -> Result<()> {
        self.shared.settle();
        if self.shared.unsaved() == 0 { Ok(()) } else { self.save() }
    }

    fn begin(&self, object: &Object) -> Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.as_mut().map_or(Ok(()), |journal| journal.begin(object))
    }

    /// Forgets everything and begins with another file under the partial one's name: who reads the old one keeps it.
    /// The journal comes first, since it must never vouch for what another version left, and stays locked until all is done.
    fn anew(&self, object: &Object, partial: &Path, durable: bool) -> Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.as_mut().map_or(Ok(()), |journal| journal.begin(object))?;
        let failed = |e| RemoteError::io("making", partial.display(), e);
        match std::fs::remove_file(partial) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(partial).map_err(failed)?;
        self.shared.restart(opened(file, partial, durable));
        Ok(())
    }
}

/// Runs what waits for the disk where it holds no stream up.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(RemoteError::Internal(format!("writing a download: {e}"))))
}

impl Job {
    pub(super) fn new(core: Arc<Core>, files: Files, request: DownloadRequest<'_>, partial: &Path) -> Self {
        Self {
            core,
            location: request.location.clone(),
            files,
            object: Object::default(),
            expected: request.expected,
            max_bytes: request.max_bytes,
            partial: partial.to_owned(),
            partly: request.parts.is_some(),
            durable: request.durable,
        }
    }

    /// Fetches everything; at the end, however it comes, what is here is durable and written down, unless it is all that is
    /// wanted and need not last.
    pub(super) async fn run(mut self, record: Record) -> Result<()> {
        let shared = Arc::clone(&self.files.shared);
        let last_word = LastWord(Arc::clone(&shared));
        let files = self.files.clone();
        let durable = self.durable;
        let fetched = tokio::select! {
            fetched = self.fetch(record) => fetched,
            () = shared.stopped() => Err(RemoteError::Cancelled),
            failed = saving(files.clone()) => Err(failed),
        };
        let saved = match &fetched {
            Ok(()) if !durable => Ok(()),
            _ => aside(move || files.save_all()).await,
        };
        let outcome = fetched.and(saved);
        shared.end(&outcome);
        drop(last_word);
        outcome
    }

    async fn fetch(&mut self, record: Record) -> Result<()> {
        let (core, location) = (Arc::clone(&self.core), self.location.clone());
        let connected = retrying(&core.config, || Source::connect(&core, &location)).await;
        let (source, told) = connected.map_err(|fault| fault.into_error(&location))?;
        let Expected { size, sha256 } = self.expected;
        self.expected = Expected { size: size.or(told.size), sha256: sha256.or(told.sha256) };
        self.files.shared.learn(None, self.expected.sha256);
        self.take_up(record).await?;
        self.rounds(&source).await
    }

    /// Goes on with what is here when it is of the wanted object, else begins anew.
    async fn take_up(&mut self, record: Record) -> Result<()> {
        self.object = self.fresh();
        match record.object {
            Some(old) if record.have.total() > 0 && is_same(&old, &self.object) => {
                self.object.version = old.version;
                self.object.size = old.size;
                self.files.shared.learn(old.size, None);
                self.files.shared.take_up(record.have);
                Ok(())
            }
            _ => self.anew().await,
        }
    }

    /// What is wanted, before a server has said anything of it.
    fn fresh(&self) -> Object {
        let place = Sha256::digest(shown(self.location.url()));
        let place = place.iter().map(|b| format!("{b:02x}")).collect();
        Object { place, size: None, version: Version::default(), sha256: self.expected.sha256 }
    }

    async fn anew(&self) -> Result<()> {
        let (files, partial, object) = (self.files.clone(), self.partial.clone(), self.object.clone());
        let durable = self.durable;
        aside(move || files.anew(&object, &partial, durable)).await
    }

    async fn rounds(&mut self, source: &Source) -> Result<()> {
        let (mut mode, mut restarts) = (Mode::Ranges, 0);
        loop {
            let round = self.round(source, mode).await;
            self.files.shared.release();
            match round {
                Ok(()) => return self.check_size(),
                Err(Fault::NoRanges) if mode == Mode::Ranges => mode = Mode::Whole,
                Err(Fault::Changed) if restarts < RESTARTS_MAX => {
                    restarts += 1;
                    self.forget().await?;
                }
                Err(fault) => return Err(fault.into_error(&self.location)),
            }
        }
    }

    async fn forget(&mut self) -> Result<()> {
        if self.files.shared.done() > 0 {
            let text = format!("{} changed at the server; fetching it from the beginning", self.location);
            self.files.shared.note(text);
        }
        self.object = self.fresh();
        self.anew().await
    }

    async fn round(&mut self, source: &Source, mode: Mode) -> Result<(), Fault> {
        if self.files.shared.wanted().is_some_and(|(_, left)| left == 0) {
            return self.check_current(source).await;
        }
        let stream = self.stream(source);
        if mode == Mode::Whole {
            let reply = stream.open(None).await?;
            return self.whole(reply, stream).await;
        }
        let block = self.core.config.block();
        let first = self.files.shared.claim(block).unwrap_or_else(|| self.files.shared.first(block));
        let reply = stream.open(Some(first.clone())).await?;
        match reply.part.clone() {
            Part::Whole { .. } => self.whole(reply, stream).await,
            // parts of two versions could not be told apart
            Part::Range { .. } if !reply.version.is_known() && self.object.sha256.is_none() => {
                Err(Fault::NoRanges)
            }
            Part::Range { range, total } => {
                self.learn(&reply.version, Some(total)).await?;
                self.ranges(source, (range, reply)).await
            }
        }
    }

    /// All is here already. Content named by its digest is right or found out; else the server is asked for its version.
    async fn check_current(&self, source: &Source) -> Result<(), Fault> {
        if self.object.sha256.is_some() {
            return Ok(());
        }
        let head = retrying(&self.core.config, || source.head()).await?;
        let same = head.etag == self.object.version.etag
            && head.size.is_none_or(|size| Some(size) == self.object.size);
        if same { Ok(()) } else { Err(Fault::Changed) }
    }

    fn stream(&self, source: &Source) -> Stream {
        let known = self.object.version.is_known().then(|| self.object.version.clone());
        Stream {
            core: Arc::clone(&self.core),
            source: source.clone(),
            shared: Arc::clone(&self.files.shared),
            location: self.location.clone(),
            known,
            max_bytes: self.max_bytes,
        }
    }

    /// Compares an answer with what is known, or takes it as what is known from now on.
    async fn learn(&mut self, version: &Version, size: Option<u64>) -> Result<(), Fault> {
        let limit = self.max_bytes;
        if size.is_some_and(|size| size > limit) {
            return Err(RemoteError::too_large(&self.location, limit).into());
        }
        self.check_expected(size)?;
        let here = self.files.shared.done() > 0;
        if here {
            let sizes = self.object.size.zip(size).is_none_or(|(old, new)| old == new);
            let same = sizes && self.object.version.agrees(version);
            return if same { Ok(()) } else { Err(Fault::Changed) };
        }
        (self.object.version, self.object.size) = (version.clone(), size);
        self.files.shared.learn(size, None);
        let (files, object) = (self.files.clone(), self.object.clone());
        Ok(aside(move || files.begin(&object)).await?)
    }

    fn check_expected(&self, size: Option<u64>) -> Result<()> {
        match (self.expected.size, size) {
            (Some(expected), Some(size)) if expected != size => Err(RemoteError::unexpected(
                &self.location,
                format!("it has {size} bytes, and {expected} were announced"),
            )),
            _ => Ok(()),
        }
    }

    /// The length of what came; where only parts did, what the server said.
    fn check_size(&self) -> Result<()> {
        let shared = &self.files.shared;
        self.check_expected(if self.partly { shared.size() } else { Some(shared.done()) })
    }

    /// Fetches block after block, by several streams when it is worth it.
    async fn ranges(&self, source: &Source, first: (Range<u64>, Reply)) -> Result<(), Fault> {
        let config = &self.core.config;
        let size = self.object.size.unwrap_or(0);
        let left = self.files.shared.wanted().map_or(0, |(_, left)| left).div_ceil(config.block());
        let wanted = if size >= config.parallel_from { config.streams() } else { 1 };
        let streams = wanted.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1);
        // the range was asked for before the length was known, and what is past the end is nobody's
        self.files.shared.release();
        self.files.shared.claim(config.block());
        self.files.shared.uses(streams);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.stream(source).blocks(Some(first)));
        for _ in 1..streams {
            tasks.spawn(self.stream(source).blocks(None));
        }
        let outcome = all(&mut tasks).await;
        // nobody may write any more when something else begins
        tasks.shutdown().await;
        outcome
    }

    /// Fetches all in one answer, again from its beginning when it breaks.
    async fn whole(&mut self, mut reply: Reply, stream: Stream) -> Result<(), Fault> {
        self.files.shared.uses(1);
        let mut tries = crate::retry::Tries::new(&self.core.config);
        loop {
            let Part::Whole { length } = reply.part else { return Err(Fault::NoRanges) };
            self.learn(&reply.version, length).await?;
            let had = self.files.shared.done();
            match stream.whole(reply, length.or(self.object.size)).await {
                Ok(end) => {
                    self.files.shared.learn(Some(end), None);
                    return Ok(());
                }
                Err(fault) => {
                    if self.files.shared.done() > had {
                        tries.gained();
                    }
                    tries.again(fault).await?;
                }
            }
            if !self.object.version.is_known() && self.object.sha256.is_none() {
                // nothing tells whether the next answer is of the same file
                self.anew().await?;
            }
            reply = stream.open(None).await?;
        }
    }
}

/// The same place in a version that can be told from others, or content that is named by one digest.
fn is_same(old: &Object, new: &Object) -> bool {
    match (old.sha256, new.sha256) {
        (Some(old), Some(new)) => old == new,
        _ => old.place == new.place && old.version.is_known(),
    }
}

/// Waits for all streams, or for the first that fails.
async fn all(tasks: &mut JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap_or_else(|e| Err(RemoteError::Internal(format!("fetching a range: {e}")).into()))?;
    }
    Ok(())
}

/// Saves whenever enough is new, and now and then; ends only when that fails.
async fn saving(files: Files) -> RemoteError {
    loop {
        // late is as good as asked for
        let _ = tokio::time::timeout(SAVE_EVERY, files.shared.dirty.notified()).await;
        let (files, unsaved) = (files.clone(), files.shared.unsaved());
        if unsaved == 0 {
            continue;
        }
        if let Err(e) = aside(move || files.save()).await {
            return e;
        }
    }
}
