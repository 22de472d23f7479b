//! Byte counts as people write and read them.

use crate::error::{Error, ErrorCode, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A number of bytes. Reads `512MiB`, `20GiB`, `1.5 GiB`, `4096`; prints `1.5 GiB`; JSON is the raw count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl ByteSize {
    /// `n` mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// `n` gibibytes.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
    /// The raw count of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        // 1023.96 KiB rounds to 1024.0 at one decimal; the next unit says it better
        if unit > 0 && unit + 1 < UNITS.len() && value >= 1023.95 {
            value /= 1024.0;
            unit += 1;
        }
        let text = if unit == 0 { format!("{value} B") } else { format!("{value:.1} {}", UNITS[unit]) };
        f.pad(&text)
    }
}

impl FromStr for ByteSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::new(
                ErrorCode::Usage,
                format!("size {text:?} is not a number with a unit like 512MiB or 20GiB"),
            )
        })
    }
}

/// Digits, an optional fraction, an optional unit: `B`, `K`, `KB`, `KiB`, … (all binary, as in `docker run -m`).
fn parse(text: &str) -> Option<ByteSize> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let power = unit_power(unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let scale = 1u128 << (10 * power);
    let whole = whole.parse::<u64>().ok()? as u128 * scale;
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u128>().ok()? * scale / 10u128.pow(fraction.len() as u32)
    };
    u64::try_from(whole + part).ok().map(ByteSize)
}

fn unit_power(unit: &str) -> Option<u32> {
    let lower = unit.to_ascii_lowercase();
    let letter = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    match letter {
        "" if lower != "ib" => Some(0),
        "k" => Some(1),
        "m" => Some(2),
        "g" => Some(3),
        "t" => Some(4),
        "p" => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_binary_units_with_one_decimal() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536 << 20, "1.5 GiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("20GiB", 20 << 30),
            ("512MiB", 512 << 20),
            ("1.5 GiB", 1536 << 20),
            ("4096", 4096),
            ("1k", 1024),
            ("2gb", 2 << 30),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "1.",
            ".5",
            "1x",
            "1 iB",
            "99999999999999999999",
            "20 GiB\n",
            "1e3",
            "16777216PiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,24}") { let _ = text.parse::<ByteSize>(); }
        #[test]
        fn raw_counts_round_trip(n: u64) { prop_assert_eq!(n.to_string().parse::<ByteSize>().unwrap().0, n); }
    }
}
