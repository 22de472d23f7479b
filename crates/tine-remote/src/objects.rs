//! Small objects of a store: read with what tells their contents apart, written only over what was read, deleted, listed.
//!
//! Two who change an object at once must not lose what either wrote. Stores have no locks; they can refuse a write whose object
//! is not what the writer has seen (S3's `If-Match` and `If-None-Match`, Google's `x-goog-if-generation-match`, Azure's `If-Match`).
//! Servers that do not know these conditions ignore them without a word, so that they have to be tried: see
//! [`Remote::check_conditions`].

use crate::{
    error::{RemoteError, Result, chain, cleaned},
    location::{Location, Scheme},
    remote::{Core, Remote, absent},
    retry::{Fault, Tries, retrying},
    source::{Bucket, Part, Source, bucket, store_fault},
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    Attribute, Attributes, Error as StoreError, GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutOptions,
    UpdateVersion, path::Path as Key,
};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc, time::Duration};
use tine_model::{Reporter, Sha256Digest};

/// More objects than this are not listed.
const LISTED_MAX: usize = 100_000;
/// How often the reporter of a long read is asked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What tells one content of an object from the next. Of use only for the object that it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectTag {
    etag: Option<String>,
    /// What Google's store goes by instead.
    version: Option<String>,
}

/// What an object must be for a write of it to happen.
#[derive(Debug, Clone, Copy)]
pub enum Over<'t> {
    /// Anything, or nothing.
    Anything,
    /// Nothing: there must be no such object.
    Nothing,
    /// The content that has this tag.
    Tagged(&'t ObjectTag),
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name below the folder that was listed; whatever its writer chose.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// An object of a store, and how to ask for it.
struct Object<'a> {
    core: &'a Arc<Core>,
    location: &'a Location,
    bucket: Arc<dyn Bucket>,
    key: Key,
}

impl Remote {
    /// Fetches a small object whole, with its tag; none when it does not exist.
    ///
    /// # Errors
    /// [`RemoteError::TooLarge`] beyond `max_bytes`, of which no more is read; [`RemoteError::Location`] for what is in no store;
    /// those of the store and the network, after the configured retries or deadline.
    pub fn fetch_object(&self, location: &Location, max_bytes: u64) -> Result<Option<(Bytes, ObjectTag)>> {
        let object = Object::new(&self.core, location)?;
        let work = retrying(&self.core.config, || object.get(max_bytes));
        self.in_time(location, work).map_or_else(absent, |found| Ok(Some(found)))
    }

    /// Writes a small object if it is what `over` says; durable when this returns. What a browser asks before it uses its own
    /// copy is set: documents like these change.
    ///
    /// # Errors
    /// [`RemoteError::Conflict`] when the object is something else, and stays so; [`RemoteError::Unsupported`] from a store that
    /// says it knows no conditions; those of the store and the network.
    pub fn put_object(&self, location: &Location, bytes: &Bytes, over: Over<'_>) -> Result<()> {
        let object = Object::new(&self.core, location)?;
        self.in_time(location, object.put_surely(bytes, over))
    }

    /// Makes sure that the store refuses a write whose condition does not hold, by trying two on an object that exists and has
    /// the content `bytes`, which it keeps even where conditions are ignored.
    ///
    /// # Errors
    /// [`RemoteError::Unsupported`] when one of them is taken; those of the store and the network.
    pub fn check_conditions(&self, location: &Location, bytes: &Bytes) -> Result<()> {
        let object = Object::new(&self.core, location)?;
        // no store gives these: an MD5 in hexadecimal, a time in microseconds
        let nobodys =
            ObjectTag { etag: Some(format!("\"{}\"", "0".repeat(32))), version: Some("1".to_owned()) };
        for over in [Over::Nothing, Over::Tagged(&nobodys)] {
            let put = retrying(&self.core.config, || object.put(bytes, over));
            match self.in_time(location, put) {
                Err(RemoteError::Conflict { .. }) => {}
                Err(other) => return Err(other),
                Ok(()) => return Err(unconditional(location, "it ignores If-Match or If-None-Match")),
            }
        }
        Ok(())
    }

