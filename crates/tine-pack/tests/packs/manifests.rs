//! Manifests of the third layout: what they say, and what none may.

use crate::support::{chain, pack, source, unpack};
use sha2::{Digest, Sha256};
use tine_model::ErrorCode;
use tine_pack::{Layout, Manifest, PackError};

fn text() -> String {
    let (_, store) = unpack(&pack(&source(Layout::V3, &chain(2, 2)))).unwrap();
    String::from_utf8(store.raw).unwrap()
}

/// The manifest with something changed and a closing line that fits.
fn changed(from: &str, to: &str) -> Result<Manifest, PackError> {
    let text = text();
    let body = text.split("# sha256 ").next().unwrap();
    assert!(body.contains(from), "{body}");
    let body = body.replacen(from, to, 1);
    let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    Manifest::parse(format!("{body}# sha256 {digest}\n").as_bytes())
}

#[track_caller]
fn refused(from: &str, to: &str, why: &str) {
    let reason = changed(from, to).unwrap_err().to_string();
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn unknown_features_are_refused_by_name_or_passed_over() {
    changed("tag", "tag").unwrap();
    let error = changed("incompat = [\"delta\"]", "incompat = [\"delta\", \"quantum\"]").unwrap_err();
    assert!(error.to_string().contains("\"quantum\""), "{error}");
    assert_eq!(tine_model::Error::from(error).code, ErrorCode::Incompatible);
    let manifest = changed("compat = []", "compat = [\"smell\"]").unwrap();
    assert_eq!(manifest.features, ["smell"]);
    changed("[features]", "unknown = 7\n\n[features]").unwrap();
    refused("incompat = [\"delta\"]", "incompat = []", "features are not those it uses");
    refused("format = \"tine\"\n", "", "newer");
    refused("format = \"tine\"", "format = \"other\"", "newer");
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused("stored = ", "stored = 999999", "more bytes stored than it has");
    refused("path = \"vmstate\"", "path = \"snapshot.json\"", "declares no vmstate");
    refused("parent_content_hash = \"", "parent_content_hash = \"0", "is not a SHA-256 digest");
    refused("parent_tag = \"m0\"\n", "", "another parent");
    refused("id = \"0", "id = \"X", "id that is not 32 digits");
    refused("engine = \"qemu\"", "engine = \"qe\\u0000mu\"", "control characters");
    refused("accel = \"tcg\"", "accel = \"magic\"", "cannot be read");
}

#[test]
fn without_its_closing_line_it_is_none() {
    let text = text();
    let body = text.split("# sha256 ").next().unwrap();
    let error = Manifest::parse(body.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("no closing line"), "{error}");
    let damaged = text.replacen("about it", "about me", 1);
    let error = Manifest::parse(damaged.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}
