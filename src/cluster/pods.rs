//! An environment's pods, as people look at them.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    api::{ListParams, Resource, ResourceExt},
    core::Request as Build,
};

use super::{Cluster, ClusterError, Owner};
use crate::environment::Namespace;

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    pub name: String,
    /// `ready`, or what it is instead: a phase of Kubernetes' or the kubelet's word for what a container waits for.
    pub state: String,
    pub restarts: i32,
    pub containers: Vec<String>,
}

impl Cluster {
    /// The pods of an environment by name. One request.
    pub async fn pods(&self, namespace: &Namespace, owner: &Owner) -> Result<Vec<PodState>, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let path = Build::new(Pod::url_path(&(), Some(namespace.as_str())));
        let pods: Vec<Pod> = self.list(namespace, path.list(&selected), "Pods").await?;
        let mut states: Vec<PodState> = pods.iter().map(state_of).collect();
        states.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(states)
    }
}

fn state_of(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let containers = || status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let waiting = containers().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        waiting.reason.clone()
    });
    let is_ready = containers().next().is_some() && containers().all(|container| container.ready);
    let phase = status.and_then(|status| status.phase.clone()).unwrap_or_else(|| "Pending".to_owned());
    let state = match (pod.metadata.deletion_timestamp.is_some(), waiting, is_ready) {
        (true, _, _) => "Terminating".to_owned(),
        (false, Some(reason), _) => reason,
        (false, None, true) => "ready".to_owned(),
        (false, None, false) => phase,
    };
    let spec = pod.spec.iter();
    PodState {
        name: pod.name_any(),
        state: state.chars().filter(char::is_ascii_alphanumeric).take(60).collect(),
        restarts: containers().map(|container| container.restart_count).sum(),
        containers: spec.flat_map(|spec| &spec.containers).map(|container| container.name.clone()).collect(),
    }
}