    /// Deletes an object; nothing happens when there is none.
    ///
    /// # Errors
    /// Those of the store and the network.
    pub fn delete_object(&self, location: &Location) -> Result<()> {
        let object = Object::new(&self.core, location)?;
        let work = retrying(&self.core.config, || async {
            object.patiently(object.bucket.delete(&object.key)).await
        });
        self.in_time(location, work).map_or_else(absent, |()| Ok(Some(()))).map(drop)
    }

    /// Every object below a folder of a store, in order.
    ///
    /// # Errors
    /// [`RemoteError::TooLarge`] for more than 100 000 of them; those of the store and the network.
    pub fn list_objects(&self, folder: &Location) -> Result<Vec<Listed>> {
        let object = Object::new(&self.core, folder)?;
        let work = retrying(&self.core.config, || object.list());
        let mut found = self.runtime.block_on(work).map_err(|fault| fault.into_error(folder))?;
        found.sort();
        Ok(found)
    }

    /// Reads a file to its end, going on where the server breaks off, for its length and digest; none when it does not exist.
    /// Stops within 200 ms of the reporter's wish.
    ///
    /// # Errors
    /// Those of the server and the network, [`RemoteError::Cancelled`].
    pub fn digest(
        &self,
        location: &Location,
        reporter: &dyn Reporter,
    ) -> Result<Option<(u64, Sha256Digest)>> {
        let core = &self.core;
        let read = self.runtime.block_on(async {
            tokio::select! {
                read = digest(core, location) => read.map_err(|fault| fault.into_error(location)),
                () = unwanted(reporter) => Err(RemoteError::Cancelled),
            }
        });
        read.map_or_else(absent, |found| Ok(Some(found)))
    }
}

impl<'a> Object<'a> {
    fn new(core: &'a Arc<Core>, location: &'a Location) -> Result<Self> {
        if !location.is_in_a_store() {
            return Err(RemoteError::location(location, "it is in no bucket: s3, gs or az".to_owned()));
        }
        let (bucket, key) = bucket(core, location)?;
        Ok(Self { core, location, bucket, key })
    }

