//! The members of a pack, one after the other, against its manifest.

use super::{
    Begin, Limits, LinkSums, Receiver, Unpacked,
    chain::{Chain, Done, Laid, link},
    hashing::Hashing,
    layers::Layers,
    laying::{Ground, Laying, Room, lay},
    order::{Order, Place, name, refused},
};
use crate::{
    crew::Crew,
    error::{PackError, Result},
    frames::FrameReader,
    manifest::{FileEntry, Layout, Link, MANIFEST, MANIFEST_MAX, Manifest, Role, SIGNATURE, SIGNATURE_MAX},
    pieces::{Piece, by_chunk, inherited, with_chunk},
    share::share,
};
use std::{
    fs::File,
    sync::{Arc, Mutex, atomic::AtomicU64},
};
use tine_archive::{Member, MemberKind, TarReader};
use tine_digest::{CHUNK, ChunkSums};
use tine_model::{Reporter, Sha256Digest};

type Tar = TarReader<FrameReader>;

/// A pack being read.
pub(super) struct Reading<'a> {
    tar: Tar,
    hashing: Hashing,
    crew: Crew,
    limits: &'a Limits,
    room: Arc<Room>,
    reporter: &'a dyn Reporter,
    /// Bytes of content read so far.
    done: u64,
}

impl<'a> Reading<'a> {
    pub fn new(tar: Tar, crew: Crew, limits: &'a Limits, reporter: &'a dyn Reporter) -> Result<Self> {
        let hashing = Hashing::start()?;
        let room = Arc::new(Room::new(limits.max_bytes));
        Ok(Self { tar, hashing, crew, limits, room, reporter, done: 0 })
    }

    pub fn run(mut self, receiver: &mut dyn Receiver) -> Result<Unpacked> {
        let raw = read_manifest(&mut self.tar)?;
        let manifest = Manifest::parse(&raw)?;
        self.limits.check_sizes(&manifest)?;
        let mut next = self.tar.next()?;
        let signature = self.signature(&manifest, next.as_ref())?;
        if signature.is_some() {
            next = self.tar.next()?;
        }
        let begin = receiver.begin(&manifest, &raw, signature.as_deref()).map_err(PackError::Refused)?;
        self.limits.check_room(&manifest, &begin.reuse)?;
        let comes = |(number, _): &(usize, &Link)| !begin.left_out.contains(number);
        let links = manifest.links.iter().enumerate().filter(comes);
        let total = links.flat_map(|(_, link)| &link.files).map(|file| file.stored).sum();
        self.reporter.step(&format!("unpacking {}", manifest.tag), Some(total));
        if manifest.layout != Layout::V3 {
            self.crew.widen(self.limits.max_waiting / CHUNK);
        }
        let links = self.links(&manifest, begin, next, receiver)?;
        Ok(Unpacked { links, consumed: self.tar.into_inner().consumed(), manifest })
    }

    fn signature(&mut self, manifest: &Manifest, member: Option<&Member>) -> Result<Option<String>> {
        let ours = manifest.layout == Layout::V3;
        let Some(member) = member.filter(|member| ours && member.name == SIGNATURE.as_bytes()) else {
            return Ok(None);
        };
        if member.kind != MemberKind::File || member.sparse.is_some() {
            return Err(refused(SIGNATURE, "is no regular file"));
        }
        let text = String::from_utf8(small(&mut self.tar, member, SIGNATURE_MAX)?);
        text.map(Some).map_err(|_| refused(SIGNATURE, "is not UTF-8"))
    }

    fn links(
        &mut self,
        manifest: &Manifest,
        begin: Begin,
        mut next: Option<Member>,
        receiver: &mut dyn Receiver,
    ) -> Result<Vec<LinkSums>> {
        let mut order = Order::new(manifest, &begin.left_out);
        let mut chain = Chain::new(manifest, begin.reuse);
        while let Some(member) = next {
            if let Some(place) = order.accept(&member)? {
                chain.begin(place.link)?;
                let step = Step { manifest, place, parent: &chain.parent };
                self.member(&step, &member, &mut chain.current, receiver)?;
            }
            next = self.tar.next()?;
        }
        order.finish()?;
        chain.finish()
    }

