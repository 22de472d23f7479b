//! Which links of a pack are here, and which parts of its file are left to read.

use super::tags;
use crate::io_error;
use std::{collections::BTreeSet, fs::File, io::SeekFrom, ops::Range, path::Path};
use tine_model::{Error, ErrorCode, ImageTag, PackInput, PackLayout, Result, UnpackImage};
use tine_pack::{Link, Manifest, Reused, Role, outline};
use tine_store::{OpenImage, Pool};

/// How a pack is read without the links that are here.
pub(in crate::ops) struct Plan {
    /// The links whose files are not read.
    pub left_out: BTreeSet<usize>,
    /// The parts of the file that hold all else, ascending.
    pub parts: Vec<Range<u64>>,
}

impl Plan {
    /// A plan for a pack of several images of which some are here; none when all of it has to be read. What it goes by is
    /// looked at again when the pack is read. Leaves the input at its beginning, if it can be there at all.
    pub(in crate::ops) fn of(
        pool: &Pool,
        request: &UnpackImage,
        input: &mut dyn PackInput,
    ) -> Result<Option<Self>> {
        if pool.image_tags()?.is_empty() {
            return Ok(None);
        }
        // whatever speaks against it is told by who reads the pack
        let plan = outline::manifest(input).ok().flatten().and_then(|manifest| {
            let left_out = links_here(pool, request, &manifest);
            let known = (!left_out.is_empty()).then(|| outline::parts(input, &manifest, &left_out));
            Some(Self { parts: known?.ok()??, left_out })
        });
        if plan.is_none() {
            // a pipe is where it was
            let _ = input.seek(SeekFrom::Start(0));
        }
        Ok(plan)
    }
}

/// The links of a pack that are here, by what its manifest says of them.
fn links_here(pool: &Pool, request: &UnpackImage, manifest: &Manifest) -> BTreeSet<usize> {
    let tags = tags(manifest, request).unwrap_or_default();
    let links = manifest.links.iter().zip(&tags).enumerate();
    let here = links.filter(|(_, (link, tag))| matches!(find(pool, manifest, link, tag), Ok(Some(_))));
    here.map(|(number, _)| number).collect()
}

/// An ancestor that is here already, by what the manifest says of it.
pub(super) fn find(
    pool: &Pool,
    manifest: &Manifest,
    link: &Link,
    tag: &ImageTag,
) -> Result<Option<OpenImage>> {
    if manifest.layout != PackLayout::V3 || *tag == manifest.tag {
        return Ok(None);
    }
    let image = match pool.open_image(tag).map_err(Error::from) {
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        image => image?,
    };
    let digest = |role| link.file(role).map(|file| file.digest);
    let saved = &image.meta.saved;
    let own = (Some(saved.memory.digest), Some(saved.vmstate.digest), saved.disk.map(|disk| disk.digest));
    let same = own == (digest(Role::Memory), digest(Role::Vmstate), digest(Role::Rootfs));
    Ok(Some(image).filter(|_| same))
}

/// The files of such an image, after a look at its seal; their content is looked at when the pack is read.
pub(super) fn reused(image: &OpenImage) -> Result<Reused> {
    image.state.verify()?;
    let again =
        |file: &File| file.try_clone().map_err(|e| io_error("open", Path::new(image.tag.as_str()), &e));
    let files = &image.state.files;
    Ok(Reused { memory: again(&files.memory)?, disk: files.disk().map(again).transpose()? })
}
