//! Moments in time.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment in UTC with a resolution of one second; text form is RFC 3339 (`2026-01-31T12:00:00Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The present moment, its fraction of a second cut off.
    #[must_use]
    pub fn now() -> Self {
        Self::from_second(jiff::Timestamp::now().as_second())
    }

    /// The moment `second` seconds after the Unix epoch; out of range values give the epoch.
    #[must_use]
    pub fn from_second(second: i64) -> Self {
        Self(jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// 14 digits in UTC, `20260131120000`, as base versions carry.
    #[must_use]
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%d%H%M%S").to_string()
    }

    /// The calendar day in UTC, `2026-01-31`.
    #[must_use]
    pub fn day(self) -> String {
        self.0.strftime("%Y-%m-%d").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl std::str::FromStr for Timestamp {
    type Err = crate::Error;
    /// RFC 3339 with any offset; a fraction of a second is cut off.
    fn from_str(text: &str) -> crate::Result<Self> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| {
            crate::Error::new(crate::ErrorCode::InvalidInput, format!("{text:?} is no time of RFC 3339"))
        })?;
        Ok(Self::from_second(moment.as_second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc_3339_and_compact_forms_in_utc() {
        let t = Timestamp::from_second(1_767_268_800);
        assert_eq!(
            (t.to_string(), t.compact(), t.day()),
            ("2026-01-01T12:00:00Z".into(), "20260101120000".into(), "2026-01-01".into())
        );
        assert_eq!(serde_json::to_string(&t).unwrap(), "\"2026-01-01T12:00:00Z\"");
        for same in ["2026-01-01T12:00:00Z", "2026-01-01T13:00:00.75+01:00"] {
            assert_eq!(same.parse::<Timestamp>().unwrap(), t);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
