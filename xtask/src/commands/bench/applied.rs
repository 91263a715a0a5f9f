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
pub struct Run {
    pub number: u64,
    /// The first thing that a pass over it does: it asks GitHub.
    claimed: f64,
    /// The first write to the cluster, which makes the namespace.
    first_write: f64,
    /// The Ingress, which is the last object that the recipe applies.
    pub applied: f64,
    writes: usize,
}

/// A previewd whose writes to the cluster are seen.
pub struct Watched {
    pub stand: Stand,
    writes: UnboundedReceiver<Write>,
    _proxy: ApiProxy,
}

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let mut watched = Watched::start(ground, "applied.db", String::new()).await?;
    let recipe = [(".preview.yaml", sample_recipe(None, "hello"))];
    // The first one pays for connections and for the API server's own first time.
    watched.open(0, &recipe).await?;
    let mut runs = Vec::new();
    for number in 1..=RUNS {
        runs.push(watched.open(number, &recipe).await?);
    }
    watched.stand.stop().await?;

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

impl Watched {
    /// With `config` added to its configuration.
    pub async fn start(ground: &mut Ground, database: &str, config: String) -> Result<Self> {
        let database = ground.sqlite(database);
        let proxy = ApiProxy::start(ground.cluster().await?).await?;
        let (sender, writes) = unbounded_channel();
        proxy.set_on_write(Some(Box::new(move |_, request| {
            // Nobody listens any more once all is measured.
            let _ = sender.send(Write { at: Instant::now(), request: request.clone() });
        })));
        let settings = Settings { database: Some(database), config, ..Settings::default() };
        let mut stand = Stand::prepare(&proxy.kubeconfig(), settings).await?;
        stand.github.create_repository("acme", "shop")?;
        stand.start_previewd().await?;
        Ok(Self { stand, writes, _proxy: proxy })
    }

    /// Opens a pull request with these files, and watches until all of it is applied.
    pub async fn open(&mut self, number: usize, files: &[(&str, String)]) -> Result<Run> {
        let mut new = NewPullRequest::new("Say hello", &format!("hello-{number}"));
        for (path, text) in files {
            new = new.file(path, text);
        }
        self.forget();
        let began = Instant::now();
        let opened = self.stand.github.open_pull_request(REPOSITORY, new).await?;
        self.watch(opened, began).await
    }

    /// Closes a pull request and waits until nothing is left, then opens it again at the same commit.
    pub async fn reopen(&mut self, number: u64) -> Result<Run> {
        self.stand.github.close(REPOSITORY, number).await?;
        loop {
            let comments = self.stand.github.comments(REPOSITORY, number);
            if comments.iter().any(|comment| comment.body.contains("was removed")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.stand.github.clear_requests();
        self.forget();
        let began = Instant::now();
        self.stand.github.reopen(REPOSITORY, number).await?;
        self.watch(number, began).await
    }

    /// What was written for the pull request before this one: its events, its labels.
    fn forget(&mut self) {
        while self.writes.try_recv().is_ok() {}
    }

    async fn watch(&mut self, number: u64, began: Instant) -> Result<Run> {
        let since = |at: Instant| at.duration_since(began).as_secs_f64() * 1e3;
        let (mut first_write, mut count) = (None, 0);
        loop {
            let next = timeout(GIVE_UP, self.writes.recv()).await;
            let Write { at, request } = next.ok().flatten().with_context(|| {
                let said = self.stand.github.comments(REPOSITORY, number);
                let said = said.first().map(|comment| comment.body.as_str()).unwrap_or("nothing yet");
                format!("no Ingress of {REPOSITORY}#{number} within {} s; its comment says: {said}", GIVE_UP.as_secs())
            })?;
            count += 1;
            let first_write = *first_write.get_or_insert(since(at));
            if request.method == Method::PATCH && request.path_and_query.contains("/ingresses/") {
                // What follows, such as the comment, must not run into the next measurement.
                tokio::time::sleep(Duration::from_millis(500)).await;
                let path = format!("/repos/{REPOSITORY}/pulls/{number}");
                let asked = self.stand.github.requests().into_iter().find(|request| request.path == path);
                let claimed = since(asked.context("GitHub was not asked for the pull request")?.at);
                return Ok(Run { number, claimed, first_write, applied: since(at), writes: count });
            }
        }
    }
}
