//! A child process with limits, that ends with everything it started.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub time: Duration,
    pub cpu_seconds: u64,
    /// Of address space.
    pub memory_bytes: u64,
    pub output_bytes: usize,
}

/// How a child failed.
#[derive(Debug)]
pub(super) enum Failure {
    NotStarted(String),
    TooSlow(Duration),
    TooLarge(usize),
    /// By a signal: one of its limits.
    Killed,
    /// With what it wrote to stderr last.
    Ended {
        said: String,
    },
}

/// How much is kept of what a child writes to stderr.
const KEPT: usize = 16 << 10;

/// Ends the whole group of a child, however the one who waits for it ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs `command` and gives what it wrote.
pub(super) async fn run(mut command: Command, limits: Limits) -> Result<Vec<u8>, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| Failure::NotStarted(error.to_string()))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let _group = Group(pid);
    for (resource, most) in [(Resource::As, limits.memory_bytes), (Resource::Cpu, limits.cpu_seconds)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        // One that ended already needs none.
        let _ = prlimit(pid, resource, limit);
    }
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let ended = async {
        let whole = async {
            let output = read(stdout, limits.output_bytes).await;
            if output.is_too_long { Err(Failure::TooLarge(limits.output_bytes)) } else { Ok(output.bytes) }
        };
        let start = async { Ok(read(stderr, KEPT).await.bytes) };
        // What it writes is read at once, so that it never waits for the other of the two to be read.
        let (output, said) = tokio::try_join!(whole, start)?;
        let status = child.wait().await.map_err(|error| Failure::NotStarted(error.to_string()))?;
        match status.code() {
            Some(0) => Ok(output),
            Some(_) => {
                let said = String::from_utf8_lossy(&said).into_owned();
                // Go ends itself where it gets no more memory.
                let is_out_of_memory =
                    ["out of memory", "cannot allocate memory"].iter().any(|word| said.contains(word));
                Err(if is_out_of_memory { Failure::Killed } else { Failure::Ended { said } })
            }
            None => Err(Failure::Killed),
        }
    };
    tokio::time::timeout(limits.time, ended).await.unwrap_or(Err(Failure::TooSlow(limits.time)))
}

struct Read {
    bytes: Vec<u8>,
    is_too_long: bool,
}

/// The first `most` bytes of a stream. What is longer is read no further: whoever writes it is about to be ended.
async fn read(stream: Option<impl AsyncRead + Unpin>, most: usize) -> Read {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(most as u64 + 1).read_to_end(&mut bytes).await;
    }
    let is_too_long = bytes.len() > most;
    bytes.truncate(most);
    Read { bytes, is_too_long }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { time: Duration::from_secs(20), cpu_seconds: 1, memory_bytes: 64 << 20, output_bytes: 1_000 };

    async fn shell(script: &str, limits: Limits) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, limits).await
    }

    #[tokio::test]
    async fn a_child_is_held_to_its_limits() {
        assert_eq!(shell("echo well", LIMITS).await.unwrap(), b"well\n");
        assert!(matches!(shell("echo no >&2; exit 3", LIMITS).await, Err(Failure::Ended { said }) if said == "no\n"));
        assert!(matches!(shell("while :; do echo more; done", LIMITS).await, Err(Failure::TooLarge(1_000))));
        assert!(matches!(shell("while :; do :; done", LIMITS).await, Err(Failure::Killed)));
        let short = Limits { time: Duration::from_millis(100), ..LIMITS };
        assert!(matches!(shell("sleep 60", short).await, Err(Failure::TooSlow(_))));
        let mut missing = Command::new("/nonexistent/helm");
        missing.arg("version");
        assert!(matches!(run(missing, LIMITS).await, Err(Failure::NotStarted(_))));
    }

    #[tokio::test]
    async fn what_a_child_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", file.display());
        let short = Limits { time: Duration::from_millis(500), ..LIMITS };
        assert!(matches!(shell(&script, short).await, Err(Failure::TooSlow(_))));
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let is_there = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !(state.is_empty() || state.contains(") Z "))
        };
        xtask::testing::eventually("its child is gone", Duration::from_secs(10), async || (!is_there()).then_some(()))
            .await;
    }
}
