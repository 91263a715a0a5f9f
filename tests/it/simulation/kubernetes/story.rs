//! What stories see of the played cluster, and what befalls it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    FoundNamespace, Kubernetes, Trouble, Write,
    pod::Pod,
    state::Namespace,
    workload::{Kind, Workload},
};

/// What the Services are called that URLs lead to.
const BACKENDS: [&str; 2] = ["app", "web"];

impl Kubernetes {
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    pub fn namespaces(&self) -> Vec<FoundNamespace> {
        let found = |(name, found): (&String, &Namespace)| FoundNamespace {
            name: name.clone(),
            labels: found.labels.clone(),
            terminating: found.deleted_at.is_some(),
        };
        self.state().namespaces.iter().map(found).collect()
    }

    /// How much has changed so far.
    pub fn changes(&self) -> usize {
        self.state().changes.len()
    }

    /// The commits of the pods that answer behind a namespace's URL.
    pub fn serving(&self, namespace: &str) -> BTreeSet<String> {
        let state = self.state();
        let Some(found) = state.namespaces.get(namespace) else { return BTreeSet::new() };
        let services = BACKENDS.iter().filter_map(|name| found.object("services", name));
        let pods = services.flat_map(|service| found.behind(&service, &self.images, Instant::now()));
        pods.filter_map(|pod| pod.template.commit.clone()).collect()
    }

    /// Since when something answers behind a namespace's URL.
    pub fn answers_since(&self, namespace: &str) -> Option<Instant> {
        let (state, now) = (self.state(), Instant::now());
        let found = state.namespaces.get(namespace)?;
        let services = BACKENDS.iter().filter_map(|name| found.object("services", name));
        let pods = services.flat_map(|service| found.behind(&service, &self.images, now));
        pods.filter_map(|pod| pod.ready_since(&self.images, now)).min()
    }

    /// The UID of a namespace that stays.
    pub fn uid(&self, namespace: &str) -> Option<String> {
        let state = self.state();
        let found = state.namespaces.get(namespace).filter(|found| found.deleted_at.is_none())?;
        Some(found.uid.clone())
    }

    /// The claims that stay, each with the commits whose pods wrote there.
    pub fn claims(&self, namespace: &str) -> BTreeMap<String, BTreeSet<String>> {
        let state = self.state();
        let claims = state.namespaces.get(namespace).into_iter().flat_map(|found| &found.claims);
        claims.filter(|(_, claim)| !claim.goes).map(|(name, claim)| (name.clone(), claim.data.clone())).collect()
    }

    /// What of what should run has no ready pod of what was applied last, by name.
    pub fn unready(&self, namespace: &str) -> BTreeSet<String> {
        let (state, now) = (self.state(), Instant::now());
        let Some(found) = state.namespaces.get(namespace) else { return BTreeSet::new() };
        let lasting =
            found.workloads.iter().filter(|((kind, _), workload)| *kind != Kind::Job && workload.replicas > 0);
        let is_unready = |((kind, name), workload): &(&(Kind, String), &Workload)| {
            let newest = &workload.newest().template;
            let is_ready = |pod: &Pod| {
                Arc::ptr_eq(&pod.template, newest) && !pod.ends() && pod.ready_since(&self.images, now).is_some()
            };
            !found.pods_of(*kind, name).any(is_ready)
        };
        lasting.filter(is_unready).map(|((_, name), _)| name.clone()).collect()
    }

    /// Has Jobs that ended taken away so long after.
    pub fn take_jobs_after(&self, stays: Option<Duration>) {
        self.state().takes_jobs_after = stays;
    }

    /// The names of what makes pods that stay.
    pub fn workloads(&self, namespace: &str) -> BTreeSet<String> {
        let state = self.state();
        let found = state.namespaces.get(namespace).filter(|found| found.deleted_at.is_none());
        let workloads = found.into_iter().flat_map(|found| found.workloads.keys());
        workloads.filter(|(kind, _)| *kind != Kind::Job).map(|(_, name)| name.clone()).collect()
    }

