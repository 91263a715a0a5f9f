//! How much may be written to GitHub: "no more than 80 content-generating requests per minute and no more than 500
//! content-generating requests per hour are allowed",
//! <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits>.

use super::Millis;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;
/// A little less than GitHub allows.
pub const WRITES_A_MINUTE: f64 = 75.0;
pub const WRITES_AN_HOUR: f64 = 480.0;
/// How long to wait where a minute's, or an hour's, writes are used up.
const WAIT_FOR_MINUTE: Millis = 5_000;
const WAIT_FOR_HOUR: Millis = 60_000;

/// What a write may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nice to know: a position in line, a warning of what is hours away.
    Low,
    /// That something is under way.
    Normal,
    /// How it ended, and what somebody asked.
    High,
}

impl Urgency {
    /// The part of the budget that writes of this urgency may use up; the rest is for those above.
    fn share(self) -> f64 {
        match self {
            Self::Low => 0.4,
            Self::Normal => 0.6,
            Self::High => 1.0,
        }
    }
}

/// Writes counted in windows of fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    pub began: Millis,
    pub writes: i64,
    /// In the window before.
    pub before: i64,
}

impl Window {
    /// The same at `now`, which may be in a later window.
    fn at(self, now: Millis, length: Millis) -> Self {
        match (now - self.began).div_euclid(length) {
            0 => self,
            1 => Self { began: self.began + length, writes: 0, before: self.writes },
            _ => Self { began: now, writes: 0, before: 0 },
        }
    }

    /// About how many writes there were in the last `length` before `now`: as if those of the window before had been
    /// spread evenly over it.
    fn lately(self, now: Millis, length: Millis) -> f64 {
        let gone = (now - self.began) as f64 / length as f64;
        self.writes as f64 + self.before as f64 * (1.0 - gone).clamp(0.0, 1.0)
    }
}

/// What was written lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Writes {
    pub minute: Window,
    pub hour: Window,
}

impl Writes {
    /// One more write at `now`.
    ///
    /// # Errors
    ///
    /// How long to wait, where the budget for writes of this urgency is used up.
    pub fn and_one(self, now: Millis, urgency: Urgency) -> Result<Self, Millis> {
        let Self { minute, hour } = Self { minute: self.minute.at(now, MINUTE), hour: self.hour.at(now, HOUR) };
        let share = urgency.share();
        if hour.lately(now, HOUR) + 1.0 > WRITES_AN_HOUR * share {
            return Err(WAIT_FOR_HOUR);
        }
        if minute.lately(now, MINUTE) + 1.0 > WRITES_A_MINUTE * share {
            return Err(WAIT_FOR_MINUTE);
        }
        let one_more = |window: Window| Window { writes: window.writes + 1, ..window };
        Ok(Self { minute: one_more(minute), hour: one_more(hour) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes whenever it may, from `from` for so long; gives when.
    fn write_all(writes: &mut Writes, from: Millis, length: Millis, urgency: Urgency) -> Vec<Millis> {
        let mut times = Vec::new();
        let mut now = from;
        while now < from + length {
            match writes.and_one(now, urgency) {
                Ok(more) => {
                    *writes = more;
                    times.push(now);
                    now += 50;
                }
                Err(wait) => now += wait,
            }
        }
        times
    }

    fn most_within(times: &[Millis], length: Millis) -> usize {
        times
            .iter()
            .map(|from| times.iter().filter(|at| (*from..*from + length).contains(at)).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn never_more_is_written_than_github_allows() {
        let mut writes = Writes::default();
        let times = write_all(&mut writes, 1_000_000_000, 3 * HOUR, Urgency::High);
        assert!(most_within(&times, MINUTE) <= 80, "{}", most_within(&times, MINUTE));
        assert!(most_within(&times, HOUR) <= 500, "{}", most_within(&times, HOUR));
        assert!(times.len() > 1_200, "and not much less: {}", times.len());
    }

    #[test]
    fn what_is_urgent_has_what_is_left_for_it() {
        let mut writes = Writes::default();
        let now = 1_000_000_000;
        let low = write_all(&mut writes, now, 2_500, Urgency::Low).len();
        let normal = write_all(&mut writes, now + 2_500, 2_500, Urgency::Normal).len();
        let high = write_all(&mut writes, now + 5_000, 5_000, Urgency::High).len();
        assert_eq!((low, low + normal, low + normal + high), (30, 45, 75));
        assert_eq!(writes.and_one(now + 10_000, Urgency::High), Err(WAIT_FOR_MINUTE));
        assert!(writes.and_one(now + 65_000, Urgency::High).is_ok());
        assert!(writes.and_one(now + 3 * HOUR, Urgency::Low).is_ok());
    }
}
