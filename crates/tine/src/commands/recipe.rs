//! `tine recipe list` and `tine recipe build`: maintained definitions that become warmed images.

use super::count;
use crate::{
    failure::{Outcome, usage},
    output::Output,
    progress::Length,
};
use serde::Serialize;
use tine_model::{BaseAlias, BuildRecipe, BuiltRecipe, Error, ImageTag, RecipeInfo, Service};

/// The commands of `recipe`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List recipes, and whether their bases and images are there
    #[command(alias = "ls")]
    List(ListArgs),
    /// Make the images of recipes, and the bases they need, unless they are there
    Build(BuildArgs),
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

/// Builds one recipe after the other and prints each image's tag as it is there; ends with the first failure.
fn build(service: &dyn Service, args: &BuildArgs, out: &mut Output) -> Outcome {
    let mut built: Vec<BuiltRecipe> = Vec::new();
    for request in requests(service, args)? {
        let progress = out.progress(Length::Long);
        let result = progress.cause(service.build_recipe(&request, &progress));
        drop(progress);
        let recipe = result.map_err(|error| in_the_middle(error, &request.name, &built))?;
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
fn in_the_middle(error: Error, name: &BaseAlias, built: &[BuiltRecipe]) -> Error {
    match built.len() {
        0 => error,
        done => error.context(format!("{name}, after {}", count(done, "recipe"))),
    }
}
