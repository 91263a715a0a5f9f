//! `cargo xtask test`: every test, with what they need beside them.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    process::Command,
    signal::ctrl_c,
};
use xtask::{
    cargo::cargo,
    postgres::Postgres,
    requirements::{Ran, Requirements},
    testing,
};

/// The names of tests that need the whole machine for minutes, or measure what it gives them: each has a turn of its own.
const ALONE: [&str; 4] = [
    "lifecycle::watching::what_environments_use_",
    "lifecycle::many::",
    "lifecycle::processes::",
    "simulation::every_",
];
/// How the runner of Rust's tests is told how many to run at once.
const THREADS: &str = "RUST_TEST_THREADS";
/// How many lines of a test's panic are said again in the end.
const WORDS_OF_A_FAILURE: usize = 20;

#[derive(Args)]
pub struct TestArgs {
    /// Fail where a test cannot run here, as those do that need a node, instead of saying so and passing.
    #[arg(long)]
    require_node: bool,
    /// What the test runner is given: parts of the names of the tests to run, and its options.
    #[arg(last = true)]
    runner: Vec<String>,
}

impl TestArgs {
    /// Ends the process with the exit code of `cargo test` where that is not 0.
    pub async fn run(self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in a folder of the repository")?;
        let requirements = Requirements::read(root)?;
        build(root).await?;
        // On this thread, which lasts as long as the process: the server ends with it.
        let postgres = Postgres::start()?;
        let mut results = Results::default();
        let mut code = 0;
        for arguments in self.turns() {
            let (ended, said) = self.run_tests(root, &postgres, &arguments).await?;
            code = if code == 0 { ended } else { code };
            results.add(said);
        }
        drop(postgres);
        // The cluster that tests share ends with their process, which leaves its folder.
        xtask::cluster::clean_leftovers()?;

        let (done, rows) = requirements.done();
        let problems = if self.runner.is_empty() {
            println!("\nrequirements: {done} of {rows} rows done");
            requirements.problems(&results.ran, root)
        } else {
            println!("\nrequirements: not checked, because not every test was asked for");
            Vec::new()
        };
        for problem in &problems {
            println!("  {problem}");
        }
        // A turn says it in its own middle: here is where one looks.
        for name in &results.ran.failed {
            let words = results.failures.get(name).map_or("  what it said is above\n", String::as_str);
            println!("\n{name} failed:\n{words}");
        }
        println!("{} passed, {} failed, {} skipped", results.passed, results.failed, results.skipped);
        if code != 0 {
            std::process::exit(code);
        }
        ensure!(problems.is_empty(), "tests/requirements.toml says more than the tests show");
        Ok(())
    }

    /// What the runner is given, one turn after the other: for what takes every core those would pay that wait for a
    /// cluster.
    fn turns(&self) -> Vec<Vec<String>> {
        if !self.runner.is_empty() {
            return vec![self.runner.clone()];
        }
        let all_others = ALONE.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]).collect();
        let alone = ALONE.iter().map(|name| vec![(*name).to_owned(), "--nocapture".to_owned()]);
        std::iter::once(all_others).chain(alone).collect()
    }

    async fn run_tests(&self, root: &Path, postgres: &Postgres, runner: &[String]) -> Result<(i32, Results)> {
        let mut command = Command::from(cargo());
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--"]).args(runner);
        command.current_dir(root);
        command.env(testing::POSTGRES, postgres.url()).env(testing::POSTGRES_CA, postgres.authority());
        // A snapshot that differs fails with its difference, and leaves no file in the tree.
        command.env("INSTA_UPDATE", "no");
        // Most tests wait for a cluster most of the time: with one thread a core they would wait for each other.
        if std::env::var_os(THREADS).is_none() {
            command.env(THREADS, "6");
        }
        if self.require_node {
            command.env(testing::REQUIRE_NODE, "1");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut cargo = command.spawn().context("cannot run cargo")?;
        let stdout = cargo.stdout.take().context("cargo has no output")?;
        let stderr = cargo.stderr.take().context("cargo has no output")?;
        let ended = async {
            let (said, skipped) = tokio::try_join!(
                pass_on(stdout, tokio::io::stdout(), Results::read),
                pass_on(stderr, tokio::io::stderr(), Results::read_skipped),
            )?;
            anyhow::Ok((cargo.wait().await?.code().unwrap_or(1), said.without(skipped)))
        };
        tokio::select! {
            ended = ended => ended,
            // A terminal's Ctrl-C has reached cargo as well.
            _ = ctrl_c() => anyhow::bail!("interrupted"),
        }
    }
}

