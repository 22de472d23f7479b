//! Extended header records of POSIX.1-2001 (`pax`): `"%d %s=%s\n"` with the record's own length in front.

use crate::error::{ArchiveError, Result};
use tine_sys::tree::Time;

/// Splits a header's data into its records.
pub(crate) fn records(mut data: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let (record, rest) =
            split(data).ok_or_else(|| ArchiveError::malformed("an extended header is damaged"))?;
        found.push(record);
        data = rest;
    }
    Ok(found)
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(data.get(..space)?)?).ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some(((body.get(..equals)?, body.get(equals + 1..)?), data.get(length..)?))
}

/// An unsigned decimal number of digits only.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time as `-12.5`: digits past the ninth are cut off.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(text.get(..dot)?)?).ok()?;
    let nanoseconds = match text.get(dot + 1..) {
        None | Some(b"") => 0,
        Some(fraction) => nanoseconds(fraction)?,
    };
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn nanoseconds(fraction: &[u8]) -> Option<u32> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits: Vec<u8> = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9).collect();
    u32::try_from(decimal(&digits)?).ok()
}

/// The text of a time, the reverse of [`time`].
pub(crate) fn time_text(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (false, n) => ("", time.seconds.unsigned_abs(), n),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, n) => ("-", time.seconds.saturating_add(1).unsigned_abs(), 1_000_000_000 - n.min(999_999_999)),
    };
    match nanoseconds {
        0 => format!("{sign}{seconds}"),
        n => format!("{sign}{seconds}.{}", format!("{n:09}").trim_end_matches('0')),
    }
}

/// Appends a record.
pub(crate) fn append(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // space, equals sign and newline
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    data.extend_from_slice(format!("{length} ").as_bytes());
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_at_every_length_where_the_prefix_grows() {
        for length in (0..130).chain(980..1010) {
            let value = vec![0xffu8; length];
            let mut data = Vec::new();
            append(&mut data, b"path", &value);
            append(&mut data, b"k", b"a=b\nc");
            assert_eq!(records(&data).unwrap(), [(&b"path"[..], value.as_slice()), (b"k", b"a=b\nc")]);
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"x a=b\n",
            b"0 a=b\n",
            b"6 ab\n\n",
            b" \n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_round_trip_on_both_sides_of_the_epoch() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("12.5", 12, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("-3", -3, 0),
            ("-0.000000001", -1, 999_999_999),
        ] {
            let moment = Time { seconds, nanoseconds };
            assert_eq!((time(text.as_bytes()), time_text(moment).as_str()), (Some(moment), text));
        }
        for bad in ["", "-", "1.x", "x", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }
}
