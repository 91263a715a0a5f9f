//! What kubelets, container runtimes, the scheduler and the volume controllers say of a pod, read for what it means.
//!
//! As with [refusals](super::refusal), their texts are only searched: for words that are known beforehand, and for names
//! of a strict form. Where each stands in their sources is named with it.

mod evictions;

use k8s_openapi::api::core::v1::{Container, Event, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::environment::{
    Cause, FailedProbe, Hindrance, Millis, ProbeKind, ProbeResult, PullFailure, StartFailure, VolumeProblem,
};

pub(super) use evictions::{eviction, evictions_of_set};

/// Which of a namespace's events are about one object and not from before `since`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub events: &'a [Event],
    pub since: Millis,
}

impl<'a> Said<'a> {
    /// What is said of the object with this UID, for one of these reasons; what was said last comes first.
    pub fn of(self, uid: Option<&str>, reasons: &[&str]) -> Vec<&'a Event> {
        let is_of_it = |event: &&Event| uid.is_some() && event.involved_object.uid.as_deref() == uid;
        self.selected(is_of_it, reasons)
    }

    fn of_claim(self, name: &str, reasons: &[&str]) -> Vec<&'a Event> {
        let is_of_it = |event: &&Event| {
            let object = &event.involved_object;
            object.kind.as_deref() == Some("PersistentVolumeClaim") && object.name.as_deref() == Some(name)
        };
        self.selected(is_of_it, reasons)
    }

    fn selected(self, is_of_it: impl Fn(&&Event) -> bool, reasons: &[&str]) -> Vec<&'a Event> {
        let is_one = |event: &&Event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason));
        let found = self.events.iter().filter(is_of_it).filter(is_one);
        let mut found: Vec<&Event> = found.filter(|event| last_said(event) >= self.since).collect();
        found.sort_by_key(|event| -last_said(event));
        found
    }
}

/// When an event happened last. Those of `events.k8s.io` have other fields than those before them.
fn last_said(event: &Event) -> Millis {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let times = [
        series.map(|time| time.0.as_millisecond()),
        event.event_time.as_ref().map(|time| time.0.as_millisecond()),
        event.last_timestamp.as_ref().map(|time| time.0.as_millisecond()),
        event.first_timestamp.as_ref().map(|time| time.0.as_millisecond()),
    ];
    times.into_iter().flatten().max().unwrap_or(0)
}

