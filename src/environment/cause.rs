//! Why an environment or a deployment is where it is, as one sentence for people.

use std::fmt;

use super::{
    Eviction, FailedProbe, Hindrance, JobEnd, Obstacle, PullFailure, Reason, Scope, StartFailure, VolumeProblem,
};

/// A reason with what it needs to make its one sentence. Every parameter is a name of the recipe's or the cluster's, a
/// figure, or a rule of ours; error texts and values stay out, because the sentence reaches pull requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    QueuedForCapacity {
        scope: Scope,
        at_most: u64,
        position: u64,
    },
    /// Its build may still be running.
    WaitingForImage {
        image: String,
        /// No workflow of the commit is under way, and one failed.
        has_failed: bool,
    },
    /// What its tag means is, or may be, another commit's.
    WaitingForBuild {
        image: String,
    },
    AwaitingApproval,
    ForkDenied,
    NotLabelled {
        label: String,
    },
    /// One of the labels that keep a pull request without a preview.
    LabelExcludes {
        label: String,
    },
    BranchNotIncluded,
    HeadNotIncluded,
    AuthorNotIncluded {
        author: String,
    },
    PathsNotIncluded,
    Draft,
    NoRecipe,
    InvalidRecipe {
        file: String,
        line: u64,
        field: String,
        rule: String,
    },
    ObjectRefused {
        kind: String,
        name: String,
        rule: String,
    },
    NamespaceTaken {
        namespace: String,
    },
    /// The cluster's own matter: nothing is wrong with the object, and it may be taken later.
    NotTaken {
        kind: String,
        name: String,
        why: Obstacle,
    },
    QuotaExceeded {
        resource: String,
        needed: String,
        allowed: String,
    },
    RunsAsRoot {
        container: String,
    },
    ContainerConfig {
        container: String,
        missing: Option<String>,
    },
    NeedsReset {
        kind: String,
        name: String,
    },
    /// The recipe's own `seed` or `setup`.
    SetupFailed {
        job: String,
        end: JobEnd,
        /// There is a database that it may have changed.
        databases: bool,
    },
    /// A chart's hook.
    HookFailed {
        job: String,
        end: JobEnd,
    },
    /// Any other Job of the repository's.
    JobFailed {
        job: String,
        end: JobEnd,
    },
    ChartFailed {
        rule: String,
    },
    ImagePullFailed {
        container: String,
        image: String,
        why: PullFailure,
    },
    /// Nobody pushed it while it was waited for.
    ImageMissing {
        image: String,
    },
    /// Nothing builds it any more, and a workflow of the commit failed, which may be its build.
    BuildFailed {
        image: String,
        /// It is in its registry under this name, as the commit before left it.
        is_there: bool,
    },
    CrashLoop {
        container: String,
        restarts: i32,
        exit_code: Option<i32>,
    },
    /// The node ends it again and again because of this probe.
    KilledByProbe {
        container: String,
        restarts: i32,
        probe: FailedProbe,
    },
    CannotStart {
        container: String,
        why: StartFailure,
    },
    OutOfMemory {
        container: String,
        limit: Option<String>,
    },
    /// Its node did not keep a pod, or did not take it after all.
    Evicted {
        /// The workload's name.
        pod_of: String,
        why: Eviction,
    },
    Unschedulable {
        /// Each once. Empty where the scheduler says nothing that is known.
        hindrances: Vec<Hindrance>,
    },
    VolumeUnavailable {
        /// Of the claim, or of the volume that a pod mounts.
        name: Option<String>,
        why: VolumeProblem,
    },
    /// It runs, and there is time left. Nothing may be wrong.
    NotReadyYet {
        container: String,
        /// Since it began to run.
        seconds: i64,
        /// What it has for it, counted from there.
        of: i64,
        probe: Option<FailedProbe>,
    },
    NotReadyInTime {
        /// None: nothing of it is known to run.
        container: Option<String>,
        /// What it had for it.
        seconds: i64,
        probe: Option<FailedProbe>,
    },
    /// It runs before all others, and has not come to its end. Nothing may be wrong.
    InitRuns {
        container: String,
        /// Since it began to run.
        seconds: i64,
        /// What it has for it, counted from there. None: that is over.
        of: Option<i64>,
    },
    UrlUnreachable {
        answered: Option<u16>,
    },
    /// The URL is answered with 404 at a page that nobody said there is.
    NoPage {
        path: String,
    },
    /// The URL's answer sends visitors to the same page again, and so on.
    RedirectsToItself {
        path: String,
    },
    /// Nothing came of the question in this time.
    SlowAnswer {
        path: String,
        seconds: u64,
    },
    /// What the URL leads to, asked by previewd itself.
    BadAnswer {
        service: String,
        port: u32,
        path: String,
        answered: Option<u16>,
    },
    /// What the URL leads to has no pods behind it.
    NothingBehind {
        service: String,
        port: u32,
    },
    /// What is there of the commit before is still on its way out, and the quota has no room for both.
    PodsTerminating {
        kind: String,
        name: String,
    },
    Asleep,
    /// The namespace of before is on its way out.
    NamespaceTerminating,
    NamespaceStuck {
        blocked_by: String,
    },
    Expired,
    RemovedByHand,
    AccessRevoked,
}

