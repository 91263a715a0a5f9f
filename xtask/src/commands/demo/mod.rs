//! `cargo xtask demo`: previewd on a real cluster, with a pull request to look at.

mod cycle;
mod recipes;
mod show;

use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kube::config::Kubeconfig;
use serde_json::json;
use tokio::process::Command;
use xtask::{
    cargo::cargo,
    cluster::{LocalCluster, Options, POSTGRES_IMAGE, postgres_image},
    github::NewPullRequest,
    stand::{Settings, Stand, sample_recipe},
};

/// The repository of the demo, and the team that it belongs to.
const REPOSITORY: &str = "acme/shop";
/// What runs has answered at its URL, which previewd itself serves.
const CONFIG: &str = "probe_urls = true\n[teams.shop]\nrepositories = [\"acme/*\"]\n";

/// Start previewd on a local cluster, open a pull request, and show what happens. Ctrl-C ends everything.
#[derive(Args)]
pub struct DemoArgs {
    /// Run the whole life of a pull request, check every step, and end with one line of JSON.
    #[arg(long)]
    once: bool,
    /// Write addresses and secrets of the running demo to this file, as JSON, once everything is up. It goes with the
    /// demo.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Use this context of your kubeconfig instead of a local cluster.
    #[arg(long, value_name = "NAME", requires = "image")]
    context: Option<String>,
    /// The sample application's image, where that cluster's nodes can pull it: `cargo xtask image` makes it.
    #[arg(long, value_name = "IMAGE", requires = "context")]
    image: Option<String>,
    /// The port of previewd on loopback, where previews answer as well.
    #[arg(long, default_value_t = 8787)]
    port: u16,
}

/// What the demo runs on.
enum Ground {
    Local(Arc<LocalCluster>),
    /// A context of the user's.
    Context {
        /// Names only that context.
        kubeconfig: PathBuf,
        /// The sample application's image at every commit.
        image: String,
    },
}

impl Ground {
    fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Local(cluster) => cluster.kubeconfig().to_owned(),
            Self::Context { kubeconfig, image: _ } => kubeconfig.clone(),
        }
    }

    /// A commit whose image is there before GitHub hears of it: what a push would wait for is not previewd's time.
    async fn built_commit(&self) -> Result<String> {
        match self {
            Self::Local(cluster) => Stand::built_commit(cluster).await,
            Self::Context { .. } => Ok(hex::encode(rand::random::<[u8; 20]>())),
        }
    }

    /// The recipe of the sample application that says `greeting`.
    fn recipe(&self, greeting: &str) -> String {
        match self {
            Self::Local(_) => sample_recipe(None, greeting),
            Self::Context { kubeconfig: _, image } => sample_recipe(Some(image), greeting),
        }
    }
}

impl DemoArgs {
    pub async fn run(self) -> Result<()> {
        ensure_free(self.port)?;
        show::say("Building previewd; the first time takes some minutes …");
        build_previewd().await?;
        let began = Instant::now();
        let scratch = tempfile::tempdir()?;
        let ground = match self.context.as_deref().zip(self.image.clone()) {
            None => {
                show::say("Starting a Kubernetes cluster of its own …");
                Ground::Local(Arc::new(LocalCluster::start(Options::with_node("demo")).await?))
            }
            Some((context, image)) => Ground::Context { kubeconfig: kubeconfig_of(context, scratch.path())?, image },
        };

        let config = match &ground {
            Ground::Local(cluster) => format!("{CONFIG}{}", provide(cluster).await?),
            Ground::Context { .. } => CONFIG.to_owned(),
        };
        let settings = Settings { port: self.port, config, has_router: true, ..Settings::default() };
        let mut stand = Stand::prepare(&ground.kubeconfig(), settings).await?;
        stand.github.create_repository("acme", "shop")?;
        stand.github.commit(REPOSITORY, "main", &[(".preview.yaml", &ground.recipe("hello"))]).await?;
        if let Ground::Local(cluster) = &ground {
            stand.build_images(cluster.clone());
        }
        stand.start_previewd().await?;
        show::say(&format!("previewd runs after {:.0} s.", began.elapsed().as_secs_f64()));

        let result = if self.once { cycle::run(&mut stand, &ground).await } else { self.stay(&stand, &ground).await };
        if let Some(path) = &self.ready_file {
            // Err: it was never written, or somebody took it away.
            let _ = std::fs::remove_file(path);
        }
        let stopped = stand.stop().await;
        if let Ground::Local(cluster) = ground
            && let Some(cluster) = Arc::into_inner(cluster)
        {
            cluster.shutdown().await?;
        }
        result.and(stopped)
    }

