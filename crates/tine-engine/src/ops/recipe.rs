//! `recipe list` and `recipe build`: maintained definitions become bases, and images of machines warmed up on them.
//!
//! What is there and what the recipe would make again is left alone: a base made by the same script over the newest version of
//! its parent, an image baked from that very version. A parent that somebody made by other means is theirs, and is
//! built over as it is.

use super::{base_install, image_bake};
use crate::{
    LocalEngine,
    recipes::{self, Recipe, WarmUp},
};
use tine_model::{
    BakeImage, BaseAlias, BaseRef, BaseVersion, BaseVersionInfo, BoxSource, BuildRecipe, BuiltRecipe, Error,
    ErrorCode, ImageInfo, ImageTag, InstallBase, NetworkMode, ProvenanceKind, RecipeInfo, RecipeState,
    Reporter, Result, Silent,
};
use tine_store::Pool;

pub fn list(engine: &LocalEngine) -> Result<Vec<RecipeInfo>> {
    let pool = engine.pool()?;
    let mut rows = Vec::new();
    for recipe in recipes::all()? {
        if let Some(warm_up) = &recipe.warm_up {
            rows.push(row(&pool, &recipe, warm_up)?);
        }
    }
    Ok(rows)
}

fn row(pool: &Pool, recipe: &Recipe, warm_up: &WarmUp) -> Result<RecipeInfo> {
    let standing = current(pool, recipe)?;
    let base = match (&standing, newest(pool, &recipe.name)?) {
        (Some(_), _) => RecipeState::Current,
        (None, Some(_)) => RecipeState::Outdated,
        (None, None) => RecipeState::Missing,
    };
    let image = match image(pool, &recipe.name.as_str().parse()?)? {
        None => RecipeState::Missing,
        Some(image) if standing.is_some_and(|version| is_of(&image, &version.name)) => RecipeState::Current,
        Some(_) => RecipeState::Outdated,
    };
    Ok(RecipeInfo {
        name: recipe.name.clone(),
        about: warm_up.about.to_owned(),
        parent: recipe.parent().cloned(),
        script_sha256: recipe.digest(),
        memory_bytes: warm_up.memory,
        disk_bytes: warm_up.disk,
        warm: warm_up.warm.iter().map(|&command| command.to_owned()).collect(),
        ready: warm_up.ready.to_owned(),
        base,
        image,
    })
}

pub fn build(engine: &LocalEngine, request: &BuildRecipe, reporter: &dyn Reporter) -> Result<BuiltRecipe> {
    let recipe = recipes::find(&request.name).map_err(|error| error.hint("tine recipe list"))?;
    let warm_up = recipe.warm_up.as_ref().ok_or_else(|| only_a_base(&recipe.name))?;
    let tag = match &request.tag {
        Some(tag) => tag.clone(),
        None => recipe.name.as_str().parse()?,
    };
    let there = if request.force { None } else { image(&engine.pool()?, &tag)? };
    // before the long work
    require_replaceable(&engine.pool()?, &recipe, there.as_ref())?;
    engine.pool()?.default_kernel(&Silent)?;
    let (version, base_created) = base(engine, &recipe, reporter)?;
    if let Some(image) = there.filter(|image| is_of(image, &version)) {
        return Ok(BuiltRecipe { name: recipe.name, base: version, base_created, image, baked: false });
    }
    let image = image_bake::replace(engine, &warmed(&recipe.name, warm_up, &version, tag), reporter)?;
    Ok(BuiltRecipe { name: recipe.name, base: version, base_created, image, baked: true })
}

/// The version to bake, and whether it had to be made. What it is built over is made before it.
fn base(engine: &LocalEngine, recipe: &Recipe, reporter: &dyn Reporter) -> Result<(BaseVersion, bool)> {
    if let Some(version) = current(&engine.pool()?, recipe)? {
        return Ok((version.name, false));
    }
    if let Some(parent) = recipe.parent()
        && parent_version(&engine.pool()?, parent)?.is_none()
    {
        base(engine, &recipes::find(parent)?, reporter)?;
    }
    reporter.step(&format!("making the base {}", recipe.name), None);
    let request = InstallBase { name: recipe.name.clone(), rebuild: true };
    Ok((base_install::run(engine, &request, reporter)?.version.name, true))
}

