//! Which crate may see which: an arrow points to a lower layer, and some libraries live in one place only.

use cargo_metadata::{DependencyKind, Metadata, Package};

/// Every crate of the workspace and its layer; crates of one layer never see each other.
const LAYERS: [(&str, u8); 12] = [
    ("tine-model", 0),
    ("tine-sys", 1),
    ("tine-archive", 2),
    ("tine-digest", 2),
    ("tine-agent", 3),
    ("tine-store", 4),
    ("tine-machine", 4),
    ("tine-hub", 4),
    ("tine-pack", 4),
    ("tine-remote", 4),
    ("tine-engine", 5),
    ("tine", 7),
];

/// Libraries that only the named crates may use.
const ONLY_IN: [(&str, &[&str]); 4] = [
    ("clap", &["tine"]),
    ("clap_complete", &["tine"]),
    ("libcontainer", &["tine-machine"]),
    ("tokio", &["tine-server", "tine-remote"]),
];

/// One line for each dependency that breaks a rule.
pub fn broken_arrows(metadata: &Metadata) -> Vec<String> {
    metadata.workspace_packages().into_iter().filter(|p| p.name.as_str() != "xtask").flat_map(check).collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, layer)| *layer)
}

fn check(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some(own) = layer(name) else {
        return vec![format!("{name} has no layer; give it one in xtask/src/layers.rs")];
    };
    let normal = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
    normal.filter_map(|dependency| check_arrow(name, own, &dependency.name)).collect()
}

fn check_arrow(name: &str, own: u8, dependency: &str) -> Option<String> {
    if let Some(theirs) = layer(dependency)
        && theirs >= own
    {
        return Some(format!(
            "{name} (layer {own}) depends on {dependency} (layer {theirs}): arrows point down"
        ));
    }
    let (library, homes) = ONLY_IN.iter().find(|(library, _)| *library == dependency)?;
    (!homes.contains(&name))
        .then(|| format!("{name} uses {library}, which belongs to {}", homes.join(" and ")))
}
