//! The whole engine on a real database, in random stories under a clock that is not real: what is around it is played.
//! Each story draws its configuration and its recipes, and is told by its seed, again and again the same.

mod configuration;
mod internet;
mod kubernetes;
mod network;
mod outcome;
mod peer;
mod recipes;
mod story;
mod watch;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use previewd::faults::Fault;

use self::story::Told;

/// How many stories a run tells, and among which one has to find each deliberate fault.
const SEEDS: u64 = 60;
/// Stories that found a fault which few find. Looked at first; where they find it no longer, all others are.
const FINDERS: [(Fault, u64); 14] = [
    (Fault::LostWake, 341),
    (Fault::UncheckedLease, 5),
    (Fault::AnyApproval, 38),
    (Fault::UnfencedCall, 55),
    (Fault::ProvesEachPhase, 5),
    (Fault::ResetUnseen, 18),
    (Fault::SleepsOn, 29),
    (Fault::QuotaBlind, 121),
    (Fault::JobsForgotten, 85),
    (Fault::BlockingPodStays, 90),
    (Fault::ToldInTheEnd, 19),
    (Fault::ResetIsUpgrade, 37),
    (Fault::ClaimsUnmounted, 30),
    (Fault::LeftOutServes, 29),
];
/// So many stories that ended badly are enough to look at.
const SHOWN: usize = 8;
/// What `cargo xtask simulate` asks for.
const SEEDS_VARIABLE: &str = "PREVIEWD_SEEDS";
const FROM_VARIABLE: &str = "PREVIEWD_FROM";
const FAULT_VARIABLE: &str = "PREVIEWD_FAULT";

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// One story, whose panic is an end like any other.
fn tell(seed: u64, fault: Option<Fault>) -> Result<Told, String> {
    let told = catch_unwind(AssertUnwindSafe(|| story::tell(seed, fault)));
    told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!(
            "panicked: {}",
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
        ))
    })
}

/// Tells stories on every core until so many ended badly, or all are told. Gives those that did, by their seeds.
fn failures(
    seeds: std::ops::Range<u64>,
    at_most: usize,
    fault: Option<Fault>,
    told: impl Fn(Told) + Sync,
) -> BTreeMap<u64, String> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().unwrap().len() >= at_most {
                        return;
                    }
                    match tell(seed, fault) {
                        Ok(story) => told(story),
                        Err(why) => {
                            if fault.is_none() {
                                println!("seed {seed}: {why}");
                            }
                            failures.lock().unwrap().insert(seed, why);
                        }
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[test]
fn every_story_ends_as_it_should() {
    let from = variable(FROM_VARIABLE).unwrap_or(0);
    let seeds = variable(SEEDS_VARIABLE).unwrap_or(SEEDS);
    if std::env::var_os(network::TELL_VARIABLE).is_some() {
        // The engine's own words, between those of the story.
        tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().without_time().init();
    }
    let began = Instant::now();
    let all: Mutex<(u64, BTreeMap<&'static str, usize>, u64)> = Mutex::default();
    let failures = failures(from..from + seeds, SHOWN, None, |story| {
        let mut all = all.lock().unwrap();
        all.0 += 1;
        all.2 += story.lasted.as_secs();
        for (action, times) in story.actions {
            *all.1.entry(action).or_default() += times;
        }
        let mishaps = story.mishaps;
        let counts = [
            ("calls to GitHub and Kubernetes", mishaps.calls),
            ("calls that were slow", mishaps.slow),
            ("calls that were refused", mishaps.refused),
            ("answers that got lost", mishaps.answers_lost),
            ("processes that stalled", mishaps.stalls),
            ("processes that died", mishaps.deaths),
        ];
        for (what, times) in counts {
            *all.1.entry(what).or_default() += times;
        }
    });
    let (stories, counts, seconds) = all.into_inner().unwrap();
    println!("{stories} stories of {} h in {:.0} s", seconds / 3_600, began.elapsed().as_secs_f32());
    for (what, times) in counts {
        println!("  {times:>8} {what}");
    }
    for seed in failures.keys() {
        println!("tell it again: cargo xtask simulate --seeds 1 --from {seed} --tell");
    }
    assert!(failures.is_empty(), "{} stories did not end well", failures.len());
}

#[test]
fn a_story_is_the_same_each_time() {
    for seed in 0..2 {
        let stories: Vec<String> = (0..2).map(|_| format!("{:?}", tell(seed, None))).collect();
        assert!(stories.iter().all(|story| *story == stories[0]), "seed {seed}: {stories:#?}");
    }
}

#[test]
fn every_deliberate_fault_is_found() {
    let from = variable(FROM_VARIABLE).unwrap_or(0);
    let seeds = from..from + variable(SEEDS_VARIABLE).unwrap_or(SEEDS);
    let wanted = std::env::var(FAULT_VARIABLE).ok();
    let is_wanted = |fault: &Fault| wanted.as_ref().is_none_or(|wanted| format!("{fault:?}") == *wanted);
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(is_wanted).collect();
    assert!(!faults.is_empty(), "{wanted:?} is no fault");
    let next = AtomicU64::new(0);
    let missed = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let known = FINDERS.iter().filter(|(found, _)| found == fault).map(|(_, seed)| *seed);
                    let finds = |seed: u64| Some((seed, tell(seed, Some(*fault)).err()?));
                    match known.chain(seeds.clone()).find_map(finds) {
                        Some((seed, why)) => {
                            let why: String = why.chars().take(160).collect();
                            println!("{fault:?} is found by seed {seed}: {why}");
                        }
                        None => {
                            println!("{fault:?} is not found");
                            missed.lock().unwrap().push(*fault);
                        }
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "no story of {seeds:?} finds {missed:?}");
}
