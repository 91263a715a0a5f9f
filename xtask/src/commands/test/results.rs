//! What became of the tests.

use std::collections::BTreeMap;

use xtask::{requirements::Ran, testing};

use super::{
    order::{Job, Turn},
    process::Ended,
};

/// How many lines of a test's panic are said again in the end.
const WORDS_OF_A_FAILURE: usize = 20;

#[derive(Debug, Default)]
pub struct Results {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    pub ran: Ran,
    /// By the name of a test that failed, what its panic said.
    pub failures: BTreeMap<String, String>,
    /// By the name of a test that passed in a process of its own, in seconds.
    pub took: BTreeMap<String, f32>,
}

impl Results {
    /// Takes in how a process ended. Gives what to print of it.
    pub fn add(&mut self, job: &Job, ended: &Ended) -> String {
        let Ended { passed, hung, took, said } = ended;
        let seconds = took.as_secs_f32();
        let Some(test) = &job.test else {
            let ran = self.read_units(said);
            // A program that ends before its tests do, as by a signal, names none that failed.
            if !passed && !said.lines().any(|line| line.ends_with(" ... FAILED")) {
                self.fail(&format!("the unit tests of {}", job.program.name), said);
            }
            let all = format!("{seconds:7.1} s  {ran} unit tests of {}", job.program.name);
            return if *passed { format!("passed {all}\n") } else { format!("FAILED {all}\n{said}\n") };
        };
        if *hung {
            self.fail(test, said);
            return format!("FAILED {seconds:7.1} s  {test}: it hung and was ended\n{said}\n");
        }
        if !passed {
            self.fail(test, said);
            return format!("FAILED {seconds:7.1} s  {test}\n{said}\n");
        }
        if let Some(reason) = reason_to_skip(said, test) {
            self.skipped += 1;
            self.ran.skipped.insert(test.clone());
            return format!("skipped {seconds:6.1} s  {test}: {reason}\n");
        }
        self.passed += 1;
        self.ran.passed.insert(test.clone());
        self.took.insert(test.clone(), (seconds * 10.0).round() / 10.0);
        // What takes minutes has figures to say.
        let figures = if job.turn == Turn::Beside { String::new() } else { own_words(said) };
        format!("passed {seconds:7.1} s  {test}\n{figures}")
    }

    fn fail(&mut self, test: &str, said: &str) {
        self.failed += 1;
        self.ran.failed.insert(test.to_owned());
        self.failures.insert(test.to_owned(), panic_of(said.lines()));
    }

    /// Reads what a whole program of tests said. Gives how many of them ran.
    fn read_units(&mut self, said: &str) -> usize {
        let mut ran = 0;
        for line in said.lines() {
            let Some((name, outcome)) = outcome(line) else { continue };
            ran += 1;
            if outcome == "FAILED" {
                self.failed += 1;
                self.ran.failed.insert(name.to_owned());
                // The runner repeats the words of each that failed.
                let begin = format!("---- {name} stdout ----");
                let words = said.lines().skip_while(|line| **line != begin).skip(1);
                self.failures.insert(name.to_owned(), panic_of(words.take_while(|line| !line.starts_with("---- "))));
            } else if outcome != "ok" || reason_to_skip(said, name).is_some() {
                self.skipped += 1;
                self.ran.skipped.insert(name.to_owned());
            } else {
                self.passed += 1;
                self.ran.passed.insert(name.to_owned());
            }
        }
        ran
    }
}

/// A line of libtest: `test NAME ... ok`, `FAILED` or `ignored`.
fn outcome(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let is_one = matches!(outcome, "ok" | "FAILED") || outcome.starts_with("ignored");
    is_one.then_some((name.strip_suffix(" - should panic").unwrap_or(name), outcome))
}

/// Why a test that passed did not run.
fn reason_to_skip<'a>(said: &'a str, test: &str) -> Option<&'a str> {
    let begin = format!("{}{test}: ", testing::SKIPPED);
    said.lines().find_map(|line| line.strip_prefix(&begin))
}

/// The first lines of a panic, without its backtrace.
fn panic_of<'a>(said: impl Iterator<Item = &'a str>) -> String {
    let words = said.skip_while(|line| !line.starts_with("thread '"));
    let words = words.take_while(|line| !line.starts_with("stack backtrace:") && *line != "failures:");
    words.filter(|line| !line.is_empty()).take(WORDS_OF_A_FAILURE).map(|line| format!("  {line}\n")).collect()
}

