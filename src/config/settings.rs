//! Sections and values that belong to no other module, and how texts become values.

use std::{
    collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration,
};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::environment::{
    BaseDomain, Capacity, ForkPolicy, InvalidName, Lifespan, Millis, RepositoryName, TeamCapacity, sleep_after,
};
use crate::recipe::ImageReference;

/// The rule that a value breaks. Never the value itself, which may be a secret in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(pub &'static str);

/// Which browsers and hosts may speak MCP over HTTP.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct McpSettings {
    /// Further hosts under which `/mcp` is reached; loopback and the host of `public_url` always are.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may call `/mcp`, such as `https://inspector.example.com`.
    pub allowed_origins: Vec<String>,
}

/// People and the repositories that they share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Team {
    /// The team's repositories: `owner/name`, or `owner/*` for all of an owner's.
    pub repositories: Vec<RepositoryPattern>,
    /// GitHub logins of the team's members.
    pub members: Vec<Login>,
    /// Of those who also delete its environments and approve strangers' commits, signed in with GitHub.
    pub admins: Vec<Login>,
    /// Whether its members look after previewd itself: they see and do everything.
    pub operate: bool,
    /// How many environments the team's repositories may have at once, all of them together.
    pub environments: Option<u64>,
}

/// What nobody may go beyond.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How much recipes may open to pull requests from forks.
    pub forks: ForkPolicy,
    /// How many environments there may be at once. Those beyond wait in line.
    pub environments: Option<u64>,
    /// How many environments one repository may have at once.
    pub environments_per_repository: Option<u64>,
    /// The longest `ttl`, and the longest time for which somebody may keep an environment.
    pub ttl: Lifespan,
}

impl Limits {
    /// Until when somebody who asks for this long keeps an environment.
    pub fn kept_until(&self, now: Millis, duration: Duration) -> Millis {
        let asked = Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
        now.saturating_add(self.ttl.millis().map_or(asked, |most| asked.min(most)))
    }

    /// What is told where an environment is kept for less than `duration`, which somebody asked for.
    pub fn shortfall(&self, duration: Duration) -> Option<String> {
        let asked = Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
        let is_less = self.ttl.millis().is_some_and(|most| most < asked);
        is_less.then(|| format!("It is kept for {}, the longest here.", self.ttl))
    }

    /// How many environments there may be at once, with what `teams` may have.
    pub fn capacity(&self, teams: &BTreeMap<String, Team>) -> Capacity {
        let of_team = |(name, team): (&String, &Team)| {
            let at_most = team.environments?;
            let repositories = team.repositories.iter().map(|pattern| pattern.as_str().to_owned()).collect();
            Some(TeamCapacity { name: name.clone(), repositories, at_most })
        };
        Capacity {
            cluster: self.environments,
            repository: self.environments_per_repository,
            teams: teams.iter().filter_map(of_team).collect(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            forks: ForkPolicy::Approve,
            environments: None,
            environments_per_repository: None,
            ttl: Lifespan::hours(30 * 24),
        }
    }
}

/// How long environments last where their recipe does not say it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LifetimeSettings {
    /// How long after its last commit or use an environment goes: `72h`, or `never`.
    pub ttl: Lifespan,
    /// How long after its last use an environment sleeps: `8h`, a minute at least, or `never`.
    #[serde(deserialize_with = "sleep_after")]
    pub sleep_after: Lifespan,
}

/// How long histories are kept.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// What is known of webhooks and commands: `30d`, or `never` for ever.
    pub deliveries: Lifespan,
    /// What happened to environments, and who asked for it: `180d`, or `never` for ever.
    pub events: Lifespan,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { deliveries: Lifespan::hours(30 * 24), events: Lifespan::hours(180 * 24) }
    }
}

impl Default for LifetimeSettings {
    fn default() -> Self {
        Self { ttl: Lifespan::hours(72), sleep_after: Lifespan::ENDLESS }
    }
}

/// How images and charts of one registry are pulled.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// The user's name there. Empty: it asks for none.
    pub username: String,
    /// The password, or a token that may read.
    #[schemars(with = "String")]
    pub password: SecretString,
    /// Whether it speaks HTTP without TLS, as some inside a cluster do. Nodes need to be told the same.
    pub plain_http: bool,
}

/// How long environments wait for images that are still being built.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    /// Whether registries are asked for a commit's images before it is deployed: those of `[registries]`, and all with a
    /// public address.
    pub ask_registries: bool,
    /// How long a commit waits for an image that its registry does not have yet: `30m`, or `never` to wait for ever.
    pub wait: Lifespan,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self { ask_registries: true, wait: Lifespan::minutes(30) }
    }
}

/// What seals secrets in the database.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SealingSettings {
    /// The secrets that keys are made from, at least 32 characters each. The first seals, every one opens: put a new one
    /// first, and take the old one out later. With SQLite previewd makes a key file beside the database where there are
    /// none.
    #[serde(deserialize_with = "crate::github::secrets")]
    #[schemars(with = "Vec<String>")]
    pub keys: Vec<SecretString>,
}

