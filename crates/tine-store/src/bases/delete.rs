//! Deleting aliases and versions. What would happen is worked out first and can be looked at.

use super::base_not_found;
use crate::{
    error::{Result, StoreError, at},
    pool::Pool,
    staging::{discard, withdraw},
};
use tine_model::{BaseAlias, BaseVersion, DeleteBase};

/// What a deletion of a base does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePlan {
    /// The alias that goes.
    pub alias: Option<BaseAlias>,
    /// The version that goes.
    pub version: Option<BaseVersion>,
    /// The alias that is moved, and to which version.
    pub moved: Option<(BaseAlias, BaseVersion)>,
}

impl Pool {
    /// What deleting an alias or version would do.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` when an alias names the version and force was not asked for.
    pub fn plan_delete_base(&self, request: &DeleteBase) -> Result<DeletePlan> {
        match request {
            DeleteBase::Alias { name } => match self.alias_target(name)? {
                Some(_) => Ok(DeletePlan { alias: Some(name.clone()), version: None, moved: None }),
                None => Err(base_not_found(name.to_string())),
            },
            DeleteBase::Version { name, force } => self.plan_delete_version(name, *force),
        }
    }

    fn plan_delete_version(&self, version: &BaseVersion, force: bool) -> Result<DeletePlan> {
        let not_found = || base_not_found(version.to_string());
        let alias = self.base_meta(version)?.ok_or_else(not_found)?.alias;
        let plan = |alias, moved| DeletePlan { alias, version: Some(version.clone()), moved };
        if self.alias_target(&alias)?.as_ref() != Some(version) {
            return Ok(plan(None, None));
        }
        if !force {
            return Err(StoreError::WrongState {
                message: format!("version {version} is the one that base {alias} names"),
                hint: Some(format!("tine base delete --version {version} --force")),
            });
        }
        let older = self.versions_of(&alias)?.into_iter().map(|m| m.name).find(|name| name != version);
        Ok(match older {
            Some(older) => plan(None, Some((alias, older))),
            None => plan(Some(alias), None),
        })
    }

    /// Deletes an alias or version. Boxes made from it stay as they are. Durable on return.
    ///
    /// # Errors
    /// As [`Pool::plan_delete_base`].
    pub fn delete_base(&self, request: &DeleteBase) -> Result<DeletePlan> {
        let lock = self.lock_aliases()?;
        let plan = self.plan_delete_base(request)?;
        // the alias first: it never names a version that is gone
        if let Some((alias, version)) = &plan.moved {
            self.move_alias(alias, version)?;
        }
        if let Some(alias) = &plan.alias {
            let path = self.layout().alias(alias);
            std::fs::remove_file(&path).map_err(at("delete", &path))?;
        }
        let withdrawn = plan.version.as_ref().map(|v| withdraw(self, &self.layout().base(v))).transpose()?;
        drop(lock);
        if let Some(path) = withdrawn {
            discard(&path)?;
        }
        self.commit()?;
        Ok(plan)
    }
}
