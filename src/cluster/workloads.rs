//! What runs in an environment's namespace, read at once for [`assess`](super::assess).

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    api::{ListParams, PartialObjectMeta, Resource},
    core::Request as Build,
};

use super::{Cluster, ClusterError, Owner};
use crate::environment::Namespace;

/// The environment's Deployments, which ReplicaSets they have, and all pods.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    pub deployments: Vec<Deployment>,
    /// Only what ties pods to Deployments: owner, revision.
    pub replica_sets: Vec<PartialObjectMeta<ReplicaSet>>,
    pub pods: Vec<Pod>,
}

/// One pod, as it was when it was seen: the next one of the same name has another UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReference {
    pub name: String,
    pub uid: String,
}

impl Cluster {
    /// Reads the environment's Deployments, ReplicaSets and pods: three requests at once. Objects that do not carry
    /// both of the owner's labels are not seen.
    pub async fn workloads(&self, namespace: &Namespace, owner: &Owner) -> Result<Workloads, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let path = |path: String| Build::new(path);
        let within = Some(namespace.as_str());
        let (deployments, replica_sets, pods) = tokio::try_join!(
            self.list(namespace, path(Deployment::url_path(&(), within)).list(&selected), "Deployments"),
            self.list(namespace, path(ReplicaSet::url_path(&(), within)).list_metadata(&selected), "ReplicaSets"),
            self.list(namespace, path(Pod::url_path(&(), within)).list(&selected), "Pods"),
        )?;
        Ok(Workloads { deployments, replica_sets, pods })
    }
}
