//! The way from each process to its two peers: slow, lossy, and where processes die.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use previewd::faults::Moment;

use super::kubernetes::{Fate, Outcome};

/// What went wrong in a story.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mishaps {
    pub calls: usize,
    pub slow: usize,
    pub refused: usize,
    pub answers_lost: usize,
    pub stalls: usize,
    pub deaths: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    GitHub,
    Kubernetes,
}

struct State {
    rng: StdRng,
    began: Instant,
    /// Whether what happens is printed.
    is_told: bool,
    calm: bool,
    /// Of a thousand steps, in how many a process stalls.
    stalls: u64,
    away_until: BTreeMap<Peer, Instant>,
    dead: BTreeSet<usize>,
    stops: BTreeMap<usize, CancellationToken>,
    mishaps: Mishaps,
    /// Processes that went on to send something, stopped for so long that their leases may have ended, and when.
    late: Vec<(usize, Instant)>,
}

/// Decides what becomes of each call. A process is dead once one of its calls, or of its steps, was its last: whatever
/// it still waits for never comes.
pub struct Network(Mutex<State>);

/// Set, it has everything printed that happens in a story.
pub const TELL_VARIABLE: &str = "PREVIEWD_TELL";
/// Milliseconds that a call takes on its way, most of the time.
const NEAR: std::ops::Range<u64> = 1..60;

impl Network {
    /// `calm`: nothing goes wrong on it from the beginning.
    pub fn new(seed: u64, calm: bool) -> Self {
        Self(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            began: Instant::now(),
            is_told: std::env::var_os(TELL_VARIABLE).is_some(),
            calm,
            stalls: if seed % 5 == 4 { 60 } else { 8 },
            away_until: BTreeMap::new(),
            dead: BTreeSet::new(),
            stops: BTreeMap::new(),
            mishaps: Mishaps::default(),
            late: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no story goes on after a panic")
    }

    /// A process that `stop` ends as far as it can still be told.
    pub fn join(&self, process: usize, stop: CancellationToken) {
        self.state().stops.insert(process, stop);
    }

    /// Prints what happens, where that was asked for.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        let state = self.state();
        if state.is_told {
            println!("{:>9.3} {what}", state.began.elapsed().as_secs_f64());
        }
    }

    pub fn is_dead(&self, process: usize) -> bool {
        self.state().dead.contains(&process)
    }

    pub fn kill(&self, process: usize) {
        self.state().kill(process);
    }

    /// Nothing goes wrong from now on.
    pub fn calm_down(&self) {
        let mut state = self.state();
        state.calm = true;
        state.away_until.clear();
    }

    pub fn send_away(&self, peer: Peer, wait: Duration) {
        self.state().away_until.insert(peer, Instant::now() + wait);
    }

    /// Whether what a process sent at this moment comes late: nothing can keep it back.
    pub fn is_late(&self, process: usize, began: Instant) -> bool {
        self.state().late.contains(&(process, began))
    }

    pub fn mishaps(&self) -> Mishaps {
        self.state().mishaps
    }

    /// What becomes of a call; `what` is its method and path.
    pub fn fate(&self, peer: Peer, process: usize, is_write: bool, what: &str) -> Fate {
        let fate = self.draw_fate(peer, process, is_write);
        self.note(format_args!("{process}: {what}: {:?}", fate.outcome));
        fate
    }

    fn draw_fate(&self, peer: Peer, process: usize, is_write: bool) -> Fate {
        let mut state = self.state();
        let state = &mut *state;
        state.mishaps.calls += 1;
        let near = |rng: &mut StdRng| Duration::from_millis(rng.random_range(NEAR));
        let (before, after) = (near(&mut state.rng), near(&mut state.rng));
        if state.dead.contains(&process) {
            return Fate { before, after, outcome: Outcome::NeverArrives };
        }
        if state.calm {
            return Fate { before, after, outcome: Outcome::Answer };
        }
        if state.away_until.get(&peer).is_some_and(|until| Instant::now() < *until) {
            state.mishaps.refused += 1;
            return Fate { before, after, outcome: Outcome::RefuseUnseen };
        }
        let far = Duration::from_millis(state.rng.random_range(1_000..9_000));
        let roll = state.rng.random_range(0..1_000);
        let (before, after, outcome) = match (roll, is_write) {
            (0..8, true) | (0..1, false) => (before, after, Outcome::NeverReturns),
            (8..12, true) | (1..3, false) => (before, after, Outcome::NeverArrives),
            (12..32, true) => (before, after, Outcome::LoseAnswer),
            (32..52, true) | (3..10, false) => (before, after, Outcome::RefuseUnseen),
            (52..72, _) => (far, after, Outcome::Answer),
            (72..92, _) => (before, far, Outcome::Answer),
            _ => (before, after, Outcome::Answer),
        };
        match outcome {
            Outcome::NeverReturns | Outcome::NeverArrives => state.kill(process),
            Outcome::LoseAnswer => state.mishaps.answers_lost += 1,
            Outcome::RefuseUnseen => state.mishaps.refused += 1,
            Outcome::Answer if before.max(after) >= Duration::from_secs(1) => state.mishaps.slow += 1,
            Outcome::Answer => {}
        }
        Fate { before, after, outcome }
    }

    /// Between two steps of a process: it may be stopped for longer than its leases hold, or for ever.
    pub async fn stall(&self, process: usize, moment: Moment) {
        let wait = {
            let mut state = self.state();
            let roll = if state.calm { 1_000 } else { state.rng.random_range(0..1_000) };
            let most = 2 + state.stalls;
            match roll {
                0..2 => state.kill(process),
                roll if roll < most => state.mishaps.stalls += 1,
                _ => {}
            }
            let seconds = state.rng.random_range(15..45);
            (roll < most).then(|| Duration::from_secs(seconds))
        };
        if let Some(wait) = wait {
            self.note(format_args!("{process}: stalls for {wait:?} ({moment:?})"));
            sleep(wait).await;
            if moment == Moment::After {
                self.state().late.push((process, Instant::now()));
            }
        }
        if self.is_dead(process) {
            std::future::pending::<()>().await;
        }
    }
}

impl State {
    fn kill(&mut self, process: usize) {
        if self.dead.insert(process) {
            self.mishaps.deaths += 1;
            if let Some(stop) = self.stops.get(&process) {
                stop.cancel();
            }
        }
    }
}
