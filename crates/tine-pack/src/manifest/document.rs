//! The manifest's TOML, layout by layout. Only form: what the values mean together is checked elsewhere.

use super::{Facts, FileEntry, Layout, Link, Manifest, Role, SidecarRef};
use crate::error::{PackError, Result};
use serde::{Deserialize, Serialize};
use tine_model::{ImageTag, Sha256Digest, Timestamp};

/// The word that marks the third layout as Tine's; others may number theirs the same.
const FORMAT: &str = "tine";
/// The feature of packs in which memory or disks hold only what differs from the parent's.
const DELTA: &str = "delta";
/// Features without which a pack cannot be read rightly, as far as they are known here.
const KNOWN: [&str; 1] = [DELTA];
/// How much of a message about a manifest is shown.
const MESSAGE_MAX: usize = 200;

/// What tells the layout; other layouts may have anything else.
#[derive(Deserialize)]
struct Head {
    forkd_pack_version: i64,
    format: Option<String>,
    features: Option<Features>,
}

/// All keys of all layouts, in the order of writing.
#[derive(Deserialize, Serialize)]
struct Document {
    forkd_pack_version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_image: Option<String>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    forkd_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Features>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<FileText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<Vec<LinkText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<LinkText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<RootfsText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tine: Option<Facts>,
}

#[derive(Deserialize, Serialize, Default)]
struct Features {
    #[serde(default)]
    incompat: Vec<String>,
    #[serde(default)]
    compat: Vec<String>,
}

#[derive(Deserialize, Serialize)]
struct LinkText {
    tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_content_hash: Option<String>,
    #[serde(default)]
    files: Vec<FileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tine: Option<Facts>,
}

#[derive(Deserialize, Serialize)]
struct FileText {
    path: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<bool>,
}

#[derive(Deserialize, Serialize)]
struct RootfsText {
    target_path: String,
    sha256: String,
    size: u64,
}

/// Understands the text of a manifest.
pub(super) fn parse(text: &str) -> Result<Manifest> {
    let head: Head = toml::from_str(text).map_err(|e| unreadable(&e))?;
    let layout = layout(&head)?;
    let mut document: Document = toml::from_str(text).map_err(|e| unreadable(&e))?;
    let links = take_links(layout, &mut document)?;
    if let (Layout::V2, Some(parent)) = (layout, document.parent_tag)
        && links.last().and_then(|link| link.parent.as_ref()).is_none_or(|tag| tag.as_str() != parent)
    {
        return Err(PackError::malformed("the manifest's parent is not that of its last link"));
    }
    let writer = if layout == Layout::V3 { document.writer } else { document.forkd_version };
    Ok(Manifest {
        layout,
        tag: tag(&document.tag)?,
        description: document.description,
        base_image: document.base_image,
        // moments have a resolution of one second
        created_at: Timestamp::from_second(document.created_at.as_second()),
        writer: writer.unwrap_or_default(),
        links,
        rootfs: document.rootfs.map(sidecar).transpose()?,
        features: document.features.map(|f| f.compat).unwrap_or_default(),
    })
}

fn layout(head: &Head) -> Result<Layout> {
    match (head.forkd_pack_version, head.format.as_deref()) {
        (1, _) => Ok(Layout::V1),
        (2, _) => Ok(Layout::V2),
        (3, Some(FORMAT)) => known(head.features.as_ref()).map(|()| Layout::V3),
        (..=0, _) => Err(PackError::malformed("the manifest has a version of 0 or less")),
        (version, _) => Err(PackError::Newer(format!(
            "the pack is of layout {version}, made by something newer; layouts 1, 2 and Tine's own 3 are read"
        ))),
    }
}

fn known(features: Option<&Features>) -> Result<()> {
    let mut needed = features.into_iter().flat_map(|f| &f.incompat);
    match needed.find(|name| !KNOWN.contains(&name.as_str())) {
        Some(name) => Err(PackError::Newer(format!(
            "the pack needs the feature {:?}, which is not known here",
            shown(name)
        ))),
        None => Ok(()),
    }
}

/// The images, from where the layout has them; nothing may be where it has none.
fn take_links(layout: Layout, document: &mut Document) -> Result<Vec<Link>> {
    let files = document.files.take().unwrap_or_default();
    let chain = document.chain.take().unwrap_or_default();
    let links = document.links.take().unwrap_or_default();
    let (wanted, others) = match layout {
        Layout::V1 => {
            let tine = document.tine.take();
            let link = LinkText {
                tag: document.tag.clone(),
                parent_tag: None,
                parent_content_hash: None,
                files,
                tine,
            };
            (vec![link], chain.len() + links.len())
        }
        Layout::V2 => (chain, files.len() + links.len()),
        Layout::V3 => (links, files.len() + chain.len()),
    };
    if others > 0 {
        return Err(PackError::malformed("the manifest has files or images where its layout has none"));
    }
    let delta = document.features.as_ref().is_some_and(|f| f.incompat.iter().any(|name| name == DELTA));
    let links: Vec<Link> = wanted.into_iter().map(|text| link(layout, text)).collect::<Result<_>>()?;
    if layout == Layout::V3 && delta != has_delta(&links) {
        return Err(PackError::malformed("the manifest's features are not those it uses"));
    }
    Ok(links)
}

