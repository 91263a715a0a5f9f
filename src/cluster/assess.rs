//! How far a deployment is, judged from what its namespace holds. Pure.
//!
//! Only pods of a Deployment's newest template count: what the last commit's pods do is not this attempt's matter.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Container, ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod},
};
use kube::{ResourceExt, api::PartialObjectMeta};

use super::{APPLIED, PodReference, WorkloadKind, Workloads, refusal};
use crate::{
    environment::{Cause, HOOK, Millis, Progress},
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
}

/// So many restarts of one container end an attempt.
const RESTARTS_AT_MOST: i32 = 3;
/// A container that runs has this long, counted from the attempt's beginning, until it is called not ready.
const NOT_READY_AFTER: Millis = 15_000;
/// An attempt with no more time than this left ends with what its jobs have not done.
const LATE: Millis = 5_000;
/// The clocks of the database, the API server and the nodes differ, and Kubernetes' times are whole seconds.
const CLOCK_DIFFERENCE: Millis = 5_000;

/// How far the expected workloads are. The worst finding decides; of equal ones the first.
pub fn assess(workloads: &Workloads, expected: &Expected<'_>) -> Progress {
    let found = expected.workloads.iter().map(|(kind, name)| match kind {
        WorkloadKind::Deployment => of_deployment(workloads, name, expected),
        WorkloadKind::StatefulSet => of_stateful_set(workloads, name, expected),
        WorkloadKind::Job => of_job(workloads, name, expected),
    });
    found.reduce(worse).unwrap_or(Progress::Ready)
}

/// The pods of the newest templates that are not ready: the ones that a new attempt begins anew.
pub fn pods_to_restart(workloads: &Workloads, expected: &Expected<'_>) -> Vec<PodReference> {
    let pods = expected.workloads.iter().flat_map(|(kind, name)| match kind {
        WorkloadKind::Deployment => deployment_named(workloads, name)
            .and_then(|deployment| newest_replica_set(workloads, deployment))
            .map(|replica_set| living_pods_of(workloads, replica_set.uid()).collect::<Vec<_>>())
            .unwrap_or_default(),
        WorkloadKind::StatefulSet => {
            stateful_set_named(workloads, name).map(|set| newest_pods_of(workloads, set).collect()).unwrap_or_default()
        }
        // They are run anew as a whole.
        WorkloadKind::Job => Vec::new(),
    });
    pods.filter(|pod| !has_condition(pod, "Ready", "True")).filter_map(reference).collect()
}

