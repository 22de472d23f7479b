//! The maintained definitions: scripts in `recipes/`, part of the binary.
//!
//! A definition is one script. Its leading comment names the `builder` (`mmdebstrap`: runs on the host and writes a
//! tar; `box`: runs in a box cloned from the `parent`). The script's digest identifies all of it.

use sha2::{Digest as _, Sha256};
use tine_model::{BaseAlias, Error, ErrorCode, Result, Sha256Digest};

/// Where a definition's script runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Builder {
    /// On the host; it writes a tar to `$TINE_ROOT_TAR`.
    Mmdebstrap,
    /// As root in a box cloned from this base.
    Box {
        /// The base.
        parent: BaseAlias,
    },
}

/// A maintained definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its name, which is also the alias it writes.
    pub name: BaseAlias,
    /// Where its script runs.
    pub builder: Builder,
    /// The script.
    pub script: &'static str,
}

const SCRIPTS: [(&str, &str); 3] = [
    ("box-base", include_str!("../../../recipes/box-base/build.sh")),
    ("python", include_str!("../../../recipes/python/build.sh")),
    ("python-numpy", include_str!("../../../recipes/python-numpy/build.sh")),
];

/// The definition of that name.
///
/// # Errors
/// `not_found`, naming those there are.
pub fn find(name: &BaseAlias) -> Result<Recipe> {
    let script = SCRIPTS.iter().find(|(known, _)| *known == name.as_str()).map(|(_, script)| *script);
    let script = script.ok_or_else(|| {
        let known: Vec<&str> = SCRIPTS.iter().map(|(name, _)| *name).collect();
        let message = format!("no maintained definition is named {name}; there are {}", known.join(", "));
        Error::new(ErrorCode::NotFound, message).hint(format!("tine base build {name} DIR"))
    })?;
    Ok(Recipe { name: name.clone(), builder: builder(script)?, script })
}

impl Recipe {
    /// SHA-256 of the script.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        digest(self.script)
    }
}

/// SHA-256 of a script's text.
#[must_use]
pub fn digest(script: &str) -> Sha256Digest {
    Sha256Digest(Sha256::digest(script.as_bytes()).into())
}

fn builder(script: &str) -> Result<Builder> {
    match (field(script, "builder"), field(script, "parent")) {
        (Some("mmdebstrap"), None) => Ok(Builder::Mmdebstrap),
        (Some("box"), Some(parent)) => Ok(Builder::Box { parent: parent.parse()? }),
        _ => Err(Error::new(
            ErrorCode::Corrupt,
            "the definition's leading comment names no builder and parent",
        )),
    }
}

/// The value of `# key: value` in the script's leading comment.
fn field<'a>(script: &'a str, key: &str) -> Option<&'a str> {
    let comment = script.lines().take_while(|line| line.starts_with('#'));
    comment
        .filter_map(|line| line.strip_prefix("# ")?.split_once(": "))
        .find(|(k, _)| *k == key)
        .map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_names_its_builder_and_parent() {
        for (name, _) in SCRIPTS {
            find(&name.parse().unwrap()).unwrap();
        }
        let python = find(&"python".parse().unwrap()).unwrap();
        assert_eq!(python.builder, Builder::Box { parent: "box-base".parse().unwrap() });
        let numpy = find(&"python-numpy".parse().unwrap()).unwrap();
        assert_eq!(numpy.builder, Builder::Box { parent: "python".parse().unwrap() });
        assert_eq!(find(&"nope".parse().unwrap()).unwrap_err().code, ErrorCode::NotFound);
    }
}
