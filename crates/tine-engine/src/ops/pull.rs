//! `pull`: a pack is fetched, verified and unpacked at the same time.

mod hashed;

use super::unpack::{Intake, Plan, Received};
use crate::{LocalEngine, hub, io_error, trust, trust::Trust};
use hashed::Hashed;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::Read,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tine_hub::{HubUrl, PackTraits};
use tine_model::{
    ByteSize, Error, ErrorCode, Muted, PackageRef, PullImage, PullReport, Reporter, Result, Sha256Digest,
    UnpackImage, UnpackReport,
};
use tine_remote::{Download, DownloadRequest, Expected, Finished, GrowingReader, Location, Remote};
use tine_store::Pool;

/// A longer pack is refused.
const PACK_MAX: u64 = 1 << 40;

pub fn run(engine: &LocalEngine, request: &PullImage, reporter: &dyn Reporter) -> Result<PullReport> {
    let pool = engine.pool()?;
    let remote = engine.remote()?;
    let wanted = if request.target.contains("://") {
        Wanted::of_url(&pool, &request.target)?
    } else {
        Wanted::of_package(engine, &pool, &remote, request, reporter)?
    };
    let pull = Pull { engine, pool: &pool, remote: &remote, wanted, reporter };
    pull.run(&UnpackImage { tag: request.tag.clone(), force: request.force })
}

/// What is fetched, and what is known of it before.
struct Wanted {
    location: Location,
    trust: Trust,
    size: Option<u64>,
    sha256: Option<Sha256Digest>,
    /// Whether the pack may be taken by its manifest alone, which names the digests of all that is in it. A package may
    /// when the registry names the manifest's; else its own digest is checked, or taken, which needs all of it.
    in_parts: bool,
    /// The hub and the version there.
    package: Option<(HubUrl, PackageRef)>,
}

impl Wanted {
    fn of_url(pool: &Pool, url: &str) -> Result<Self> {
        let location = Location::parse(url)?;
        Ok(Self {
            location,
            trust: Trust::of_url(pool, url)?,
            size: None,
            sha256: None,
            in_parts: true,
            package: None,
        })
    }

    fn of_package(
        engine: &LocalEngine,
        pool: &Pool,
        remote: &Remote,
        request: &PullImage,
        reporter: &dyn Reporter,
    ) -> Result<Self> {
        let asked: PackageRef = request.target.parse()?;
        let hub = hub::url(engine, pool, request.hub.as_deref())?;
        let registry = hub::registry(pool, remote, &hub, reporter)?;
        let found = registry.resolve(&asked.package, asked.version.as_ref());
        let found = found.map_err(|e| hub::hinting_at(request.hub.as_deref(), e.into()))?;
        let package = PackageRef {
            package: found.package.clone(),
            version: found.version.cloned().or_else(|| asked.version.clone()),
        };
        let manifest_sha256 = found.entry.manifest_sha256();
        let trust = Trust::of_package(pool, &hub, &package)?.of_manifest(manifest_sha256);
        found.entry.sha256.map_or(Ok(()), |sha256| trust.check_version(sha256))?;
        Ok(Self {
            location: Location::parse(&hub.resolve(&found.entry.url)?)?,
            trust,
            size: found.entry.size_bytes,
            sha256: found.entry.sha256,
            in_parts: found.entry.sha256.and(manifest_sha256).is_some(),
            package: Some((hub, package)),
        })
    }
}

struct Pull<'p> {
    engine: &'p LocalEngine,
    pool: &'p Pool,
    remote: &'p Remote,
    wanted: Wanted,
    reporter: &'p dyn Reporter,
}