    async fn get(&self, max: u64) -> Result<(Bytes, ObjectTag), Fault> {
        let got = self.patiently(self.bucket.get_opts(&self.key, GetOptions::default())).await?;
        let too_large = || Fault::from(RemoteError::too_large(self.location, max));
        if got.meta.size > max {
            return Err(too_large());
        }
        let (size, tag) = (got.meta.size, ObjectTag::of(&got.meta));
        let (mut body, mut all) = (got.into_stream(), BytesMut::new());
        while let Some(chunk) = self.patiently(async { body.next().await.transpose() }).await? {
            if (all.len() as u64).saturating_add(chunk.len() as u64) > max {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
        }
        if all.len() as u64 == size {
            return Ok((all.freeze(), tag));
        }
        Err(Fault::passing(RemoteError::unreachable(self.location, "the store broke off")))
    }

    /// Puts, and finds out what became of it where the answer was lost or is of a second try of one that was heard.
    async fn put_surely(&self, bytes: &Bytes, over: Over<'_>) -> Result<(), Fault> {
        let mut tries = Tries::new(&self.core.config);
        loop {
            let fault = match self.put(bytes, over).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let unclear = matches!(fault, Fault::Passing { .. } | Fault::Final(RemoteError::Conflict { .. }));
            if unclear && self.holds(bytes).await {
                return Ok(());
            }
            tries.again(fault).await?;
        }
    }

    async fn holds(&self, bytes: &Bytes) -> bool {
        self.get(bytes.len() as u64).await.is_ok_and(|(there, _)| there == *bytes)
    }

    async fn put(&self, bytes: &Bytes, over: Over<'_>) -> Result<(), Fault> {
        let mode = match over {
            Over::Anything => PutMode::Overwrite,
            Over::Nothing => PutMode::Create,
            Over::Tagged(tag) => PutMode::Update(tag.condition()),
        };
        let options = PutOptions { mode, attributes: self.attributes(), ..PutOptions::default() };
        let putting = self.bucket.put_opts(&self.key, bytes.clone().into(), options);
        match tokio::time::timeout(self.core.config.idle_timeout * 2, putting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn refused(&self, error: StoreError) -> Fault {
        match error {
            StoreError::Precondition { .. } | StoreError::AlreadyExists { .. } => {
                Fault::Final(RemoteError::Conflict { shown: self.location.to_string() })
            }
            StoreError::NotImplemented { .. } => Fault::Final(unconditional(self.location, &chain(&error))),
            // the status is only in the text
            StoreError::Generic { .. } if chain(&error).contains("status code: 501") => {
                Fault::Final(unconditional(self.location, &chain(&error)))
            }
            other => store_fault(self.location, other),
        }
    }

    fn attributes(&self) -> Attributes {
        let kind = match Path::new(self.key.as_ref()).extension().and_then(|ending| ending.to_str()) {
            Some("json") => "application/json",
            _ => "text/plain",
        };
        [(Attribute::ContentType, kind), (Attribute::CacheControl, "no-cache")].into_iter().collect()
    }

    async fn list(&self) -> Result<Vec<Listed>, Fault> {
        let prefix = format!("{}/", self.key);
        let too_many =
            || RemoteError::refused(self.location, format!("it has more than {LISTED_MAX} objects"));
        let mut listing = self.bucket.list(Some(&self.key));
        let mut found = Vec::new();
        while let Some(meta) = self.patiently(listing.try_next()).await? {
            if found.len() == LISTED_MAX {
                return Err(too_many().into());
            }
            if let Some(name) = meta.location.as_ref().strip_prefix(&prefix) {
                found.push(Listed { name: name.to_owned(), size: meta.size });
            }
        }
        Ok(found)
    }

    async fn patiently<T>(&self, asking: impl Future<Output = object_store::Result<T>>) -> Result<T, Fault> {
        // the store tries twice by itself
        match tokio::time::timeout(self.core.config.idle_timeout * 2, asking).await {
            Ok(answer) => answer.map_err(|e| store_fault(self.location, e)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> Fault {
        Fault::passing(RemoteError::unreachable(self.location, "the store is silent"))
    }
}

impl ObjectTag {
    fn of(meta: &ObjectMeta) -> Self {
        Self { etag: meta.e_tag.clone(), version: meta.version.clone() }
    }

    fn condition(&self) -> UpdateVersion {
        UpdateVersion { e_tag: self.etag.clone(), version: self.version.clone() }
    }
}

fn unconditional(location: &Location, why: &str) -> RemoteError {
    RemoteError::Unsupported { shown: location.to_string(), why: cleaned(why) }
}

/// Reads range after range until all of it was seen.
async fn digest(core: &Arc<Core>, location: &Location) -> Result<(u64, Sha256Digest), Fault> {
    let (source, _) = Source::connect(core, location).await?;
    let head = retrying(&core.config, || source.head()).await?;
    let Some(size) = head.size else {
        return Err(RemoteError::refused(location, "the server does not tell its length").into());
    };
    let (mut hasher, mut at, mut version) = (Sha256::new(), 0, None);
    let mut tries = Tries::new(&core.config);
    while at < size {
        let before = at;
        let read = async {
            let mut reply = source.get(Some(at..size), version.as_ref()).await?;
            if !matches!(&reply.part, Part::Range { range, total } if range.start == at && *total == size) {
                return Err(Fault::Changed);
            }
            version = Some(reply.version.clone());
            while let Some(chunk) = reply.body.next().await {
                let chunk = chunk?;
                at += chunk.len() as u64;
                hasher.update(&chunk);
            }
            Ok(())
        };
        let fault = match read.await {
            Ok(()) => Fault::passing(RemoteError::unreachable(location, "the server broke off")),
            Err(fault) => fault,
        };
        if at > before {
            tries.gained();
        }
        if at < size {
            tries.again(fault).await?;
        }
    }
    if at > size {
        return Err(RemoteError::unexpected(location, "the server sends more than it announced").into());
    }
    Ok((size, Sha256Digest(hasher.finalize().into())))
}

/// Ends when the reporter wants no more.
async fn unwanted(reporter: &dyn Reporter) {
    while !reporter.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}

impl Location {
    /// True for an object of a store: `s3:`, `gs:`, `az:`.
    #[must_use]
    pub fn is_in_a_store(&self) -> bool {
        matches!(self.scheme(), Scheme::S3 | Scheme::Gs | Scheme::Az)
    }
}
