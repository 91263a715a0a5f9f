//! The clusters that tests share, each started when the first test asks for it: one that runs pods, and one of API server
//! and controllers alone.
//!
//! `cargo xtask test` owns them, and offers them to the tests' processes on a socket: a line `node` or `api` is answered
//! with the cluster's folder once it is up, or with what is wrong.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::OnceCell,
};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{LocalCluster, Options, postgres_image, sample_image_of_any_commit};

/// Set by `cargo xtask test` to the path of its socket.
pub const CLUSTERS: &str = "XTASK_TEST_CLUSTERS";

/// The sample application without the commit that its other images have in them: the page names the one it was given,
/// so that one image does for every commit. The node has it.
pub const SHARED_IMAGE: &str = "registry.localhost/shop:any-commit";
/// The same as an image that wants to be root.
pub const SHARED_ROOT_IMAGE: &str = "registry.localhost/shop:root";

const NODE: &str = "node";
const API: &str = "api";

/// The owner of the clusters. Dropping it ends them.
pub struct SharedClusters {
    address: PathBuf,
    clusters: Arc<Clusters>,
    // Before the folder goes.
    server: AbortOnDropHandle<()>,
    _folder: TempDir,
}

#[derive(Default)]
struct Clusters {
    node: OnceCell<Result<LocalCluster, String>>,
    api: OnceCell<Result<LocalCluster, String>>,
}

impl SharedClusters {
    /// Waits for tests in the background, and starts what they ask for.
    ///
    /// # Errors
    /// If there can be no socket.
    pub fn offer() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("previewd-clusters-").tempdir()?;
        let address = folder.path().join("socket");
        let listener = UnixListener::bind(&address).context("cannot offer clusters to tests")?;
        let clusters = Arc::<Clusters>::default();
        let shared = clusters.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                // Err: the test that asked has ended.
                tokio::spawn(async move { shared.answer(stream).await.ok() });
            }
        });
        Ok(Self { address, clusters, server: AbortOnDropHandle::new(server), _folder: folder })
    }

    /// The socket.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// Ends what was started.
    ///
    /// # Errors
    /// If something of it had ended before, or could not be removed.
    pub async fn end(self) -> Result<()> {
        let Self { address: _, clusters, server, _folder } = self;
        server.abort();
        // Err: it was aborted.
        let _ = server.await;
        // A start that nobody awaits any more ends with the process.
        let Some(Clusters { node, api }) = Arc::into_inner(clusters) else { return Ok(()) };
        for cluster in [node, api].into_iter().filter_map(OnceCell::into_inner).flatten() {
            let checked = cluster.check();
            cluster.shutdown().await?;
            checked?;
        }
        Ok(())
    }
}

impl Clusters {
    async fn answer(self: Arc<Self>, stream: UnixStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        let mut asked = String::new();
        stream.read_line(&mut asked).await?;
        let has_node = asked.trim() == NODE;
        let cell = if has_node { &self.node } else { &self.api };
        let start = async || Box::pin(start(has_node)).await.map_err(|error| format!("{error:#}"));
        let answer = match cell.get_or_init(start).await {
            Ok(cluster) => format!("up {}", cluster.folder().display()),
            Err(error) => format!("not up: {error}"),
        };
        // Not kept until the client is gone: the owner may end them by then.
        drop(self);
        Ok(stream.write_all(answer.as_bytes()).await?)
    }
}

/// The cluster that every test uses at the same time, started by this process where no other offers one.
///
/// # Errors
/// If it does not start.
pub async fn shared_cluster(has_node: bool) -> Result<LocalCluster> {
    let Some(address) = std::env::var_os(CLUSTERS) else { return Box::pin(start(has_node)).await };
    let mut stream = UnixStream::connect(&address).await.context("nobody offers clusters")?;
    stream.write_all(format!("{}\n", if has_node { NODE } else { API }).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.strip_prefix("up ") {
        Some(folder) => LocalCluster::join(Path::new(folder)),
        None => bail!("the cluster that tests share is {answer}"),
    }
}

async fn start(has_node: bool) -> Result<LocalCluster> {
    if !has_node {
        return LocalCluster::start(Options::api_only("shared-api")).await;
    }
    let cluster = LocalCluster::start(Options::with_node("shared")).await?;
    let images = tokio::task::spawn_blocking(|| {
        let sample = sample_image_of_any_commit(SHARED_IMAGE)?;
        let mut root = sample.clone();
        root.name = SHARED_ROOT_IMAGE.to_owned();
        root.user = "0".to_owned();
        anyhow::Ok([sample, root, postgres_image()?])
    });
    for image in images.await?? {
        cluster.import_image(&image).await?;
    }
    Ok(cluster)
}
