//! How far a deployment is, judged from what its namespace holds. Pure.
//!
//! Only pods of a Deployment's newest template count: what the last commit's pods do is not this attempt's matter.

mod evictions;
mod jobs;
mod pods;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Pod, PodSpec},
};
use kube::{ResourceExt, api::PartialObjectMeta};

pub(super) use self::jobs::is_finished;
use self::{
    evictions::{evictions, with_evictions},
    jobs::{has_job_condition, of_job},
    pods::{CLOCK_DIFFERENCE, has_condition, of_pod, worse},
};
use super::{
    APPLIED, PodReference, WorkloadKind, Workloads, refusal,
    words::{Said, evictions_of_set},
};
use crate::{
    environment::{Cause, Millis, Progress},
    recipe::{
        ONCE,
        room::{CountedPod, PodLimits, Running},
    },
};

#[cfg(test)]
mod tests;

/// What should run, and since when.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// What was applied and is waited for, by kind and name.
    pub workloads: &'a [(WorkloadKind, String)],
    /// When the attempt began, by the database's clock.
    pub attempt_started_at: Millis,
    /// When its time is over, by the same clock.
    pub attempt_deadline: Millis,
    /// By the same clock.
    pub now: Millis,
    pub tasks: Tasks,
}

impl Expected<'_> {
    fn said<'a>(&self, workloads: &'a Workloads) -> Said<'a> {
        Said { events: &workloads.events, since: self.attempt_started_at - CLOCK_DIFFERENCE }
    }

    fn is_late(&self) -> bool {
        self.attempt_deadline - self.now <= LATE
    }
}

/// What Jobs are for that are no hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tasks {
    /// They are the recipe's own `seed` and `setup`; whether it has databases.
    Recipes { databases: bool },
    /// They are the repository's own.
    Repositorys,
}

/// An attempt with no more time than this left ends with what its jobs have not done, and what nodes did to its pods.
const LATE: Millis = 5_000;
/// A pod that is not ready for longer than this, or was not made, is asked about.
const EXPLAINED_AFTER: Millis = 5_000;
/// Pods that end have this long, beyond their grace, until what waits for their room is told that there is none.
const ENDING_AT_MOST: Millis = 10_000;

/// Whether something is not as it should be, and has not been for a moment only: events may say why.
pub fn needs_explaining(workloads: &Workloads, now: Millis) -> bool {
    fn is_old(object: &impl ResourceExt, now: Millis) -> bool {
        object.meta().creation_timestamp.as_ref().is_some_and(|time| now - time.0.as_millisecond() >= EXPLAINED_AFTER)
    }
    let has_pods = |owner: Option<String>| workloads.pods.iter().any(|pod| is_controlled_by(pod, owner.clone()));
    let is_unready = |pod: &Pod| !is_over(pod) && !has_condition(pod, "Ready", "True") && is_old(pod, now);
    let sets = workloads.stateful_sets.iter().filter(|set| {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        // A pod that its node did not keep has gone at once, and one that is new stands in its place.
        let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
        ready < wanted && is_old(*set, now)
    });
    let jobs = workloads.jobs.iter().filter(|job| !is_finished(job) && !has_pods(job.uid()) && is_old(*job, now));
    workloads.pods.iter().any(is_unready) || sets.count() > 0 || jobs.count() > 0
}

/// How far the expected workloads are. The worst finding decides; of equal ones the first.
pub fn assess(workloads: &Workloads, expected: &Expected<'_>) -> Progress {
    let found = expected.workloads.iter().map(|(kind, name)| match kind {
        WorkloadKind::Deployment => of_deployment(workloads, name, expected),
        WorkloadKind::StatefulSet => of_stateful_set(workloads, name, expected),
        WorkloadKind::Job => of_job(workloads, name, expected),
    });
    found.reduce(worse).unwrap_or(Progress::Ready)
}

/// The pods of the newest templates that are not ready: the ones that a further attempt begins anew.
pub fn pods_to_restart(workloads: &Workloads, expected: &Expected<'_>) -> Vec<PodReference> {
    newest_pods(workloads, expected).filter(|pod| !has_condition(pod, "Ready", "True")).filter_map(reference).collect()
}

