//! `cargo xtask test`: every test, with what they need beside them.
//!
//! Each integration test is a process of its own, several at a time, the longest first. They share a PostgreSQL and
//! clusters, which are this process'.

mod order;
mod process;
mod programs;
mod results;
mod wanted;

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{signal::ctrl_c, sync::Mutex};
use xtask::{
    postgres::Postgres,
    requirements::Requirements,
    testing::{self, SharedClusters},
};

use self::{
    order::{Job, Times, Turn, order},
    process::Surroundings,
    results::Results,
    wanted::{STORIES, Wanted},
};

#[derive(Args)]
pub struct TestArgs {
    /// Parts of the names of the tests to run, all of them without any
    names: Vec<String>,
    /// Take these for whole names
    #[arg(long)]
    exact: bool,
    /// Part of the names of tests not to run
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// Run what the files touch that differ from the last commit, or where none do those of the last commit
    #[arg(long, conflicts_with_all = ["names", "exact", "skip"])]
    changed: bool,
    /// Fail where a test cannot run here, as those do that need a node, instead of saying so and passing
    #[arg(long)]
    require_node: bool,
    /// Show at once what tests print, and keep none of it
    #[arg(long)]
    nocapture: bool,
    /// How many run at the same time; most of them wait for a cluster most of the time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

impl TestArgs {
    /// Ends the process with 101, as libtest does, where a test fails.
    pub async fn run(self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in a folder of the repository")?;
        let requirements = Requirements::read(root)?;
        let mut wanted = self.wanted(root).await?;
        let began = Instant::now();
        let programs = programs::build(root).await?;
        let mut times = Times::read(&programs)?;
        let mut listed = Vec::new();
        for program in programs {
            let tests = program.tests().await?;
            listed.push((program, tests));
        }
        for test in wanted.choose(&listed, &times, f32::from(self.jobs)) {
            println!("left to the whole run, because it takes too long: {test}");
        }
        let (jobs, count) = order(listed, &wanted, &times);
        ensure!(!jobs.is_empty(), "no test has a name like that");
        println!("built after {} s; {count} tests in {} processes", began.elapsed().as_secs(), jobs.len());

        // On this thread, which lasts as long as the process: the server ends with it.
        let postgres = Postgres::start()?;
        let clusters = SharedClusters::offer()?;
        let variables = self.variables(&postgres, &clusters, &wanted);
        let has_all = matches!(wanted, Wanted::All);
        let is_change = matches!(wanted, Wanted::Touched { .. });
        let surroundings =
            Surroundings { variables, wanted, jobs: usize::from(self.jobs), shows_at_once: self.nocapture };
        let results = tokio::select! {
            results = run_all(jobs, &surroundings) => results?,
            _ = ctrl_c() => anyhow::bail!("interrupted"),
        };
        let lost = clusters.end().await;
        drop(postgres);
        // Tests have clusters of their own, too, which end with their process and leave its folder.
        xtask::cluster::clean_leftovers()?;
        // Those of fewer stories are not those of all.
        if !is_change {
            times.keep(results.took)?;
        }

        let (done, rows) = requirements.done();
        let mut problems = if has_all {
            println!("\nrequirements: {done} of {rows} rows done");
            requirements.problems(&results.ran, root)
        } else {
            println!("\nrequirements: not checked, because not every test was asked for");
            Vec::new()
        };
        problems.extend(lost.err().map(|error| format!("a cluster that tests share: {error:#}")));
        for problem in &problems {
            println!("  {problem}");
        }
        for (name, words) in &results.failures {
            let words = if words.is_empty() { "  what it said is above\n" } else { words.as_str() };
            println!("\n{name} failed:\n{words}");
        }
        println!("after {} s", began.elapsed().as_secs());
        println!("{} passed, {} failed, {} skipped", results.passed, results.failed, results.skipped);
        if results.failed > 0 {
            std::process::exit(101);
        }
        ensure!(problems.is_empty(), "every test passed, and there are {} problems", problems.len());
        Ok(())
    }

    async fn wanted(&self, root: &Path) -> Result<Wanted> {
        if self.changed {
            return Wanted::changed(root).await;
        }
        let option = self.names.iter().find(|name| name.starts_with('-'));
        ensure!(option.is_none(), "options stand before `--`; see `cargo xtask test --help`");
        if self.names.is_empty() && self.skip.is_empty() {
            return Ok(Wanted::All);
        }
        Ok(Wanted::Named { names: self.names.clone(), exact: self.exact, skip: self.skip.clone() })
    }

    fn variables(
        &self,
        postgres: &Postgres,
        clusters: &SharedClusters,
        wanted: &Wanted,
    ) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            (testing::POSTGRES, postgres.url()),
            (testing::POSTGRES_CA, postgres.authority().display().to_string()),
            (testing::CLUSTERS, clusters.address().display().to_string()),
        ];
        // A snapshot that differs fails with its difference, and leaves no file in the tree.
        if std::env::var_os("INSTA_UPDATE").is_none() {
            variables.push(("INSTA_UPDATE", "no".to_owned()));
        }
        if self.require_node {
            variables.push((testing::REQUIRE_NODE, "1".to_owned()));
        }
        if matches!(wanted, Wanted::Touched { .. }) {
            variables.push((STORIES.0, STORIES.1.to_owned()));
        }
        variables
    }
}

/// Runs each job at its turn.
async fn run_all(jobs: Vec<Job>, surroundings: &Surroundings) -> Result<Results> {
    let results = Mutex::new(Results::default());
    let run = async |jobs: Vec<Job>, at_once: usize| {
        let run_one = async |job: Job| {
            let ended = surroundings.run(&job).await?;
            print!("{}", results.lock().await.add(&job, &ended));
            anyhow::Ok(())
        };
        stream::iter(jobs).map(run_one).buffer_unordered(at_once).try_collect::<()>().await
    };
    let (behind, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.turn == Turn::Behind);
    let (alone, beside): (Vec<_>, Vec<_>) = others.into_iter().partition(|job| job.turn == Turn::Alone);
    let in_front = async {
        run(beside, surroundings.jobs).await?;
        run(alone, 1).await
    };
    // What is behind takes all that is left, however many of them there are.
    tokio::try_join!(run(behind, 1), in_front)?;
    Ok(results.into_inner())
}
