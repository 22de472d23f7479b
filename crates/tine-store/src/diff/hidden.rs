//! Paths of a box that are no part of its root: something else is mounted there.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tine_model::VolumeMount;
use tine_sys::tree::{LastLink, Tree};

/// What Tine mounts over every container box.
const SHARED: [&str; 4] = ["/home", "/box/proj", "/box/all", "/box/bin"];

/// Mount points that never show in a diff, nor anything below them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HiddenPaths(Vec<Vec<u8>>);

impl HiddenPaths {
    /// None: the whole disk of a vm box is its root.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of a container box: the shared folders and its volumes.
    #[must_use]
    pub fn of_container(volumes: &[VolumeMount]) -> Self {
        let volumes = volumes.iter().map(|v| v.path.as_str());
        Self(SHARED.into_iter().chain(volumes).map(|path| path.as_bytes().to_vec()).collect())
    }

    /// These, and where links in the trees lead them: a mount follows links.
    pub(super) fn resolved_in(&self, trees: &[&Tree]) -> Self {
        let mut all = self.0.clone();
        for (path, tree) in self.0.iter().flat_map(|path| trees.iter().map(move |tree| (path, tree))) {
            let as_path = Path::new(std::ffi::OsStr::from_bytes(path));
            if let Ok(found) = tree.resolve(as_path, LastLink::Follow) {
                let found = found.path.as_os_str().as_bytes();
                // nothing can be mounted over the root, and everything would be hidden
                if found != b"/" && !all.iter().any(|known| known == found) {
                    all.push(found.to_vec());
                }
            }
        }
        Self(all)
    }

    /// Whether an absolute path is one of them or lies below one.
    #[must_use]
    pub fn covers(&self, path: &[u8]) -> bool {
        self.0.iter().any(|hidden| is_or_is_below(path, hidden))
    }

    /// Whether one of them lies below an absolute path.
    pub(super) fn lies_below(&self, path: &[u8]) -> bool {
        self.0.iter().any(|hidden| hidden != path && is_or_is_below(hidden, path))
    }
}

fn is_or_is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_name_is_not_below() {
        let hidden = HiddenPaths::of_container(&["data=/srv/data".parse().unwrap()]);
        for path in ["/home", "/home/u/x", "/box/bin/tine", "/srv/data", "/srv/data/x"] {
            assert!(hidden.covers(path.as_bytes()), "{path}");
        }
        for path in ["/", "/homework", "/box", "/box/binary", "/srv", "/srv/database"] {
            assert!(!hidden.covers(path.as_bytes()), "{path}");
        }
        for (path, below) in [("/box", true), ("/srv", true), ("/home", false), ("/bo", false)] {
            assert_eq!(hidden.lies_below(path.as_bytes()), below, "{path}");
        }
        assert!(!HiddenPaths::none().covers(b"/home"));
    }
}
