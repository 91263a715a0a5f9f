//! `previewd doctor`: checks each piece of the setup, and says how to mend what is wrong.
//!
//! A check is an async function from what it needs to a [`Check`], called in [`check_all`].

use std::{borrow::Cow, process::ExitCode, time::Duration};

use previewd::{
    cluster::Cluster,
    config::{Config, DatabaseUrl, refuse_network_filesystem},
    github::GitHub,
    identity::login_callback,
    store::{self, MigrationError},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::{net::lookup_host, time::timeout};

use super::{
    Global, app, describe,
    output::{Output, print, print_json},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What one look at one piece of the setup gave.
#[derive(Debug, Serialize)]
pub struct Check {
    name: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    Ok {
        detail: String,
    },
    /// Works, but not for everything or not as it should.
    Warn {
        problem: String,
        mend: Cow<'static, str>,
    },
    Fail {
        problem: String,
        mend: Cow<'static, str>,
    },
}

impl Check {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok { detail: detail.into() } }
    }

    pub fn warn(name: &'static str, problem: impl Into<String>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { name, outcome: Outcome::Warn { problem: problem.into(), mend: mend.into() } }
    }

    pub fn fail(name: &'static str, problem: impl Into<String>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { name, outcome: Outcome::Fail { problem: problem.into(), mend: mend.into() } }
    }
}

pub async fn run(Args { output }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let checks = match global.load() {
        Ok(config) => {
            let from = if global.has_file() { "" } else { "; there is no previewd.toml, so that defaults count" };
            check_all(&config, from).await
        }
        Err(error) => {
            let lines = describe(&error.into());
            let problem = lines.iter().map(|line| line.trim_start().trim_start_matches("error: "));
            let problem = problem.collect::<Vec<_>>().join("\n");
            vec![Check::fail("configuration", problem, "correct it; previewd.example.toml has every key")]
        }
    };
    match output {
        Output::Table => print(&shown(&checks))?,
        Output::Json => print_json(&checks)?,
    }
    let has_failed = checks.iter().any(|check| matches!(check.outcome, Outcome::Fail { .. }));
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn check_all(config: &Config, from: &str) -> Vec<Check> {
    vec![
        Check::ok("configuration", format!("every key is known and valid{from}")),
        database_file(config),
        database(config).await,
        cluster(config).await,
        helm(config).await,
        github(config).await,
        webhook_secrets(config),
        sealing(config),
        teams(config),
        issuer(config).await,
        github_login(config),
        metrics_api(config).await,
        base_domain(config).await,
        public_url(config),
    ]
}

/// One line a check, and one for how to mend it.
fn shown(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, outcome } in checks {
        let (result, said, mend) = match outcome {
            Outcome::Ok { detail } => ("ok", detail, None),
            Outcome::Warn { problem, mend } => ("warn", problem, Some(mend)),
            Outcome::Fail { problem, mend } => ("fail", problem, Some(mend)),
        };
        let indent = format!("\n{:1$}", "", width + 8);
        text.push_str(&format!("{result:4}  {name:width$}  {}\n", said.replace('\n', &indent)));
        if let Some(mend) = mend {
            text.push_str(&format!("{:1$}mend: {mend}\n", "", width + 8));
        }
    }
    text
}

fn database_file(config: &Config) -> Check {
    const NAME: &str = "database file";
    match &config.database {
        DatabaseUrl::Sqlite(path) => match refuse_network_filesystem(path) {
            Ok(()) => Check::ok(NAME, format!("{} is on a local disk", path.display())),
            Err(error) => Check::fail(NAME, error.to_string(), "set `database` to a local path or to postgres://…"),
        },
        DatabaseUrl::Postgres(_) => Check::ok(NAME, "none: PostgreSQL"),
    }
}

