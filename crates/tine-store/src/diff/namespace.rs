//! Follows names through a send stream.
//!
//! The stream speaks in the names of the moment: objects appear under orphan names (`o257-5-0`) and move to their
//! place later, and what lies below a directory moves with it. This keeps the part of the tree that the stream has
//! spoken of, and for each name where in the older tree it comes from.

use super::stream::Command;
use std::collections::HashMap;

/// Paths to be looked at in both trees, relative and without a leading slash (the root is empty).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    /// They may differ.
    pub paths: Vec<Vec<u8>>,
    /// Directories whose list of names may differ in a way the stream does not speak of.
    pub lists: Vec<Vec<u8>>,
}

/// The tree as the stream has changed it so far.
pub(super) struct Namespace {
    entries: Vec<Entry>,
    /// Paths of the older tree from which something has gone.
    left: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Entry {
    /// `None` stands for a name that has been taken away.
    children: HashMap<Vec<u8>, Option<usize>>,
    /// Where the older tree has it, if it does.
    origin: Option<Vec<u8>>,
    changed: bool,
    times: bool,
}

const ROOT: usize = 0;

impl Namespace {
    pub fn new() -> Self {
        let root = Entry { origin: Some(Vec::new()), ..Entry::default() };
        Self { entries: vec![root], left: Vec::new() }
    }

    /// How much it holds; grows with the stream.
    pub fn len(&self) -> usize {
        self.entries.len() + self.left.len()
    }

    pub fn apply(&mut self, command: &Command<'_>) {
        match command {
            Command::Make(path) | Command::Link(path) => {
                let new = self.add(Entry { changed: true, ..Entry::default() });
                self.attach(path, new);
            }
            Command::Rename(from, to) => {
                let moved = self.detach(from);
                self.mark(moved, |entry| entry.changed = true);
                self.attach(to, moved);
            }
            Command::Remove(path) => {
                self.detach(path);
            }
            Command::Change(path) => {
                let id = self.find(path);
                self.mark(id, |entry| entry.changed = true);
            }
            Command::Times(path) => {
                let id = self.find(path);
                self.mark(id, |entry| entry.times = true);
            }
            Command::Other => {}
        }
    }

    /// What is to be looked at, in the names of the older and the newer tree together.
    pub fn candidates(mut self) -> Candidates {
        let mut found = Candidates { paths: std::mem::take(&mut self.left), lists: Vec::new() };
        let mut todo = vec![(ROOT, Vec::new())];
        while let Some((id, path)) = todo.pop() {
            let Some(entry) = self.entries.get_mut(id).map(std::mem::take) else { continue };
            for (name, child) in entry.children {
                if let Some(child) = child {
                    todo.push((child, joined(&path, &name)));
                }
            }
            if entry.times {
                found.lists.push(path.clone());
            }
            if entry.changed {
                found.paths.push(path);
            }
        }
        found.paths.sort();
        found.paths.dedup();
        found
    }

    fn add(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.entries.len() - 1
    }

    fn mark(&mut self, id: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(id) {
            change(entry);
        }
    }

    /// The object at a path; one not spoken of before is where the older tree has it.
    fn find(&mut self, path: &[u8]) -> usize {
        let mut id = ROOT;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            id = self.child(id, name);
        }
        id
    }

    fn child(&mut self, parent: usize, name: &[u8]) -> usize {
        let Some(entry) = self.entries.get(parent) else { return ROOT };
        let origin = match entry.children.get(name) {
            Some(Some(child)) => return *child,
            // what was taken away is not there any more
            Some(None) => None,
            None => entry.origin.as_ref().map(|origin| joined(origin, name)),
        };
        let child = self.add(Entry { origin, ..Entry::default() });
        self.mark(parent, |entry| {
            entry.children.insert(name.to_vec(), Some(child));
        });
        child
    }

    /// Takes the object at a path away and notes where the older tree has it.
    fn detach(&mut self, path: &[u8]) -> usize {
        let id = self.find(path);
        let (parent, name) = split(path);
        let parent = self.find(parent);
        self.mark(parent, |entry| {
            entry.children.insert(name.to_vec(), None);
        });
        self.left.extend(self.entries.get(id).and_then(|entry| entry.origin.clone()));
        id
    }

    /// Puts an object at a path, in the place of what the older tree may have there.
    fn attach(&mut self, path: &[u8], id: usize) {
        let (parent, name) = split(path);
        let parent = self.find(parent);
        let before = self.entries.get(parent).and_then(|entry| entry.children.get(name).copied());
        match before {
            Some(None) => {}
            Some(Some(_)) => drop(self.detach(path)),
            None => {
                let origin = self.entries.get(parent).and_then(|entry| entry.origin.as_ref());
                self.left.extend(origin.map(|origin| joined(origin, name)));
            }
        }
        self.mark(parent, |entry| {
            entry.children.insert(name.to_vec(), Some(id));
        });
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(commands: &[Command<'_>]) -> Vec<String> {
        let mut names = Namespace::new();
        commands.iter().for_each(|command| names.apply(command));
        names.candidates().paths.into_iter().map(|p| String::from_utf8(p).unwrap()).collect()
    }

    #[test]
    fn a_change_below_a_directory_that_moves_later_has_its_final_name() {
        let found = paths(&[Command::Change(b"a/f"), Command::Rename(b"a", b"b")]);
        assert_eq!(found, ["a", "b", "b/f"]);
    }

    #[test]
    fn orphan_names_never_show() {
        let found = paths(&[
            Command::Make(b"o257-5-0"),
            Command::Rename(b"d/x", b"o300-5-0"),
            Command::Rename(b"o257-5-0", b"d/x"),
            Command::Remove(b"o300-5-0"),
        ]);
        // the names in the older tree of what was never there do no harm
        let real: Vec<&String> = found.iter().filter(|p| !p.starts_with('o')).collect();
        assert_eq!(real, ["d/x"]);
    }

    #[test]
    fn directories_that_swap_names_are_both_looked_at() {
        let found = paths(&[
            Command::Rename(b"a", b"o1"),
            Command::Rename(b"b", b"a"),
            Command::Rename(b"o1", b"b"),
            Command::Remove(b"a/x"),
        ]);
        assert!(["a", "b", "b/x"].iter().all(|p| found.iter().any(|f| f == p)), "{found:?}");
    }
}
