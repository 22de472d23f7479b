//! `tine recipe list`, `build` and `publish`: maintained definitions that become warmed images.

use super::{count, pack::password};
use crate::{
    failure::{Outcome, usage},
    output::Output,
    progress::Length,
};
use serde::Serialize;
use tine_model::{
    BaseAlias, BuildRecipe, BuiltRecipe, Error, ErrorCode, HubPackage, ImageInfo, ImageTag, KeyInfo, KeyName,
    ListHub, PackImage, PushImage, PushReport, RecipeInfo, Result, Service, Timestamp,
};

/// The commands of `recipe`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List recipes, and whether their bases and images are there
    #[command(alias = "ls")]
    List(ListArgs),
    /// Make the images of recipes, and the bases they need, unless they are there
    Build(BuildArgs),
    /// Make the images of recipes where they are not there, pack them, and add them to a hub
    Publish(PublishArgs),
}

/// What `recipe list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine recipe list")]
pub struct ListArgs {}

/// What `recipe build` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine recipe build nodejs postgres-fixture\n  tine recipe build nodejs --tag node-18 --force\n  tine recipe build --all"
)]
pub struct BuildArgs {
    /// The recipes
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<BaseAlias>,
    /// Every recipe
    #[arg(long)]
    pub all: bool,
    /// Tag of the image, for one recipe [default: the recipe's name]
    #[arg(long, value_name = "TAG", conflicts_with = "all")]
    pub tag: Option<ImageTag>,
    /// Bake again though the image is there, and replace it
    #[arg(long)]
    pub force: bool,
}

/// What `recipe publish` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine recipe publish --all --hub /srv/hub\n  tine recipe publish nodejs --hub /srv/hub --owner me --sign release"
)]
pub struct PublishArgs {
    /// The recipes
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<BaseAlias>,
    /// Every recipe
    #[arg(long)]
    pub all: bool,
    /// The hub's folder, or URL in a bucket [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "DIR")]
    pub hub: Option<String>,
    /// The part of the packages' names before the slash
    #[arg(long, value_name = "OWNER", default_value = "tine")]
    pub owner: ImageTag,
    /// Sign the packs with a key; TINE_KEY_PASSWORD is its password
    #[arg(long, value_name = "KEY")]
    pub sign: Option<KeyName>,
}

/// The document of `recipe publish`.
#[derive(Serialize)]
struct Published<'a> {
    published: &'a [PushReport],
}

/// The document of `recipe build`.
#[derive(Serialize)]
struct Built<'a> {
    built: &'a [BuiltRecipe],
}

/// Runs a command of `recipe`.
pub fn run(service: &dyn Service, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::List(_) => list(service, out),
        Command::Build(args) => build(service, args, out),
        Command::Publish(args) => publish(service, args, out),
    }
}

fn list(service: &dyn Service, out: &mut Output) -> Outcome {
    let recipes = service.list_recipes()?;
    let row =
        |r: &RecipeInfo| vec![r.name.to_string(), r.about.clone(), r.base.to_string(), r.image.to_string()];
    let rows: Vec<Vec<String>> = recipes.iter().map(row).collect();
    out.rows(&recipes, &["NAME", "ABOUT", "BASE", "IMAGE"], &rows)?;
    Ok(0)
}

/// Publishes one recipe after the other and prints each package; ends with the first failure. What was published since its image was
/// made is left alone, so that the command can be typed again.
fn publish(service: &dyn Service, args: &PublishArgs, out: &mut Output) -> Outcome {
    let names = match args.all {
        true => service.list_recipes()?.into_iter().map(|recipe| recipe.name).collect(),
        false => args.names.clone(),
    };
    let there = require_publishable(service, args, out)?;
    let mut published: Vec<PushReport> = Vec::new();
    for name in names {
        let done = publish_one(service, args, &name, &there, out);
        let Some(report) = done.map_err(|error| in_the_middle(error, &name, published.len()))? else {
            continue;
        };
        let package = report.package.as_ref().map(ToString::to_string).unwrap_or_default();
        let lines = out.at_once();
        lines.item(&package, &package);
        lines.conclude()?;
        out.say(&format!("published {package}: {}", report.sent_bytes));
        published.push(report);
    }
    out.names(&Published { published: &published }, &[] as &[&str])?;
    Ok(0)
}

