//! The engine at work: passes, and deliveries while it is busy; and what many environments cost that wait.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use xtask::{
    github::{Delivery, NewPullRequest},
    postgres::Postgres,
    previewd::Server,
    stand::{Settings, Stand, sample_recipe},
};

use super::{
    figure::{Figure, median},
    ground::Ground,
    memory::megabytes,
};

const REPOSITORY: &str = "acme/shop";
/// Environments that wait for an approval: a pass over one asks GitHub and the database, and no cluster.
const IDLE: usize = 1_000;
/// Environments that are deployed while deliveries come.
const BUSY: usize = 50;
const BLOCKS: usize = 3;
/// So many deliveries are on their way at once.
const AT_ONCE: usize = 8;
const SETTLES: Duration = Duration::from_secs(180);

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let kubeconfig = ground.cluster().await?.to_owned();
    // Started on this thread: it ends with the thread that started it.
    let postgres = Postgres::start();
    let mut databases = vec![("SQLite", Some(ground.sqlite("engine.db")))];
    if let Ok(server) = &postgres {
        databases.push(("PostgreSQL", Some(format!("{}/postgres", server.url()))));
    }
    let mut figures = Vec::new();
    for (name, database) in databases {
        let mut stand = Stand::prepare(&kubeconfig, Settings { database, ..Settings::default() }).await?;
        stand.github.create_repository("acme", "shop")?;
        let recipe = format!("{}report: none\n", sample_recipe(None, "hello"));
        stand.github.commit(REPOSITORY, "main", &[(".preview.yaml", &recipe)]).await?;
        stand.start_previewd().await?;
        figures.extend(idle(&stand, name).await?);
        figures.push(busy(&stand, name).await?);
        stand.stop().await?;
    }
    if let Err(error) = &postgres {
        eprintln!("PostgreSQL was not measured: {error:#}");
    }
    Ok(figures)
}

/// Passes over many environments of which each was told something.
async fn idle(stand: &Stand, database: &str) -> Result<Vec<Figure>> {
    stand.github.hold_deliveries();
    let mut numbers = Vec::new();
    for number in 0..IDLE {
        let new = NewPullRequest::new("A change", &format!("idle-{number}")).from_fork("stranger").file("a", "b");
        numbers.push(stand.github.open_pull_request(REPOSITORY, new).await?);
    }
    passes_after(stand, stand.github.take_deliveries()).await?;
    let mut rates = Vec::new();
    for _ in 0..BLOCKS {
        let told = numbers.iter().map(|number| stand.github.delivery_for(REPOSITORY, *number, "edited"));
        rates.push(passes_after(stand, told.collect::<Result<_, _>>()?).await?);
    }
    let server = stand.server.as_ref().and_then(Server::id).context("previewd ended")?;
    let note = format!("{IDLE} environments, each pass after a delivery of its own; GitHub is asked in each");
    let mut figures =
        vec![Figure::new(format!("passes, {database}"), median(&rates), "1/s").samples(&rates).note(note)];
    let resident =
        Figure::new(format!("resident over {IDLE} environments, {database}"), megabytes(server, "VmRSS")?, "MB");
    figures.push(resident.note(format!("{:.1} of it not from files", megabytes(server, "RssAnon")?)));
    Ok(figures)
}

/// Sends the deliveries, and gives how many passes a second there were until nothing was left to do.
async fn passes_after(stand: &Stand, deliveries: Vec<Delivery>) -> Result<f64> {
    let wanted = passes(stand).await? + deliveries.len() as f64;
    let began = Instant::now();
    let count = deliveries.len() as f64;
    send_all(stand, deliveries).await?;
    while passes(stand).await? < wanted {
        ensure!(began.elapsed() < SETTLES, "{count} deliveries were not followed by as many passes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(count / began.elapsed().as_secs_f64())
}

/// Deliveries while others are deployed.
async fn busy(stand: &Stand, database: &str) -> Result<Figure> {
    stand.github.hold_deliveries();
    let recipe = format!("{}report: none\n", sample_recipe(None, "hello"));
    for number in 0..BUSY {
        let new = NewPullRequest::new("A change", &format!("busy-{number}")).file(".preview.yaml", &recipe);
        stand.github.open_pull_request(REPOSITORY, new).await?;
    }
    send_all(stand, stand.github.take_deliveries()).await?;
    // Of pull requests that wait, so that the engine has no more to do than the deployments.
    let told = (1..=IDLE as u64).map(|number| stand.github.delivery_for(REPOSITORY, number, "edited"));
    let told: Vec<Delivery> = told.collect::<Result<_, _>>()?;
    let began = Instant::now();
    let count = told.len() as f64;
    send_all(stand, told).await?;
    let rate = count / began.elapsed().as_secs_f64();
    let note =
        format!("{count} of {IDLE} other pull requests, {AT_ONCE} at once; signed, sent and counted by the stand-in");
    Ok(Figure::new(format!("deliveries while {BUSY} deploy, {database}"), rate, "1/s").note(note))
}

async fn send_all(stand: &Stand, deliveries: Vec<Delivery>) -> Result<()> {
    stream::iter(deliveries)
        .map(async |delivery| {
            let (status, answer) = stand.github.send(&delivery).await?;
            ensure!(status == 200, "answered with {status}: {answer}");
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// How many passes there were, by previewd's own count.
async fn passes(stand: &Stand) -> Result<f64> {
    let text = xtask::github::http_client()?.get(format!("{}/metrics", stand.url)).send().await?.text().await?;
    let counts = text.lines().filter(|line| line.starts_with("previewd_passes_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().context("no count")).sum()
}