impl Cause {
    pub fn reason(&self) -> Reason {
        match self {
            Self::QueuedForCapacity { .. } => Reason::QueuedForCapacity,
            Self::WaitingForImage { .. } | Self::WaitingForBuild { .. } => Reason::WaitingForImage,
            Self::AwaitingApproval => Reason::AwaitingApproval,
            Self::ForkDenied => Reason::ForkDenied,
            Self::NotLabelled { .. } => Reason::NotLabelled,
            Self::LabelExcludes { .. } => Reason::LabelExcludes,
            Self::BranchNotIncluded => Reason::BranchNotIncluded,
            Self::HeadNotIncluded => Reason::HeadNotIncluded,
            Self::AuthorNotIncluded { .. } => Reason::AuthorNotIncluded,
            Self::PathsNotIncluded => Reason::PathsNotIncluded,
            Self::Draft => Reason::Draft,
            Self::NoRecipe => Reason::NoRecipe,
            Self::InvalidRecipe { .. } => Reason::InvalidRecipe,
            Self::ObjectRefused { .. } => Reason::ObjectRefused,
            Self::NamespaceTaken { .. } => Reason::NamespaceTaken,
            Self::NotTaken { .. } => Reason::ClusterError,
            Self::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Self::RunsAsRoot { .. } => Reason::RunsAsRoot,
            Self::ContainerConfig { .. } | Self::CannotStart { .. } => Reason::ContainerConfig,
            Self::NeedsReset { .. } => Reason::NeedsReset,
            Self::SetupFailed { .. } => Reason::SetupFailed,
            Self::HookFailed { .. } => Reason::HookFailed,
            Self::JobFailed { .. } => Reason::JobFailed,
            Self::ChartFailed { .. } => Reason::ChartFailed,
            Self::ImagePullFailed { .. } | Self::ImageMissing { .. } | Self::BuildFailed { .. } => {
                Reason::ImagePullFailed
            }
            Self::CrashLoop { .. } | Self::KilledByProbe { .. } => Reason::CrashLoop,
            Self::OutOfMemory { .. } => Reason::OutOfMemory,
            Self::Evicted { .. } => Reason::Evicted,
            Self::Unschedulable { .. } => Reason::Unschedulable,
            Self::VolumeUnavailable { .. } => Reason::VolumeUnavailable,
            Self::NotReadyYet { .. } | Self::NotReadyInTime { .. } | Self::InitRuns { .. } => Reason::NotReadyInTime,
            Self::UrlUnreachable { .. }
            | Self::NoPage { .. }
            | Self::RedirectsToItself { .. }
            | Self::SlowAnswer { .. }
            | Self::BadAnswer { .. }
            | Self::NothingBehind { .. } => Reason::UrlUnreachable,
            Self::PodsTerminating { .. } => Reason::PodsTerminating,
            Self::Asleep => Reason::Asleep,
            Self::NamespaceTerminating => Reason::NamespaceTerminating,
            Self::NamespaceStuck { .. } => Reason::NamespaceStuck,
            Self::Expired => Reason::Expired,
            Self::RemovedByHand => Reason::RemovedByHand,
            Self::AccessRevoked => Reason::AccessRevoked,
        }
    }

    /// What is said of it once no time is left.
    pub fn in_the_end(self) -> Self {
        match self {
            Self::NotReadyYet { container, seconds, of: _, probe } => {
                Self::NotReadyInTime { container: Some(container), seconds, probe }
            }
            Self::InitRuns { container, seconds, of: _ } => Self::InitRuns { container, seconds, of: None },
            // Pods end within their grace, unless something in the cluster keeps them.
            Self::PodsTerminating { kind, name } => Self::NotTaken { kind, name, why: Obstacle::NoRoom },
            other => other,
        }
    }

