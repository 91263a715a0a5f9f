//! What measuring the environments costs the process that does it.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use xtask::{
    cluster::bare_kubeconfig,
    github::NewPullRequest,
    previewd::Server,
    stand::{Settings, Stand},
};

use super::{figure::Figure, ground::Ground};

const REPOSITORY: &str = "acme/shop";
const ENVIRONMENTS: usize = 1_000;
/// Three samples.
const WATCHED: Duration = Duration::from_secs(95);
/// Of a processor's seconds, in which the kernel counts.
const TICKS: f64 = 100.0;

/// A cluster that knows who it is and what pods use, and nothing else.
async fn cluster(found: Option<Value>) -> Result<String> {
    async fn answer(State(found): State<Option<Value>>, uri: Uri) -> Response {
        if uri.path() == "/api/v1/namespaces/kube-system" {
            let itself =
                json!({ "metadata": { "name": "kube-system", "uid": "f4d5c6a7-0000-4000-8000-000000000001" } });
            return Json(itself).into_response();
        }
        let absent =
            json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound" });
        match found.filter(|_| uri.path() == "/apis/metrics.k8s.io/v1beta1/pods") {
            Some(found) => Json(found).into_response(),
            None => (StatusCode::NOT_FOUND, Json(absent)).into_response(),
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer).with_state(found)).await });
    Ok(address)
}

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let without = seconds(ground, "without", false).await?;
    let with = seconds(ground, "with", true).await?;
    let per_sample = (with - without).max(0.0) * 1e3 / (WATCHED.as_secs_f64() / 30.0).floor();
    let note = format!(
        "processor time a sample, over {} s: {with:.2} s with a metrics API of {ENVIRONMENTS} pods, {without:.2} s without",
        WATCHED.as_secs()
    );
    Ok(vec![Figure::new(format!("sampling {ENVIRONMENTS} environments"), per_sample, "ms").note(note)])
}

/// Processor time of a server with so many environments at rest.
async fn seconds(ground: &Ground, name: &str, measured: bool) -> Result<f64> {
    let database = ground.path(&format!("sampling-{name}.db"));
    let kubeconfig = ground.path(&format!("sampling-{name}.kubeconfig"));
    let settings = Settings { database: Some(format!("sqlite:{}", database.display())), ..Settings::default() };
    std::fs::write(&kubeconfig, bare_kubeconfig("http://127.0.0.1:1"))?;
    let mut stand = Stand::prepare(&kubeconfig, settings).await?;
    stand.github.create_repository("acme", "shop")?;
    stand.github.hold_deliveries();
    stand.start_previewd().await?;
    for number in 0..ENVIRONMENTS {
        let new = NewPullRequest::new("A change", &format!("change-{number}")).from_fork("stranger").file("a", "b");
        stand.github.open_pull_request(REPOSITORY, new).await?;
    }
    for delivery in stand.github.take_deliveries() {
        let (status, answer) = stand.github.send(&delivery).await?;
        ensure!(status == 200, "answered with {status}: {answer}");
    }
    stand.server.take().context("previewd ended")?.stop().await?;

    // At rest, with a place each, as if they ran.
    let path = database.to_str().context("the path is no text")?.to_owned();
    let namespaces = tokio::task::spawn_blocking(move || -> Result<Vec<String>> {
        let mut connection = SqliteConnection::establish(&path)?;
        let rest = "UPDATE environments SET status = 'running', admitted_at = 1, due_at = NULL, refresh = false";
        diesel::sql_query(rest).execute(&mut connection)?;
        let rows: Vec<Name> = diesel::sql_query("SELECT namespace AS name FROM environments").load(&mut connection)?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    });
    let namespaces = namespaces.await??;
    ensure!(namespaces.len() == ENVIRONMENTS, "there are {} environments", namespaces.len());
    let usage = json!({ "usage": { "cpu": "12345678n", "memory": "34567Ki" } });
    let pods = namespaces
        .iter()
        .map(|namespace| json!({ "metadata": { "name": "app", "namespace": namespace }, "containers": [usage] }));
    let items: Value = pods.collect();
    std::fs::write(&kubeconfig, bare_kubeconfig(&cluster(measured.then(|| json!({ "items": items }))).await?))?;
    stand.start_previewd().await?;
    // What starting needs is not sampling.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let id = stand.server.as_ref().and_then(Server::id).context("previewd ended")?;
    let before = used(id)?;
    tokio::time::sleep(WATCHED).await;
    let after = used(id)?;
    stand.stop().await?;
    let path = database.to_str().context("the path is no text")?;
    let sampled = diesel::dsl::sql::<diesel::sql_types::BigInt>("(SELECT count(*) FROM usage_samples)");
    let sampled: i64 = diesel::select(sampled).get_result(&mut SqliteConnection::establish(path)?)?;
    let wanted = if measured { ENVIRONMENTS } else { 0 };
    ensure!(usize::try_from(sampled)? == wanted, "{sampled} environments were sampled instead of {wanted}");
    Ok(after - before)
}

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

/// Seconds of the processors that a process used.
fn used(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("the process ended")?;
    let fields = stat.rsplit_once(')').context("no fields")?.1;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next().and_then(|field| field.parse::<f64>().ok()).context("no such field");
    Ok((next()? + next()?) / TICKS)
}
