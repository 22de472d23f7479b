//! Which hub is meant, and its registry.

use crate::{LocalEngine, io_error, trust};
use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};
use tine_hub::{HubUrl, Registry, RegistryCheck};
use tine_model::{Error, ErrorCode, Reporter, Result, Timestamp};
use tine_remote::{Location, Remote};
use tine_store::Pool;

/// The most bytes of a registry's signature.
const SIGNATURE_MAX: u64 = 64 << 10;
/// The file that names the default hub.
const DEFAULT: &str = "default-hub";
const DEFAULT_MAX: usize = 4096;

/// The hub that is meant: the one named, that of the configuration, or the pool's default.
pub fn named(engine: &LocalEngine, pool: &Pool, hub: Option<&str>) -> Result<String> {
    if let Some(hub) = hub.or(engine.config.hub.as_deref()) {
        return Ok(hub.to_owned());
    }
    default_of(pool)?.ok_or_else(|| {
        Error::new(ErrorCode::Usage, "no hub is named, and there is no default one")
            .hint("--hub URL, TINE_HUB_URL, or: tine hub default URL")
    })
}

/// The URL of the hub that is meant; a path is a folder of this host.
pub fn url(engine: &LocalEngine, pool: &Pool, hub: Option<&str>) -> Result<HubUrl> {
    let name = named(engine, pool, hub)?;
    if name.contains("://") {
        return Ok(name.parse::<HubUrl>()?);
    }
    let path = fs::canonicalize(&name).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::new(ErrorCode::NotFound, format!("there is no hub at {name}"))
            .hint(format!("tine hub init {name}")),
        _ => io_error("open the hub", Path::new(&name), &e),
    })?;
    let text = url_of_folder(&path)?;
    Ok(text.parse::<HubUrl>()?)
}

fn url_of_folder(path: &Path) -> Result<String> {
    let odd = |_| Error::new(ErrorCode::InvalidPath, format!("{} is no folder", path.display()));
    Ok(url::Url::from_directory_path(path).map_err(odd)?.into())
}

/// The folder of the hub that is meant, which can be changed there.
pub fn folder(engine: &LocalEngine, pool: &Pool, hub: Option<&str>) -> Result<PathBuf> {
    let name = named(engine, pool, hub)?;
    if !name.contains("://") {
        return Ok(PathBuf::from(name));
    }
    let parsed = url::Url::parse(&name).ok().filter(|url| url.scheme() == "file");
    parsed.and_then(|url| url.to_file_path().ok()).ok_or_else(|| {
        let message = format!("the hub {name} can only be read; it is kept in a folder");
        Error::new(ErrorCode::Unsupported, message).hint("--hub DIR")
    })
}

/// Fetches a hub's registry, and takes or refuses it by what is asked of that hub.
pub fn registry(pool: &Pool, remote: &Remote, hub: &HubUrl, reporter: &dyn Reporter) -> Result<Registry> {
    reporter.step(&format!("reading {hub}"), None);
    let at = Location::parse(hub.registry())?;
    let bytes = remote.fetch_small(&at, Registry::MAX_BYTES)?.ok_or_else(|| {
        Error::new(ErrorCode::NotFound, format!("there is no registry at {hub}")).hint("--hub URL")
    })?;
    let signature = remote.fetch_small(&Location::parse(&hub.signature())?, SIGNATURE_MAX)?;
    let signature = signature.as_deref().map(std::str::from_utf8).transpose().map_err(|_| {
        Error::new(ErrorCode::InvalidInput, format!("the signature of the registry {hub} is not text"))
    })?;
    let check = RegistryCheck {
        policy: trust::policies(pool).policy_for(hub.registry())?,
        keys: &trust::keys(pool),
        seen: &trust::seen(pool),
        hub,
        now: Timestamp::now(),
    };
    let checked = check.check(&bytes, signature)?;
    checked.warnings.iter().for_each(|warning| reporter.note(warning));
    Ok(checked.registry)
}

/// The pool's default hub.
pub fn default_of(pool: &Pool) -> Result<Option<String>> {
    let path = pool.trust_dir().join(DEFAULT);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", &path, &e)),
    }
}

/// Names the pool's default hub. Durable on return.
pub fn set_default(pool: &Pool, hub: &str) -> Result<()> {
    if hub.len() > DEFAULT_MAX || hub.contains(char::is_control) {
        return Err(Error::new(ErrorCode::Usage, "that is no URL of a hub"));
    }
    let dir = pool.trust_dir();
    let (path, fresh) = (dir.join(DEFAULT), dir.join(format!(".{DEFAULT}.{}", std::process::id())));
    let write = || {
        fs::create_dir_all(&dir)?;
        let mut file = fs::File::create(&fresh)?;
        file.write_all(hub.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        fs::File::open(&dir)?.sync_all()
    };
    write().map_err(|e| io_error("write", &path, &e))
}