fn has_delta(links: &[Link]) -> bool {
    links.iter().flat_map(|link| &link.files).any(|file| file.delta)
}

fn link(layout: Layout, text: LinkText) -> Result<Link> {
    Ok(Link {
        tag: tag(&text.tag)?,
        parent: text.parent_tag.as_deref().map(tag).transpose()?,
        parent_content_hash: text.parent_content_hash.as_deref().map(digest).transpose()?,
        files: text.files.into_iter().map(|text| file(layout, text)).collect::<Result<_>>()?,
        facts: text.tine,
    })
}

fn file(layout: Layout, text: FileText) -> Result<FileEntry> {
    let role = Role::of_file_name(&text.path).ok_or_else(|| {
        PackError::malformed(format!(
            "the manifest declares a file {:?}, which no pack has",
            shown(&text.path)
        ))
    })?;
    let paged = layout == Layout::V3 && role.is_paged();
    let given = if paged { &text.digest } else { &text.sha256 };
    let missing = || PackError::malformed(format!("the manifest has no digest of {}", role.file_name()));
    Ok(FileEntry {
        role,
        size: text.size,
        digest: digest(given.as_deref().ok_or_else(missing)?)?,
        delta: paged && text.delta.unwrap_or(false),
        stored: if paged { text.stored.unwrap_or(text.size) } else { text.size },
    })
}

fn sidecar(text: RootfsText) -> Result<SidecarRef> {
    Ok(SidecarRef { target_path: text.target_path, sha256: digest(&text.sha256)?, size: text.size })
}

fn tag(text: &str) -> Result<ImageTag> {
    text.parse().map_err(|e: tine_model::Error| PackError::malformed(format!("the manifest: {e}")))
}

/// Digits in either case, as some write them.
fn digest(text: &str) -> Result<Sha256Digest> {
    text.to_ascii_lowercase()
        .parse()
        .map_err(|_| PackError::malformed(format!("the manifest: {:?} is not a SHA-256 digest", shown(text))))
}

/// The text of a manifest without its closing line.
pub(super) fn print(manifest: &Manifest) -> Result<String> {
    toml::to_string(&document(manifest)).map_err(|e| {
        PackError::malformed(format!("the manifest cannot be written: {}", shown(&e.to_string())))
    })
}

fn document(manifest: &Manifest) -> Document {
    let layout = manifest.layout;
    let mut links: Vec<LinkText> = manifest.links.iter().map(|link| link_text(layout, link)).collect();
    let head_parent = links.last().and_then(|link| link.parent_tag.clone());
    let only = if layout == Layout::V1 { links.pop() } else { None };
    let (files, tine) = only.map_or((None, None), |link| (Some(link.files), link.tine));
    let ours = layout == Layout::V3;
    Document {
        forkd_pack_version: layout.number().into(),
        format: ours.then(|| FORMAT.to_owned()),
        tag: manifest.tag.to_string(),
        description: manifest.description.clone(),
        base_image: manifest.base_image.clone(),
        created_at: manifest.created_at,
        forkd_version: (!ours).then(|| manifest.writer.clone()),
        writer: ours.then(|| manifest.writer.clone()),
        parent_tag: head_parent.filter(|_| layout == Layout::V2),
        features: ours.then(|| features(manifest)),
        files: if layout == Layout::V2 { Some(Vec::new()) } else { files },
        rootfs: manifest.rootfs.as_ref().map(rootfs_text),
        tine,
        chain: None,
        links: None,
    }
    .with_links(layout, links)
}

impl Document {
    fn with_links(mut self, layout: Layout, links: Vec<LinkText>) -> Self {
        match layout {
            Layout::V1 => {}
            Layout::V2 => self.chain = Some(links),
            Layout::V3 => self.links = Some(links),
        }
        self
    }
}

fn features(manifest: &Manifest) -> Features {
    let delta = has_delta(&manifest.links).then(|| DELTA.to_owned());
    Features { incompat: delta.into_iter().collect(), compat: manifest.features.clone() }
}

fn link_text(layout: Layout, link: &Link) -> LinkText {
    LinkText {
        tag: link.tag.to_string(),
        parent_tag: link.parent.as_ref().map(ToString::to_string),
        parent_content_hash: link.parent_content_hash.map(|digest| digest.to_string()),
        files: link.files.iter().map(|file| file_text(layout, file)).collect(),
        tine: link.facts.clone(),
    }
}

fn file_text(layout: Layout, file: &FileEntry) -> FileText {
    let paged = layout == Layout::V3 && file.role.is_paged();
    let digest = file.digest.to_string();
    let (sha256, digest) = if paged { (None, Some(digest)) } else { (Some(digest), None) };
    FileText {
        path: file.role.file_name().to_owned(),
        size: file.size,
        sha256,
        digest,
        stored: paged.then_some(file.stored),
        delta: (paged && file.delta).then_some(true),
    }
}

fn rootfs_text(sidecar: &SidecarRef) -> RootfsText {
    RootfsText {
        target_path: sidecar.target_path.clone(),
        sha256: sidecar.sha256.to_string(),
        size: sidecar.size,
    }
}

fn unreadable(error: &toml::de::Error) -> PackError {
    PackError::malformed(format!("the manifest cannot be read: {}", shown(error.message())))
}

/// Text of a stranger as it may be shown: one line, not long.
fn shown(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
