//! Making, trusting, revoking and using keys.

use super::*;
use crate::trust::{Verdict, check_signature};
use std::os::unix::fs::PermissionsExt;
use tine_model::TrustPolicy;

fn store() -> (tempfile::TempDir, KeyStore) {
    let dir = tempfile::tempdir().unwrap();
    let keys = KeyStore::new(dir.path().join("keys"));
    (dir, keys)
}

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

fn by_name(text: &str) -> KeyRef {
    KeyRef::Name(name(text))
}

fn refused(result: Result<impl std::fmt::Debug>) -> tine_model::Error {
    result.unwrap_err().into()
}

/// Someone else's key: its store, and a signature of `data`.
fn stranger() -> (tempfile::TempDir, KeyInfo, String) {
    let (dir, keys) = store();
    let info = keys.generate(&name("theirs"), None).unwrap();
    let text = keys.sign(&name("theirs"), None, b"data", "c").unwrap();
    (dir, info, text)
}

#[test]
fn a_generated_key_is_private_trusted_and_signs() {
    let (dir, keys) = store();
    assert!(keys.list().unwrap().is_empty() && !dir.path().join("keys").exists());
    let info = keys.generate(&name("release"), None).unwrap();
    assert!(info.can_sign && info.revoked_at.is_none());
    let text = keys.sign(&name("release"), None, b"data", " python-numpy v1 ").unwrap();
    let by = keys.verify(b"data", &text).unwrap();
    assert_eq!(
        (by.name, by.key_id, by.trusted_comment.as_str()),
        (name("release"), info.key_id, "python-numpy v1")
    );
    assert_eq!(refused(keys.verify(b"date", &text)).code, ErrorCode::Untrusted);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("keys")), 0o700);
    assert_eq!(mode(&dir.path().join("keys/release.key")), 0o600);
    assert_eq!(keys.list().unwrap(), [info]);
}

#[test]
fn a_password_is_needed_and_must_be_the_right_one() {
    let (_dir, keys) = store();
    keys.generate(&name("safe"), Some("open sesame")).unwrap();
    assert_eq!(refused(keys.unlock(&name("safe"), None)).code, ErrorCode::Unauthorized);
    assert_eq!(refused(keys.unlock(&name("safe"), Some("open"))).code, ErrorCode::Unauthorized);
    let text = keys.sign(&name("safe"), Some("open sesame"), b"data", "").unwrap();
    assert_eq!(keys.verify(b"data", &text).unwrap().trusted_comment, "");
    assert_eq!(refused(keys.generate(&name("b"), Some(""))).code, ErrorCode::Usage);
    assert!(!format!("{:?}", keys.unlock(&name("safe"), Some("open sesame")).unwrap()).contains("sesame"));
}

#[test]
fn a_public_key_is_trusted_as_a_file_or_a_line_once() {
    let (_other, theirs, text) = stranger();
    let (_dir, keys) = store();
    assert_eq!(
        refused(keys.verify(b"data", &text)).hint.as_deref(),
        Some("tine key trust NAME PUBLIC_KEY_FILE")
    );
    let file = format!("untrusted comment: minisign public key\r\n{}\n\n", theirs.public_key);
    let trusted = keys.trust(&name("them"), &file).unwrap();
    assert!(!trusted.can_sign && trusted.key_id == theirs.key_id);
    assert_eq!(keys.verify(b"data", &text).unwrap().name, name("them"));
    assert_eq!(keys.trust(&name("them"), &theirs.public_key).unwrap(), trusted);
    assert_eq!(refused(keys.trust(&name("again"), &theirs.public_key)).code, ErrorCode::AlreadyExists);
    assert_eq!(refused(keys.generate(&name("them"), None)).code, ErrorCode::AlreadyExists);
    assert_eq!(refused(keys.unlock(&name("them"), None)).code, ErrorCode::NotFound);
    for bad in ["", "untrusted comment: x", "RWQ", &file.repeat(2), &"A".repeat(56), &"x".repeat(5000)] {
        assert_eq!(refused(keys.trust(&name("bad"), bad)).code, ErrorCode::InvalidInput, "{bad:?}");
    }
}

#[test]
fn a_revoked_key_is_never_trusted_again() {
    let (_other, theirs, text) = stranger();
    let (_dir, keys) = store();
    keys.trust(&name("them"), &theirs.public_key).unwrap();
    let first = keys.revoke(&KeyRef::Id(theirs.key_id)).unwrap();
    assert_eq!(keys.revoke(&by_name("them")).unwrap(), first);
    let error = refused(keys.verify(b"data", &text));
    assert!(error.message.contains("revoked"), "{error}");
    for again in ["them", "friend"] {
        let error = refused(keys.trust(&name(again), &theirs.public_key));
        assert!(error.code == ErrorCode::Untrusted && error.hint.is_some(), "{error}");
    }
    // the same key under another id: the bytes after the algorithm
    let relabelled = theirs.public_key.replacen(&theirs.public_key[3..13], "AAAAAAAAAA", 1);
    assert_ne!(relabelled, theirs.public_key);
    assert_eq!(refused(keys.trust(&name("friend"), &relabelled)).code, ErrorCode::Untrusted);
    assert_eq!(refused(keys.revoke(&by_name("nobody"))).code, ErrorCode::NotFound);
}

