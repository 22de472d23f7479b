//! The text of minisign signatures, as hostile as any: four lines, or a few times four.
//!
//! A file may hold more than one signature: a hub keeps the former registry's behind the present one's, so that a
//! reader who got the former registry still finds its signature, and so that of several who change a hub at once none
//! takes another's away. Other tools read the first and stop.

use minisign::SignatureBox;
use tine_model::{KeyId, KeyName};

/// Longer than a file of [`MOST`] signatures as a hub makes them.
pub(crate) const MAX_TEXT: usize = 16 << 10;
/// A file holds no more of them.
pub(crate) const MOST: usize = 12;
const LINES: usize = 4;
/// Base64 of the 74 bytes of algorithm, key id and signature ends so, and of 64 bytes so.
const SIGNATURE_FORM: (usize, &str) = (100, "=");
const GLOBAL_FORM: (usize, &str) = (88, "==");

/// Who has signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBy {
    /// What the key is called here.
    pub name: KeyName,
    /// Its id.
    pub key_id: KeyId,
    /// What the signer wrote beside the signature, signed too.
    pub trusted_comment: String,
}

/// One signature that has the right form.
pub(super) struct Signature {
    pub(super) key_id: KeyId,
    pub(super) trusted_comment: String,
    pub(super) parsed: SignatureBox,
}

/// The signatures in a file, in order; never none.
pub(super) fn parse(text: &str) -> Result<Vec<Signature>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it is longer than {MAX_TEXT} bytes"));
    }
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if !lines.len().is_multiple_of(LINES) || lines.is_empty() || lines.len() > MOST * LINES {
        return Err(format!("it has {} lines, not four for each signature", lines.len()));
    }
    lines.chunks(LINES).map(one).collect()
}

fn one(lines: &[&str]) -> Result<Signature, String> {
    // the library looks at the form of neither, and counts on the length of the second
    for (line, form, name) in [(1, SIGNATURE_FORM, "signature"), (3, GLOBAL_FORM, "signature of the comment")]
    {
        if !lines.get(line).is_some_and(|text| has_form(text, form)) {
            return Err(format!("its {name} has not the right length"));
        }
    }
    let parsed = SignatureBox::from_string(&lines.join("\n")).map_err(|e| e.to_string())?;
    if !parsed.is_prehashed() {
        return Err("it is of the old kind, over unhashed data".to_owned());
    }
    let trusted_comment = parsed.trusted_comment().map_err(|e| e.to_string())?;
    if trusted_comment.chars().any(char::is_control) {
        return Err("its comment has control characters".to_owned());
    }
    let key_id = KeyId(parsed.keynum().try_into().map_err(|_| "it names no key".to_owned())?);
    Ok(Signature { key_id, trusted_comment, parsed })
}

/// Base64 of exactly so many characters, of which exactly so many pad.
fn has_form(text: &str, (length, padding): (usize, &str)) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    text.len() == length && text.strip_suffix(padding).is_some_and(|digits| digits.bytes().all(digit))
}

/// The signatures of a file, each as a file of its own; none when it has not the right form.
pub(crate) fn split(text: &str) -> Vec<String> {
    if parse(text).is_err() {
        return Vec::new();
    }
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.chunks(LINES).map(|one| one.join("\n") + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn signed() -> (KeyPair, String) {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let text = minisign::sign(None, &pair.sk, Cursor::new(b"data"), Some("when"), Some("x")).unwrap();
        (pair, text.into_string())
    }

    #[test]
    fn a_file_holds_one_signature_or_a_few() {
        let (_, text) = signed();
        assert_eq!(parse(&text).unwrap().len(), 1);
        assert_eq!(parse(&text).unwrap()[0].trusted_comment, "when");
        assert_eq!(parse(&text.repeat(2)).unwrap().len(), 2);
        assert_eq!(split(&text.repeat(2)), [text.clone(), text.clone()]);
        assert!(
            parse("").is_err()
                && parse(&text.repeat(MOST + 1)).is_err()
                && parse(&format!("{text}x")).is_err()
        );
        assert!(parse(&"x".repeat(MAX_TEXT + 1)).is_err());
    }

    #[test]
    fn a_signature_cut_short_in_any_place_never_reaches_the_library() {
        let (pair, text) = signed();
        for end in 0..text.trim_end().len() {
            assert!(parse(&text[..end]).is_err(), "{end}");
        }
        let short = text.lines().take(3).map(|l| format!("{l}\n")).collect::<String>() + "AAAA\n";
        assert!(parse(&short).is_err());
        let whole = parse(&text).unwrap().remove(0).parsed;
        minisign::verify(&pair.pk, &whole, Cursor::new(b"data"), true, false, false).unwrap();
    }

    #[test]
    fn comments_with_control_characters_are_refused() {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let text = minisign::sign(None, &pair.sk, Cursor::new(b"data"), Some("a\x1b[2Jb"), None).unwrap();
        assert!(parse(&text.into_string()).err().unwrap().contains("control"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,300}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_change_of_a_signature_panics_or_verifies(at in 0usize..300, byte in 32u8..127) {
            let (pair, text) = signed();
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let Ok(parsed) = parse(&String::from_utf8(bytes).unwrap()) else { return Ok(()) };
            let verified =
                minisign::verify(&pair.pk, &parsed[0].parsed, Cursor::new(b"data"), true, false, false).is_ok();
            // only the first line, the untrusted comment, is not signed
            prop_assert!(!verified || at < text.find('\n').unwrap());
        }
    }
}
