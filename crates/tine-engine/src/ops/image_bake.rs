//! `image bake`: a machine is booted where nobody sees it, warmed up, brought to rest and saved.
//!
//! Whatever ends this process ends the machine too, and nothing is shown before all of it is saved.

use super::{
    capture,
    child::{self, Child},
    quiesced, status,
};
use crate::{LocalEngine, cancelled, machine, script::Script};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tine_model::{
    BakeImage, BoxKind, BoxRef, BoxSettings, BoxSource, BoxStatus, Contract, Error, ErrorCode, ImageInfo,
    Limits, Reporter, Result,
};
use tine_store::{NewImage, Pool, RootOrigin, StateFiles, StateStage};

/// Seconds that a command may take unless it is said.
const TIMEOUT_SECONDS: u32 = 600;
/// How often it is tried whether the machine is ready.
const READY_PERIOD: Duration = Duration::from_millis(200);

pub fn run(engine: &LocalEngine, request: &BakeImage, reporter: &dyn Reporter) -> Result<ImageInfo> {
    engine.pool()?.check_image_tag(&request.tag)?;
    bake(engine, request, Publish::New, reporter)
}

/// As [`run`], in the place of the image of that tag, which goes when all of the new one is saved.
pub fn replace(engine: &LocalEngine, request: &BakeImage, reporter: &dyn Reporter) -> Result<ImageInfo> {
    bake(engine, request, Publish::Replacing, reporter)
}

/// What becomes of an image that has the tag.
#[derive(Clone, Copy)]
enum Publish {
    /// It stays, and the new one is not shown.
    New,
    /// The new one takes its place.
    Replacing,
}

fn bake(
    engine: &LocalEngine,
    request: &BakeImage,
    publish: Publish,
    reporter: &dyn Reporter,
) -> Result<ImageInfo> {
    let pool = engine.pool()?;
    let bake = Bake { engine, pool: &pool, request, publish, reporter };
    match &request.source {
        BoxSource::Box(name) if runs(&pool, name)? => bake.of_running(name),
        BoxSource::Image(tag) => {
            let image = pool.open_image(tag)?;
            let (files, contract) = child::verified(engine, &image.state, &format!("image {tag}"))?;
            bake.further(&image.root_origin()?, files, contract)
        }
        _ => bake.of_disk(),
    }
}

fn runs(pool: &Pool, name: &BoxRef) -> Result<bool> {
    let kind = pool.box_meta(name)?.kind;
    match status(pool, name)? {
        BoxStatus::Stopped => Ok(false),
        _ if kind == BoxKind::Container => Ok(false),
        BoxStatus::Running => Ok(true),
        BoxStatus::Paused => {
            let message = format!("box {name} is paused");
            Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine resume {name}")))
        }
    }
}

struct Bake<'b> {
    engine: &'b LocalEngine,
    pool: &'b Pool,
    request: &'b BakeImage,
    publish: Publish,
    reporter: &'b dyn Reporter,
}

