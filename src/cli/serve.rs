//! `previewd serve`

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use previewd::{
    cluster::Cluster,
    config::Unnamed,
    github::GitHub,
    http::{self, HttpState},
    identity::{Issuer, Teams},
    sessions::Sessions,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Global, app};

/// How often the configuration is looked at for teams that were changed.
const RELOAD: Duration = Duration::from_secs(5);

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
    let config = global.start(Unnamed::InTheWorkingDirectory)?;
    config.require_webhook_secrets()?;
    let store = app::open_store(&config).await?;
    let cluster = Cluster::new(config.kubernetes.clone()).await?;
    let github = GitHub::new(&config.github)?;

    let address = listen.unwrap_or(config.listen);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let stop = CancellationToken::new();
    let (teams, teams_in_force) = watch::channel(Arc::new(config.teams.clone()));
    let engine =
        if no_engine { None } else { Some(app::engine(&config, &store, &cluster, &github, teams_in_force.clone())?) };
    let engine = engine.map(|engine| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let outcome = engine.run(stop.clone()).await;
            // Serving goes on only with an engine: whoever looks at a server must be able to trust what it shows.
            stop.cancel();
            outcome
        })
    });
    let (of_cluster, of_github) = (Some(cluster.clone()), Some(github.clone()));
    let service = app::service(&config, &store, of_cluster, of_github, teams_in_force.clone());
    let authenticator = app::authenticator(&config, &store, teams_in_force)?;
    tokio::spawn(reload_rights(global.clone(), teams, authenticator.issuer().cloned(), stop.clone()));
    let sessions = Sessions::new(store.clone(), authenticator);
    let previews = app::previews(&config, &store, &cluster, &sessions)?;
    let state = HttpState::of(&config, service, store, Some(cluster), Some(github), sessions, previews)?;
    let router = http::router(state);
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

/// Takes teams of the configuration, and what it makes of an issuer's claims, that were changed while previewd runs; all
/// else of it counts from the next start on. One that is not valid changes nothing.
async fn reload_rights(
    global: Global,
    teams: watch::Sender<Arc<Teams>>,
    issuer: Option<Issuer>,
    stop: CancellationToken,
) {
    let mut complaint = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RELOAD) => {}
        }
        let global = global.clone();
        let Ok(loaded) = tokio::task::spawn_blocking(move || global.load(Unnamed::InTheWorkingDirectory)).await else {
            continue;
        };
        match loaded {
            Ok(config) => {
                complaint.clear();
                if issuer.as_ref().is_some_and(|issuer| issuer.read_claims_by(config.oidc)) {
                    info!("what an issuer's claims mean was changed");
                }
                teams.send_if_modified(|in_force| {
                    let is_news = **in_force != config.teams;
                    if is_news {
                        info!(teams = config.teams.len(), "the teams were changed");
                        *in_force = Arc::new(config.teams);
                    }
                    is_news
                });
            }
            // Once for each that is wrong in its own way, not every few seconds.
            Err(error) if error.to_string() != complaint => {
                complaint = error.to_string();
                warn!(
                    error = complaint,
                    "the configuration was changed and is not valid; teams and roles stay as they were"
                );
            }
            Err(_) => {}
        }
    }
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
