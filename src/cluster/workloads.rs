//! What runs in an environment's namespace, read at once for [`assess`](super::assess).

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::{
    ResourceExt,
    api::{ListParams, PartialObjectMeta, Resource},
    core::Request as Build,
};

use super::{Cluster, ClusterError, Owner, assess::is_finished};
use crate::environment::{COMMIT_LABEL, Namespace};

/// What makes pods and is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    Job,
}

impl WorkloadKind {
    /// None for a kind that nobody waits for.
    pub fn of(kind: &str) -> Option<Self> {
        match kind {
            "Deployment" => Some(Self::Deployment),
            "StatefulSet" => Some(Self::StatefulSet),
            "Job" => Some(Self::Job),
            _ => None,
        }
    }
}

/// An environment has a few dozen; containers that crash for an hour make hundreds.
const EVENTS_AT_MOST: u32 = 1_000;

/// What runs in an environment.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    pub deployments: Vec<Deployment>,
    pub stateful_sets: Vec<StatefulSet>,
    pub jobs: Vec<Job>,
    /// Only what ties pods to Deployments: owner, revision.
    pub replica_sets: Vec<PartialObjectMeta<ReplicaSet>>,
    pub pods: Vec<Pod>,
    /// What was said of all of them, where that was read.
    pub events: Vec<Event>,
}

/// One pod, as it was when it was seen: the next one of the same name has another UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReference {
    pub name: String,
    pub uid: String,
}

impl Cluster {
    /// Reads the environment's Deployments, ReplicaSets and pods, and StatefulSets and Jobs where they are among `kinds`:
    /// three to five requests at once. Objects that do not carry both of the owner's labels are not seen.
    pub async fn workloads(
        &self,
        namespace: &Namespace,
        owner: &Owner,
        kinds: &[WorkloadKind],
    ) -> Result<Workloads, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let path = |path: String| Build::new(path);
        let within = Some(namespace.as_str());
        // Boxed, because five requests at once would make every pass larger than it has to be.
        let stateful_sets = Box::pin(async {
            if !kinds.contains(&WorkloadKind::StatefulSet) {
                return Ok(Vec::new());
            }
            let request = path(StatefulSet::url_path(&(), within)).list(&selected);
            self.list(namespace, request, "StatefulSets").await
        });
        let jobs = Box::pin(async {
            if !kinds.contains(&WorkloadKind::Job) {
                return Ok(Vec::new());
            }
            self.list(namespace, path(Job::url_path(&(), within)).list(&selected), "Jobs").await
        });
        let (deployments, replica_sets, pods, stateful_sets, jobs) = tokio::try_join!(
            Box::pin(self.list(namespace, path(Deployment::url_path(&(), within)).list(&selected), "Deployments")),
            Box::pin(self.list(
                namespace,
                path(ReplicaSet::url_path(&(), within)).list_metadata(&selected),
                "ReplicaSets"
            )),
            Box::pin(self.list(namespace, path(Pod::url_path(&(), within)).list(&selected), "Pods")),
            stateful_sets,
            jobs,
        )?;
        Ok(Workloads { deployments, stateful_sets, jobs, replica_sets, pods, events: Vec::new() })
    }

    /// The Jobs that the environment's CronJobs made and that are not over, by name, each with the commit of its pods.
    pub async fn scheduled_jobs(
        &self,
        namespace: &Namespace,
        owner: &Owner,
    ) -> Result<Vec<(String, Option<String>)>, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let request = Build::new(Job::url_path(&(), Some(namespace.as_str()))).list(&selected);
        let jobs: Vec<Job> = self.list(namespace, request, "Jobs").await?;
        let is_scheduled = |job: &Job| job.owner_references().iter().any(|owner| owner.kind == "CronJob");
        let open = jobs.into_iter().filter(|job| is_scheduled(job) && !is_finished(job));
        let named = open.filter_map(|job| {
            let labels = job.spec.and_then(|spec| spec.template.metadata).and_then(|metadata| metadata.labels);
            Some((job.metadata.name?, labels.and_then(|mut labels| labels.remove(COMMIT_LABEL))))
        });
        Ok(named.collect())
    }

    /// The events of an environment's namespace: one request. They say why something does not come up; what they do not
    /// say stays unsaid, so that whoever may not read them, or gets no answer, goes on without.
    pub async fn events(&self, namespace: &Namespace) -> Vec<Event> {
        let request = Build::new(Event::url_path(&(), Some(namespace.as_str())));
        let newest = ListParams::default().limit(EVENTS_AT_MOST);
        self.list(namespace, request.list(&newest), "Events").await.unwrap_or_default()
    }
}
