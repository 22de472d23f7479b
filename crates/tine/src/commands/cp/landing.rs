//! Where a copy lands: the rules of `docker cp` as a pure function.

use tine_model::{Error, ErrorCode, PathKind, Result};

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// What lies there.
    pub kind: PathKind,
    /// Whether only what is in the folder is meant, as `folder/.` says.
    pub contents: bool,
    /// As the user wrote it, for messages.
    pub shown: String,
}

/// Where it is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path, without a closing slash.
    pub path: Vec<u8>,
    /// What lies there.
    pub kind: PathKind,
    /// Whether a closing slash or dot says that it must be a folder.
    pub folder_meant: bool,
    /// As the user wrote it, for messages.
    pub shown: String,
}

/// What the first member of the stream is called at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Top {
    /// What the source called it.
    Keep,
    /// This.
    Rename(Vec<u8>),
    /// Nothing: only what lies in it arrives.
    Strip,
}

/// The folder to extract in, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// An existing folder of the target.
    pub folder: Vec<u8>,
    /// The first member's name.
    pub top: Top,
}

/// Decides where `source` lands at `place`.
pub fn land(source: &Copied, place: &Place) -> Result<Landing> {
    let into = |top| Ok(Landing { folder: place.path.clone(), top });
    match (source.kind, place.kind) {
        (PathKind::Missing, _) => Err(missing(&source.shown)),
        (_, PathKind::Directory) if source.contents => into(Top::Strip),
        (_, PathKind::Directory) => into(Top::Keep),
        (PathKind::Directory, PathKind::File) => Err(Error::new(
            ErrorCode::InvalidPath,
            format!("{} is a folder and {} is not", source.shown, place.shown),
        )),
        (PathKind::File, _) if place.folder_meant => Err(missing(&format!("the folder {}", place.shown))),
        _ => named(place),
    }
}

/// An error for something that is not there.
pub fn missing(what: &str) -> Error {
    Error::new(ErrorCode::NotFound, format!("{what} does not exist"))
}

/// Under the last component of the place, in the folder that holds it.
fn named(place: &Place) -> Result<Landing> {
    let slash = place.path.iter().rposition(|b| *b == b'/');
    let (folder, name) = match slash {
        None => (b".".to_vec(), &place.path[..]),
        Some(0) => (b"/".to_vec(), &place.path[1..]),
        Some(at) => (place.path[..at].to_vec(), &place.path[at + 1..]),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(missing(&place.shown));
    }
    Ok(Landing { folder, top: Top::Rename(name.to_vec()) })
}

/// A path without closing slashes and dots, and whether it had one; `folder/.` and `.` mean a folder's contents.
pub fn trimmed(path: &[u8]) -> (Vec<u8>, Ending) {
    let (mut rest, mut ending) = (path, Ending::Plain);
    loop {
        if let Some(shorter) = rest.strip_suffix(b"/").filter(|r| !r.is_empty()) {
            rest = shorter;
            ending = ending.max(Ending::Slash);
        } else if let Some(shorter) = rest.strip_suffix(b"/.") {
            rest = if shorter.is_empty() { b"/" } else { shorter };
            ending = Ending::Dot;
        } else {
            break;
        }
    }
    if matches!(rest, b"/" | b"." | b"..") || rest.ends_with(b"/..") {
        ending = Ending::Dot;
    }
    (rest.to_vec(), ending)
}

/// How a path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// With a name.
    Plain,
    /// With a slash: a folder is meant.
    Slash,
    /// With a dot, or as a root: what lies in the folder is meant.
    Dot,
}

#[cfg(test)]
mod tests {
    use super::*;
    use PathKind::{Directory, File, Missing};

    fn landed(
        kind: PathKind,
        contents: bool,
        path: &str,
        at: PathKind,
    ) -> std::result::Result<(String, Top), ErrorCode> {
        let (trimmed, ending) = trimmed(path.as_bytes());
        let source = Copied { kind, contents, shown: "source".into() };
        let place =
            Place { path: trimmed, kind: at, folder_meant: ending != Ending::Plain, shown: path.into() };
        land(&source, &place).map(|l| (String::from_utf8(l.folder).unwrap(), l.top)).map_err(|e| e.code)
    }

    #[test]
    fn a_copy_lands_where_docker_puts_it() {
        let rename = |folder: &str, name: &str| Ok((folder.to_owned(), Top::Rename(name.into())));
        assert_eq!(landed(File, false, "/etc/new", Missing), rename("/etc", "new"));
        assert_eq!(landed(File, false, "/new", Missing), rename("/", "new"));
        assert_eq!(landed(File, false, "new", Missing), rename(".", "new"));
        assert_eq!(landed(File, false, "/etc/motd", File), rename("/etc", "motd"));
        assert_eq!(landed(File, false, "/etc/", Directory), Ok(("/etc".into(), Top::Keep)));
        assert_eq!(landed(File, false, "/etc/new/", Missing), Err(ErrorCode::NotFound));
        assert_eq!(landed(Directory, false, "/srv/new", Missing), rename("/srv", "new"));
        assert_eq!(landed(Directory, true, "/srv/new/", Missing), rename("/srv", "new"));
        assert_eq!(landed(Directory, false, "/srv", Directory), Ok(("/srv".into(), Top::Keep)));
        assert_eq!(landed(Directory, true, "/srv", Directory), Ok(("/srv".into(), Top::Strip)));
        assert_eq!(landed(Directory, false, "/etc/motd", File), Err(ErrorCode::InvalidPath));
        assert_eq!(landed(Missing, false, "/srv", Directory), Err(ErrorCode::NotFound));
    }

    #[test]
    fn endings_are_told_apart() {
        let trimmed = |path: &str| {
            let (rest, ending) = trimmed(path.as_bytes());
            (String::from_utf8(rest).unwrap(), ending)
        };
        assert_eq!(trimmed("/a/b"), ("/a/b".into(), Ending::Plain));
        assert_eq!(trimmed("/a/b//"), ("/a/b".into(), Ending::Slash));
        assert_eq!(trimmed("/a/b/."), ("/a/b".into(), Ending::Dot));
        assert_eq!(trimmed("/a/./"), ("/a".into(), Ending::Dot));
        assert_eq!(trimmed("/"), ("/".into(), Ending::Dot));
        assert_eq!(trimmed("/."), ("/".into(), Ending::Dot));
        assert_eq!(trimmed("."), (".".into(), Ending::Dot));
        assert_eq!(trimmed("a/.."), ("a/..".into(), Ending::Dot));
        assert_eq!(trimmed(".hidden"), (".hidden".into(), Ending::Plain));
    }
}
