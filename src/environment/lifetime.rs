//! How long an environment lasts: it goes some time after its last use, unless somebody keeps it, and may sleep before.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{Span, SpanRelativeTo, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::Millis;

/// The warning before an environment goes comes this long before, or a quarter of its time where that is less.
const WARNING: Millis = 12 * 3_600_000;
/// A use is counted where the last one is this old, or a quarter of what a use puts off where that is less.
const USE: Millis = 60_000;

/// A duration of at least a second as people write it: `30d`, `72h`, `1d 12h`. A day is 24 hours; months and years have
/// no fixed length and are refused.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const RULE: &str = "must be a duration such as 30d, 72h or 90m";
    let span: Span = text.parse().map_err(|_| RULE)?;
    let seconds = span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).map_err(|_| RULE)?;
    if seconds >= 1.0 { Duration::try_from_secs_f64(seconds).map_err(|_| RULE) } else { Err(RULE) }
}

/// How long something lasts: a duration, or `never` for what never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub struct Lifespan(Option<Duration>);

impl Lifespan {
    pub const ENDLESS: Self = Self(None);

    pub const fn hours(hours: u64) -> Self {
        Self(Some(Duration::from_secs(3_600 * hours)))
    }

    pub const fn minutes(minutes: u64) -> Self {
        Self(Some(Duration::from_secs(60 * minutes)))
    }

    /// None: it never ends.
    pub fn millis(self) -> Option<Millis> {
        self.0.map(|duration| Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX))
    }

    pub fn at_most(self, most: Self) -> Self {
        match (self.0, most.0) {
            (Some(own), Some(most)) => Self(Some(own.min(most))),
            (own, most) => Self(own.or(most)),
        }
    }
}

/// Reads how long after its last use something sleeps: a minute at least, or it would wake more often than it answers.
pub fn sleep_after<'de, D: Deserializer<'de>, T: From<Lifespan>>(deserializer: D) -> Result<T, D::Error> {
    let span = Lifespan::deserialize(deserializer)?;
    if span.0.is_some_and(|duration| duration < Duration::from_secs(60)) {
        return Err(D::Error::custom("must be a minute at least, such as 30m or 8h, or never"));
    }
    Ok(span.into())
}

impl FromStr for Lifespan {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "never" => Ok(Self::ENDLESS),
            _ => {
                let duration = parse_duration(text).map_err(|_| "must be a duration such as 72h or 7d, or never")?;
                Ok(Self(Some(duration)))
            }
        }
    }
}

