//! A pod, whose life follows from when it was made and what its image is.

use std::{sync::Arc, time::Duration};

use previewd::recipe::room::PodLimits;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Images, Kubernetes, workload::Kind};

/// From a node's first look at an image that is not there to the next, which is seldom.
const BACKS_OFF: Duration = Duration::from_secs(2);
const CRASHES_EVERY: Duration = Duration::from_secs(12);
/// More restarts change nothing.
const RESTARTS_AT_MOST: u64 = 5;
/// What runs ends this long after it was asked to: its preStop hook waits for routers.
pub const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// What a container does, by the name of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It is ready, or has done its work, this long after it began.
    Works(Duration),
    /// It is never ready, and its work has no end.
    Hangs,
    Crashes,
    CannotBePulled,
}

impl Behaviour {
    pub fn of(image: &str) -> Self {
        let name = image.rsplit('/').next().unwrap_or(image);
        let name = name.split([':', '@']).next().unwrap_or(name);
        match name {
            "hang" => Self::Hangs,
            "crash" => Self::Crashes,
            "nopull" => Self::CannotBePulled,
            "slow" => Self::Works(Duration::from_secs(25)),
            "slower" => Self::Works(Duration::from_secs(75)),
            _ => Self::Works(Duration::from_secs(4)),
        }
    }
}

/// What pods are made from.
#[derive(Debug, PartialEq)]
pub struct Template {
    pub labels: Value,
    pub spec: Value,
    pub limits: PodLimits,
    pub image: String,
    pub behaviour: Behaviour,
    /// The commit that it names.
    pub commit: Option<String>,
}

impl Template {
    pub fn of(template: &Value) -> Self {
        let spec = template["spec"].clone();
        let image = spec["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
        Self {
            labels: template["metadata"]["labels"].clone(),
            limits: PodLimits::of(&spec),
            behaviour: Behaviour::of(&image),
            commit: template["metadata"]["labels"]["previewd.dev/commit"].as_str().map(str::to_owned),
            image,
            spec,
        }
    }

    /// The claims that its pods share, by name.
    pub fn claims(&self) -> impl Iterator<Item = String> {
        let volumes = self.spec["volumes"].as_array().into_iter().flatten();
        volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned))
    }

    /// The ConfigMaps that its pods read, by name.
    pub fn configuration(&self) -> impl Iterator<Item = &str> {
        let containers = self.spec["containers"].as_array().into_iter().flatten();
        let sources = containers.flat_map(|container| container["envFrom"].as_array().into_iter().flatten());
        sources.filter_map(|source| source["configMapRef"]["name"].as_str())
    }
}

/// What is to be seen of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One of its claims is not there.
    Unscheduled,
    /// A ConfigMap that it reads is not there.
    Unconfigured,
    /// Its image is not there.
    BacksOff,
    /// So many restarts are behind it.
    Crashed(u64),
    Runs,
    Ready,
    /// Its node does not answer any more.
    Lost,
    /// A Job's: it did its work.
    Succeeded,
    /// A Job's.
    Failed,
}

#[derive(Debug)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub owner: (Kind, String),
    /// Of what the pod itself names as its owner: a Deployment's are a ReplicaSet's.
    pub owner_uid: String,
    /// By name.
    pub claims: Vec<String>,
    /// Of its owner's revision.
    pub hash: String,
    pub template: Arc<Template>,
    pub made_at: Instant,
    /// The ConfigMap that it waits for.
    pub lacks: Option<String>,
    /// When a node began with it: its claims were there, and what it reads.
    pub began_at: Option<Instant>,
    /// When it is gone, once it ends.
    pub gone_at: Option<Instant>,
    pub lost_at: Option<Instant>,
    /// As it was last told to those who watch: whether it ends, and whether it is available.
    pub told: Option<(Phase, bool, bool)>,
    /// What it writes on its volumes is there.
    pub has_written: bool,
}

impl Pod {
    pub fn ends(&self) -> bool {
        self.gone_at.is_some()
    }

    /// When its containers began, which waits for its image.
    fn started_at(&self, images: &Images) -> Option<Instant> {
        let began = self.began_at?;
        match images.there_at(&self.template.image) {
            // The kubelet looks again.
            Some(there) if there > began => Some(there + BACKS_OFF),
            Some(_) => Some(began),
            None => None,
        }
    }

    pub fn phase(&self, images: &Images, now: Instant) -> Phase {
        if self.lost_at.is_some() {
            return Phase::Lost;
        }
        if self.began_at.is_none() {
            return if self.lacks.is_some() { Phase::Unconfigured } else { Phase::Unscheduled };
        }
        let Some(started) = self.started_at(images).filter(|at| *at <= now) else { return Phase::BacksOff };
        let is_task = self.owner.0 == Kind::Job;
        match self.template.behaviour {
            Behaviour::CannotBePulled => Phase::BacksOff,
            Behaviour::Works(after) if now < started + after => Phase::Runs,
            Behaviour::Works(_) if is_task => Phase::Succeeded,
            Behaviour::Works(_) => Phase::Ready,
            Behaviour::Hangs => Phase::Runs,
            Behaviour::Crashes if is_task => {
                if now < started + CRASHES_EVERY / 4 {
                    Phase::Runs
                } else {
                    Phase::Failed
                }
            }
            Behaviour::Crashes => match (now - started).as_secs() / CRASHES_EVERY.as_secs() {
                0 => Phase::Runs,
                restarts => Phase::Crashed(restarts.min(RESTARTS_AT_MOST)),
            },
        }
    }

