//! What the played cluster holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Images, Trouble, Write,
    pod::{ENDS_WITHIN, Phase, Pod},
    workload::{Kind, Workload},
};

/// A volume claim with what was written on its volume.
#[derive(Debug)]
pub struct Claim {
    pub uid: String,
    pub body: Value,
    /// It was deleted, and is gone once no pod has it.
    pub goes: bool,
    /// The commits whose pods wrote there.
    pub data: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Namespace {
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub deleted_at: Option<Instant>,
    /// Once it is deleted something holds it for at least so long.
    pub holds_for: std::time::Duration,
    /// What has no life of its own, by plural and name.
    pub objects: BTreeMap<(String, String), Value>,
    pub workloads: BTreeMap<(Kind, String), Workload>,
    pub claims: BTreeMap<String, Claim>,
    pub pods: BTreeMap<String, Pod>,
}

impl Namespace {
    pub fn pods_of<'a>(&'a self, kind: Kind, name: &'a str) -> impl Iterator<Item = &'a Pod> + Clone {
        self.pods.values().filter(move |pod| pod.owner.0 == kind && pod.owner.1 == name)
    }

    /// Has a pod end.
    pub fn end_pod(&mut self, name: &str, now: Instant) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.gone_at.get_or_insert(now + ENDS_WITHIN);
        }
    }

    /// Takes a workload away, with its pods.
    pub fn remove_workload(&mut self, kind: Kind, name: &str, now: Instant) -> Option<Workload> {
        let removed = self.workloads.remove(&(kind, name.to_owned()))?;
        let pods: Vec<String> = self.pods_of(kind, name).map(|pod| pod.name.clone()).collect();
        pods.iter().for_each(|pod| self.end_pod(pod, now));
        Some(removed)
    }

    /// The pods that a Service leads to and that are ready.
    pub fn behind<'a>(&'a self, service: &Value, images: &Images, now: Instant) -> Vec<&'a Pod> {
        let Some(selector) = service["spec"]["selector"].as_object() else { return Vec::new() };
        let is_selected = |pod: &&Pod| selector.iter().all(|(name, value)| pod.template.labels[name] == *value);
        let is_ready = |pod: &&Pod| !pod.ends() && pod.phase(images, now) == Phase::Ready;
        self.pods.values().filter(is_selected).filter(is_ready).collect()
    }

    /// The labels and the name of what changes are told of.
    pub fn metadata(&self, namespace: &str, name: &str) -> Value {
        json!({ "name": name, "namespace": namespace, "labels": self.labels })
    }

    /// An object as it was applied, or what of it those who ask by name want to know.
    pub fn object(&self, plural: &str, name: &str) -> Option<Value> {
        if plural == "persistentvolumeclaims" {
            return self.claims.get(name).map(|claim| claim.object(name));
        }
        match Kind::of_plural(plural) {
            Some(kind) => self.workloads.get(&(kind, name.to_owned())).map(|workload| workload.body.clone()),
            None => self.objects.get(&(plural.to_owned(), name.to_owned())).cloned(),
        }
    }
}

impl Claim {
    pub fn object(&self, name: &str) -> Value {
        let mut object = self.body.clone();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(self.uid);
        object
    }
}

/// What changed, for those who watch: plural, and the object's metadata.
pub struct Change {
    pub plural: &'static str,
    pub type_: &'static str,
    pub metadata: Value,
}

#[derive(Default)]
pub struct State {
    serial: u64,
    pub namespaces: BTreeMap<String, Namespace>,
    /// The version of each is its place, counted from 1.
    pub changes: Vec<Change>,
    pub writes: Vec<Write>,
    /// When something changes by itself.
    pub next: Option<Instant>,
    /// Of what those who wait were last told: how many changes there are, and when the next comes by itself.
    pub told: (usize, Option<Instant>),
    /// How often each Job did its work, by namespace (its UID), name and image.
    pub done: BTreeMap<(String, String, String), usize>,
    /// How long Jobs stay that ended, where something takes them away.
    pub takes_jobs_after: Option<std::time::Duration>,
    /// What is broken, and until when.
    pub trouble: Option<(Trouble, Instant)>,
}

impl State {
    pub fn uid(&mut self) -> String {
        self.serial += 1;
        format!("00000000-0000-4000-8000-{:012}", self.serial)
    }

    /// What is broken now.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.filter(|(_, until)| Instant::now() < *until).map(|(trouble, _)| trouble)
    }

    pub fn change(&mut self, plural: &'static str, type_: &'static str, mut metadata: Value) {
        metadata["resourceVersion"] = json!((self.changes.len() + 1).to_string());
        self.changes.push(Change { plural, type_, metadata });
    }
}
