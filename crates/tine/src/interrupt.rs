//! Ctrl-C during long work: the work hears that it should stop, unwinds and cleans up.

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Set once the user has asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP set the flag instead of killing the process half-way. The first
    /// and the second say on stderr what happens.
    pub fn catch() -> Self {
        let interrupt = Self::default();
        if let Ok(signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
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
