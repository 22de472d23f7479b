//! The sums of tar headers, put right: they would otherwise keep the fuzzer from ever changing one.

#[path = "closing.rs"]
mod closing;

use closing::seal_manifest;

const BLOCK: usize = 512;

/// Puts the sums of a tar's headers right, as far as they are found by the sizes before them. A manifest that comes
/// first gets its closing line put right, if it has one.
pub fn seal_tar(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK).filter(|header| header.iter().any(|b| *b != 0)) {
        let size = size(header);
        let (is_sparse, mut more) = (header[156] == b'S', header[482] == 1);
        seal_header(header);
        let first = at == 0;
        at += BLOCK;
        while is_sparse && more {
            more = tar.get(at + 504) == Some(&1);
            at = at.saturating_add(BLOCK).min(tar.len());
        }
        let end = at.saturating_add(size).min(tar.len());
        if first {
            seal_manifest(&mut tar[at..end]);
        }
        at = at.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK)).min(tar.len());
    }
}

/// Octal digits, or nothing.
fn size(header: &[u8]) -> usize {
    let digits: String = header[124..136].iter().map(|b| char::from(*b)).collect();
    usize::from_str_radix(digits.trim_matches([' ', '\0']), 8).unwrap_or(0)
}

fn seal_header(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
