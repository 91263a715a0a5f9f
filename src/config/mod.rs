//! The configuration: one file, every key also an environment variable, flags for the usual few.
//!
//! A variable is `PREVIEWD_` and the key in capitals, with two underscores between its parts: `log.format` is
//! `PREVIEWD_LOG__FORMAT`. Lists are comma-separated or TOML, tables are TOML. `PREVIEWD_CONFIG` (the file) and
//! `PREVIEWD_SERVER` and `PREVIEWD_TOKEN` (whom commands ask, and who does) are no keys.

mod database_url;
mod filesystem;
mod load;
pub mod schema;
mod settings;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use filesystem::{NetworkFilesystem, refuse_network_filesystem};
pub use load::{ConfigError, Problem, Unnamed, process_environment};
pub use settings::{
    EngineSettings, HelmSettings, ImageSettings, InvalidSetting, LifetimeSettings, Limits, LogFilter, LogFormat,
    LogSettings, Login, McpSettings, Prices, RegistryHost, RegistrySettings, RepositoryPattern, RetentionSettings,
    SealingSettings, Team, Workers,
};

use crate::{
    alerts::AlertSettings,
    cluster::KubernetesSettings,
    environment::{BaseDomain, Patience, TriggerSettings},
    github::GitHubSettings,
    identity::OidcSettings,
    recipe,
    router::RouterSettings,
    traces::TraceSettings,
};

/// Everything that an operator can set. Each section refuses keys that it does not know.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "previewd.toml")]
pub struct Config {
    /// Where previewd keeps its state: `sqlite:PATH`, or `postgres://USER@HOST/NAME` for several replicas
    /// (`?sslmode=verify-full` for TLS).
    #[schemars(extend("default" = database_url::DEFAULT))]
    pub database: DatabaseUrl,
    /// Whether migrations run at the start, or only are checked for.
    pub migrate: Migrate,
    /// Address and port of the HTTP server.
    #[serde(deserialize_with = "settings::socket_address")]
    pub listen: SocketAddr,
    /// The server's own address as people and agents outside reach it. Its host is allowed for MCP, and comments link to
    /// pages there.
    #[serde(deserialize_with = "settings::web_address")]
    #[schemars(with = "Option<String>", url)]
    pub public_url: Option<Url>,
    /// The ranges of proxies before previewd, which are believed about whom they ask for (X-Forwarded-For).
    pub trusted_proxies: Vec<recipe::Cidr>,
    /// The domain under which every environment has its host. Its wildcard record points at the ingress controller, or at
    /// previewd where its router is on.
    #[serde(deserialize_with = "settings::base_domain")]
    #[schemars(with = "String")]
    pub base_domain: BaseDomain,
    /// Whether an environment counts as running only once its URL answers, asked from here by its name. Turn it on where
    /// previewd reaches the URLs. Without it, a router that is on asks the application on its own way.
    pub probe_urls: bool,
    pub github: GitHubSettings,
    pub kubernetes: KubernetesSettings,
    /// Which pull requests get a preview where their recipe does not say it.
    pub triggers: TriggerSettings,
    pub limits: Limits,
    pub lifetime: LifetimeSettings,
    pub retention: RetentionSettings,
    pub quota: recipe::Quota,
    pub ingress: recipe::IngressPolicy,
    pub router: RouterSettings,
    /// Ranges that environments may not reach, besides private and link-local addresses.
    pub denied_egress: Vec<recipe::Cidr>,
    /// The images of the databases that recipes ask for.
    pub database_images: recipe::DatabaseImages,
    pub helm: HelmSettings,
    pub sealing: SealingSettings,
    pub images: ImageSettings,
    /// Registries by their host, with credentials for the images of previews and for charts. No pod can read them.
    #[schemars(with = "BTreeMap<String, RegistrySettings>")]
    pub registries: BTreeMap<RegistryHost, RegistrySettings>,
    /// What recipes may ask for by name, by repository (`owner/name` or `owner/*`). Commits of forks get none of it.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, String>>")]
    pub secrets: BTreeMap<RepositoryPattern, BTreeMap<String, SecretString>>,
    pub mcp: McpSettings,
    pub oidc: OidcSettings,
    /// Who belongs together, by the team's name. Read again while previewd runs.
    pub teams: BTreeMap<String, Team>,
    pub engine: EngineSettings,
    pub patience: Patience,
    pub alerts: AlertSettings,
    pub prices: Prices,
    pub log: LogSettings,
    pub traces: TraceSettings,
}

