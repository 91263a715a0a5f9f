//! `previewd migrate`

use std::process::ExitCode;

use anyhow::Context;
use previewd::{
    config::{DatabaseUrl, refuse_network_filesystem},
    store,
};

use super::{Global, output::print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing: fail where migrations are due
    #[arg(long)]
    check: bool,
}

pub async fn run(Args { check }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start_here()?;
    if let DatabaseUrl::Sqlite(path) = &config.database {
        refuse_network_filesystem(path)?;
    }
    let mode = if check { store::Migrate::Check } else { store::Migrate::Auto };
    let applied = store::migrate(&config.database.expose_url(), mode)
        .await
        .with_context(|| format!("cannot migrate {}", config.database))?;
    print(&match applied {
        0 => format!("{} is up to date\n", config.database),
        1 => format!("{}: 1 migration applied\n", config.database),
        count => format!("{}: {count} migrations applied\n", config.database),
    })?;
    Ok(ExitCode::SUCCESS)
}
