//! `push`: an image is packed, and sent to a URL or published at a hub.
//!
//! What goes to a store goes in parts, and a push that is broken off there goes on: its pack stays in the pool until it is sent.

use super::{hub as hubs, pack};
use crate::{
    LocalEngine, bucket::journal_of, create_new, hub::Place, io_error, kept::Kept, outgoing::Outgoing,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{
    AddToHub, ByteSize, ErrorCode, NewFiles, PackReport, PackageRef, PackedFile, PushImage, PushReport,
    Reporter, Result, Silent,
};
use tine_remote::{Beside, Location, Scheme, UploadRequest, Uploaded};
use tine_store::Pool;

/// What a pack is to those who keep a type with a file.
const MEDIA_TYPE: &str = "application/vnd.tine.pack.v1.tar+zstd";

pub fn run(engine: &LocalEngine, request: &PushImage, reporter: &dyn Reporter) -> Result<PushReport> {
    let pool = engine.pool()?;
    // refused before anything is packed
    let target = Target::of(engine, &pool, request)?;
    let folder = Folder::new(&pool, request, &target, engine.config.wait)?;
    let pushed = push(engine, request, &target, &folder, reporter);
    folder.end(pushed.as_ref().err().map(|error| error.code));
    pushed
}

fn push(
    engine: &LocalEngine,
    request: &PushImage,
    target: &Target,
    folder: &Folder<'_>,
    reporter: &dyn Reporter,
) -> Result<PushReport> {
    let report = folder.pack(engine, request, reporter)?;
    match target {
        Target::Url(location) => send(engine, location, folder, report, reporter),
        Target::Package { package, .. } => publish(engine, request, package, (folder, report), reporter),
    }
}

enum Target {
    Url(Location),
    Package {
        package: PackageRef,
        /// The bucket that the hub is kept in; none for a folder.
        bucket: Option<String>,
    },
}

impl Target {
    fn of(engine: &LocalEngine, pool: &Pool, request: &PushImage) -> Result<Self> {
        if request.target.contains("://") {
            return Ok(Self::Url(Location::parse(&request.target)?));
        }
        let package = request.target.parse()?;
        let place = Place::named(engine, pool, request.hub.as_deref())?;
        let bucket = match &place {
            Place::Bucket(hub) => Some(hub.to_string()),
            Place::Folder(_) => None,
        };
        // it is there, and the credentials for it are
        Kept::open(engine, pool, place, &Silent)?;
        Ok(Self::Package { package, bucket })
    }

    /// What it is called when it is a store, which takes a file in parts.
    fn store(&self) -> Option<String> {
        match self {
            Self::Url(location) => location.is_in_a_store().then(|| location.to_string()),
            Self::Package { package, bucket } => bucket.as_ref().map(|bucket| format!("{package} {bucket}")),
        }
    }
}

fn publish(
    engine: &LocalEngine,
    request: &PushImage,
    package: &PackageRef,
    (folder, report): (&Folder<'_>, PackReport),
    reporter: &dyn Reporter,
) -> Result<PushReport> {
    let name = report.files.first().map_or("", |file| file.name.as_str());
    let add = AddToHub {
        hub: request.hub.clone(),
        file: folder.path().join(name).display().to_string(),
        package: package.clone(),
        description: None,
        recipe_path: request.recipe_path.clone(),
        password: request.pack.password.clone(),
    };
    let (published, moved) = hubs::publish(engine, &add, reporter)?;
    let total = report.files.iter().map(|file| file.bytes.bytes()).sum();
    let (sent, reused) = moved.map_or((total, 0), |moved| (moved.sent, moved.reused));
    Ok(PushReport {
        pack: report,
        place: published.url,
        package: Some(PackageRef { package: published.package, version: Some(published.version) }),
        sent_bytes: ByteSize(sent),
        reused_bytes: ByteSize(reused),
    })
}

/// The pack, and what belongs beside it, sent in the order that never shows a pack without the rest.
fn send(
    engine: &LocalEngine,
    location: &Location,
    folder: &Folder<'_>,
    report: PackReport,
    reporter: &dyn Reporter,
) -> Result<PushReport> {
    let remote = engine.remote()?;
    let files: Vec<Sent<'_>> =
        report.files.iter().map(|file| Sent::open(folder.path(), file)).collect::<Result<_>>()?;
    let beside: Vec<Beside<'_>> = files.iter().skip(1).map(Sent::beside).collect();
    // a registry keeps all of it in one artifact
    let (files, beside) = match location.scheme() {
        Scheme::Oci => (files.get(..1).unwrap_or_default(), beside.as_slice()),
        _ => (files.as_slice(), [].as_slice()),
    };
    let (mut sent, mut reused, mut place) = (0, 0, location.to_string());
    for (index, file) in files.iter().enumerate().rev() {
        let to = file.place(location, index)?;
        let journal = folder.journal(&to);
        let request = UploadRequest {
            file: &file.content,
            size: file.size,
            sha256: None,
            name: file.name,
            content_type: MEDIA_TYPE,
            location: &to,
            journal: journal.as_deref(),
            beside,
        };
        let Uploaded { sent: now, reused: before, .. } = remote.upload(request, reporter)?;
        sent += now;
        reused += before;
        place = to.to_string();
    }
    Ok(PushReport {
        pack: report,
        place,
        package: None,
        sent_bytes: ByteSize(sent),
        reused_bytes: ByteSize(reused),
    })
}

/// A file to send.
struct Sent<'f> {
    content: File,
    size: u64,
    name: &'f str,
}

impl<'f> Sent<'f> {
    fn open(folder: &Path, file: &'f PackedFile) -> Result<Self> {
        let path = folder.join(&file.name);
        let content = File::open(&path).map_err(|e| io_error("open", &path, &e))?;
        Ok(Self { content, size: file.bytes.bytes(), name: &file.name })
    }

    fn beside(&self) -> Beside<'_> {
        Beside { file: &self.content, size: self.size, name: self.name }
    }

    /// Where it goes, the first file of a pack to the very place that was named.
    fn place(&self, location: &Location, index: usize) -> Result<Location> {
        Ok(match (index, location.is_folder()) {
            (_, true) => location.child(self.name)?,
            (0, false) => location.clone(),
            (_, false) => location.sibling(self.name)?,
        })
    }
}

