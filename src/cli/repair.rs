//! `previewd repair`

use std::process::ExitCode;

use anyhow::{Context, bail};
use previewd::{
    cluster::Cluster,
    engine::{Finding, Sweep},
    github::GitHub,
    store::{EventKind, Interface},
};

use super::{Global, app, client, output::print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing: say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(Args { dry_run }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start_here()?;
    let store = app::open_store(&config).await?;
    let identity = client::identity(&config, &store, Interface::CommandLine).await?;
    let service = app::service(&config, &store, None, None, app::teams(&config));
    service.may_repair(&identity).await?;
    let cluster = Cluster::new(config.kubernetes.clone()).await?;
    let github = GitHub::new(&config.github)?;
    let engine = app::engine(&config, &store, &cluster, &github, app::teams(&config))?;
    let installation = engine.installation().await?;
    if !dry_run {
        store.record_event(&identity.event(EventKind::RepairRequested, "everything")).await?;
    }
    let found = engine.repair_by_hand(&installation, Sweep::whole(dry_run)).await;
    let Some(findings) = found.context("the repair was not finished")? else {
        bail!("another process repairs just now; try again in a minute");
    };
    for finding in &findings {
        print(&format!("{finding}\n"))?;
    }
    print(&match (findings.len(), dry_run) {
        (0, _) => "nothing to repair\n".to_owned(),
        (count, true) => format!("{count} found, nothing changed\n"),
        (count, false) => format!("{count} found; the engine carries out the rest\n"),
    })?;
    Ok(if findings.contains(&Finding::Unfinished) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