impl Bake<'_> {
    /// From a tree or disk: a machine boots it.
    fn of_disk(&self) -> Result<ImageInfo> {
        self.reporter.step("making the disk", None);
        let disk = self.request.disk_bytes;
        let kernel = self.pool.default_kernel(&tine_model::Silent)?;
        let make = || Ok(self.pool.vm_root_origin(&self.request.source, disk)?);
        let mut origin = match &self.request.source {
            BoxSource::Box(name) => quiesced(self.pool, name, self.reporter, make)?,
            _ => make()?,
        };
        origin.kernel = origin.kernel.take().or(Some(kernel.name));
        self.stop_if_wanted()?;
        self.reporter.step("booting", None);
        let machine = self.machine(&origin, &self.settings()?, &machine::From::Disk)?;
        self.warm_and_save(&machine, &origin)
    }

    /// From a running vm box as it runs; what warms it further happens in a clone of it.
    fn of_running(&self, name: &BoxRef) -> Result<ImageInfo> {
        self.refuse_other_hardware(name)?;
        let locked = self.engine.lock(self.pool, name)?;
        self.reporter.step(&format!("saving {name}"), None);
        let (run_dir, root) = (self.pool.box_run_path(name), self.pool.box_root_path(name));
        let (stage, captured) = capture::save(self.pool, &run_dir, &root, true)?;
        drop(locked);
        self.reporter.note(&format!("{name} stood still for {:.1} ms", captured.pause_us as f64 / 1000.0));
        let files = stage.freeze()?;
        let origin = stage.root_origin(name)?;
        if self.request.run.is_empty() && self.request.ready.is_none() {
            return self.publish(stage, &origin, captured.contract);
        }
        self.further(&origin, &files, &captured.contract)
    }

    /// From a saved machine, which goes on and is warmed further.
    fn further(&self, origin: &RootOrigin<'_>, files: &StateFiles, contract: &Contract) -> Result<ImageInfo> {
        self.reporter.step("going on", None);
        let settings = child::settings_of(contract, &self.settings()?);
        let machine = self.machine(origin, &settings, &machine::From::State { files, contract })?;
        self.warm_and_save(&machine, origin)
    }

    /// A machine has the hardware it runs with.
    fn refuse_other_hardware(&self, name: &BoxRef) -> Result<()> {
        let BakeImage { memory_bytes, cpus, disk_bytes, accel, .. } = self.request;
        if memory_bytes.is_none() && cpus.is_none() && disk_bytes.is_none() && accel.is_none() {
            return Ok(());
        }
        let message = format!("box {name} runs: its image has the memory, processors and disk that it has");
        Err(Error::new(ErrorCode::Usage, message).hint(format!("tine stop {name}")))
    }

    fn settings(&self) -> Result<BoxSettings> {
        let BakeImage { memory_bytes, cpus, network, accel, env, .. } = self.request;
        machine::complete(&BoxSettings {
            limits: Limits { memory_bytes: *memory_bytes, ..Default::default() },
            cpus: *cpus,
            network: *network,
            accel: *accel,
            env: env.clone(),
            ..Default::default()
        })
    }

    fn machine(
        &self,
        origin: &RootOrigin<'_>,
        settings: &BoxSettings,
        from: &machine::From<'_>,
    ) -> Result<Child<'_>> {
        let name = machine::bench_name(&format!("bake-{}", std::process::id()))?;
        child::make(self.engine, self.pool, origin, settings, from, &name)
    }

    fn warm_and_save(&self, machine: &Child<'_>, origin: &RootOrigin<'_>) -> Result<ImageInfo> {
        let run_dir = machine.run_dir();
        for command in &self.request.run {
            self.stop_if_wanted()?;
            self.reporter.step(&format!("running {command}"), None);
            self.script(&run_dir, command, self.timeout()).succeed(command, self.reporter)?;
        }
        if let Some(command) = &self.request.ready {
            self.await_ready(&run_dir, command)?;
        }
        self.stop_if_wanted()?;
        self.reporter.step("saving", None);
        let (stage, captured) = capture::save(self.pool, &run_dir, &machine.root_path(), true)?;
        self.publish(stage, origin, captured.contract)
    }

    fn await_ready(&self, run_dir: &Path, command: &str) -> Result<()> {
        self.reporter.step(&format!("waiting for {command}"), None);
        let deadline = Instant::now() + Duration::from_secs(u64::from(self.timeout()));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1);
            if self.script(run_dir, command, seconds).run(self.reporter)? == 0 {
                return Ok(());
            }
            self.stop_if_wanted()?;
            if Instant::now() >= deadline {
                let message = format!("{command} did not succeed within {} s", self.timeout());
                return Err(Error::new(ErrorCode::ToolFailed, message));
            }
            thread::sleep(READY_PERIOD);
        }
    }

    fn script<'s>(&'s self, run_dir: &'s Path, text: &'s str, seconds: u32) -> Script<'s> {
        Script {
            run_dir,
            kind: BoxKind::Vm,
            env: &self.request.env,
            text,
            input: None,
            timeout_seconds: Some(seconds),
        }
    }

    fn timeout(&self) -> u32 {
        self.request.timeout_seconds.unwrap_or(TIMEOUT_SECONDS)
    }

    fn stop_if_wanted(&self) -> Result<()> {
        if self.reporter.is_cancelled() { Err(cancelled("bake the image")) } else { Ok(()) }
    }

    fn publish(
        &self,
        stage: StateStage<'_>,
        origin: &RootOrigin<'_>,
        contract: Contract,
    ) -> Result<ImageInfo> {
        let parent = origin.image.as_ref().and_then(|tag| self.pool.image_info(tag).ok());
        let image = NewImage {
            description: self.request.description.clone(),
            source: self.request.source.to_string(),
            base: origin.base.clone(),
            parent: origin.image.clone(),
            parent_memory: parent.map(|parent| parent.memory_digest),
            contract: Some(contract),
            created_at: None,
            pack: None,
            digests: None,
        };
        let tag = &self.request.tag;
        Ok(match self.publish {
            Publish::New => stage.publish_image(tag, image)?,
            Publish::Replacing => stage.replace_image(tag, image, self.engine.config.wait)?,
        })
    }
}
