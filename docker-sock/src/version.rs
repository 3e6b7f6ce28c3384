//! Versions of the Engine API, and the choice of one that both sides speak.

use std::fmt;

/// A version such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// Behind it.
    pub minor: u32,
}

impl Version {
    /// The newest version whose documents were read when this was written.
    pub const NEWEST_KNOWN: Version = Version { major: 1, minor: 47 };

    /// Reads `1.41`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Version { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The version to speak to an engine that serves `min` to `max`: the newest that is known here, or
    /// what comes closest. What is used of the API has not changed since 1.24.
    #[must_use]
    pub fn choose(min: Option<Version>, max: Version) -> Version {
        let wanted = Version::NEWEST_KNOWN.min(max);
        min.map_or(wanted, |min| wanted.max(min))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_within_what_both_speak() {
        let version = |text| Version::parse(text).unwrap();
        let cases = [
            (None, "1.24", "1.24"),
            (Some("1.12"), "1.41", "1.41"),
            (Some("1.24"), "1.47", "1.47"),
            (Some("1.44"), "1.52", "1.47"),
            (Some("1.50"), "1.60", "1.50"),
            (None, "1.9", "1.9"),
        ];
        for (min, max, want) in cases {
            assert_eq!(Version::choose(min.map(version), version(max)).to_string(), want);
        }
        assert!(version("1.9") < version("1.24"));
        assert_eq!(Version::parse("1"), None);
        assert_eq!(Version::parse("1.x"), None);
    }
}
