//! `cargo xtask bench`: how fast previewd is, measured from outside on whole processes. Goals are shown beside the
//! figures and fail nothing: figures move with the machine.

mod applied;
mod calls;
mod charts;
mod cold_start;
mod dashboard;
mod engine;
mod figure;
mod ground;
mod load;
mod logs;
mod memory;
mod pull_requests;
mod receiver;
mod router;
mod sampling;
mod stdio;
mod tools;
mod webhooks;

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::process::Command;

use figure::{Figure, table};
use ground::Ground;
use xtask::cargo::cargo;

/// Measure previewd's release build and print a table. All load goes to this machine's loopback addresses.
#[derive(Args)]
pub struct BenchArgs {
    /// Write every figure with its samples to this file, as JSON [default: target/bench.json]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Measure only groups with this in their names: cold_start, memory, tools, calls, webhooks, applied,
    /// charts, router, engine, dashboard, logs, sampling.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Say nothing but the table.
    #[arg(long)]
    quiet: bool,
    /// The build to measure.
    #[arg(long, value_enum, default_value_t = Profile::Release, hide = true)]
    profile: Profile,
    /// Measure without building first; this program is itself a part of the build.
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    Release,
    Dev,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    /// The folder of its programs in the target folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Group {
    ColdStart,
    Tools,
    Calls,
    Webhooks,
    Memory,
    Applied,
    Charts,
    Router,
    Engine,
    Dashboard,
    Sampling,
    Logs,
}

impl Group {
    /// What needs no cluster comes first: a cluster takes a part of the processors.
    const ALL: [Self; 12] = [
        Self::ColdStart,
        Self::Tools,
        Self::Calls,
        Self::Webhooks,
        Self::Dashboard,
        Self::Sampling,
        Self::Memory,
        Self::Applied,
        Self::Charts,
        Self::Router,
        Self::Logs,
        Self::Engine,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ColdStart => "cold_start",
            Self::Tools => "tools",
            Self::Calls => "calls",
            Self::Webhooks => "webhooks",
            Self::Memory => "memory",
            Self::Applied => "applied",
            Self::Charts => "charts",
            Self::Router => "router",
            Self::Engine => "engine",
            Self::Dashboard => "dashboard",
            Self::Sampling => "sampling",
            Self::Logs => "logs",
        }
    }

    async fn measure(self, ground: &mut Ground) -> Result<Vec<Figure>> {
        match self {
            Self::ColdStart => cold_start::measure(ground).await,
            Self::Tools => tools::measure(ground).await,
            Self::Calls => Box::pin(calls::measure(ground)).await,
            Self::Webhooks => Box::pin(webhooks::measure(ground)).await,
            Self::Memory => Box::pin(memory::measure(ground)).await,
            Self::Applied => Box::pin(applied::measure(ground)).await,
            Self::Charts => Box::pin(charts::measure(ground)).await,
            Self::Router => Box::pin(router::measure()).await,
            Self::Engine => Box::pin(engine::measure(ground)).await,
            Self::Dashboard => Box::pin(dashboard::measure(ground)).await,
            Self::Sampling => Box::pin(sampling::measure(ground)).await,
            Self::Logs => Box::pin(logs::measure()).await,
        }
    }
}

impl BenchArgs {
    pub async fn run(self) -> Result<()> {
        let programs = std::env::current_exe().context("cannot find the running program")?;
        let target = programs.ancestors().nth(2).context("this program is not in cargo's target folder")?.to_owned();
        if self.built { self.measure(&target).await } else { self.build(&target).await }
    }

    /// Builds, and goes on as the built program: the load must not come from a slower build than the one it measures.
    async fn build(&self, target: &Path) -> Result<()> {
        let mut build = Command::from(cargo());
        build.args(["build", "--locked", "--bins", "--profile", self.profile.name()]);
        if self.quiet {
            build.arg("--quiet");
        }
        ensure!(build.status().await?.success(), "previewd does not build");
        let mut built = std::process::Command::new(target.join(self.profile.folder()).join("xtask"));
        Err(built.args(std::env::args_os().skip(1)).arg("--built").exec()).context("cannot run the built program")
    }

    async fn measure(&self, target: &Path) -> Result<()> {
        let asked = |group: &Group| self.filter.as_ref().is_none_or(|filter| group.name().contains(filter.as_str()));
        let groups: Vec<Group> = Group::ALL.into_iter().filter(asked).collect();
        ensure!(!groups.is_empty(), "no group has that in its name: {}", Group::ALL.map(Group::name).join(", "));

        let mut ground = Ground::new(target)?;
        let (mut figures, mut failed) = (Vec::new(), Vec::new());
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        for group in groups {
            if !self.quiet {
                eprintln!("measuring {} …", group.name());
            }
            let measured = tokio::select! {
                measured = group.measure(&mut ground) => measured,
                _ = &mut interrupted => bail!("interrupted"),
            };
            match measured {
                Ok(found) => figures.extend(found),
                // The other groups' figures are worth having.
                Err(error) => failed.push(format!("{}: {error:#}", group.name())),
            }
        }
        ground.shutdown().await?;

        print!("{}", table(&figures));
        if self.profile == Profile::Dev {
            println!("A debug build: several times slower than the one that people run.");
        }
        self.write_json(target, &figures, &failed)?;
        ensure!(failed.is_empty(), "not measured:\n  {}", failed.join("\n  "));
        Ok(())
    }

    fn write_json(&self, target: &Path, figures: &[Figure], failed: &[String]) -> Result<()> {
        let path = self.json.clone().unwrap_or_else(|| target.join("bench.json"));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let whole = json!({
            "tool": { "name": "cargo xtask bench", "version": env!("CARGO_PKG_VERSION") },
            "profile": self.profile.name(),
            "cores": cores,
            "figures": figures,
            "failed": failed,
        });
        std::fs::write(&path, format!("{whole:#}\n")).with_context(|| format!("cannot write {}", path.display()))
    }
}
