//! Which write an entry is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Identifies one write of a network: the same on all nodes, and different for any two writes but for chance
/// (2⁻⁶⁴). As text, for example in an HTTP header, it is three hexadecimal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The Lamport time in microseconds since 1970.
    pub(crate) time: u64,
    /// A digest of the writer's instance and the epoch of its attachment.
    pub(crate) writer: u64,
    /// The number of the write in that epoch.
    pub(crate) number: u64,
}

impl Version {
    /// The time of the write since 1970, by its writer's clock. Later than all that the writer knew, so it runs
    /// ahead of the clock where other clocks are ahead.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.time)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.time, self.writer, self.number)
    }
}

/// A text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version: three hexadecimal numbers with - between them, as an entry shows it")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = |digits: &str| {
            // `from_str_radix` also takes a sign.
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let mut parts = text.split('-').map(number);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(time)), Some(Some(writer)), Some(Some(number)), None) => {
                Ok(Self { time, writer, number })
            }
            _ => Err(VersionError(text.chars().take(64).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_its_text() {
        let version = Version { time: 1_764_000_000_000_000, writer: u64::MAX, number: 0 };
        assert_eq!(version.to_string().parse(), Ok(version));
        for text in ["", "1", "1-2", "1-2-3-4", "1-+2-3", "1-g-3", "1--3", "11111111111111111-2-3"] {
            assert_eq!(text.parse::<Version>(), Err(VersionError(text.to_owned())));
        }
    }
}
