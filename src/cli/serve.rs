//! `previewd serve`

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use previewd::{
    cluster::Cluster,
    github::GitHub,
    http::{self, HttpState},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Global, app};

/// Serve MCP and webhooks over HTTP, and run the engine
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port of the HTTP server [default: listen of the configuration]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Serve only: another process works on the environments
    #[arg(long)]
    pub no_engine: bool,
}

pub async fn run(Args { listen, no_engine }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start()?;
    config.require_webhook_secrets()?;
    let store = app::open_store(&config).await?;
    let cluster = Cluster::new(config.kubernetes.clone()).await?;
    let github = GitHub::new(&config.github)?;

    let address = listen.unwrap_or(config.listen);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let stop = CancellationToken::new();
    let engine = if no_engine { None } else { Some(app::engine(&config, &store, &cluster, &github)?) };
    let engine = engine.map(|engine| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let outcome = engine.run(stop.clone()).await;
            // Serving goes on only with an engine: whoever looks at a server must be able to trust what it shows.
            stop.cancel();
            outcome
        })
    });
    let service = app::service(&config, &store, Some(cluster.clone()), Some(github.clone()));
    let previews = app::previews(&config, &store, &cluster)?;
    let router = http::router(HttpState::of(&config, service, store, Some(cluster), Some(github), previews));
    info!(address = %listener.local_addr()?, "serving");
    tokio::spawn(stop_on_signal(stop.clone()));
    http::serve(listener, router, stop.clone()).await?;

    stop.cancel();
    if let Some(engine) = engine {
        engine.await??;
    }
    info!("ended");
    Ok(ExitCode::SUCCESS)
}

async fn stop_on_signal(stop: CancellationToken) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    info!("asked to end");
    stop.cancel();
}