/// What the hub has. Refuses what would end a publication after long work: a hub that is not there or not to be trusted,
/// a key that can't sign.
fn require_publishable(service: &dyn Service, args: &PublishArgs, out: &Output) -> Result<Vec<HubPackage>> {
    let progress = out.progress(Length::Short);
    let hub = ListHub { hub: args.hub.clone(), search: None };
    let there = progress.cause(service.list_hub(&hub, &progress))?;
    let Some(key) = &args.sign else { return Ok(there) };
    let can_sign = |known: &KeyInfo| known.name == *key && known.can_sign && known.revoked_at.is_none();
    if service.list_keys()?.iter().any(can_sign) {
        return Ok(there);
    }
    let message = format!("there is no key {key} here that can sign");
    Err(Error::new(ErrorCode::NotFound, message).hint("tine key list"))
}

/// None when the hub has it already.
fn publish_one(
    service: &dyn Service,
    args: &PublishArgs,
    name: &BaseAlias,
    there: &[HubPackage],
    out: &mut Output,
) -> Result<Option<PushReport>> {
    let progress = out.progress(Length::Long);
    let request = BuildRecipe { name: name.clone(), tag: None, force: false };
    let image = progress.cause(service.build_recipe(&request, &progress))?.image;
    let target = format!("{}/{name}", args.owner);
    if there.iter().any(|package| package.package.to_string() == target && is_since(package, &image)) {
        drop(progress);
        out.say(&format!("{target} was published since image {} was made", image.tag));
        return Ok(None);
    }
    let pack = PackImage {
        tag: image.tag,
        description: None,
        base_image: None,
        layout: None,
        sign: args.sign.clone(),
        password: password(),
    };
    let recipe_path = Some(format!("recipes/{name}"));
    let request = PushImage { pack, target, hub: args.hub.clone(), recipe_path };
    progress.cause(service.push_image(&request, &progress)).map(Some)
}

/// Whether the newest version of a package was published after the image was made. Where a registry tells no time, it was not.
fn is_since(package: &HubPackage, image: &ImageInfo) -> bool {
    let at = package.created_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
    at.is_some_and(|at| at >= image.created_at)
}

/// Builds one recipe after the other and prints each image's tag as it is there; ends with the first failure.
fn build(service: &dyn Service, args: &BuildArgs, out: &mut Output) -> Outcome {
    let mut built: Vec<BuiltRecipe> = Vec::new();
    for request in requests(service, args)? {
        let progress = out.progress(Length::Long);
        let result = progress.cause(service.build_recipe(&request, &progress));
        drop(progress);
        let recipe = result.map_err(|error| in_the_middle(error, &request.name, built.len()))?;
        report(&recipe, out)?;
        built.push(recipe);
    }
    out.names(&Built { built: &built }, &[] as &[&str])?;
    Ok(0)
}

fn requests(service: &dyn Service, args: &BuildArgs) -> Outcome<Vec<BuildRecipe>> {
    let names = match args.all {
        true => service.list_recipes()?.into_iter().map(|recipe| recipe.name).collect(),
        false => args.names.clone(),
    };
    if args.tag.is_some() && names.len() > 1 {
        return Err(usage("--tag names one image, and several recipes make several").into());
    }
    let request = |name| BuildRecipe { name, tag: args.tag.clone(), force: args.force };
    Ok(names.into_iter().map(request).collect())
}

fn report(recipe: &BuiltRecipe, out: &mut Output) -> Outcome<()> {
    let image = &recipe.image;
    let lines = out.at_once();
    lines.item(image.tag.as_str(), image.tag.as_str());
    lines.conclude()?;
    let memory = image.memory_bytes;
    out.say(&match recipe.baked {
        true => {
            format!("image {} holds {} of a machine with {memory} of memory", image.tag, image.size_bytes)
        }
        false => format!("image {} is there, baked from {}", image.tag, recipe.base),
    });
    Ok(())
}

/// An error says what it was about, and what was done before it.
fn in_the_middle(error: Error, name: &BaseAlias, done: usize) -> Error {
    match done {
        0 => error,
        done => error.context(format!("{name}, after {}", count(done, "recipe"))),
    }
}