fn message(event: &Event) -> &str {
    event.message.as_deref().unwrap_or_default()
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// The words of containerd, CRI-O and the registries, in the order in which they count: many of them are in the same
/// text.
const PULL_FAILURES: [(PullFailure, &[&str]); 6] = [
    (PullFailure::RateLimited, &["toomanyrequests", "too many requests", "rate limit"]),
    (
        PullFailure::OtherMachine,
        &[
            "no match for platform",
            "no matching manifest for",
            "no image found in manifest list",
            "no image found in image index",
            "does not match the specified platform",
        ],
    ),
    (
        PullFailure::Unreachable,
        &[
            "registry is unavailable",
            "connection refused",
            "connection reset",
            "no such host",
            "name resolution",
            "server misbehaving",
            "no route to host",
            "network is unreachable",
            "i/o timeout",
            "connection timed out",
            "operation timed out",
            "timeout awaiting response",
            "handshake timeout",
            "client.timeout exceeded",
            "context deadline exceeded",
            "deadlineexceeded",
            "server gave http response to https client",
            "x509: ",
            "tls: ",
            ": eof",
            "unexpected eof",
            "internal server error",
            "bad gateway",
            "service unavailable",
            "gateway timeout",
            "gateway time-out",
            "unexpected http status: 5",
        ],
    ),
    (PullFailure::BadSignature, &["signature"]),
    (
        PullFailure::Denied,
        &[
            "unauthorized",
            "authentication required",
            "authorization failed",
            "authorization required",
            "insufficient_scope",
            "denied",
            "forbidden",
            "no basic auth credentials",
            "failed to authorize",
            "failed to fetch anonymous token",
            "failed to fetch oauth token",
            "invalid username/password",
            "unable to retrieve auth token",
        ],
    ),
    (
        PullFailure::NotFound,
        &[
            "not found",
            "notfound",
            "manifest unknown",
            "manifest_unknown",
            "name unknown",
            "name_unknown",
            "does not exist",
        ],
    ),
];

/// Why an image is not pulled, by what the runtime said of it.
fn pull_failure(image: &str, text: &str) -> PullFailure {
    // Its own name may be made of any words.
    let path = image.split_once('@').map_or(image, |(name, _)| name);
    let last = path.rsplit('/').next().unwrap_or(path);
    let last = last.split_once(':').map_or(last, |(name, _)| name);
    let is_named = |word: &&str| {
        let bare = word.trim_start_matches(['"', '(']);
        let is_name = bare.strip_prefix(last).is_some_and(|rest| rest.starts_with([':', '@', '"']));
        word.contains("://") || is_name || word.contains(&format!("/{last}"))
    };
    let words: Vec<&str> = text.split_whitespace().filter(|word| !is_named(word)).collect();
    let text = words.join(" ").to_ascii_lowercase();
    let found = PULL_FAILURES.iter().find(|(_, words)| has(&text, words));
    found.map_or(PullFailure::Unsaid, |(failure, _)| *failure)
}

/// Why a container's image is not pulled. While the kubelet waits between two tries its status may say no more than
/// that; the event of the last one does (`pkg/kubelet/images/image_manager.go`).
pub(super) fn why_not_pulled(container: &Container, status: &str, pod: Option<&str>, said: Said<'_>) -> PullFailure {
    let image = container.image.as_deref().unwrap_or_default();
    let events = said.of(pod, &["Failed", "InspectFailed"]);
    let of_image = events.into_iter().map(message).filter(|text| text.contains(image));
    let texts = std::iter::once(status).chain(of_image);
    texts.map(|text| pull_failure(image, text)).find(|why| *why != PullFailure::Unsaid).unwrap_or(PullFailure::Unsaid)
}

/// The probe of a container that failed last, of these kinds: `pkg/kubelet/prober/prober.go`.
pub(super) fn failed_probe(
    container: &Container,
    pod: Option<&str>,
    said: Said<'_>,
    kinds: &[ProbeKind],
) -> Option<FailedProbe> {
    let events = said.of(pod, &["Unhealthy"]);
    events.into_iter().filter(|event| is_about(event, container)).find_map(|event| {
        let (kind, rest) = message(event).split_once(" probe ")?;
        let kind = match kind {
            "Startup" => ProbeKind::Startup,
            "Readiness" => ProbeKind::Readiness,
            "Liveness" => ProbeKind::Liveness,
            _ => return None,
        };
        let probe = probe_of(container, kind)?;
        kinds.contains(&kind).then(|| FailedProbe {
            kind,
            target: target(container, probe),
            result: result(probe, rest),
        })
    })
}

/// The kind of the probe for which the kubelet ended a container, whatever code it ended with then: `computePodActions` of
/// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`.
pub(super) fn killing_probe(container: &Container, pod: Option<&str>, said: Said<'_>) -> Option<ProbeKind> {
    let events = said.of(pod, &["Killing"]);
    events.into_iter().filter(|event| is_about(event, container)).find_map(|event| match message(event) {
        text if text.contains("failed liveness probe") => Some(ProbeKind::Liveness),
        text if text.contains("failed startup probe") => Some(ProbeKind::Startup),
        _ => None,
    })
}

/// A probe of a container's that failed, of which no more is known.
pub(super) fn some_failure(container: &Container, kind: ProbeKind) -> FailedProbe {
    let target = probe_of(container, kind).and_then(|probe| target(container, probe));
    FailedProbe { kind, target, result: ProbeResult::Failed }
}

/// `spec.containers{web}`, or `spec.initContainers{web}`.
fn is_about(event: &Event, container: &Container) -> bool {
    let field = event.involved_object.field_path.as_deref();
    field.is_some_and(|field| field.ends_with(&format!("{{{}}}", container.name)))
}

fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

fn target(container: &Container, probe: &Probe) -> Option<String> {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => Some(number.to_string()),
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let number = ports.filter(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port).next();
            number.map(|number| number.to_string()).or_else(|| is_name(name).then(|| name.clone()))
        }
    };
    if let Some(http) = &probe.http_get {
        let path = http.path.as_deref().unwrap_or("/");
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-~%?=&+:@,".contains(&b);
        let path =
            if path.len() <= 100 && path.bytes().all(is_plain) { format!("GET {path}") } else { "GET".to_owned() };
        return Some(format!("{path} on port {}", port(&http.port)?));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some(format!("port {}", port(&tcp.port)?));
    }
    probe.grpc.as_ref().map(|grpc| format!("gRPC on port {}", grpc.port))
}

