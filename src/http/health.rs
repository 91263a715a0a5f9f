//! Whether this process can do its work: `/readyz`.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{cluster::Cluster, github::GitHub, store::Store};

/// A probe must not wait for longer than its own timeout, and a few seconds are usual.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Whoever asks more often gets the same answer: anybody may ask, and each look costs the cluster a request.
const FRESH: Duration = Duration::from_secs(2);

pub(super) struct Health {
    store: Store,
    cluster: Option<Cluster>,
    github: Option<GitHub>,
    last: Mutex<Option<(Instant, Readiness)>>,
}

/// How each piece is. Without the database nothing can be recorded or answered; without the cluster or GitHub what
/// comes in is kept, and done later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Readiness {
    ready: bool,
    database: Piece,
    cluster: Piece,
    github: Piece,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Piece {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Health {
    pub(super) fn new(store: Store, cluster: Option<Cluster>, github: Option<GitHub>) -> Self {
        Self { store, cluster, github, last: Mutex::new(None) }
    }

    async fn readiness(&self) -> Readiness {
        // Held during the checks: whoever asks meanwhile takes the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, readiness)) = &*last
            && at.elapsed() < FRESH
        {
            return readiness.clone();
        }
        let cluster = async {
            match &self.cluster {
                Some(cluster) => check(cluster.ready()).await,
                None => Piece::not_configured(),
            }
        };
        let github = async {
            match &self.github {
                Some(github) => check(github.ready()).await,
                None => Piece::not_configured(),
            }
        };
        let (database, cluster, github) = tokio::join!(check(self.store.ping()), cluster, github);
        let readiness = Readiness { ready: database.ok, database, cluster, github };
        *last = Some((Instant::now(), readiness.clone()));
        readiness
    }
}

impl Piece {
    fn not_configured() -> Self {
        Self { ok: false, why: Some("not configured".to_owned()) }
    }
}

/// The errors of all three say what was tried, without credentials and without values.
async fn check<E: Display>(ready: impl Future<Output = Result<(), E>>) -> Piece {
    match tokio::time::timeout(CHECK_TIMEOUT, ready).await {
        Ok(Ok(())) => Piece { ok: true, why: None },
        Ok(Err(error)) => Piece { ok: false, why: Some(error.to_string()) },
        Err(_) => Piece { ok: false, why: Some(format!("no answer within {} seconds", CHECK_TIMEOUT.as_secs())) },
    }
}

pub(super) async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let readiness = health.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
