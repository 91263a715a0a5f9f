//! What other servers are asked, the cluster apart.

use std::{borrow::Borrow, time::Duration};

use anyhow::{Context, ensure};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use previewd::{
    config::{Config, DatabaseUrl, RegistryHost},
    github::GitHub,
    outbound::{HttpClient, Reach},
    registry::{Registries, Standing},
    store::{self, MigrationError},
};
use secrecy::ExposeSecret;
use tokio::{net::lookup_host, time::timeout};

use super::{Check, told};
use crate::cli::app;

pub(super) async fn database(config: &Config) -> Check {
    const NAME: &str = "database";
    if let DatabaseUrl::Sqlite(path) = &config.database
        && !path.exists()
    {
        let mend = "previewd serve makes it; or say where it is (`database`), or where the configuration is (--config)";
        return Check::warn(NAME, format!("there is none at {} yet", path.display()), mend);
    }
    match store::migrate(&config.database.expose_url(), store::Migrate::Check).await {
        Ok(_) => Check::ok(NAME, format!("{} has this version's tables", config.database)),
        Err(error @ MigrationError::Pending { .. }) => {
            Check::warn(NAME, error.to_string(), "previewd serve applies them unless `migrate` is \"check\"")
        }
        Err(error) => Check::fail(NAME, told(&error), "correct `database`, or what it points at"),
    }
}

pub(super) async fn helm(config: &Config) -> Check {
    const NAME: &str = "helm";
    let mend = "install helm 3.18.4 or newer, or name it in helm.path; only charts need it";
    match app::helm(config).version().await {
        Ok(version) => Check::ok(NAME, version),
        Err(error) => Check::warn(NAME, told(&error), mend),
    }
}

pub(super) async fn github(config: &Config) -> Check {
    const NAME: &str = "GitHub";
    let github = match GitHub::new(&config.github) {
        Ok(github) => github,
        Err(error) => return Check::fail(NAME, told(&error), "set github.app or github.token"),
    };
    match github.ready().await.and(github.events_not_told().await) {
        Ok(missing) if missing.is_empty() => {
            Check::ok(NAME, format!("{} takes the credentials", config.github.api_url))
        }
        Ok(missing) => Check::warn(
            NAME,
            format!("the App is not told of {}", missing.join(", ")),
            "subscribe it to them (Permissions & events, in its settings)",
        ),
        Err(error) => Check::fail(NAME, told(&error), "check github.api_url and the credentials"),
    }
}

