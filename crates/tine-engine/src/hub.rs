//! Which hub is meant, and its registry.

use crate::{LocalEngine, io_error, trust};
use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};
use tine_hub::{HubError, HubUrl, Registry, RegistryCheck};
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

/// Where a hub is kept that can be changed.
pub enum Place {
    /// A folder of this host.
    Folder(PathBuf),
    /// A bucket.
    Bucket(HubUrl),
}

impl Place {
    /// Where the hub is that is meant.
    pub fn named(engine: &LocalEngine, pool: &Pool, hub: Option<&str>) -> Result<Self> {
        Self::of(&named(engine, pool, hub)?)
    }

    /// Where the hub of that name is: a path, a `file:` URL, or the URL of a bucket.
    pub fn of(name: &str) -> Result<Self> {
        if !name.contains("://") {
            return Ok(Self::Folder(PathBuf::from(name)));
        }
        let hub: HubUrl = name.parse()?;
        let parsed = url::Url::parse(name).ok();
        if parsed.as_ref().is_some_and(|url| matches!(url.scheme(), "s3" | "gs" | "az")) {
            return Ok(Self::Bucket(hub));
        }
        let path = parsed.filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
        path.map(Self::Folder).ok_or_else(|| {
            let message = format!("the hub {name} can only be read; it is kept in a folder or a bucket");
            Error::new(ErrorCode::Unsupported, message).hint("--hub DIR, or --hub s3://BUCKET/FOLDER")
        })
    }
}

/// Fetches a hub's registry, and takes or refuses it by what is asked of that hub.
pub fn registry(pool: &Pool, remote: &Remote, hub: &HubUrl, reporter: &dyn Reporter) -> Result<Registry> {
    reporter.step(&format!("reading {hub}"), None);
    let keys = trust::keys(pool);
    let seen = trust::seen(pool);
    let policy = trust::policies(pool).policy_for(hub.registry())?;
    let check = RegistryCheck { policy, keys: &keys, seen: &seen, hub, now: Timestamp::now() };
    let first = Served::fetch(remote, hub)?;
    let checked = match check.check(&first.registry, first.signature()?) {
        // it and its signature are two files, and may have come from before and after a change
        Err(error @ HubError::Untrusted { .. }) => {
            let again = Served::fetch(remote, hub)?;
            if again == first {
                return Err(error.into());
            }
            check.check(&again.registry, again.signature()?)?
        }
        checked => checked?,
    };
    checked.warnings.iter().for_each(|warning| reporter.note(warning));
    Ok(checked.registry)
}

/// The same error with a hint that works as it is typed: with the hub, where one was named.
pub fn hinting_at(hub: Option<&str>, error: Error) -> Error {
    match (hub, error.hint.clone()) {
        (Some(hub), Some(hint)) => error.hint(format!("{hint} --hub {hub}")),
        _ => error,
    }
}

/// A registry and its signature, as they came.
#[derive(PartialEq)]
struct Served {
    registry: Vec<u8>,
    signature: Option<Vec<u8>>,
}

impl Served {
    fn fetch(remote: &Remote, hub: &HubUrl) -> Result<Self> {
        let at = Location::parse(hub.registry())?;
        let registry = remote.fetch_small(&at, Registry::MAX_BYTES)?.ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("there is no registry at {hub}")).hint("--hub URL")
        })?;
        let signature = remote.fetch_small(&Location::parse(&hub.signature())?, SIGNATURE_MAX)?;
        Ok(Self { registry: registry.into(), signature: signature.map(Vec::from) })
    }

    fn signature(&self) -> Result<Option<&str>> {
        self.signature
            .as_deref()
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|_| Error::new(ErrorCode::InvalidInput, "the signature of the registry is not text"))
    }
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
