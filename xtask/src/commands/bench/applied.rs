//! From a webhook to the objects in the cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper::Method;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use xtask::{
    cluster::api_proxy::{ApiProxy, RecordedRequest},
    github::NewPullRequest,
    stand::{Settings, Stand, sample_recipe},
};

use super::{
    figure::{Figure, median, quantile},
    ground::Ground,
};

const REPOSITORY: &str = "acme/shop";
const RUNS: usize = 14;
/// Nothing is coming any more.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A write that the API server has answered.
struct Write {
    at: Instant,
    request: RecordedRequest,
}

/// What one pull request took, in milliseconds from its webhook.
struct Run {
    /// The first thing that a pass over it does: it asks GitHub.
    claimed: f64,
    /// The first write to the cluster, which makes the namespace.
    first_write: f64,
    /// The Ingress, which is the last object that the recipe applies.
    applied: f64,
    writes: usize,
}

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let database = ground.sqlite("applied.db");
    let proxy = ApiProxy::start(ground.cluster().await?).await?;
    let (sender, mut writes) = unbounded_channel();
    proxy.set_on_write(Some(Box::new(move |_, request| {
        // Nobody listens any more once all is measured.
        let _ = sender.send(Write { at: Instant::now(), request: request.clone() });
    })));
    let settings = Settings { database: Some(database), ..Settings::default() };
    let mut stand = Stand::prepare(&proxy.kubeconfig(), settings).await?;
    stand.github.create_repository("acme", "shop")?;
    stand.start_previewd().await?;

    // The first one pays for connections and for the API server's own first time.
    open_and_watch(&stand, 0, &mut writes).await?;
    let mut runs = Vec::new();
    for number in 1..=RUNS {
        runs.push(open_and_watch(&stand, number, &mut writes).await?);
    }
    stand.stop().await?;

    let applied: Vec<f64> = runs.iter().map(|run| run.applied).collect();
    let first: Vec<f64> = runs.iter().map(|run| run.first_write).collect();
    let writes = runs.last().map_or(0, |run| run.writes);
    let note = format!(
        "p90 {:.0}; {RUNS} pull requests, {writes} writes each, the first of them after {:.0}; through a counting proxy; \
         `helm upgrade --install`: 441, one server-side apply of it all: 54",
        quantile(&applied, 0.9),
        median(&first),
    );
    let claimed: Vec<f64> = runs.iter().map(|run| run.claimed).collect();
    let claim_note = format!("p90 {:.0}; until the pass asks GitHub for the pull request", quantile(&claimed, 0.9));
    // At most half of helm's time.
    Ok(vec![
        Figure::new("webhook to claim", median(&claimed), "ms").samples(&claimed).note(claim_note),
        Figure::new("webhook to objects applied", median(&applied), "ms").samples(&applied).at_most(220.0).note(note),
    ])
}

async fn open_and_watch(stand: &Stand, number: usize, writes: &mut UnboundedReceiver<Write>) -> Result<Run> {
    // Writes for the pull request before this one: its events, its labels.
    while writes.try_recv().is_ok() {}
    let recipe = sample_recipe(None, "hello");
    let new = NewPullRequest::new("Say hello", &format!("hello-{number}")).file(".preview.yaml", &recipe);
    let began = Instant::now();
    let opened = stand.github.open_pull_request(REPOSITORY, new).await?;
    let since = |at: Instant| at.duration_since(began).as_secs_f64() * 1e3;

    let (mut first_write, mut count) = (None, 0);
    loop {
        let next = timeout(GIVE_UP, writes.recv()).await;
        let Write { at, request } = next
            .ok()
            .flatten()
            .with_context(|| format!("no Ingress of {REPOSITORY}#{opened} within {} s", GIVE_UP.as_secs()))?;
        count += 1;
        let first_write = *first_write.get_or_insert(since(at));
        if request.method == Method::PATCH && request.path_and_query.contains("/ingresses/") {
            // What follows, such as the comment, must not run into the next measurement.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let path = format!("/repos/{REPOSITORY}/pulls/{opened}");
            let asked = stand.github.requests().into_iter().find(|request| request.path == path);
            let claimed = since(asked.context("GitHub was not asked for the pull request")?.at);
            return Ok(Run { claimed, first_write, applied: since(at), writes: count });
        }
    }
}
