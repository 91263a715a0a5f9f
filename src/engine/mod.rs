//! The engine: claims environments that are due, and brings each a step nearer to what it should be.
//!
//! The row is the unit of work; nothing is handed over in memory, so a killed engine loses nothing and any number of
//! them share the work.

mod apply;
mod builds;
mod commands;
mod given;
mod images;
mod interrupted;
mod keep_logs;
mod made;
mod observe;
mod pass;
mod probe;
mod records;
mod repair;
mod report;
mod usage;
mod volumes;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};
use url::Url;
use uuid::Uuid;

pub use builds::Builds;
pub use commands::Roles;
pub use given::Given;
pub use probe::Prober;
pub use repair::{Finding, Sweep};

use crate::{
    alerts::Alerts,
    cluster::{Cluster, WatchHealth},
    config::{LifetimeSettings, Limits},
    environment::{BaseDomain, Capacity, Lifespan, Patience, ReportTo, TriggerSettings},
    faults::Faults,
    github::GitHub,
    helm::Helm,
    identity::TeamsInForce,
    recipe::Policy,
    registry::Registries,
    store::{Installation, Retention, Store},
};

/// How often a process that nobody woke looks for rows that are due: another process may have made them so.
pub const LOOK: Duration = Duration::from_millis(500);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The wait before another try at a cluster or a database that is away.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How long passes may take to end when previewd is asked to.
const FAREWELL: Duration = Duration::from_secs(20);

/// What passes work with.
#[derive(Clone)]
pub struct Engine {
    pub store: Store,
    pub cluster: Cluster,
    pub github: GitHub,
    pub base_domain: BaseDomain,
    /// Where people reach the dashboard. None: nobody is led there.
    pub public_url: Option<Url>,
    pub policy: Arc<Policy>,
    /// For recipes that leave it open.
    pub triggers: TriggerSettings,
    pub lifetime: LifetimeSettings,
    /// Whatever recipes say.
    pub limits: Limits,
    /// Whose environments count together, and whose repositories are looked at, heard of or not.
    pub teams: TeamsInForce,
    /// For recipes that leave it open.
    pub report_to: ReportTo,
    pub alerts: Alerts,
    pub roles: Roles,
    pub builds: Builds,
    pub retention: Retention,
    pub helm: Helm,
    /// What the operator gives to previews.
    pub given: Given,
    /// What asks registries for images before a commit is deployed. None: they are not asked.
    pub registries: Option<Registries>,
    /// How long a commit waits for an image that is missing.
    pub image_wait: Lifespan,
    /// How long it waits for the cluster.
    pub patience: Patience,
    /// What asks public URLs. None: they are not asked.
    pub prober: Option<Prober>,
    /// How many namespaces without a row operators were told of last.
    pub orphans_told: Arc<Mutex<usize>>,
    /// How many passes run at once.
    pub workers: usize,
    /// How often to look for rows that another process made due: [`LOOK`].
    pub look: Duration,
    /// What is to go wrong, in a simulation.
    pub faults: Faults,
}

impl Engine {
    /// How many environments there may be now.
    fn capacity(&self) -> Capacity {
        self.limits.capacity(&self.teams.borrow())
    }

    /// Works until `stop`. An error means that this engine must not work at all: the database is for another cluster.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Some(installation) = self.bind(&stop).await? else { return Ok(()) };
        let id = Uuid::new_v4().to_string();
        info!(engine = %id, installation = %installation.id, "engine started");

        let heartbeat = tokio::spawn(self.clone().beat(id.clone(), stop.clone()));
        let (changes, health) = self.cluster.watch(&installation.id);
        let watch = tokio::spawn(self.clone().wake_on(changes, stop.clone()));
        let repair = tokio::spawn(self.clone().repair_until(id.clone(), installation.clone(), stop.clone()));
        let sampling = tokio::spawn(self.clone().sample_until(id.clone(), installation.clone(), stop.clone()));
        self.clone().claim_and_pass(Arc::new(installation), stop).await;
        let _: WatchHealth = health;

