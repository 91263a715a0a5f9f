//! Everything that a pull request needs to become a running application, on loopback: a cluster, GitHub, previewd, and
//! somebody who builds images. The demo and the tests stand on it.

use std::{
    collections::HashSet,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    cluster::{LocalCluster, SAMPLE_PORT, ingress::IngressProxy, sample_image, sample_image_name},
    github::{self, AppOptions, GitHub},
    previewd::{self, Server},
};

/// GitHub's token that previewd uses.
const GITHUB_TOKEN: &str = "loopback-token";
/// How often the image builder looks for commits.
const BUILD: Duration = Duration::from_millis(100);

/// What differs between a demo and a test.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The port of previewd; 0 for any.
    pub port: u16,
    /// Lines to add to the configuration.
    pub config: String,
    /// `sqlite:` in the stand's folder if None.
    pub database: Option<String>,
    /// The base domain of URLs; `localhost` if None, with previewd's own port where its router is on.
    pub base_domain: Option<String>,
    /// previewd is a GitHub App with these keys; it has a token if None.
    pub app: Option<AppKeys>,
    /// Whether previewd itself answers at the URLs.
    pub has_router: bool,
}

/// A pair of RSA keys, PEM.
#[derive(Debug, Clone, Copy)]
pub struct AppKeys {
    pub public: &'static str,
    pub private: &'static str,
}

/// The number of the App that previewd is.
const APP: u64 = 7;

/// A loopback GitHub and a previewd that listens to it, in a folder of their own.
pub struct Stand {
    pub github: GitHub,
    pub server: Option<Server>,
    pub config: PathBuf,
    pub url: String,
    pub log: PathBuf,
    builder: Option<JoinHandle<()>>,
    /// Its own, so that nobody hears what another stand's GitHub says.
    webhook_secret: String,
    folder: TempDir,
}

impl Stand {
    /// Starts GitHub, writes the configuration, and starts previewd on the cluster that `kubeconfig` names.
    pub async fn start(kubeconfig: &Path, settings: Settings) -> Result<Self> {
        let mut stand = Self::prepare(kubeconfig, settings).await?;
        stand.start_previewd().await?;
        Ok(stand)
    }

    /// Starts previewd, anew where it ran before.
    pub async fn start_previewd(&mut self) -> Result<()> {
        self.server = Some(Server::start(&self.config, &self.url, &self.log).await?);
        Ok(())
    }

    /// As [`Self::start`], without previewd.
    pub async fn prepare(kubeconfig: &Path, settings: Settings) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("previewd-").tempdir()?;
        let github = GitHub::start(github::Options {
            tokens: vec![(GITHUB_TOKEN.to_owned(), "previewd-bot".to_owned())],
            app: settings.app.map(|keys| AppOptions::new(APP, "previewd", keys.public)),
            ..github::Options::default()
        })
        .await?;
        let port = if settings.port == 0 { free_port()? } else { settings.port };
        let url = format!("http://127.0.0.1:{port}");
        let webhook_secret = hex::encode(rand::random::<[u8; 20]>());
        github.set_webhook(&format!("{url}/webhooks/github"), &[&webhook_secret]);

        let database =
            settings.database.unwrap_or_else(|| format!("sqlite:{}", folder.path().join("previewd.db").display()));
        let quoted = |text: &str| json!(text).to_string();
        let credentials = match settings.app {
            Some(keys) => {
                std::fs::write(folder.path().join("app.pem"), keys.private).context("cannot write the App's key")?;
                format!("app = {{ id = {APP}, private_key_path = \"app.pem\" }}")
            }
            None => format!("token = {}", quoted(GITHUB_TOKEN)),
        };
        let (own_domain, router) = if settings.has_router {
            (format!("localhost:{port}"), "[router]\nenabled = true\n")
        } else {
            ("localhost".to_owned(), "")
        };
        // Keys before sections: what a test adds may be either.
        let text = format!(
            "database = {}\nlisten = \"127.0.0.1:{port}\"\nbase_domain = {}\n{}\n{router}\
             [github]\napi_url = {}\n{credentials}\nwebhook_secrets = [{}]\n\
             [kubernetes]\nkubeconfig = {}\n",
            quoted(&database),
            quoted(settings.base_domain.as_deref().unwrap_or(&own_domain)),
            settings.config,
            quoted(github.url()),
            quoted(&webhook_secret),
            quoted(&kubeconfig.display().to_string()),
        );
        let config = folder.path().join("previewd.toml");
        std::fs::write(&config, text).context("cannot write the configuration")?;
        let log = folder.path().join("previewd.log");
        Ok(Self { github, server: None, config, url, log, builder: None, webhook_secret, folder })
    }

    /// Builds the sample application's image for every commit that GitHub hears of, as a CI would.
    pub fn build_images(&mut self, cluster: std::sync::Arc<LocalCluster>) {
        let github = self.github.clone();
        self.builder = Some(tokio::spawn(async move {
            let mut built = HashSet::new();
            loop {
                for commit in github.commits() {
                    if built.contains(&commit) {
                        continue;
                    }
                    let image = sample_image(&commit);
                    match image {
                        Ok(image) => match cluster.import_image(&image).await {
                            Ok(()) => drop(built.insert(commit)),
                            Err(error) => tracing::warn!("cannot import an image: {error:#}"),
                        },
                        Err(error) => tracing::warn!("cannot build an image: {error:#}"),
                    }
                }
                tokio::time::sleep(BUILD).await;
            }
        }));
    }

    /// A commit whose image is in the cluster before anybody asks for it.
    pub async fn built_commit(cluster: &LocalCluster) -> Result<String> {
        let commit = hex::encode(rand::random::<[u8; 20]>());
        cluster.import_image(&sample_image(&commit)?).await?;
        Ok(commit)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn mcp_url(&self) -> String {
        format!("{}/mcp", self.url)
    }

    pub fn webhook_secret(&self) -> &str {
        &self.webhook_secret
    }

    pub async fn create_token(&self, subject: &str, role: &str, teams: &[&str]) -> Result<String> {
        previewd::create_token(&self.config, subject, role, teams).await
    }

    /// Ends previewd and the image builder.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(builder) = self.builder.take() {
            builder.abort();
        }
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(builder) = &self.builder {
            builder.abort();
        }
    }
}

/// The recipe of the sample application that says `greeting`. `image`: its own one for each commit if None.
pub fn sample_recipe(image: Option<&str>, greeting: &str) -> String {
    let image = image.map_or_else(|| sample_image_name("{{ sha }}"), str::to_owned);
    format!(
        "version: 1\napp:\n  image: {image}\n  port: {SAMPLE_PORT}\n  health: /healthz\n  env:\n    \
         COMMIT: \"{{{{ sha }}}}\"\n    GREETING: {greeting:?}\n"
    )
}

/// An ingress controller's stand-in on any port, and the base domain under which it serves.
pub async fn serve_ingresses(kubeconfig: &Path, port: u16) -> Result<(IngressProxy, String)> {
    let proxy = IngressProxy::start(kubeconfig, port).await?;
    let base_domain = format!("localhost:{}", proxy.address().port());
    Ok((proxy, base_domain))
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> Result<u16> {
    // Not one of those that the system gives to outgoing connections: another could have it while its server is down.
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let given_from = given.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    let own = std::iter::repeat_with(|| rand::random_range(10_000..given_from.max(10_001))).take(100);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    own.into_iter().find(is_free).context("there is no free port on the loopback address")
}
