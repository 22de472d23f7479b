//! The stored form of keys: one file for all public ones, so that a reader never sees half a change.

use crate::error::{HubError, Result};
use minisign::PublicKey;
use serde::{Deserialize, Serialize};
use tine_model::{KeyId, KeyName, KeyRef, Timestamp};

pub(super) const FORMAT: u32 = 1;
/// More keys than anyone trusts.
pub(super) const MOST_KEYS: usize = 1000;
/// Longer than [`MOST_KEYS`] records.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// Longer than a file with a public key and a long comment.
const MAX_PUBLIC_KEY: usize = 4096;

/// `keys.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ring {
    pub(super) format: u32,
    pub(super) keys: Vec<KeyRecord>,
}

/// One public key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    pub(super) name: KeyName,
    pub(super) key_id: KeyId,
    pub(super) public_key: String,
    pub(super) added_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoked_at: Option<Timestamp>,
}

impl Ring {
    pub(super) fn empty() -> Self {
        Self { format: FORMAT, keys: Vec::new() }
    }

    pub(super) fn find(&self, key: &KeyRef) -> Option<&KeyRecord> {
        self.keys.iter().find(|record| record.is(key))
    }

    pub(super) fn find_mut(&mut self, key: &KeyRef) -> Option<&mut KeyRecord> {
        self.keys.iter_mut().find(|record| record.is(key))
    }

    /// Why a key may not be added; none when it may.
    pub(super) fn objection(&self, name: &KeyName, key: &PublicKey) -> Option<HubError> {
        let (id, base64) = (key_id(key).ok()?, key.to_base64());
        let point = |text: &str| text.get(POINT_FROM..).map(str::to_owned);
        let same = |r: &&KeyRecord| r.key_id == id || point(&r.public_key) == point(&base64);
        if let Some(there) = self.keys.iter().find(same) {
            return Some(there.objection_to_twin(id));
        }
        if let Some(there) = self.find(&KeyRef::Name(name.clone())) {
            let message = format!("the name {name} is taken by the key {}", there.key_id);
            return Some(HubError::AlreadyExists(message));
        }
        let full = self.keys.len() >= MOST_KEYS;
        full.then(|| HubError::TooLarge(format!("there are {MOST_KEYS} keys, and no more are kept")))
    }
}

/// The characters of a public key's base64 before the first that holds nothing but the key itself: the algorithm
/// and the id are 10 bytes.
const POINT_FROM: usize = 14;

impl KeyRecord {
    fn is(&self, key: &KeyRef) -> bool {
        match key {
            KeyRef::Name(name) => self.name == *name,
            KeyRef::Id(id) => self.key_id == *id,
        }
    }

    fn objection_to_twin(&self, id: KeyId) -> HubError {
        let name = &self.name;
        match self.revoked_at {
            Some(at) => HubError::Untrusted {
                message: format!(
                    "the key {id} was revoked at {at} as {name}, and a revoked key is never trusted again"
                ),
                hint: Some("tine key list".to_owned()),
            },
            None => {
                HubError::AlreadyExists(format!("the key {id}, or one with its id, is trusted as {name}"))
            }
        }
    }
}

/// Reads a public key: the two lines of a minisign `.pub` file, or the second of them alone.
pub(super) fn public_key(text: &str) -> Result<PublicKey> {
    let bad = |why: &str| HubError::invalid(format!("this is no minisign public key: {why}"));
    if text.len() > MAX_PUBLIC_KEY {
        return Err(bad("too long"));
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut line = lines.next().ok_or_else(|| bad("it is empty"))?;
    if line.starts_with("untrusted comment:") {
        line = lines.next().ok_or_else(|| bad("it has a comment and no key"))?;
    }
    if lines.next().is_some() {
        return Err(bad("it has more than a comment and a key"));
    }
    let key = PublicKey::from_base64(line.trim())
        .map_err(|_| bad("a line of 56 characters of base64 is expected"))?;
    if key.to_bytes().get(..2) == Some(b"Ed") { Ok(key) } else { Err(bad("it is of another algorithm")) }
}

pub(super) fn key_id(key: &PublicKey) -> Result<KeyId> {
    let bytes = key.keynum().try_into().map_err(|_| HubError::invalid("a key without an id"))?;
    Ok(KeyId(bytes))
}