async fn database(config: &Config) -> Check {
    const NAME: &str = "database";
    match store::migrate(&config.database.expose_url(), store::Migrate::Check).await {
        Ok(_) => Check::ok(NAME, format!("{} has this version's tables", config.database)),
        Err(error @ MigrationError::Pending { .. }) => {
            Check::warn(NAME, error.to_string(), "previewd serve applies them unless `migrate` is \"check\"")
        }
        Err(error) => Check::fail(NAME, told(&error), "correct `database`, or what it points at"),
    }
}

async fn cluster(config: &Config) -> Check {
    const NAME: &str = "cluster";
    let cluster = match Cluster::new(config.kubernetes.clone()).await {
        Ok(cluster) => cluster,
        Err(error) => return Check::fail(NAME, told(&error), "set kubernetes.kubeconfig or kubernetes.context"),
    };
    let id = match cluster.id().await {
        Ok(id) => id,
        Err(error) => return Check::fail(NAME, told(&error), "check that the API server can be reached from here"),
    };
    match cluster.missing_permissions().await {
        Ok(missing) if missing.is_empty() => {
            Check::ok(NAME, format!("answers, and allows all that is needed; its id is {id}"))
        }
        Ok(missing) => {
            let problem = format!("previewd's account may not {}", missing.join(", "));
            Check::fail(NAME, problem, "give it the role that `previewd schema cluster-role` prints")
        }
        Err(error) => Check::warn(NAME, told(&error), "see that its account may ask for its own permissions"),
    }
}

async fn helm(config: &Config) -> Check {
    const NAME: &str = "helm";
    let mend = "install helm 3.18.4 or newer, or name it in helm.path; only charts need it";
    match app::helm(config).version().await {
        Ok(version) => Check::ok(NAME, version),
        Err(error) => Check::warn(NAME, told(&error), mend),
    }
}

async fn github(config: &Config) -> Check {
    const NAME: &str = "GitHub";
    let github = match GitHub::new(&config.github) {
        Ok(github) => github,
        Err(error) => return Check::fail(NAME, told(&error), "set github.app or github.token"),
    };
    match github.ready().await {
        Ok(()) => Check::ok(NAME, format!("{} takes the credentials", config.github.api_url)),
        Err(error) => Check::fail(NAME, told(&error), "check github.api_url and the credentials"),
    }
}

/// An error with its causes, in one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

/// A secret shorter than this can be guessed from one signed delivery; `openssl rand -hex 20` gives 40.
const SHORT_SECRET: usize = 16;

fn webhook_secrets(config: &Config) -> Check {
    const NAME: &str = "webhook secrets";
    const MEND: &str = "take a random one (openssl rand -hex 32) for github.webhook_secrets and for GitHub's webhook";
    match config.require_webhook_secrets() {
        Err(error) => Check::fail(NAME, error.to_string(), MEND),
        Ok(secrets) if secrets.iter().any(|secret| secret.expose_secret().len() < SHORT_SECRET) => {
            Check::warn(NAME, format!("one has fewer than {SHORT_SECRET} characters and can be guessed"), MEND)
        }
        Ok(secrets) => Check::ok(NAME, format!("{} set", secrets.len())),
    }
}

/// With SQLite there is a key file beside the database.
fn sealing(config: &Config) -> Check {
    const NAME: &str = "sealing keys";
    match (&config.database, config.sealing.keys.len()) {
        (DatabaseUrl::Sqlite(_), 0) => Check::ok(NAME, "a file beside the database, made where it is missing"),
        (DatabaseUrl::Postgres(_), 0) => Check::warn(
            NAME,
            "there are none, so recipes with secrets, databases or charts fail",
            "set sealing.keys to a random text (openssl rand -hex 32), the same for every process",
        ),
        (DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_), keys) => Check::ok(NAME, format!("{keys} set")),
    }
}

