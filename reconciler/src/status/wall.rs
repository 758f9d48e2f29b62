//! A reading of the wall clock, for people and files alone: no decision rests on it.
//!
//! In: milliseconds since 1970 that the shell read. Out: [`Wall`] and its RFC 3339 text.
//! Not here: reading the clock (`agent`), time that decisions rest on (`time`).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z, up to the year 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(u64);

/// 9999-12-30T22:00:00Z, the last that [`Timestamp`] takes.
const LAST: u64 = 253_402_207_200_000;

impl Wall {
    /// The given count of milliseconds; what lies beyond the year 9999 is cut to it.
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > LAST { LAST } else { millis })
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The same without its milliseconds, as files carry it.
    pub const fn whole_second(self) -> Self {
        Self(self.0 / 1000 * 1000)
    }
}

impl fmt::Display for Wall {
    /// `2026-05-04T12:00:00Z`; with `.250` before the Z where it is no whole second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let time = Timestamp::from_millisecond(millis).map_err(|_| fmt::Error)?;
        let digits = if self.0.is_multiple_of(1000) { 0 } else { 3 };
        write!(f, "{time:.digits$}")
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Wall {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let time: Timestamp = text.parse()?;
        Ok(Self::from_millis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

impl Serialize for Wall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_and_read_back() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_777_896_000_000, "2026-05-04T12:00:00Z"),
            (1_777_896_000_250, "2026-05-04T12:00:00.250Z"),
            (u64::MAX, "9999-12-30T22:00:00Z"),
        ] {
            let wall = Wall::from_millis(millis);
            assert_eq!(wall.to_string(), text);
            assert_eq!(text.parse::<Wall>().unwrap(), wall);
        }
    }
}
