//! Durations as people write them: `30d`, `72h`, `1d 12h`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo, Unit};

/// Parses a duration of at least a second. A day is 24 hours; months and years have no fixed length and are refused.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a duration such as 30d, 72h or 90m".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let seconds = span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).map_err(|_| wrong())?;
    if seconds >= 1.0 { Duration::try_from_secs_f64(seconds).map_err(|_| wrong()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_days_to_seconds() {
        let seconds = |text: &str| parse(text).map(|duration| duration.as_secs()).ok();
        for (text, expected) in
            [("30d", 2_592_000), ("72h", 259_200), ("90m", 5_400), ("1d 12h", 129_600), ("1w", 604_800)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for wrong in ["", "30", "0s", "-1d", "soon", "1 month", "1y", "10ms"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
