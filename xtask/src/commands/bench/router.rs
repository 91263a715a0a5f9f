//! The router beside the pod that it leads to.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use tokio::time::{Instant, sleep};
use xtask::{
    cluster::{LocalCluster, Options, SAMPLE_PORT, sample_image_of_any_commit},
    github::NewPullRequest,
    stand::{Settings, Stand, free_port, sample_recipe},
};

use super::{
    figure::{Figure, median, quantile},
    load::{Blocks, Connections, Limits},
};

pub const REPOSITORY: &str = "acme/shop";
pub const IMAGE: &str = "registry.localhost/shop:any-commit";
const BLOCKS: usize = 12;
const BLOCK: Limits = Limits { requests: 10_000, time: Duration::from_millis(400) };
const WARM_UP: Limits = Limits { requests: 500, time: Duration::from_secs(2) };
const GIVE_UP: Duration = Duration::from_secs(120);

pub async fn measure() -> Result<Vec<Figure>> {
    let cluster = Box::pin(LocalCluster::start(Options::with_node("bench-router"))).await?;
    let image = tokio::task::spawn_blocking(|| sample_image_of_any_commit(IMAGE)).await??;
    cluster.import_image(&image).await?;
    let mut figures = Vec::new();
    for (reach, way) in [("port_forward", "through the API server"), ("direct", "by the pod's address")] {
        figures.extend(Box::pin(measure_way(&cluster, reach, way)).await.with_context(|| way)?);
    }
    cluster.shutdown().await?;
    Ok(figures)
}

async fn measure_way(cluster: &LocalCluster, reach: &str, way: &str) -> Result<[Figure; 2]> {
    let port = free_port()?;
    let settings = Settings {
        port,
        config: format!("[router]\nenabled = true\nreach = {reach:?}\n"),
        base_domain: Some(format!("localhost:{port}")),
        ..Settings::default()
    };
    let stand = Stand::start(cluster.kubeconfig(), settings).await?;
    stand.github.create_repository("acme", "shop")?;
    let recipe = sample_recipe(Some(IMAGE), "hello");
    let new = NewPullRequest::new("Say hello", "hello").file(".preview.yaml", &recipe);
    let number = stand.github.open_pull_request(REPOSITORY, new).await?;
    let host = until_running(&stand, number).await?;
    let namespace = host.split('.').next().context("the URL has no namespace")?;
    let pods = Api::<Pod>::namespaced(cluster.client().await?, namespace).list(&ListParams::default()).await?;
    let pod = pods.items.into_iter().find_map(|pod| pod.status?.pod_ip).context("there is no pod")?;

    let mut router = Connections::open(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let mut own = Connections::open(SocketAddr::new(pod.parse()?, SAMPLE_PORT)).await?;
    let call = |_| Ok(Request::get("/healthz").header("Host", &host).body(Full::default())?);
    let (mut through, mut beside) = (Blocks::default(), Blocks::default());
    for block in 0..=BLOCKS {
        let limits = if block == 0 { WARM_UP } else { BLOCK };
        let one = router.run(limits, call, |_| true).await.context("through the router")?;
        let other = own.run(limits, call, |_| true).await.context("at the pod itself")?;
        if block > 0 {
            through.0.push(one);
            beside.0.push(other);
        }
    }
    stand.github.close(REPOSITORY, number).await?;
    // Its namespace has the name that the next one's has.
    let deadline = Instant::now() + GIVE_UP;
    while !stand.github.comments(REPOSITORY, number).iter().any(|comment| comment.body.contains("was removed")) {
        anyhow::ensure!(Instant::now() < deadline, "it did not go within {} s", GIVE_UP.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
    stand.stop().await?;

    let [rate, p50, p99] = through.figures(&format!("router, {way}"));
    let [own_rate, own_p50, _] = beside.figures("pod");
    let added: Vec<f64> = through
        .0
        .iter()
        .zip(&beside.0)
        .map(|(one, other)| quantile(&one.latencies, 0.5) - quantile(&other.latencies, 0.5))
        .collect();
    let note = format!("{}; the pod itself: {:.0}", rate.note, own_rate.value);
    let added_note = format!(
        "p50 {:.2} (p99 {:.2}), the pod's own {:.2}; median of the blocks",
        p50.value, p99.value, own_p50.value
    );
    Ok([
        rate.note(note),
        Figure::new(format!("router, {way}, added latency"), median(&added), "ms").samples(&added).note(added_note),
    ])
}

/// The host of the URL in the comment, once it says that the preview runs.
pub async fn until_running(stand: &Stand, number: u64) -> Result<String> {
    let deadline = Instant::now() + GIVE_UP;
    loop {
        let comments = stand.github.comments(REPOSITORY, number);
        let url = comments.first().filter(|comment| comment.body.contains("is running")).and_then(|comment| {
            Some(comment.body.split_once("<http://")?.1.split_once('>')?.0.trim_end_matches('/').to_owned())
        });
        if let Some(url) = url {
            return Ok(url);
        }
        anyhow::ensure!(Instant::now() < deadline, "it did not run within {} s", GIVE_UP.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}
