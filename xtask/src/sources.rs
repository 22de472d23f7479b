//! Rules about the sources themselves, checked as text.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 800;
const VAGUE_NAMES: [&str; 5] = ["utils", "util", "helpers", "common", "manager"];

/// One line for each source file that breaks a rule.
pub fn broken_rules(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        if let Err(error) = collect(&root.join(folder), &mut files) {
            return vec![format!("read {folder}: {error}")];
        }
    }
    files.sort();
    files.iter().flat_map(|file| check_file(root, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(root: &Path, file: &Path) -> Vec<String> {
    let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return vec![format!("{shown}: {error}")],
    };
    let mut broken = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        broken.push(format!("{shown}: {lines} lines; the limit is {MAX_LINES}"));
    }
    if !text.starts_with("//!") {
        broken.push(format!("{shown}: does not start with //! and what it owns"));
    }
    if shown.ends_with("src/lib.rs")
        && !shown.contains("tine-sys")
        && !text.contains("#![forbid(unsafe_code)]")
    {
        broken.push(format!("{shown}: lacks #![forbid(unsafe_code)]"));
    }
    if file.file_stem().is_some_and(|stem| VAGUE_NAMES.iter().any(|v| stem == *v)) {
        broken.push(format!("{shown}: a vague name; say what it holds"));
    }
    broken.extend(check_lines(&shown, &text));
    broken
}

/// Attributes that silence a lint without saying why, and unfinished marks.
fn check_lines(shown: &str, text: &str) -> Vec<String> {
    let marks =
        [concat!("#[al", "low("), concat!("#![al", "low("), concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for mark in marks.iter().filter(|mark| line.contains(**mark)) {
            broken.push(format!("{shown}:{}: {mark}", index + 1));
        }
    }
    broken
}
