//! A PostgreSQL server of its own for the tests, from Debian's package.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User, chown},
};
use tempfile::TempDir;

use crate::cluster::{
    certificates::Authority,
    requirements::{find, install},
};

/// Where Debian keeps each version's programs, which it leaves out of PATH.
const DEBIAN: &str = "/usr/lib/postgresql";
const DIRECTORY: &str = "previewd-postgres-";
const LOCK: &str = "owner.lock";
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// What differs from a server that keeps data: nothing here outlives the tests, so nothing waits for the disk. The log
/// is read by tests that look at query plans.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "max_connections=300",
    "ssl=on",
    "unix_socket_directories=",
    "logging_collector=on",
    "log_destination=jsonlog",
    "log_rotation_age=0",
    "log_rotation_size=0",
];

/// A running server. Dropping it ends it and removes its data.
pub struct Postgres {
    server: Child,
    port: u16,
    /// The file with the authority that signed the server's certificate.
    authority: PathBuf,
    directory: TempDir,
    /// Held for as long as the owner lives.
    _lock: File,
}

impl Postgres {
    /// Starts a server with empty data on a free port of the loopback address. As root on Debian and its kin the package
    /// is installed where it is missing. Blocks.
    ///
    /// The server gets SIGINT when the thread that calls this ends, so that it never outlives its owner.
    ///
    /// # Errors
    /// Where there is no PostgreSQL, with the way to get it; and where it does not start, with the end of its log.
    pub fn start() -> Result<Self> {
        let programs = find_programs()?;
        remove_what_the_killed_left()?;
        let directory = tempfile::Builder::new().prefix(DIRECTORY).tempdir()?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.lock()?;
        let data = directory.path().join("data");
        let account = account()?;
        if let Some(account) = &account {
            chown(directory.path(), Some(account.uid), Some(account.gid))?;
        }

        let initialized = as_account(account.as_ref(), &programs.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(directory.path())
            .output()
            .context("cannot run initdb through setpriv")?;
        ensure!(initialized.status.success(), "initdb failed: {}", String::from_utf8_lossy(&initialized.stderr).trim());

        let authority = Authority::new(directory.path().to_owned())?;
        let identity = authority.issue("server", "postgres", None, &["127.0.0.1".to_owned()])?;
        if let Some(account) = &account {
            chown(&identity.key_file, Some(account.uid), Some(account.gid))?;
            chown(&identity.certificate_file, Some(account.uid), Some(account.gid))?;
        }

        let port = crate::stand::free_port()?;
        let log = File::create(directory.path().join("start.log"))?;
        let mut command = as_account(account.as_ref(), &programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for (setting, file) in [("ssl_cert_file", &identity.certificate_file), ("ssl_key_file", &identity.key_file)] {
            command.arg("-c").arg(format!("{setting}={}", file.display()));
        }
        let server = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; the owner ends its server itself.
            .process_group(0)
            .spawn()
            .context("cannot start postgres through setpriv")?;
        let mut postgres = Self { server, port, authority: authority.certificate_file(), directory, _lock: lock };
        postgres.await_ready(&programs.join("pg_isready"))?;
        Ok(postgres)
    }

    /// The server's address, for its superuser; a slash and a database's name go after it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// The file with the authority that signed the server's certificate, for whoever connects with TLS.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    fn await_ready(&mut self, pg_isready: &Path) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.server.try_wait()? {
                let log = fs::read_to_string(self.directory.path().join("start.log")).unwrap_or_default();
                bail!("PostgreSQL ended at once ({status}): {}", log.trim());
            }
            let port = self.port.to_string();
            let asked = Command::new(pg_isready).args(["--quiet", "-h", "127.0.0.1", "-p", &port]).status()?;
            if asked.success() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "PostgreSQL took no connection within {} s", READY_WITHIN.as_secs());
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its fast shutdown: it ends its own processes, whatever they do.
        if let Ok(pid) = i32::try_from(self.server.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        while Instant::now() < deadline && matches!(self.server.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Removes the directories of owners that were killed. Their servers have ended with them.
fn remove_what_the_killed_left() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())?.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(DIRECTORY);
        if is_ours && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The directory of the newest version's programs.
pub(crate) fn find_programs() -> Result<PathBuf> {
    if let Some(programs) = installed_programs() {
        return Ok(programs);
    }
    if Uid::effective().is_root() && find("apt-get").is_some() {
        install(&["postgresql"])?;
        if let Some(programs) = installed_programs() {
            return Ok(programs);
        }
    }
    bail!(
        "the tests need PostgreSQL's server programs (initdb, postgres), version 15 or newer, in {DEBIAN} or in PATH: \
         `apt-get update && apt-get install postgresql`"
    )
}

fn installed_programs() -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = debian.filter(|path| path.join("bin/initdb").is_file()).max_by_key(|path| version(path));
    newest.map(|path| path.join("bin")).or_else(|| Some(find("initdb")?.parent()?.to_owned()))
}

/// Whom the server runs as: it refuses root. None: whoever we are.
fn account() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")
}

fn as_account(account: Option<&User>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = account {
        let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--clear-groups".to_owned()];
        command.args(ids);
    }
    command.args(["--pdeathsig", "INT", "--"]).arg(program);
    command
}