/// How charts are rendered.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HelmSettings {
    /// The helm command, 3.18.4 or newer; a plain name is looked for in PATH.
    pub path: PathBuf,
    /// Where recipes may take charts from besides their own repository: what such an address must begin with, as
    /// `oci://ghcr.io/acme` or `https://charts.example.com`.
    pub repositories: Vec<String>,
}

impl Default for HelmSettings {
    fn default() -> Self {
        Self { path: PathBuf::from("helm"), repositories: Vec::new() }
    }
}

/// How much of this process's time goes into environments.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How many environments are worked on at the same moment. A pass takes seconds, so a few workers serve many.
    pub workers: Workers,
}

/// What previewd says about its own work, on stderr.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `text` for people, `json` for one object a line.
    pub format: LogFormat,
    /// What is logged, as tracing's directives: a level, or `target=level`, several with commas between.
    pub filter: LogFilter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// 1 to 64 workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64")]
#[schemars(inline, with = "u8", extend("minimum" = 1, "maximum" = 64))]
pub struct Workers(u8);

impl Workers {
    pub fn count(self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.into()).expect("at least one, by its constructor")
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self(8)
    }
}

impl TryFrom<u64> for Workers {
    type Error = InvalidSetting;

    fn try_from(count: u64) -> Result<Self, InvalidSetting> {
        match u8::try_from(count) {
            Ok(count @ 1..=64) => Ok(Self(count)),
            _ => Err(InvalidSetting("must be a whole number from 1 to 64")),
        }
    }
}

/// Implements the traits of a value that is a text with a rule.
macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidSetting;

            fn try_from(text: String) -> Result<Self, InvalidSetting> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text!(LogFilter, RepositoryPattern, Login, RegistryHost);

/// Directives as tracing-subscriber's `EnvFilter` reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub struct LogFilter(String);

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        match EnvFilter::try_new(text) {
            Ok(_) if !text.trim().is_empty() => Ok(Self(text.to_owned())),
            _ => Err(InvalidSetting("must be log directives such as info or info,previewd::engine=debug")),
        }
    }
}

/// A repository, or all repositories of one owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub struct RepositoryPattern(String);

impl RepositoryPattern {
    pub fn covers(&self, repository: &RepositoryName) -> bool {
        repository.matches(&self.0)
    }
}

impl From<&RepositoryName> for RepositoryPattern {
    fn from(name: &RepositoryName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl FromStr for RepositoryPattern {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        // An owner is valid where a repository of that owner is.
        let example = text.strip_suffix("/*").map(|owner| format!("{owner}/repository"));
        match example.as_deref().unwrap_or(text).parse::<RepositoryName>() {
            Ok(_) => Ok(Self(text.to_ascii_lowercase())),
            Err(_) => Err(InvalidSetting("must be owner/name or owner/*")),
        }
    }
}

/// A registry's host, with a port where needed, lower-cased, as names of images begin with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub struct RegistryHost(String);

impl FromStr for RegistryHost {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let host = text.to_ascii_lowercase();
        // A host is one where an image of it is an image of that registry, by the name that this is known by.
        match format!("{host}/image").parse::<ImageReference>() {
            Ok(image) if image.registry() == host || host.ends_with(".docker.io") && !host.contains('/') => {
                Ok(Self(image.registry().to_owned()))
            }
            _ => Err(InvalidSetting(
                "must be a host such as ghcr.io or registry.internal:5000, without https:// or a path",
            )),
        }
    }
}

impl std::borrow::Borrow<str> for RegistryHost {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A GitHub login, lower-cased: GitHub's own do not differ by case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub struct Login(String);

impl FromStr for Login {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        // GitHub: at most 39 characters, with an underscore before the short code of managed users.
        let name = text.strip_suffix("[bot]").unwrap_or(text);
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..=39).contains(&name.len()) && name.bytes().all(valid) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(InvalidSetting("must be a GitHub login such as octocat, without @"))
    }
}

pub(super) fn base_domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BaseDomain, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(|InvalidName { field: _, rule }| D::Error::custom(rule))
}

pub(super) fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let rule = "must be an address and a port such as 127.0.0.1:8787";
    String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom(rule))
}

pub(super) fn web_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    match Url::parse(&String::deserialize(deserializer)?) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(url)),
        _ => Err(D::Error::custom("must be a URL such as https://previewd.example.com")),
    }
}

/// What computing costs. All of it is an estimate: what is used, not what is reserved, at these prices.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// Of one core for an hour.
    pub cpu_core_hour: f64,
    /// Of one GiB of memory for an hour.
    pub memory_gib_hour: f64,
    /// What prices are in, such as `EUR`.
    pub currency: String,
}
