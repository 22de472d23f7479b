//! A hub's files in a bucket: what the crate of hubs asks of a place, by means of the crate of transfers.

use crate::io_error;
use sha2::{Digest as _, Sha256};
use std::{
    cell::Cell,
    convert::Infallible,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_hub::{
    Content, HubError, HubStorage, HubUrl, Over, SETTINGS, Small, StoredFile, content_of, is_hub_file,
};
use tine_model::{Error, ErrorCode, Reporter, Result, Sha256Digest};
use tine_remote::{Location, ObjectTag, Remote, RemoteError, UploadRequest, Uploaded};

/// What a pack, or what belongs beside it, is to those who keep a type with a file.
const MEDIA_TYPE: &str = "application/zstd";
/// More than a hub's settings have.
const SETTINGS_MAX: u64 = 1 << 20;

/// A folder of a bucket.
pub struct BucketStorage<'r> {
    remote: Remote,
    /// Its URL without a closing slash.
    folder: String,
    /// Where the journals of broken uploads lie.
    uploads: PathBuf,
    reporter: &'r dyn Reporter,
    moved: Cell<Moved>,
}

/// Bytes of files that went to a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// Those that were sent.
    pub sent: u64,
    /// Those of broken uploads, which were there.
    pub reused: u64,
}

impl<'r> BucketStorage<'r> {
    /// The folder that a hub's registry lies in. Asks nothing yet.
    pub fn new(remote: Remote, hub: &HubUrl, uploads: PathBuf, reporter: &'r dyn Reporter) -> Result<Self> {
        let folder = hub.registry().strip_suffix("/registry.json").ok_or_else(|| {
            let message = format!("a hub is kept in a folder of a bucket, and {hub} names a file");
            Error::new(ErrorCode::Usage, message).hint("--hub s3://BUCKET/FOLDER")
        })?;
        Ok(Self { remote, folder: folder.to_owned(), uploads, reporter, moved: Cell::default() })
    }

    /// What has gone there until now.
    pub fn moved(&self) -> Moved {
        self.moved.get()
    }

    fn at(&self, name: &str) -> Result<Location, HubError> {
        if !is_hub_file(name.trim_end_matches('/')) {
            return Err(HubError::Invalid(format!("{name:?} is no name of a hub's file")));
        }
        Location::parse(&format!("{}/{name}", self.folder)).map_err(other)
    }

    fn failed(&self, error: RemoteError) -> HubError {
        match error {
            RemoteError::Conflict { .. } => HubError::Conflict(format!("the hub in {}", self.folder)),
            error => other(error),
        }
    }

    /// A small object needs nothing but its bucket.
    fn unwritten(&self, error: RemoteError) -> HubError {
        if !matches!(error, RemoteError::NotFound { .. }) {
            return self.failed(error);
        }
        let message = format!("the bucket of the hub {} does not exist", self.folder);
        Error::new(error.code(), message).hint("make the bucket first, with its provider's own tool").into()
    }

    /// As [`Remote::check_conditions`], on an object that is there for it alone.
    fn try_conditions(&self) -> Result<(), HubError> {
        let at = self.at(&format!("trial-{:016x}", RandomState::new().hash_one(())))?;
        let bytes = "a hub is tried out here; this may be deleted\n".into();
        let made = self.remote.put_object(&at, &bytes, tine_remote::Over::Anything);
        let tried = made.and_then(|()| self.remote.check_conditions(&at, &bytes));
        let deleted = self.remote.delete_object(&at);
        tried.and(deleted).map_err(|error| self.unwritten(error))
    }

    fn upload(&self, at: &Location, name: &str, file: &File, content: Content) -> Result<(), HubError> {
        let file_name = name.rsplit('/').next().unwrap_or(name);
        let request = UploadRequest {
            file,
            size: content.size_bytes,
            sha256: Some(content.sha256),
            name: file_name,
            content_type: MEDIA_TYPE,
            location: at,
            journal: Some(&self.uploads.join(journal_of(at))),
            beside: &[],
        };
        let Uploaded { sent, reused, .. } =
            self.remote.upload(request, self.reporter).map_err(|error| self.failed(error))?;
        let before = self.moved.get();
        self.moved.set(Moved { sent: before.sent + sent, reused: before.reused + reused });
        Ok(())
    }
}

