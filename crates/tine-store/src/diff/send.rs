//! Asks the kernel which paths may differ.

use super::{
    namespace::{Candidates, Namespace},
    stream::{Commands, Odd},
};
use crate::{Result, error::at};
use rustix::pipe::PipeFlags;
use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::fd::AsFd,
    path::Path,
    thread,
};
use tine_sys::{btrfs, tree::Tree};

const PIPE: usize = 1 << 20;
/// Beyond this many names a walk of both trees is no slower and takes less memory.
const NAMES_MAX: usize = 4_000_000;

/// Paths that may differ, a superset of those that do; `None` when the kernel or its stream says anything odd.
pub(super) fn candidates(older: &Tree, newer: &Tree) -> Result<Option<Candidates>> {
    let Ok(parent) = btrfs::subvolume_info(older.as_fd()) else { return Ok(None) };
    let (read, write) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(at("make", Path::new("a pipe")))?;
    // a smaller pipe only costs time
    let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE);
    thread::scope(|scope| {
        let sender = thread::Builder::new().name("send".into()).spawn_scoped(scope, move || {
            // the pipe closes with this thread's end of it, which is how the reader learns of the end
            btrfs::send_metadata(newer.as_fd(), write.as_fd(), parent.id)
        });
        let sender = sender.map_err(at("start", Path::new("a thread")))?;
        let mut input = BufReader::with_capacity(PIPE, File::from(read));
        let names = collect(&mut input);
        // a writer into a pipe without a reader gets a signal
        let _ = io::copy(&mut input, &mut io::sink());
        let sent = sender.join().is_ok_and(|sent| sent.is_ok());
        Ok(names.ok().filter(|_| sent).map(Namespace::candidates))
    })
}

fn collect(input: impl Read) -> Result<Namespace, Odd> {
    let mut commands = Commands::new(input)?;
    let mut names = Namespace::new();
    while let Some(command) = commands.next()? {
        names.apply(&command);
        if names.len() > NAMES_MAX {
            return Err(Odd);
        }
    }
    Ok(names)
}
