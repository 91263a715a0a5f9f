//! Resident memory, idle.

use std::time::Duration;

use anyhow::{Context, Result};
use xtask::stand::{Settings, Stand};

use super::{figure::Figure, ground::Ground, stdio::Session};

/// What starting needed is given back by then, or never.
const IDLE: Duration = Duration::from_secs(5);

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let kubeconfig = ground.cluster().await?;
    let mut stand = Stand::prepare(kubeconfig, Settings::default()).await?;

    let mut session = Session::start(&stand.config, &[])?;
    session.initialize().await?;
    session.list_tools().await?;
    tokio::time::sleep(IDLE).await;
    let stdio = figure("resident, previewd mcp", session.id()?)?;
    session.end().await?;

    stand.start_previewd().await?;
    tokio::time::sleep(IDLE).await;
    let id = stand.server.as_ref().and_then(xtask::previewd::Server::id).context("previewd ended")?;
    let serve = figure("resident, previewd serve", id)?;
    stand.stop().await?;
    Ok(vec![stdio, serve])
}

fn figure(name: &str, process: u32) -> Result<Figure> {
    let [whole, own] = ["VmRSS", "RssAnon"].map(|field| megabytes(process, field));
    let note = format!("{:.1} of it not from files; with engine; kubernetes-mcp-server 0.0.67 (npm): 63", own?);
    Ok(Figure::new(name, whole?, "MB").at_most(21.0).note(note))
}

/// A field of `/proc/PROCESS/status`, in MB (10^6 bytes).
pub fn megabytes(process: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("the process ended")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")).context("no such field")?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0 / 1e6)
}
