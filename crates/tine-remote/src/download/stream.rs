//! One stream of a download: asks for a part, checks the answer, writes what comes, goes on after breaks.

use super::{state::Shared, write_buffer::WriteBuffer};
use crate::{
    error::RemoteError,
    location::Location,
    remote::Core,
    retry::{Fault, Tries, retrying},
    source::{Part, Reply, Source, Version},
};
use futures_util::StreamExt;
use std::{ops::Range, sync::Arc};

/// What must have come for a broken attempt to count as progress, in bytes.
const PROGRESS: u64 = 64 << 10;

/// A stream and what it needs.
pub(super) struct Stream {
    pub(super) core: Arc<Core>,
    pub(super) source: Source,
    pub(super) shared: Arc<Shared>,
    pub(super) location: Location,
    /// The version that everything must be of, once known.
    pub(super) known: Option<Version>,
    pub(super) max_bytes: u64,
}

impl Stream {
    /// Asks for a range or for all, again while that may help.
    pub(super) async fn open(&self, range: Option<Range<u64>>) -> Result<Reply, Fault> {
        retrying(&self.core.config, || self.source.get(range.clone(), self.known.as_ref())).await
    }

    /// Fetches blocks until none is left; `first` is an answer that is there already.
    pub(super) async fn blocks(self, first: Option<(Range<u64>, Reply)>) -> Result<(), Fault> {
        if let Some((range, reply)) = first {
            self.block(range, Some(reply)).await?;
        }
        while let Some(range) = self.shared.claim(self.core.config.block()) {
            self.shared.room(range.start).await;
            self.block(range, None).await?;
        }
        Ok(())
    }

    async fn block(&self, range: Range<u64>, mut reply: Option<Reply>) -> Result<(), Fault> {
        let mut tries = Tries::new(&self.core.config);
        let mut at = range.start;
        loop {
            let before = at;
            let Err(fault) = self.attempt(&mut at, range.end, reply.take()).await else { return Ok(()) };
            if at - before >= PROGRESS {
                tries.gained();
            }
            tries.again(fault).await?;
        }
    }

    async fn attempt(&self, at: &mut u64, end: u64, reply: Option<Reply>) -> Result<(), Fault> {
        let reply = match reply {
            Some(reply) => reply,
            None => self.checked(*at..end).await?,
        };
        let mut buffer = self.buffer(*at);
        let came = self.take(reply, Some(end), &mut buffer).await;
        *at = buffer.at();
        // what came before a break is gone on with
        buffer.finish().await?;
        came
    }

    fn buffer(&self, at: u64) -> WriteBuffer {
        WriteBuffer::new(&self.shared, at, self.core.config.sync_every)
    }

    /// Takes an answer that is to end at `end`, no more and no less; where that is not known, whatever is not too much.
    async fn take(&self, reply: Reply, end: Option<u64>, buffer: &mut WriteBuffer) -> Result<(), Fault> {
        let (start, limit, mut body) = (buffer.at(), end.unwrap_or(self.max_bytes), reply.body);
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if buffer.at().saturating_add(chunk.len() as u64) > limit {
                return Err(match end {
                    Some(end) => self.too_much(end - start),
                    None => RemoteError::too_large(&self.location, limit).into(),
                });
            }
            buffer.add(&chunk).await?;
        }
        if end.is_none_or(|end| buffer.at() == end) { Ok(()) } else { Err(self.broke_off()) }
    }

    /// A range of the version that is known; anything else is the end of this round.
    async fn checked(&self, range: Range<u64>) -> Result<Reply, Fault> {
        let reply = self.source.get(Some(range), self.known.as_ref()).await?;
        let same = self.known.as_ref().is_none_or(|known| known.agrees(&reply.version));
        match &reply.part {
            _ if !same => Err(Fault::Changed),
            Part::Range { total, .. } if Some(*total) != self.shared.size() => Err(Fault::Changed),
            Part::Range { .. } => Ok(reply),
            Part::Whole { length } if length.is_some() && *length != self.shared.size() => {
                Err(Fault::Changed)
            }
            Part::Whole { .. } => Err(Fault::NoRanges),
        }
    }

    /// Takes an answer that is all of the file; returns its length.
    pub(super) async fn whole(&self, reply: Reply, length: Option<u64>) -> Result<u64, Fault> {
        let mut buffer = self.buffer(0);
        let came = self.take(reply, length, &mut buffer).await;
        let end = buffer.at();
        buffer.finish().await?;
        came.map(|()| end)
    }

    fn too_much(&self, asked: u64) -> Fault {
        RemoteError::refused(
            &self.location,
            format!("the server sends more than the {asked} bytes it announced"),
        )
        .into()
    }

    fn broke_off(&self) -> Fault {
        Fault::passing(RemoteError::unreachable(&self.location, "the server broke off"))
    }
}
