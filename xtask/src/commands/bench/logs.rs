//! Logs as they are written, beside the API server's own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{AsyncReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use reqwest::Client;
use tokio::sync::Notify;
use xtask::{
    cluster::{LocalCluster, Options, SAMPLE_PORT, sample_image_of_any_commit},
    github::NewPullRequest,
    previewd::Server,
    stand::{Settings, Stand, sample_recipe},
    web,
};

use super::{
    figure::{Figure, median, quantile},
    memory::megabytes,
    router::{IMAGE, REPOSITORY, until_running},
};

const FIRST_LINES: usize = 20;
const BLOCKS: usize = 8;
/// Lines of a block, and the characters of each.
const LINES: usize = 5_000;
const SIZE: usize = 100;
/// How long somebody follows before the application prints: how soon that begins is another figure.
const FOLLOWS: Duration = Duration::from_millis(500);
const READERS: usize = 200;
const SETTLES: Duration = Duration::from_secs(3);
const GIVE_UP: Duration = Duration::from_secs(60);

/// Who reads: previewd's stream, or the API server's.
struct Ways {
    url: String,
    token: String,
    http: Client,
    pods: Api<Pod>,
    pod: String,
    application: String,
}

pub async fn measure() -> Result<Vec<Figure>> {
    let cluster = Box::pin(LocalCluster::start(Options::with_node("bench-logs"))).await?;
    let image = tokio::task::spawn_blocking(|| sample_image_of_any_commit(IMAGE)).await??;
    cluster.import_image(&image).await?;
    let settings = Settings {
        config: "[router]\nenabled = true\n[teams.shop]\nrepositories = [\"acme/*\"]\n".to_owned(),
        base_domain: Some("localhost:1".to_owned()),
        ..Settings::default()
    };
    let stand = Stand::start(cluster.kubeconfig(), settings).await?;
    stand.github.create_repository("acme", "shop")?;
    let new = NewPullRequest::new("Say hello", "hello").file(".preview.yaml", &sample_recipe(Some(IMAGE), "hello"));
    let number = stand.github.open_pull_request(REPOSITORY, new).await?;
    let host = until_running(&stand, number).await?;
    let namespace = host.split('.').next().context("the URL has no namespace")?;
    let pods = Api::<Pod>::namespaced(cluster.client().await?, namespace);
    let pod = pods.list(&ListParams::default()).await?.items.into_iter().next().context("there is no pod")?;
    let address = pod.status.and_then(|status| status.pod_ip).context("the pod has no address")?;
    let ways = Ways {
        url: format!("{}/environments/{namespace}/logs", stand.url),
        token: stand.create_token("bench", "viewer", &["shop"]).await?,
        http: web::plain_client(),
        pods,
        pod: pod.metadata.name.context("the pod has no name")?,
        application: format!("http://{address}:{SAMPLE_PORT}"),
    };
    let mut figures = first_lines(&ways).await?;
    figures.push(throughput(&ways).await?);
    let server = stand.server.as_ref().and_then(Server::id).context("previewd ended")?;
    figures.push(memory(&ways, server).await?);
    stand.stop().await?;
    cluster.shutdown().await?;
    Ok(figures)
}

/// From the request to the first line of it, each way in turn.
async fn first_lines(ways: &Ways) -> Result<Vec<Figure>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..FIRST_LINES {
        let began = Instant::now();
        ways.read_stream(1, "event: line", &Notify::new()).await?;
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        ways.read_raw(1, "line", &Notify::new()).await?;
        theirs.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let note = format!("p99 {:.1}; the API server's own: {:.1}", quantile(&ours, 0.99), median(&theirs));
    Ok(vec![Figure::new("logs, first line", median(&ours), "ms").samples(&ours).note(note)])
}

/// How long it takes until all that an application printed at once was heard, beside the API server's own stream.
async fn throughput(ways: &Ways) -> Result<Figure> {
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for block in 0..BLOCKS {
        // Each its own, because a reader begins with the line that was printed last.
        let end = |way: &str| format!("end of block {block} for {way}");
        let (ours, theirs, hears) = (end("previewd"), end("the API server"), Notify::new());
        let own = timed(ways.read_stream(1, &ours, &hears), &hears, ways.print(&ours)).await?;
        let raw = timed(ways.read_raw(1, &theirs, &hears), &hears, ways.print(&theirs)).await?;
        ratios.push(own / raw);
        rates.push(LINES as f64 / own);
    }
    let note = format!(
        "{:.0} lines/s; blocks of {LINES} lines of {SIZE} characters, one follower, each way in turn",
        median(&rates)
    );
    Ok(Figure::new("logs, time beside the raw request", median(&ratios), "ratio")
        .at_most(1.5)
        .samples(&ratios)
        .note(note))
}

