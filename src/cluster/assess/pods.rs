//! How far one pod is.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Expected;
use crate::{
    cluster::words::{self, Said},
    environment::{Cause, FailedProbe, Millis, ProbeKind, Progress, PullFailure},
};

/// So many restarts of one container end an attempt.
const RESTARTS_AT_MOST: i32 = 3;
/// A container that runs has this long until it is called not ready, or not ended. It is told that it is not, and no
/// alarm.
const NOT_READY_AFTER: Millis = 15_000;
/// A pod that no node takes has this long: others may be making room for it.
const UNSCHEDULABLE_AFTER: Millis = 10_000;
/// The clocks of the database, the API server and the nodes differ, and Kubernetes' times are whole seconds.
pub(super) const CLOCK_DIFFERENCE: Millis = 5_000;

/// The worst of two findings; of equal ones the first.
pub(super) fn worse(one: Progress, other: Progress) -> Progress {
    let rank = |progress: &Progress| match progress {
        Progress::Ready => 0,
        Progress::Progressing => 1,
        // Whatever else is wrong tells more than that.
        Progress::Stumbling(Cause::NotReadyYet { .. } | Cause::InitRuns { .. }) => 2,
        Progress::Stumbling(_) | Progress::Unproved { .. } => 3,
        Progress::AttemptOver(_) => 4,
        Progress::Failed(_) => 5,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

pub(super) fn has_condition(pod: &Pod, kind: &str, status: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == status)
}

pub(super) fn of_pod(pod: &Pod, said: Said<'_>, expected: &Expected<'_>) -> Progress {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Progress::Progressing };
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        // Another pod takes its place; what its node did to it is looked at for the workload as a whole.
        return Progress::Progressing;
    }
    if let Some(cause) = why_not_scheduled(pod, status, said, expected) {
        return Progress::Stumbling(cause);
    }
    let of_pod = OfPod { pod, created: created_at(pod), said };
    let init = seen(spec.init_containers.as_deref(), status.init_container_statuses.as_deref(), Role::Init);
    let main = seen(Some(&spec.containers), status.container_statuses.as_deref(), Role::Main);
    let of_containers = init
        .chain(main)
        .map(|container| of_container(&container, &of_pod, expected))
        .reduce(worse)
        .unwrap_or(Progress::Progressing);
    if of_containers == Progress::Progressing && has_condition(pod, "PodScheduled", "True") && is_being_made(status) {
        // What was said of an earlier try counts for as long as no container was made.
        return words::mount_problem(pod, said).map_or(Progress::Progressing, Progress::Stumbling);
    }
    of_containers
}

fn why_not_scheduled(pod: &Pod, status: &PodStatus, said: Said<'_>, expected: &Expected<'_>) -> Option<Cause> {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    let is_scheduled = condition.is_some_and(|condition| condition.status == "True");
    // Where it has a status of a container, some node took it.
    if is_scheduled || status.container_statuses.iter().flatten().next().is_some() {
        return None;
    }
    let waits_long = expected.now - created_at(pod).max(expected.attempt_started_at) >= UNSCHEDULABLE_AFTER;
    let unschedulable = condition.filter(|condition| condition.reason.as_deref() == Some("Unschedulable"));
    match unschedulable {
        Some(condition) if waits_long || expected.now >= expected.attempt_deadline => {
            Some(words::not_scheduled(pod, condition.message.as_deref().unwrap_or_default(), said))
        }
        // A claim that waits for its first pod is only provided for now.
        _ => words::claim_problem(pod, said),
    }
}

pub(super) fn created_at(pod: &Pod) -> Millis {
    pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond())
}

/// None of its containers, those before the others included, has begun.
fn is_being_made(status: &PodStatus) -> bool {
    let statuses = [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
    statuses.into_iter().all(|container| {
        let state = container.state.as_ref();
        state.is_none_or(|state| state.running.is_none() && state.terminated.is_none())
            && container.last_state.as_ref().is_none_or(|last| last.terminated.is_none())
    })
}

/// The pod that a container is of.
struct OfPod<'a> {
    pod: &'a Pod,
    created: Millis,
    said: Said<'a>,
}

impl OfPod<'_> {
    fn uid(&self) -> Option<&str> {
        self.pod.metadata.uid.as_deref()
    }
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