/// `pkg/probe/{http,tcp,grpc,exec}`. What a command prints is its own, and says nothing here.
fn result(probe: &Probe, text: &str) -> ProbeResult {
    let text = text.to_ascii_lowercase();
    let timed_out =
        ["context deadline exceeded", "client.timeout", "i/o timeout", "timed out", "did not complete within"];
    if probe.exec.is_some() {
        let is_late = has(&text, &["timed out after", "deadlineexceeded"]);
        return if is_late { ProbeResult::TimedOut } else { ProbeResult::Ended };
    }
    if let Some((_, status)) = text.split_once("statuscode: ") {
        let digits: String = status.chars().take_while(char::is_ascii_digit).collect();
        return digits.parse().map_or(ProbeResult::Failed, ProbeResult::Answered);
    }
    match () {
        () if text.contains("connection refused") => ProbeResult::Refused,
        () if text.contains("service unhealthy") => ProbeResult::NotServing,
        () if has(&text, &timed_out) => ProbeResult::TimedOut,
        () if has(&text, &["no route to host", "network is unreachable", "connection reset"]) => {
            ProbeResult::Unreachable
        }
        () => ProbeResult::Failed,
    }
}

/// Why the runtime cannot start a container's command: the words of runc and of crun, in a container's status. crun's are
/// those of the C library, which begin with a capital letter, and it names the file between two of its own
/// (`src/libcrun/container.c`).
pub(super) fn start_failure(text: &str) -> Option<StartFailure> {
    let text = text.to_ascii_lowercase();
    let is_not_found = text.split_once("executable file").is_some_and(|(_, rest)| rest.contains("not found"));
    match () {
        () if text.contains("exec format error") => Some(StartFailure::OtherMachine),
        () if !text.contains("exec") => None,
        () if is_not_found || text.contains("no such file or directory") => Some(StartFailure::NotThere),
        () if has(&text, &["permission denied", "is a directory"]) => Some(StartFailure::NotExecutable),
        () => None,
    }
}

/// The scheduler's plugins, `pkg/scheduler/framework/plugins`, and their words in clusters before.
const HINDRANCES: [(&str, Hindrance); 20] = [
    ("Insufficient cpu", Hindrance::Cpu),
    ("Insufficient memory", Hindrance::Memory),
    ("Insufficient ephemeral-storage", Hindrance::Storage),
    ("Too many pods", Hindrance::Pods),
    ("untolerated taint", Hindrance::Taints),
    ("taints that the pod didn't tolerate", Hindrance::Taints),
    ("that the pod didn't tolerate", Hindrance::Taints),
    ("node affinity/selector", Hindrance::Affinity),
    ("node selector", Hindrance::Affinity),
    ("the requested node name", Hindrance::Affinity),
    ("pod affinity", Hindrance::PodAffinity),
    ("anti-affinity", Hindrance::PodAffinity),
    ("topology spread", Hindrance::Spread),
    ("free ports", Hindrance::Ports),
    ("no available volume zone", Hindrance::VolumePlace),
    ("volume node affinity", Hindrance::VolumePlace),
    ("PersistentVolume's node affinity", Hindrance::VolumePlace),
    ("max volume count", Hindrance::VolumeCount),
    ("node(s) were unschedulable", Hindrance::Cordoned),
    ("Insufficient ", Hindrance::Resource),
];

/// Why no node takes a pod, by the condition `PodScheduled`.
pub(super) fn not_scheduled(pod: &Pod, text: &str, said: Said<'_>) -> Cause {
    let volume = |name: Option<&str>, why| Cause::VolumeUnavailable { name: name.map(str::to_owned), why };
    let claim = |end: &str| {
        let (name, _) = text.split_once("persistentvolumeclaim \"")?.1.split_once(&format!("\" {end}"))?;
        is_name(name).then_some(name)
    };
    if let Some(name) = claim("not found") {
        return volume(Some(name), VolumeProblem::Missing);
    }
    if let Some(name) = claim("is being deleted") {
        return volume(Some(name), VolumeProblem::Going);
    }
    if let Some(name) = claim("bound to non-existent") {
        return volume(Some(name), VolumeProblem::Lost);
    }
    if has(text, &["unbound immediate PersistentVolumeClaims", "available persistent volumes to bind"]) {
        let problem = claim_problem(pod, said);
        return problem.unwrap_or_else(|| volume(claims(pod).first().copied(), VolumeProblem::Unbound));
    }
    if text.contains("enough free storage") {
        return volume(claims(pod).first().copied(), VolumeProblem::NotMade);
    }
    // What it says of preemption is about other pods.
    let text = text.split_once("preemption:").map_or(text, |(before, _)| before);
    let mut left = text.to_owned();
    let mut hindrances: Vec<Hindrance> = Vec::new();
    for (words, hindrance) in HINDRANCES {
        if left.contains(words) {
            left = left.replace(words, "");
            hindrances.push(hindrance);
        }
    }
    hindrances.sort_unstable();
    hindrances.dedup();
    Cause::Unschedulable { hindrances }
}

