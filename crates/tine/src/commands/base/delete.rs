//! `tine base delete`

use crate::{
    failure::{Outcome, usage},
    output::Output,
};
use tine_model::{BaseAlias, BaseVersion, DeleteBase, Result, Service};

/// What `base delete` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine base delete --alias web --yes\n  tine base delete --version web-v20260101120000 --dry-run"
)]
pub struct Args {
    /// The alias; its versions stay
    #[arg(long)]
    pub alias: Option<BaseAlias>,
    /// One exact version
    #[arg(long)]
    pub version: Option<BaseVersion>,
    /// Also a version that an alias names
    #[arg(long)]
    pub force: bool,
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    fn request(&self) -> Result<DeleteBase> {
        match (&self.alias, &self.version) {
            (Some(name), None) => Ok(DeleteBase::Alias { name: name.clone() }),
            (None, Some(name)) => Ok(DeleteBase::Version { name: name.clone(), force: self.force }),
            _ => {
                Err(usage("exactly one of --alias and --version must be given")
                    .hint("tine base delete --help"))
            }
        }
    }
}

/// Deletes an alias or a version and prints what went.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let request = args.request()?;
    if !args.dry_run {
        let question = match &request {
            DeleteBase::Alias { name } => format!("Delete the base alias \"{name}\" (its versions stay)?"),
            DeleteBase::Version { name, .. } => format!("Delete the base version \"{name}\"?"),
        };
        out.permission.get(&question)?;
    }
    let report = service.delete_base(&request, args.dry_run)?;
    out.names(&report, &report.removed)?;
    if let Some((alias, version)) = &report.moved {
        let verb = if report.dry_run { "would then name" } else { "now names" };
        out.say(&format!("alias {alias} {verb} {version}"));
    }
    Ok(0)
}
