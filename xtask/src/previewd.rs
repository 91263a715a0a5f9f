//! previewd as its users have it: a real process of the real binary, with a configuration file of its own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::cluster;

/// How long `previewd serve` may take to answer.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end when asked to.
const STOP: Duration = Duration::from_secs(30);

/// The binary beside the one that runs: `target/<profile>/previewd`. `PREVIEWD_BIN` names another.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("PREVIEWD_BIN") {
        return Ok(named.into());
    }
    let here = std::env::current_exe().context("cannot find the running program")?;
    // Tests are one folder deeper.
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join("previewd")).find(|path| path.is_file());
    found.context("previewd is not built; run `cargo build --package previewd`")
}

/// A command of previewd with nothing of ours in its environment but the path.
pub fn command(config: &Path) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.env_clear().arg("--config").arg(config).kill_on_drop(true);
    for kept in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    Ok(command)
}

/// Runs a command of previewd to its end. Gives what it printed; an error holds what it complained about.
pub async fn run(config: &Path, arguments: &[&str]) -> Result<String> {
    let output = command(config)?.args(arguments).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("previewd {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Creates a token; gives the token itself.
pub async fn create_token(config: &Path, subject: &str, role: &str, teams: &[&str]) -> Result<String> {
    let mut arguments = vec!["token", "create", "--subject", subject, "--role", role, "--output", "json"];
    for team in teams {
        arguments.extend(["--team", team]);
    }
    let printed: Value = serde_json::from_str(&run(config, &arguments).await?)?;
    Ok(printed["token"].as_str().context("`previewd token create` printed no token")?.to_owned())
}

/// A running `previewd serve`.
pub struct Server {
    child: Child,
    config: PathBuf,
    url: String,
    log: PathBuf,
}

impl Server {
    /// Starts `previewd serve` and waits until it answers at `url`. Its log is appended to `log`.
    pub async fn start(config: &Path, url: &str, log: &Path) -> Result<Self> {
        let mut server = Self::spawn(config, url, log)?;
        let deadline = Instant::now() + START;
        let http = crate::web::plain_client();
        loop {
            if let Some(status) = server.child.try_wait()? {
                bail!("previewd serve ended ({status}):\n{}", server.last_of_log());
            }
            let answered = http.get(format!("{url}/healthz")).timeout(Duration::from_secs(1)).send().await;
            if answered.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(server);
            }
            if Instant::now() > deadline {
                bail!("previewd serve did not answer within {} s:\n{}", START.as_secs(), server.last_of_log());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts `previewd serve` without waiting for it.
    pub fn spawn(config: &Path, url: &str, log: &Path) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log)?;
        let child = command(config)?
            .args(["--log-format", "json", "serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .context("cannot start previewd")?;
        Ok(Self { child, config: config.to_owned(), url: url.to_owned(), log: log.to_owned() })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a crash does.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill previewd")
    }

    /// Stops it where it stands, as a machine that is suspended does, until [`Server::go_on`].
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().context("previewd has ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal).context("cannot signal previewd")
    }

    /// What ends it as a crash does, from wherever a test has to: it returns when nothing of the process runs any more.
    /// Later calls do nothing.
    pub fn crash_switch(&self) -> impl Fn() + Send + Sync + 'static {
        let process = Mutex::new(self.child.id());
        move || {
            let Some(id) = process.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            cluster::crash_process(id);
        }
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Asks it to end, and waits.
    pub async fn stop(mut self) -> Result<()> {
        if self.child.id().is_some() {
            self.signal(Signal::SIGTERM)?;
            tokio::time::timeout(STOP, self.child.wait()).await.context("previewd did not end when asked to")??;
        }
        Ok(())
    }

    /// Its log, one JSON object a line.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn last_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}