/// Those of them that would end an attempt at once by what became of them before it.
pub fn failed_pods(workloads: &Workloads, expected: &Expected<'_>) -> Vec<PodReference> {
    let said = expected.said(workloads);
    let has_failed = |pod: &&Pod| matches!(of_pod(pod, said, expected), Progress::AttemptOver(_) | Progress::Failed(_));
    newest_pods(workloads, expected).filter(has_failed).filter_map(reference).collect()
}

fn newest_pods<'a>(workloads: &'a Workloads, expected: &Expected<'a>) -> impl Iterator<Item = &'a Pod> + use<'a> {
    expected.workloads.iter().flat_map(move |(kind, name)| match kind {
        WorkloadKind::Deployment => deployment_named(workloads, name)
            .and_then(|deployment| newest_replica_set(workloads, deployment))
            .map(|replica_set| living_pods_of(workloads, replica_set.uid()).collect::<Vec<_>>())
            .unwrap_or_default(),
        WorkloadKind::StatefulSet => {
            stateful_set_named(workloads, name).map(|set| newest_pods_of(workloads, set).collect()).unwrap_or_default()
        }
        // They are run anew as a whole.
        WorkloadKind::Job => Vec::new(),
    })
}

/// The expected Jobs that have not done their work: a further attempt runs them anew.
pub fn jobs_to_restart(workloads: &Workloads, expected: &Expected<'_>) -> Vec<String> {
    jobs_that(workloads, expected, |job| !has_job_condition(job, "Complete"))
}

/// Those of them that would end an attempt at once by what became of them before it.
pub fn failed_jobs(workloads: &Workloads, expected: &Expected<'_>) -> Vec<String> {
    jobs_that(workloads, expected, |job| {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        matches!(of_job(workloads, name, expected), Progress::AttemptOver(_) | Progress::Failed(_))
    })
}

fn jobs_that(workloads: &Workloads, expected: &Expected<'_>, are_so: impl Fn(&Job) -> bool) -> Vec<String> {
    let jobs = expected.workloads.iter().filter(|(kind, _)| *kind == WorkloadKind::Job).map(|(_, name)| name);
    jobs.filter(|name| job_named(workloads, name).is_some_and(&are_so)).cloned().collect()
}

/// The Jobs that ended well.
pub fn completed_jobs(workloads: &Workloads) -> Vec<String> {
    let complete = workloads.jobs.iter().filter(|job| has_job_condition(job, "Complete"));
    complete.map(ResourceExt::name_any).collect()
}

/// Whether the Job of this name ended well as what has this digest, and not as what another commit had by the name. One
/// that is done once is done whatever it was.
pub fn has_completed(workloads: &Workloads, name: &str, digest: &str) -> bool {
    let is_it = |job: &Job| {
        let annotations = job.annotations();
        annotations.get(APPLIED).is_some_and(|applied| applied == digest) || annotations.contains_key(ONCE)
    };
    job_named(workloads, name).is_some_and(|job| is_it(job) && has_job_condition(job, "Complete"))
}

/// The pods of StatefulSets that are of another revision than the newest and will not make way for it: the controller
/// waits until a pod is ready before it replaces the next, and one that never will be stays for ever
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback>).
pub fn blocking_pods(workloads: &Workloads) -> Vec<PodReference> {
    let blocking = workloads.stateful_sets.iter().filter(|set| is_set_observed(set)).flat_map(|set| {
        let newest = set.status.as_ref().and_then(|status| status.update_revision.clone());
        let is_older = move |pod: &&Pod| pod.labels().get(REVISION_LABEL) != newest.as_ref();
        living_pods_of(workloads, set.uid()).filter(is_older).filter(|pod| !has_condition(pod, "Ready", "True"))
    });
    blocking.filter_map(reference).collect()
}

