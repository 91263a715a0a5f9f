//! When a pull request is told of what keeps a deployment: soon, and not of what passes by itself.

use serde::{Deserialize, Serialize};

use super::{Cause, Millis, Reason};

/// What a deployment that is under way was last seen to wait for, or to stumble over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hitch {
    pub reason: Reason,
    /// Without figures that go on counting.
    pub sentence: String,
}

impl From<&Cause> for Hitch {
    fn from(cause: &Cause) -> Self {
        Self { reason: cause.reason(), sentence: cause.clone().steady().to_string() }
    }
}

/// What a pull request is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    Hitch(Hitch),
    /// What it was told of is over.
    NothingAnyMore,
}

/// What is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hitches {
    /// None: nothing is in its way.
    pub now: Option<Hitch>,
    /// Since when that is so.
    pub since: Option<Millis>,
    /// None: nothing was told in this round.
    pub told: Option<Told>,
}

/// What is the first to be told has to last this long: controllers need a moment.
const FIRST: Millis = 5_000;
/// What takes the place of something that was told. Two that alternate within it are not told in turns.
const NEXT: Millis = 15_000;
/// That something starts slowly is no alarm.
const SLOW_START: Millis = 20_000;
/// That nothing is in the way any more: the next attempt needs that long to meet it again.
const OVER: Millis = 30_000;

/// What follows for what a pull request is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Telling {
    AsBefore,
    Tell(Told),
    /// It is told then, should it last.
    Later(Millis),
}

impl Hitches {
    pub fn telling(&self, now: Millis) -> Telling {
        let news = match (&self.now, &self.told) {
            (None, None | Some(Told::NothingAnyMore)) => return Telling::AsBefore,
            (Some(hitch), Some(Told::Hitch(told))) if hitch == told => return Telling::AsBefore,
            (Some(hitch), _) => Told::Hitch(hitch.clone()),
            (None, Some(Told::Hitch(_))) => Told::NothingAnyMore,
        };
        let lasts = match (&news, &self.told) {
            (Told::NothingAnyMore, _) => OVER,
            (Told::Hitch(Hitch { reason: Reason::NotReadyInTime, .. }), _) => SLOW_START,
            (Told::Hitch(_), None) => FIRST,
            (Told::Hitch(_), Some(_)) => NEXT,
        };
        match self.since.unwrap_or(now) + lasts {
            at if at <= now => Telling::Tell(news),
            at => Telling::Later(at),
        }
    }

    /// Whether nothing is in the way, and that will last.
    pub fn are_over(&self, now: Millis) -> bool {
        self.now.is_none() && self.since.is_some_and(|since| now - since >= OVER)
    }

    /// What people are to read of it.
    pub fn told(&self) -> Option<&Hitch> {
        match &self.told {
            Some(Told::Hitch(hitch)) => Some(hitch),
            Some(Told::NothingAnyMore) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::PullFailure;

    fn pull_failed() -> Hitch {
        let (container, image) = ("app".to_owned(), "ghcr.io/acme/shop:1".to_owned());
        Hitch::from(&Cause::ImagePullFailed { container, image, why: PullFailure::NotFound })
    }

    fn crashes(restarts: i32) -> Hitch {
        Hitch::from(&Cause::CrashLoop { container: "app".to_owned(), restarts, exit_code: Some(1) })
    }

    fn slow(seconds: i64) -> Hitch {
        let container = "app".to_owned();
        Hitch::from(&Cause::NotReadyYet { container, seconds, of: 170, probe: None })
    }

    /// Looks every second at what is the case then; gives when what was told.
    fn told(of: impl Fn(Millis) -> Option<Hitch>) -> Vec<(Millis, Option<Reason>)> {
        let (mut hitches, mut told) = (Hitches::default(), Vec::new());
        for second in 0..600 {
            let now = of(second);
            if hitches.now != now {
                (hitches.now, hitches.since) = (now, Some(second * 1_000));
            }
            if let Telling::Tell(news) = hitches.telling(second * 1_000) {
                hitches.told = Some(news);
                told.push((second, hitches.told().map(|hitch| hitch.reason)));
            }
        }
        told
    }

    #[test]
    fn what_lasts_is_told_within_half_a_minute() {
        let image = Some(Reason::ImagePullFailed);
        assert_eq!(told(|second| (second >= 2).then(pull_failed)), [(7, image)]);
        // It is another by then, and over in the end.
        let changes = |second| match second {
            0..60 => Some(pull_failed()),
            60..120 => Some(crashes(1)),
            _ => None,
        };
        assert_eq!(told(changes), [(5, image), (75, Some(Reason::CrashLoop)), (150, None)]);
    }

    #[test]
    fn what_passes_is_not_told() {
        assert_eq!(told(|second| (second % 8 < 4).then(pull_failed)), []);
        // Two that alternate: the first alone.
        let alternate = |second| Some(if second % 20 < 10 { pull_failed() } else { crashes(1) });
        assert_eq!(told(alternate).len(), 1);
        // One with a figure that counts, and pauses between its attempts.
        assert_eq!(told(|second| (second % 60 > 20).then(|| crashes(second as i32))).len(), 1);
        // A healthy start.
        assert_eq!(told(|second| (15..34).contains(&second).then(|| slow(second))), []);
        assert_eq!(told(|second| (second >= 15).then(|| slow(second))), [(35, Some(Reason::NotReadyInTime))]);
        let before_it = |second| {
            let container = "wait-for-db".to_owned();
            Hitch::from(&Cause::InitRuns { container, seconds: second, of: Some(170) })
        };
        assert_eq!(told(|second| (15..34).contains(&second).then(|| before_it(second))), []);
        assert_eq!(told(|second| (second >= 15).then(|| before_it(second))), [(35, Some(Reason::NotReadyInTime))]);
    }
}