fn of_container(seen: &Seen<'_>, of_pod: &OfPod<'_>, expected: &Expected<'_>) -> Progress {
    let Seen { container, status, role } = seen;
    if status.ready {
        return Progress::Progressing;
    }
    let nothing = ContainerState::default();
    let state = status.state.as_ref().unwrap_or(&nothing);
    let of_waiting = |waiting| of_waiting(container, waiting, of_pod);
    let waiting = state.waiting.as_ref().map_or(Progress::Progressing, of_waiting);
    if waiting != Progress::Progressing {
        return waiting;
    }
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let crash = |terminated| of_crash(seen, terminated, of_pod, expected);
    let crash = state.terminated.as_ref().or(before).map_or(Progress::Progressing, crash);
    let is_outlived = before.zip(state.running.as_ref()).is_some_and(|(before, running)| {
        matches!(crash, Progress::Stumbling(Cause::CrashLoop { .. }) | Progress::AttemptOver(Cause::CrashLoop { .. }))
            && outlives(running, before, expected.now)
    });
    if crash != Progress::Progressing && !is_outlived {
        return crash;
    }
    let Some(running) = &state.running else { return Progress::Progressing };
    // The time of an earlier attempt is not this one's.
    let started = running.started_at.as_ref().map_or(of_pod.created, |time| time.0.as_millisecond());
    let started = started.clamp(expected.attempt_started_at, expected.now.max(expected.attempt_started_at));
    let waited = expected.now - started;
    if waited < NOT_READY_AFTER && expected.now < expected.attempt_deadline {
        return Progress::Progressing;
    }
    let (name, seconds) = (container.name.clone(), waited / 1_000);
    let of = (expected.attempt_deadline - started).max(waited) / 1_000;
    Progress::Stumbling(match role {
        Role::Init => Cause::InitRuns { container: name, seconds, of: Some(of) },
        Role::Main => {
            let kinds = [ProbeKind::Startup, ProbeKind::Readiness];
            let said = Said { since: of_pod.said.since.max(started - CLOCK_DIFFERENCE), ..of_pod.said };
            let probe = words::failed_probe(container, of_pod.uid(), said, &kinds);
            Cause::NotReadyYet { container: name, seconds, of, probe }
        }
    })
}

/// Whether a container has run for longer this time than it did before: what ended it then is over.
fn outlives(running: &ContainerStateRunning, before: &ContainerStateTerminated, now: Millis) -> bool {
    let millis = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_millisecond());
    let lived = millis(&before.finished_at).zip(millis(&before.started_at)).map_or(0, |(end, start)| end - start);
    millis(&running.started_at).is_some_and(|started| now - started >= lived.max(0) + NOT_READY_AFTER)
}

/// The kubelet's reasons: `pkg/kubelet/images/types.go` and `pkg/kubelet/kuberuntime/kuberuntime_container.go`.
fn of_waiting(container: &Container, waiting: &ContainerStateWaiting, of_pod: &OfPod<'_>) -> Progress {
    let message = waiting.message.as_deref().unwrap_or_default();
    let pull_failed =
        |why| Cause::ImagePullFailed { container: container.name.clone(), image: shown_image(container), why };
    let not_pulled = || words::why_not_pulled(container, message, of_pod.uid(), of_pod.said);
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" => Progress::Stumbling(pull_failed(not_pulled())),
        "RegistryUnavailable" => Progress::Stumbling(pull_failed(PullFailure::Unreachable)),
        "SignatureValidationFailed" => Progress::Stumbling(pull_failed(PullFailure::BadSignature)),
        "InvalidImageName" => Progress::Failed(pull_failed(PullFailure::NoName)),
        "ErrImageNeverPull" => Progress::Failed(pull_failed(PullFailure::NeverPulled)),
        "CreateContainerConfigError" => of_configuration(&container.name, message),
        "CreateContainerError" if message.contains("no command specified") => {
            Progress::Failed(Cause::ContainerConfig { container: container.name.clone(), missing: None })
        }
        "CreateContainerError" | "RunContainerError" => cannot_start(container, message),
        _ => Progress::Progressing,
    }
}

fn cannot_start(container: &Container, message: &str) -> Progress {
    let why = words::start_failure(message);
    why.map_or(Progress::Progressing, |why| {
        Progress::Failed(Cause::CannotStart { container: container.name.clone(), why })
    })
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
    Progress::Failed(Cause::ContainerConfig { container, missing: words::missing_source(message) })
}

