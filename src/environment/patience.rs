//! How long is waited for what a cluster does, before it is called a failure.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Millis, parse_duration};

/// How long previewd waits for a cluster. The defaults are what a preview of usual size needs on a cluster of usual size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// How long a commit has to become ready, from `10s` to `1h`. It is tried three times, 10 s and 30 s after the last.
    pub attempt: Wait,
    /// How long a namespace may take to go until people and operators are told what holds it, from `10s` to `1h`.
    pub deletion: Wait,
}

impl Default for Patience {
    /// A round of three attempts with its waits stays under ten minutes. A namespace needs about six seconds, and thirty
    /// more where a process ignores SIGTERM.
    fn default() -> Self {
        Self { attempt: Wait(Duration::from_secs(180)), deletion: Wait(Duration::from_secs(300)) }
    }
}

/// A time that is waited: 10 s to an hour. Less would not do for the kubelet to start a container, and a wait of hours would
/// look like one for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub struct Wait(Duration);

impl Wait {
    /// No wait is longer.
    pub const LONGEST_SECONDS: u32 = 3_600;

    pub fn millis(self) -> Millis {
        // An hour at most, by the constructor.
        self.0.as_millis() as Millis
    }

    pub fn seconds(self) -> i64 {
        self.0.as_secs() as i64
    }
}

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match parse_duration(text) {
            Ok(duration) if (10..=Self::LONGEST_SECONDS.into()).contains(&duration.as_secs()) => Ok(Self(duration)),
            Ok(_) | Err(_) => Err("must be a duration from 10s to 1h, such as 90s or 3m"),
        }
    }
}

impl TryFrom<String> for Wait {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.to_string()
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_ten_seconds_to_an_hour() {
        let millis = |text: &str| text.parse::<Wait>().map(Wait::millis).ok();
        for (text, expected) in [("10s", 10_000), ("90s", 90_000), ("3m", 180_000), ("1h", 3_600_000)] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for wrong in ["", "9s", "9.9s", "61m", "1d", "180", "never", "-1m"] {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
        let Patience { attempt, deletion } = Patience::default();
        assert_eq!((attempt.to_string(), deletion.to_string()), ("3m".to_owned(), "5m".to_owned()));
    }
}
