//! `push`: an image is packed, and sent to a URL or published at a hub.

use super::{hub as hubs, pack};
use crate::{LocalEngine, create_new, hub, io_error};
use std::{
    fs::File,
    path::{Path, PathBuf},
};
use tine_model::{
    AddToHub, ByteSize, NewFiles, PackReport, PackageRef, PushImage, PushReport, Reporter, Result,
};
use tine_remote::{Location, UploadRequest, Uploaded};
use tine_store::Pool;

/// What a pack is to those who keep a type with a file.
const MEDIA_TYPE: &str = "application/vnd.tine.pack.v1.tar+zstd";

pub fn run(engine: &LocalEngine, request: &PushImage, reporter: &dyn Reporter) -> Result<PushReport> {
    let pool = engine.pool()?;
    // refused before anything is packed
    let target = Target::of(engine, &pool, request)?;
    let folder = Folder::new(&pool)?;
    let report = pack::run(engine, &request.pack, &pack::Output::Pool(&folder), reporter)?;
    match target {
        Target::Url(location) => send(engine, &location, &folder, report, reporter),
        Target::Package(package) => {
            let file = folder.0.path().join(report.files.first().map_or("", |file| file.name.as_str()));
            let add = AddToHub {
                hub: request.hub.clone(),
                file: file.display().to_string(),
                package,
                description: None,
                recipe_path: request.recipe_path.clone(),
                password: request.pack.password.clone(),
            };
            let published = hubs::add(engine, &add, reporter)?;
            let package = PackageRef { package: published.package, version: Some(published.version) };
            let sent_bytes = ByteSize(report.files.iter().map(|file| file.bytes.bytes()).sum());
            let (place, reused_bytes) = (published.url, ByteSize(0));
            Ok(PushReport { pack: report, place, package: Some(package), sent_bytes, reused_bytes })
        }
    }
}

enum Target {
    Url(Location),
    Package(PackageRef),
}

impl Target {
    fn of(engine: &LocalEngine, pool: &Pool, request: &PushImage) -> Result<Self> {
        if request.target.contains("://") {
            return Ok(Self::Url(Location::parse(&request.target)?));
        }
        let package = request.target.parse()?;
        hub::folder(engine, pool, request.hub.as_deref())?;
        Ok(Self::Package(package))
    }
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
    let (mut sent, mut reused, mut place) = (0, 0, location.to_string());
    for (index, file) in report.files.iter().enumerate().rev() {
        let to = match (index, location.is_folder()) {
            (_, true) => location.child(&file.name)?,
            (0, false) => location.clone(),
            (_, false) => location.sibling(&file.name)?,
        };
        let path = folder.0.path().join(&file.name);
        let content = File::open(&path).map_err(|e| io_error("open", &path, &e))?;
        let request = UploadRequest {
            file: &content,
            size: file.bytes.bytes(),
            sha256: None,
            name: &file.name,
            content_type: MEDIA_TYPE,
            location: &to,
            journal: None,
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

/// Where a pack lies until it is sent; gone afterwards, whatever happens.
struct Folder<'p>(tine_store::Staging<'p>);

impl<'p> Folder<'p> {
    fn new(pool: &'p Pool) -> Result<Self> {
        Ok(Self(pool.stage()?))
    }
}

impl NewFiles for Folder<'_> {
    fn create(&self, name: &str) -> Result<File> {
        let path: PathBuf = self.0.path().join(Path::new(name).file_name().unwrap_or_default());
        create_new(&path)
    }
}
