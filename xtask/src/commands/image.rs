//! `cargo xtask image`: the sample application for a cluster of your own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use xtask::cluster::sample_image_of_any_commit;

/// Write the sample application's image to an archive.
///
/// Give it to a cluster of yours with `docker load` and `docker push`, `kind load image-archive` or `ctr images import`,
/// then `cargo xtask demo --context NAME --image IMAGE`.
#[derive(Args)]
pub struct ImageArgs {
    /// The image's name with registry and tag, as the cluster's nodes will pull it.
    image: String,
    /// The archive to write.
    archive: PathBuf,
}

impl ImageArgs {
    pub async fn run(self) -> Result<()> {
        let Self { image, archive } = self;
        let content = tokio::task::spawn_blocking(move || sample_image_of_any_commit(&image)?.archive()).await??;
        std::fs::write(&archive, content).with_context(|| format!("cannot write {}", archive.display()))
    }
}
