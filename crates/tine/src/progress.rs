//! Progress on stderr: a bar on a terminal, plain lines in a log, nothing when quiet.

use crate::{interrupt::Interrupt, screen};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tine_model::{ByteSize, Error, ErrorCode, Reporter, Result};

/// Counts below this are items, from it on bytes: the reporter's interface does not tell them apart, and no list
/// of things to do is this long while no amount of data worth a bar is smaller.
const BYTES_FROM: u64 = 64 * 1024;
/// Between two lines about the same step in a log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Work shorter than this draws no bar.
const BAR_DELAY: Duration = Duration::from_millis(400);

/// How much a verb has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Usually done before one could read about it: a bar when it takes long after all, no lines in a log.
    Short,
    /// Worth a line per step.
    Long,
}

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A terminal.
    Terminal,
    /// A file or pipe.
    Log,
    /// Nowhere.
    Nowhere,
}

/// A [`Reporter`] that writes to stderr.
pub struct Progress {
    place: Place,
    length: Length,
    interrupt: Interrupt,
    step: Mutex<Step>,
}

#[derive(Debug)]
struct Step {
    what: String,
    total: Option<u64>,
    said: Instant,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress at `place`; takes over the signals that ask to stop.
    pub fn new(place: Place, length: Length) -> Self {
        Self { place, length, interrupt: Interrupt::catch(), step: Mutex::new(Step::none()) }
    }

    /// The flag that tells whether the user has asked to stop.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Names the true cause of a failure that came after the user asked to stop.
    pub fn cause<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(_) if self.interrupt.is_set() => Err(Error::new(ErrorCode::Cancelled, "stopped as asked")),
            result => result,
        }
    }

    /// Runs `print`, which writes to the terminal, while no bar is drawn there.
    pub fn aside(&self, print: impl FnOnce()) {
        let step = self.step();
        match &step.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn step(&self) -> MutexGuard<'_, Step> {
        // a panic elsewhere must not take progress with it
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: &str) {
        if self.place == Place::Nowhere {
            return;
        }
        let step = self.step();
        match &step.bar {
            Some(bar) => bar.println(text),
            // nobody is left to tell when stderr is gone
            None => _ = writeln!(std::io::stderr(), "{text}"),
        }
    }
}

impl Reporter for Progress {
    fn step(&self, what: &str, total: Option<u64>) {
        let mut step = self.step();
        step.end();
        *step = Step { what: screen::line(what).into_owned(), total, ..Step::none() };
        if self.place == Place::Log && self.length == Length::Long {
            let _ = writeln!(std::io::stderr(), "{}", step.what);
        }
        if self.place == Place::Terminal && self.length == Length::Long {
            step.draw(0);
        }
    }

    fn advance(&self, done: u64) {
        let mut step = self.step();
        match self.place {
            Place::Terminal if step.bar.is_some() || step.began.elapsed() >= BAR_DELAY => step.draw(done),
            Place::Log if self.length == Length::Long && step.said.elapsed() >= LOG_INTERVAL => {
                step.log(done)
            }
            _ => {}
        }
    }

    fn output(&self, line: &str) {
        self.say(&screen::lines(line.trim_end()));
    }

    fn note(&self, text: &str) {
        self.say(&format!("note: {}", screen::line(text)));
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.is_set()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.step().end();
    }
}

impl Step {
    fn none() -> Self {
        let now = Instant::now();
        Self { what: String::new(), total: None, said: now, began: now, bar: None }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn log(&mut self, done: u64) {
        self.said = Instant::now();
        let _ = writeln!(std::io::stderr(), "{}: {}", self.what, amount(done, self.total));
    }

    fn draw(&mut self, done: u64) {
        let style = style(self.total, done);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(self.total, ProgressDrawTarget::stderr());
            // the ticker draws at once, so the style has to be there before it
            bar.set_style(style.clone());
            bar.set_message(self.what.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_style(style);
        bar.set_position(done);
    }
}

/// `1.0 GiB of 2.0 GiB (50%)`, `3 of 12 (25%)`, `1.0 GiB`.
fn amount(done: u64, total: Option<u64>) -> String {
    let bytes = total.unwrap_or(done) >= BYTES_FROM;
    let show = |n: u64| if bytes { ByteSize(n).to_string() } else { n.to_string() };
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{} of {} ({percent}%)", show(done), show(total))
        }
        _ => show(done),
    }
}

fn style(total: Option<u64>, done: u64) -> ProgressStyle {
    let template = match (total, total.unwrap_or(done) >= BYTES_FROM) {
        (Some(_), true) => "{msg} [{bar:30}] {bytes} of {total_bytes} {bytes_per_sec} {eta}",
        (Some(_), false) => "{msg} [{bar:30}] {pos} of {len}",
        (None, true) => "{spinner} {msg} {bytes} {bytes_per_sec}",
        (None, false) => "{spinner} {msg} {elapsed}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_bytes_or_items() {
        assert_eq!(amount(1 << 30, Some(2 << 30)), "1.0 GiB of 2.0 GiB (50%)");
        assert_eq!(amount(3, Some(12)), "3 of 12 (25%)");
        assert_eq!(amount(5 << 20, None), "5.0 MiB");
        assert_eq!(amount(0, Some(0)), "0");
    }

    #[test]
    fn every_template_is_well_formed() {
        for (total, done) in [(Some(1 << 30), 1), (Some(3), 1), (None, 1 << 30), (None, 1)] {
            let bar = ProgressBar::hidden();
            bar.set_style(style(total, done));
        }
        for template in
            ["{msg} [{bar:30}] {bytes} of {total_bytes} {bytes_per_sec} {eta}", "{spinner} {msg} {elapsed}"]
        {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
