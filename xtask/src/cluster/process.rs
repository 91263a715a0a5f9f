//! Child processes that cannot outlive their owner, with their logs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Directories of system tools that a plain user's PATH often lacks.
const SYSTEM_DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many lines of a component's log an error about it shows.
const SHOWN_LOG_LINES: usize = 15;

/// The component that holds a node's namespaces.
pub(super) const NODE: &str = "node";

type Spawn = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel sends a parent-death signal when the *thread* that spawned the child ends. A test's or a runtime's thread
/// ends long before the process does, so every child is spawned on this one, which never ends.
static SPAWNER: LazyLock<mpsc::Sender<Spawn>> = LazyLock::new(|| {
    let (requests, inbox) = mpsc::channel::<Spawn>();
    std::thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        })
        .expect("a thread for spawning children starts");
    requests
});

/// What a component of the cluster runs as.
pub(super) struct Launch<'a> {
    pub name: &'static str,
    pub program: &'a Path,
    pub args: Vec<String>,
    /// The first process of the node whose namespaces it joins; none for the machine's own.
    pub inside: Option<u32>,
}

/// A running part of the cluster. Dropping it does not end it; [`Component::end`] does.
pub(super) struct Component {
    pub name: &'static str,
    child: Child,
    log: PathBuf,
    /// Whether it is in a node, or the node itself.
    in_node: bool,
}

impl Component {
    /// Starts it with its output in `directory/logs/NAME.log`, and records it in `directory/processes` for whoever
    /// cleans up after a killed owner.
    pub fn start(directory: &Path, launch: Launch<'_>) -> Result<Component> {
        let Launch { name, program, args, inside } = launch;
        let log = directory.join("logs").join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(init) = inside {
            command.args(enter_node(init));
        }
        command
            .arg(program)
            .args(args)
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal goes to the whole group; the owner ends its children itself.
            .process_group(0);
        let (answer, started) = mpsc::channel();
        SPAWNER.send((command, answer)).context("the spawning thread is gone")?;
        let child = started.recv()?.with_context(|| format!("cannot start {name} through setpriv"))?;
        record_process(directory, child.id())?;
        Ok(Component { name, child, log, in_node: inside.is_some() || name == NODE })
    }

    /// The process id of what was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the exit status and the end of the log, if it is no longer running.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!(
                "{} of the local cluster ended by itself ({status}); the end of its log:\n{}",
                self.name,
                last_lines(&self.log, SHOWN_LOG_LINES)
            )),
        }
    }

    /// Ends it at once: nothing of a cluster outlives it, so no component has anything to save. One inside a node that
    /// was ended already is given a moment, so that who holds it collects it.
    pub fn end(&mut self) {
        if self.in_node {
            let deadline = Instant::now() + Duration::from_secs(2);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words that run a command inside the node's network, mounts and process table.
pub(super) fn enter_node(init: u32) -> Vec<String> {
    ["nsenter", "--target", &init.to_string(), "--net", "--mount", "--pid", "--"].map(String::from).to_vec()
}

/// PATH with the system's own directories added.
pub(super) fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) => format!("{path}:{SYSTEM_DIRECTORIES}"),
        Err(_) => SYSTEM_DIRECTORIES.to_string(),
    }
}

/// Runs a tool to its end; the error carries what it wrote.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("{shown} failed ({}): {}", output.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn record_process(directory: &Path, pid: u32) -> Result<()> {
    let Some(started) = start_time(pid) else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(directory.join("processes"))?;
    Ok(writeln!(file, "{pid} {started}")?)
}

/// Kills the processes that a dead owner recorded. The start time tells them from later ones of the same number.
pub(super) fn end_recorded_processes(directory: &Path) {
    let recorded = fs::read_to_string(directory.join("processes")).unwrap_or_default();
    for line in recorded.lines() {
        let Some((pid, started)) = line.split_once(' ') else { continue };
        let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { continue };
        if start_time(pid) == Some(started) {
            kill_process(pid);
        }
    }
}

/// SIGKILL by number; a process that is gone is no error.
pub(super) fn kill_process(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// SIGKILL by number, and a wait until nothing of the process runs: what is left is for its parent to collect.
pub(crate) fn crash_process(pid: u32) {
    kill_process(pid);
    let runs = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit_once(')')?.1.split_whitespace().next()?.to_owned();
        (state != "Z" && state != "X").then_some(())
    };
    while runs().is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// When a process started, in clock ticks since boot: with its number it names one process for good.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command's name in parentheses and may hold anything; starttime is the 22nd.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn last_lines(file: &Path, count: usize) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
