//! `tine base list` and `tine base info`

use crate::{failure::Outcome, output::Output, progress::Length, table::or_dash};
use tine_model::{BaseAlias, BaseInfo, BaseVersionInfo, BuildProvenance, Service, Sha256Digest};

/// What `base list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine base list")]
pub struct ListArgs {}

/// What `base info` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine base info box-base")]
pub struct InfoArgs {
    /// The base
    pub name: BaseAlias,
    /// Only versions whose build script has this digest
    #[arg(long, value_name = "SHA256")]
    pub tag: Option<Sha256Digest>,
}

/// Prints every base.
pub fn list(service: &dyn Service, out: &mut Output) -> Outcome {
    let bases = service.list_bases(&out.progress(Length::Short))?;
    let row = |b: &tine_model::BaseSummary| {
        vec![b.name.to_string(), b.version.to_string(), b.size_bytes.to_string(), b.created_at.to_string()]
    };
    let rows: Vec<Vec<String>> = bases.iter().map(row).collect();
    out.rows(&bases, &["NAME", "VERSION", "SIZE", "CREATED"], &rows)?;
    Ok(0)
}

/// Prints a base's versions, then each one's build script.
pub fn info(service: &dyn Service, args: &InfoArgs, out: &mut Output) -> Outcome {
    let info = service.base_info(&args.name, args.tag.as_ref())?;
    let names: Vec<String> = info.versions.iter().map(|v| v.name.to_string()).collect();
    out.present(&info, names, |out| text(&info, out))?;
    Ok(0)
}

fn text(info: &BaseInfo, out: &mut Output) -> Outcome<()> {
    let headers = ["VERSION", "KIND", "TAG", "BUILDER", "PARENT", "SIZE", "CREATED"];
    let rows: Vec<Vec<String>> = info.versions.iter().map(row).collect();
    out.table(&headers, &rows)?;
    for version in &info.versions {
        if let Some(build) = &version.provenance.build {
            out.line("")?;
            out.line(&format!("# {}", version.name))?;
            out.lines(&build.script)?;
        }
    }
    Ok(())
}

fn row(version: &BaseVersionInfo) -> Vec<String> {
    let build = version.provenance.build.as_ref();
    vec![
        version.name.to_string(),
        version.provenance.kind.to_string(),
        or_dash(build.map(|b| b.script_sha256)),
        or_dash(build.map(|b| &b.builder)),
        or_dash(build.and_then(parent)),
        version.size_bytes.to_string(),
        version.created_at.to_string(),
    ]
}

fn parent(build: &BuildProvenance) -> Option<String> {
    let version = build.parent_version.as_ref().map(ToString::to_string);
    version.or_else(|| build.parent_alias.as_ref().map(ToString::to_string))
}