/// Without a team only operators see anything.
fn teams(config: &Config) -> Check {
    const NAME: &str = "teams";
    let empty: Vec<&str> = config
        .teams
        .iter()
        .filter(|(_, team)| team.repositories.is_empty() && !team.operate)
        .map(|(name, _)| name.as_str())
        .collect();
    if config.teams.is_empty() {
        return Check::warn(
            NAME,
            "there are none, so only operators see environments",
            "add [teams.NAME] with repositories",
        );
    }
    if !empty.is_empty() {
        let problem = format!("without repositories, whose members see nothing: {}", empty.join(", "));
        return Check::warn(NAME, problem, "give them repositories");
    }
    Check::ok(NAME, config.teams.keys().cloned().collect::<Vec<_>>().join(", "))
}

async fn issuer(config: &Config) -> Check {
    const NAME: &str = "OIDC issuer";
    match app::issuer(config) {
        Ok(None) => Check::ok(NAME, "none: previewd's own tokens alone"),
        Ok(Some(issuer)) => match issuer.check().await {
            Ok(keys) => Check::ok(NAME, format!("{} answers, with {keys} keys", issuer.url())),
            Err(error) => {
                Check::fail(NAME, format!("{error:#}"), "check oidc.issuer, and that it is reached from here")
            }
        },
        Err(error) => Check::fail(NAME, format!("{error:#}"), "correct [oidc]"),
    }
}

fn github_login(config: &Config) -> Check {
    const NAME: &str = "GitHub login";
    match (&config.github.login, &config.public_url) {
        (None, _) => Check::ok(NAME, "none: people sign in to the dashboard with tokens"),
        (Some(_), None) => Check::fail(NAME, "it needs public_url, to which GitHub leads back", "set public_url"),
        (Some(_), Some(_)) if config.teams.values().all(|team| team.members.is_empty() && team.admins.is_empty()) => {
            Check::warn(NAME, "no team has members, so everybody is turned away", "add members to teams")
        }
        (Some(_), Some(url)) => Check::ok(NAME, format!("its callback is {}", login_callback(url))),
    }
}

async fn metrics_api(config: &Config) -> Check {
    const NAME: &str = "metrics API";
    // That the cluster is away is said by its own check.
    let Ok(cluster) = Cluster::new(config.kubernetes.clone()).await else {
        return Check::ok(NAME, "not looked for, for want of a cluster");
    };
    let mend = "install metrics-server; environments run without it, and nobody sees what they use";
    match cluster.usage("previewd-doctor").await {
        Ok(Some(_)) => Check::ok(NAME, "answers"),
        Ok(None) => Check::warn(NAME, "the cluster has none", mend),
        Err(error) => Check::warn(NAME, told(&error), mend),
    }
}

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Every environment's host has to resolve, so a name that nobody made has to.
async fn base_domain(config: &Config) -> Check {
    const NAME: &str = "base domain";
    let domain = config.base_domain.as_str();
    let (host, _) = domain.split_once(':').unwrap_or((domain, ""));
    if host == "localhost" || host.ends_with(".localhost") {
        return Check::ok(NAME, format!("{domain}: environments open on this machine only"));
    }
    let name = format!("previewd-doctor.{host}");
    let looked_up = timeout(LOOKUP_TIMEOUT, lookup_host((name.as_str(), 443))).await;
    let addresses = looked_up.ok().and_then(Result::ok).map(Iterator::count);
    match addresses {
        Some(1..) => Check::ok(NAME, format!("*.{domain} resolves")),
        Some(0) | None => Check::warn(
            NAME,
            format!("{name} does not resolve, so no environment can be opened by its URL"),
            format!("make a DNS record *.{host} that points at the ingress controller, or at previewd's own router"),
        ),
    }
}

