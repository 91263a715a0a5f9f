//! What can be said about an environment or a deployment: a status, and a code for the reason behind it.

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
        JobFailed = "job_failed",
        ChartFailed = "chart_failed",
        ImagePullFailed = "image_pull_failed",
        CrashLoop = "crash_loop",
        OutOfMemory = "out_of_memory",
        Evicted = "evicted",
        Unschedulable = "unschedulable",
        VolumeUnavailable = "volume_unavailable",
        NotReadyInTime = "not_ready_in_time",
        UrlUnreachable = "url_unreachable",
        PodsTerminating = "pods_terminating",
        Asleep = "asleep",
        NamespaceTerminating = "namespace_terminating",
        NamespaceStuck = "namespace_stuck",
        Expired = "expired",
        RemovedByHand = "removed_by_hand",
        AccessRevoked = "access_revoked",
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
            Some(JobFailed),
            Some(ContainerConfig),
            Some(ImagePullFailed),
            Some(CrashLoop),
            Some(OutOfMemory),
            Some(Evicted),
            Some(Unschedulable),
            Some(VolumeUnavailable),
            Some(NotReadyInTime),
            Some(UrlUnreachable),
            Some(PodsTerminating),
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
            Some(JobFailed),
            Some(RunsAsRoot),
            Some(ContainerConfig),
            Some(ImagePullFailed),
            Some(CrashLoop),
            Some(OutOfMemory),
            Some(Evicted),
            Some(Unschedulable),
            Some(VolumeUnavailable),
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