/// Seconds until a reader that has followed for a moment has heard all that is printed from then on.
async fn timed(
    reads: impl Future<Output = Result<()>>,
    hears: &Notify,
    prints: impl Future<Output = Result<()>>,
) -> Result<f64> {
    let prints = async {
        hears.notified().await;
        tokio::time::sleep(FOLLOWS).await;
        let began = Instant::now();
        prints.await?;
        anyhow::Ok(began)
    };
    let (read, began) = tokio::join!(reads, prints);
    read?;
    Ok(began?.elapsed().as_secs_f64())
}

async fn memory(ways: &Ways, server: u32) -> Result<Figure> {
    let before = megabytes(server, "VmRSS")?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(ways.stream(1).await?.bytes_stream());
    }
    let reading =
        readers.into_iter().map(|mut bytes| tokio::spawn(async move { while bytes.next().await.is_some() {} }));
    let reading: Vec<_> = reading.collect();
    ways.print("for all of them").await?;
    // What it takes while it sends is a part of it; what is left then is what readers cost.
    tokio::time::sleep(SETTLES).await;
    let with = megabytes(server, "VmRSS")?;
    reading.iter().for_each(tokio::task::JoinHandle::abort);
    let note = format!("{before:.1} MB before; {LINES} lines of {SIZE} characters were sent to each");
    Ok(Figure::new(format!("resident with {READERS} readers of a log"), with, "MB").note(note))
}

impl Ways {
    async fn stream(&self, tail: usize) -> Result<reqwest::Response> {
        let answer = self.http.get(format!("{}?tail={tail}", self.url)).bearer_auth(&self.token).send().await?;
        ensure!(answer.status() == 200, "answered with {}", answer.status());
        Ok(answer)
    }

    /// Reads previewd's stream until it says so. `hears` is told of the first piece of it.
    async fn read_stream(&self, tail: usize, until: &str, hears: &Notify) -> Result<()> {
        let mut bytes = self.stream(tail).await?.bytes_stream();
        let mut heard = Heard::default();
        let read = async {
            while let Some(piece) = bytes.next().await {
                let piece = piece?;
                heard.begins(hears);
                if heard.says(&piece, until) {
                    return Ok(());
                }
            }
            bail!("the stream ended")
        };
        tokio::time::timeout(GIVE_UP, read).await.context("nothing was heard in time")?
    }

    /// The same with the API server's.
    async fn read_raw(&self, tail: i64, until: &str, hears: &Notify) -> Result<()> {
        let wanted = LogParams { follow: true, tail_lines: Some(tail), timestamps: true, ..LogParams::default() };
        let mut lines = self.pods.log_stream(&self.pod, &wanted).await?;
        let (mut heard, mut piece) = (Heard::default(), vec![0; 64 << 10]);
        let read = async {
            loop {
                let count = lines.read(&mut piece).await?;
                ensure!(count > 0, "the stream ended");
                heard.begins(hears);
                if heard.says(&piece[..count], until) {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(GIVE_UP, read).await.context("nothing was heard in time")?
    }

    /// Has the application print a block of lines, and then `last`.
    async fn print(&self, last: &str) -> Result<()> {
        let chatter = format!("{}/chatter?lines={LINES}&size={SIZE}", self.application);
        self.http.post(chatter).send().await?.error_for_status()?;
        self.http.post(format!("{}/say", self.application)).body(last.to_owned()).send().await?.error_for_status()?;
        Ok(())
    }
}

/// What was heard last: words may be cut between two pieces.
#[derive(Default)]
struct Heard {
    anything: bool,
    last: Vec<u8>,
}

impl Heard {
    fn begins(&mut self, hears: &Notify) {
        if !self.anything {
            self.anything = true;
            hears.notify_one();
        }
    }

    fn says(&mut self, piece: &[u8], words: &str) -> bool {
        self.last.extend_from_slice(piece);
        let says = self.last.windows(words.len()).any(|window| window == words.as_bytes());
        let kept = self.last.len().saturating_sub(words.len());
        self.last.drain(..kept);
        says
    }
}
