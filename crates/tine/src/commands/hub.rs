//! `tine hub …`: keeping a hub in a folder or bucket, and looking at any.

use super::{count, pack::password};
use crate::{failure::Outcome, output::Output, progress::Length, table::or_dash};
use std::path::PathBuf;
use tine_model::{
    AddToHub, HubCheck, HubPackage, InitHub, KeyName, ListHub, PackageRef, RemoveFromHub, Service,
    VersionName,
};

/// The commands of `hub`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a folder, here or in a bucket, a hub
    Init(InitArgs),
    /// Publish a pack
    Add(AddArgs),
    /// Take a package, or one version of it, from a hub
    #[command(alias = "rm")]
    Remove(RemoveArgs),
    /// List a hub's packages
    #[command(alias = "ls")]
    List(ListArgs),
    /// List packages with a text in their name or description
    Search(SearchArgs),
    /// Read everything that a hub's registry names
    Verify(VerifyArgs),
    /// Show or set the hub that is used when none is named
    Default(DefaultArgs),
}

/// What `hub init` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine hub init /srv/hub\n  tine hub init /srv/hub --url https://hub.example.org --sign release\n  tine hub init s3://my-bucket/hub --sign release"
)]
pub struct InitArgs {
    /// The folder, which any web server can serve; or a folder of a bucket: s3://, gs:// or az://, with the credentials of their own tools in the environment
    #[arg(value_name = "DIR")]
    pub folder: String,
    /// Where it is served [default: the registry's URLs are relative]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Sign the registry with a key; TINE_KEY_PASSWORD is its password
    #[arg(long, value_name = "KEY")]
    pub sign: Option<KeyName>,
}

/// What `hub add` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine hub add python-numpy.tine.tar.zst tine/python-numpy@v1 --hub /srv/hub\n  tine hub add python-numpy.tine.tar.zst tine/python-numpy --hub s3://my-bucket/hub"
)]
pub struct AddArgs {
    /// The pack
    #[arg(value_name = "PACK")]
    pub file: PathBuf,
    /// OWNER/NAME or OWNER/NAME@VERSION; the next free number, as v3, without a version
    #[arg(value_name = "PACKAGE")]
    pub package: PackageRef,
    /// The hub's folder, or URL in a bucket [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "DIR")]
    pub hub: Option<String>,
    /// One line about the package [default: the pack's own]
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Where its recipe lies, for readers
    #[arg(long, value_name = "PATH")]
    pub recipe_path: Option<String>,
}

/// What `hub remove` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine hub remove tine/old --hub /srv/hub --yes\n  tine hub remove tine/python-numpy@v1 --hub /srv/hub --yes"
)]
pub struct RemoveArgs {
    /// OWNER/NAME, or OWNER/NAME@VERSION for one version
    #[arg(value_name = "PACKAGE")]
    pub package: PackageRef,
    /// The hub's folder, or URL in a bucket [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "DIR")]
    pub hub: Option<String>,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// What `hub list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine hub list --hub https://hub.example.org")]
pub struct ListArgs {
    /// The hub: a URL (https, http, s3, gs, az) or a folder [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "URL")]
    pub hub: Option<String>,
}

/// What `hub search` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine hub search numpy")]
pub struct SearchArgs {
    /// The text
    pub text: String,
    /// The hub: a URL (https, http, s3, gs, az) or a folder [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "URL")]
    pub hub: Option<String>,
}

/// What `hub verify` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine hub verify --hub /srv/hub")]
pub struct VerifyArgs {
    /// The hub's folder, or URL in a bucket [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "DIR")]
    pub hub: Option<String>,
}

/// What `hub default` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine hub default https://hub.example.org")]
pub struct DefaultArgs {
    /// The hub to use from now on: a URL or a folder
    #[arg(value_name = "URL")]
    pub hub: Option<String>,
}

/// Runs a command of `hub`.
pub fn run(service: &dyn Service, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Init(args) => init(service, args, out),
        Command::Add(args) => add(service, args, out),
        Command::Remove(args) => remove(service, args, out),
        Command::List(args) => list(service, args.hub.as_deref(), None, out),
        Command::Search(args) => list(service, args.hub.as_deref(), Some(&args.text), out),
        Command::Verify(args) => verify(service, args, out),
        Command::Default(args) => default(service, args, out),
    }
}

