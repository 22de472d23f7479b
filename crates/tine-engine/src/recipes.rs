//! The maintained definitions: scripts in `recipes/`, part of the binary.
//!
//! A definition is one script. Its leading comment names the `builder` (`mmdebstrap`: runs on the host and writes a
//! tar; `box`: runs in a box cloned from the `parent`), and what makes an image of it, if it is meant for one. The
//! script's digest identifies all of it. `docs/recipes.md` tells how to write one.

use sha2::{Digest as _, Sha256};
use tine_model::{BaseAlias, ByteSize, Error, ErrorCode, Result, Sha256Digest};

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

/// What makes an image of a definition's base: a machine, and how it is warmed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmUp {
    /// One line about the image.
    pub about: &'static str,
    /// Memory of the machine.
    pub memory: ByteSize,
    /// Size of its disk.
    pub disk: ByteSize,
    /// Shell commands, in order. What they leave running stays.
    pub warm: Vec<&'static str>,
    /// A shell command that succeeds once what was warmed answers.
    pub ready: &'static str,
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
    /// What makes an image of it; none for what is only a base.
    pub warm_up: Option<WarmUp>,
}

const SCRIPTS: [(&str, &str); 8] = [
    ("box-base", include_str!("../../../recipes/box-base/build.sh")),
    ("python", include_str!("../../../recipes/python/build.sh")),
    ("coding-agent", include_str!("../../../recipes/coding-agent/build.sh")),
    ("jupyter-kernel", include_str!("../../../recipes/jupyter-kernel/build.sh")),
    ("nodejs", include_str!("../../../recipes/nodejs/build.sh")),
    ("playwright-browser", include_str!("../../../recipes/playwright-browser/build.sh")),
    ("postgres-fixture", include_str!("../../../recipes/postgres-fixture/build.sh")),
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
    read(name.clone(), script)
}

/// Every definition, in the order of their writing down: a parent before its children.
///
/// # Errors
/// `corrupt` when one's leading comment is.
pub fn all() -> Result<Vec<Recipe>> {
    SCRIPTS.iter().map(|(name, script)| read(name.parse()?, script)).collect()
}

fn read(name: BaseAlias, script: &'static str) -> Result<Recipe> {
    Ok(Recipe { name, builder: builder(script)?, script, warm_up: warm_up(script)? })
}

impl Recipe {
    /// The base it is built over, if it is not built from nothing.
    #[must_use]
    pub fn parent(&self) -> Option<&BaseAlias> {
        match &self.builder {
            Builder::Mmdebstrap => None,
            Builder::Box { parent } => Some(parent),
        }
    }

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

/// All of its fields or none: a warm-up that nothing proves makes images that do not work.
fn warm_up(script: &'static str) -> Result<Option<WarmUp>> {
    const KEYS: [&str; 5] = ["about", "memory", "disk", "warm", "ready"];
    if KEYS.iter().all(|key| field(script, key).is_none()) {
        return Ok(None);
    }
    let wanted = |key: &str| {
        field(script, key).ok_or_else(|| {
            Error::new(ErrorCode::Corrupt, format!("the definition's leading comment has no {key}"))
        })
    };
    wanted("warm")?;
    Ok(Some(WarmUp {
        about: wanted("about")?,
        memory: wanted("memory")?.parse()?,
        disk: wanted("disk")?.parse()?,
        warm: fields(script, "warm").collect(),
        ready: wanted("ready")?,
    }))
}

/// The value of the first `# key: value` in the script's leading comment.
fn field<'a>(script: &'a str, key: &str) -> Option<&'a str> {
    fields(script, key).next()
}

/// The values of every `# key: value` in the script's leading comment, in order.
fn fields<'a>(script: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let comment = script.lines().take_while(|line| line.starts_with('#'));
    comment
        .filter_map(|line| line.strip_prefix("# ")?.split_once(": "))
        .filter(move |(k, _)| *k == key)
        .map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(recipes: &[Recipe]) -> Vec<&str> {
        recipes.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn every_definition_names_its_builder_and_parent() {
        let python = find(&"python".parse().unwrap()).unwrap();
        assert_eq!(python.builder, Builder::Box { parent: "box-base".parse().unwrap() });
        let numpy = find(&"python-numpy".parse().unwrap()).unwrap();
        assert_eq!(numpy.builder, Builder::Box { parent: "python".parse().unwrap() });
        assert_eq!(find(&"nope".parse().unwrap()).unwrap_err().code, ErrorCode::NotFound);
    }

    #[test]
    fn a_parent_is_a_definition_written_down_before_its_children() {
        let all = all().unwrap();
        for (index, recipe) in all.iter().enumerate() {
            if let Builder::Box { parent } = &recipe.builder {
                assert!(names(&all[..index]).contains(&parent.as_str()), "{}", recipe.name);
            }
        }
    }

    #[test]
    fn every_definition_but_the_plain_bases_is_warmed_up() {
        let (warmed, plain): (Vec<Recipe>, Vec<Recipe>) =
            all().unwrap().into_iter().partition(|r| r.warm_up.is_some());
        assert_eq!(names(&plain), ["box-base", "python"]);
        for recipe in &warmed {
            let warm_up = recipe.warm_up.as_ref().unwrap();
            assert!(warm_up.about.chars().count() <= 80 && !warm_up.about.ends_with('.'), "{}", recipe.name);
            assert!((ByteSize::mib(128)..=ByteSize::gib(2)).contains(&warm_up.memory), "{}", recipe.name);
            assert!((ByteSize::gib(1)..=ByteSize::gib(16)).contains(&warm_up.disk), "{}", recipe.name);
            assert!(!warm_up.warm.is_empty() && !warm_up.ready.is_empty(), "{}", recipe.name);
        }
    }

    const WARMED: &str = "#!/bin/sh\n# a: title.\n# builder: box\n# parent: p\n# about: a: b\n# memory: 256MiB\n\
        # disk: 4GiB\n# warm: one &\n#\n# warm: two: x\n# ready: three\nset -eu\n# warm: not this\n";

    #[test]
    fn a_warm_up_is_read_from_the_leading_comment_alone() {
        let warm_up = warm_up(WARMED).unwrap().unwrap();
        assert_eq!(warm_up.warm, ["one &", "two: x"]);
        assert_eq!((warm_up.about, warm_up.ready), ("a: b", "three"));
        assert_eq!((warm_up.memory, warm_up.disk), (ByteSize::mib(256), ByteSize::gib(4)));
    }

    #[test]
    fn half_a_warm_up_is_refused() {
        for key in ["about", "memory", "disk", "warm", "ready"] {
            let without = WARMED.replace(&format!("\n# {key}: "), "\n# was: ");
            let error = warm_up(without.leak()).unwrap_err();
            assert_eq!(error.code, ErrorCode::Corrupt);
            assert!(error.message.ends_with(&format!("no {key}")), "{error}");
        }
        assert!(warm_up(WARMED.replace("256MiB", "much").leak()).is_err());
        assert_eq!(warm_up("#!/bin/sh\n# builder: mmdebstrap\n").unwrap(), None);
    }
}