    /// The same without the figures that go on counting, from attempt to attempt: for what is written anew only where
    /// something else changed.
    pub fn steady(self) -> Self {
        match self {
            Self::NotReadyInTime { container: Some(container), seconds: _, probe } => {
                Self::NotReadyYet { container, seconds: 0, of: 0, probe }
            }
            Self::NotReadyYet { container, seconds: _, of: _, probe } => {
                Self::NotReadyYet { container, seconds: 0, of: 0, probe }
            }
            Self::InitRuns { container, seconds: _, of: _ } => Self::InitRuns { container, seconds: 0, of: Some(0) },
            Self::CrashLoop { container, restarts: _, exit_code } => {
                Self::CrashLoop { container, restarts: 0, exit_code }
            }
            Self::KilledByProbe { container, restarts: _, probe } => {
                Self::KilledByProbe { container, restarts: 0, probe }
            }
            other => other,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueuedForCapacity { scope, at_most, position } => {
                write!(f, "All places of {scope} are taken ({at_most}); this is number {position} in line.")
            }
            Self::WaitingForImage { image, has_failed: false } => {
                write!(f, "The image {image} is not in its registry yet; its build may still be running.")
            }
            Self::WaitingForImage { image, has_failed: true } => write!(
                f,
                "The image {image} is not in its registry yet, and a workflow of this commit failed; see its workflow \
                 runs.",
            ),
            Self::WaitingForBuild { image } => {
                write!(
                    f,
                    "The image {image} may still be the one of the commit before; a build of this one is under way."
                )
            }
            Self::AwaitingApproval => {
                write!(f, "This pull request comes from a fork; an admin must approve its commit before it runs.")
            }
            Self::ForkDenied => write!(f, "Pull requests from forks get no preview here."),
            Self::NotLabelled { label } => {
                write!(f, "The pull request does not have the label {label:?}; adding it starts the preview.")
            }
            Self::LabelExcludes { label } => {
                write!(f, "The pull request has the label {label:?}, with which it gets no preview.")
            }
            Self::BranchNotIncluded => write!(f, "Pull requests into this branch get no preview."),
            Self::HeadNotIncluded => write!(f, "Pull requests from this branch get no preview."),
            Self::AuthorNotIncluded { author } => write!(f, "Pull requests of {author} get no preview."),
            Self::PathsNotIncluded => {
                write!(f, "None of the files that the pull request changes are among the paths that get a preview.")
            }
            Self::Draft => write!(f, "The pull request is a draft; its preview starts once it is ready for review."),
            Self::NoRecipe => write!(f, "There is no .preview.yaml at the root of the repository at this commit."),
            Self::InvalidRecipe { file, line, field, rule } => {
                let end = if rule.ends_with('?') { "" } else { "." };
                write!(f, "{file}, line {line}: {field} {rule}{end}")
            }
            Self::ObjectRefused { kind, name, rule } => write!(f, "{kind} {name} was refused: {rule}."),
            Self::NamespaceTaken { namespace } => {
                write!(f, "The namespace {namespace} exists and belongs to somebody else; remove it, then retry.")
            }
            Self::NotTaken { kind, name, why } => write!(f, "The cluster did not take {kind} {name}: {why}."),
            Self::QuotaExceeded { resource, needed, allowed } => {
                write!(f, "The recipe asks for {needed} of {resource}, and an environment may have {allowed}.")
            }
            Self::NeedsReset { kind, name } => write!(
                f,
                "{kind} {name} cannot be changed without losing what it holds; comment /preview reset to begin anew.",
            ),
            Self::SetupFailed { job, end, databases } => {
                write_ended(f, job, *end)?;
                if *databases && end.had_a_pod() {
                    write!(f, " What it changed in a database stays changed.")?;
                }
                Ok(())
            }
            Self::HookFailed { job, end } | Self::JobFailed { job, end } => write_ended(f, job, *end),
            Self::ChartFailed { rule } => write!(f, "The chart {rule}."),
            Self::RunsAsRoot { container } => {
                write!(f, "The image of container {container} runs as root; give it a USER that is not 0.")
            }
            Self::ContainerConfig { container, missing: None } => {
                write!(f, "Container {container} cannot be created as it is configured.")
            }
            Self::ContainerConfig { container, missing: Some(missing) } => {
                write!(f, "Container {container} needs {missing}, which does not exist.")
            }
            Self::ImagePullFailed { container, image, why } => {
                write!(f, "The image {image} of container {container} cannot be pulled: {why}.")
            }
            Self::ImageMissing { image } => {
                write!(
                    f,
                    "The image {image} did not come into its registry. Is it pushed under another tag? In a workflow that \
                     runs on pull_request, github.sha is a merge commit and not this one, which is \
                     github.event.pull_request.head.sha.",
                )
            }
            Self::BuildFailed { image, is_there: true } => write!(
                f,
                "The image {image} is still the one of the commit before, and a workflow of this commit failed; see \
                 its workflow runs.",
            ),
            Self::BuildFailed { image, is_there: false } => write!(
                f,
                "The image {image} is not in its registry, and a workflow of this commit failed; see its workflow runs.",
            ),
            Self::CrashLoop { container, restarts, exit_code: Some(0) } => {
                write!(f, "Container {container} ends by itself again and again")?;
                write_in_parentheses(f, *restarts, Some("exit code 0".to_owned()))
            }
            Self::CrashLoop { container, restarts, exit_code } => {
                write!(f, "Container {container} keeps crashing")?;
                write_in_parentheses(f, *restarts, exit_code.map(|code| format!("last exit code {code}")))
            }
            Self::KilledByProbe { container, restarts, probe } => {
                write!(f, "Container {container} is ended by its node again and again, because {probe}")?;
                write_in_parentheses(f, *restarts, None)
            }
            Self::CannotStart { container, why } => write!(f, "Container {container} cannot start: {why}."),
            Self::OutOfMemory { container, limit: None } => write!(f, "Container {container} ran out of memory."),
            Self::OutOfMemory { container, limit: Some(limit) } => {
                write!(f, "Container {container} ran out of memory at its limit of {limit}.")
            }
            Self::Evicted { pod_of, why } => write!(f, "A pod of {pod_of} was evicted: {why}."),
            Self::Unschedulable { hindrances } => {
                let is_room = hindrances.iter().all(|hindrance| hindrance.is_room());
                let takes = if is_room { "has room for this environment" } else { "takes a pod of this environment" };
                write!(f, "No node of the cluster {takes}")?;
                for (index, hindrance) in hindrances.iter().enumerate() {
                    write!(f, "{}{hindrance}", if index == 0 { ": " } else { "; " })?;
                }
                write!(f, ".")
            }
            Self::VolumeUnavailable { name, why } => write_volume(f, name.as_deref(), *why),
            Self::NotReadyYet { container, seconds, of, probe } => {
                write!(f, "Container {container} is not ready yet")?;
                if *of > 0 {
                    write!(f, ", {seconds} s of {of} s")?;
                }
                write_probe(f, probe.as_ref())
            }
            Self::NotReadyInTime { container: None, seconds, probe: _ } => {
                write!(f, "The application was not ready within {seconds} seconds.")
            }
            Self::NotReadyInTime { container: Some(container), seconds, probe } => {
                write!(f, "Container {container} runs, but was not ready within the {seconds} seconds that it had")?;
                write_probe(f, probe.as_ref())
            }
            Self::InitRuns { container, seconds, of: Some(of) } => {
                write!(f, "Init container {container} has not ended yet")?;
                if *of > 0 {
                    write!(f, ", {seconds} s of {of} s")?;
                }
                write!(f, ".")
            }
            Self::InitRuns { container, seconds, of: None } => write!(
                f,
                "Init container {container} did not end within the {seconds} seconds that it had; its log says how far it \
                 came.",
            ),
            Self::UrlUnreachable { answered: None } => {
                write!(f, "The application is ready, but its URL does not answer; see DNS and the ingress controller.")
            }
            Self::UrlUnreachable { answered: Some(status) } => {
                write!(f, "The application is ready, but its URL answers {status}; see the ingress controller.")
            }
            Self::NoPage { path } => write!(
                f,
                "The application is ready, but its URL answers 404 at {path}; where the application has no page there, \
                 name one of its pages as expose.health, or else see the ingress controller.",
            ),
            Self::RedirectsToItself { path } => write!(
                f,
                "The application is ready, but its URL leads back to itself at {path}; see what it or the ingress \
                 controller makes of TLS and X-Forwarded-Proto.",
            ),
            Self::SlowAnswer { path, seconds } => write!(
                f,
                "The application is ready, but its URL does not answer at {path} within {seconds} s; see its logs, and \
                 what leads to it.",
            ),
            Self::BadAnswer { service, port, path, answered: None } => write!(
                f,
                "The application is ready, but nothing answers at {path} behind port {port} of the Service {service}; see \
                 its targetPort, and where the application listens.",
            ),
            Self::BadAnswer { path, answered: Some(status), .. } => {
                write!(f, "The application is ready, but answers {status} at {path}; see its logs.")
            }
            Self::NothingBehind { service, port } => write!(
                f,
                "The URL leads to port {port} of the Service {service}, which no ready pod is behind; see its selector \
                 and its targetPort.",
            ),
            Self::Asleep => write!(f, "It sleeps, because nobody used it for a while; a retry wakes it."),
            Self::PodsTerminating { kind, name } => write!(
                f,
                "Pods of before are still ending, and the quota has no room for both; {kind} {name} comes once they are gone.",
            ),
            Self::NamespaceTerminating => {
                write!(f, "The namespace of before is still being removed; the preview begins anew once it is gone.")
            }
            Self::NamespaceStuck { blocked_by } => write!(f, "The namespace cannot be removed: {blocked_by}."),
            Self::Expired => write!(f, "Nobody used it for a while; a new commit or /preview deploy brings it back."),
            Self::RemovedByHand => {
                write!(f, "It was deleted by hand; a new commit or /preview deploy brings it back.")
            }
            Self::AccessRevoked => write!(f, "previewd no longer has access to the repository."),
        }
    }
}

