//! What can be said about an environment or a deployment: a status, and the cause behind it.

use super::{Obstacle, Scope};

/// Declares an enum of codes that databases, schemas and people share: one spelling, in snake_case.
macro_rules! codes {
    ($(#[$attribute:meta])* $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $code:literal),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema, clap::ValueEnum)]
        #[serde(rename_all = "snake_case")]
        #[clap(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_attribute])* $variant),* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            pub fn code(self) -> &'static str {
                match self { $($name::$variant => $code),* }
            }

            /// The reverse of [`Self::code`]. None for a code of another version.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.code())
            }
        }
    };
}
pub(crate) use codes;

codes! {
    /// Where an environment stands.
    EnvironmentStatus {
        /// Nothing was started for the newest commit yet; the reason says what it waits for.
        Pending = "pending",
        /// The newest commit is being put into the cluster.
        Deploying = "deploying",
        /// The newest commit serves at the URL.
        Running = "running",
        /// The newest commit could not be deployed; an older one may still serve.
        Failed = "failed",
        /// Everything of it is being removed from the cluster.
        Deleting = "deleting",
        /// Nothing of it is left in the cluster.
        Deleted = "deleted",
    }
}

codes! {
    /// Where one commit's deployment stands.
    DeploymentStatus {
        Pending = "pending",
        Deploying = "deploying",
        Succeeded = "succeeded",
        Failed = "failed",
        /// A newer commit took its place before it was done.
        Superseded = "superseded",
        /// The environment went before it was done.
        Cancelled = "cancelled",
    }
}

impl DeploymentStatus {
    /// Whether nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Deploying => false,
            Self::Succeeded | Self::Failed | Self::Superseded | Self::Cancelled => true,
        }
    }
}

