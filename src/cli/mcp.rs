//! `previewd mcp`

use std::process::ExitCode;

use anyhow::Context;
use previewd::{
    cluster::Cluster,
    config::Config,
    github::GitHub,
    mcp,
    store::{Interface, Store},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Global, app, client::identity};

/// Speak MCP over stdio
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Never start an engine, not even where no other process runs one
    #[arg(long)]
    pub no_engine: bool,
}

pub async fn run(Args { no_engine }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start_here()?;
    let store = app::open_store(&config).await?;
    let identity = identity(&config, &store, Interface::Mcp).await?;
    // Reads are answered from the database: without a cluster or GitHub only logs and the engine are missing.
    let cluster = match Cluster::new(config.kubernetes.clone()).await {
        Ok(cluster) => Some(cluster),
        Err(error) => {
            warn!(%error, "no cluster: logs cannot be read, and no engine runs here");
            None
        }
    };

    let stop = CancellationToken::new();
    let engine = cluster.clone().filter(|_| !no_engine).map(|cluster| {
        let (config, store, stop) = (config.clone(), store.clone(), stop.clone());
        tokio::spawn(async move { run_where_none_lives(&config, &store, &cluster, stop).await })
    });
    let github = GitHub::new(&config.github).ok();
    let service = app::service(&config, &store, cluster, github, app::teams(&config));
    let served = mcp::serve_stdio(service, identity).await;
    stop.cancel();
    if let Some(engine) = engine
        && let Err(error) = engine.await?
    {
        warn!(error = format!("{error:#}"), "the engine did not work");
    }
    served.map(|()| ExitCode::SUCCESS)
}

/// Runs an engine unless another process has one. The first answer to the client does not wait for any of this.
async fn run_where_none_lives(
    config: &Config,
    store: &Store,
    cluster: &Cluster,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if store.has_live_engine().await? {
        return Ok(());
    }
    let github = GitHub::new(&config.github).context("no access to GitHub: no engine runs here")?;
    app::engine(config, store, cluster, &github, app::teams(config))?.run(stop).await
}
