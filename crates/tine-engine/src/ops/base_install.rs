//! `base install` and `base update`: one of the maintained definitions becomes a new version.

use super::{base_import, create, delete, exec, start};
use crate::{
    LocalEngine,
    recipes::{self, Builder, Recipe},
    tool,
};
use rustix::pipe::{PipeFlags, pipe_with};
use std::{fs::File, io::Read, os::fd::OwnedFd, process::Command, sync::mpsc};
use tine_model::{
    BaseAlias, BaseRef, BaseVersion, BaseVersionInfo, BoxRef, BoxSettings, BoxSource, BuildProvenance,
    CreateBox, Error, ErrorCode, ExecEvent, ExecOutcome, ExecRequest, ExecStreams, InstallBase, ProjectName,
    Provenance, ProvenanceKind, Reporter, Result, WrittenBase,
};
use tine_store::Pool;

/// SIGTERM, for a script that is to stop.
const TERMINATE: i32 = 15;

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
    let workbench = Workbench::create(engine, recipe, &parent_version.name, reporter)?;
    reporter.step(&format!("building {} in a box", recipe.name), None);
    workbench.run_script(recipe.script, reporter)?;
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
            start: true,
        };
        create::run(engine, &request, reporter)?;
        Ok(Self { engine, name })
    }

    fn run_script(&self, script: &str, reporter: &dyn Reporter) -> Result<()> {
        let request = ExecRequest {
            argv: vec!["/bin/sh".into(), "-c".into(), script.to_owned()],
            env: vec![],
            user: None,
            working_dir: Some("/".into()),
            tty: None,
            background: false,
            timeout_seconds: None,
        };
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC)
                .map_err(|e| Error::new(ErrorCode::Internal, format!("make a pipe: {e}")))
        };
        let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
        let (events_in, events) = mpsc::channel();
        let streams = ExecStreams { stdin: None, stdout, stderr, events };
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| report_lines(out, reporter));
            scope.spawn(|| report_lines(err, reporter));
            let program = scope.spawn(|| exec::run(self.engine, &self.name, &request, streams));
            while !program.is_finished() {
                if reporter.is_cancelled() {
                    let _ = events_in.send(ExecEvent::Signal(TERMINATE));
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            program
                .join()
                .unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, "the script's thread died")))
        })?;
        match outcome {
            _ if reporter.is_cancelled() => Err(crate::cancelled("build the base")),
            ExecOutcome::Exited { code: 0 } => Ok(()),
            ExecOutcome::Exited { code } => {
                Err(Error::new(ErrorCode::ToolFailed, format!("the script failed with exit code {code}")))
            }
            ExecOutcome::Started { .. } => {
                Err(Error::new(ErrorCode::Internal, "the script ran in the background"))
            }
        }
    }
}

impl Drop for Workbench<'_> {
    fn drop(&mut self) {
        let _ = delete::run(self.engine, &self.name, false);
    }
}

fn report_lines(pipe: OwnedFd, reporter: &dyn Reporter) {
    let mut pipe = std::io::BufReader::new(File::from(pipe));
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = &mut std::io::Read::by_ref(&mut pipe).take(4096);
        match std::io::BufRead::read_until(limited, b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => reporter.output(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
