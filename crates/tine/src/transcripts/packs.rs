//! Transcripts of packs, hubs and keys.

use super::transcript;

#[test]
fn packs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numpy.tine.tar.zst");
    std::fs::write(&path, b"a pack").unwrap();
    let path = path.to_str().unwrap();
    let lines = [
        format!("tine unpack {path}"),
        format!("tine -q unpack {path} --tag numpy-2 --force"),
        "tine unpack /nowhere/numpy.tine.tar.zst".to_owned(),
        format!("tine pack --tag python-numpy -o {path}"),
        format!("tine -q pack --tag python-numpy --format v1 -o {path}"),
        format!("tine -j pack --tag python-numpy --sign release --description d --base-image i -o {path}"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let said = transcript(&lines, false).replace(folder.path().to_str().unwrap(), "/packs");
    insta::assert_snapshot!(said);
}

#[test]
fn transfers() {
    insta::assert_snapshot!(transcript(
        &[
            "tine pull tine/python-numpy",
            "tine pull tine/python-numpy@v2 --hub https://hub.example.org --tag numpy --force",
            "tine -q pull https://example.org/numpy.tine.tar.zst",
            "tine push --tag python-numpy tine/python-numpy@v2 --hub /srv/hub",
            "tine -q push --tag python-numpy s3://images/numpy.tine.tar.zst --format v1",
            "tine -j push --tag python-numpy file:///srv/numpy.tine.tar.zst",
        ],
        false
    ));
}

#[test]
fn hubs() {
    insta::assert_snapshot!(transcript(
        &[
            "tine hub init /srv/hub",
            "tine hub init /srv/hub --url https://hub.example.org --sign release",
            "tine hub add numpy.tine.tar.zst tine/python-numpy --hub /srv/hub",
            "tine hub add numpy.tine.tar.zst tine/python-numpy@v1 --description text --recipe-path recipes/x",
            "tine -j hub add numpy.tine.tar.zst tine/python-numpy",
            "tine hub list",
            "tine images --hub",
            "tine -q images --hub https://hub.example.org",
            "tine hub search numpy --hub /srv/hub",
            "tine -j hub list",
            "tine hub verify",
            "tine hub verify --hub /srv/bad",
            "tine -j hub verify --hub /srv/bad",
            "tine hub remove tine/python-numpy@v1 --dry-run",
            "tine hub remove tine/python-numpy",
            "tine hub remove tine/python-numpy --yes",
            "tine hub default",
            "tine hub default https://hub.example.org",
        ],
        false
    ));
}

#[test]
fn keys() {
    insta::assert_snapshot!(transcript(
        &[
            "tine key generate release",
            "tine -j key generate release",
            "tine key list",
            "tine -q key list",
            "tine -j key list",
            "tine key trust friend RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
            "tine key revoke friend",
            "tine key revoke 0123456789ABCDEF --yes",
            "tine key policy",
            "tine key policy require --hub https://hub.example.org",
            "tine key policy --hub https://hub.example.org --unset",
        ],
        false
    ));
}

#[test]
fn nothing_at_a_hub() {
    insta::assert_snapshot!(transcript(
        &["tine hub list", "tine -q images --hub", "tine key list", "tine hub default"],
        true
    ));
}
