//! `fork`: many running boxes of one instant.
//!
//! A few are made at a time; each is shown, and outlives this command, as soon as it is ready. One that fails takes no
//! other with it.

use super::{capture, child, status};
use crate::{LocalEngine, machine};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};
use tine_model::{
    BoxRef, BoxSettings, BoxStatus, ByteSize, Contract, Error, ErrorCode, ForkClocks, ForkFailure,
    ForkPrefix, ForkReport, ForkRequest, ForkSource, ForkedBox, MAX_FORK, Reporter, Result,
};
use tine_store::{OpenImage, Pool, RootOrigin, StateFiles, StateStage};

/// Children whose memory is looked at, for the mean.
const SAMPLE: usize = 16;

pub fn run(
    engine: &LocalEngine,
    request: &ForkRequest,
    on_ready: &(dyn Fn(&ForkedBox) + Sync),
    reporter: &dyn Reporter,
) -> Result<ForkReport> {
    let begun = Instant::now();
    check(request)?;
    let pool = engine.pool()?;
    let names = names(&pool, request)?;
    reporter.step(&format!("forking {}", request.source), Some(u64::from(request.count)));
    match &request.source {
        ForkSource::Image(tag) => {
            let image = pool.open_image(tag)?;
            let source = Source::of_image(engine, &image, request)?;
            Ok(Fork { engine, pool: &pool, request, source, begun }.run(names, on_ready, reporter))
        }
        ForkSource::Box(name) => {
            let (stage, captured) = branch(engine, &pool, name)?;
            let files = stage.freeze()?;
            let origin = stage.root_origin(name)?;
            let contract = &captured.contract;
            let source = Source { origin, hardware: Some(contract), state: Some((&files, contract)) };
            let fork = Fork { engine, pool: &pool, request, source, begun };
            let mut report = fork.run(names, on_ready, reporter);
            report.pause_us = Some(captured.pause_us);
            Ok(report)
        }
    }
}

fn check(request: &ForkRequest) -> Result<()> {
    if !(1..=MAX_FORK).contains(&request.count) {
        let message = format!("{} boxes are not between 1 and {MAX_FORK}", request.count);
        return Err(Error::new(ErrorCode::Usage, message));
    }
    if request.cold && matches!(request.source, ForkSource::Box(_)) {
        let message = "a running box is forked as it runs; only an image can be booted from its disk";
        return Err(Error::new(ErrorCode::Usage, message));
    }
    machine::complete(&BoxSettings { network: request.network, ..Default::default() }).map(drop)
}

/// The first numbers that are free.
fn names(pool: &Pool, request: &ForkRequest) -> Result<VecDeque<BoxRef>> {
    let prefix = request.prefix.clone().unwrap_or_else(|| match &request.source {
        ForkSource::Image(tag) => ForkPrefix::of_image(tag),
        ForkSource::Box(name) => ForkPrefix::of_box(&name.name),
    });
    let taken: BTreeSet<BoxRef> = pool.box_names(Some(&request.project))?.into_iter().collect();
    let mut names = VecDeque::new();
    let mut number = 0;
    while names.len() < request.count as usize {
        number += 1;
        let name = BoxRef { project: request.project.clone(), name: prefix.child(number)? };
        if !taken.contains(&name) {
            names.push_back(name);
        }
    }
    Ok(names)
}

/// Saves a running box as it is at this moment.
fn branch<'p>(
    engine: &LocalEngine,
    pool: &'p Pool,
    name: &BoxRef,
) -> Result<(StateStage<'p>, tine_machine::Captured)> {
    let _locked = engine.lock(pool, name)?;
    pool.box_meta(name)?;
    if status(pool, name)? != BoxStatus::Running {
        let message = format!("box {name} is not running; a live branch is taken of a running vm box");
        return Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine start {name}")));
    }
    capture::save(pool, &pool.box_run_path(name), &pool.box_root_path(name), true)
}

/// What the children go on from.
struct Source<'s> {
    origin: RootOrigin<'s>,
    /// What the machines are like, where that is told.
    hardware: Option<&'s Contract>,
    /// The saved state and what it needs; none when they boot their disks.
    state: Option<(&'s StateFiles, &'s Contract)>,
}

impl<'s> Source<'s> {
    fn of_image(engine: &LocalEngine, image: &'s OpenImage, request: &ForkRequest) -> Result<Self> {
        let what = format!("image {}", image.tag);
        let state = if request.cold {
            None
        } else {
            let verified = child::verified(engine, &image.state, &what);
            Some(verified.map_err(|error| match error.code {
                ErrorCode::Incompatible if image.state.files.disk().is_some() => {
                    error.hint(format!("tine fork {} --cold", image.tag))
                }
                _ => error,
            })?)
        };
        Ok(Self { origin: image.root_origin()?, hardware: image.meta.saved.contract.as_ref(), state })
    }