/// The expected Jobs that have not done their work: a new attempt runs them anew.
pub fn jobs_to_restart(workloads: &Workloads, expected: &Expected<'_>) -> Vec<String> {
    let jobs = expected.workloads.iter().filter(|(kind, _)| *kind == WorkloadKind::Job).map(|(_, name)| name);
    jobs.filter(|name| job_named(workloads, name).is_some_and(|job| !has_job_condition(job, "Complete")))
        .cloned()
        .collect()
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
    let Workloads { deployments, stateful_sets, jobs, replica_sets: _, pods } = workloads;
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

fn worse(one: Progress, other: Progress) -> Progress {
    let rank = |progress: &Progress| match progress {
        Progress::Ready => 0,
        Progress::Progressing => 1,
        // Whatever else is wrong tells more than that.
        Progress::Stumbling(Cause::NotReadyInTime { .. }) => 2,
        Progress::Stumbling(_) | Progress::Unproved { .. } => 3,
        Progress::AttemptOver(_) => 4,
        Progress::Failed(_) => 5,
    };
    if rank(&other) > rank(&one) { other } else { one }
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
    let of_pods = pods().map(|pod| of_pod(pod, expected)).reduce(worse).unwrap_or(Progress::Progressing);
    worse(of_pod_creation(workloads, deployment, replica_set), of_pods)
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
    let is_newest = status.update_revision == status.current_revision || status.updated_replicas == Some(wanted);
    if is_newest && status.replicas == wanted && status.ready_replicas.unwrap_or_default() == wanted {
        return Progress::Ready;
    }
    newest_pods_of(workloads, set).map(|pod| of_pod(pod, expected)).reduce(worse).unwrap_or(Progress::Progressing)
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

fn of_job(workloads: &Workloads, name: &str, expected: &Expected<'_>) -> Progress {
    let Some(job) = job_named(workloads, name) else { return Progress::Progressing };
    if has_job_condition(job, "Complete") {
        return Progress::Ready;
    }
    let pods = || workloads.pods.iter().filter(|pod| is_controlled_by(*pod, job.uid()));
    let failed = |exit_code| {
        let name = name.to_owned();
        if job.annotations().contains_key(HOOK) {
            Cause::HookFailed { job: name, exit_code }
        } else {
            Cause::SetupFailed { job: name, exit_code }
        }
    };
    if has_job_condition(job, "Failed") || has_job_condition(job, "FailureTarget") {
        return Progress::AttemptOver(failed(pods().filter_map(exit_code).next()));
    }
    let of_pods = pods().map(|pod| of_pod(pod, expected)).reduce(worse).unwrap_or(Progress::Progressing);
    match of_pods {
        // It is no server: it works for as long as it takes, ready or not, and is late at the end of the attempt.
        Progress::Progressing | Progress::Stumbling(Cause::NotReadyInTime { .. }) => {
            let left = expected.attempt_deadline - expected.now;
            if left <= LATE { Progress::Stumbling(failed(None)) } else { Progress::Progressing }
        }
        progress => progress,
    }
}

fn has_job_condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| &status.conditions).flatten();
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Of the first container that ended badly.
fn exit_code(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?;
    let statuses = [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
    let mut ended = statuses.filter_map(|status| Some(status.state.as_ref()?.terminated.as_ref()?.exit_code));
    ended.find(|code| *code != 0)
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
        None | Some(refusal::Verdict::Wait(_)) => Progress::Progressing,
        Some(refusal::Verdict::Refused(cause @ Cause::QuotaExceeded { .. })) if something_leaves(workloads) => {
            Progress::Stumbling(cause)
        }
        Some(refusal::Verdict::Refused(cause) | refusal::Verdict::Immutable(cause)) => Progress::Failed(cause),
    }
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

fn has_condition(pod: &Pod, kind: &str, status: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == status)
}

fn of_pod(pod: &Pod, expected: &Expected<'_>) -> Progress {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Progress::Progressing };
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        // Evicted or refused by its node: another pod takes its place.
        return Progress::Progressing;
    }
    let is_unschedulable = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if is_unschedulable {
        return Progress::Stumbling(Cause::Unschedulable);
    }
    let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
    let init = seen(spec.init_containers.as_deref(), status.init_container_statuses.as_deref(), Role::Init);
    let main = seen(Some(&spec.containers), status.container_statuses.as_deref(), Role::Main);
    init.chain(main)
        .map(|container| of_container(&container, created, expected))
        .reduce(worse)
        .unwrap_or(Progress::Progressing)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Runs to its end before the others begin.
    Init,
    /// Keeps running, as init containers that restart always do.
    Main,
}

struct Seen<'a> {
    container: &'a Container,
    status: &'a ContainerStatus,
    role: Role,
}

fn seen<'a>(
    containers: Option<&'a [Container]>,
    statuses: Option<&'a [ContainerStatus]>,
    role: Role,
) -> impl Iterator<Item = Seen<'a>> {
    let statuses = statuses.unwrap_or_default();
    containers.unwrap_or_default().iter().filter_map(move |container| {
        let status = statuses.iter().find(|status| status.name == container.name)?;
        let role = if container.restart_policy.as_deref() == Some("Always") { Role::Main } else { role };
        Some(Seen { container, status, role })
    })
}

fn of_container(seen: &Seen<'_>, pod_created: Millis, expected: &Expected<'_>) -> Progress {
    let Seen { container, status, role } = seen;
    if status.ready {
        return Progress::Progressing;
    }
    let nothing = ContainerState::default();
    let state = status.state.as_ref().unwrap_or(&nothing);
    let waiting = state.waiting.as_ref().map_or(Progress::Progressing, |waiting| of_waiting(container, waiting));
    if waiting != Progress::Progressing {
        return waiting;
    }
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(terminated) = state.terminated.as_ref().or(before) {
        let crash = of_crash(seen, terminated, pod_created, expected);
        if crash != Progress::Progressing {
            return crash;
        }
    }
    let waited = expected.now - expected.attempt_started_at;
    if state.running.is_some() && *role == Role::Main && waited >= NOT_READY_AFTER {
        let (container, seconds) = (Some(container.name.clone()), waited / 1000);
        return Progress::Stumbling(Cause::NotReadyInTime { container, seconds });
    }
    Progress::Progressing
}