pub(super) async fn issuer(config: &Config) -> Check {
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

/// Those of the configuration: of any other only what everybody may pull is used.
pub(super) async fn registries(config: &Config) -> Check {
    const NAME: &str = "registries";
    if config.registries.is_empty() {
        return Check::ok(NAME, "none are named: images come from where everybody may pull them");
    }
    let registries = match Registries::new(config.registries.clone()) {
        Ok(registries) => registries,
        Err(error) => {
            return Check::fail(NAME, format!("{error:#}"), "install the certificates that this machine trusts");
        }
    };
    let name: fn(&RegistryHost) -> &str = Borrow::borrow;
    let mut problems = Vec::new();
    for host in config.registries.keys() {
        match registries.standing(host).await {
            Standing::Open => {}
            Standing::Closed => problems.push(format!("{} does not take the credentials", name(host))),
            Standing::Away => problems.push(format!("{} does not answer as a registry", name(host))),
        }
    }
    if problems.is_empty() {
        let hosts: Vec<&str> = config.registries.keys().map(name).collect();
        return Check::ok(NAME, format!("{} answer", hosts.join(", ")));
    }
    Check::warn(NAME, problems.join("; "), "correct [registries]; images and charts from there may not be pulled")
}

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Every environment's host has to resolve, so a name that nobody made has to.
pub(super) async fn base_domain(config: &Config) -> Check {
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

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for nothing, and gives the status that answers, which is no server's error but that it knows no HEAD.
async fn ask(url: &str) -> anyhow::Result<StatusCode> {
    let request = Request::head(url).body(Empty::<Bytes>::new())?;
    let client = HttpClient::new(Reach::Anywhere)?;
    let answer = timeout(ANSWER_TIMEOUT, client.request(request)).await.context("no answer in time")??;
    let status = answer.status();
    ensure!(!status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED, "it answers {status}");
    Ok(status)
}

pub(super) async fn traces(config: &Config) -> Check {
    const NAME: &str = "traces";
    let Some(endpoint) = &config.traces.endpoint else { return Check::ok(NAME, "none are sent") };
    let asked = async {
        let status = ask(endpoint.as_str()).await?;
        // What it takes by POST alone is refused otherwise; this is what it does not have.
        ensure!(status != StatusCode::NOT_FOUND, "it answers {status}");
        anyhow::Ok(())
    };
    // Without what may be a secret in it.
    let shown = format!("{}{}", endpoint.origin().ascii_serialization(), endpoint.path());
    match asked.await {
        Ok(()) => Check::ok(NAME, format!("{shown} answers")),
        Err(error) => Check::warn(
            NAME,
            format!("{shown}: {error:#}"),
            "correct traces.endpoint: OTLP over HTTP, such as http://collector:4318/v1/traces",
        ),
    }
}

/// Nothing is posted: a check is no alert.
pub(super) async fn alerts(config: &Config) -> Check {
    const NAME: &str = "alerts";
    let Some(url) = &config.alerts.webhook_url else { return Check::ok(NAME, "none are sent") };
    // The path is the secret.
    let host = url::Url::parse(url.expose_secret()).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    match ask(url.expose_secret()).await {
        Ok(_) => Check::ok(NAME, format!("{host} answers")),
        Err(error) => Check::warn(NAME, format!("{host}: {error:#}"), "correct alerts.webhook_url"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{config, result},
        *,
    };

    #[tokio::test]
    async fn registries_have_to_answer() {
        assert_eq!(result(&registries(&Config::default()).await), "ok");
        let away = config("[registries.\"127.0.0.1:1\"]\nusername = 'bot'\npassword = 'secret'");
        let check = registries(&away).await;
        assert_eq!(result(&check), "warn");
        assert!(!format!("{check:?}").contains("secret"), "{check:?}");
    }

    #[tokio::test]
    async fn an_issuer_that_is_away_is_said_to_be() {
        assert_eq!(result(&issuer(&Config::default()).await), "ok");
        let away = config("[oidc]\nissuer = 'http://127.0.0.1:1'\naudience = 'previewd'\n");
        assert_eq!(result(&issuer(&away).await), "fail");
    }

    #[tokio::test]
    async fn a_database_has_this_versions_tables_or_gets_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("previewd.db");
        let own = config(&format!("database = 'sqlite:{}'", file.display()));
        assert_eq!(result(&database(&own).await), "warn");
        assert!(!file.exists(), "a look makes none");
        std::fs::write(&file, "").unwrap();
        assert!(format!("{:?}", database(&own).await).contains("previewd serve applies them"));
        store::migrate(&own.database.expose_url(), store::Migrate::Auto).await.unwrap();
        assert_eq!(result(&database(&own).await), "ok");
        assert_eq!(result(&database(&config("database = 'postgres://p@127.0.0.1:1/p'")).await), "fail");
    }

    /// A server that answers every request with this status. Gives its URL.
    async fn answering(status: StatusCode) -> String {
        let app = axum::Router::new().fallback(move || std::future::ready(status));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/secret", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        url
    }

    #[tokio::test]
    async fn what_is_told_of_previewd_has_to_answer() {
        let away = "http://127.0.0.1:1/hooks/secret".to_owned();
        for (url, of_traces, of_alerts) in [
            (answering(StatusCode::METHOD_NOT_ALLOWED).await, "ok", "ok"),
            (answering(StatusCode::NOT_IMPLEMENTED).await, "ok", "ok"),
            (answering(StatusCode::NOT_FOUND).await, "warn", "ok"),
            (answering(StatusCode::BAD_GATEWAY).await, "warn", "warn"),
            (away, "warn", "warn"),
        ] {
            let told = config(&format!("traces.endpoint = '{url}'\nalerts.webhook_url = '{url}'"));
            assert_eq!(result(&traces(&told).await), of_traces, "{url}");
            let alerts = alerts(&told).await;
            assert_eq!(result(&alerts), of_alerts, "{url}");
            assert!(!format!("{alerts:?}").contains("secret"), "{alerts:?}");
        }
        assert_eq!(result(&traces(&Config::default()).await), "ok");
        assert_eq!(result(&alerts(&Config::default()).await), "ok");
    }

    #[tokio::test]
    async fn a_base_domain_has_to_resolve() {
        assert_eq!(result(&base_domain(&config("base_domain = 'preview.invalid'")).await), "warn");
    }

    #[tokio::test]
    async fn a_base_domain_on_this_machine_needs_no_dns() {
        assert_eq!(result(&base_domain(&Config::default()).await), "ok");
    }
}