/// What is done about migrations when previewd starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Migrate {
    /// Run those that are due.
    #[default]
    Auto,
    /// Refuse to start while some are due.
    Check,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseUrl::default(),
            migrate: Migrate::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            public_url: None,
            trusted_proxies: Vec::new(),
            base_domain: "localhost".parse().expect("localhost is a domain"),
            probe_urls: false,
            github: Default::default(),
            kubernetes: Default::default(),
            triggers: TriggerSettings::default(),
            limits: Limits::default(),
            lifetime: LifetimeSettings::default(),
            retention: RetentionSettings::default(),
            quota: Default::default(),
            ingress: Default::default(),
            router: RouterSettings::default(),
            denied_egress: Vec::new(),
            database_images: recipe::DatabaseImages::default(),
            helm: HelmSettings::default(),
            sealing: SealingSettings::default(),
            images: ImageSettings::default(),
            registries: BTreeMap::new(),
            secrets: BTreeMap::new(),
            mcp: McpSettings::default(),
            oidc: OidcSettings::default(),
            teams: BTreeMap::new(),
            engine: EngineSettings::default(),
            patience: Patience::default(),
            alerts: AlertSettings::default(),
            prices: Prices::default(),
            log: LogSettings::default(),
            traces: TraceSettings::default(),
        }
    }
}

impl Config {
    /// Reads the file (`path`, else `PREVIEWD_CONFIG`, else what [`Unnamed`] finds) and lays the variables of
    /// `environment` over it. Relative paths are taken from the file's directory, so that `previewd mcp` finds the same
    /// database from wherever an agent starts it.
    pub fn load(
        path: Option<&Path>,
        unnamed: Unnamed,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        load::load(path, unnamed, environment)
    }

    /// What the operator decides for every environment.
    pub fn policy(&self) -> recipe::Policy {
        recipe::Policy {
            quota: self.quota.clone(),
            ingress: self.ingress.clone(),
            denied_egress: self.denied_egress.clone(),
            database_images: self.database_images.clone(),
            has_router: self.router.enabled,
        }
    }

    /// The credentials of registries in the form that Kubernetes wants. None where there are none.
    pub fn docker_config(&self) -> Option<SecretString> {
        let auth = |RegistrySettings { username, password, plain_http: _ }: &RegistrySettings| {
            let pair = BASE64.encode(format!("{username}:{}", password.expose_secret()));
            serde_json::json!({ "username": username, "password": password.expose_secret(), "auth": pair })
        };
        let with_credentials = self.registries.iter().filter(|(_, settings)| !settings.username.is_empty());
        let auths: serde_json::Map<String, _> =
            with_credentials.map(|(host, settings)| (docker_name(host).to_owned(), auth(settings))).collect();
        if auths.is_empty() {
            return None;
        }
        Some(serde_json::json!({ "auths": auths }).to_string().into())
    }

    /// The secrets that may sign a webhook: at least one, and none of them empty.
    pub fn require_webhook_secrets(&self) -> Result<&[SecretString], ConfigError> {
        Ok(self.github.webhook_secrets()?)
    }

    /// The hosts that a request to `/mcp` may name: loopback, the public address, and those of `mcp.allowed_hosts`.
    pub fn allowed_hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        hosts.extend(self.public_url.as_ref().and_then(Url::host_str).map(str::to_owned));
        hosts.extend(self.mcp.allowed_hosts.iter().cloned());
        hosts
    }

    /// Takes relative paths from `directory`.
    fn anchor_paths(&mut self, directory: &Path) {
        self.database.anchor(directory);
        let key = self.github.app.as_mut().and_then(|app| app.private_key_path.as_mut());
        for path in key.into_iter().chain(&mut self.kubernetes.kubeconfig) {
            *path = directory.join(&*path);
        }
    }
}

/// What Docker, and after it Kubernetes and Helm, call a registry among credentials.
fn docker_name(host: &RegistryHost) -> &str {
    match host.as_str() {
        "docker.io" => "https://index.docker.io/v1/",
        host => host,
    }
}
