//! `previewd backup` and `previewd restore`

use std::{path::PathBuf, process::ExitCode};

use super::{Global, app, output::print};

/// Where a backup is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; a backup makes it, and leaves one that is there alone
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

pub async fn backup(Args { path }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start_here()?;
    let rows = app::open_store(&config).await?.backup(&path).await?;
    print(&format!("{rows} rows of {} are in {}\n", config.database, path.display()))?;
    Ok(ExitCode::SUCCESS)
}

pub async fn restore(Args { path }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start_here()?;
    let rows = app::open_store(&config).await?.restore(&path).await?;
    print(&format!("{rows} rows of {} are in {}\n", path.display(), config.database))?;
    Ok(ExitCode::SUCCESS)
}
