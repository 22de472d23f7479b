//! Ctrl-C during long work: the work hears that it should stop, unwinds and cleans up.

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// Set once the user has asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP set the flag instead of killing the process half-way, but for those the caller has chosen to
    /// ignore, as `nohup` does. The first and the second say on stderr what happens. There is one flag: who has asked to stop in one
    /// part of a command means all of it.
    pub fn catch() -> Self {
        static CAUGHT: OnceLock<Interrupt> = OnceLock::new();
        CAUGHT.get_or_init(Self::begin).clone()
    }

    fn begin() -> Self {
        let interrupt = Self::default();
        let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
        if let Ok(signals) = Signals::new(wanted) {
            let flag = interrupt.clone();
            std::thread::spawn(move || flag.watch(signals));
        }
        interrupt
    }

    fn watch(&self, mut signals: Signals) {
        for _ in signals.forever() {
            let again = self.0.swap(true, Ordering::SeqCst);
            let text = if again { "still cleaning up" } else { "stopping; nothing half-made will stay" };
            // stderr may be gone together with the terminal that hung up
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\nnote: {text}\n").as_bytes());
        }
    }

    /// Asks to stop.
    #[cfg(test)]
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once the user has asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Whether this process was started with the signal ignored, as `nohup` and a shell's `&` do: then it stays so.
pub fn is_ignored(signal: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignored_in(&status, signal))
}

/// Reads the mask `SigIgn` of proc_pid_status(5).
fn ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && bits >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_seen_in_the_mask() {
        let status = "Name:\ttine\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(ignored_in(status, SIGHUP) && !ignored_in(status, SIGINT) && !ignored_in("", SIGHUP));
        assert!(!ignored_in(status, 0) && !ignored_in(status, 65));
    }
}