/// What a test printed, without what libtest says of it.
fn own_words(said: &str) -> String {
    let is_own = |line: &&str| {
        let is_libtests = line.starts_with("running ") || line.starts_with("test result: ") || outcome(line).is_some();
        !line.is_empty() && !is_libtests
    };
    said.lines().filter(is_own).map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::commands::test::programs::Program;

    fn job(test: Option<&str>, turn: Turn) -> Job {
        let program =
            Program { name: "p".to_owned(), path: "/p".into(), folder: "/".into(), has_unit_tests: test.is_none() };
        Job { program: Arc::new(program), test: test.map(str::to_owned), turn }
    }

    fn ended(passed: bool, said: &str) -> Ended {
        Ended { passed, hung: false, took: Duration::from_millis(1_234), said: said.to_owned() }
    }

    #[test]
    fn the_words_of_a_program_of_unit_tests_are_understood() {
        let said = "running 5 tests\ntest a::one ... ok\ntest a::two - should panic ... ok\ntest a::three ... FAILED\n\
            test a::four ... ignored, takes an hour\nskipped a::one: there is no node\n\
            \n\nfailures:\n\n---- a::three stdout ----\nit begins\nthread 'a::three' panicked at src/a.rs:3:1:\nit is 3\n\
            stack backtrace:\n   0: rust_begin_unwind\n\n\nfailures:\n    a::three\n\n\
            test result: FAILED. 2 passed; 1 failed; 1 ignored";
        let mut results = Results::default();
        let shown = results.add(&job(None, Turn::Beside), &ended(false, said));
        assert!(shown.starts_with("FAILED     1.2 s  4 unit tests of p\nrunning 5 tests\n"), "{shown}");
        assert_eq!((results.passed, results.failed, results.skipped), (1, 1, 2));
        let words = "  thread 'a::three' panicked at src/a.rs:3:1:\n  it is 3\n";
        assert_eq!(results.failures, [("a::three".to_owned(), words.to_owned())].into());
        assert!(results.ran.passed.contains("a::two") && results.ran.skipped.contains("a::one"));
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let mut results = Results::default();
        results.add(&job(None, Turn::Beside), &ended(false, "running 5 tests\ntest a::one ... ok\n"));
        assert_eq!((results.passed, results.failed), (1, 1));
        assert!(results.failures.contains_key("the unit tests of p"));
    }

    #[test]
    fn each_test_has_a_line_with_its_time() {
        let mut results = Results::default();
        let said = "\nrunning 1 test\n1000 stories in 9 s\ntest a::one ... ok\n\ntest result: ok. 1 passed\n";
        let beside = results.add(&job(Some("a::one"), Turn::Beside), &ended(true, said));
        assert_eq!(beside, "passed     1.2 s  a::one\n");
        let behind = results.add(&job(Some("a::two"), Turn::Behind), &ended(true, said));
        assert_eq!(behind, "passed     1.2 s  a::two\n    1000 stories in 9 s\n");
        let skipped = "running 1 test\nskipped a::three: a node needs root\ntest a::three ... ok\n";
        let skipped = results.add(&job(Some("a::three"), Turn::Beside), &ended(true, skipped));
        assert_eq!(skipped, "skipped    1.2 s  a::three: a node needs root\n");
        let failed = "running 1 test\nit begins\n\nthread 'a::four' (12) panicked at a.rs:1:1:\nit is 4\nit ends\n";
        let failed = results.add(&job(Some("a::four"), Turn::Beside), &ended(false, failed));
        assert!(failed.starts_with("FAILED     1.2 s  a::four\nrunning 1 test\nit begins\n"), "{failed}");
        let hangs = Ended { hung: true, ..ended(false, "it begins\n") };
        let hangs = results.add(&job(Some("a::five"), Turn::Alone), &hangs);
        assert_eq!(hangs, "FAILED     1.2 s  a::five: it hung and was ended\nit begins\n\n");

        assert_eq!((results.passed, results.failed, results.skipped), (2, 2, 1));
        assert_eq!(results.took.keys().collect::<Vec<_>>(), ["a::one", "a::two"]);
        assert!(results.failures["a::four"].ends_with("  it is 4\n  it ends\n"));
    }
}
