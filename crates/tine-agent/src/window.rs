//! How much one side may send before the other has taken it in: a window for each stream of each channel.
//!
//! Counts only; moves no data.

use crate::error::{AgentError, AgentResult};

/// Bytes of a stream that may be on their way.
pub const WINDOW: u32 = 256 << 10;
/// Credit is given back in pieces of at least this, so that it costs few messages.
const STEP: u32 = WINDOW / 4;

/// The sender's side: how much it may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    left: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { left: WINDOW }
    }
}

impl Window {
    /// Bytes that may be sent now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.left as usize
    }

    /// So many bytes have been sent; more than available count as all.
    pub fn sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The receiver has taken in so many bytes.
    ///
    /// # Errors
    /// [`AgentError::Malformed`] when more comes back than was sent; the window is whole then.
    pub fn returned(&mut self, bytes: u32) -> AgentResult<()> {
        let left = self.left.checked_add(bytes).filter(|left| *left <= WINDOW);
        self.left = left.unwrap_or(WINDOW);
        match left {
            Some(_) => Ok(()),
            None => Err(AgentError::Malformed("more credit than was used".to_owned())),
        }
    }
}

/// The receiver's side: how much the sender may still send, and how much credit it is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intake {
    room: u32,
    owed: u32,
}

impl Default for Intake {
    fn default() -> Self {
        Self { room: WINDOW, owed: 0 }
    }
}

impl Intake {
    /// So many bytes have come.
    ///
    /// # Errors
    /// [`AgentError::Malformed`] when the sender had no credit for them.
    pub fn came(&mut self, bytes: usize) -> AgentResult<()> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.room.checked_sub(bytes));
        self.room =
            left.ok_or_else(|| AgentError::Malformed("more data than the window holds".to_owned()))?;
        Ok(())
    }

    /// So many of them have been passed on; gives the credit to return now, 0 for none yet.
    pub fn passed_on(&mut self, bytes: usize) -> u32 {
        let most = WINDOW.saturating_sub(self.room);
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX)).min(most);
        if self.owed < STEP {
            return 0;
        }
        self.room += self.owed;
        std::mem::take(&mut self.owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn what_is_beyond_the_window_is_odd() {
        let mut intake = Intake::default();
        intake.came(WINDOW as usize).unwrap();
        assert!(intake.came(1).is_err());
        assert_eq!(intake.passed_on(WINDOW as usize + 9), WINDOW);
        let mut window = Window::default();
        assert!(window.returned(1).is_err() && window.returned(u32::MAX).is_err());
        assert_eq!(window.available(), WINDOW as usize);
    }

    proptest! {
        /// However much is sent and passed on at a time, a sender and a receiver never wait for each other.
        #[test]
        fn the_two_sides_agree_and_never_both_stand_still(
            sends in prop::collection::vec(1..200_000_usize, 1..60),
            takes in prop::collection::vec(1..200_000_usize, 1..60),
        ) {
            let (mut window, mut intake) = (Window::default(), Intake::default());
            let (mut on_the_way, mut held, mut moved) = (VecDeque::new(), 0, 0_usize);
            for (send, take) in sends.iter().zip(takes.iter().cycle()).cycle().take(500) {
                let send = (*send).min(window.available());
                window.sent(send);
                on_the_way.push_back(send);
                let came = on_the_way.pop_front().unwrap_or(0);
                intake.came(came).unwrap();
                held += came;
                let passed = (*take).min(held);
                held -= passed;
                moved += passed;
                let credit = intake.passed_on(passed);
                window.returned(credit).unwrap();
                prop_assert!(passed > 0, "both stand still");
            }
            prop_assert!(moved >= 500);
        }
    }
}