fn init(service: &dyn Service, args: &InitArgs, out: &mut Output) -> Outcome {
    let request = InitHub {
        folder: args.folder.clone(),
        base_url: args.url.clone(),
        sign: args.sign.clone(),
        password: password(),
    };
    service.init_hub(&request)?;
    out.name(&request, &request.folder)?;
    out.suggest(&format!("tine hub add PACK OWNER/NAME --hub {}", request.folder));
    Ok(0)
}

fn add(service: &dyn Service, args: &AddArgs, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let request = AddToHub {
        hub: args.hub.clone(),
        file: args.file.display().to_string(),
        package: args.package.clone(),
        description: args.description.clone(),
        recipe_path: args.recipe_path.clone(),
        password: password(),
    };
    let published = progress.cause(service.add_to_hub(&request, &progress))?;
    drop(progress);
    let name = format!("{}@{}", published.package, published.version);
    out.name(&published, &name)?;
    let done = if published.unchanged { "was published already" } else { "published" };
    out.say(&format!("{name} {done} as {}", published.url));
    Ok(0)
}

fn remove(service: &dyn Service, args: &RemoveArgs, out: &mut Output) -> Outcome {
    let what = match &args.package.version {
        Some(version) => format!("version {version} of {}", args.package.package),
        None => format!("{} with all its versions", args.package.package),
    };
    if args.dry_run {
        out.say(&format!("would remove {what}"));
        return Ok(0);
    }
    out.permission.get(&format!("Remove {what} from the hub?"))?;
    let request =
        RemoveFromHub { hub: args.hub.clone(), package: args.package.clone(), password: password() };
    service.remove_from_hub(&request)?;
    out.name(&request, &args.package)?;
    Ok(0)
}

/// The packages of a hub.
pub fn list(service: &dyn Service, hub: Option<&str>, search: Option<&str>, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Short);
    let request = ListHub { hub: hub.map(str::to_owned), search: search.map(str::to_owned) };
    let packages = progress.cause(service.list_hub(&request, &progress))?;
    drop(progress);
    let rows: Vec<Vec<String>> = packages.iter().map(row).collect();
    out.rows(&packages, &["PACKAGE", "VERSION", "VERSIONS", "SIZE", "MEMORY", "DESCRIPTION"], &rows)?;
    Ok(0)
}

fn row(package: &HubPackage) -> Vec<String> {
    vec![
        package.package.to_string(),
        or_dash(package.version.as_ref().map(VersionName::as_str)),
        package.versions.to_string(),
        or_dash(package.size_bytes),
        or_dash(package.memory_mib.map(tine_model::ByteSize::mib)),
        package.description.clone().unwrap_or_default(),
    ]
}

fn verify(service: &dyn Service, args: &VerifyArgs, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let report = progress.cause(service.verify_hub(args.hub.as_deref(), &progress))?;
    drop(progress);
    let lines: Vec<String> = report.problems.iter().map(|p| format!("{}: {}", p.what, p.why)).collect();
    out.present(&report, lines.clone(), |out| lines.iter().try_for_each(|line| out.line(line)))?;
    out.say(&summary(&report));
    for file in &report.unreferenced {
        out.say(&format!("no entry refers to {file}"));
    }
    Ok(u8::from(!report.problems.is_empty()))
}

fn summary(report: &HubCheck) -> String {
    format!(
        "{}, {}, {} of {} read, {}",
        count(report.packages, "package"),
        count(report.versions, "version"),
        count(report.files, "file"),
        report.bytes,
        count(report.problems.len(), "problem")
    )
}

fn default(service: &dyn Service, args: &DefaultArgs, out: &mut Output) -> Outcome {
    let hub = service.default_hub(args.hub.as_deref())?;
    match &hub {
        Some(name) => out.name(&hub, name)?,
        None => {
            out.present(&hub, [], |_| Ok(()))?;
            out.say("no hub is the default");
            out.suggest("tine hub default URL");
        }
    }
    Ok(0)
}