codes! {
    /// Why an environment or a deployment is where it is.
    Reason {
        QueuedForCapacity = "queued_for_capacity",
        WaitingForImage = "waiting_for_image",
        AwaitingApproval = "awaiting_approval",
        ForkDenied = "fork_denied",
        NotLabelled = "not_labelled",
        LabelExcludes = "label_excludes",
        BranchNotIncluded = "branch_not_included",
        HeadNotIncluded = "head_not_included",
        AuthorNotIncluded = "author_not_included",
        PathsNotIncluded = "paths_not_included",
        Draft = "draft",
        NoRecipe = "no_recipe",
        InvalidRecipe = "invalid_recipe",
        ObjectRefused = "object_refused",
        NamespaceTaken = "namespace_taken",
        ClusterError = "cluster_error",
        QuotaExceeded = "quota_exceeded",
        RunsAsRoot = "runs_as_root",
        ContainerConfig = "container_config",
        NeedsReset = "needs_reset",
        SetupFailed = "setup_failed",
        HookFailed = "hook_failed",
        ChartFailed = "chart_failed",
        ImagePullFailed = "image_pull_failed",
        CrashLoop = "crash_loop",
        OutOfMemory = "out_of_memory",
        Unschedulable = "unschedulable",
        NotReadyInTime = "not_ready_in_time",
        UrlUnreachable = "url_unreachable",
        Asleep = "asleep",
        NamespaceTerminating = "namespace_terminating",
        NamespaceStuck = "namespace_stuck",
        Expired = "expired",
        RemovedByHand = "removed_by_hand",
        AccessRevoked = "access_revoked",
    }
}

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
    },
    /// What its tag means is still what it meant for the commit before.
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
    SetupFailed {
        job: String,
        exit_code: Option<i32>,
    },
    HookFailed {
        job: String,
        exit_code: Option<i32>,
    },
    ChartFailed {
        rule: String,
    },
    ImagePullFailed {
        container: String,
        image: String,
    },
    /// Nobody pushed it while it was waited for.
    ImageMissing {
        image: String,
    },
    CrashLoop {
        container: String,
        restarts: i32,
        exit_code: Option<i32>,
    },
    OutOfMemory {
        container: String,
        limit: Option<String>,
    },
    Unschedulable,
    NotReadyInTime {
        container: Option<String>,
        seconds: i64,
    },
    UrlUnreachable {
        answered: Option<u16>,
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
            Self::ContainerConfig { .. } => Reason::ContainerConfig,
            Self::NeedsReset { .. } => Reason::NeedsReset,
            Self::SetupFailed { .. } => Reason::SetupFailed,
            Self::HookFailed { .. } => Reason::HookFailed,
            Self::ChartFailed { .. } => Reason::ChartFailed,
            Self::ImagePullFailed { .. } | Self::ImageMissing { .. } => Reason::ImagePullFailed,
            Self::CrashLoop { .. } => Reason::CrashLoop,
            Self::OutOfMemory { .. } => Reason::OutOfMemory,
            Self::Unschedulable => Reason::Unschedulable,
            Self::NotReadyInTime { .. } => Reason::NotReadyInTime,
            Self::UrlUnreachable { .. } | Self::BadAnswer { .. } | Self::NothingBehind { .. } => Reason::UrlUnreachable,
            Self::Asleep => Reason::Asleep,
            Self::NamespaceTerminating => Reason::NamespaceTerminating,
            Self::NamespaceStuck { .. } => Reason::NamespaceStuck,
            Self::Expired => Reason::Expired,
            Self::RemovedByHand => Reason::RemovedByHand,
            Self::AccessRevoked => Reason::AccessRevoked,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::QueuedForCapacity { scope, at_most, position } => {
                write!(f, "All places of {scope} are taken ({at_most}); this is number {position} in line.")
            }
            Self::WaitingForImage { image } => {
                write!(f, "The image {image} is not in its registry yet; its build may still be running.")
            }
            Self::WaitingForBuild { image } => {
                write!(f, "The image {image} is still the one of the commit before; a build of this one is under way.")
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
            Self::SetupFailed { job, exit_code } => {
                write_ended(f, job, *exit_code)?;
                write!(f, " What it changed in a database stays changed, for the commit that serves as well.")
            }
            Self::HookFailed { job, exit_code } => write_ended(f, job, *exit_code),
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
            Self::ImagePullFailed { container, image } => {
                write!(f, "The image {image} of container {container} cannot be pulled.")
            }
            Self::ImageMissing { image } => {
                write!(
                    f,
                    "The image {image} did not come into its registry; push it, then retry. In a workflow that runs on \
                     pull_request, github.sha is a merge commit and not this one, which is \
                     github.event.pull_request.head.sha."
                )
            }
            Self::CrashLoop { container, restarts, exit_code: None } => {
                write!(f, "Container {container} keeps crashing ({restarts} restarts).")
            }
            Self::CrashLoop { container, restarts, exit_code: Some(code) } => {
                write!(f, "Container {container} keeps crashing ({restarts} restarts, last exit code {code}).")
            }
            Self::OutOfMemory { container, limit: None } => write!(f, "Container {container} ran out of memory."),
            Self::OutOfMemory { container, limit: Some(limit) } => {
                write!(f, "Container {container} ran out of memory at its limit of {limit}.")
            }
            Self::Unschedulable => write!(f, "No node of the cluster has room for this environment."),
            Self::NotReadyInTime { container: None, seconds } => {
                write!(f, "The application was not ready within {seconds} seconds.")
            }
            Self::NotReadyInTime { container: Some(container), seconds } => {
                write!(
                    f,
                    "Container {container} runs, but was not ready within {seconds} seconds; see its health path."
                )
            }
            Self::UrlUnreachable { answered: None } => {
                write!(f, "The application is ready, but its URL does not answer; see DNS and the ingress controller.")
            }
            Self::UrlUnreachable { answered: Some(status) } => {
                write!(f, "The application is ready, but its URL answers {status}; see the ingress controller.")
            }
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

fn write_ended(f: &mut std::fmt::Formatter<'_>, job: &str, exit_code: Option<i32>) -> std::fmt::Result {
    match exit_code {
        Some(code) => write!(f, "The job {job} ended with exit code {code}; its log says why."),
        None => write!(f, "The job {job} did not end in time; its log says how far it came."),
    }
}

/// Every (status, reason) that an environment may show; ARCHITECTURE.md explains each. None is the status by itself.
pub fn legal_reasons(status: EnvironmentStatus) -> &'static [Option<Reason>] {
    use Reason::*;
    match status {
        EnvironmentStatus::Pending => &[
            None,
            Some(QueuedForCapacity),
            Some(WaitingForImage),
            Some(AwaitingApproval),
            Some(ForkDenied),
            Some(NotLabelled),
            Some(LabelExcludes),
            Some(BranchNotIncluded),
            Some(HeadNotIncluded),
            Some(AuthorNotIncluded),
            Some(PathsNotIncluded),
            Some(Draft),
            Some(NoRecipe),
            // What was before is in the way of what is to come.
            Some(NamespaceTerminating),
            Some(NamespaceStuck),
        ],
        // While an attempt is under way the reason is what it was last seen to wait for or to have stumbled over.
        EnvironmentStatus::Deploying => &[
            None,
            Some(ClusterError),
            Some(QuotaExceeded),
            Some(SetupFailed),
            Some(HookFailed),
            Some(ImagePullFailed),
            Some(CrashLoop),
            Some(OutOfMemory),
            Some(Unschedulable),
            Some(NotReadyInTime),
            Some(UrlUnreachable),
        ],
        EnvironmentStatus::Running => &[None, Some(Asleep)],
        EnvironmentStatus::Failed => &[
            Some(InvalidRecipe),
            Some(ObjectRefused),
            Some(NamespaceTaken),
            Some(ClusterError),
            Some(QuotaExceeded),
            Some(ChartFailed),
            Some(NeedsReset),
            Some(SetupFailed),
            Some(HookFailed),
            Some(RunsAsRoot),
            Some(ContainerConfig),
            Some(ImagePullFailed),
            Some(CrashLoop),
            Some(OutOfMemory),
            Some(Unschedulable),
            Some(NotReadyInTime),
            Some(UrlUnreachable),
        ],
        EnvironmentStatus::Deleting => &[
            None,
            Some(RemovedByHand),
            Some(Expired),
            Some(AccessRevoked),
            Some(NotLabelled),
            Some(LabelExcludes),
            Some(BranchNotIncluded),
            Some(HeadNotIncluded),
            Some(AuthorNotIncluded),
            Some(NamespaceStuck),
        ],
        EnvironmentStatus::Deleted => &[
            None,
            Some(RemovedByHand),
            Some(Expired),
            Some(AccessRevoked),
            Some(NotLabelled),
            Some(LabelExcludes),
            Some(BranchNotIncluded),
            Some(HeadNotIncluded),
            Some(AuthorNotIncluded),
        ],
    }
}
