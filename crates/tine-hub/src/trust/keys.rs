//! The keys of one user or host: those that sign, and those that are trusted.
//!
//! A directory that only its owner may enter: `keys.json` with every public key, `NAME.key` with the secret half of
//! those made here, in the form of the `minisign` tool. A key made here is trusted. A revoked key stays in the
//! list, so that it is known when it turns up again.

use super::{
    document::{FORMAT, KeyRecord, MAX_BYTES, Ring, key_id, public_key},
    signature::{self, VerifiedBy},
};
use crate::{
    durable,
    error::{HubError, Result, at},
};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use std::{
    fs,
    io::{self, Cursor},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{Error, ErrorCode, KeyId, KeyInfo, KeyName, KeyRef, Timestamp};

const RING: &str = "keys.json";
const MAX_SECRET: u64 = 4096;
/// The most that the format's own tools take.
const MAX_PASSWORD: usize = 1024;
/// Longer than a comment that fits in a signature's file beside others.
const MAX_COMMENT: usize = 1024;
const WAIT: Duration = Duration::from_secs(10);

/// The keys in one directory.
#[derive(Debug, Clone)]
pub struct KeyStore {
    dir: PathBuf,
}

/// What a look at a signature has found.
pub(super) enum Finding {
    Verified(VerifiedBy),
    /// Right, but by a key that is trusted no more.
    Revoked(KeyName, KeyId),
    /// By a key that is not known here.
    Unknown(KeyId),
    /// By a known key, and not of these bytes.
    Wrong(KeyName, KeyId),
    Malformed(String),
}

impl KeyStore {
    /// The keys in `dir`, which is made when the first one is written.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes a key pair; its secret half is encrypted when there is a password.
    ///
    /// # Errors
    /// `already_exists` for a taken name, `usage` for an empty or absurdly long password.
    pub fn generate(&self, name: &KeyName, password: Option<&str>) -> Result<KeyInfo> {
        let pair = new_pair(password)?;
        let secret = pair.sk.to_box(Some(&format!("secret key {name}"))).map_err(failed("write a key"))?;
        let _lock = self.lock()?;
        let mut ring = self.ring()?;
        if let Some(objection) = ring.objection(name, &pair.pk) {
            return Err(objection);
        }
        // the ring last: a secret key that no one knows of is overwritten by the next of its name
        durable::write(&self.dir, &secret_name(name), 0o600, secret.into_string().as_bytes())?;
        self.insert(&mut ring, name, &pair.pk)
    }

    /// Every key, by name, revoked ones included.
    ///
    /// # Errors
    /// `corrupt`, or when the directory may be written by others.
    pub fn list(&self) -> Result<Vec<KeyInfo>> {
        let mut keys: Vec<_> = self.ring()?.keys.iter().map(|record| self.info(record)).collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// Trusts a public key, given as the content of a minisign `.pub` file or as its line of base64.
    ///
    /// # Errors
    /// `untrusted` for a key that was revoked, also under another id or name; `already_exists` for a taken name, or
    /// a key with the id of one that is trusted; `invalid_input` for what is no public key.
    pub fn trust(&self, name: &KeyName, public: &str) -> Result<KeyInfo> {
        let key = public_key(public)?;
        let _lock = self.lock()?;
        let mut ring = self.ring()?;
        if let Some(there) = ring.find(&KeyRef::Name(name.clone()))
            && there.public_key == key.to_base64()
            && there.revoked_at.is_none()
        {
            return Ok(self.info(there));
        }
        if let Some(objection) = ring.objection(name, &key) {
            return Err(objection);
        }
        self.remove_orphan(name)?;
        self.insert(&mut ring, name, &key)
    }

    /// Trusts a key no more, for good. What it has signed is no longer taken as signed.
    ///
    /// # Errors
    /// `not_found`.
    pub fn revoke(&self, key: &KeyRef) -> Result<KeyInfo> {
        let _lock = self.lock()?;
        let mut ring = self.ring()?;
        let record = ring.find_mut(key).ok_or_else(|| no_key(key))?;
        record.revoked_at.get_or_insert_with(Timestamp::now);
        let info = self.info(record);
        durable::write_json(&self.dir, RING, 0o600, &ring)?;
        Ok(info)
    }

    /// What is known of one key.
    ///
    /// # Errors
    /// `not_found`.
    pub fn get(&self, key: &KeyRef) -> Result<KeyInfo> {
        self.ring()?.find(key).map(|record| self.info(record)).ok_or_else(|| no_key(key))
    }

    /// Makes a secret key ready to sign.
    ///
    /// # Errors
    /// `not_found` when it is not here, `untrusted` when it is revoked, `unauthorized` when it needs a password or
    /// this is not it.
    pub fn unlock(&self, name: &KeyName, password: Option<&str>) -> Result<Signer> {
        let key = KeyRef::Name(name.clone());
        let record = self.ring()?.find(&key).cloned().ok_or_else(|| no_key(&key))?;
        if let Some(at) = record.revoked_at {
            return Err(HubError::untrusted(format!(
                "the key {name} was revoked at {at} and signs nothing more"
            )));
        }
        let path = self.dir.join(secret_name(name));
        let text = durable::read(&path, MAX_SECRET)?.ok_or_else(|| HubError::NotFound {
            message: format!("the secret half of the key {name} is not here"),
            hint: Some("tine key list".to_owned()),
        })?;
        let secret = open_secret(name, &path, &text, password)?;
        let public = PublicKey::from_secret_key(&secret).map_err(failed("read a key"))?;
        if public.to_base64() != record.public_key {
            return Err(HubError::corrupt(
                path.display().to_string(),
                "it is the secret half of another key",
            ));
        }
        Ok(Signer { key_id: record.key_id, secret })
    }

    /// Signs `bytes`; the answer is the text of a minisign signature.
    ///
    /// # Errors
    /// As [`Self::unlock`] and [`Signer::sign`].
    pub fn sign(
        &self,
        name: &KeyName,
        password: Option<&str>,
        bytes: &[u8],
        trusted_comment: &str,
    ) -> Result<String> {
        self.unlock(name, password)?.sign(bytes, trusted_comment)
    }

    /// Tells which trusted key has signed `bytes`.
    ///
    /// # Errors
    /// `untrusted` when none has: each reason has its own message.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<VerifiedBy> {
        match self.examine(bytes, signature)? {
            Finding::Verified(by) => Ok(by),
            other => Err(other.refusal("the data")),
        }
    }

    /// Looks at each signature in turn; the first that a trusted key has made counts, else what was found first.
    pub(super) fn examine(&self, bytes: &[u8], text: &str) -> Result<Finding> {
        let signatures = match signature::parse(text) {
            Ok(signatures) => signatures,
            Err(why) => return Ok(Finding::Malformed(why)),
        };
        let ring = self.ring()?;
        let mut first = None;
        for signature in &signatures {
            match examine_one(&ring, bytes, signature)? {
                found @ Finding::Verified(_) => return Ok(found),
                found => drop(first.get_or_insert(found)),
            }
        }
        Ok(first.unwrap_or_else(|| Finding::Malformed("it is empty".to_owned())))
    }

    fn ring(&self) -> Result<Ring> {
        self.check_owner()?;
        let path = self.dir.join(RING);
        match durable::read_json::<Ring>(&path, MAX_BYTES)? {
            None => Ok(Ring::empty()),
            Some(ring) if ring.format == FORMAT => Ok(ring),
            Some(ring) => {
                Err(HubError::Incompatible(format!("{} has format {}", path.display(), ring.format)))
            }
        }
    }

    /// Whoever may write the directory decides what is trusted.
    fn check_owner(&self) -> Result<()> {
        match fs::metadata(&self.dir) {
            Ok(stat) if stat.mode() & 0o022 != 0 => Err(HubError::Untrusted {
                message: format!("the keys in {} may be changed by other users", self.dir.display()),
                hint: Some(format!("chmod go-w {}", self.dir.display())),
            }),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("stat", &self.dir)(e)),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> Result<tine_sys::lock::FileLock> {
        durable::make_dir(&self.dir, 0o700)?;
        durable::lock(&self.dir, WAIT)
    }

    fn insert(&self, ring: &mut Ring, name: &KeyName, key: &PublicKey) -> Result<KeyInfo> {
        let record = KeyRecord {
            name: name.clone(),
            key_id: key_id(key)?,
            public_key: key.to_base64(),
            added_at: Timestamp::now(),
            revoked_at: None,
        };
        ring.keys.push(record.clone());
        durable::write_json(&self.dir, RING, 0o600, ring)?;
        Ok(self.info(&record))
    }

    /// A secret key whose making was broken off is of another key than the one that gets its name.
    fn remove_orphan(&self, name: &KeyName) -> Result<()> {
        let path = self.dir.join(secret_name(name));
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    fn info(&self, record: &KeyRecord) -> KeyInfo {
        KeyInfo {
            name: record.name.clone(),
            key_id: record.key_id,
            public_key: record.public_key.clone(),
            can_sign: record.revoked_at.is_none() && self.dir.join(secret_name(&record.name)).is_file(),
            added_at: record.added_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// A secret key that is ready to sign.
pub struct Signer {
    key_id: KeyId,
    secret: SecretKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.key_id)
    }
}

impl Signer {
    /// The id that the signatures carry.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Signs `bytes` and a comment of one line; the answer is the text of a minisign signature.
    ///
    /// # Errors
    /// `usage` for a comment of more than 1024 bytes or with control characters.
    pub fn sign(&self, bytes: &[u8], trusted_comment: &str) -> Result<String> {
        if trusted_comment.len() > MAX_COMMENT || trusted_comment.chars().any(char::is_control) {
            let message = format!("the comment of a signature is one line of at most {MAX_COMMENT} bytes");
            return Err(HubError::Usage(message));
        }
        let untrusted = format!("signature from key {}", self.key_id);
        // the reader takes blanks off the ends, and what it verifies is what is left
        let (comment, data) = (trusted_comment.trim(), Cursor::new(bytes));
        let signed = minisign::sign(None, &self.secret, data, Some(comment), Some(&untrusted));
        Ok(signed.map_err(failed("sign"))?.into_string())
    }
}

impl Finding {
    /// Why something is not taken as signed. `what` leads the sentence, as `the registry …`.
    pub(super) fn refusal(&self, what: &str) -> HubError {
        let trust = "tine key trust NAME PUBLIC_KEY_FILE".to_owned();
        let message = self.reason(what);
        let hint = matches!(self, Self::Unknown(_)).then_some(trust);
        HubError::Untrusted { message, hint }
    }

    pub(super) fn reason(&self, what: &str) -> String {
        match self {
            Self::Verified(by) => format!("{what} is signed by {}", by.name),
            Self::Revoked(name, id) => {
                format!("{what} is signed by the key {id} ({name}), which was revoked")
            }
            Self::Unknown(id) => format!("{what} is signed by the key {id}, which is not trusted here"),
            Self::Wrong(name, id) => {
                format!("{what} is not what the key {id} ({name}) signed: the signature does not verify")
            }
            Self::Malformed(why) => format!("the signature of {what} can't be read: {why}"),
        }
    }
}

fn examine_one(ring: &Ring, bytes: &[u8], signature: &signature::Signature) -> Result<Finding> {
    let id = signature.key_id;
    let Some(record) = ring.find(&KeyRef::Id(id)) else { return Ok(Finding::Unknown(id)) };
    let key = public_key(&record.public_key)?;
    let name = record.name.clone();
    if minisign::verify(&key, &signature.parsed, Cursor::new(bytes), true, false, false).is_err() {
        return Ok(Finding::Wrong(name, id));
    }
    if record.revoked_at.is_some() {
        return Ok(Finding::Revoked(name, id));
    }
    let trusted_comment = signature.trusted_comment.clone();
    Ok(Finding::Verified(VerifiedBy { name, key_id: id, trusted_comment }))
}

fn new_pair(password: Option<&str>) -> Result<KeyPair> {
    let pair = match password {
        // with an empty one the library would write a key that says it is encrypted, and is not
        Some("") => return Err(HubError::Usage("an empty password protects nothing".to_owned())),
        Some(long) if long.len() > MAX_PASSWORD => {
            return Err(HubError::Usage(format!("a password is at most {MAX_PASSWORD} bytes")));
        }
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    pair.map_err(failed("make a key"))
}

/// Never calls the library without a password where it would ask for one on the terminal.
fn open_secret(name: &KeyName, path: &Path, text: &[u8], password: Option<&str>) -> Result<SecretKey> {
    let corrupt = || HubError::corrupt(path.display().to_string(), "no secret key");
    let text = String::from_utf8(text.to_vec()).map_err(|_| corrupt())?;
    let boxed = SecretKeyBox::from(text);
    if let Ok(secret) = boxed.clone().into_unencrypted_secret_key() {
        return Ok(secret);
    }
    let denied = |why: &str| Error::new(ErrorCode::Unauthorized, format!("the secret key {name} {why}"));
    let password = password.ok_or_else(|| denied("needs its password"))?;
    let opened = boxed.into_secret_key(Some(password.to_owned()));
    opened.map_err(|e| match e.kind() {
        minisign::ErrorKind::Verify => HubError::Other(denied("has another password")),
        _ => corrupt(),
    })
}

fn secret_name(name: &KeyName) -> String {
    format!("{name}.key")
}

fn no_key(key: &KeyRef) -> HubError {
    HubError::NotFound { message: format!("there is no key {key}"), hint: Some("tine key list".to_owned()) }
}

fn failed(doing: &'static str) -> impl FnOnce(minisign::PError) -> HubError {
    move |error| HubError::Other(Error::new(ErrorCode::Internal, format!("{doing}: {error}")))
}

#[cfg(test)]
mod tests;
