//! Who dies first when the host is short of memory: what is not ready yet, rather than what works already.

use tine_sys::reserve::Reserve;

/// This process's own part in the kernel's choice; see proc(5).
const OWN_SCORE: &str = "/proc/self/oom_score_adj";
/// The machine's, until it is ready.
pub(super) const MACHINE_SCORE: &str = "500";
/// Its monitor's: the machine goes sooner, since its monitor can say so.
const MONITOR_SCORE: &str = "400";
/// What a guest may need in its first moments beyond what it had when it was ready, in bytes.
const ROOM: usize = 16 << 20;

/// The monitor of a machine that is not ready: it is killed sooner than others, and holds back the memory without
/// which its machine would be ready only to die, or to be the death of another.
#[derive(Debug)]
pub(super) struct Unready {
    score_before: Option<Vec<u8>>,
    room: Option<Reserve>,
}

impl Unready {
    /// From now on it is rather this one than one that works.
    pub(super) fn begin() -> Self {
        let score_before = std::fs::read(OWN_SCORE).ok();
        let _ = std::fs::write(OWN_SCORE, MONITOR_SCORE);
        Self { score_before, room: None }
    }

    /// Holds memory back. To be called in the group that shall have it.
    pub(super) fn hold_room(&mut self) {
        // a machine without it may still do well
        self.room = Reserve::take(ROOM).ok();
    }

    /// Gives the memory back, and is worth as much as before.
    pub(super) fn end(self) {
        drop(self.room);
        // as it is, it is only killed sooner than it need be
        let _ = self.score_before.map(|score| std::fs::write(OWN_SCORE, score));
    }
}
