//! The closing line of a manifest, `# sha256 <64 hex digits>`: the digest of every byte before it.
//!
//! To other readers it is a comment. It finds damage to what no file's digest covers; against people who mean harm
//! there are signatures.

use crate::error::{PackError, Result};
use sha2::{Digest, Sha256};
use tine_model::Sha256Digest;

const MARK: &str = "# sha256 ";
/// Mark, 64 digits and the newline.
const LENGTH: usize = MARK.len() + 65;

/// Appends the closing line.
pub(super) fn close(mut text: String) -> String {
    let digest = digest(&text);
    text.push_str(&format!("{MARK}{digest}\n"));
    text
}

/// Whether there is a closing line; an error when it is not that of the text before it.
pub(super) fn check(text: &str) -> Result<bool> {
    let Some((before, line)) = text.len().checked_sub(LENGTH).and_then(|at| text.split_at_checked(at)) else {
        return Ok(false);
    };
    let digits = line.strip_prefix(MARK).and_then(|rest| rest.strip_suffix('\n'));
    let Some(digits) = digits.filter(|_| before.ends_with('\n')) else {
        return Ok(false);
    };
    if digits == digest(before).to_string() {
        return Ok(true);
    }
    Err(PackError::malformed("the manifest is damaged: its closing line has another digest"))
}

fn digest(text: &str) -> Sha256Digest {
    Sha256Digest(Sha256::digest(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_before_the_line_is_found() {
        let text = close("a = 1\nb = 2\n".to_owned());
        assert!(check(&text).unwrap());
        assert!(!check("a = 1\nb = 2\n").unwrap() && !check("").unwrap());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            // a line that is none any more closes nothing
            assert!(!check(&changed).unwrap_or(false), "{at}");
        }
    }
}
