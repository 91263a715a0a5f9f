//! `previewd repair`

use std::process::ExitCode;

use anyhow::Context;
use previewd::{cluster::Cluster, engine::Sweep, github::GitHub};

use super::{Global, app, output::print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing: say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(Args { dry_run }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start()?;
    let store = app::open_store(&config).await?;
    let cluster = Cluster::new(config.kubernetes.clone()).await?;
    let github = GitHub::new(&config.github)?;
    let engine = app::engine(&config, &store, &cluster, &github)?;
    let installation = engine.installation().await?;
    let findings = engine.repair(&installation, Sweep::whole(dry_run)).await.context("the repair was not finished")?;
    for finding in &findings {
        print(&format!("{finding}\n"))?;
    }
    print(&match (findings.len(), dry_run) {
        (0, _) => "nothing to repair\n".to_owned(),
        (count, true) => format!("{count} found, nothing changed\n"),
        (count, false) => format!("{count} found; the engine carries out the rest\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
