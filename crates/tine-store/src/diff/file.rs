//! How one file differs.

use super::{
    compare::{Difference, difference},
    hidden::HiddenPaths,
    object::Object,
    unified::unified,
};
use crate::{Result, StoreError};
use rustix::io::Errno;
use std::{os::unix::ffi::OsStrExt, path::PathBuf};
use tine_model::{ByteSize, DiffFile, FileStatus, RawPath};
use tine_sys::tree::{Kind, LastLink, Node, Tree};

/// The most that either side may have.
pub const FILE_MAX: u64 = 1 << 20;

/// How the object at `path` (absolute or from the root) differs between two trees. Links are followed inside each
/// tree, a last one is itself the object.
///
/// # Errors
/// `InvalidPath` for a path that is or leads to a hidden one in either tree, and for a directory; `NotFound` when
/// neither tree has it; `TooLarge` when either side has more than 1 MiB.
pub fn file(older: &Tree, newer: &Tree, path: &RawPath, hidden: &HiddenPaths) -> Result<DiffFile> {
    let hidden = hidden.resolved_in(&[older, newer]);
    let older = side(older, path, &hidden)?;
    let newer = side(newer, path, &hidden)?;
    // trees may resolve links differently; the newer one's answer is the path as a user sees it now
    let shown = if newer.node.is_some() || older.node.is_none() { &newer.path } else { &older.path };
    answer(RawPath::new(shown.as_os_str().as_bytes()), older.node, newer.node)
}

/// How the objects that a path leads to in two trees differ.
pub(super) fn answer<O: Object>(path: RawPath, older: Option<O>, newer: Option<O>) -> Result<DiffFile> {
    match (older, newer) {
        (None, None) => Err(StoreError::NotFound {
            kind: "path",
            name: path.to_string(),
            hint: "tine diff status BOX".into(),
        }),
        (Some(older), None) => deleted(path, &older),
        (None, Some(newer)) => added(path, &newer),
        (Some(older), Some(newer)) => both(path, &older, &newer),
    }
}

struct Side {
    path: PathBuf,
    node: Option<Node>,
}

fn side(tree: &Tree, asked: &RawPath, hidden: &HiddenPaths) -> Result<Side> {
    let refuse = |problem: &str| Err(invalid(asked, problem));
    if asked.as_bytes().is_empty() || asked.as_bytes().contains(&0) {
        return refuse("is empty or holds a NUL");
    }
    for last in [LastLink::Keep, LastLink::Follow] {
        match tree.resolve(asked.as_path(), last) {
            Ok(found) if hidden.covers(found.path.as_os_str().as_bytes()) => {
                return refuse("is not part of the box's root: something is mounted there");
            }
            Ok(_) => {}
            // a last link that leads nowhere is still a link to be compared
            Err(e) if last == LastLink::Follow && e.errno() == Errno::LOOP.raw_os_error() => {}
            Err(e) if [Errno::LOOP, Errno::NAMETOOLONG].iter().any(|n| n.raw_os_error() == e.errno()) => {
                return refuse("is too long or leads through too many links");
            }
            Err(e) => return Err(e.into()),
        }
    }
    let found = tree.resolve(asked.as_path(), LastLink::Keep)?;
    let node = if found.exists { Some(tree.exact(&found.path)?) } else { None };
    if node.as_ref().is_some_and(|node| node.meta().kind == Kind::Dir) {
        return refuse("is a directory");
    }
    Ok(Side { path: found.path, node })
}

pub(super) fn invalid(path: &RawPath, problem: &str) -> StoreError {
    StoreError::InvalidPath { path: path.to_string(), problem: problem.to_owned() }
}

/// What one side holds.
enum Content {
    Text(String),
    Binary,
    /// Not a regular file.
    Special,
}

impl Content {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary | Self::Special => None,
        }
    }
}

fn content<O: Object>(path: &RawPath, node: &O) -> Result<Content> {
    if node.meta().kind != Kind::File {
        return Ok(Content::Special);
    }
    // a sparse file of petabytes is refused by its size, one that lies about it by what is read
    let bytes = if node.meta().size <= FILE_MAX { node.read(FILE_MAX)? } else { None };
    let Some(bytes) = bytes else {
        let (size, most) = (ByteSize(node.meta().size), ByteSize(FILE_MAX));
        return Err(StoreError::TooLarge {
            message: format!("{path} has {size}, and at most {most} are shown"),
        });
    };
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Content::Text(text),
        _ => Content::Binary,
    })
}

fn added<O: Object>(path: RawPath, node: &O) -> Result<DiffFile> {
    let current = content(&path, node)?.text();
    Ok(DiffFile { path, status: FileStatus::Added, current, previous: None, diff: None })
}

fn deleted<O: Object>(path: RawPath, node: &O) -> Result<DiffFile> {
    let previous = content(&path, node)?.text();
    Ok(DiffFile { path, status: FileStatus::Deleted, current: None, previous, diff: None })
}

fn both<O: Object>(path: RawPath, older: &O, newer: &O) -> Result<DiffFile> {
    let (was, is) = (content(&path, older)?, content(&path, newer)?);
    let differs = difference(older, newer)?;
    let status = if differs.is_some() { FileStatus::Modified } else { FileStatus::Unchanged };
    let diff = match differs {
        None => None,
        Some(differs) => Some(explain(&path, older, newer, (&was, &is), differs)?),
    };
    Ok(DiffFile { path, status, current: is.text(), previous: was.text(), diff })
}

/// The text diff where contents differ, else a line that says what does.
fn explain<O: Object>(
    path: &RawPath,
    older: &O,
    newer: &O,
    contents: (&Content, &Content),
    differs: Difference,
) -> Result<String> {
    let text = match contents {
        (Content::Text(was), Content::Text(is)) => unified(path.as_bytes(), was, is),
        (Content::Special, _) | (_, Content::Special) => String::new(),
        _ if !older.same_content(newer)? => "Binary files differ\n".to_owned(),
        _ => String::new(),
    };
    if text.is_empty() { sentence(older, newer, differs) } else { Ok(text) }
}

fn sentence<O: Object>(older: &O, newer: &O, differs: Difference) -> Result<String> {
    let (was, is) = (older.meta(), newer.meta());
    Ok(match differs {
        Difference::Kind => format!("type changed: {} to {}\n", kind(was.kind), kind(is.kind)),
        Difference::Mode => format!("mode changed: {:04o} to {:04o}\n", was.mode, is.mode),
        Difference::Owner => format!("owner changed: {}:{} to {}:{}\n", was.uid, was.gid, is.uid, is.gid),
        Difference::Device => format!(
            "device number changed: {}, {} to {}, {}\n",
            was.device.0, was.device.1, is.device.0, is.device.1
        ),
        Difference::Xattrs => "extended attributes changed\n".to_owned(),
        Difference::Content if is.kind == Kind::Symlink => {
            let target = |node: &O| node.read_link().map(|t| RawPath::new(t.as_bytes()));
            format!("link target changed: {} to {}\n", target(older)?, target(newer)?)
        }
        Difference::Content => "Binary files differ\n".to_owned(),
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "link",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Char => "character device",
        Kind::Block => "block device",
    }
}