fn write_ended(f: &mut fmt::Formatter<'_>, job: &str, end: JobEnd) -> fmt::Result {
    match end {
        JobEnd::ExitCode(code) => write!(f, "The job {job} ended with exit code {code}; its log says why."),
        JobEnd::Failed => write!(f, "The job {job} failed; its log says why."),
        JobEnd::OutOfTime { seconds } => {
            write!(
                f,
                "The job {job} did not end within the {seconds} seconds that it had; its log says how far it came."
            )
        }
        JobEnd::NoPod => write!(f, "The job {job} did not begin: the cluster made no pod of it."),
    }
}

/// The end of a sentence.
fn write_in_parentheses(f: &mut fmt::Formatter<'_>, restarts: i32, more: Option<String>) -> fmt::Result {
    let restarts =
        (restarts > 0).then(|| if restarts == 1 { "1 restart".to_owned() } else { format!("{restarts} restarts") });
    let parts: Vec<String> = restarts.into_iter().chain(more).collect();
    if parts.is_empty() { write!(f, ".") } else { write!(f, " ({}).", parts.join(", ")) }
}

/// The end of a sentence.
fn write_probe(f: &mut fmt::Formatter<'_>, probe: Option<&FailedProbe>) -> fmt::Result {
    match probe {
        Some(probe) => write!(f, ": {probe}."),
        None => write!(f, "."),
    }
}

