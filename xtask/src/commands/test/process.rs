//! One process of tests, from its start to its end.

use std::{
    fs::File,
    io::{Read, Seek},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{process::Command, time::timeout};

use super::{
    order::{Job, Turn},
    wanted::Wanted,
};

/// Longer than any test takes on a slow machine: one that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// How libtest is told how many tests to run at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// What all processes are started with.
pub struct Surroundings {
    pub variables: Vec<(&'static str, String)>,
    pub wanted: Wanted,
    /// How many run at the same time.
    pub jobs: usize,
    /// What they print is shown at once, and not kept.
    pub shows_at_once: bool,
}

/// How a process ended.
pub struct Ended {
    pub passed: bool,
    /// It took longer than a test may, and was killed.
    pub hung: bool,
    pub took: Duration,
    /// What it printed.
    pub said: String,
}

/// A process and all that it started and left behind, which end with this value.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Err: nothing of it is left.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

impl Surroundings {
    /// Runs a job to its end.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn run(&self, job: &Job) -> Result<Ended> {
        let mut command = match job.turn {
            Turn::Behind => {
                let mut command = Command::new("nice");
                command.args(["-n", "19"]).arg(&job.program.path);
                command
            }
            Turn::Beside | Turn::Alone => Command::new(&job.program.path),
        };
        // As cargo starts them, and not with what it gave this program.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name == THREADS) {
                command.env_remove(name);
            }
        }
        command.current_dir(&job.program.folder).env("CARGO_MANIFEST_DIR", &job.program.folder);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        match &job.test {
            // A single test prints its name only when it is over, where it could be one of two.
            Some(test) => command.args(["--exact", test, "--nocapture"]).env(THREADS, "2"),
            None => command.args(self.wanted.arguments()).env(THREADS, self.jobs.to_string()),
        };
        let mut output = tempfile::tempfile().context("cannot make a temporary file")?;
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        if !self.shows_at_once {
            command.stdout(output.try_clone()?).stderr(output.try_clone()?);
        }
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run {}", job.program.path.display()))?;
        let id = child.id().context("it was only just started")?;
        let group = Group(Pid::from_raw(i32::try_from(id)?));
        let ended = timeout(LIMIT, child.wait()).await;
        drop(group);
        let took = began.elapsed();
        let said = read(&mut output)?;
        Ok(match ended {
            Ok(status) => Ended { passed: status?.success(), hung: false, took, said },
            Err(_) => Ended { passed: false, hung: true, took, said },
        })
    }
}

fn read(output: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