/// The kubelet's reasons: `pkg/kubelet/images/types.go` and `pkg/kubelet/kuberuntime/kuberuntime_container.go`.
fn of_waiting(container: &Container, waiting: &ContainerStateWaiting) -> Progress {
    let message = waiting.message.as_deref().unwrap_or_default();
    let pull_failed = || Cause::ImagePullFailed { container: container.name.clone(), image: shown_image(container) };
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => Progress::Stumbling(pull_failed()),
        "InvalidImageName" | "ErrImageNeverPull" => Progress::Failed(pull_failed()),
        "CreateContainerConfigError" => of_configuration(&container.name, message),
        "CreateContainerError" if message.contains("no command specified") => {
            Progress::Failed(Cause::ContainerConfig { container: container.name.clone(), missing: None })
        }
        _ => Progress::Progressing,
    }
}

/// `pkg/kubelet/kuberuntime/security_context.go` and `pkg/kubelet/kubelet_pods.go`.
fn of_configuration(container: &str, message: &str) -> Progress {
    let container = container.to_owned();
    if message.contains("non-numeric user") {
        let missing = Some("a numeric USER in its image".to_owned());
        return Progress::Failed(Cause::ContainerConfig { container, missing });
    }
    if message.contains("runAsNonRoot") || message.contains("non-root policy") {
        return Progress::Failed(Cause::RunsAsRoot { container });
    }
    if message.contains("timed out waiting") {
        // The kubelet has not got the object from the API server yet.
        return Progress::Progressing;
    }
    Progress::Failed(Cause::ContainerConfig { container, missing: missing_source(message) })
}

/// `configmap "web" not found`, or `couldn't find key KEY in ConfigMap NAMESPACE/web`.
fn missing_source(message: &str) -> Option<String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    for (word, kind) in [("configmap", "ConfigMap"), ("secret", "Secret")] {
        let object = message.split_once(&format!("{word} \"")).and_then(|(_, rest)| rest.split_once("\" not found"));
        if let Some((name, _)) = object.filter(|(name, _)| is_name(name)) {
            return Some(format!("the {kind} {name}"));
        }
        let (_, rest) = message.split_once("couldn't find key ").unwrap_or_default();
        if let Some((key, rest)) = rest.split_once(&format!(" in {kind} ")) {
            let (_, name) = rest.split_once('/')?;
            return (is_name(key) && is_name(name)).then(|| format!("the key {key} in the {kind} {name}"));
        }
    }
    None
}

fn of_crash(
    Seen { container, status, role }: &Seen<'_>,
    terminated: &ContainerStateTerminated,
    pod_created: Millis,
    expected: &Expected<'_>,
) -> Progress {
    if *role == Role::Init && terminated.exit_code == 0 {
        return Progress::Progressing;
    }
    let attempt_began = expected.attempt_started_at - CLOCK_DIFFERENCE;
    let ended = terminated.finished_at.as_ref().map_or(Millis::MAX, |time| time.0.as_millisecond());
    if ended < attempt_began {
        return Progress::Progressing;
    }
    let is_out_of_memory = terminated.reason.as_deref() == Some("OOMKilled");
    let (name, restarts) = (container.name.clone(), status.restart_count);
    let cause = if is_out_of_memory {
        Cause::OutOfMemory { container: name, limit: memory_limit(container) }
    } else {
        Cause::CrashLoop { container: name, restarts, exit_code: Some(terminated.exit_code) }
    };
    // How many restarts of an older pod fall into this attempt cannot be told; its deadline judges those.
    if restarts >= RESTARTS_AT_MOST && pod_created >= attempt_began {
        Progress::AttemptOver(cause)
    } else if restarts > 0 || is_out_of_memory {
        Progress::Stumbling(cause)
    } else {
        Progress::Progressing
    }
}

fn memory_limit(container: &Container) -> Option<String> {
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.clone())
}

/// The API server takes almost anything as an image's name; what is none is not shown.
fn shown_image(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let is_image = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b':' | b'@' | b'_' | b'-');
    if !image.is_empty() && image.len() <= 300 && image.bytes().all(is_image) {
        return image.to_owned();
    }
    "named in the recipe".to_owned()
}
