//! `base install` and `base update`: one of the maintained definitions becomes a new version.

use super::{base_import, create, delete, start};
use crate::{
    LocalEngine,
    reach::Reach,
    recipes::{self, Builder, Recipe},
    script::Script,
    tool,
};
use std::{fs::File, process::Command};
use tine_model::{
    BaseAlias, BaseRef, BaseVersion, BaseVersionInfo, BoxKind, BoxRef, BoxSettings, BoxSource,
    BuildProvenance, CreateBox, Error, InstallBase, ProjectName, Provenance, ProvenanceKind, Reporter,
    Result, WrittenBase,
};
use tine_store::Pool;

pub fn run(engine: &LocalEngine, request: &InstallBase, reporter: &dyn Reporter) -> Result<WrittenBase> {
    let recipe = recipes::find(&request.name)?;
    let pool = engine.pool()?;
    if !request.rebuild
        && let Some(version) = installed(&pool, &recipe)
    {
        return Ok(WrittenBase { alias: recipe.name, version, created: false });
    }
    match &recipe.builder {
        Builder::Mmdebstrap => bootstrap(&pool, &recipe, reporter),
        Builder::Box { parent } => build_in_box(engine, &pool, &recipe, parent, reporter),
    }
}

/// The newest version made by the same script, if its alias still stands.
fn installed(pool: &Pool, recipe: &Recipe) -> Option<BaseVersionInfo> {
    let info = pool.base_info(&recipe.name, Some(&recipe.digest())).ok()?;
    info.latest_version?;
    info.versions.into_iter().next()
}

fn provenance(recipe: &Recipe, builder: &str, parent: Option<(BaseAlias, BaseVersion)>) -> Provenance {
    let (parent_alias, parent_version) = parent.unzip();
    let build = BuildProvenance {
        builder: builder.to_owned(),
        parent_alias,
        parent_version,
        script: recipe.script.to_owned(),
        script_sha256: recipe.digest(),
    };
    Provenance { kind: ProvenanceKind::Recipe, build: Some(build) }
}

/// Runs the script on the host; the tar it writes lies in staging and goes with it.
fn bootstrap(pool: &Pool, recipe: &Recipe, reporter: &dyn Reporter) -> Result<WrittenBase> {
    let folder = pool.stage()?;
    let tar = folder.path().join("root.tar");
    reporter.step(&format!("bootstrapping {}", recipe.name), None);
    let mut script = Command::new("/bin/sh");
    script.args(["-c", recipe.script]).env("TINE_ROOT_TAR", &tar);
    tool::run(&mut script, &format!("build {}", recipe.name), reporter)?;
    let stage = pool.stage_base(None)?;
    let mut file = File::open(&tar).map_err(|e| crate::io_error("open", &tar, &e))?;
    reporter.step(&format!("importing {}", recipe.name), None);
    base_import::extract(pool, &stage, &mut file, reporter)?;
    base_import::publish(stage, &recipe.name, provenance(recipe, "mmdebstrap", None))
}

/// Runs the script as root in a box cloned from the parent, and makes that box's root the version.
fn build_in_box(
    engine: &LocalEngine,
    pool: &Pool,
    recipe: &Recipe,
    parent: &BaseAlias,
    reporter: &dyn Reporter,
) -> Result<WrittenBase> {
    let parent_version = pool
        .resolve_base(&BaseRef::Name(parent.first_version()))
        .map_err(|error| Error::from(error).hint(format!("tine base install {parent}")))?;
    let reach = Reach::of(&engine.config.env)?;
    let workbench = Workbench::create(engine, recipe, &parent_version.name, reporter)?;
    reporter.step(&format!("building {} in a box", recipe.name), None);
    workbench.run_script(recipe.script, &reach, reporter)?;
    let locked = engine.lock(pool, &workbench.name)?;
    start::end(pool, &locked, Some(2))?;
    let stage = pool.stage_base_from_box(&workbench.name)?;
    drop(locked);
    let parent = Some((parent.clone(), parent_version.name));
    base_import::publish(stage, &recipe.name, provenance(recipe, "box", parent))
}

/// A box that exists only while a base is built in it; deleted when dropped.
struct Workbench<'e> {
    engine: &'e LocalEngine,
    name: BoxRef,
}

impl<'e> Workbench<'e> {
    fn create(
        engine: &'e LocalEngine,
        recipe: &Recipe,
        parent: &BaseVersion,
        reporter: &dyn Reporter,
    ) -> Result<Self> {
        // one per process and definition; a project of its own keeps its home and names apart
        let name = BoxRef {
            project: "tine-build".parse::<ProjectName>()?,
            name: format!("{}-{}", recipe.name, std::process::id()).parse()?,
        };
        let request = CreateBox {
            name: name.clone(),
            source: BoxSource::Base(BaseRef::Name(parent.clone())),
            // removed by gc should this process be killed
            settings: BoxSettings { remove_on_stop: true, ..Default::default() },
            vm: false,
            cold: false,
            start: true,
        };
        create::run(engine, &request, reporter)?;
        Ok(Self { engine, name })
    }

    fn run_script(&self, script: &str, reach: &Reach, reporter: &dyn Reporter) -> Result<()> {
        let pool = self.engine.pool()?;
        let run_dir = pool.box_run_path(&self.name);
        // a build may take long; what needs the pool alone must not wait for it
        drop(pool);
        let script = Script {
            run_dir: &run_dir,
            kind: BoxKind::Container,
            env: reach.env(),
            text: script,
            input: None,
            timeout_seconds: None,
        };
        reach.arrive(&script, reporter)?;
        script.succeed("build the base", reporter)?;
        reach.leave(&script, reporter)
    }
}

impl Drop for Workbench<'_> {
    fn drop(&mut self) {
        let _ = delete::run(self.engine, &self.name, false);
    }
}
