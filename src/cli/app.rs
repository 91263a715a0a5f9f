//! The pieces that commands are made of, built from the configuration.

use std::sync::Arc;

use anyhow::Context;
use previewd::{
    alerts::Alerts,
    cluster::Cluster,
    config::{Config, DatabaseUrl, Migrate, refuse_network_filesystem},
    engine::{self, Engine, Prober, Roles},
    faults::Faults,
    github::GitHub,
    helm::Helm,
    service::{Addresses, Author, Service},
    store::{self, Retention, Store},
};

/// Opens the database, with this version's tables in it.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    if let DatabaseUrl::Sqlite(path) = &config.database {
        refuse_network_filesystem(path)?;
    }
    let mode = match config.migrate {
        Migrate::Auto => store::Migrate::Auto,
        Migrate::Check => store::Migrate::Check,
    };
    let url = config.database.expose_url();
    store::migrate(&url, mode).await.with_context(|| format!("cannot use the database {}", config.database))?;
    Store::open(&url).with_context(|| format!("cannot open the database {}", config.database))
}

/// What can be asked for.
pub fn service(config: &Config, store: &Store, cluster: Option<Cluster>, github: Option<GitHub>) -> Service {
    let addresses = Addresses { base_domain: config.base_domain.clone(), github_web_url: config.github.web_url() };
    Service::new(store.clone(), cluster, github, addresses, config.limits.clone(), author(config))
}

/// What looks at recipes before they are pushed.
pub fn author(config: &Config) -> Author {
    Author { policy: config.policy(), base_domain: config.base_domain.clone(), helm: helm(config) }
}

/// What renders charts.
pub fn helm(config: &Config) -> Helm {
    Helm::new(config.helm.path.clone(), config.helm.repositories.clone())
}

/// What works on the environments.
pub fn engine(config: &Config, store: &Store, cluster: &Cluster, github: &GitHub) -> anyhow::Result<Engine> {
    let prober = config.probe_urls.then(Prober::new).transpose().context("cannot ask URLs (probe_urls)")?;
    Ok(Engine {
        store: store.clone(),
        cluster: cluster.clone(),
        github: github.clone(),
        base_domain: config.base_domain.clone(),
        policy: Arc::new(config.policy()),
        triggers: config.triggers.clone(),
        lifetime: config.lifetime.clone(),
        limits: config.limits.clone(),
        capacity: Arc::new(config.capacity()),
        report_to: config.github.report,
        alerts: Alerts::new(&config.alerts),
        roles: Roles::default(),
        retention: Retention {
            deliveries: config.retention.deliveries.millis(),
            events: config.retention.events.millis(),
        },
        repositories: config.named_repositories(),
        orphans_told: Arc::default(),
        workers: config.engine.workers.count().get(),
        look: engine::LOOK,
        faults: Faults::default(),
        helm: helm(config),
        prober,
    })
}
