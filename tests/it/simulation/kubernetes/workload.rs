//! What makes pods: Deployments, StatefulSets and Jobs as they were applied, and as the API shows them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Images, Kubernetes,
    pod::{Pod, Template},
    shapes::meta,
    state::Namespace,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Deployment,
    StatefulSet,
    Job,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::Job];

    pub fn of_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::Job => "jobs",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::Job => "Job",
        }
    }

    /// What its pods name as their owner.
    pub fn that_owns(self) -> &'static str {
        match self {
            Self::Deployment => "ReplicaSet",
            Self::StatefulSet | Self::Job => self.name(),
        }
    }
}

/// A template that it had.
#[derive(Debug)]
pub struct Revision {
    pub number: u64,
    /// Of its ReplicaSet.
    pub uid: String,
    pub template: Arc<Template>,
}

impl Revision {
    /// As names and labels have it.
    pub fn hash(&self) -> &str {
        self.uid.rsplit('-').next().unwrap_or_default()
    }
}

/// How a Job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub at: Instant,
    pub well: bool,
}

#[derive(Debug)]
pub struct Workload {
    pub uid: String,
    pub body: Value,
    pub generation: u64,
    pub made_at: Instant,
    pub replicas: usize,
    /// The newest last.
    pub revisions: Vec<Revision>,
    /// The hash of the revision of which a StatefulSet last had all its pods.
    pub current: String,
    /// Of a Job.
    pub end: Option<End>,
    /// Why a pod could not be made, and since when.
    pub refusal: Option<(Instant, String)>,
}

impl Workload {
    /// Nothing was applied yet.
    pub fn new(uid: String) -> Self {
        Self {
            uid,
            body: Value::Null,
            generation: 0,
            made_at: Instant::now(),
            replicas: 0,
            revisions: Vec::new(),
            current: String::new(),
            end: None,
            refusal: None,
        }
    }

    pub fn newest(&self) -> &Revision {
        self.revisions.last().expect("what is applied has a template")
    }

    /// Takes over what was applied. Gives whether that changed something.
    pub fn apply(&mut self, body: Value, uid: String) -> bool {
        if self.body == body {
            return false;
        }
        let template = Template::of(&body["spec"]["template"]);
        let replicas = body["spec"]["replicas"].as_u64().unwrap_or(1);
        self.replicas = usize::try_from(replicas).expect("a few");
        let next = self.revisions.iter().map(|revision| revision.number).max().unwrap_or(0) + 1;
        let known = self.revisions.iter().position(|revision| *revision.template == template);
        let mut newest = match known {
            Some(known) => self.revisions.remove(known),
            None => Revision { number: next, uid, template: Arc::new(template) },
        };
        // The Deployment controller counts on where it goes back to a template.
        if self.revisions.iter().any(|revision| revision.number > newest.number) {
            newest.number = next;
        }
        self.revisions.push(newest);
        self.refusal = None;
        self.body = body;
        self.generation += 1;
        true
    }
}

impl Kubernetes {
    pub(super) fn workload(
        &self,
        namespace: &str,
        (kind, name): (Kind, &str),
        found: &Namespace,
        images: &Images,
    ) -> Value {
        let now = Instant::now();
        let workload = &found.workloads[&(kind, name.to_owned())];
        let mut object = workload.body.clone();
        let metadata = &mut object["metadata"];
        metadata["namespace"] = json!(namespace);
        metadata["name"] = json!(name);
        metadata["uid"] = json!(workload.uid);
        metadata["resourceVersion"] = json!("1");
        metadata["generation"] = json!(workload.generation);
        metadata["creationTimestamp"] = json!(self.time(workload.made_at));
        let pods: Vec<&Pod> = found.pods_of(kind, name).collect();
        let newest = workload.newest();
        let living = pods.iter().filter(|pod| !pod.ends());
        let updated = living.clone().filter(|pod| Arc::ptr_eq(&pod.template, &newest.template)).count();
        let ready = living.clone().filter(|pod| pod.ready_since(images, now).is_some()).count();
        let available = living.clone().filter(|pod| workload.has_available(pod, images, now)).count();
        object["status"] = match kind {
            Kind::Deployment => {
                metadata["annotations"]["deployment.kubernetes.io/revision"] = json!(newest.number.to_string());
                let mut conditions = Vec::new();
                if let Some((since, message)) = &workload.refusal {
                    conditions.push(json!({
                        "type": "ReplicaFailure",
                        "status": "True",
                        "reason": "FailedCreate",
                        "message": message,
                        "lastTransitionTime": self.time(*since),
                    }));
                }
                json!({
                    "observedGeneration": workload.generation,
                    "replicas": living.count(),
                    "updatedReplicas": updated,
                    "availableReplicas": available,
                    "readyReplicas": ready,
                    "conditions": conditions,
                })
            }
            Kind::StatefulSet => json!({
                "observedGeneration": workload.generation,
                "replicas": pods.len(),
                "updatedReplicas": updated,
                "availableReplicas": available,
                "readyReplicas": ready,
                "currentRevision": workload.current,
                "updateRevision": newest.hash(),
            }),
            Kind::Job => {
                let mut status = json!({ "startTime": self.time(workload.made_at) });
                if let Some(End { at, well }) = workload.end {
                    let kind = if well { "Complete" } else { "Failed" };
                    let reason = if well { "CompletionsReached" } else { "BackoffLimitExceeded" };
                    status["conditions"] = json!([{
                        "type": kind, "status": "True", "reason": reason, "lastTransitionTime": self.time(at),
                    }]);
                }
                status
            }
        };
        object
    }

    pub(super) fn replica_sets(&self, namespace: &str, name: &str, workload: &Workload) -> Vec<Value> {
        let of = |revision: &Revision| {
            meta(json!({
                "name": replica_set_name(name, revision),
                "namespace": namespace,
                "uid": revision.uid,
                "labels": revision.template.labels,
                "annotations": { "deployment.kubernetes.io/revision": revision.number.to_string() },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": workload.uid, "controller": true,
                }],
            }))
        };
        workload.revisions.iter().map(of).collect()
    }

    /// What its controller says of pods that it could not make.
    pub(super) fn event(&self, namespace: &str, (kind, name): (Kind, &str), workload: &Workload) -> Option<Value> {
        let (_, message) = workload.refusal.as_ref()?;
        Some(json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": format!("{name}.1"), "namespace": namespace },
            "involvedObject": { "kind": kind.name(), "name": name, "uid": workload.uid },
            "reason": "FailedCreate",
            "message": format!("Error creating: {message}"),
            "lastTimestamp": self.time(Instant::now()),
        }))
    }
}

pub(super) fn replica_set_name(deployment: &str, revision: &Revision) -> String {
    format!("{deployment}-{}", revision.hash())
}
