//! One change of a registry: read, changed, and put in the place of the one that was read.
//!
//! Where a lock is held that is all. Where there is none, another may have been quicker; then everything is done once
//! more with what that one has written, so that neither loses anything.

use super::{
    Hub, HubConfig, HubStorage, Publisher, REGISTRY, publish,
    storage::{Over, Small},
};
use crate::{
    error::{HubError, Result},
    registry::Registry,
};
use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// The shortest and the longest pause before another turn, in milliseconds.
const PAUSE: (u64, u64) = (20, 200);
/// Turns are taken for this long at least, whatever the caller's patience: each has been somebody's success.
const PATIENCE: Duration = Duration::from_secs(10);

/// A registry as it was read.
pub(super) struct Standing<T> {
    pub(super) registry: Registry,
    pub(super) stored: Small<T>,
}

/// What a look at the registry has led to.
pub(super) enum Step<T> {
    /// It was changed, and is to be published.
    Publish(T),
    /// It is as it should be.
    Keep(T),
}

impl<S: HubStorage> Hub<S> {
    /// The registry that is there, none when there is none.
    pub(super) fn standing(&self) -> Result<Option<Standing<S::Tag>>> {
        let Some(stored) = self.storage.read(REGISTRY, Registry::MAX_BYTES)? else { return Ok(None) };
        Ok(Some(Standing { registry: Registry::parse(&stored.bytes)?, stored }))
    }

    /// Lets `step` change the registry, and publishes what it has made of it; `step` is called again for each time
    /// that another was quicker.
    pub(super) fn change<T>(
        &self,
        config: &HubConfig,
        publisher: &Publisher<'_>,
        mut step: impl FnMut(&mut Registry) -> Result<Step<T>>,
    ) -> Result<T> {
        let signer = publish::signer(config, publisher)?;
        let mut turns = Turns::new(publisher.wait);
        loop {
            let mut there = self.standing()?.ok_or_else(|| self.corrupt(REGISTRY, "it is not there"))?;
            let done = match step(&mut there.registry)? {
                Step::Keep(done) => return Ok(done),
                Step::Publish(done) => done,
            };
            let published =
                self.publish(there.registry, Some(&there.stored), config, signer.as_ref(), publisher);
            match published {
                Err(HubError::Conflict(what)) => turns.again(what)?,
                published => return published.map(|()| done),
            }
        }
    }

    /// Puts a small file in the place of what `renewed` has made of it, and again of what another has written
    /// meanwhile; nothing is written when it answers none.
    pub(super) fn rewrite(
        &self,
        name: &str,
        max: u64,
        publisher: &Publisher<'_>,
        renewed: impl Fn(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<()> {
        let mut turns = Turns::new(publisher.wait);
        loop {
            let there = self.storage.read(name, max)?;
            let Some(bytes) = renewed(there.as_ref().map(|there| there.bytes.as_slice())) else {
                return Ok(());
            };
            match self.storage.write(name, &bytes, Over::read(there.as_ref())) {
                Err(HubError::Conflict(what)) => turns.again(what)?,
                written => return written,
            }
        }
    }
}

/// How long to go on when others are quicker.
struct Turns {
    patience: Duration,
    since: Option<Instant>,
}

impl Turns {
    fn new(wait: Duration) -> Self {
        Self { patience: wait.max(PATIENCE), since: None }
    }

    /// Sleeps a moment, of a length that others will hardly choose too.
    fn again(&mut self, what: String) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.patience {
            return Err(HubError::Busy(format!("others are changing {what} all the time")));
        }
        let (least, most) = PAUSE;
        let chance = RandomState::new().hash_one(());
        std::thread::sleep(Duration::from_millis(least + chance % (most - least)));
        Ok(())
    }
}
