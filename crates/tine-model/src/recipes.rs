//! Recipes: maintained definitions that become a base, and an image of a machine warmed up on it.

use crate::{
    bytesize::ByteSize,
    digest::Sha256Digest,
    images::ImageInfo,
    names::{BaseAlias, BaseVersion, ImageTag},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How what a pool holds stands to what a recipe would make now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipeState {
    /// There is nothing of that name.
    Missing,
    /// There is something of that name, made by another script, over another parent, or by other means.
    Outdated,
    /// It is what the recipe would make.
    Current,
}

impl fmt::Display for RecipeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "-",
            Self::Outdated => "old",
            Self::Current => "yes",
        })
    }
}

/// A row of `recipe list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeInfo {
    /// Its name, which is also the alias of its base and the tag of its image.
    pub name: BaseAlias,
    /// One line about it.
    pub about: String,
    /// The base it is built over; none for one that is built from nothing.
    pub parent: Option<BaseAlias>,
    /// SHA-256 of its script, which all of it stands in.
    pub script_sha256: Sha256Digest,
    /// Bytes of memory of the machine.
    pub memory_bytes: ByteSize,
    /// Size of the machine's disk.
    pub disk_bytes: ByteSize,
    /// Shell commands that warm the machine up, in order.
    pub warm: Vec<String>,
    /// A shell command that succeeds once what was warmed answers.
    pub ready: String,
    /// How the base of its name stands.
    pub base: RecipeState,
    /// How the image of its name stands.
    pub image: RecipeState,
}

/// What `recipe build` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecipe {
    /// The recipe.
    pub name: BaseAlias,
    /// The image; the recipe's name when none.
    pub tag: Option<ImageTag>,
    /// Bakes again though the image is there, and replaces it, whatever it was made from.
    #[serde(default)]
    pub force: bool,
}

/// What `recipe build` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltRecipe {
    /// The recipe.
    pub name: BaseAlias,
    /// The version the image is of.
    pub base: BaseVersion,
    /// False when that version was there.
    pub base_created: bool,
    /// The image.
    pub image: ImageInfo,
    /// False when an image of that version was there.
    pub baked: bool,
}