/// The pods on a node that mount the claim, and keep it where somebody deletes it. Those that no node took do not
/// (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>).
pub fn pods_with_claim(workloads: &Workloads, claim: &str) -> Vec<PodReference> {
    let is_on_a_node = |spec: &&PodSpec| spec.node_name.is_some();
    let mounts = |pod: &&Pod| {
        let volumes = pod.spec.as_ref().filter(is_on_a_node).and_then(|spec| spec.volumes.as_ref());
        let mut claims = volumes.into_iter().flatten().filter_map(|volume| volume.persistent_volume_claim.as_ref());
        claims.any(|source| source.claim_name == claim)
    };
    let living = workloads.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    living.filter(mounts).filter_map(reference).collect()
}

/// Whether something of what should run has no ready pod.
pub fn is_down(workloads: &Workloads, expected: &Expected<'_>) -> bool {
    expected.workloads.iter().any(|(kind, name)| match kind {
        WorkloadKind::Deployment => deployment_named(workloads, name).is_none_or(|deployment| {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
            wanted > 0 && ready == 0
        }),
        WorkloadKind::StatefulSet => stateful_set_named(workloads, name).is_none_or(|set| {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
            wanted > 0 && ready == 0
        }),
        // What ran to its end is not expected to run.
        WorkloadKind::Job => false,
    })
}

/// What runs, as the environment's quota counts it.
pub fn running(workloads: &Workloads) -> Running {
    fn applied<K: ResourceExt>(kind: &str, objects: &[K]) -> Vec<(String, String, String)> {
        let digest = |object: &K| object.annotations().get(APPLIED).cloned();
        objects.iter().filter_map(|it| Some((kind.to_owned(), it.name_any(), digest(it)?))).collect()
    }
    let Workloads { deployments, stateful_sets, jobs, replica_sets: _, pods, events: _ } = workloads;
    let applied =
        [applied("Deployment", deployments), applied("StatefulSet", stateful_sets), applied("Job", jobs)].concat();
    Running { pods: pods.iter().filter(|pod| !is_over(pod)).map(|pod| counted(workloads, pod)).collect(), applied }
}

fn counted(workloads: &Workloads, pod: &Pod) -> CountedPod {
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let workload = controller.and_then(|owner| {
        if owner.kind != "ReplicaSet" {
            return Some((owner.kind.clone(), owner.name.clone()));
        }
        let set = workloads.replica_sets.iter().find(|set| set.uid().as_deref() == Some(&owner.uid))?;
        let owner = set.owner_references().iter().find(|owner| owner.controller == Some(true))?;
        Some((owner.kind.clone(), owner.name.clone()))
    });
    let limits = PodLimits::of(&serde_json::json!(pod.spec));
    CountedPod { workload, limits, goes: pod.metadata.deletion_timestamp.is_some() }
}

fn reference(pod: &Pod) -> Option<PodReference> {
    Some(PodReference { name: pod.metadata.name.clone()?, uid: pod.metadata.uid.clone()? })
}

fn of_deployment(workloads: &Workloads, name: &str, expected: &Expected<'_>) -> Progress {
    let Some(deployment) = deployment_named(workloads, name) else { return Progress::Progressing };
    if !is_observed(deployment) {
        // Its status, pods included, is about what was applied before.
        return Progress::Progressing;
    }
    let Some(replica_set) = newest_replica_set(workloads, deployment) else { return Progress::Progressing };
    let pods = || living_pods_of(workloads, replica_set.uid());
    if is_rolled_out(deployment) {
        // Pods of an older template may still answer while they end: only when they are gone does the URL always lead
        // to what was applied last.
        return if has_older_pods(workloads, deployment, replica_set) {
            Progress::Progressing
        } else {
            Progress::Ready
        };
    }
    let said = expected.said(workloads);
    let of_pods = pods().map(|pod| of_pod(pod, said, expected)).reduce(worse).unwrap_or(Progress::Progressing);
    let progress = worse(of_pod_creation(workloads, deployment, replica_set, expected.now), of_pods);
    with_evictions(progress, name, &evictions(pods(), expected), expected)
}

fn deployment_named<'a>(workloads: &'a Workloads, name: &str) -> Option<&'a Deployment> {
    workloads.deployments.iter().find(|deployment| deployment.metadata.name.as_deref() == Some(name))
}

