//! Paths as the kernel has them: bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

/// An absolute path inside a root, any bytes but NUL. Text form is C-quoted when it holds odd bytes; JSON is
/// `{"path": lossy text, "path_b64": exact bytes}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawPath(Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Wire {
    path: String,
    path_b64: String,
}

impl RawPath {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes as a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Debug for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawPath({self})")
    }
}

/// Plain UTF-8 without control characters, quotes or backslashes prints as it is; anything else is wrapped in
/// double quotes with C escapes (`\n`, `\t`, `\"`, `\\`, octal for the rest), as git does.
impl fmt::Display for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(|c| c.is_control() || c == '"' || c == '\\' || is_bidi(c)) => {
                f.write_str(text)
            }
            _ => quote(&self.0, f),
        }
    }
}

/// Characters that reorder a terminal's line and so could make one path look like another.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn quote(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for &b in bytes {
        match b {
            b'\n' => f.write_str("\\n")?,
            b'\t' => f.write_str("\\t")?,
            b'\r' => f.write_str("\\r")?,
            b'"' => f.write_str("\\\"")?,
            b'\\' => f.write_str("\\\\")?,
            0x20..=0x7e => write!(f, "{}", b as char)?,
            _ => write!(f, "\\{b:03o}")?,
        }
    }
    f.write_str("\"")
}

impl Serialize for RawPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Wire { path: String::from_utf8_lossy(&self.0).into_owned(), path_b64: STANDARD.encode(&self.0) }
            .serialize(s)
    }
}

impl<'de> Deserialize<'de> for RawPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(d)?;
        STANDARD.decode(wire.path_b64).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_bytes_are_c_quoted_and_plain_ones_are_not() {
        assert_eq!(RawPath::new("/etc/hällo world").to_string(), "/etc/hällo world");
        assert_eq!(RawPath::new(*b"/a\nb\xff\"\\\x01").to_string(), r#""/a\nb\377\"\\\001""#);
        assert_eq!(RawPath::new("/a\u{202e}b").to_string(), r#""/a\342\200\256b""#);
    }

    proptest! {
        #[test]
        fn json_keeps_every_byte(bytes: Vec<u8>) {
            let path = RawPath::new(bytes);
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<RawPath>(&json).unwrap(), path);
        }
        #[test]
        fn text_never_breaks_a_line(bytes: Vec<u8>) {
            prop_assert!(!RawPath::new(bytes).to_string().contains(['\n', '\r', '\x1b']));
        }
    }
}