impl HubStorage for BucketStorage<'_> {
    type Lock = Infallible;
    type Tag = ObjectTag;

    fn lock(&self, _: Duration) -> Result<Option<Infallible>, HubError> {
        match self.read(SETTINGS, SETTINGS_MAX)? {
            None => self.try_conditions()?,
            Some(there) => self
                .remote
                .check_conditions(&self.at(SETTINGS)?, &there.bytes.into())
                .map_err(|error| self.failed(error))?,
        }
        Ok(None)
    }

    fn read(&self, name: &str, max: u64) -> Result<Option<Small<ObjectTag>>, HubError> {
        let there = self.remote.fetch_object(&self.at(name)?, max).map_err(other)?;
        Ok(there.map(|(bytes, tag)| Small { bytes: bytes.into(), tag }))
    }

    fn write(&self, name: &str, bytes: &[u8], over: Over<'_, ObjectTag>) -> Result<(), HubError> {
        let over = match over {
            Over::Anything => tine_remote::Over::Anything,
            Over::Nothing => tine_remote::Over::Nothing,
            Over::Tagged(tag) => tine_remote::Over::Tagged(tag),
        };
        let put = self.remote.put_object(&self.at(name)?, &bytes.to_vec().into(), over);
        put.map_err(|error| self.unwritten(error))
    }

    fn put_file(&self, name: &str, source: &Path) -> Result<Content, HubError> {
        let at = self.at(name)?;
        let file = File::open(source).map_err(|e| io_error("open", source, &e))?;
        let before = state_of(source)?;
        let content = content_of(source, &|| self.reporter.is_cancelled())?;
        self.upload(&at, name, &file, content)?;
        if state_of(source)? == before {
            return Ok(content);
        }
        self.delete(name)?;
        Err(HubError::Invalid(format!("{} was changed while it was sent", source.display())))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, HubError> {
        Ok(self.remote.head(&self.at(name)?).map_err(other)?.and_then(|head| head.size))
    }

    fn content(&self, name: &str) -> Result<Option<Content>, HubError> {
        let at = self.at(name)?;
        self.reporter.step(&format!("reading {at}"), None);
        let there = self.remote.digest(&at, self.reporter).map_err(other)?;
        Ok(there.map(|(size_bytes, sha256)| Content { size_bytes, sha256 }))
    }

    fn delete(&self, name: &str) -> Result<(), HubError> {
        self.remote.delete_object(&self.at(name)?).map_err(other)
    }

    fn list(&self, prefix: &str) -> Result<Vec<StoredFile>, HubError> {
        let found = self.remote.list_objects(&self.at(prefix)?).map_err(other)?;
        let file = |listed: tine_remote::Listed| StoredFile {
            name: format!("{prefix}{}", listed.name),
            size_bytes: listed.size,
        };
        Ok(found.into_iter().map(file).collect())
    }

    fn place(&self) -> String {
        self.folder.clone()
    }

    fn is_cancelled(&self) -> bool {
        self.reporter.is_cancelled()
    }
}

fn other(error: RemoteError) -> HubError {
    HubError::Other(error.into())
}

/// What changes when somebody else changes a file: which it is, its length, the times of its changes.
fn state_of(path: &Path) -> Result<[i128; 7]> {
    let meta = fs::metadata(path).map_err(|e| io_error("stat", path, &e))?;
    let (dev, inode, length) = (meta.dev().into(), meta.ino().into(), meta.len().into());
    let [mtime, mtime_nsec, ctime, ctime_nsec] =
        [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()].map(i128::from);
    Ok([dev, inode, length, mtime, mtime_nsec, ctime, ctime_nsec])
}

/// The name of the journal of an upload to that place, always the same.
pub fn journal_of(at: &Location) -> String {
    let place: [u8; 32] = Sha256::digest(at.to_string()).into();
    format!("{:.32}.parts", Sha256Digest(place).to_string())
}
