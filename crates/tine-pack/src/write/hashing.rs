//! Plain SHA-256 of whole files where it is not known, holes included, in threads of their own: one file cannot be hashed by two, and holes
//! take their time, so no writer waits for it but at the end.

use super::Job;
use crate::{
    crew::died,
    error::{PackError, Result},
    manifest::Role,
    positioned::read_or_zeros_at,
    zeros::hash_zeros,
};
use rustix::{fs::SeekFrom, io::Errno};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Scope},
    vec,
};
use tine_digest::CHUNK;
use tine_model::Sha256Digest;

type Answer = io::Result<Sha256Digest>;

/// Digests that are being made; dropping it ends that soon.
pub(super) struct Hashing {
    answers: BTreeMap<(usize, Role), Receiver<Answer>>,
    stopped: Arc<AtomicBool>,
}

struct Task<'a> {
    file: &'a File,
    answer: SyncSender<Answer>,
}

impl Hashing {
    /// Begins with every memory and disk of a pack whose digest is not known, in the order in which they are needed.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, job: &'scope Job<'scope>) -> Result<Self> {
        let (mut tasks, mut answers) = (Vec::new(), BTreeMap::new());
        for (index, link) in job.source.links.iter().enumerate() {
            for role in [Role::Rootfs, Role::Memory] {
                let Some(source) = link.file(role) else { continue };
                let (answer, receiver) = sync_channel(1);
                match source.sha256 {
                    // there is room for one, and the receiver is here
                    Some(known) => drop(answer.send(Ok(known))),
                    None => tasks.push(Task { file: source.file, answer }),
                }
                answers.insert((index, role), receiver);
            }
        }
        let this = Self { answers, stopped: Arc::default() };
        let threads = job.threads.min(tasks.len());
        let tasks = Arc::new(Mutex::new(tasks.into_iter()));
        for _ in 0..threads {
            let (tasks, stopped) = (Arc::clone(&tasks), Arc::clone(&this.stopped));
            let run = move || run(&tasks, &stopped);
            let thread = thread::Builder::new().name("sha256".into()).spawn_scoped(scope, run);
            thread.map_err(PackError::io("start", "a thread"))?;
        }
        Ok(this)
    }

    /// The digest of a file, once it is known.
    pub fn wait(&self, link: usize, role: Role) -> Result<Sha256Digest> {
        let answer =
            self.answers.get(&(link, role)).and_then(|answer| answer.recv().ok()).ok_or_else(died)?;
        answer.map_err(PackError::io("read", role.file_name()))
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn run(tasks: &Mutex<vec::IntoIter<Task<'_>>>, stopped: &AtomicBool) {
    while let Some(task) = next(tasks) {
        // nobody listens when the writer has failed
        let _ = task.answer.send(hash(task.file, stopped));
    }
}

fn next<'a>(tasks: &Mutex<vec::IntoIter<Task<'a>>>) -> Option<Task<'a>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// SHA-256 of a file; its holes are not read.
fn hash(file: &File, stopped: &AtomicBool) -> Answer {
    let (mut hasher, mut buffer, mut at) = (Sha256::new(), vec![0; CHUNK], 0);
    let size = file.metadata()?.len();
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => size,
            start => start?.min(size),
        };
        hash_zeros(&mut hasher, start - at, || stopped.load(Ordering::Relaxed))?;
        at = start;
        let end = if at < size { rustix::fs::seek(file, SeekFrom::Hole(at))?.min(size) } else { size };
        while at < end {
            if stopped.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            read_or_zeros_at(file, piece, at)?;
            hasher.update(&*piece);
            at += wanted as u64;
        }
    }
    Ok(Sha256Digest(hasher.finalize().into()))
}
