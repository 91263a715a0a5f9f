//! The pieces that commands are made of, built from the configuration.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use previewd::{
    alerts::Alerts,
    cluster::Cluster,
    config::{Config, DatabaseUrl, Migrate, refuse_network_filesystem},
    engine::{self, Builds, Engine, Given, Prober, Roles},
    faults::Faults,
    github::GitHub,
    helm::Helm,
    identity::{Authenticator, Issuer, TeamsInForce},
    registry::Registries,
    router::{BackendClient, Door, PreviewRouter, RouterSettings},
    sealing::{Keys, SHORTEST_SECRET},
    service::{Addresses, Parts, RecipeRenderer, Service},
    sessions::Sessions,
    store::{self, Retention, Store},
};
use secrecy::SecretString;
use tokio::sync::watch;

/// Opens the database, with this version's tables in it.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    if let DatabaseUrl::Sqlite(path) = &config.database {
        refuse_network_filesystem(path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
    }
    let mode = match config.migrate {
        Migrate::Auto => store::Migrate::Auto,
        Migrate::Check => store::Migrate::Check,
    };
    let url = config.database.expose_url();
    store::migrate(&url, mode).await.with_context(|| format!("cannot use the database {}", config.database))?;
    let store = Store::open(&url).with_context(|| format!("cannot open the database {}", config.database))?;
    Ok(store.sealing(keys(config)?))
}

/// What seals secrets: the configuration's keys, or with SQLite the one in the file beside the database.
fn keys(config: &Config) -> anyhow::Result<Keys> {
    let mut secrets = config.sealing.keys.clone();
    if let (DatabaseUrl::Sqlite(path), true) = (&config.database, secrets.is_empty()) {
        secrets.push(key_beside(path)?);
    }
    Keys::of(&secrets).with_context(|| format!("sealing.keys: each must have at least {SHORTEST_SECRET} characters"))
}

/// The secret in the file beside a database, made where there is none, readable by this user only.
fn key_beside(database: &Path) -> anyhow::Result<SecretString> {
    let path = database.with_added_extension("key");
    if !path.exists() {
        make_key(&path).with_context(|| format!("cannot make the key file {}", path.display()))?;
    }
    let secret = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(secret.into())
}

/// Whole or not at all, and never over one that another process made at the same moment.
fn make_key(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(hex::encode(rand::random::<[u8; 32]>()).as_bytes())?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What finds out who calls. `teams`: as they are in force.
pub fn authenticator(config: &Config, store: &Store, teams: TeamsInForce) -> anyhow::Result<Authenticator> {
    Ok(Authenticator::new(store.clone(), teams, issuer(config)?))
}

/// Whose tokens are taken besides previewd's own. None where none is configured.
pub fn issuer(config: &Config) -> anyhow::Result<Option<Issuer>> {
    let resource = config.public_url.as_ref().map(|url| format!("{}/mcp", url.as_str().trim_end_matches('/')));
    Issuer::new(&config.oidc, resource)
}

/// The teams of the configuration, which stay as they are.
pub fn teams(config: &Config) -> TeamsInForce {
    watch::channel(Arc::new(config.teams.clone())).1
}

/// What can be asked for.
pub fn service(
    config: &Config,
    store: &Store,
    cluster: Option<Cluster>,
    github: Option<GitHub>,
    teams: TeamsInForce,
) -> Service {
    Service::new(Parts {
        store: store.clone(),
        cluster,
        github,
        limits: config.limits.clone(),
        renderer: renderer(config),
        prices: config.prices.clone(),
        addresses: Addresses { base_domain: config.base_domain.clone(), github_web_url: config.github.web_url() },
        teams,
    })
}

/// What answers the hosts of previews. None where the operator has something else that does.
pub fn previews(
    config: &Config,
    store: &Store,
    cluster: &Cluster,
    sessions: &Sessions,
) -> anyhow::Result<Option<PreviewRouter>> {
    let RouterSettings { enabled, reach, login } = config.router;
    if !enabled {
        return Ok(None);
    }
    let door = if login {
        let public_url =
            config.public_url.as_ref().context("router.login: needs public_url, where visitors sign in")?;
        Some(Door {
            sessions: sessions.clone(),
            login: public_url.join("login").context("public_url leads to no page")?,
        })
    } else {
        None
    };
    let (store, cluster, base_domain) = (store.clone(), cluster.clone(), config.base_domain.clone());
    let router = PreviewRouter::new(store, cluster, base_domain, reach, &config.allowed_hosts(), door);
    router.map(Some).context("the router cannot be on")
}

/// What looks at recipes before they are pushed.
pub fn renderer(config: &Config) -> RecipeRenderer {
    RecipeRenderer { policy: config.policy(), base_domain: config.base_domain.clone(), helm: helm(config) }
}

/// What renders charts.
pub fn helm(config: &Config) -> Helm {
    Helm::new(config.helm.path.clone(), config.helm.repositories.clone()).with_registries(config.docker_config())
}

/// What works on the environments.
pub fn engine(
    config: &Config,
    store: &Store,
    cluster: &Cluster,
    github: &GitHub,
    teams: TeamsInForce,
) -> anyhow::Result<Engine> {
    let prober = match (config.probe_urls, config.router.enabled) {
        (true, _) => Some(Prober::of_urls().context("cannot ask URLs (probe_urls)")?),
        (false, true) => Some(Prober::of_the_router(BackendClient::new(cluster.clone(), config.router.reach))),
        (false, false) => None,
    };
    let registries = config.images.ask_registries.then(|| Registries::new(config.registries.clone())).transpose();
    let registries = registries.context("cannot ask registries (images.ask_registries)")?;
    Ok(Engine {
        store: store.clone(),
        cluster: cluster.clone(),
        github: github.clone(),
        base_domain: config.base_domain.clone(),
        public_url: config.public_url.clone(),
        policy: Arc::new(config.policy()),
        triggers: config.triggers.clone(),
        lifetime: config.lifetime.clone(),
        limits: config.limits.clone(),
        teams,
        report_to: config.github.report,
        alerts: Alerts::new(&config.alerts),
        roles: Roles::default(),
        builds: Builds::default(),
        retention: Retention {
            deliveries: config.retention.deliveries.millis(),
            events: config.retention.events.millis(),
        },
        orphans_told: Arc::default(),
        workers: config.engine.workers.count().get(),
        look: engine::LOOK,
        faults: Faults::default(),
        helm: helm(config),
        given: Given { secrets: Arc::new(config.secrets.clone()), registries: config.docker_config() },
        registries,
        image_wait: config.images.wait,
        patience: config.patience,
        prober,
    })
}
