//! What is asked of each hub: one file, `policy.json`, beside the keys.

use super::document::FORMAT;
use crate::{
    durable,
    error::{HubError, Result},
    location,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use tine_model::TrustPolicy;
use url::Url;

const FILE: &str = "policy.json";
const MAX_BYTES: u64 = 1 << 20;
const MOST: usize = 1000;
const WAIT: Duration = Duration::from_secs(10);

/// The policies in one directory.
#[derive(Debug, Clone)]
pub struct PolicyStore {
    dir: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Policies {
    format: u32,
    #[serde(default)]
    default: TrustPolicy,
    #[serde(default)]
    hubs: BTreeMap<String, TrustPolicy>,
}

impl PolicyStore {
    /// The policies in `dir`, the directory of the keys; it is made when the first one is written.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The policy for a hub, or for a pack, by its URL: that of the longest prefix that was set, else the default,
    /// which is `warn` unless another was set.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn policy_for(&self, url: &str) -> Result<TrustPolicy> {
        let policies = self.read()?;
        let Ok(url) = normal(url) else { return Ok(policies.default) };
        let covering = policies.hubs.into_iter().filter(|(prefix, _)| covers(prefix, &url));
        Ok(covering.max_by_key(|(prefix, _)| prefix.len()).map_or(policies.default, |(_, policy)| policy))
    }

    /// Sets the policy for every URL below `prefix`, or with none goes back to what holds without it.
    ///
    /// # Errors
    /// `usage` when `prefix` is no URL.
    pub fn set(&self, prefix: &str, policy: Option<TrustPolicy>) -> Result<()> {
        let prefix = normal(prefix)?;
        self.change(|policies| {
            match policy {
                Some(policy) => policies.hubs.insert(prefix, policy),
                None => policies.hubs.remove(&prefix),
            };
        })
    }

    /// Sets what holds where nothing else was set.
    ///
    /// # Errors
    /// `busy`, or the kernel's.
    pub fn set_default(&self, policy: TrustPolicy) -> Result<()> {
        self.change(|policies| policies.default = policy)
    }

    /// Every prefix with its policy.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn list(&self) -> Result<Vec<(String, TrustPolicy)>> {
        Ok(self.read()?.hubs.into_iter().collect())
    }

    fn change(&self, change: impl FnOnce(&mut Policies)) -> Result<()> {
        durable::make_dir(&self.dir, 0o700)?;
        let _lock = durable::lock(&self.dir, WAIT)?;
        let mut policies = self.read()?;
        change(&mut policies);
        if policies.hubs.len() > MOST {
            return Err(HubError::TooLarge(format!("there are {MOST} policies, and no more are kept")));
        }
        durable::write_json(&self.dir, FILE, 0o600, &policies)
    }

    fn read(&self) -> Result<Policies> {
        let path = self.dir.join(FILE);
        let empty = || Policies { format: FORMAT, default: TrustPolicy::default(), hubs: BTreeMap::new() };
        match durable::read_json::<Policies>(&path, MAX_BYTES)? {
            None => Ok(empty()),
            Some(policies) if policies.format == FORMAT => Ok(policies),
            Some(p) => Err(HubError::Incompatible(format!("{} has format {}", path.display(), p.format))),
        }
    }
}

/// One way of writing each URL, without a closing slash.
fn normal(url: &str) -> Result<String> {
    let bad = |why: &str| HubError::Usage(format!("{} is no URL: {why}", location::shown(url)));
    if url.len() > location::MAX_URL {
        return Err(bad("too long"));
    }
    let parsed = Url::parse(url).map_err(|e| bad(&e.to_string()))?;
    let text = parsed.as_str();
    let text = text.strip_suffix("/registry.json").unwrap_or(text);
    Ok(text.trim_end_matches('/').to_owned())
}

/// True when `url` is `prefix` or lies below it: `https://hub` does not cover `https://hub.example`.
fn covers(prefix: &str, url: &str) -> bool {
    url.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts_and_only_whole_parts_do() {
        let dir = tempfile::tempdir().unwrap();
        let policies = PolicyStore::new(dir.path().join("keys"));
        assert_eq!(policies.policy_for("https://hub/a").unwrap(), TrustPolicy::Warn);
        policies.set("https://hub/", Some(TrustPolicy::Require)).unwrap();
        policies.set("https://HUB/open/registry.json", Some(TrustPolicy::Off)).unwrap();
        for (url, policy) in [
            ("https://hub", TrustPolicy::Require),
            ("https://hub/a/registry.json", TrustPolicy::Require),
            ("https://hub:443/open", TrustPolicy::Off),
            ("https://hub/open/registry.json", TrustPolicy::Off),
            ("https://hub/open/../closed", TrustPolicy::Require),
            ("https://hub/opener", TrustPolicy::Require),
            ("https://hub.example/", TrustPolicy::Warn),
            ("http://hub/", TrustPolicy::Warn),
            ("no url", TrustPolicy::Warn),
        ] {
            assert_eq!(policies.policy_for(url).unwrap(), policy, "{url}");
        }
        policies.set("https://hub", None).unwrap();
        policies.set_default(TrustPolicy::Require).unwrap();
        assert_eq!(policies.policy_for("https://hub/open").unwrap(), TrustPolicy::Off);
        assert_eq!(policies.policy_for("https://other").unwrap(), TrustPolicy::Require);
        assert_eq!(policies.list().unwrap().len(), 1);
        assert!(policies.set("no url", None).is_err());
    }
}