/// Whether the controller has seen what was applied last.
fn is_observed(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed >= deployment.metadata.generation
}

/// Every replica is of the newest template and available, and none of an older one is left.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        let count = |number: Option<i32>| number.unwrap_or_default();
        count(status.updated_replicas) == wanted
            && count(status.replicas) == wanted
            && count(status.available_replicas) == wanted
    })
}

/// The Deployment controller's own numbering: `pkg/controller/deployment/util`.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The ReplicaSet of the newest template. None where the Deployment and its ReplicaSets were read on two sides of a
/// change.
fn newest_replica_set<'a>(
    workloads: &'a Workloads,
    deployment: &Deployment,
) -> Option<&'a PartialObjectMeta<ReplicaSet>> {
    let revision = deployment.annotations().get(REVISION)?;
    workloads
        .replica_sets
        .iter()
        .find(|set| is_controlled_by(*set, deployment.uid()) && set.annotations().get(REVISION) == Some(revision))
}

fn is_controlled_by(object: &impl ResourceExt, owner: Option<String>) -> bool {
    let controllers = object.owner_references().iter().filter(|reference| reference.controller == Some(true));
    owner.is_some_and(|owner| controllers.into_iter().any(|reference| reference.uid == owner))
}

fn stateful_set_named<'a>(workloads: &'a Workloads, name: &str) -> Option<&'a StatefulSet> {
    workloads.stateful_sets.iter().find(|set| set.metadata.name.as_deref() == Some(name))
}

fn job_named<'a>(workloads: &'a Workloads, name: &str) -> Option<&'a Job> {
    workloads.jobs.iter().find(|job| job.metadata.name.as_deref() == Some(name))
}

fn of_stateful_set(workloads: &Workloads, name: &str, expected: &Expected<'_>) -> Progress {
    let Some(set) = stateful_set_named(workloads, name) else { return Progress::Progressing };
    let Some(status) = set.status.as_ref().filter(|_| is_set_observed(set)) else { return Progress::Progressing };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let count = |number: Option<i32>| number.unwrap_or_default();
    if count(status.updated_replicas) == wanted
        && status.replicas == wanted
        && count(status.available_replicas) == wanted
    {
        return Progress::Ready;
    }
    let said = expected.said(workloads);
    let of_pods = newest_pods_of(workloads, set).map(|pod| of_pod(pod, said, expected)).reduce(worse);
    let of_creation = || of_creation_events("StatefulSet", name, set.uid(), workloads, expected);
    with_evictions(of_pods.unwrap_or_else(of_creation), name, &evictions_of_set(name, said), expected)
}

/// Whether the controller has seen what was applied last.
fn is_set_observed(set: &StatefulSet) -> bool {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed >= set.metadata.generation
}

/// The StatefulSet controller's label for the revision of a pod's template.
const REVISION_LABEL: &str = "controller-revision-hash";

fn newest_pods_of<'a>(workloads: &'a Workloads, set: &StatefulSet) -> impl Iterator<Item = &'a Pod> + use<'a> {
    let revision = set.status.as_ref().and_then(|status| status.update_revision.clone());
    living_pods_of(workloads, set.uid()).filter(move |pod| pod.labels().get(REVISION_LABEL) == revision.as_ref())
}

/// What keeps the controller of a Job or a StatefulSet from making its pods: only its events say it, and not whether it
/// is so still.
fn of_creation_events(
    kind: &str,
    name: &str,
    uid: Option<String>,
    workloads: &Workloads,
    expected: &Expected<'_>,
) -> Progress {
    let events = expected.said(workloads).of(uid.as_deref(), &["FailedCreate"]);
    let Some(message) = events.first().and_then(|event| event.message.as_deref()) else { return Progress::Progressing };
    match refusal::of_pod_creation(kind, name, message) {
        None => Progress::Progressing,
        Some(refusal::Verdict::Wait(why)) => {
            Progress::Stumbling(Cause::NotTaken { kind: kind.to_owned(), name: name.to_owned(), why })
        }
        Some(refusal::Verdict::Refused(Cause::QuotaExceeded { .. })) if something_ends(workloads, expected.now) => {
            Progress::Progressing
        }
        Some(refusal::Verdict::Refused(cause @ Cause::QuotaExceeded { .. })) => Progress::Stumbling(cause),
        Some(refusal::Verdict::Refused(cause) | refusal::Verdict::Immutable(cause)) => Progress::Failed(cause),
    }
}

