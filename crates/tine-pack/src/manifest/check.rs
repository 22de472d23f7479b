//! What the values of a manifest must be to each other. Looks at no content.

use super::{Facts, FileEntry, LINKS_MAX, Layout, Link, Manifest, Role};
use crate::error::{PackError, Result};
use std::collections::BTreeSet;

/// Bytes of any text in a manifest.
const TEXT_MAX: usize = 4096;
/// Items of any list of texts.
const LIST_MAX: usize = 1024;
/// The most bytes of `snapshot.json`, which is kept in memory.
pub(crate) const SNAPSHOT_JSON_MAX: u64 = 1 << 20;
/// The most bytes of the state of processors and devices.
const VMSTATE_MAX: u64 = 16 << 30;

impl Manifest {
    /// Checks everything that needs no content.
    pub(super) fn check(&self) -> Result<()> {
        self.check_texts()?;
        self.check_chain()?;
        for (index, link) in self.links.iter().enumerate() {
            let parent = index.checked_sub(1).and_then(|i| self.links.get(i));
            check_files(self.layout, link, parent)
                .and_then(|()| check_parent(self.layout, link, parent))
                .map_err(|why| PackError::malformed(format!("image {} in the manifest {why}", link.tag)))?;
        }
        self.check_rootfs()
    }

    fn check_texts(&self) -> Result<()> {
        let own = [&self.description, &self.base_image].into_iter().flatten().chain([&self.writer]);
        let features = self.features.iter();
        let target = self.rootfs.iter().map(|rootfs| &rootfs.target_path);
        own.chain(features).chain(target).try_for_each(|text| bounded(text))?;
        listed(&self.features)?;
        self.links.iter().filter_map(|link| link.facts.as_ref()).try_for_each(check_facts)
    }

    fn check_chain(&self) -> Result<()> {
        let most = if self.layout == Layout::V1 { 1 } else { LINKS_MAX };
        match self.links.len() {
            0 => return Err(PackError::malformed("the manifest has no images")),
            n if n > most => {
                return Err(PackError::TooLarge(format!(
                    "the manifest has {n} images; at most {most} are read"
                )));
            }
            _ => {}
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.links.iter().find(|link| !seen.insert(link.tag.as_str())) {
            return Err(PackError::malformed(format!("image {} is in the manifest twice", twice.tag)));
        }
        if self.links.last().is_none_or(|head| head.tag != self.tag) {
            return Err(PackError::malformed(
                "the last image in the manifest is not the one it is named after",
            ));
        }
        Ok(())
    }

    fn check_rootfs(&self) -> Result<()> {
        let Some(rootfs) = &self.rootfs else { return Ok(()) };
        if self.links.last().is_some_and(|head| head.file(Role::Rootfs).is_some()) {
            return Err(PackError::malformed("the manifest has a disk both inside the pack and beside it"));
        }
        let path = &rootfs.target_path;
        if self.layout == Layout::V3 && (path.starts_with('/') || path.split('/').any(|part| part == "..")) {
            return Err(PackError::malformed("the manifest has a path that is not relative"));
        }
        sized(rootfs.size)
    }
}

fn check_files(layout: Layout, link: &Link, parent: Option<&Link>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    if link.files.is_empty() {
        return Err("declares no files".into());
    }
    for file in &link.files {
        let name = file.role.file_name();
        if !seen.insert(file.role) {
            return Err(format!("declares {name} twice"));
        }
        check_sizes(file).map_err(|why| format!("declares {name} {why}"))?;
        check_delta(layout, file, parent).map_err(|why| format!("declares {name} {why}"))?;
    }
    match [Role::Vmstate, Role::Memory].into_iter().find(|role| !seen.contains(role)) {
        Some(missing) => Err(format!("declares no {}", missing.file_name())),
        None if layout == Layout::V3 && !link.files.is_sorted_by_key(|file| file.role) => {
            Err("declares its files in another order than they have".into())
        }
        None => Ok(()),
    }
}

fn check_sizes(file: &FileEntry) -> Result<(), String> {
    let most = match file.role {
        Role::SnapshotJson => SNAPSHOT_JSON_MAX,
        Role::Vmstate => VMSTATE_MAX,
        Role::Rootfs | Role::Memory => i64::MAX as u64,
    };
    if file.size > most {
        return Err(format!("with {} bytes, of which it may have {most}", file.size));
    }
    if file.stored > file.size {
        return Err("with more bytes stored than it has".into());
    }
    Ok(())
}

fn check_delta(layout: Layout, file: &FileEntry, parent: Option<&Link>) -> Result<(), String> {
    if !file.delta {
        return Ok(());
    }
    if layout != Layout::V3 || !file.role.is_paged() || parent.and_then(|link| link.file(file.role)).is_none()
    {
        return Err("as what differs from nothing".into());
    }
    Ok(())
}

/// The parent is the link before; what is said of its memory is true as far as that can be told yet.
fn check_parent(layout: Layout, link: &Link, parent: Option<&Link>) -> Result<(), String> {
    if link.parent.as_ref() != parent.map(|parent| &parent.tag) {
        return Err("has another parent than the image before it".into());
    }
    let declared = parent.and_then(|link| link.file(Role::Memory)).map(|file| file.digest);
    let right = match (link.parent_content_hash, declared) {
        (None, None) => true,
        (None, Some(_)) => layout == Layout::V2,
        (Some(_), None) => false,
        // in layout 2 the parent may hold only what differs from its own, and the hash be that of the whole
        (hash, declared) => {
            hash == declared || layout == Layout::V2 && parent.is_some_and(|p| p.parent.is_some())
        }
    };
    if right { Ok(()) } else { Err("has another digest of its parent's memory than that has".into()) }
}

fn check_facts(facts: &Facts) -> Result<()> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if facts.id.len() != 32 || !facts.id.bytes().all(hex) {
        return Err(PackError::malformed("the manifest has an id that is not 32 digits 0-9a-f"));
    }
    let contract = &facts.contract;
    let own = [&facts.description, &facts.source, &contract.engine, &contract.engine_version];
    let machine = [&contract.machine, &contract.cpu_model];
    let lists = [&contract.cpu_features, &contract.devices];
    lists.into_iter().try_for_each(|list| listed(list))?;
    own.into_iter().chain(machine).chain(lists.into_iter().flatten()).try_for_each(|text| bounded(text))?;
    sized(contract.memory_bytes.bytes())
}

fn sized(bytes: u64) -> Result<()> {
    match i64::try_from(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(PackError::malformed("the manifest has a size beyond all bounds")),
    }
}

fn listed(list: &[String]) -> Result<()> {
    if list.len() <= LIST_MAX {
        Ok(())
    } else {
        Err(PackError::TooLarge("a list in the manifest is too long".into()))
    }
}

/// Text is shown to people: it is bounded and steers no terminal.
fn bounded(text: &str) -> Result<()> {
    if text.len() > TEXT_MAX {
        return Err(PackError::TooLarge(format!("a text in the manifest has more than {TEXT_MAX} bytes")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(PackError::malformed("a text in the manifest has control characters"));
    }
    Ok(())
}
