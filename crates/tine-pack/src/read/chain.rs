//! The links of a pack that is read, one after the other: what each has, and what the next is made of.

use super::{LinkSums, Reused, layers::Layers};
use crate::{
    error::{PackError, Result},
    manifest::{Layout, Link, Manifest, Role},
};
use std::{collections::BTreeMap, fs::File, sync::Arc};
use tine_digest::ChunkSums;
use tine_model::Sha256Digest;

/// The links of a pack, each made of the one before.
pub(super) struct Chain<'m> {
    manifest: &'m Manifest,
    reuse: BTreeMap<usize, Reused>,
    pub parent: Done,
    pub current: Done,
    /// How many links have begun; the last of them is `current`.
    begun: usize,
    sums: Vec<LinkSums>,
}

impl<'m> Chain<'m> {
    pub fn new(manifest: &'m Manifest, reuse: BTreeMap<usize, Reused>) -> Self {
        let (parent, current) = (Done::default(), Done::default());
        Self { manifest, reuse, parent, current, begun: 0, sums: Vec::new() }
    }

    /// Begins this link, unless it has begun, and before it those that the stream does not have.
    pub fn begin(&mut self, number: usize) -> Result<()> {
        while self.begun <= number {
            self.end()?;
            let begun = self.link(self.begun)?;
            self.parent = std::mem::replace(&mut self.current, begun);
            self.begun += 1;
        }
        Ok(())
    }

    /// Ends the link that has begun.
    fn end(&mut self) -> Result<()> {
        let last = self.begun.checked_sub(1);
        self.sums.extend(last.map(|link| self.current.sums(self.manifest, link)).transpose()?);
        Ok(())
    }

    /// A new link: what it says of its parent, which is `current` still, is checked, and what is there already is.
    fn link(&mut self, number: usize) -> Result<Done> {
        let link = link(self.manifest, number)?;
        if self.manifest.layout == Layout::V2 && number > 0 {
            check_parent(self.manifest, number, &self.current)?;
        }
        let reused = self.reuse.remove(&number);
        reused.map_or(Ok(Done::default()), |files| reuse(self.manifest.layout, link, files))
    }

    /// The sums of all links.
    pub fn finish(mut self) -> Result<Vec<LinkSums>> {
        self.begin(self.manifest.links.len().saturating_sub(1))?;
        self.end()?;
        Ok(self.sums)
    }
}

/// A link that has been read, or is being.
#[derive(Default)]
pub(super) struct Done {
    pub files: BTreeMap<Role, Laid>,
    pub vmstate: Option<Sha256Digest>,
    pub snapshot_json: Option<Vec<u8>>,
    pub reused: bool,
}

/// A paged file that holds its content.
pub(super) struct Laid {
    pub file: File,
    pub size: u64,
    pub sums: ChunkSums,
    /// Plain SHA-256 of the whole content, where it is known.
    pub plain: Option<Sha256Digest>,
    /// Where its content is read.
    pub layers: Arc<Layers>,
}

impl Done {
    fn sums(&self, manifest: &Manifest, number: usize) -> Result<LinkSums> {
        let incomplete = || PackError::malformed(format!("image {number} of the pack is incomplete"));
        let memory = self.files.get(&Role::Memory).ok_or_else(incomplete)?;
        let disk = self.files.get(&Role::Rootfs);
        debug_assert!(number < manifest.links.len());
        Ok(LinkSums {
            memory: memory.sums.digest(),
            memory_plain: memory.plain,
            vmstate: self.vmstate.ok_or_else(incomplete)?,
            disk: disk.map(|disk| disk.sums.digest()),
            disk_plain: disk.and_then(|disk| disk.plain),
            snapshot_json: self.snapshot_json.clone(),
        })
    }
}

pub(super) fn link(manifest: &Manifest, number: usize) -> Result<&Link> {
    manifest.links.get(number).ok_or_else(|| PackError::malformed("there is no such image"))
}

/// In layout 2 the hash of a parent that held only what differs may be that of the member or of the whole.
fn check_parent(manifest: &Manifest, number: usize, parent: &Done) -> Result<()> {
    let (own, before) = (link(manifest, number)?, link(manifest, number - 1)?);
    let declared = before.file(Role::Memory).map(|file| file.digest);
    let Some(hash) = own.parent_content_hash.filter(|hash| Some(*hash) != declared) else {
        return Ok(());
    };
    let memory = parent.files.get(&Role::Memory).filter(|memory| memory.plain.is_none());
    let whole = memory.map(|memory| tine_digest::of_all(&memory.file)).transpose();
    if whole.map_err(PackError::io("read", "the parent's memory"))? == Some(hash) {
        return Ok(());
    }
    let (tag, parent) = (&own.tag, &before.tag);
    Err(PackError::corrupt(
        format!("image {tag}"),
        format!("it was made of another memory than {parent} has"),
    ))
}

/// The files of a link that is there already, if they are what the manifest says.
fn reuse(layout: Layout, link: &Link, files: Reused) -> Result<Done> {
    let vmstate = link.file(Role::Vmstate).map(|file| file.digest);
    let mut done = Done { reused: true, vmstate, ..Done::default() };
    for (role, file) in [(Role::Memory, Some(files.memory)), (Role::Rootfs, files.disk)] {
        let Some((entry, file)) = link.file(role).zip(file) else { continue };
        let failed = || PackError::io("read", role.file_name());
        let sums = tine_digest::sums_of_data(&file).map_err(failed())?;
        let plain = match layout {
            Layout::V3 => None,
            _ => Some(tine_digest::of_all(&file).map_err(failed())?),
        };
        let size = file.metadata().map_err(failed())?.len();
        if plain.unwrap_or_else(|| sums.digest()) != entry.digest || size != entry.size {
            let what = format!("{} of image {}", role.file_name(), link.tag);
            return Err(PackError::corrupt(what, "what is there already is not what the pack declares"));
        }
        let layers = Arc::new(Layers::of(file.try_clone().map_err(failed())?));
        done.files.insert(role, Laid { file, size, sums, plain, layers });
    }
    Ok(done)
}
