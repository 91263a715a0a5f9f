//! A `previewd serve` that only answers: its engine would work on what the load leaves behind.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::TcpStream, process::Child, time::sleep};
use xtask::{previewd, stand::free_port};

use super::ground::Ground;

/// A process that does not listen by then has failed.
const START: Duration = Duration::from_secs(30);

pub struct Receiver {
    child: Child,
    pub config: PathBuf,
    pub address: SocketAddr,
}

impl Receiver {
    pub async fn start(ground: &Ground, name: &str, database: &str) -> Result<Self> {
        let port = free_port()?;
        let config = ground.configure(name, database, port)?;
        let log = ground.path(&format!("{name}.log"));
        let child = previewd::command(&config)?
            .args(["--log-format", "json", "serve", "--no-engine"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start previewd")?;
        let mut receiver = Self { child, config, address: (Ipv4Addr::LOCALHOST, port).into() };
        let began = Instant::now();
        while TcpStream::connect(receiver.address).await.is_err() {
            if let Some(status) = receiver.child.try_wait()? {
                bail!("previewd serve ended ({status}): {}", std::fs::read_to_string(log)?);
            }
            ensure!(began.elapsed() < START, "previewd serve does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(receiver)
    }

    /// What a request names in its Host header.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The process, while it runs.
    pub fn id(&self) -> Result<u32> {
        self.child.id().context("previewd ended")
    }

    pub async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.id()?)?), Signal::SIGTERM)?;
        self.child.wait().await?;
        Ok(())
    }
}