/// Compiles every test. Ends the process with cargo's exit code where it cannot.
async fn build(root: &Path) -> Result<()> {
    let mut command = Command::from(cargo());
    command.args(["test", "--workspace", "--locked", "--no-run"]).current_dir(root);
    let built = command.status().await.context("cannot run cargo")?;
    if !built.success() {
        std::process::exit(built.code().unwrap_or(1));
    }
    // What the linker wrote, gigabytes of it, goes to the disk now: databases would wait for it at each commit, and a
    // slow disk has let them wait for a minute.
    let written = Command::new("sync").status().await.context("cannot run sync")?;
    ensure!(written.success(), "sync ended with {written}");
    Ok(())
}

/// What the test runner said of each test.
#[derive(Debug, Default)]
struct Results {
    passed: usize,
    failed: usize,
    skipped: usize,
    ran: Ran,
    /// By the name of a test that failed, what its panic said. Not of tests whose output was not kept back.
    failures: BTreeMap<String, String>,
    /// Whose words the runner repeats at this moment.
    repeated: Option<String>,
}

impl Results {
    fn read(&mut self, line: &str) {
        self.read_outcome(line);
        self.read_words(line);
    }

    /// The words of a test that failed: the runner repeats them under `---- NAME stdout ----`.
    fn read_words(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            self.repeated = Some(name.to_owned());
        } else if line == "failures:" || line.starts_with("stack backtrace:") {
            self.repeated = None;
        } else if let Some(name) = &self.repeated
            && !line.is_empty()
        {
            if line.starts_with("thread '") {
                self.failures.entry(name.clone()).or_default();
            }
            if let Some(words) = self.failures.get_mut(name).filter(|it| it.lines().count() < WORDS_OF_A_FAILURE) {
                words.push_str(&format!("  {line}\n"));
            }
        }
    }

    /// A line of the runner: `test NAME ... ok`, `FAILED` or `ignored`.
    fn read_outcome(&mut self, line: &str) {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... ")) else {
            return;
        };
        let name = name.strip_suffix(" - should panic").unwrap_or(name).to_owned();
        if outcome == "ok" {
            self.passed += 1;
            self.ran.passed.insert(name);
        } else if outcome == "FAILED" {
            self.failed += 1;
            self.ran.failed.insert(name);
        } else if outcome.starts_with("ignored") {
            self.skipped += 1;
            self.ran.skipped.insert(name);
        }
    }

    /// A line of a test that says that it does not run here, and passes.
    fn read_skipped(&mut self, line: &str) {
        if let Some((name, _reason)) = line.strip_prefix(testing::SKIPPED).and_then(|line| line.split_once(": ")) {
            self.ran.skipped.insert(name.to_owned());
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.ran.passed.extend(other.ran.passed);
        self.ran.failed.extend(other.ran.failed);
        self.ran.skipped.extend(other.ran.skipped);
        self.failures.extend(other.failures);
    }

    /// The results, with what said that it does not run taken out of what passed.
    fn without(mut self, said: Results) -> Results {
        for name in said.ran.skipped {
            if self.ran.passed.remove(&name) {
                self.passed -= 1;
                self.skipped += 1;
            }
            self.ran.skipped.insert(name);
        }
        self
    }
}

/// Passes a stream on as it comes, and reads each of its lines.
async fn pass_on(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    read: impl Fn(&mut Results, &str),
) -> Result<Results> {
    let mut results = Results::default();
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        to.write_all(&line).await?;
        to.flush().await?;
        read(&mut results, String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_words_are_understood() {
        let mut results = Results::default();
        let lines = "running 5 tests\ntest a::one ... ok\ntest a::two - should panic ... ok\ntest a::three ... FAILED\n\
            test a::four ... ignored, takes an hour\ntest src/lib.rs - (line 3) ... ok\n\
            \n\nfailures:\n\n---- a::three stdout ----\nit begins\nthread 'a::three' panicked at src/a.rs:3:1:\nit is 3\n\
            stack backtrace:\n   0: rust_begin_unwind\n\n\nfailures:\n    a::three\n\n\
            test result: FAILED. 3 passed; 1 failed; 1 ignored";
        lines.lines().for_each(|line| results.read(line));
        let mut said = Results::default();
        said.read_skipped("skipped a::one: there is no node");
        said.read_skipped("   Compiling previewd");
        let results = results.without(said);
        assert_eq!((results.passed, results.failed, results.skipped), (2, 1, 2));
        let words = "  thread 'a::three' panicked at src/a.rs:3:1:\n  it is 3\n";
        assert_eq!(results.failures, [("a::three".to_owned(), words.to_owned())].into());
        assert!(results.ran.passed.contains("a::two") && results.ran.skipped.contains("a::one"));
    }
}
