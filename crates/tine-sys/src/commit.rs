//! Making everything durable that was changed in a btrfs file system.

use crate::{SysResult, btrfs};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::mpsc::{self, Sender},
    thread::{self, Scope, ScopedJoinHandle},
    time::Duration,
};

/// A commit begins within a few milliseconds. One that has not is asked for again after this, and then after twice as long each time.
const REMINDED_AFTER: Duration = Duration::from_millis(20);
/// The stack of a thread that does one system call.
const STACK: usize = 64 << 10;

/// Commits the running transaction of the file system `fd` lies on, and returns when it is on disk. File data that no one has
/// written back yet is not part of it.
///
/// `BTRFS_IOC_START_SYNC` wakes the kernel's committing thread and waits until that has begun. A thread that is just about to sleep
/// misses it and begins when its interval is over, up to 30 s later (`transaction_kthread` and
/// `btrfs_commit_transaction_async` in `fs/btrfs`; Linux 6.18 has it, and it shows when several commit at once on a busy
/// host). Whoever waits for long is helped by being asked once more.
///
/// # Errors
/// The kernel's: `ENOSPC`, `EROFS`, `EIO`.
pub fn commit(fd: BorrowedFd<'_>) -> SysResult<()> {
    let transaction = reminded(REMINDED_AFTER, || btrfs::start_sync(fd))?;
    btrfs::wait_sync(fd, transaction)
}

/// What `begin` gives, which is called again beside itself whenever nothing has returned for a while.
fn reminded<T: Send>(mut patience: Duration, begin: impl Fn() -> T + Sync) -> T {
    thread::scope(|scope| {
        let (ended, ends) = mpsc::channel();
        if ask(scope, &begin, &ended).is_err() {
            // no thread to be had: then without help
            return begin();
        }
        let (mut asked, mut first) = (1, None);
        loop {
            match ends.recv_timeout(patience) {
                Ok(result) => {
                    asked -= 1;
                    let result = first.take().unwrap_or(result);
                    if asked == 0 {
                        return result;
                    }
                    first = Some(result);
                }
                Err(_) => {
                    patience *= 2;
                    asked += u32::from(ask(scope, &begin, &ended).is_ok());
                }
            }
        }
    })
}

fn ask<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    begin: &'scope (impl Fn() -> T + Sync),
    ended: &Sender<T>,
) -> io::Result<ScopedJoinHandle<'scope, ()>> {
    let ended = ended.clone();
    // who asked has not gone: it waits for all
    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || _ = ended.send(begin()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    /// A kernel that loses the first `lost` wake-ups: who asks waits until one arrives.
    fn begun_after(lost: u32) -> (u32, u32) {
        let (calls, arrived) = (Mutex::new(0), Condvar::new());
        let result = reminded(Duration::from_millis(1), || {
            let mut count = calls.lock().unwrap();
            *count += 1;
            arrived.notify_all();
            drop(arrived.wait_while(count, |count| *count <= lost).unwrap());
            7
        });
        (result, *calls.lock().unwrap())
    }

    #[test]
    fn a_wake_up_that_was_lost_is_repeated_until_one_arrives() {
        for lost in 1..4 {
            let (result, calls) = begun_after(lost);
            assert!(result == 7 && calls > lost, "{lost}: {calls}");
        }
        assert_eq!(begun_after(0).0, 7);
    }
}
