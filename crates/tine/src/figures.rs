//! Figures as people read them: durations, ages and percentiles.
//!
//! Owns the rounding; prints nothing.

use tine_model::Timestamp;

/// A duration given in microseconds: `412 µs`, `4.2 ms`, `412 ms`, `37.2 s`, `2 min 5 s`.
pub fn duration(us: u64) -> String {
    let exact = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..9_950 => format!("{:.1} ms", exact / 1e3),
        9_950..999_500 => format!("{:.0} ms", exact / 1e3),
        999_500..119_950_000 => format!("{:.1} s", exact / 1e6),
        _ => {
            let seconds = us / 1_000_000;
            format!("{} min {} s", seconds / 60, seconds % 60)
        }
    }
}

/// How long before `now` a moment was: `3d ago`, `4h ago`, `5m ago`, `just now`.
pub fn ago(moment: Timestamp, now: Timestamp) -> String {
    match now.as_second().saturating_sub(moment.as_second()) {
        ..60 => "just now".to_owned(),
        seconds @ 60..3_600 => format!("{}m ago", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h ago", seconds / 3_600),
        seconds => format!("{}d ago", seconds / 86_400),
    }
}

/// The smallest of `sorted` that at least `percent` of a hundred do not exceed (nearest rank); none of nothing.
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_or_three_digits_that_count() {
        for (us, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.0 ms"),
            (4_249, "4.2 ms"),
            (9_949, "9.9 ms"),
            (9_950, "10 ms"),
            (412_345, "412 ms"),
            (999_499, "999 ms"),
            (999_500, "1.0 s"),
            (37_210_000, "37.2 s"),
            (119_949_999, "119.9 s"),
            (125_900_000, "2 min 5 s"),
        ] {
            assert_eq!(duration(us), text, "{us}");
        }
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let ago = |seconds: i64| {
            ago(Timestamp::from_second(1_000_000), Timestamp::from_second(1_000_000 + seconds))
        };
        for (seconds, text) in [
            (-100, "just now"),
            (0, "just now"),
            (59, "just now"),
            (60, "1m ago"),
            (3_599, "59m ago"),
            (3_600, "1h ago"),
            (86_399, "23h ago"),
            (86_400, "1d ago"),
            (400 * 86_400, "400d ago"),
        ] {
            assert_eq!(ago(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        let of = |sorted: &[u64]| [0, 50, 90, 99, 100].map(|p| percentile(sorted, p));
        assert_eq!(of(&hundred), [1, 50, 90, 99, 100].map(Some));
        assert_eq!(of(&[7]), [Some(7); 5]);
        assert_eq!(of(&[1, 2, 3]), [1, 2, 3, 3, 3].map(Some));
        assert_eq!(of(&[]), [None; 5]);
    }
}