/// The newest version of a recipe's base, if the recipe would make the same again.
fn current(pool: &Pool, recipe: &Recipe) -> Result<Option<BaseVersionInfo>> {
    let parent = match recipe.parent() {
        None => None,
        Some(alias) => match parent_version(pool, alias)? {
            None => return Ok(None),
            found => found,
        },
    };
    let made_so = |version: &BaseVersionInfo| {
        let build = version.provenance.build.as_ref();
        build.is_some_and(|b| b.script_sha256 == recipe.digest() && b.parent_version == parent)
    };
    Ok(newest(pool, &recipe.name)?.filter(made_so))
}

/// The version to build over: the newest, if it is current or not of a recipe's making.
fn parent_version(pool: &Pool, alias: &BaseAlias) -> Result<Option<BaseVersion>> {
    let Some(newest) = newest(pool, alias)? else { return Ok(None) };
    if newest.provenance.kind != ProvenanceKind::Recipe {
        return Ok(Some(newest.name));
    }
    Ok(current(pool, &recipes::find(alias)?)?.map(|version| version.name))
}

/// The version that an alias names.
fn newest(pool: &Pool, alias: &BaseAlias) -> Result<Option<BaseVersionInfo>> {
    let found = pool.base_info(alias, None).map(|info| {
        let latest = info.latest_version;
        info.versions.into_iter().find(|version| Some(&version.name) == latest.as_ref())
    });
    unless_missing(found.map_err(Error::from)).map(Option::flatten)
}

fn image(pool: &Pool, tag: &ImageTag) -> Result<Option<ImageInfo>> {
    unless_missing(pool.image_info(tag).map_err(Error::from))
}

fn unless_missing<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Whether an image was baked from that version, and not from a machine that had come from it.
fn is_of(image: &ImageInfo, version: &BaseVersion) -> bool {
    image.base.as_ref() == Some(version) && image.parent.is_none() && image.source.starts_with("base ")
}

/// Refuses an image that has the tag and is neither what the recipe would make nor what it made once.
fn require_replaceable(pool: &Pool, recipe: &Recipe, there: Option<&ImageInfo>) -> Result<()> {
    let Some(image) = there else { return Ok(()) };
    let would_make = current(pool, recipe)?.is_some_and(|version| is_of(image, &version.name));
    let made = |version| image.source == source(&recipe.name, version).to_string() && image.parent.is_none();
    if would_make || image.base.as_ref().is_some_and(made) {
        return Ok(());
    }
    let (name, tag, source) = (&recipe.name, &image.tag, &image.source);
    let message = format!("image {tag} was not made by recipe {name} but from {source}");
    Err(Error::new(ErrorCode::AlreadyExists, message).hint(format!("tine recipe build {name} --tag TAG")))
}

fn source(name: &BaseAlias, version: &BaseVersion) -> BoxSource {
    BoxSource::Base(BaseRef::Pinned { alias: name.clone(), version: version.clone() })
}

/// What is baked. Nothing of a warm-up comes from a network, so there is none.
fn warmed(name: &BaseAlias, warm_up: &WarmUp, version: &BaseVersion, tag: ImageTag) -> BakeImage {
    BakeImage {
        tag,
        source: source(name, version),
        memory_bytes: Some(warm_up.memory),
        cpus: None,
        disk_bytes: Some(warm_up.disk),
        network: NetworkMode::None,
        accel: None,
        env: vec![],
        run: warm_up.warm.iter().map(|&command| command.to_owned()).collect(),
        ready: Some(warm_up.ready.to_owned()),
        timeout_seconds: None,
        description: warm_up.about.to_owned(),
    }
}

fn only_a_base(name: &BaseAlias) -> Error {
    let message = format!("{name} is only a base: nothing in it is warmed up for an image");
    Error::new(ErrorCode::NotFound, message).hint(format!("tine base install {name}"))
}
