//! A tar stream with its first member under another name, rewritten as it passes.
//!
//! Reads what `tine_archive::write` and a service's `copy_out` produce: POSIX tars with PAX headers, all members
//! below the first. Field positions are those of POSIX.1-2001 `pax`, "ustar Interchange Format". Holds one header
//! at a time, whatever the size of the members.

use super::landing::Top;
use std::io::{self, Read};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// More than any sane extended header; what is longer is no tar of ours.
const HEADER_LIMIT: u64 = 1 << 20;
/// PAX records that hold a member's own name.
const NAME_KEYS: [&[u8]; 2] = [b"path", b"GNU.sparse.name"];

/// The rewritten stream.
pub struct Retop<R> {
    inner: R,
    top: Top,
    /// What the source calls the first member; `.` when it is the archive's own root.
    old: Option<Vec<u8>>,
    /// Made, not yet read.
    ready: Vec<u8>,
    taken: usize,
    /// Bytes of content to pass on, or to leave out.
    passing: u64,
    ended: bool,
}

/// What the extended headers before a member say.
#[derive(Default)]
struct Extended {
    records: Vec<(Vec<u8>, Vec<u8>)>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Retop<R> {
    /// Renames the first member of the tar in `inner` as `top` says.
    pub fn new(inner: R, top: Top) -> Self {
        let ended = top == Top::Keep;
        Self { inner, top, old: None, ready: Vec::new(), taken: 0, passing: 0, ended }
    }

    /// Reads headers up to the next member that is passed on, or to the end mark.
    fn advance(&mut self) -> io::Result<()> {
        let mut extended = Extended::default();
        loop {
            let mut header = Header::new_ustar();
            self.inner.read_exact(header.as_mut_bytes())?;
            if header.as_bytes().iter().all(|b| *b == 0) {
                self.ready = header.as_bytes().to_vec();
                self.ended = true;
                return Ok(());
            }
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::XHeader => extended.records = records(&self.payload(size)?)?,
                EntryType::GNULongName => extended.long_name = Some(until_nul(self.payload(size)?)),
                EntryType::GNULongLink => extended.long_link = Some(until_nul(self.payload(size)?)),
                EntryType::XGlobalHeader => drop(self.payload(size)?),
                _ => return self.member(header, extended, size),
            }
        }
    }

    fn member(&mut self, mut header: Header, mut extended: Extended, size: u64) -> io::Result<()> {
        let size = extended.number(b"size").unwrap_or(size);
        let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let Some(name) = self.renamed(&extended.name(&header))? else {
            let skipped = io::copy(&mut (&mut self.inner).take(padded), &mut io::sink())?;
            return if skipped == padded { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        if header.entry_type() == EntryType::Link {
            let link = self.renamed(&extended.link(&header))?.ok_or_else(|| bad("a hard link to the top"))?;
            extended.set(b"linkpath", &link, &mut header.as_old_mut().linkname);
        } else if let Some(link) = extended.long_link.take() {
            extended.set(b"linkpath", &link, &mut header.as_old_mut().linkname);
        }
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.prefix = [0; 155];
        }
        extended.set(b"path", &name, &mut header.as_old_mut().name);
        header.set_cksum();
        self.ready = extended.block();
        self.ready.extend_from_slice(header.as_bytes());
        self.passing = padded;
        Ok(())
    }

    /// A member's name at the target; none for one that is left out.
    fn renamed(&mut self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let name = name.strip_prefix(b"./").filter(|rest| !rest.is_empty()).unwrap_or(name);
        let first = name.split(|b| *b == b'/').next().unwrap_or_default();
        let old = self.old.get_or_insert_with(|| first.to_vec());
        let rest = match (old.as_slice(), name) {
            (b".", b"." | b"./") => &b""[..],
            (b".", name) => name,
            (old, name) if first == old => name.get(old.len() + 1..).unwrap_or_default(),
            _ => return Err(bad("a member outside the first")),
        };
        let new = match &self.top {
            Top::Strip => return Ok((!rest.is_empty()).then(|| rest.to_vec())),
            Top::Rename(new) => new.clone(),
            Top::Keep => first.to_vec(),
        };
        let slash = name.len() > first.len();
        Ok(Some(if slash { [&new, &b"/"[..], rest].concat() } else { self.whole(new, rest) }))
    }

    /// A name without a slash: the top itself, or a child of an archive's own root.
    fn whole(&self, new: Vec<u8>, rest: &[u8]) -> Vec<u8> {
        if rest.is_empty() { new } else { [&new, &b"/"[..], rest].concat() }
    }

    fn payload(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > HEADER_LIMIT {
            return Err(bad("an extended header of more than 1 MiB"));
        }
        let mut bytes = vec![0; (size as usize).div_ceil(BLOCK) * BLOCK];
        self.inner.read_exact(&mut bytes)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }
}

impl<R: Read> Read for Retop<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.taken < self.ready.len() {
                let count = buffer.len().min(self.ready.len() - self.taken);
                buffer[..count].copy_from_slice(&self.ready[self.taken..self.taken + count]);
                self.taken += count;
                return Ok(count);
            }
            if self.ended || buffer.is_empty() {
                return self.inner.read(buffer);
            }
            if self.passing > 0 {
                let most = buffer.len().min(usize::try_from(self.passing).unwrap_or(usize::MAX));
                let count = self.inner.read(&mut buffer[..most])?;
                self.passing -= count as u64;
                return if count > 0 { Ok(count) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            (self.ready, self.taken) = (Vec::new(), 0);
            self.advance()?;
        }
    }
}