    /// The Jobs that did the same work more than once, each with its commit.
    pub fn done_again(&self) -> Vec<(String, String)> {
        let state = self.state();
        let again = state.done.iter().filter(|(_, times)| **times > 1);
        let told = again.map(|((_, name, image), times)| {
            let commit = image.rsplit(':').next().unwrap_or_default().to_owned();
            (commit, format!("{name} of {image} did its work {times} times"))
        });
        told.collect()
    }

    /// Whether a Job of this name did its work in a namespace.
    pub fn has_done(&self, namespace: &str, job: &str) -> bool {
        let state = self.state();
        let Some(found) = state.namespaces.get(namespace) else { return false };
        state.done.keys().any(|(uid, name, _)| *uid == found.uid && name == job)
    }

    /// What keeps a commit from running: the reasons that may be given for it.
    pub fn obstacles(&self, namespace: &str, commit: &str) -> BTreeSet<&'static str> {
        let (state, now) = (self.state(), Instant::now());
        let Some(found) = state.namespaces.get(namespace) else { return BTreeSet::new() };
        let of_commit = |workload: &&Workload| workload.newest().template.commit.as_deref() == Some(commit);
        let workloads = found.workloads.iter().filter(|(_, workload)| of_commit(workload));
        let mut obstacles = BTreeSet::new();
        for ((kind, name), workload) in workloads {
            if workload.refusal.is_some() {
                obstacles.insert("quota_exceeded");
            }
            let newest = &workload.newest().template;
            let pods = found.pods_of(*kind, name).filter(|pod| Arc::ptr_eq(&pod.template, newest) && !pod.ends());
            obstacles.extend(pods.filter_map(|pod| pod.obstacle(&self.images, now)));
        }
        obstacles
    }

    pub fn remove_namespace_by_hand(&self, name: &str) {
        let mut state = self.state();
        self.delete_namespace(&mut state, name, None);
        self.advance(&mut state);
    }

    /// Takes the Jobs away that came to their end.
    pub fn remove_ended_jobs(&self, namespace: &str) {
        let mut state = self.state();
        if let Some(found) = state.namespaces.get_mut(namespace) {
            let ended = found.workloads.iter().filter(|(_, workload)| workload.end.is_some());
            let ended: Vec<String> = ended.map(|((_, name), _)| name.clone()).collect();
            ended.iter().for_each(|name| drop(found.remove_workload(Kind::Job, name, Instant::now())));
        }
        self.advance(&mut state);
    }

    /// Once it is deleted something holds a namespace for at least so long.
    pub fn hold(&self, name: &str, holds_for: Duration) {
        if let Some(found) = self.state().namespaces.get_mut(name) {
            found.holds_for = holds_for;
        }
    }

    /// Has the node go that one of a namespace's pods is on: it is not ready any more, and is made anew elsewhere some
    /// time later.
    pub fn lose_node(&self, namespace: &str) {
        let mut state = self.state();
        if let Some(found) = state.namespaces.get_mut(namespace) {
            found.pods.values_mut().filter(|pod| pod.began_at.is_some() && !pod.ends()).for_each(|pod| {
                pod.lost_at.get_or_insert_with(Instant::now);
            });
        }
        self.advance(&mut state);
    }

    /// Evicts the pods of a namespace: each is made anew.
    pub fn evict(&self, namespace: &str) {
        let mut state = self.state();
        if let Some(found) = state.namespaces.get_mut(namespace) {
            let pods: Vec<String> = found.pods.keys().cloned().collect();
            pods.iter().for_each(|pod| found.end_pod(pod, Instant::now()));
        }
        self.advance(&mut state);
    }

    /// Something of the cluster's breaks for so long.
    pub fn break_down(&self, trouble: Trouble, lasts: Duration) {
        self.state().trouble = Some((trouble, Instant::now() + lasts));
    }

    /// Whether something of the cluster was broken in so long.
    pub fn was_troubled(&self, within: Duration) -> bool {
        self.state().trouble.is_some_and(|(_, until)| Instant::now() < until + within)
    }

    /// Nothing is broken any more.
    pub fn calm_down(&self) {
        self.state().trouble = None;
    }
}
