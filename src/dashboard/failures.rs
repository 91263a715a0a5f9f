//! How often somebody may sign in with the wrong token. Tokens cannot be guessed; whoever tries makes work and noise.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::request::Client;

/// Failures of one network in a minute.
const AT_MOST: u32 = 30;
/// Networks that are counted in a minute. Whoever has more may go on: nobody is locked out for what others do.
const NETWORKS: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The failures of the present minute.
#[derive(Default)]
pub(super) struct Failures(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    began: Option<Instant>,
    by_network: HashMap<Option<IpAddr>, u32>,
}

impl Failures {
    pub fn are_too_many(&self, client: Client) -> bool {
        self.present().by_network.get(&network(client)).is_some_and(|failures| *failures >= AT_MOST)
    }

    pub fn add(&self, client: Client) {
        let mut minute = self.present();
        let is_full = minute.by_network.len() >= NETWORKS;
        match minute.by_network.entry(network(client)) {
            Entry::Occupied(mut failures) => *failures.get_mut() += 1,
            Entry::Vacant(none) if !is_full => drop(none.insert(1)),
            Entry::Vacant(_) => {}
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

/// Whose address it is: one customer has a whole /64 of IPv6.
fn network(Client(address): Client) -> Option<IpAddr> {
    Some(match address? {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_does_not_lock_out_the_others() {
        let failures = Failures::default();
        let client = |text: &str| Client(Some(text.parse().unwrap()));
        for address in ["192.0.2.1", "2001:db8::1"] {
            for _ in 0..AT_MOST {
                assert!(!failures.are_too_many(client(address)));
                failures.add(client(address));
            }
            assert!(failures.are_too_many(client(address)));
        }
        assert!(failures.are_too_many(client("2001:db8::ffff:2")), "the same network");
        assert!(!failures.are_too_many(client("2001:db8:0:1::1")) && !failures.are_too_many(client("192.0.2.2")));
        for number in 0..20_000_u32 {
            failures.add(Client(Some(IpAddr::from(number.to_be_bytes()))));
        }
        assert_eq!(failures.0.lock().unwrap().by_network.len(), NETWORKS);
        assert!(!failures.are_too_many(client("198.51.100.7")), "many do not lock out one");
    }
}