    /// Opens a pull request, shows how it becomes a running application, and stays up until Ctrl-C.
    async fn stay(&self, stand: &Stand, ground: &Ground) -> Result<()> {
        let token = stand.create_token("demo", "admin", &["shop"]).await?;
        let recipe = ground.recipe("hello from a pull request");
        let new = NewPullRequest::new("Say hello", "say-hello").file(".preview.yaml", &recipe);
        let new = new.sha(&ground.built_commit().await?);
        let number = stand.github.open_pull_request(REPOSITORY, new).await?;
        show::say(&format!("Opened {REPOSITORY}#{number}: {}/{REPOSITORY}/pull/{number}", stand.github.url()));

        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        let url = tokio::select! {
            shown = show::until_running(stand, &token, REPOSITORY, number) => shown?,
            _ = &mut interrupted => return Ok(()),
        };
        show::addresses(stand, &url, &token, REPOSITORY, number);
        if let Some(path) = &self.ready_file {
            let ready = json!({
                "mcp_url": stand.mcp_url(),
                "server_url": stand.url,
                "webhook_url": format!("{}/webhooks/github", stand.url),
                "webhook_secret": stand.webhook_secret(),
                "github_url": stand.github.url(),
                "token": token,
                "kubeconfig": ground.kubeconfig(),
                "config": stand.config,
            });
            // Whoever waits for the file must never read half of it.
            let unfinished = path.with_extension("unfinished");
            std::fs::write(&unfinished, format!("{ready:#}\n"))
                .and_then(|()| std::fs::rename(&unfinished, path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        tokio::select! {
            shown = show_more(stand, ground, &token) => shown?,
            _ = &mut interrupted => return Ok(()),
        };
        show::say("Press Ctrl-C to end everything.");
        interrupted.await?;
        show::say("\nEnding everything that was started …");
        Ok(())
    }
}

/// Two pull requests more: one with everything that belongs to an application, and a chart.
async fn show_more(stand: &Stand, ground: &Ground, token: &str) -> Result<()> {
    if matches!(ground, Ground::Context { .. }) {
        return Ok(());
    }
    let github = &stand.github;
    let new = NewPullRequest::new("Count visits", "count-visits").sha(&ground.built_commit().await?);
    let number = github.open_pull_request(REPOSITORY, new.file(".preview.yaml", &recipes::with_database("ok"))).await?;
    show::say(&format!("Opened {REPOSITORY}#{number}, with a worker, a database, its seed and its setup:"));
    let url = show::until(stand, token, number, "running").await?;
    show::say(&format!("    {url}/visits counts its visits in the database.\n"));
    let broken = ground.built_commit().await?;
    github.push_as(REPOSITORY, number, &[(".preview.yaml", &recipes::with_database("crash"))], &broken).await?;
    show::say("Pushed a commit that does not run; what ran before is put back, with its rows:");
    show::until(stand, token, number, "failed").await?;

    let mut new = NewPullRequest::new("Use a chart", "use-a-chart").sha(&ground.built_commit().await?);
    for (path, text) in recipes::with_chart()? {
        new = new.file(&path, &text);
    }
    let number = github.open_pull_request(REPOSITORY, new).await?;
    show::say(&format!("\nOpened {REPOSITORY}#{number}, whose recipe is a Helm chart:"));
    let url = show::until(stand, token, number, "running").await?;
    show::say(&format!("    {url}\n"));
    Ok(())
}

/// Another previewd there would hear what is meant for this one.
fn ensure_free(port: u16) -> Result<()> {
    TcpListener::bind(("127.0.0.1", port)).map(drop).with_context(|| {
        format!("port {port} of 127.0.0.1 cannot be had (another demo?); name another one with --port")
    })
}

/// What recipes with a database or a chart need: the database's image on the node, and helm. Gives the lines of the
/// configuration that say so.
async fn provide(cluster: &LocalCluster) -> Result<String> {
    show::say("Preparing helm (built once) and an image of PostgreSQL …");
    let helm = tokio::task::spawn_blocking(xtask::cluster::helm).await??;
    cluster.import_image(&tokio::task::spawn_blocking(postgres_image).await??).await?;
    Ok(format!("[database_images]\npostgres = {POSTGRES_IMAGE:?}\n[helm]\npath = {helm:?}\n"))
}

/// The binary that the demo runs is the one of this checkout.
async fn build_previewd() -> Result<()> {
    let built = Command::from(cargo()).args(["build", "--locked", "--bins"]).status().await?;
    ensure!(built.success(), "previewd does not build");
    Ok(())
}

/// A kubeconfig with nothing in it but one context of the user's.
fn kubeconfig_of(context: &str, folder: &std::path::Path) -> Result<PathBuf> {
    let path = folder.join("kubeconfig");
    std::fs::write(&path, only(context, Kubeconfig::read().context("cannot read your kubeconfig")?)?)?;
    Ok(path)
}

/// What `context` needs of a kubeconfig, as JSON, which is YAML too.
fn only(context: &str, mut all: Kubeconfig) -> Result<String> {
    let named: Vec<&str> = all.contexts.iter().map(|context| context.name.as_str()).collect();
    let known = named.join(", ");
    all.contexts.retain(|named| named.name == context);
    let named = all.contexts.first().and_then(|named| named.context.as_ref());
    let named = named.with_context(|| format!("your kubeconfig has no context {context:?}; it has: {known}"))?;
    all.clusters.retain(|cluster| cluster.name == named.cluster);
    all.auth_infos.retain(|user| Some(&user.name) == named.user.as_ref());
    all.current_context = Some(context.to_owned());
    Ok(serde_json::to_string(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_context_is_taken_out_of_many() {
        let user = "contexts: [{name: a, context: {cluster: one, user: ann}}, {name: b, context: {cluster: two}}]\n\
            clusters: [{name: one, cluster: {server: 'https://one'}}, {name: two, cluster: {server: 'https://two'}}]\n\
            users: [{name: ann, user: {token: secret}}]\ncurrent-context: b\n";
        let read = || Kubeconfig::from_yaml(user).unwrap();
        let taken = Kubeconfig::from_yaml(&only("a", read()).unwrap()).unwrap();
        assert_eq!(taken.current_context.as_deref(), Some("a"));
        assert_eq!(taken.clusters.iter().map(|cluster| &cluster.name).collect::<Vec<_>>(), ["one"]);
        assert_eq!(taken.auth_infos.len(), 1);
        assert!(only("b", read()).unwrap().find("secret").is_none());
        assert_eq!(only("c", read()).unwrap_err().to_string(), "your kubeconfig has no context \"c\"; it has: a, b");
    }
}