    fn member(
        &mut self,
        step: &Step<'_>,
        member: &Member,
        current: &mut Done,
        receiver: &mut dyn Receiver,
    ) -> Result<()> {
        let entry = step.entry()?;
        match step.place.role {
            Role::SnapshotJson if member.sparse.is_some() => Err(refused(name(member)?, "is sparse")),
            Role::SnapshotJson => {
                let content = small(&mut self.tar, member, entry.size)?;
                step.verify(crate::plain_digest(&content))?;
                self.done += entry.size;
                self.reporter.advance(self.done);
                current.snapshot_json = Some(content);
                Ok(())
            }
            // the next member passes over the content of this one
            _ if current.reused => Ok(()),
            role => {
                let laid = self.paged(step, member, receiver)?;
                match role {
                    Role::Vmstate => current.vmstate = laid.plain,
                    _ => _ = current.files.insert(role, laid),
                }
                Ok(())
            }
        }
    }

    fn paged(&mut self, step: &Step<'_>, member: &Member, receiver: &mut dyn Receiver) -> Result<Laid> {
        let (entry, Place { link, role }) = (step.entry()?, step.place);
        let file = receiver.file(link, role, entry.size).map_err(PackError::Refused)?;
        let parent = step.delta(member)?;
        let (laying, extra) = self.laying(entry, file, parent)?;
        let all = [(0, entry.size)];
        let stretches = member.sparse.as_ref().map_or(all.as_slice(), |map| &map.data);
        let plain = self.content(step, &laying, with_chunk(by_chunk(stretches), extra))?;
        let sums = laying.take_sums();
        step.verify(plain.unwrap_or_else(|| sums.digest()))?;
        let failed = || PackError::io("open", role.file_name());
        let again = || laying.file.try_clone().map_err(failed());
        // only files of one size are told apart by their stretches
        let layers = match parent.filter(|parent| parent.size == entry.size) {
            Some(parent) => parent.layers.under(again()?, stretches).map_err(failed())?,
            None => Layers::of(again()?),
        };
        let plain = plain.filter(|_| parent.is_none());
        Ok(Laid { file: again()?, size: entry.size, sums, plain, layers: Arc::new(layers) })
    }

    /// A file that holds what its parent does, if it has one, ready for what is stored; and the chunk that has to be summed
    /// in any case.
    fn laying(
        &self,
        entry: &FileEntry,
        file: File,
        parent: Option<&Laid>,
    ) -> Result<(Arc<Laying>, Option<u64>)> {
        let failed = || PackError::io("prepare", entry.role.file_name());
        if let Some(parent) = parent {
            share(&parent.file, &file).map_err(failed())?;
        }
        file.set_len(entry.size).map_err(failed())?;
        let (sums, extra) = match parent {
            Some(parent) => inherited(&parent.sums, parent.size, entry.size),
            None => (ChunkSums::new(), None),
        };
        let laying = Laying {
            file,
            size: entry.size,
            name: entry.role.file_name().to_owned(),
            ground: parent.map_or(Ground::Hole, |parent| Ground::Parent(Arc::clone(&parent.layers))),
            sums: Mutex::new(sums),
            room: Arc::clone(&self.room),
            waiting: AtomicU64::new(0),
            turn: Mutex::default(),
        };
        Ok((Arc::new(laying), extra))
    }

    /// Reads and lays all pieces of a file; gives its plain digest where the layout has that.
    fn content(
        &mut self,
        step: &Step<'_>,
        laying: &Arc<Laying>,
        pieces: impl Iterator<Item = Piece>,
    ) -> Result<Option<Sha256Digest>> {
        let plain = step.manifest.layout != Layout::V3 || !step.place.role.is_paged();
        for piece in pieces {
            let mut buffer = self.crew.buffer(self.reporter)?;
            // all of it is filled
            buffer.resize(piece.length(laying.size), 0);
            self.fill(&piece, &mut buffer)?;
            let buffer = Arc::new(buffer);
            if plain {
                self.hashing.chunk(Arc::clone(&buffer), piece.offset())?;
            }
            lay(&self.crew, buffer, piece, Arc::clone(laying));
        }
        let end = || self.hashing.end(laying.size, self.reporter, || laying.begin_write_back());
        let digest = plain.then(end).transpose()?;
        self.crew.settle()?;
        Ok(digest)
    }