        for task in [heartbeat, watch, repair, sampling] {
            task.await.context("a task of the engine failed")?;
        }
        if let Err(error) = self.store.end_engine(&id).await {
            warn!(error = %error, "could not say that the engine ends");
        }
        info!(engine = %id, "engine ended");
        Ok(())
    }

    /// Binds the database to the cluster, or finds that it is bound to another. Waits for either to be there. None
    /// where it is told to stop first.
    async fn bind(&self, stop: &CancellationToken) -> anyhow::Result<Option<Installation>> {
        let mut told = false;
        loop {
            let failure: anyhow::Error = match self.cluster.id().await {
                Ok(cluster_id) => match self.bind_to(&cluster_id).await {
                    Ok(Ok(installation)) => return Ok(Some(installation)),
                    Ok(Err(bound_to)) => return Err(another_cluster(&bound_to, &cluster_id)),
                    Err(error) => error.into(),
                },
                Err(error) => error.into(),
            };
            if !told {
                warn!(error = format!("{failure:#}"), "the engine waits for the cluster and the database");
                told = true;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(TRY_AGAIN) => {}
            }
        }
    }

    /// This database's installation, where it is for the configured cluster.
    pub async fn installation(&self) -> anyhow::Result<Installation> {
        let cluster_id = self.cluster.id().await?;
        match self.bind_to(&cluster_id).await? {
            Ok(installation) => Ok(installation),
            Err(bound_to) => Err(another_cluster(&bound_to, &cluster_id)),
        }
    }

    async fn bind_to(&self, cluster_id: &str) -> Result<Result<Installation, String>, crate::store::StoreError> {
        let mut installation = self.store.installation().await?;
        installation.cluster_id = self.store.bind_cluster(cluster_id).await?;
        match &installation.cluster_id {
            Some(bound_to) if bound_to != cluster_id => Ok(Err(bound_to.clone())),
            _ => Ok(Ok(installation)),
        }
    }

    async fn beat(self, id: String, stop: CancellationToken) {
        loop {
            if let Err(error) = self.store.heartbeat(&id).await {
                warn!(error = %error, "could not store the engine's heartbeat");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
    }

    /// Makes rows due whose namespace changed. A wake that is lost costs the time until the next look.
    async fn wake_on(
        self,
        changes: impl futures::Stream<Item = crate::environment::Namespace>,
        stop: CancellationToken,
    ) {
        let mut changes = std::pin::pin!(changes);
        loop {
            let namespace = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                namespace = changes.next() => namespace,
            };
            let Some(namespace) = namespace else { return };
            if let Err(error) = self.store.wake(&namespace).await {
                warn!(error = %error, %namespace, "could not make an environment due");
            }
        }
    }

    async fn claim_and_pass(self, installation: Arc<Installation>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.workers));
        loop {
            let slot = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                slot = slots.clone().acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            match self.store.claim_due_environment().await {
                Ok(Some((lease, environment))) => {
                    let span = tracing::info_span!("pass", environment = %environment.namespace);
                    let (engine, installation) = (self.clone(), installation.clone());
                    tokio::spawn(
                        async move {
                            pass::run(&engine, &installation, lease, environment).await;
                            drop(slot);
                        }
                        .instrument(span),
                    );
                }
                Ok(None) => {
                    drop(slot);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = self.something_is_due() => {}
                    }
                }
                Err(error) => {
                    warn!(error = %error, "could not look for environments that are due");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
        let all = u32::try_from(self.workers).unwrap_or(u32::MAX);
        if tokio::time::timeout(FAREWELL, slots.acquire_many(all)).await.is_err() {
            warn!("passes were still under way; their environments are taken up again when their leases end");
        }
    }

    /// Returns when this process made a row due, or when a look finds one.
    async fn something_is_due(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.store.made_due() => return,
                () = tokio::time::sleep(self.look) => match self.store.has_due_environment().await {
                    Ok(false) => {}
                    Ok(true) | Err(_) => return,
                },
            }
        }
    }
}

fn another_cluster(bound_to: &str, configured: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "this database belongs to the cluster {bound_to}, and the configured one is {configured}; point \
         kubernetes.context at the right cluster, or database at another database"
    )
}