impl Extended {
    fn get(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.records.iter().rfind(|(k, _)| k == key).map(|(_, value)| value)
    }

    fn number(&self, key: &[u8]) -> Option<u64> {
        std::str::from_utf8(self.get(key)?).ok()?.parse().ok()
    }

    fn name(&self, header: &Header) -> Vec<u8> {
        let pax = NAME_KEYS.iter().rev().find_map(|key| self.get(key));
        pax.or(self.long_name.as_ref()).cloned().unwrap_or_else(|| header.path_bytes().into_owned())
    }

    fn link(&self, header: &Header) -> Vec<u8> {
        let long = self.get(b"linkpath").or(self.long_link.as_ref()).cloned();
        long.unwrap_or_else(|| header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default())
    }

    /// Puts a value where it fits: in the header's field, else in a record; never in both.
    fn set(&mut self, key: &[u8], value: &[u8], field: &mut [u8; 100]) {
        let sparse = key == b"path" && self.get(NAME_KEYS[1]).is_some();
        let names = |k: &[u8]| k == key || (key == b"path" && NAME_KEYS.contains(&k));
        self.records.retain(|(k, _)| !names(k));
        *field = [0; 100];
        let fits = value.len().min(field.len());
        field[..fits].copy_from_slice(&value[..fits]);
        if value.len() > field.len() {
            self.records.push((key.to_vec(), value.to_vec()));
        }
        if sparse {
            self.records.push((NAME_KEYS[1].to_vec(), value.to_vec()));
        }
    }

