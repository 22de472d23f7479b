//! How long work tells what it does and hears that it should stop.

/// Receives progress; every method may be called from any thread. Implementations print or draw; the library
/// never does.
pub trait Reporter: Sync {
    /// A new step begins, `what` in the present participle (`importing rootfs.tar.gz`); `total` bytes or items, if known.
    fn step(&self, what: &str, total: Option<u64>);
    /// The current step has got `done` of its total in all.
    fn advance(&self, done: u64);
    /// A line of a called program's own output.
    fn output(&self, line: &str);
    /// Something the user should know though nothing failed.
    fn note(&self, text: &str);
    /// True once the user has asked to stop; long work looks at it often and ends with `cancelled`.
    fn is_cancelled(&self) -> bool;
}

/// The second of two works that go on at the same time: its steps would draw over the first's.
pub struct Muted<'r>(pub &'r dyn Reporter);

impl Reporter for Muted<'_> {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, line: &str) {
        self.0.output(line);
    }
    fn note(&self, text: &str) {
        self.0.note(text);
    }
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// A reporter that says nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}
