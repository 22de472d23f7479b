//! The members of a tar stream, one after the other, with their extended headers applied.
//!
//! Knows the formats and their bounds; knows nothing of trees or policies.

use crate::{
    entry::{BLOCK, Header, Member, MemberKind, text},
    error::{ArchiveError, Result},
    pax,
    sparse::{self, PaxForm, PaxSparse},
};
use std::{
    ffi::OsStr,
    io::{BufRead, ErrorKind},
    os::unix::ffi::OsStrExt,
};
use tine_sys::tree::{Time, Xattr};

/// Data of one extended header; the largest honest one holds a few xattrs of at most 64 KiB.
const EXTENSION_MAX: u64 = 1 << 20;
/// Extended headers in front of one member.
const EXTENSIONS_MAX: usize = 16;
/// Types of headers that extend others: long names and links, PAX records, volume labels.
const EXTENDING: [u8; 6] = *b"LKxXgV";

/// Zeros after the end mark of a plain archive: writers fill up to a record, which nobody makes larger.
const TAIL_MAX: u64 = 1 << 20;

/// Reads members off a decompressed stream, one after the other, in bounded memory.
pub struct TarReader<R> {
    input: R,
    form: Form,
    /// Content of the current member not yet read, and the padding after it.
    remaining: u64,
    padding: u64,
    members: u64,
}

/// What an archive may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Everything that is read at all.
    Any,
    /// No extended headers.
    Plain,
}

/// What the extended headers in front of a member say.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Vec<Xattr>,
    sparse: PaxSparse,
}

impl<R: BufRead> TarReader<R> {
    /// Reads any archive: ustar, GNU and PAX.
    pub fn new(input: R) -> Self {
        Self { input, form: Form::Any, remaining: 0, padding: 0, members: 0 }
    }

    /// Reads an archive in which every member is described by its own header alone. Headers that extend others are
    /// refused, and so are more zeros after the end mark than fill up a record.
    pub fn plain(input: R) -> Self {
        Self { form: Form::Plain, ..Self::new(input) }
    }