impl TryFrom<String> for Lifespan {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<Lifespan> for String {
    fn from(span: Lifespan) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Lifespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(duration) = self.0 else { return f.write_str("never") };
        match duration.as_secs() {
            seconds if seconds % 86_400 == 0 => write!(f, "{}d", seconds / 86_400),
            seconds if seconds % 3_600 == 0 => write!(f, "{}h", seconds / 3_600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

/// When an environment was used last, and what follows from it. All of it in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// The last commit, request, look at the logs or visit.
    pub used_at: Millis,
    /// Somebody asked for it to stay until then.
    pub keep_until: Option<Millis>,
    /// How long after its last use it goes. None: never.
    pub ttl: Option<Millis>,
    /// How long after its last use it sleeps. None: never.
    pub sleep_after: Option<Millis>,
}

impl Lifetime {
    pub fn expires_at(&self) -> Option<Millis> {
        let by_use = self.used_at.saturating_add(self.ttl?);
        Some(by_use.max(self.keep_until.unwrap_or(Millis::MIN)))
    }

    /// From when on people are told that it expires.
    pub fn warns_at(&self) -> Option<Millis> {
        Some(self.expires_at()? - WARNING.min(self.ttl? / 4))
    }

    pub fn sleeps_at(&self) -> Option<Millis> {
        Some(self.used_at.saturating_add(self.sleep_after?))
    }

    /// How old the last use is when the next one is counted.
    pub fn counts_a_use_after(&self) -> Duration {
        let shortest = self.sleep_after.into_iter().chain(self.ttl).min();
        let after = shortest.map_or(USE, |shortest| USE.min(shortest / 4));
        Duration::from_millis(u64::try_from(after).unwrap_or_default())
    }

    pub fn has_expired(&self, now: Millis) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// The next moment at which something changes by itself.
    pub fn next_change(&self, now: Millis) -> Option<Millis> {
        [self.sleeps_at(), self.warns_at(), self.expires_at()].into_iter().flatten().filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer as _;

    use super::*;

    const HOUR: Millis = 3_600_000;

    #[test]
    fn durations_are_days_to_seconds() {
        let seconds = |text: &str| parse_duration(text).map(|duration| duration.as_secs()).ok();
        for (text, expected) in
            [("30d", 2_592_000), ("72h", 259_200), ("90m", 5_400), ("1d 12h", 129_600), ("1w", 604_800)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for wrong in ["", "30", "0s", "-1d", "soon", "1 month", "1y", "10ms", "never"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_sleeps_within_a_minute() {
        let read = |text: &str| {
            let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
            sleep_after::<_, Lifespan>(text)
        };
        assert_eq!(read("60s"), Ok("1m".parse().unwrap()));
        assert_eq!(read("never"), Ok(Lifespan::ENDLESS));
        for short in ["59s", "1s"] {
            let error = read(short).expect_err(short).to_string();
            assert_eq!(error, "must be a minute at least, such as 30m or 8h, or never");
        }
    }

    #[test]
    fn lifespans_are_durations_or_endless() {
        for (text, shown) in [("72h", "3d"), ("90m", "90m"), ("5h", "5h"), ("61s", "61s"), ("never", "never")] {
            assert_eq!(text.parse::<Lifespan>().unwrap().to_string(), shown);
        }
        let (day, endless) = (Lifespan::hours(24), Lifespan::ENDLESS);
        assert_eq!(day.at_most(Lifespan::hours(1)), Lifespan::hours(1));
        assert_eq!(endless.at_most(day), day);
        assert_eq!(day.at_most(endless), day);
        assert!("soon".parse::<Lifespan>().is_err());
    }

    #[test]
    fn an_environment_goes_after_its_last_use_unless_it_is_kept() {
        let lifetime = Lifetime { used_at: 100 * HOUR, keep_until: None, ttl: Some(72 * HOUR), sleep_after: None };
        assert_eq!((lifetime.expires_at(), lifetime.warns_at()), (Some(172 * HOUR), Some(160 * HOUR)));
        assert!(!lifetime.has_expired(172 * HOUR - 1) && lifetime.has_expired(172 * HOUR));
        let kept = Lifetime { keep_until: Some(300 * HOUR), ..lifetime };
        assert_eq!((kept.expires_at(), kept.warns_at()), (Some(300 * HOUR), Some(288 * HOUR)));
        let kept_shorter = Lifetime { keep_until: Some(101 * HOUR), ..lifetime };
        assert_eq!(kept_shorter.expires_at(), Some(172 * HOUR));
        let short = Lifetime { ttl: Some(4 * HOUR), ..lifetime };
        assert_eq!(short.warns_at(), Some(103 * HOUR));
        let endless = Lifetime { ttl: None, keep_until: Some(1), ..lifetime };
        assert_eq!((endless.expires_at(), endless.next_change(0)), (None, None));
    }

    #[test]
    fn what_sleeps_soon_counts_its_uses_more_often() {
        let every =
            |ttl, sleep_after| Lifetime { ttl, sleep_after, ..Lifetime::default() }.counts_a_use_after().as_secs();
        assert_eq!(every(None, None), 60);
        assert_eq!(every(Some(72 * HOUR), Some(HOUR)), 60);
        assert_eq!(every(Some(72 * HOUR), Some(60_000)), 15, "a visit in its last seconds keeps it awake");
        assert_eq!(every(Some(8_000), None), 2);
    }

    #[test]
    fn what_changes_next_is_known() {
        let lifetime = Lifetime { used_at: 0, keep_until: None, ttl: Some(8 * HOUR), sleep_after: Some(HOUR) };
        let moments: Vec<_> = [0, HOUR, 6 * HOUR, 8 * HOUR].map(|now| lifetime.next_change(now)).into();
        assert_eq!(moments, [Some(HOUR), Some(6 * HOUR), Some(8 * HOUR), None]);
    }
}