/// Applications of strangers run under the base domain, and could set cookies for a server in it.
fn public_url(config: &Config) -> Check {
    const NAME: &str = "public URL";
    let domain = config.base_domain.as_str();
    let (domain, _) = domain.split_once(':').unwrap_or((domain, ""));
    match config.public_url.as_ref().and_then(|url| url.host_str()) {
        None => Check::ok(NAME, format!("none: http://{}", config.listen)),
        Some(host) if config.router.enabled && host.ends_with(&format!(".{domain}")) => Check::fail(
            NAME,
            format!("{host} is inside {domain}, where the router answers for previews"),
            "give previewd a host outside of base_domain",
        ),
        Some(host) if domain != "localhost" && (host == domain || host.ends_with(&format!(".{domain}"))) => {
            Check::warn(
                NAME,
                format!("{host} is inside {domain}, where previews could set cookies for it"),
                "give previewd a host outside of base_domain",
            )
        }
        Some(host) => Check::ok(NAME, host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, toml).unwrap();
        Config::load(Some(file.path()), std::iter::empty()).unwrap()
    }

    fn result(check: &Check) -> String {
        serde_json::to_value(check).unwrap()["result"].as_str().unwrap().to_owned()
    }

    #[test]
    fn webhook_secrets_are_there_and_long() {
        let secrets = |list: &str| result(&webhook_secrets(&config(&format!("github.webhook_secrets = {list}"))));
        assert_eq!(secrets("[]"), "fail");
        assert_eq!(secrets("['hunter2']"), "warn");
        assert_eq!(secrets("['0123456789abcdef0123']"), "ok");
    }

    #[test]
    fn the_server_is_outside_of_the_previews() {
        let public = |url: &str| {
            let text = format!("base_domain = 'preview.example.com'\npublic_url = '{url}'");
            result(&public_url(&config(&text)))
        };
        assert_eq!(public("https://previewd.example.com"), "ok");
        assert_eq!(public("https://previewd.preview.example.com"), "warn");
        let routed = "base_domain = 'localhost'\npublic_url = 'http://previewd.localhost'\nrouter.enabled = true";
        assert_eq!(result(&public_url(&config(routed))), "fail");
    }

    #[test]
    fn what_people_need_is_looked_at() {
        let of = |toml: &str| config(toml);
        assert_eq!(result(&sealing(&of(""))), "ok");
        assert_eq!(result(&sealing(&of("database = 'postgres://p@db/p'"))), "warn");
        assert_eq!(result(&teams(&of(""))), "warn");
        assert_eq!(result(&teams(&of("[teams.shop]\nmembers = ['ann']"))), "warn");
        assert_eq!(result(&teams(&of("[teams.shop]\nrepositories = ['acme/*']"))), "ok");
        let login = "[github.login]\nclient_id = 'a'\nclient_secret = 'b'\n";
        let public = "public_url = 'https://p.example.com'\n";
        assert_eq!(result(&github_login(&of(login))), "fail");
        assert_eq!(result(&github_login(&of(&format!("{public}{login}")))), "warn");
        let members = "[teams.shop]\nadmins = ['ann']\n";
        assert_eq!(result(&github_login(&of(&format!("{public}{login}{members}")))), "ok");
    }

    #[tokio::test]
    async fn an_issuer_that_is_away_is_said_to_be() {
        assert_eq!(result(&issuer(&Config::default()).await), "ok");
        let away = config("[oidc]\nissuer = 'http://127.0.0.1:1'\naudience = 'previewd'\n");
        assert_eq!(result(&issuer(&away).await), "fail");
    }

    #[tokio::test]
    async fn a_base_domain_on_this_machine_needs_no_dns() {
        assert_eq!(result(&base_domain(&Config::default()).await), "ok");
    }

    #[test]
    fn what_is_wrong_is_shown_with_how_to_mend_it() {
        let checks = [
            Check::ok("configuration", "valid"),
            Check::warn("helm", "is not on PATH", "install it"),
            Check::fail("database", "a\nb", "c"),
        ];
        let expected = "\
ok    configuration  valid
warn  helm           is not on PATH
                     mend: install it
fail  database       a
                     b
                     mend: c
";
        assert_eq!(shown(&checks), expected);
        assert_eq!(
            serde_json::to_value(&checks[1]).unwrap(),
            serde_json::json!({ "name": "helm", "result": "warn", "problem": "is not on PATH", "mend": "install it" })
        );
    }
}