    /// Since when it is ready.
    pub fn ready_since(&self, images: &Images, now: Instant) -> Option<Instant> {
        let Behaviour::Works(after) = self.template.behaviour else { return None };
        (self.phase(images, now) == Phase::Ready).then(|| self.started_at(images)).flatten().map(|at| at + after)
    }

    /// The reason that may be given for its not being ready. None: it is, or may become so.
    pub fn obstacle(&self, images: &Images, now: Instant) -> Option<&'static str> {
        match self.phase(images, now) {
            Phase::BacksOff => Some("image_pull_failed"),
            Phase::Crashed(_) => Some("crash_loop"),
            Phase::Runs if self.template.behaviour == Behaviour::Hangs && self.owner.0 != Kind::Job => {
                Some("not_ready_in_time")
            }
            Phase::Unscheduled => Some("volume_unavailable"),
            Phase::Unconfigured => Some("container_config"),
            Phase::Runs | Phase::Ready | Phase::Lost | Phase::Succeeded | Phase::Failed => None,
        }
    }

    /// It counts towards the quota.
    pub fn is_counted(&self, images: &Images, now: Instant) -> bool {
        !matches!(self.phase(images, now), Phase::Succeeded | Phase::Failed)
    }

    /// When its phase may be another.
    pub fn changes_at(&self, images: &Images, now: Instant) -> Option<Instant> {
        if self.ends() || self.lost_at.is_some() {
            return self.gone_at;
        }
        let started = self.started_at(images)?;
        if started > now {
            return Some(started);
        }
        let next = match self.template.behaviour {
            Behaviour::Works(after) => started + after,
            Behaviour::Hangs | Behaviour::CannotBePulled => return None,
            Behaviour::Crashes if self.owner.0 == Kind::Job => started + CRASHES_EVERY / 4,
            Behaviour::Crashes => {
                let restarts = (now - started).as_secs() / CRASHES_EVERY.as_secs();
                started + CRASHES_EVERY * u32::try_from((restarts + 1).min(RESTARTS_AT_MOST)).expect("a few")
            }
        };
        (next > now).then_some(next)
    }
}

impl Kubernetes {
    pub(super) fn pod(&self, namespace: &str, pod: &Pod, images: &Images) -> Value {
        let now = Instant::now();
        let phase = pod.phase(images, now);
        let Template { labels, spec, image, .. } = &*pod.template;
        let started = pod.started_at(images).filter(|at| *at <= now).map(|at| self.time(at));
        let ended = |code: u64, reason: &str, at: Instant| json!({ "terminated": { "exitCode": code, "reason": reason, "finishedAt": self.time(at) } });
        let nothing = json!({});
        let (word, restarts, state, last) = match phase {
            Phase::Unscheduled => ("Pending", 0, nothing.clone(), nothing),
            Phase::Unconfigured => {
                let name = pod.lacks.as_deref().unwrap_or_default();
                let message = format!("configmap \"{name}\" not found");
                let waiting = json!({ "waiting": { "reason": "CreateContainerConfigError", "message": message } });
                ("Pending", 0, waiting, nothing)
            }
            Phase::BacksOff => {
                let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {image}: not found");
                let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": message } });
                ("Pending", 0, waiting, nothing)
            }
            Phase::Crashed(restarts) => {
                ("Running", restarts, json!({ "waiting": { "reason": "CrashLoopBackOff" } }), ended(1, "Error", now))
            }
            Phase::Runs | Phase::Ready | Phase::Lost => {
                ("Running", 0, json!({ "running": { "startedAt": started } }), nothing)
            }
            Phase::Succeeded => ("Succeeded", 0, ended(0, "Completed", now), nothing),
            Phase::Failed => ("Failed", 0, ended(1, "Error", now), nothing),
        };
        let ready = phase == Phase::Ready;
        let since = pod.ready_since(images, now).unwrap_or(pod.made_at);
        let mut conditions = vec![json!({
            "type": "Ready",
            "status": if ready { "True" } else { "False" },
            "lastTransitionTime": self.time(since),
        })];
        conditions.push(match phase {
            Phase::Unscheduled => {
                let claim = pod.claims.first().map_or("", String::as_str);
                json!({
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": format!("0/1 nodes are available: persistentvolumeclaim \"{claim}\" not found."),
                })
            }
            _ => json!({ "type": "PodScheduled", "status": "True" }),
        });
        let mut spec = spec.clone();
        if phase != Phase::Unscheduled {
            spec["nodeName"] = json!("node");
        }
        let mut status = json!({ "phase": word, "conditions": conditions });
        if phase != Phase::Unscheduled {
            let digest = format!("{:0>64}", pod.hash);
            status["containerStatuses"] = json!([{
                "name": spec["containers"][0]["name"],
                "image": image,
                "imageID": format!("registry.invalid/app@sha256:{digest}"),
                "ready": ready,
                "restartCount": restarts,
                "state": state,
                "lastState": last,
            }]);
        }
        let mut metadata = json!({
            "name": pod.name,
            "namespace": namespace,
            "uid": pod.uid,
            "labels": labels,
            "resourceVersion": "1",
            "creationTimestamp": self.time(pod.made_at),
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": pod.owner.0.that_owns(),
                "name": pod.owner.1,
                "uid": pod.owner_uid,
                "controller": true,
            }],
        });
        if pod.owner.0 == Kind::StatefulSet {
            metadata["labels"]["controller-revision-hash"] = json!(pod.hash);
        }
        if let Some(at) = pod.gone_at {
            metadata["deletionTimestamp"] = json!(self.time(at));
        }
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status })
    }
}
