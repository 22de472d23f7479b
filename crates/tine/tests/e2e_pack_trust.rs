//! Keys, signed packs, and what a policy makes of them.

#[path = "support/packs.rs"]
mod packs;
mod support;

use packs::{V1, sample, tamper, text};
use std::fs;
use support::Fixture;

/// A pool with an image and a key; the key's public half.
fn signer() -> (Fixture, String) {
    let f = Fixture::empty();
    f.ok(&["unpack", &sample(f.dir(), V1)]);
    let public = f.ok(&["key", "generate", "release"]).trim().to_owned();
    (f, public)
}

/// A pack of that pool's image, signed.
fn signed(f: &Fixture, name: &str) -> String {
    let out = text(&f.dir().join(name));
    let report = f.json(&["pack", "--tag", "v1-base", "--format", "v3", "--sign", "release", "-o", &out]);
    assert_eq!(report["signed_by"], "release");
    out
}

#[test]
fn keys_are_made_listed_trusted_and_revoked() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let done = f.run(&["key", "generate", "release"]);
    let public = done.out.trim().to_owned();
    assert!(done.code == 0 && public.starts_with("RW") && done.err.contains("not encrypted"), "{done:?}");
    assert!(f.refuses("already_exists", &["key", "generate", "release"]).contains("release"));
    let list = f.ok(&["key", "list"]);
    assert!(list.contains("release") && list.contains(&public) && list.contains("yes"), "{list}");
    assert_eq!(f.ok(&["-q", "key", "ls"]), "release\n");
    assert_eq!(g.ok(&["-q", "key", "list"]), "");
    assert_eq!(g.ok(&["key", "trust", "theirs", &public]), "theirs\n");
    assert_eq!(g.json(&["key", "list"])[0]["can_sign"], false);
    let file = g.file("k.pub", format!("untrusted comment: minisign public key\n{public}\n").as_bytes());
    let h = Fixture::empty();
    assert_eq!(h.ok(&["key", "trust", "file", &text(&file)]), "file\n");
    for bad in ["", "RWQ", "hello", &"A".repeat(56)] {
        let done = h.run(&["--json", "key", "trust", "bad", bad]);
        assert!(done.code != 0 && done.out.contains("\"error\""), "{bad}: {done:?}");
    }
    let done = g.run(&["key", "revoke", "theirs"]);
    assert!(done.code == 2 && done.err.contains("--yes"), "{done:?}");
    g.ok(&["key", "revoke", "theirs", "--yes"]);
    assert!(!g.json(&["key", "list"])[0]["revoked_at"].is_null());
    let done = g.run(&["key", "trust", "again", &public]);
    assert!(done.code == 1, "a revoked key is not trusted again under another name: {done:?}");
    g.refuses("not_found", &["key", "revoke", "nobody", "--yes"]);
}

#[test]
fn the_policy_is_shown_and_set_for_each_hub() {
    require!("btrfs");
    let f = Fixture::empty();
    assert_eq!(f.json(&["key", "policy"]), serde_json::json!([{ "hub": null, "policy": "warn" }]));
    f.ok(&["key", "policy", "require", "--hub", "https://hub.example.org"]);
    let rules = f.json(&["key", "policy", "off"]);
    assert_eq!((&rules[0]["policy"], &rules[1]["policy"]), (&"off".into(), &"require".into()));
    f.ok(&["key", "policy", "--unset", "--hub", "https://hub.example.org"]);
    assert_eq!(f.json(&["key", "policy", "warn"]).as_array().unwrap().len(), 1);
    f.refuses("usage", &["key", "policy", "sometimes"]);
}