    /// The stream the archive is read off.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next member, what is left of the one before it passed over; `None` after the end mark, past which only
    /// zeros may come.
    ///
    /// # Errors
    /// [`ArchiveError::Malformed`], [`ArchiveError::Hostile`] and [`ArchiveError::TooLarge`] for what the archive holds;
    /// [`ArchiveError::Stream`] when it cannot be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "a member borrows nothing, yet its content is read off this"
    )]
    pub fn next(&mut self) -> Result<Option<Member>> {
        let mut extensions = Extensions::default();
        for _ in 0..EXTENSIONS_MAX {
            self.skip_rest()?;
            let header = self.header()?;
            if header.is_zero() {
                self.only_zeros()?;
                return Ok(None);
            }
            let size = header.size().ok_or_else(|| self.damaged())?;
            if self.form == Form::Plain && EXTENDING.contains(&header.kind()) {
                return Err(ArchiveError::malformed("a header extends another, which is not allowed here"));
            }
            match header.kind() {
                b'L' => extensions.name = Some(text(&self.extension(size)?).to_vec()),
                b'K' => extensions.link = Some(text(&self.extension(size)?).to_vec()),
                b'x' | b'X' => extensions.take(&self.extension(size)?)?,
                b'g' => self.global(size)?,
                // a volume label has no content and describes no file
                b'V' => {}
                _ => return self.member(&header, size, extensions).map(Some),
            }
        }
        Err(ArchiveError::malformed("too many extended headers in front of one member"))
    }

    /// The next piece of the current member's content, empty at its end.
    ///
    /// # Errors
    /// [`ArchiveError::Malformed`] when the data ends before, [`ArchiveError::Stream`] when it cannot be read.
    pub fn content(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(cut_off());
        }
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        Ok(available.get(..wanted).unwrap_or(available))
    }

    /// Marks bytes that [`Self::content`] gave as read.
    pub fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
        self.remaining = self.remaining.saturating_sub(amount as u64);
    }

    fn skip_rest(&mut self) -> Result<()> {
        self.remaining += std::mem::take(&mut self.padding);
        loop {
            match self.content()?.len() {
                0 => return Ok(()),
                n => self.consume(n),
            }
        }
    }

    /// Declares what comes next as content of `size` bytes.
    fn begin(&mut self, size: u64) -> Result<()> {
        let block = BLOCK as u64;
        let padding = (block - size % block) % block;
        if size.checked_add(padding).is_none() {
            return Err(self.damaged());
        }
        (self.remaining, self.padding) = (size, padding);
        Ok(())
    }

    fn block(&mut self) -> Result<Header> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        Ok(Header(block))
    }

    fn header(&mut self) -> Result<Header> {
        if self.members == 0 && self.input.fill_buf()?.is_empty() {
            return Err(ArchiveError::malformed("the data is too short for a tar archive, or is cut off"));
        }
        let header = self.block()?;
        if header.is_zero() || header.is_sound() { Ok(header) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> ArchiveError {
        ArchiveError::malformed(match self.members {
            0 => "the data is not a tar archive".to_owned(),
            n => format!("the header after member {n} is damaged"),
        })
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(ArchiveError::TooLarge("an extended header has more than 1 MiB".into()));
        }
        self.begin(size)?;
        let mut data = Vec::new();
        loop {
            let piece = self.content()?;
            let length = piece.len();
            if length == 0 {
                return Ok(data);
            }
            data.extend_from_slice(piece);
            self.consume(length);
        }
    }

    /// A header for all that follows: comments are common and ignored; one that would move every member to the
    /// same name or size is refused.
    fn global(&mut self, size: u64) -> Result<()> {
        let data = self.extension(size)?;
        for (key, _) in pax::records(&data)? {
            if [&b"path"[..], b"linkpath", b"size"].contains(&key) || key.starts_with(b"GNU.sparse.") {
                let key = String::from_utf8_lossy(key);
                return Err(ArchiveError::malformed(format!("a global header sets {key} for all members")));
            }
        }
        Ok(())
    }

    fn member(&mut self, header: &Header, size: u64, ext: Extensions) -> Result<Member> {
        self.members += 1;
        let sparse_name = ext.sparse.name.clone();
        let name = sparse_name.or(ext.name).unwrap_or_else(|| header.name());
        let kind = kind(header, &name)?;
        let stored = if kind == MemberKind::File { ext.size.unwrap_or(size) } else { 0 };
        let form = ext.sparse.form(&name)?;
        let owner = |given: Option<u64>, field: Option<i64>| {
            given.or(field.and_then(|n| u64::try_from(n).ok())).and_then(|n| u32::try_from(n).ok())
        };
        let bad = |what: &str| ArchiveError::hostile(&name, format!("has no valid {what}"));
        let mtime = match ext.mtime {
            Some(time) => time,
            None => Time { seconds: header.mtime().ok_or_else(|| bad("time"))?, nanoseconds: 0 },
        };
        let mode = header.mode().and_then(|m| u32::try_from(m).ok()).ok_or_else(|| bad("mode"))? & 0o7777;
        let mut member = Member {
            link: ext.link.unwrap_or_else(|| header.link()),
            kind,
            mode,
            uid: owner(ext.uid, header.uid()).ok_or_else(|| bad("owner"))?,
            gid: owner(ext.gid, header.gid()).ok_or_else(|| bad("group"))?,
            mtime,
            xattrs: ext.xattrs,
            stored,
            sparse: None,
            name,
        };
        self.begin_content(header, &mut member, form)?;
        Ok(member)
    }

    /// Reads a sparse file's map, wherever it is, and stands at the first byte of content.
    fn begin_content(&mut self, header: &Header, member: &mut Member, form: Option<PaxForm>) -> Result<()> {
        if member.kind != MemberKind::File {
            return self.begin(0);
        }
        let stored = member.stored;
        self.begin(stored)?;
        let padding = self.padding;
        if header.kind() == b'S' {
            member.sparse = Some(sparse::read_old_gnu(header, || self.block())?);
        }
        match form {
            Some(PaxForm::Given(map)) => member.sparse = Some(map),
            Some(PaxForm::InData { size }) => {
                let (map, used) = sparse::read_map_in_data(size, || self.block())?;
                member.stored = stored.checked_sub(used).ok_or_else(|| self.damaged())?;
                member.sparse = Some(map);
            }
            None => {}
        }
        (self.remaining, self.padding) = (member.stored, padding);
        member.sparse.as_ref().map_or(Ok(()), |map| map.check(&member.name, member.stored))
    }

    /// Reads to the end of the data, which also has the decompressor check its sums.
    fn only_zeros(&mut self) -> Result<()> {
        let mut passed = 0;
        loop {
            if self.form == Form::Plain && passed > TAIL_MAX {
                return Err(ArchiveError::TooLarge(
                    "there is more than 1 MiB after the end of the archive".into(),
                ));
            }
            let rest = self.input.fill_buf()?;
            if rest.iter().any(|b| *b != 0) {
                return Err(ArchiveError::malformed("there is other data after the end of the archive"));
            }
            let length = rest.len();
            if length == 0 {
                return Ok(());
            }
            self.input.consume(length);
            passed += length as u64;
        }
    }
}

fn cut_off() -> ArchiveError {
    std::io::Error::from(ErrorKind::UnexpectedEof).into()
}

fn kind(header: &Header, name: &[u8]) -> Result<MemberKind> {
    let device = || header.device().ok_or_else(|| ArchiveError::hostile(name, "has no valid device number"));
    Ok(match header.kind() {
        // before there was a type for directories a closing slash said so
        b'0' | 0 | b'7' if name.ends_with(b"/") => MemberKind::Dir,
        b'0' | 0 | b'7' | b'S' => MemberKind::File,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => device().map(|(major, minor)| MemberKind::Char(major, minor))?,
        b'4' => device().map(|(major, minor)| MemberKind::Block(major, minor))?,
        b'5' => MemberKind::Dir,
        b'6' => MemberKind::Fifo,
        other => {
            let other = char::from(other).escape_default().to_string();
            return Err(ArchiveError::hostile(name, format!("is of type {other}, which is not read")));
        }
    })
}

impl Extensions {
    fn take(&mut self, data: &[u8]) -> Result<()> {
        for (key, value) in pax::records(data)? {
            self.record(key, value)?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bad = || {
            let key = String::from_utf8_lossy(key).escape_debug().to_string();
            ArchiveError::malformed(format!("an extended header has no valid {key}"))
        };
        let number = || pax::decimal(value).ok_or_else(bad);
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(pax::time(value).ok_or_else(bad)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = OsStr::from_bytes(name).to_os_string();
                    self.xattrs.push(Xattr { name, value: value.to_vec() });
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(key, value)?;
                }
            }
        }
        Ok(())
    }
}