fn of_crash(
    Seen { container, status, role }: &Seen<'_>,
    terminated: &ContainerStateTerminated,
    of_pod: &OfPod<'_>,
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
    // The runtime's own words; other ends have the application's, or none.
    if matches!(terminated.reason.as_deref(), Some("StartError" | "ContainerCannotRun")) {
        let failure = cannot_start(container, terminated.message.as_deref().unwrap_or_default());
        if failure != Progress::Progressing {
            return failure;
        }
    }
    let is_out_of_memory = terminated.reason.as_deref() == Some("OOMKilled");
    let (name, restarts) = (container.name.clone(), status.restart_count);
    let cause = if is_out_of_memory {
        Cause::OutOfMemory { container: name, limit: memory_limit(container) }
    } else if let Some(probe) = why_killed(container, terminated, of_pod) {
        Cause::KilledByProbe { container: name, restarts, probe }
    } else {
        Cause::CrashLoop { container: name, restarts, exit_code: Some(terminated.exit_code) }
    };
    // How many restarts of an older pod fall into this attempt cannot be told; its deadline judges those.
    if restarts >= RESTARTS_AT_MOST && of_pod.created >= attempt_began {
        Progress::AttemptOver(cause)
    } else if restarts > 0 || is_out_of_memory {
        Progress::Stumbling(cause)
    } else {
        Progress::Progressing
    }
}

/// The probe because of which its node ended a container. None: it ended by itself.
fn why_killed(container: &Container, terminated: &ContainerStateTerminated, of_pod: &OfPod<'_>) -> Option<FailedProbe> {
    let failed = |kinds: &[ProbeKind]| words::failed_probe(container, of_pod.uid(), of_pod.said, kinds);
    // Its node says both, by one clock. What it said before that is about the run before.
    let started = terminated.started_at.as_ref().map_or(0, |time| time.0.as_millisecond());
    let of_this_run = Said { since: of_pod.said.since.max(started), ..of_pod.said };
    if let Some(kind) = words::killing_probe(container, of_pod.uid(), of_this_run) {
        return Some(failed(&[kind]).unwrap_or_else(|| words::some_failure(container, kind)));
    }
    // By SIGKILL or SIGTERM: of many events, not all are kept.
    let was_killed = matches!(terminated.exit_code, 137 | 143);
    was_killed.then(|| failed(&[ProbeKind::Startup, ProbeKind::Liveness])).flatten()
}

/// The containers of a pod that have ended and are not started again yet, those before the others first.
fn ended(pod: &Pod) -> impl Iterator<Item = (&Container, &ContainerStateTerminated)> {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let init = seen(
        spec.and_then(|spec| spec.init_containers.as_deref()),
        status.and_then(|status| status.init_container_statuses.as_deref()),
        Role::Init,
    );
    let main = seen(
        spec.map(|spec| spec.containers.as_slice()),
        status.and_then(|status| status.container_statuses.as_deref()),
        Role::Main,
    );
    init.chain(main).filter_map(|Seen { container, status, role: _ }| {
        Some((container, status.state.as_ref()?.terminated.as_ref()?))
    })
}

/// The cause, where one of the pod's containers ran out of memory.
pub(super) fn out_of_memory(pod: &Pod) -> Option<Cause> {
    let (container, _) = ended(pod).find(|(_, end)| end.reason.as_deref() == Some("OOMKilled"))?;
    Some(Cause::OutOfMemory { container: container.name.clone(), limit: memory_limit(container) })
}

/// Of the first container that ended badly. Those that keep running beside the others are ended with them.
pub(super) fn exit_code(pod: &Pod) -> Option<i32> {
    let mut others = ended(pod).filter(|(container, _)| container.restart_policy.as_deref() != Some("Always"));
    others.find_map(|(_, end)| (end.exit_code != 0).then_some(end.exit_code))
}

/// When the last of its containers ended, as far as it is known, or else when it was made.
pub(super) fn ended_at(pod: &Pod) -> Millis {
    let times = ended(pod).filter_map(|(_, end)| Some(end.finished_at.as_ref()?.0.as_millisecond()));
    times.max().unwrap_or_else(|| created_at(pod))
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