    fn start(&self) -> machine::From<'_> {
        match self.state {
            Some((files, contract)) => machine::From::State { files, contract },
            None => machine::From::Disk,
        }
    }
}

struct Fork<'f> {
    engine: &'f LocalEngine,
    pool: &'f Pool,
    request: &'f ForkRequest,
    source: Source<'f>,
    begun: Instant,
}

/// What the workers share.
struct Progress {
    left: VecDeque<BoxRef>,
    ready: Vec<ForkedBox>,
    failed: Vec<ForkFailure>,
    /// Begun and not kept, because the user asked to stop.
    stopped: u32,
}

impl Fork<'_> {
    fn run(
        &self,
        names: VecDeque<BoxRef>,
        on_ready: &(dyn Fn(&ForkedBox) + Sync),
        reporter: &dyn Reporter,
    ) -> ForkReport {
        let workers = thread::available_parallelism().map_or(2, usize::from).max(2).min(names.len());
        let shared = Mutex::new(Progress { left: names, ready: Vec::new(), failed: Vec::new(), stopped: 0 });
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work(&shared, on_ready, reporter));
            }
        });
        let wall_us = micros(self.begun);
        let Progress { left, ready, failed, stopped } =
            shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (private_bytes, proportional_bytes) = self.memory(&ready);
        let cancelled = u32::try_from(left.len()).unwrap_or(u32::MAX).saturating_add(stopped);
        ForkReport { ready, failed, cancelled, wall_us, pause_us: None, private_bytes, proportional_bytes }
    }

    fn work(
        &self,
        shared: &Mutex<Progress>,
        on_ready: &(dyn Fn(&ForkedBox) + Sync),
        reporter: &dyn Reporter,
    ) {
        let progress = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        while !reporter.is_cancelled() {
            let Some(name) = progress().left.pop_front() else { return };
            match self.child(&name, reporter) {
                Ok(Some(ready)) => {
                    on_ready(&ready);
                    let mut progress = progress();
                    progress.ready.push(ready);
                    reporter.advance((progress.ready.len() + progress.failed.len()) as u64);
                }
                Ok(None) => progress().stopped += 1,
                Err(error) => progress().failed.push(ForkFailure { name, error: error.body().error }),
            }
        }
    }

    /// None when the user asked to stop meanwhile.
    fn child(&self, name: &BoxRef, reporter: &dyn Reporter) -> Result<Option<ForkedBox>> {
        let settings = match self.source.hardware {
            Some(contract) => child::settings_of(contract, &self.settings()),
            None => machine::complete(&self.settings())?,
        };
        let from = self.source.start();
        let child = child::make(self.engine, self.pool, &self.source.origin, &settings, &from, name)?;
        if reporter.is_cancelled() {
            return Ok(None);
        }
        let child_begun = child.begun();
        let clocks = child.publish()?;
        Ok(Some(ForkedBox {
            name: name.clone(),
            clocks: ForkClocks {
                process_started_us: clocks.process_started_us,
                state_loaded_us: clocks.state_loaded_us,
                resumed_us: clocks.resumed_us,
                agent_acknowledged_us: clocks.agent_acknowledged_us,
                ready_us: micros(child_begun),
            },
            since_start_us: micros(self.begun),
        }))
    }

    fn settings(&self) -> BoxSettings {
        let ForkRequest { network, env, tags, remove_on_stop, .. } = self.request;
        BoxSettings {
            network: *network,
            env: env.clone(),
            tags: tags.clone(),
            remove_on_stop: *remove_on_stop,
            ..Default::default()
        }
    }

    /// The means of guest memory that is a child's own, and of its whole process.
    fn memory(&self, ready: &[ForkedBox]) -> (Option<ByteSize>, Option<ByteSize>) {
        let step = ready.len().div_ceil(SAMPLE).max(1);
        let looked_at = ready.iter().step_by(step);
        let usage: Vec<_> = looked_at
            .filter_map(|child| tine_machine::usage(&self.pool.box_run_path(&child.name)).ok())
            .collect();
        let Some(count) = u64::try_from(usage.len()).ok().filter(|n| *n > 0) else { return (None, None) };
        let private: u64 = usage.iter().map(|u| u.private_bytes).sum();
        let proportional: u64 = usage.iter().map(|u| u.proportional_bytes).sum();
        (Some(ByteSize(private / count)), Some(ByteSize(proportional / count)))
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