    /// Fills the stored ranges of a chunk with content, and the rest with zeros.
    fn fill(&mut self, piece: &Piece, buffer: &mut [u8]) -> Result<()> {
        if self.reporter.is_cancelled() {
            return Err(PackError::Cancelled);
        }
        let mut at = 0;
        for (from, to) in &piece.ranges {
            buffer.get_mut(at..*from).unwrap_or_default().fill(0);
            read_content(&mut self.tar, buffer.get_mut(*from..*to).unwrap_or_default())?;
            self.done += (to - from) as u64;
            at = *to;
        }
        buffer.get_mut(at..).unwrap_or_default().fill(0);
        self.reporter.advance(self.done);
        Ok(())
    }
}

/// The bytes of the manifest, with which every pack begins.
pub(super) fn read_manifest(tar: &mut Tar) -> Result<Vec<u8>> {
    let first = tar.next()?.ok_or_else(|| PackError::malformed("the pack is empty"))?;
    let plain = first.kind == MemberKind::File && first.sparse.is_none();
    if !plain || first.name != MANIFEST.as_bytes() {
        return Err(PackError::malformed(format!("the pack does not begin with {MANIFEST}")));
    }
    small(tar, &first, MANIFEST_MAX)
}

/// The whole content of a small member.
fn small(tar: &mut Tar, member: &Member, most: u64) -> Result<Vec<u8>> {
    let name = name(member)?;
    let size = usize::try_from(member.stored).unwrap_or(usize::MAX);
    if member.stored > most {
        return Err(PackError::TooLarge(format!("{name} in the pack has more than {most} bytes")));
    }
    let mut content = vec![0; size];
    read_content(tar, &mut content)?;
    Ok(content)
}

/// Fills `buffer` with the next content of the member.
fn read_content(tar: &mut Tar, mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        let piece = tar.content()?;
        let length = piece.len().min(buffer.len());
        if length == 0 {
            return Err(PackError::malformed("the pack is cut off"));
        }
        let (now, later) = buffer.split_at_mut(length);
        now.copy_from_slice(piece.get(..length).unwrap_or_default());
        tar.consume(length);
        buffer = later;
    }
    Ok(())
}

/// A member that is being read.
struct Step<'a> {
    manifest: &'a Manifest,
    place: Place,
    parent: &'a Done,
}

impl Step<'_> {
    fn entry(&self) -> Result<&FileEntry> {
        let entry = link(self.manifest, self.place.link)?.file(self.place.role);
        entry.ok_or_else(|| PackError::malformed("a file is not declared"))
    }

    /// Compares what was read with what is declared.
    fn verify(&self, digest: Sha256Digest) -> Result<()> {
        if self.entry()?.digest == digest {
            return Ok(());
        }
        let name = self.manifest.entry_name(self.place.link, self.place.role);
        Err(PackError::corrupt(
            format!("{name} in the pack"),
            "its content has not the digest that is declared",
        ))
    }

    /// The parent's file when the member only holds what differs from it.
    fn delta(&self, member: &Member) -> Result<Option<&Laid>> {
        let Place { link: number, role } = self.place;
        let delta = match self.manifest.layout {
            Layout::V1 => false,
            Layout::V2 => number > 0 && role == Role::Memory && member.sparse.is_some(),
            Layout::V3 => self.entry()?.delta,
        };
        if !delta {
            return Ok(None);
        }
        let named = link(self.manifest, number)?.parent_content_hash.is_some();
        let parent = self.parent.files.get(&role).filter(|_| named);
        parent.map(Some).ok_or_else(|| refused(role.file_name(), "holds what differs from nothing known"))
    }
}
