//! `cargo xtask simulate`: stories of the engine beyond those of the test run.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use xtask::cargo::cargo;

#[derive(Args)]
pub struct SimulateArgs {
    /// How many stories to tell
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one's seed; the others follow it
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Compile for speed first, which takes as long as 2,000 stories do, and tells all of them in half the time
    #[arg(long)]
    optimized: bool,
    /// Print everything that happens in them
    #[arg(long)]
    tell: bool,
    /// Have the engine do this wrong, as `LostWake` (src/faults.rs), and tell stories until one finds it
    #[arg(long, value_name = "NAME")]
    fault: Option<String>,
}

impl SimulateArgs {
    /// Ends the process with the exit code of `cargo test` where that is not 0.
    pub fn run(self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in a folder of the repository")?;
        let mut command = cargo();
        command.args(["test", "--workspace", "--locked", "--test", "it"]);
        if self.optimized {
            command.args(["--profile", "stories"]);
        }
        command.arg("--");
        let test = match &self.fault {
            Some(fault) => {
                command.env("PREVIEWD_FAULT", fault);
                "simulation::every_deliberate_fault_is_found"
            }
            None => "simulation::every_story_ends_as_it_should",
        };
        command.args([test, "--exact", "--nocapture"]);
        command.current_dir(root);
        command.env("PREVIEWD_SEEDS", self.seeds.to_string()).env("PREVIEWD_FROM", self.from.to_string());
        // How a story ends says more than where the test that tells it panics.
        command.env("RUST_BACKTRACE", "0");
        if self.tell {
            command.env("PREVIEWD_TELL", "1");
        }
        let ended = command.status().context("cannot run cargo")?;
        if !ended.success() {
            std::process::exit(ended.code().unwrap_or(1));
        }
        Ok(())
    }
}