#[test]
fn a_revoked_key_signs_nothing_more() {
    let (_dir, keys) = store();
    keys.generate(&name("mine"), None).unwrap();
    assert!(!keys.revoke(&by_name("mine")).unwrap().can_sign);
    assert_eq!(refused(keys.unlock(&name("mine"), None)).code, ErrorCode::Untrusted);
    assert!(!keys.get(&by_name("mine")).unwrap().can_sign);
}

#[test]
fn require_refuses_each_lack_in_its_own_words() {
    let (_other, theirs, text) = stranger();
    let (_dir, keys) = store();
    let require = |signature: Option<&str>, bytes: &[u8]| {
        let error = refused(check_signature(TrustPolicy::Require, &keys, "the pack p", signature, bytes));
        assert_eq!(error.code, ErrorCode::Untrusted);
        error.message
    };
    let mut messages =
        vec![require(None, b"data"), require(Some("garbage"), b"data"), require(Some(&text), b"data")];
    keys.trust(&name("them"), &theirs.public_key).unwrap();
    messages.push(require(Some(&text), b"date"));
    let verdict = check_signature(TrustPolicy::Require, &keys, "the pack p", Some(&text), b"data").unwrap();
    assert!(verdict.is_signed());
    keys.revoke(&by_name("them")).unwrap();
    messages.push(require(Some(&text), b"data"));
    for (message, word) in messages.iter().zip([
        "not signed",
        "can't be read",
        "not trusted here",
        "does not verify",
        "was revoked",
    ]) {
        assert!(message.starts_with("the pack p") || message.contains("of the pack p"), "{message}");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn warn_takes_what_lacks_a_trusted_signature_and_refuses_a_wrong_one() {
    let (_other, theirs, text) = stranger();
    let (_dir, keys) = store();
    let check = |policy, signature: Option<&str>, bytes: &[u8]| {
        check_signature(policy, &keys, "it", signature, bytes)
    };
    for signature in [None, Some("garbage"), Some(text.as_str())] {
        assert!(check(TrustPolicy::Warn, signature, b"data").unwrap().warning().is_some());
    }
    keys.trust(&name("them"), &theirs.public_key).unwrap();
    assert_eq!(refused(check(TrustPolicy::Warn, Some(&text), b"date")).code, ErrorCode::Untrusted);
    assert_eq!(check(TrustPolicy::Off, Some(&text), b"date").unwrap(), Verdict::Unchecked);
    keys.revoke(&by_name("them")).unwrap();
    assert!(check(TrustPolicy::Warn, Some(&text), b"data").unwrap().warning().unwrap().contains("revoked"));
    assert_eq!(refused(check(TrustPolicy::Warn, Some(&text), b"date")).code, ErrorCode::Untrusted);
}

#[test]
fn the_second_signature_of_a_file_counts_too() {
    let (_dir, keys) = store();
    keys.generate(&name("a"), None).unwrap();
    let (new, old) =
        (keys.sign(&name("a"), None, b"new", "").unwrap(), keys.sign(&name("a"), None, b"old", "").unwrap());
    let both = new + &old;
    assert!(keys.verify(b"new", &both).is_ok() && keys.verify(b"old", &both).is_ok());
    assert!(refused(keys.verify(b"other", &both)).message.contains("does not verify"));
}

#[test]
fn a_key_whose_making_was_broken_off_is_in_no_ones_way() {
    let (dir, keys) = store();
    let (_other, theirs, _) = stranger();
    keys.generate(&name("a"), None).unwrap();
    fs::rename(dir.path().join("keys/a.key"), dir.path().join("keys/b.key")).unwrap();
    assert!(!keys.trust(&name("b"), &theirs.public_key).unwrap().can_sign);
    fs::write(dir.path().join("keys/c.key"), "half").unwrap();
    assert!(keys.generate(&name("c"), None).unwrap().can_sign);
    keys.sign(&name("c"), None, b"data", "").unwrap();
}

#[test]
fn a_directory_that_others_may_write_is_not_believed() {
    let (dir, keys) = store();
    keys.generate(&name("a"), None).unwrap();
    fs::set_permissions(dir.path().join("keys"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(refused(keys.list()).code, ErrorCode::Untrusted);
}

#[test]
fn a_damaged_or_huge_file_of_keys_is_an_error_and_not_an_empty_one() {
    let (dir, keys) = store();
    keys.generate(&name("a"), None).unwrap();
    let ring = dir.path().join("keys/keys.json");
    fs::write(&ring, "{").unwrap();
    assert_eq!(refused(keys.list()).code, ErrorCode::Corrupt);
    fs::write(&ring, r#"{"format":2,"keys":[]}"#).unwrap();
    assert_eq!(refused(keys.list()).code, ErrorCode::Incompatible);
    fs::File::create(&ring).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert_eq!(refused(keys.list()).code, ErrorCode::TooLarge);
}

#[test]
fn readers_see_whole_rings_while_keys_are_added() {
    let (_dir, keys) = store();
    keys.generate(&name("k0"), None).unwrap();
    std::thread::scope(|scope| {
        let adder =
            scope.spawn(|| (1..20).for_each(|i| drop(keys.generate(&name(&format!("k{i}")), None).unwrap())));
        let mut last = 1;
        while !adder.is_finished() {
            let now = keys.list().unwrap().len();
            assert!(now >= last);
            last = now;
        }
    });
    assert_eq!(keys.list().unwrap().len(), 20);
}
