//! `image list`, `show`, `delete` and `rename`.

use crate::LocalEngine;
use tine_model::{ImageInfo, ImageTag, Reporter, Result};

pub fn list(engine: &LocalEngine, reporter: &dyn Reporter) -> Result<Vec<ImageInfo>> {
    Ok(engine.pool()?.list_images(reporter)?)
}

pub fn show(engine: &LocalEngine, tag: &ImageTag) -> Result<ImageInfo> {
    Ok(engine.pool()?.image_info(tag)?)
}

/// Boxes that go on from it are not touched: they have its files.
pub fn delete(engine: &LocalEngine, tag: &ImageTag, dry_run: bool) -> Result<ImageInfo> {
    let pool = engine.pool()?;
    let info = pool.image_info(tag)?;
    if !dry_run {
        pool.delete_image(tag, engine.config.wait)?;
    }
    Ok(info)
}

pub fn rename(engine: &LocalEngine, tag: &ImageTag, new_tag: &ImageTag) -> Result<ImageInfo> {
    Ok(engine.pool()?.rename_image(tag, new_tag)?)
}
