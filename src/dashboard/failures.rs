//! How often somebody may sign in with the wrong token. Tokens cannot be guessed; whoever tries makes work and noise.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::request::Client;

/// Failures of one address in a minute.
const AT_MOST: u32 = 30;
/// The same for all together: whoever has many addresses.
const OF_ALL: u32 = 600;
const MINUTE: Duration = Duration::from_secs(60);

/// The failures of the present minute.
#[derive(Default)]
pub(super) struct Failures(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    began: Option<Instant>,
    all: u32,
    by_address: HashMap<Option<IpAddr>, u32>,
}

impl Failures {
    pub fn are_too_many(&self, Client(address): Client) -> bool {
        let minute = self.present();
        minute.all >= OF_ALL || minute.by_address.get(&address).is_some_and(|failures| *failures >= AT_MOST)
    }

    pub fn add(&self, Client(address): Client) {
        let mut minute = self.present();
        minute.all = minute.all.saturating_add(1);
        if minute.all <= OF_ALL {
            *minute.by_address.entry(address).or_default() += 1;
        }
    }

    fn present(&self) -> MutexGuard<'_, Minute> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.began.is_none_or(|began| began.elapsed() >= MINUTE) {
            *minute = Minute { began: Some(Instant::now()), ..Minute::default() };
        }
        minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_lock_out_the_others() {
        let failures = Failures::default();
        let client = |last: u8| Client(Some(IpAddr::from([192, 0, 2, last])));
        for _ in 0..AT_MOST {
            assert!(!failures.are_too_many(client(1)));
            failures.add(client(1));
        }
        assert!(failures.are_too_many(client(1)) && !failures.are_too_many(client(2)));
        for last in 2..=u8::MAX {
            (0..3).for_each(|_| failures.add(client(last)));
        }
        assert!(failures.are_too_many(client(2)), "all together are too many");
    }
}
