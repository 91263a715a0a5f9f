//! Sampling: what environments use, asked from the metrics API every half minute by one process among all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Engine;
use crate::{
    cluster::{ClusterError, Workloads},
    store::{Installation, Restarts, SAMPLED_EVERY, StoreError},
};

const LEASE_NAME: &str = "usage";
/// A sample takes one request and one transaction.
const LEASE: Duration = Duration::from_secs(30);
/// How often a process looks whether it is its turn.
const LOOK: Duration = Duration::from_secs(10);

impl Engine {
    /// Samples whenever it is due and this process's turn, until `stop`.
    pub(super) async fn sample_until(self, id: String, installation: Installation, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            // The lease's end comes before the next turn, should this process die.
            match self.store.take_lease(LEASE_NAME, &id, LEASE, SAMPLED_EVERY - LOOK / 2).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    debug!(%error, "could not look whether a sample is due");
                    continue;
                }
            }
            if let Err(error) = self.sample(&installation).await {
                warn!(%error, "what environments use cannot be stored");
            }
            if let Err(error) = self.store.give_lease_back(LEASE_NAME, &id, true).await {
                debug!(%error, "could not give the sampling's lease back");
            }
        }
    }

    /// One sample of every environment.
    pub async fn sample(&self, installation: &Installation) -> Result<(), StoreError> {
        let problem = match self.cluster.usage(&installation.id).await {
            Ok(Some(used)) => {
                let amount = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
                let used = used
                    .into_iter()
                    .map(|(namespace, used)| (namespace, (amount(used.cpu_millicores), amount(used.memory_bytes))));
                return self.store.record_usage(used.collect()).await;
            }
            Ok(None) => "the cluster has no metrics API",
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "the metrics API was asked in vain");
                match error {
                    ClusterError::Unexpected { .. } => "the metrics API's answer cannot be read",
                    ClusterError::Forbidden { .. } => "previewd may not read the metrics API",
                    _ => "the metrics API does not answer",
                }
            }
        };
        self.store.record_sampling_problem(problem).await
    }
}

/// How often the containers of these pods were started again.
pub(super) fn restarts(workloads: &Workloads) -> Restarts {
    let statuses = workloads.pods.iter().filter_map(|pod| pod.status.as_ref());
    let containers = statuses.flat_map(|status| status.container_statuses.iter().flatten());
    let mut restarts = Restarts::default();
    for container in containers {
        restarts.all += i64::from(container.restart_count);
        let states = [container.state.as_ref(), container.last_state.as_ref()];
        let ended = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
        restarts.out_of_memory +=
            i64::from(ended.into_iter().any(|ended| ended.reason.as_deref() == Some("OOMKilled")));
    }
    restarts
}