    /// The records as an extended header with its content, padded; nothing when there is none.
    fn block(&self) -> Vec<u8> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let content: Vec<u8> = self.records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut block = header.as_bytes().to_vec();
        block.extend_from_slice(&content);
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        block
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn records(mut bytes: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (length, text) = one_record(bytes).ok_or_else(|| bad("a malformed extended header"))?;
        let equals =
            text.iter().position(|b| *b == b'=').ok_or_else(|| bad("a malformed extended header"))?;
        records.push((text[..equals].to_vec(), text[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// The length of the first record and its `KEY=VALUE`.
fn one_record(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let text = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((length, text))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the source sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Name, kind, link and content of each member after a rename.
    fn after(tar: Vec<u8>, top: Top) -> Vec<(String, EntryType, String, String)> {
        let mut out = Vec::new();
        Retop::new(Cursor::new(tar), top).read_to_end(&mut out).unwrap();
        let mut archive = tar::Archive::new(Cursor::new(out));
        let members = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let link = entry.link_name_bytes().map(|l| text(&l)).unwrap_or_default();
            (text(&entry.path_bytes()), entry.header().entry_type(), link, content)
        });
        members.collect()
    }

    fn sample(long: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: EntryType, link: Option<&str>, content: &str| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            match link {
                Some(link) => tar.append_link(&mut header, name, link).unwrap(),
                None => tar.append_data(&mut header, name, content.as_bytes()).unwrap(),
            }
        };
        add("old/", EntryType::Directory, None, "");
        add("old/file", EntryType::Regular, None, "content");
        add("old/hard", EntryType::Link, Some("old/file"), "");
        add("old/soft", EntryType::Symlink, Some("old/file"), "");
        add(&format!("old/{long}"), EntryType::Regular, None, "long");
        add("old/older", EntryType::Regular, None, &"x".repeat(2000));
        tar.into_inner().unwrap()
    }

    #[test]
    fn the_first_component_is_renamed_everywhere_but_in_symbolic_links() {
        let long = "n".repeat(180);
        let members = after(sample(&long), Top::Rename("new".into()));
        let names: Vec<&str> = members.iter().map(|m| m.0.as_str()).collect();
        assert_eq!(names, ["new/", "new/file", "new/hard", "new/soft", &format!("new/{long}"), "new/older"]);
        assert_eq!((members[2].2.as_str(), members[3].2.as_str()), ("new/file", "old/file"));
        assert_eq!(
            (members[1].3.as_str(), members[4].3.as_str(), members[5].3.len()),
            ("content", "long", 2000)
        );
    }

    #[test]
    fn a_name_may_grow_past_the_headers_field() {
        let new = "w".repeat(250);
        let members = after(sample("x"), Top::Rename(new.clone().into_bytes()));
        assert_eq!(
            (members[1].0.clone(), members[2].2.clone()),
            (format!("{new}/file"), format!("{new}/file"))
        );
    }

    #[test]
    fn stripping_leaves_the_folder_itself_out() {
        let names: Vec<String> = after(sample("x"), Top::Strip).into_iter().map(|m| m.0).collect();
        assert_eq!(names, ["file", "hard", "soft", "x", "older"]);
    }

    #[test]
    fn keeping_changes_no_byte() {
        let (tar, mut out) = (sample("x"), Vec::new());
        Retop::new(Cursor::new(tar.clone()), Top::Keep).read_to_end(&mut out).unwrap();
        assert_eq!(out, tar);
    }

    #[test]
    fn an_archives_own_root_can_be_renamed_and_stripped() {
        let root = || {
            let mut tar = tar::Builder::new(Vec::new());
            for (name, kind) in [
                ("./", EntryType::Directory),
                ("bin/", EntryType::Directory),
                ("bin/sh", EntryType::Regular),
                ("f", EntryType::Regular),
            ] {
                let mut header = Header::new_gnu();
                header.set_entry_type(kind);
                header.set_size(0);
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                tar.append(&header, io::empty()).unwrap();
            }
            tar.into_inner().unwrap()
        };
        let names = |top| after(root(), top).into_iter().map(|m| m.0).collect::<Vec<_>>();
        assert_eq!(names(Top::Rename("new".into())), ["new/", "new/bin/", "new/bin/sh", "new/f"]);
        assert_eq!(names(Top::Strip), ["bin/", "bin/sh", "f"]);
    }

    #[test]
    fn what_is_no_such_tar_is_refused_without_panic() {
        let tar = sample("x");
        for cut in [1, 511, 512, 700, 1024, tar.len() - 1200] {
            let result =
                Retop::new(Cursor::new(tar[..cut].to_vec()), Top::Strip).read_to_end(&mut Vec::new());
            assert!(result.is_err(), "{cut}");
        }
        assert!(records(b"9999 path=x\n").is_err() && records(b"x").is_err() && records(b"3 \n").is_err());
        assert_eq!(records(&record(b"path", &[b'x'; 91])).unwrap()[0].1.len(), 91);
    }
}