impl Pull<'_> {
    fn run(&self, request: &UnpackImage) -> Result<PullReport> {
        let dir = self.pool.downloads_dir();
        fs::create_dir_all(&dir).map_err(|e| io_error("create", &dir, &e))?;
        let name = file_name(&self.wanted.location);
        let was_here = has_begun(&dir, &name);
        match self.fetch_or_forget(&dir, &name, request) {
            // the server may have another file by now, and its beginning was read before that was known
            Err(error) if was_here && is_of_content(error.code) => {
                self.reporter.note(&format!("fetching it from the beginning: {}", error.message));
                self.fetch_or_forget(&dir, &name, request)
            }
            result => result,
        }
    }

    fn fetch_or_forget(&self, dir: &Path, name: &str, request: &UnpackImage) -> Result<PullReport> {
        let result = self.fetch(dir, name, request);
        if result.as_ref().is_err_and(|error| !goes_on(error.code)) {
            forget(dir, name);
        }
        result
    }

    /// Unpacks while the pack is still coming.
    fn fetch(&self, dir: &Path, name: &str, request: &UnpackImage) -> Result<PullReport> {
        let expected = Expected { size: self.wanted.size, sha256: self.wanted.sha256 };
        let plan = self.plan(request)?;
        let parts = plan.as_ref().map(|plan| plan.parts.as_slice());
        let wanted = DownloadRequest { parts, ..request_of(&self.wanted.location, dir, name, expected) };
        let download = Download::start(self.remote, wanted, self.reporter)?;
        let reader = download.reader();
        let left_out = plan.map(|plan| plan.left_out).unwrap_or_default();
        let until = Until { reporter: self.reporter, over: AtomicBool::new(false) };
        let quiet = Muted(&until);
        let (finished, received) = thread::scope(|scope| {
            let fetching = scope.spawn(|| download.finish(&until));
            let intake = Intake::new(self.pool, request, &self.wanted.trust, &quiet);
            let intake = intake.leaving_out(left_out);
            let received = self.receive(intake, reader, dir);
            if received.is_err() {
                until.over.store(true, Ordering::Relaxed);
            }
            (fetching.join(), received)
        });
        let finished = finished.map_err(|_| died())?.map_err(Error::from);
        let (finished, (received, sha256)) = match (finished, received) {
            (Ok(finished), Ok(received)) => (finished, received),
            // a server's fault shows on both sides, and better here
            (Err(error), Err(_)) if error.code != ErrorCode::Cancelled => return Err(error),
            (_, Err(error)) | (Err(error), Ok(_)) => return Err(error),
        };
        let (taken, traits) = received.publish(self.engine)?;
        self.remember(sha256, traits)?;
        let report = self.report(taken, &finished);
        finished.discard();
        Ok(report)
    }

    /// Reads the pack to its end, and gives its digest where one is known or taken: where the registry names none, what
    /// comes must still be what the version was before.
    fn receive<'i>(
        &self,
        intake: Intake<'i>,
        mut reader: GrowingReader,
        dir: &Path,
    ) -> Result<(Received<'i>, Option<Sha256Digest>)> {
        let siblings = |name: &str| self.sibling(dir, name);
        if self.wanted.sha256.is_some() || self.wanted.package.is_none() {
            return Ok((intake.receive(&mut reader, &siblings)?, self.wanted.sha256));
        }
        let mut reader = Hashed::new(reader);
        let received = intake.receive(&mut reader, &siblings)?;
        let failed = |e| Error::new(ErrorCode::Internal, format!("read {}: {e}", self.wanted.location));
        let sha256 = reader.digest().map_err(failed)?;
        self.wanted.trust.check_version(sha256)?;
        Ok((received, Some(sha256)))
    }

    /// Which links are here and need not be fetched. Asks the server for both ends of the pack, if any can be.
    fn plan(&self, request: &UnpackImage) -> Result<Option<Plan>> {
        // another tag is for a pack of one image, and of that all is wanted
        if !self.wanted.in_parts || request.tag.is_some() || self.pool.image_tags()?.is_empty() {
            return Ok(None);
        }
        match self.remote.ranged(&self.wanted.location)? {
            Some(mut pack) => Plan::of(self.pool, request, &mut pack),
            None => Ok(None),
        }
    }

    /// What lies beside the pack; none when there is no such file.
    fn sibling(&self, dir: &Path, name: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let location = self.wanted.location.sibling(name)?;
        let request = request_of(&location, dir, name, Expected::default());
        let download = Download::start(self.remote, request, self.reporter)?;
        match download.finish(self.reporter) {
            Ok(finished) => {
                let file = finished.file.try_clone().map_err(|e| io_error("open", &finished.path, &e))?;
                // it is open, and wanted by nobody else
                finished.discard();
                Ok(Some(Box::new(file)))
            }
            Err(error) => match Error::from(error) {
                error if goes_on(error.code) => Err(error),
                error => {
                    forget(dir, name);
                    if error.code == ErrorCode::NotFound { Ok(None) } else { Err(error) }
                }
            },
        }
    }

    /// Keeps what the package was, so that it cannot become less without a word.
    fn remember(&self, sha256: Option<Sha256Digest>, traits: PackTraits) -> Result<()> {
        let Some(((hub, package), sha256)) = self.wanted.package.as_ref().zip(sha256) else { return Ok(()) };
        Ok(trust::seen(self.pool).record_pack(hub, package, sha256, traits)?)
    }

    fn report(&self, unpacked: UnpackReport, finished: &Finished) -> PullReport {
        PullReport {
            unpacked,
            source: self.wanted.location.to_string(),
            package: self.wanted.package.as_ref().map(|(_, package)| package.clone()),
            fetched_bytes: ByteSize(finished.stats.fetched),
            reused_bytes: ByteSize(finished.stats.reused),
        }
    }
}

fn died() -> Error {
    Error::new(ErrorCode::Internal, "the thread that fetches died")
}

fn request_of<'r>(
    location: &'r Location,
    dir: &'r Path,
    name: &'r str,
    expected: Expected,
) -> DownloadRequest<'r> {
    DownloadRequest { location, dir, name, expected, max_bytes: PACK_MAX, parts: None, durable: false }
}

/// The name of a location's download, the same for every pull of it.
fn file_name(location: &Location) -> String {
    let place: [u8; 32] = Sha256::digest(location.to_string()).into();
    format!("{:.32}.pack", Sha256Digest(place).to_string())
}

/// Whether the next pull goes on with what is here: not with what was refused.
fn goes_on(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unreachable | ErrorCode::Cancelled | ErrorCode::PoolFull | ErrorCode::Internal)
}

/// Whether there is something of a download that the next one goes on with.
fn has_begun(dir: &Path, name: &str) -> bool {
    ["", ".partial"].iter().any(|ending| dir.join(format!("{name}{ending}")).exists())
}

/// Whether it was the content that was refused.
fn is_of_content(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Corrupt | ErrorCode::InvalidInput)
}

/// Removes what a download has left.
fn forget(dir: &Path, name: &str) {
    for ending in ["", ".partial", ".partial.json"] {
        // what stays is garbage to `gc`
        let _ = fs::remove_file(dir.join(format!("{name}{ending}")));
    }
}

/// A reporter whose work is also over when nobody wants its result any more.
struct Until<'r> {
    reporter: &'r dyn Reporter,
    over: AtomicBool,
}

impl Reporter for Until<'_> {
    fn step(&self, what: &str, total: Option<u64>) {
        self.reporter.step(what, total);
    }
    fn advance(&self, done: u64) {
        self.reporter.advance(done);
    }
    fn output(&self, line: &str) {
        self.reporter.output(line);
    }
    fn note(&self, text: &str) {
        self.reporter.note(text);
    }
    fn is_cancelled(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.reporter.is_cancelled()
    }
}
