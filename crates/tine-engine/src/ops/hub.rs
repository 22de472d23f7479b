//! `hub …`: keeping a hub in a folder or bucket, and looking at any.

use crate::{
    LocalEngine,
    bucket::Moved,
    hub::{self, Place},
    io_error,
    kept::Kept,
    trust,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_hub::{HubConfig, KeyStore, Listing, NewPack, PackFacts, Publisher};
use tine_model::{
    AddToHub, ByteSize, Error, ErrorCode, HubCheck, HubFault, HubPackage, InitHub, ListHub, PublishedPack,
    RemoveFromHub, Reporter, Result, Silent, Timestamp,
};
use tine_pack::{Manifest, Role, sidecar};

pub fn init(engine: &LocalEngine, request: &InitHub) -> Result<()> {
    let pool = engine.pool()?;
    let config = HubConfig {
        base_url: request.base_url.clone(),
        signing_key: request.sign.clone(),
        ..HubConfig::default()
    };
    let keys = trust::keys(&pool);
    let publisher = publisher(&keys, request.password.as_deref(), engine.config.wait);
    let place = Place::of(&request.folder)?;
    Kept::init(engine, &pool, place, config, (&publisher, &Silent)).map(drop)
}

pub fn add(engine: &LocalEngine, request: &AddToHub, reporter: &dyn Reporter) -> Result<PublishedPack> {
    publish(engine, request, reporter).map(|(published, _)| published)
}

/// As [`add`], with what went over the network; none where nothing does.
pub fn publish(
    engine: &LocalEngine,
    request: &AddToHub,
    reporter: &dyn Reporter,
) -> Result<(PublishedPack, Option<Moved>)> {
    let pool = engine.pool()?;
    let file = Path::new(&request.file);
    let (manifest, raw) = manifest_of(file)?;
    let place = Place::named(engine, &pool, request.hub.as_deref())?;
    let hub = Kept::open(engine, &pool, place, reporter)?;
    let sidecars = beside(file, &manifest)?;
    let pack = NewPack {
        file,
        sidecars: &sidecars,
        package: &request.package.package,
        version: request.package.version.as_ref(),
        facts: facts(request, &manifest, &raw),
    };
    reporter.step(&format!("publishing {}", request.package), None);
    let keys = trust::keys(&pool);
    let publisher = publisher(&keys, request.password.as_deref(), engine.config.wait);
    let (published, moved) = hub.add(&pack, &publisher)?;
    let published = PublishedPack {
        package: request.package.package.clone(),
        version: published.version,
        unchanged: published.added == tine_hub::Added::Unchanged,
        url: published.entry.url,
        sha256: published.entry.sha256,
        size_bytes: published.entry.size_bytes.map(ByteSize),
    };
    Ok((published, moved))
}

fn facts(request: &AddToHub, manifest: &Manifest, raw: &[u8]) -> PackFacts {
    let memory = manifest.links.last().and_then(|link| link.file(Role::Memory));
    PackFacts {
        description: request.description.clone().or_else(|| manifest.description.clone()),
        memory_mib: memory.map(|memory| memory.size >> 20),
        base_image: manifest.base_image.clone(),
        recipe_path: request.recipe_path.clone(),
        release_tag: None,
        manifest_sha256: Some(trust::plain_digest(raw)),
    }
}

/// What must lie beside a pack.
fn beside(file: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let Some(rootfs) = &manifest.rootfs else { return Ok(Vec::new()) };
    let path = file.with_file_name(sidecar::name(&rootfs.sha256));
    if path.is_file() {
        return Ok(vec![path]);
    }
    let message = format!("the disk of the pack, {}, does not lie beside it", path.display());
    Err(Error::new(ErrorCode::NotFound, message))
}

/// The manifest of a pack and its bytes, which is all that is read of it.
fn manifest_of(file: &Path) -> Result<(Manifest, Vec<u8>)> {
    let mut input = File::open(file).map_err(|e| io_error("open", file, &e))?;
    if input.metadata().is_ok_and(|meta| meta.is_dir()) {
        let message = format!("{} is a directory, and no pack", file.display());
        return Err(Error::new(ErrorCode::InvalidInput, message));
    }
    tine_pack::manifest_of(&mut input).map_err(|error| Error::from(error).context(file.display()))
}

pub fn remove(engine: &LocalEngine, request: &RemoveFromHub) -> Result<()> {
    let pool = engine.pool()?;
    let place = Place::named(engine, &pool, request.hub.as_deref())?;
    let keys = trust::keys(&pool);
    let publisher = publisher(&keys, request.password.as_deref(), engine.config.wait);
    Kept::open(engine, &pool, place, &Silent)?.remove(&request.package, &publisher)
}

pub fn list(engine: &LocalEngine, request: &ListHub, reporter: &dyn Reporter) -> Result<Vec<HubPackage>> {
    let pool = engine.pool()?;
    let url = hub::url(engine, &pool, request.hub.as_deref())?;
    let registry = hub::registry(&pool, &engine.remote()?, &url, reporter)?;
    Ok(match &request.search {
        Some(text) => registry.search(text).into_iter().map(listed).collect(),
        None => registry.list().map(listed).collect(),
    })
}

fn listed(listing: Listing<'_>) -> HubPackage {
    HubPackage {
        package: listing.package.clone(),
        description: listing.description.map(str::to_owned),
        version: listing.version.cloned(),
        versions: listing.versions,
        size_bytes: listing.latest.size_bytes.map(ByteSize),
        memory_mib: listing.latest.memory_mib,
        created_at: listing.latest.created_at.clone(),
    }
}

pub fn verify(engine: &LocalEngine, hub: Option<&str>, reporter: &dyn Reporter) -> Result<HubCheck> {
    let pool = engine.pool()?;
    let place = Place::named(engine, &pool, hub)?;
    let report = Kept::open(engine, &pool, place, reporter)?.verify(&trust::keys(&pool))?;
    let problem = |problem: tine_hub::HubProblem| HubFault { what: problem.what, why: problem.why };
    Ok(HubCheck {
        packages: report.packages,
        versions: report.versions,
        files: report.files,
        bytes: ByteSize(report.bytes),
        elsewhere: report.elsewhere,
        problems: report.problems.into_iter().map(problem).collect(),
        unreferenced: report.unreferenced.into_iter().map(|file| file.name).collect(),
    })
}

pub fn default(engine: &LocalEngine, new: Option<&str>) -> Result<Option<String>> {
    let pool = engine.pool()?;
    if let Some(new) = new {
        hub::set_default(&pool, new)?;
    }
    match engine.config.hub.clone() {
        Some(configured) if new.is_none() => Ok(Some(configured)),
        _ => hub::default_of(&pool),
    }
}

fn publisher<'a>(keys: &'a KeyStore, password: Option<&'a str>, wait: Duration) -> Publisher<'a> {
    Publisher { keys: Some(keys), password, now: Timestamp::now(), wait }
}