fn living_pods_of(workloads: &Workloads, owner: Option<String>) -> impl Iterator<Item = &Pod> + use<'_> {
    workloads
        .pods
        .iter()
        .filter(move |pod| pod.metadata.deletion_timestamp.is_none() && is_controlled_by(*pod, owner.clone()))
}

/// Whether a pod of the Deployment that is not of its newest ReplicaSet still runs, or ends.
fn has_older_pods(workloads: &Workloads, deployment: &Deployment, newest: &PartialObjectMeta<ReplicaSet>) -> bool {
    let older = workloads
        .replica_sets
        .iter()
        .filter(|set| is_controlled_by(*set, deployment.uid()) && set.uid() != newest.uid());
    let mut older = older.map(ResourceExt::uid);
    older.any(|set| workloads.pods.iter().any(|pod| is_controlled_by(pod, set.clone()) && !is_over(pod)))
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What the Deployment says about pods that could not even be made.
fn of_pod_creation(
    workloads: &Workloads,
    deployment: &Deployment,
    replica_set: &PartialObjectMeta<ReplicaSet>,
    now: Millis,
) -> Progress {
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failure = conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    let Some(message) = failure.and_then(|condition| condition.message.as_deref()) else {
        return Progress::Progressing;
    };
    // Where the newest ReplicaSet has none, the condition is an older one's.
    let is_older = message
        .strip_prefix("pods \"")
        .is_some_and(|rest| !rest.strip_prefix(&replica_set.name_any()).is_some_and(|rest| rest.starts_with('-')));
    if is_older {
        return Progress::Progressing;
    }
    match refusal::of_pod_creation("Deployment", &deployment.name_any(), message) {
        None => Progress::Progressing,
        Some(refusal::Verdict::Wait(why)) => {
            let since = failure.and_then(|condition| condition.last_transition_time.as_ref());
            let is_new = since.is_some_and(|since| now - since.0.as_millisecond() < EXPLAINED_AFTER);
            let (kind, name) = ("Deployment".to_owned(), deployment.name_any());
            if is_new { Progress::Progressing } else { Progress::Stumbling(Cause::NotTaken { kind, name, why }) }
        }
        // The room comes by itself.
        Some(refusal::Verdict::Refused(Cause::QuotaExceeded { .. })) if something_ends(workloads, now) => {
            Progress::Progressing
        }
        Some(refusal::Verdict::Refused(cause @ Cause::QuotaExceeded { .. })) if something_leaves(workloads) => {
            Progress::Stumbling(cause)
        }
        Some(refusal::Verdict::Refused(cause) | refusal::Verdict::Immutable(cause)) => Progress::Failed(cause),
    }
}

/// Whether pods are about to be gone, and the room that they have with them.
fn something_ends(workloads: &Workloads, now: Millis) -> bool {
    let gone_at = |pod: &Pod| Some(pod.metadata.deletion_timestamp.as_ref()?.0.as_millisecond());
    // That time is the end of their grace.
    workloads.pods.iter().filter_map(gone_at).any(|at| now < at + ENDING_AT_MOST)
}

/// Whether pods are there that make room in the quota by going: those that shut down, those of older templates, and
/// those of Jobs.
fn something_leaves(workloads: &Workloads) -> bool {
    let newest = workloads.deployments.iter().filter_map(|d| newest_replica_set(workloads, d)).map(ResourceExt::uid);
    let staying: Vec<_> = newest.chain(workloads.stateful_sets.iter().map(ResourceExt::uid)).collect();
    workloads.pods.iter().any(|pod| {
        pod.metadata.deletion_timestamp.is_some() || !staying.iter().any(|owner| is_controlled_by(pod, owner.clone()))
    })
}
