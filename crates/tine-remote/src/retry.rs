//! What may be tried again, when, and how often.

use crate::{config::RemoteConfig, error::RemoteError};
use std::time::Duration;

/// Why one attempt ended.
#[derive(Debug)]
pub(crate) enum Fault {
    /// May pass; `wait` is what the server asked for.
    Passing {
        /// What to say when it does not pass.
        error: RemoteError,
        /// The server's own wish.
        wait: Option<Duration>,
    },
    /// Will not pass.
    Final(RemoteError),
    /// The file at the server is another one now.
    Changed,
    /// The server does not do ranges, or does them wrongly.
    NoRanges,
}

impl From<RemoteError> for Fault {
    fn from(error: RemoteError) -> Self {
        Self::Final(error)
    }
}

impl Fault {
    pub(crate) fn passing(error: RemoteError) -> Self {
        Self::Passing { error, wait: None }
    }

    /// The error to end with when nothing more is tried.
    pub(crate) fn into_error(self, shown: &(dyn std::fmt::Display + Sync)) -> RemoteError {
        match self {
            Self::Passing { error, .. } | Self::Final(error) => error,
            Self::Changed => RemoteError::unexpected(shown, "the file changes again and again at the server"),
            Self::NoRanges => RemoteError::refused(shown, "the server answers ranges wrongly"),
        }
    }
}

/// The longest pause that this side chooses.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Counts attempts that gained nothing.
#[derive(Debug)]
pub(crate) struct Tries {
    left: u32,
    made: u32,
    retries: u32,
    backoff: Duration,
    wait_max: Duration,
}

impl Tries {
    pub(crate) fn new(config: &RemoteConfig) -> Self {
        Self {
            left: config.retries,
            made: 0,
            retries: config.retries,
            backoff: config.backoff,
            wait_max: config.retry_after_max,
        }
    }

    /// Something was gained: the count begins anew.
    pub(crate) fn gained(&mut self) {
        (self.left, self.made) = (self.retries, 0);
    }

    /// Sleeps before another attempt.
    ///
    /// # Errors
    /// The fault itself, when it does not pass or no attempt is left.
    pub(crate) async fn again(&mut self, fault: Fault) -> Result<(), Fault> {
        let Fault::Passing { error, wait } = fault else { return Err(fault) };
        if self.left == 0 {
            return Err(Fault::Final(error));
        }
        tokio::time::sleep(self.pause(wait)).await;
        Ok(())
    }

    fn pause(&mut self, wait: Option<Duration>) -> Duration {
        let own = self.backoff.saturating_mul(1 << self.made.min(10)).min(PAUSE_MAX);
        self.left -= 1;
        self.made += 1;
        wait.map_or(own, |asked| asked.min(self.wait_max).max(own))
    }
}

/// Calls `attempt` until it succeeds, fails for good, or no try is left.
pub(crate) async fn retrying<T, F, A>(config: &RemoteConfig, mut attempt: F) -> Result<T, Fault>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, Fault>>,
{
    let mut tries = Tries::new(config);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(fault) => tries.again(fault).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries() -> Tries {
        Tries::new(&RemoteConfig { backoff: Duration::from_millis(100), ..RemoteConfig::default() })
    }

    #[test]
    fn pauses_grow_and_stay_bounded_whatever_the_server_asks_for() {
        let mut tries = tries();
        assert_eq!(tries.pause(None), Duration::from_millis(100));
        assert_eq!(tries.pause(None), Duration::from_millis(200));
        assert_eq!(tries.pause(Some(Duration::from_secs(2))), Duration::from_secs(2));
        assert_eq!(tries.pause(Some(Duration::from_secs(1 << 40))), Duration::from_secs(60));
        tries.gained();
        assert_eq!(tries.pause(None), Duration::from_millis(100));
    }

    #[test]
    fn the_tries_run_out() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let config =
            RemoteConfig { backoff: Duration::from_millis(1), retries: 3, ..RemoteConfig::default() };
        let mut calls = 0;
        let ended: Result<(), Fault> = runtime.block_on(retrying(&config, || {
            calls += 1;
            async { Err(Fault::passing(RemoteError::unreachable("x", "y"))) }
        }));
        assert!(matches!(ended, Err(Fault::Final(RemoteError::Unreachable { .. }))));
        assert_eq!(calls, 4);
    }
}