/// Where a pack lies until it is sent.
enum Folder<'p> {
    /// Gone afterwards, whatever happens.
    Passing(tine_store::Staging<'p>),
    /// There until it is sent to a store.
    Kept(Outgoing),
}

impl<'p> Folder<'p> {
    fn new(pool: &'p Pool, request: &PushImage, target: &Target, wait: Duration) -> Result<Self> {
        if let Some(store) = target.store() {
            // not of another image that has had the tag
            let image = pool.image_info(&request.pack.tag)?.id;
            if let Some(kept) = Outgoing::open(pool, &(store, &request.pack, image), wait)? {
                return Ok(Self::Kept(kept));
            }
        }
        Ok(Self::Passing(pool.stage()?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Passing(staging) => staging.path(),
            Self::Kept(kept) => kept.path(),
        }
    }

    /// Packs the image, unless a push that was broken off has done so.
    fn pack(&self, engine: &LocalEngine, request: &PushImage, reporter: &dyn Reporter) -> Result<PackReport> {
        let Self::Kept(kept) = self else { return self.packed(engine, request, reporter) };
        if let Some(report) = kept.whole()? {
            reporter.note("going on with the pack of a push that was broken off");
            return Ok(report);
        }
        let report = self.packed(engine, request, reporter)?;
        kept.keep(&report)?;
        Ok(report)
    }

    fn packed(
        &self,
        engine: &LocalEngine,
        request: &PushImage,
        reporter: &dyn Reporter,
    ) -> Result<PackReport> {
        pack::run(engine, &request.pack, &pack::Output::Pool(self), reporter)
    }

    /// Where to write down what of a file a store has got.
    fn journal(&self, to: &Location) -> Option<PathBuf> {
        match self {
            Self::Passing(_) => None,
            Self::Kept(kept) => Some(kept.path().join(journal_of(to))),
        }
    }

    /// After a push, or what has ended it.
    fn end(self, error: Option<ErrorCode>) {
        if let Self::Kept(kept) = self
            && !error.is_some_and(goes_on)
        {
            kept.discard();
        }
    }
}

/// Whether the next push can go on: not where the target or the image was refused.
fn goes_on(code: ErrorCode) -> bool {
    use ErrorCode::{Busy, Cancelled, Forbidden, Internal, Unauthorized, Unreachable};
    // credentials may have run out meanwhile
    matches!(code, Unreachable | Cancelled | Unauthorized | Forbidden | Busy | Internal)
}

impl NewFiles for Folder<'_> {
    fn create(&self, name: &str) -> Result<File> {
        create_new(&self.path().join(Path::new(name).file_name().unwrap_or_default()))
    }
}