#[test]
fn only_what_a_trusted_key_signed_is_taken_where_that_is_required() {
    require!("btrfs");
    let (f, public) = signer();
    let pack = signed(&f, "signed.tine.tar.zst");
    let unsigned = text(&f.dir().join("unsigned.tine.tar.zst"));
    f.ok(&["pack", "--tag", "v1-base", "--format", "v3", "-o", &unsigned]);
    let g = Fixture::empty();
    g.ok(&["key", "policy", "require"]);
    let message = g.leaves_all("untrusted", &["unpack", &unsigned]);
    assert!(message.contains("is not signed"), "{message}");
    let message = g.leaves_all("untrusted", &["unpack", &sample(g.dir(), V1)]);
    assert!(message.contains("is not signed"), "{message}");
    let message = g.leaves_all("untrusted", &["unpack", &pack]);
    assert!(message.contains("not trusted") || message.contains("unknown"), "{message}");
    let hint = g.fails(1, &["unpack", &pack]);
    assert!(hint.contains("hint: ") && hint.contains("key trust"), "{hint}");
    g.ok(&["key", "trust", "release", &public]);
    let done = g.run(&["unpack", &pack]);
    assert!(done.code == 0 && done.err.contains("signed by release"), "{done:?}");
    assert_eq!(g.json(&["unpack", &pack, "--tag", "two"])["signed_by"], "release");
    assert_eq!(g.fact("two", "pack")["signed_by"], "release");
    g.leaves_all("untrusted", &["unpack", &unsigned, "--tag", "three"]);
    g.ok(&["key", "revoke", "release", "--yes"]);
    let message = g.leaves_all("untrusted", &["unpack", &pack, "--tag", "four"]);
    assert!(message.contains("revoked"), "{message}");
    g.ok(&["key", "policy", "warn"]);
    g.ok(&["unpack", &unsigned, "--tag", "five"]);
    g.check();
}

#[test]
fn a_manifest_that_was_changed_after_signing_is_refused() {
    require!("btrfs");
    let (f, public) = signer();
    let pack = signed(&f, "signed.tine.tar.zst");
    let unsigned = text(&f.dir().join("unsigned.tine.tar.zst"));
    f.ok(&["pack", "--tag", "v1-base", "--format", "v3", "-o", &unsigned]);
    // the change itself is one that a reader takes
    tamper(&unsigned, "tiny v1 vector", "huge v1 vector");
    let g = Fixture::empty();
    g.ok(&["unpack", &unsigned]);
    assert_eq!(g.fact("v1-base", "description"), "huge v1 vector");
    tamper(&pack, "tiny v1 vector", "huge v1 vector");
    for policy in ["require", "warn"] {
        g.ok(&["key", "policy", policy]);
        if g.json(&["key", "list"]).as_array().unwrap().is_empty() {
            g.ok(&["key", "trust", "release", &public]);
        }
        let message = g.leaves_all("untrusted", &["unpack", &pack, "--tag", "two"]);
        assert!(message.contains("release") || message.contains("signature"), "{policy}: {message}");
    }
    g.ok(&["key", "policy", "off"]);
    g.ok(&["unpack", &pack, "--tag", "two"]);
}

#[test]
fn a_key_with_a_password_signs_only_with_it() {
    require!("btrfs");
    let f = Fixture::empty();
    f.ok(&["unpack", &sample(f.dir(), V1)]);
    let with = |password: &str, args: &[&str]| {
        let output = f.command(args).env("TINE_KEY_PASSWORD", password).output().unwrap();
        support::Done::new(args, output)
    };
    let done = with("right", &["key", "generate", "locked"]);
    assert!(done.code == 0 && !done.err.contains("not encrypted"), "{done:?}");
    let out = text(&f.dir().join("x.tar.zst"));
    let args = ["--json", "pack", "--tag", "v1-base", "--format", "v3", "--sign", "locked", "-o", &out];
    for done in [f.run(&args), with("wrong", &args)] {
        assert!(done.code == 1 && done.out.contains("unauthorized"), "{done:?}");
        assert!(!done.out.contains("wrong\"") && !fs::exists(&out).unwrap(), "{done:?}");
    }
    assert_eq!(with("right", &args).code, 0);
    assert_eq!(f.json(&["unpack", &out, "--tag", "two"])["signed_by"], "locked");
}
