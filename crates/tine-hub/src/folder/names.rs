//! The names of a hub's files: `packs/<owner>/<name>/<folder>/<file>`, and which of them a registry refers to. The folder is
//! the version where a lock keeps others away from it, and named by what it holds elsewhere.

use super::{HubConfig, storage::Content};
use crate::{
    error::{HubError, Result},
    registry::{Registry, VersionEntry},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use tine_model::{PackageName, Sha256Digest, VersionName};

pub(super) const PACKS: &str = "packs/";
/// So many digits of a digest tell the packs of one package apart.
const DIGITS: usize = 16;
/// `packs`, owner, name, folder, file.
const PARTS: usize = 5;
const MAX_FILE_NAME: usize = 128;

/// The folder of one version.
pub(super) fn folder(package: &PackageName, version: &VersionName) -> String {
    format!("{PACKS}{package}/{version}")
}

/// The folder of files with these contents, the n-th of that kind, counted from 1.
pub(super) fn folder_of_content(package: &PackageName, contents: &[Content], n: u32) -> String {
    let mut hasher = Sha256::new();
    contents.iter().for_each(|content| hasher.update(content.sha256.0));
    let digest = Sha256Digest(hasher.finalize().into()).to_string();
    let suffix = if n > 1 { format!("-{n}") } else { String::new() };
    format!("{PACKS}{package}/{digest:.DIGITS$}{suffix}")
}

/// The names that a pack and its sidecars have at the hub, the pack's first: those they have now.
pub(super) fn of_files(pack: &Path, sidecars: &[PathBuf]) -> Result<Vec<String>> {
    let files = std::iter::once(pack).chain(sidecars.iter().map(PathBuf::as_path));
    let names: Vec<String> = files.map(file_name).collect::<Result<_>>()?;
    let distinct: BTreeSet<_> = names.iter().collect();
    if distinct.len() < names.len() {
        return Err(HubError::Usage(format!(
            "two of the files of the pack {} have one name",
            pack.display()
        )));
    }
    Ok(names)
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_part(name));
    name.map(str::to_owned).ok_or_else(|| {
        HubError::Usage(format!(
            "the file {} can't be published under its name: 1 to {MAX_FILE_NAME} letters, digits, _, . and -, the \
             first a letter, digit or _",
            path.display()
        ))
    })
}

/// A name that is the same in a URL and in every file system.
pub(super) fn is_part(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=MAX_FILE_NAME).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// True for the names that [`folder`] and [`of_files`] make.
pub(super) fn is_pack_file(name: &str) -> bool {
    name.starts_with(PACKS) && name.split('/').count() == PARTS && is_file(name)
}

/// True for every name that a hub's file can have: one that is the same in a URL and in every file system.
#[must_use]
pub fn is_file(name: &str) -> bool {
    name.split('/').all(is_part)
}

/// The name here of the file that an entry's `url` leads to; none when it lies elsewhere.
pub(super) fn of_url(url: &str, config: &HubConfig) -> Option<String> {
    let base = config.base_url.as_deref();
    let below_base = base.and_then(|base| url.strip_prefix(base)?.strip_prefix('/'));
    let name = below_base.unwrap_or(url);
    is_pack_file(name).then(|| name.to_owned())
}

/// The names here of an entry's sidecars, each beside its pack.
pub(super) fn of_sidecars(pack: &str, entry: &VersionEntry) -> Vec<String> {
    let folder = pack.rsplit_once('/').map_or("", |(folder, _)| folder);
    let names = entry.sidecars().iter().filter(|sidecar| is_part(&sidecar.name));
    names.map(|sidecar| format!("{folder}/{}", sidecar.name)).collect()
}

/// Every file here that a registry refers to.
pub(super) fn referenced(registry: &Registry, config: &HubConfig) -> BTreeSet<String> {
    let entries = registry.packages().flat_map(|(_, package)| package.versions().map(|(_, entry)| entry));
    let here = entries.filter_map(|entry| Some((of_url(&entry.url, config)?, entry)));
    let mut all = BTreeSet::new();
    for (pack, entry) in here {
        all.extend(of_sidecars(&pack, entry));
        all.insert(pack);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_published() {
        let names = |pack: &str, side: &[&str]| {
            of_files(Path::new(pack), &side.iter().map(PathBuf::from).collect::<Vec<_>>())
        };
        assert_eq!(names("/x/p.tar.zst", &["y/0.rootfs.zst"]).unwrap(), ["p.tar.zst", "0.rootfs.zst"]);
        for (pack, side) in
            [("a b", &[][..]), (".p", &[]), ("..", &[]), ("ä", &[]), ("p%41", &[]), ("p", &["x/p"])]
        {
            assert!(names(pack, side).is_err(), "{pack}");
        }
    }

    #[test]
    fn what_a_folder_holds_and_nothing_else_gives_its_name() {
        let content = |n| Content { size_bytes: 1, sha256: Sha256Digest([n; 32]) };
        let package = "o/n".parse().unwrap();
        let name = |contents: &[Content], n| folder_of_content(&package, contents, n);
        let one = name(&[content(1)], 1);
        assert!(is_pack_file(&format!("{one}/p")) && one.len() == "packs/o/n/".len() + DIGITS, "{one}");
        assert_eq!(name(&[content(1)], 2), format!("{one}-2"));
        assert!(one != name(&[content(2)], 1) && one != name(&[content(1), content(2)], 1));
    }

    #[test]
    fn a_url_is_of_this_hub_when_it_is_relative_or_below_its_base() {
        let config = HubConfig { base_url: Some("https://h/hub".to_owned()), ..HubConfig::default() };
        let name = "packs/a/b/v1/p.tar.zst";
        for here in [name.to_owned(), format!("https://h/hub/{name}")] {
            assert_eq!(of_url(&here, &config).as_deref(), Some(name));
        }
        for elsewhere in [
            "https://h/hub2/packs/a/b/v1/p",
            "https://h/p",
            "packs/a/b/v1/../../p",
            "packs/a",
            "/packs/a/b/v1/p",
        ] {
            assert_eq!(of_url(elsewhere, &config), None, "{elsewhere}");
        }
    }
}
