//! What the groups stand on: a folder on the disk of the build, configurations, and one cluster for those that need it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use xtask::cluster::{LocalCluster, Options};

pub const WEBHOOK_SECRET: &str = "bench-webhook-secret";
/// Whom every example of GitHub's belongs to.
pub const TEAM: &str = "bench";

pub struct Ground {
    /// Beside the build: a temporary folder may be in memory, where nothing written is durable.
    folder: TempDir,
    cluster: Option<LocalCluster>,
}

impl Ground {
    pub fn new(target: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(target).context("cannot write to target")?;
        Ok(Self { folder, cluster: None })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The kubeconfig of an API server and controllers, started by whoever asks first.
    pub async fn cluster(&mut self) -> Result<&Path> {
        if self.cluster.is_none() {
            self.cluster = Some(Box::pin(LocalCluster::start(Options::api_only("bench"))).await?);
        }
        Ok(self.cluster.as_ref().context("it was started")?.kubeconfig())
    }

    /// Writes `NAME.toml` for previewd with this database, with a cluster and a GitHub where nobody listens. Both are
    /// configured as people have them: a certificate authority and a token.
    pub fn configure(&self, name: &str, database: &str, port: u16) -> Result<PathBuf> {
        let kubeconfig = self.path("kubeconfig");
        if !kubeconfig.exists() {
            fs::write(&kubeconfig, absent_cluster()?).context("cannot write a kubeconfig")?;
        }
        let config = self.path(&format!("{name}.toml"));
        let quoted = |text: &str| json!(text).to_string();
        let text = format!(
            "database = {}\nlisten = \"127.0.0.1:{port}\"\nbase_domain = \"preview.example.com\"\n\
             [teams.{TEAM}]\nrepositories = [\"Codertocat/*\"]\n\
             [github]\napi_url = \"http://127.0.0.1:1\"\ntoken = \"bench-token\"\nwebhook_secrets = [{}]\n\
             [kubernetes]\nkubeconfig = {}\n",
            quoted(database),
            quoted(WEBHOOK_SECRET),
            quoted(&kubeconfig.display().to_string()),
        );
        fs::write(&config, text).context("cannot write a configuration")?;
        Ok(config)
    }

    /// `sqlite:` and a file of this name.
    pub fn sqlite(&self, name: &str) -> String {
        format!("sqlite:{}", self.path(name).display())
    }

    pub async fn shutdown(self) -> Result<()> {
        match self.cluster {
            Some(cluster) => cluster.shutdown().await,
            None => Ok(()),
        }
    }
}

/// The kubeconfig of a cluster that cannot be reached. JSON is YAML.
fn absent_cluster() -> Result<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let cluster = json!({
        "server": "https://127.0.0.1:1",
        "certificate-authority-data": BASE64_STANDARD.encode(authority.cert.pem()),
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{ "name": "bench", "cluster": cluster }],
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        "users": [{ "name": "bench", "user": { "token": "bench" } }],
    });
    Ok(config.to_string())
}
