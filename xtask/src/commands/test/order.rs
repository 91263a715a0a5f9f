//! What is run when: the longest first, by the time that each took the last time it ran here.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};

use super::{programs::Program, wanted::Wanted};

/// The names of tests that take every core for minutes, or measure what the machine gives them.
const ALONE: [&str; 3] = ["lifecycle::watching::what_environments_use_", "lifecycle::many::", "lifecycle::processes::"];
/// The names of tests that compute for minutes and have a clock of their own.
const BEHIND: [&str; 1] = ["simulation::every_"];
/// What is not known of a test that nobody ran yet, in seconds: most of those that take long are on a cluster.
const GUESSES: [(&str, f32); 3] = [("pairs::rows::", 60.0), ("lifecycle::", 30.0), ("cluster_", 20.0)];
/// The times of tests that take long, for a machine that has none of its own yet.
const KNOWN: &str = include_str!("../../../data/test-times.toml");
const FILE: &str = "test-times.toml";

/// How a process shares the machine with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Beside all others from the beginning, on what they leave of the processors.
    Behind,
    Beside,
    /// With no other but those behind, in the end.
    Alone,
}

/// A process to start.
#[derive(Debug)]
pub struct Job {
    pub program: Arc<Program>,
    /// One test; all the wanted ones of the program if None.
    pub test: Option<String>,
    pub turn: Turn,
}

/// How long tests took, in seconds, by name.
pub struct Times {
    known: BTreeMap<String, f32>,
    file: PathBuf,
}

impl Times {
    /// Those of the target folder that the programs are in, and of the repository for what was never run here.
    pub fn read(programs: &[Program]) -> Result<Self> {
        // TARGET/debug/deps/PROGRAM
        let target = programs.first().and_then(|program| program.path.ancestors().nth(3));
        let file = target.context("cargo built no tests")?.join(FILE);
        let mut known: BTreeMap<String, f32> = toml::from_str(KNOWN).context("the repository's times")?;
        if let Ok(text) = fs::read_to_string(&file) {
            // A file of another form is written anew.
            known.extend(toml::from_str::<BTreeMap<String, f32>>(&text).unwrap_or_default());
        }
        Ok(Self { known, file })
    }

    pub fn of(&self, test: &str) -> f32 {
        let guess = || GUESSES.iter().find(|(prefix, _)| test.starts_with(prefix)).map_or(1.0, |(_, seconds)| *seconds);
        self.known.get(test).copied().unwrap_or_else(guess)
    }

    #[cfg(test)]
    pub fn of_these(known: &[(&str, f32)]) -> Self {
        let known = known.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect();
        Self { known, file: PathBuf::new() }
    }

    /// For the next time.
    pub fn keep(&mut self, took: BTreeMap<String, f32>) -> Result<()> {
        self.known.extend(took);
        fs::write(&self.file, toml::to_string(&self.known)?)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// The processes for the tests that are wanted, in the order in which they are to be started, and how many tests these are.
pub fn order(programs: Vec<(Program, Vec<String>)>, wanted: &Wanted, times: &Times) -> (Vec<Job>, usize) {
    let (mut units, mut jobs, mut count) = (Vec::new(), Vec::new(), 0);
    for (program, mut tests) in programs {
        let program = Arc::new(program);
        tests.retain(|test| wanted.has(&program, test));
        count += tests.len();
        if program.has_unit_tests {
            if !tests.is_empty() {
                units.push(Job { program, test: None, turn: Turn::Beside });
            }
            continue;
        }
        for test in tests {
            let turn = turn_of(&test);
            jobs.push(Job { program: program.clone(), test: Some(test), turn });
        }
    }
    let seconds = |job: &Job| job.test.as_deref().map_or(0.0, |test| times.of(test));
    jobs.sort_by(|one, other| seconds(other).total_cmp(&seconds(one)));
    // What is wrong in a unit is best known first.
    units.extend(jobs);
    (units, count)
}

fn turn_of(test: &str) -> Turn {
    let is_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| test.starts_with(prefix));
    if is_of(&ALONE) {
        Turn::Alone
    } else if is_of(&BEHIND) {
        Turn::Behind
    } else {
        Turn::Beside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, has_unit_tests: bool) -> Program {
        Program { name: name.to_owned(), path: "/t/debug/deps/x".into(), folder: "/w".into(), has_unit_tests }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn units_are_first_and_then_what_takes_longest() {
        let it =
            names(&["http::a", "lifecycle::new", "lifecycle::known", "simulation::every_story", "lifecycle::many::b"]);
        let programs = vec![(program("it", false), it), (program("previewd", true), names(&["a", "b"]))];
        let times = Times::of_these(&[("lifecycle::known", 12.0), ("simulation::every_story", 200.0)]);
        let (jobs, count) = order(programs, &Wanted::All, &times);
        let found: Vec<_> = jobs.iter().map(|job| (job.test.as_deref().unwrap_or("units"), job.turn)).collect();
        let expected = [
            ("units", Turn::Beside),
            ("simulation::every_story", Turn::Behind),
            ("lifecycle::new", Turn::Beside),
            ("lifecycle::many::b", Turn::Alone),
            ("lifecycle::known", Turn::Beside),
            ("http::a", Turn::Beside),
        ];
        assert_eq!((found.as_slice(), count), (expected.as_slice(), 7));
    }

    #[test]
    fn a_program_without_a_wanted_test_is_not_started() {
        let programs = || {
            vec![(program("it", false), names(&["http::a", "http::ab"])), (program("previewd", true), names(&["b"]))]
        };
        let named = |exact, skip: &[&str]| Wanted::Named { names: names(&["http::a"]), exact, skip: names(skip) };
        for (wanted, expected) in [(named(false, &[]), 2), (named(true, &[]), 1), (named(false, &["ab"]), 1)] {
            assert_eq!(order(programs(), &wanted, &Times::of_these(&[])).1, expected, "{wanted:?}");
        }
    }

    #[test]
    fn times_are_kept_for_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug/deps/it-1");
        let programs = [Program { path, ..program("it", false) }];
        let mut first = Times::read(&programs).unwrap();
        assert_eq!((first.of("lifecycle::never_run"), first.of("http::never_run")), (30.0, 1.0));
        first.keep([("http::a".to_owned(), 2.5)].into()).unwrap();
        assert_eq!(Times::read(&programs).unwrap().of("http::a"), 2.5);
    }
}