/// The claims that a pod mounts, by their names.
fn claims(pod: &Pod) -> Vec<&str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()));
    named.filter(|name| is_name(name)).collect()
}

/// What keeps a claim of the pod's from having a volume: `pkg/controller/volume/persistentvolume`.
pub(super) fn claim_problem(pod: &Pod, said: Said<'_>) -> Option<Cause> {
    claims(pod).into_iter().find_map(|name| {
        let event = *said.of_claim(name, &["FailedBinding", "ProvisioningFailed"]).first()?;
        let text = message(event);
        let why = match event.reason.as_deref() {
            Some("FailedBinding") if text.contains("no storage class is set") => VolumeProblem::NoStorageClass,
            Some("FailedBinding") => VolumeProblem::Unbound,
            _ if text.contains("storageclass") && text.contains("not found") => VolumeProblem::UnknownStorageClass,
            _ => VolumeProblem::NotMade,
        };
        Some(Cause::VolumeUnavailable { name: Some(name.to_owned()), why })
    })
}

/// What keeps a pod's volumes from its containers, by the events of its kubelet and of the attach controller.
pub(super) fn mount_problem(pod: &Pod, said: Said<'_>) -> Option<Cause> {
    let events = said.of(pod.metadata.uid.as_deref(), &["FailedMount", "FailedAttachVolume", "FailedMapVolume"]);
    // One that only says that it waits is told where there is none that says for what.
    let is_general = |event: &&&Event| message(event).contains("unmounted volumes=[");
    let specific = events.iter().filter(|event| !is_general(event)).find_map(|event| of_mount(pod, event));
    specific.or_else(|| {
        let text = message(events.iter().find(is_general)?);
        let (_, names) = text.split_once("unmounted volumes=[")?;
        let name = names.split([' ', ']']).next().filter(|name| is_name(name))?;
        Some(Cause::VolumeUnavailable { name: Some(name.to_owned()), why: VolumeProblem::NotMounted })
    })
}

fn of_mount(pod: &Pod, event: &Event) -> Option<Cause> {
    let text = message(event);
    if has(text, &["timed out waiting for the condition", "not registered"]) {
        // The kubelet has not got the object from the API server yet.
        return None;
    }
    let quoted = text.split_once("volume \"").and_then(|(_, rest)| rest.split_once('"'));
    let name = quoted.map(|(name, _)| name).filter(|name| is_name(name));
    if let Some(missing) = missing_source(text).or_else(|| missing_key(pod, name, text)) {
        let container = container_that_mounts(pod, name)?;
        return Some(Cause::ContainerConfig { container, missing: Some(missing) });
    }
    let is_attachment = event.reason.as_deref() == Some("FailedAttachVolume");
    let why = match () {
        () if has(text, &["Multi-Attach", "already exclusively attached", "already used by"]) => VolumeProblem::InUse,
        () if is_attachment => VolumeProblem::NotAttached,
        () => VolumeProblem::NotMounted,
    };
    Some(Cause::VolumeUnavailable { name: name.map(str::to_owned), why })
}

/// `references non-existent secret key: KEY`: `pkg/volume/{secret,configmap}`.
fn missing_key(pod: &Pod, volume: Option<&str>, text: &str) -> Option<String> {
    let (_, key) = text.split_once("references non-existent ")?.1.split_once(" key: ")?;
    let key = key.split_whitespace().next().filter(|key| is_name(key))?;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volume = volumes.into_iter().find(|known| Some(known.name.as_str()) == volume);
    let source = volume.and_then(|volume| {
        let secret = volume.secret.as_ref().and_then(|it| Some(format!("Secret {}", it.secret_name.as_ref()?)));
        secret.or_else(|| volume.config_map.as_ref().map(|it| format!("ConfigMap {}", it.name)))
    });
    Some(source.map_or_else(|| format!("the key {key}"), |source| format!("the key {key} in the {source}")))
}

fn container_that_mounts(pod: &Pod, volume: Option<&str>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let mounts = |container: &&Container| {
        container.volume_mounts.iter().flatten().any(|mount| Some(mount.name.as_str()) == volume)
    };
    containers().find(mounts).or_else(|| containers().next()).map(|container| container.name.clone())
}

/// `configmap "web" not found`, or `couldn't find key KEY in ConfigMap NAMESPACE/web`: `pkg/kubelet/kubelet_pods.go`.
pub(super) fn missing_source(message: &str) -> Option<String> {
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

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests;
