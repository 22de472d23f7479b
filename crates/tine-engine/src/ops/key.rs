//! `key …`: signing keys, and what is asked of signatures.

use crate::{LocalEngine, trust};
use tine_model::{KeyInfo, KeyName, KeyRef, Result, TrustPolicy, TrustRule};

pub fn generate(engine: &LocalEngine, name: &KeyName, password: Option<&str>) -> Result<KeyInfo> {
    Ok(trust::keys(&engine.pool()?).generate(name, password)?)
}

pub fn list(engine: &LocalEngine) -> Result<Vec<KeyInfo>> {
    Ok(trust::keys(&engine.pool()?).list()?)
}

pub fn trust(engine: &LocalEngine, name: &KeyName, public: &str) -> Result<KeyInfo> {
    Ok(trust::keys(&engine.pool()?).trust(name, public)?)
}

pub fn revoke(engine: &LocalEngine, key: &KeyRef) -> Result<KeyInfo> {
    Ok(trust::keys(&engine.pool()?).revoke(key)?)
}

pub fn rules(engine: &LocalEngine) -> Result<Vec<TrustRule>> {
    let policies = trust::policies(&engine.pool()?);
    let default = TrustRule { hub: None, policy: policies.policy_for("")? };
    let rules = policies.list()?.into_iter().map(|(hub, policy)| TrustRule { hub: Some(hub), policy });
    Ok(std::iter::once(default).chain(rules).collect())
}

pub fn set_rule(engine: &LocalEngine, hub: Option<&str>, policy: Option<TrustPolicy>) -> Result<()> {
    let policies = trust::policies(&engine.pool()?);
    match hub {
        Some(hub) => Ok(policies.set(hub, policy)?),
        None => Ok(policies.set_default(policy.unwrap_or_default())?),
    }
}