fn write_volume(f: &mut fmt::Formatter<'_>, name: Option<&str>, why: VolumeProblem) -> fmt::Result {
    let (kind, rule) = match why {
        VolumeProblem::Missing => ("PersistentVolumeClaim", "does not exist, and a pod mounts it"),
        VolumeProblem::Going => ("PersistentVolumeClaim", "is still being removed"),
        VolumeProblem::NoStorageClass => {
            ("PersistentVolumeClaim", "names no storage class, and the cluster has no default one")
        }
        VolumeProblem::UnknownStorageClass => {
            ("PersistentVolumeClaim", "names a storage class that the cluster does not have")
        }
        VolumeProblem::Unbound => ("PersistentVolumeClaim", "has no volume yet; its storage class has to provide one"),
        VolumeProblem::NotMade => ("PersistentVolumeClaim", "gets no volume: its storage class could not make one"),
        VolumeProblem::Lost => ("PersistentVolumeClaim", "has lost its volume"),
        VolumeProblem::InUse => ("volume", "is still attached to another node"),
        VolumeProblem::NotAttached => ("volume", "cannot be attached to the pod's node"),
        VolumeProblem::NotMounted => ("volume", "cannot be mounted into the pod"),
    };
    match name {
        Some(name) => write!(f, "The {kind} {name} {rule}."),
        None => write!(f, "A {kind} {rule}."),
    }
}
