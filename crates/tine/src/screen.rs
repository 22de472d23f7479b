//! Makes data fit to be shown: what a box, a tar or a server wrote must never steer the user's terminal.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// True for what could move the cursor, change the terminal or reorder a line.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, keep: &[char]) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            _ if !is_unsafe(c) || keep.contains(&c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            _ if c.is_ascii() => _ = write!(out, "\\x{:02x}", c as u32),
            _ => _ = write!(out, "\\u{{{:x}}}", c as u32),
        }
    }
    out
}

/// One line without control characters: each is shown as an escape.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) { Cow::Owned(escape(text, &[])) } else { Cow::Borrowed(text) }
}

/// Several lines: line feeds and tabs stay, other control characters are shown as escapes.
pub fn lines(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| is_unsafe(c) && c != '\n' && c != '\t') {
        Cow::Owned(escape(text, &['\n', '\t']))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text whose strings hold no raw control character, also none of those JSON itself allows.
pub fn json(text: &str) -> Cow<'_, str> {
    let odd = |c: char| is_unsafe(c) && c != '\n';
    if !text.chars().any(odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if odd(c) { _ = write!(out, "\\u{:04x}", c as u32) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// A stream to the terminal that shows control characters as escapes, line feeds and tabs excepted.
///
/// Bytes of a character split between two writes are held back until the rest arrives.
pub struct Guarded<W: Write> {
    inner: W,
    held: Vec<u8>,
}

impl<W: Write> Guarded<W> {
    /// Guards `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, held: Vec::new() }
    }
}

impl<W: Write> Write for Guarded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        let whole = self.held.len() - unfinished_tail(&self.held);
        let text = String::from_utf8_lossy(&self.held[..whole]).into_owned();
        self.held.drain(..whole);
        // a carriage return before a line feed is how programs with a terminal end a line
        self.inner.write_all(lines(&text.replace("\r\n", "\n")).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished_tail(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(e) if e.error_len().is_none() => bytes.len() - e.valid_up_to(),
        Ok(_) => 0,
        // an invalid sequence comes first: look again behind it
        Err(e) => unfinished_tail(&bytes[e.valid_up_to() + e.error_len().unwrap_or(1)..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_become_escapes() {
        assert_eq!(line("a\x1b[2Jb\n\u{9b}c\u{202e}"), "a\\x1b[2Jb\\n\\u{9b}c\\u{202e}");
        assert_eq!(lines("a\tb\n\x07"), "a\tb\n\\x07");
        assert!(matches!(line("plain ünï"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let text = serde_json::to_string_pretty(&["\u{9b}2J\u{7f}\u{202e}"]).unwrap();
        let shown = json(&text);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown}");
        let back: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, ["\u{9b}2J\u{7f}\u{202e}"]);
    }

    #[test]
    fn a_guarded_stream_keeps_split_characters_whole() {
        let mut out = Vec::new();
        let mut guarded = Guarded::new(&mut out);
        for byte in "ä\x1b]0;x\x07\r\nb".as_bytes() {
            guarded.write_all(&[*byte]).unwrap();
        }
        guarded.write_all(b"\xff\xfe.").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ä\\x1b]0;x\\x07\\r\nb\u{fffd}\u{fffd}.");
    }
}
