//! GitHub's primary rate limit: so many requests an hour for each caller.

use std::collections::HashMap;

const HOUR: i64 = 3600;

#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub limit: u32,
    pub used: u32,
    /// Unix seconds.
    pub reset: i64,
}

impl Rate {
    pub fn remaining(self) -> u32 {
        self.limit.saturating_sub(self.used)
    }

    pub fn headers(self) -> [(&'static str, String); 5] {
        [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", self.remaining().to_string()),
            ("x-ratelimit-reset", self.reset.to_string()),
            ("x-ratelimit-used", self.used.to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ]
    }
}

pub struct Limits {
    limit: u32,
    rates: HashMap<String, Rate>,
}

impl Limits {
    pub fn new(limit: u32) -> Self {
        Self { limit, rates: HashMap::new() }
    }

    /// Another limit from now on, for everybody.
    pub fn set(&mut self, limit: u32) {
        self.limit = limit;
        self.rates.values_mut().for_each(|rate| rate.limit = limit);
    }

    /// The caller's rate, with this request counted where it counts; Err where none was left.
    pub fn count(&mut self, subject: &str, now: i64, counts: bool) -> Result<Rate, Rate> {
        let fresh = Rate { limit: self.limit, used: 0, reset: now + HOUR };
        let rate = self.rates.entry(subject.to_owned()).or_insert(fresh);
        if rate.reset <= now {
            *rate = fresh;
        }
        if counts && rate.remaining() == 0 {
            return Err(*rate);
        }
        rate.used += u32::from(counts);
        Ok(*rate)
    }

    /// A conditional request answered 304 costs nothing.
    pub fn give_back(&mut self, subject: &str) -> Option<Rate> {
        let rate = self.rates.get_mut(subject)?;
        rate.used = rate.used.saturating_sub(1);
        Some(*rate)
    }
}
