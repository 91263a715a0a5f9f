//! What would change where an environment stands, in one sentence for whoever reads it.

use super::{EnvironmentStatus, Reason};

/// Who reads it, and so what they have to do it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever has the tools; the command line has a command for each.
    Tools,
    /// Whoever writes comments on the pull request.
    PullRequest,
    /// Whoever looks at the environment's page, which has buttons.
    Page,
}

impl Audience {
    fn retry(self) -> &'static str {
        match self {
            Self::Tools | Self::Page => "retry",
            Self::PullRequest => "comment `/preview retry`",
        }
    }

    fn wake(self) -> &'static str {
        match self {
            Self::Tools => "Retry it: that wakes it.",
            Self::PullRequest => "Comment `/preview retry`: that wakes it.",
            Self::Page => "Wake it here.",
        }
    }

    fn ask_for_it(self) -> &'static str {
        match self {
            Self::Tools => "ask for it with create_preview_environment",
            Self::PullRequest => "comment `/preview deploy`",
            Self::Page => "bring it back here",
        }
    }

    fn read_the_log(self) -> &'static str {
        match self {
            Self::Tools => "Read get_preview_logs",
            Self::PullRequest | Self::Page => "Read the log",
        }
    }

    fn wait(self) -> &'static str {
        match self {
            Self::Tools => "Wait with wait_for_preview_environment",
            Self::PullRequest | Self::Page => "Wait",
        }
    }
}

/// What would change where an environment stands.
pub fn remedy(status: EnvironmentStatus, reason: Option<Reason>, audience: Audience) -> String {
    let (retry, wait) = (audience.retry(), audience.wait());
    match (status, reason) {
        (EnvironmentStatus::Running, None) => {
            "Nothing has to be done: a push brings the next commit by itself.".to_owned()
        }
        (_, Some(Reason::NamespaceStuck)) => "An operator frees what the message names.".to_owned(),
        (EnvironmentStatus::Deleting, _) => {
            "Wait: it is gone within minutes, and operators are told where it is not.".to_owned()
        }
        (EnvironmentStatus::Pending | EnvironmentStatus::Deploying, None) => {
            format!("{wait}: it takes minutes at most.")
        }
        (EnvironmentStatus::Deploying, Some(Reason::NotReadyInTime)) => {
            format!("{wait}: it may only need longer to start; it is tried three times.")
        }
        (EnvironmentStatus::Deploying, Some(reason @ Reason::PodsTerminating)) => of(reason, retry, audience),
        (EnvironmentStatus::Deploying, Some(reason)) => {
            format!("It is tried three times. {}", of(reason, "wait for the next try", audience))
        }
        (EnvironmentStatus::Deleted, None) => "Reopen the pull request: its preview comes by itself.".to_owned(),
        (EnvironmentStatus::Failed, None) => format!("Push a commit that mends it, or {retry}."),
        (
            EnvironmentStatus::Pending
            | EnvironmentStatus::Running
            | EnvironmentStatus::Failed
            | EnvironmentStatus::Deleted,
            Some(reason),
        ) => of(reason, retry, audience),
    }
}

/// What mends this, wherever it is in the way. `retry`: what has it tried again.
fn of(reason: Reason, retry: &str, audience: Audience) -> String {
    let (ask_for_it, wait) = (audience.ask_for_it(), audience.wait());
    match reason {
        Reason::QueuedForCapacity => "Close or delete a preview that nobody needs, or wait for a place.".to_owned(),
        Reason::WaitingForImage => {
            "Wait for the build that pushes the image, and see that it pushes this name.".to_owned()
        }
        Reason::AwaitingApproval => {
            "An admin looks at the commit and comments `/preview approve` with its digits.".to_owned()
        }
        Reason::ForkDenied => {
            "Push the branch to the repository itself, or allow forks in the recipe and the limits.".to_owned()
        }
        Reason::NotLabelled => format!("Add the label, or {ask_for_it}."),
        Reason::LabelExcludes => format!("Take that label away, or {ask_for_it}."),
        Reason::HeadNotIncluded | Reason::AuthorNotIncluded => {
            format!("Change the recipe's triggers, or {ask_for_it}.")
        }
        Reason::BranchNotIncluded => format!("Change the base branch, or {ask_for_it}."),
        Reason::PathsNotIncluded => format!("Change one of those files, or {ask_for_it}."),
        Reason::Draft => format!("Mark it ready for review, or {ask_for_it}."),
        Reason::NoRecipe => "Push a .preview.yaml to the root of the repository.".to_owned(),
        Reason::InvalidRecipe | Reason::ObjectRefused => {
            "Push a commit that mends the recipe as the message says.".to_owned()
        }
        Reason::QuotaExceeded => "Push a commit that asks for less, or have an operator allow more.".to_owned(),
        Reason::ClusterError => format!("An operator looks at what the message names; then {retry}."),
        Reason::NamespaceTaken => format!("An operator removes that namespace; then {retry}."),
        Reason::RunsAsRoot | Reason::ContainerConfig => {
            "Push a commit that mends the image or the recipe as the message says.".to_owned()
        }
        Reason::NeedsReset => {
            "Comment `/preview reset`, which empties its volumes; or take the change back.".to_owned()
        }
        Reason::ChartFailed => {
            "Push a commit that mends the chart or its values; `helm template` shows more.".to_owned()
        }
        Reason::SetupFailed | Reason::HookFailed | Reason::JobFailed => {
            format!("{}, and mend the job's command or what it runs; then push, or {retry}.", audience.read_the_log())
        }
        Reason::ImagePullFailed => format!(
            "Push the image, or mend its name in the recipe; where its registry refuses it or does not answer, an \
             operator looks at that. Then {retry}.",
        ),
        Reason::CrashLoop | Reason::OutOfMemory | Reason::NotReadyInTime => {
            format!(
                "{}, then push a commit that mends it; where the cause lay outside, {retry}.",
                audience.read_the_log()
            )
        }
        Reason::Evicted => format!(
            "Push a commit that writes less, or asks for more in its resources and volumes, as far as the quota goes; where \
             a node ran short, an operator looks at it. Then {retry}.",
        ),
        Reason::VolumeUnavailable => format!(
            "Mend the volume or claim that the message names; where the cluster cannot provide it, an operator looks at \
             it. Then {retry}.",
        ),
        Reason::UrlUnreachable => {
            format!("Mend what the message names; then push, or {retry}.")
        }
        Reason::Unschedulable => {
            format!("Ask for what the nodes have, or have an operator look at what the message names; then {retry}.")
        }
        Reason::Asleep => audience.wake().to_owned(),
        Reason::PodsTerminating => format!("{wait}: it goes on once they are gone."),
        Reason::NamespaceTerminating => format!("{wait}: it begins anew once it is gone."),
        Reason::NamespaceStuck => "An operator frees what the message names.".to_owned(),
        Reason::Expired | Reason::RemovedByHand => format!("Push a commit, or {ask_for_it}."),
        Reason::AccessRevoked => "Give previewd access to the repository again.".to_owned(),
    }
}
