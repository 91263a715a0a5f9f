//! What a caller is told when something is not done. One shape over MCP, the command line and the dashboard.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EnvironmentReference;
use crate::{
    cluster::ClusterError,
    environment::{Audience, CommitSha, EnvironmentStatus, InvalidName, Reason, remedy},
    github::GitHubError,
    identity::{Action, Role},
    store::{Refusal, StoreError},
};

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The caller may see it, and not do this to it.
    Unauthorized,
    /// It is not there, or not for this caller.
    NotFound,
    /// The message names the argument and its rule, or the status that forbids it.
    InvalidInput,
    /// The caller meant another commit than the one that is the head now.
    StaleTarget,
    /// previewd, its database or the cluster could not do it.
    ServerError,
}

impl ErrorCode {
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::InvalidInput => StatusCode::BAD_REQUEST,
            Self::StaleTarget => StatusCode::CONFLICT,
            Self::ServerError => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// How the history has it. None: it was no refusal.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Unauthorized => Some(Refusal::Unauthorized),
            Self::NotFound => Some(Refusal::NotFound),
            Self::InvalidInput => Some(Refusal::InvalidInput),
            Self::StaleTarget => Some(Refusal::StaleTarget),
            Self::ServerError => None,
        }
    }
}

/// What a caller is told when something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    pub code: ErrorCode,
    /// One sentence, without anybody's secrets and without internals.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// What to do instead, in one sentence.
    pub next_action: String,
}

impl ServiceError {
    /// An argument that breaks its rule.
    pub fn invalid(field: &str, rule: impl std::fmt::Display) -> Self {
        Self {
            code: ErrorCode::InvalidInput,
            message: format!("{field}: {rule}"),
            retryable: false,
            next_action: format!("Correct {field} and ask again."),
        }
    }

    /// No credentials at all; transports that have their own words for it use those.
    pub fn unidentified() -> Self {
        Self {
            code: ErrorCode::Unauthorized,
            message: "the call carries no identity".to_owned(),
            retryable: false,
            next_action: "Send a bearer token.".to_owned(),
        }
    }

    /// The token is unknown, expired or revoked: nobody is told which.
    pub fn token_not_taken() -> Self {
        Self {
            code: ErrorCode::Unauthorized,
            message: "the server does not take the token".to_owned(),
            retryable: false,
            next_action: "Check PREVIEWD_TOKEN, or ask an operator for a new one (previewd token create).".to_owned(),
        }
    }

    /// It took longer than the caller waits.
    pub fn too_slow() -> Self {
        Self::server("the answer took too long", true, "Ask again, for less of it where that can be said.")
    }

    pub(super) fn not_found(environment: &impl std::fmt::Display) -> Self {
        Self {
            code: ErrorCode::NotFound,
            message: format!("there is no environment {environment}, or it is not one of your teams'"),
            retryable: false,
            next_action: "List the environments to see which there are.".to_owned(),
        }
    }

    pub(super) fn denied(role: Role, action: Action) -> Self {
        let (verb, needed) = match action {
            Action::Inspect => ("inspect", action.needs()),
            Action::Create => ("create", action.needs()),
            Action::Retry => ("retry", action.needs()),
            Action::Keep => ("keep", action.needs()),
            Action::Delete => ("delete", action.needs()),
            Action::Approve => ("approve commits of", action.needs()),
        };
        Self {
            code: ErrorCode::Unauthorized,
            message: format!("the role {role} may not {verb} environments"),
            retryable: false,
            next_action: format!("Ask somebody with the role {needed} to do it."),
        }
    }

    pub(super) fn stale(head: &CommitSha) -> Self {
        Self {
            code: ErrorCode::StaleTarget,
            message: format!("expected_commit: the head of the pull request is {head} by now"),
            retryable: false,
            next_action: "Look at the environment as it is now, and decide again with that commit.".to_owned(),
        }
    }

    pub(super) fn not_failed(status: EnvironmentStatus, reason: Option<Reason>) -> Self {
        let next_action = match status {
            // Nothing is under way where it waits for somebody.
            EnvironmentStatus::Pending | EnvironmentStatus::Deploying if reason.is_some() => {
                remedy(status, reason, Audience::Tools)
            }
            EnvironmentStatus::Pending | EnvironmentStatus::Deploying => "Wait: a deployment is under way.".to_owned(),
            EnvironmentStatus::Running => "There is nothing to do: the newest commit is running.".to_owned(),
            EnvironmentStatus::Failed => "Ask again.".to_owned(),
            EnvironmentStatus::Deleting | EnvironmentStatus::Deleted => {
                "Push a commit or reopen the pull request to bring the environment back.".to_owned()
            }
        };
        Self {
            code: ErrorCode::InvalidInput,
            message: format!("environment: its status is {status}, and only what failed or sleeps can be retried"),
            retryable: false,
            next_action,
        }
    }

    pub(super) fn nothing_to_keep(status: EnvironmentStatus) -> Self {
        Self {
            code: ErrorCode::InvalidInput,
            message: format!("environment: its status is {status}, and there is nothing to keep"),
            retryable: false,
            next_action: "Create it anew with create_preview_environment.".to_owned(),
        }
    }

    pub(super) fn closed() -> Self {
        Self {
            code: ErrorCode::InvalidInput,
            message: "pull_request: it is closed, and only open ones have environments".to_owned(),
            retryable: false,
            next_action: "Reopen the pull request: its environment comes by itself.".to_owned(),
        }
    }

    pub(super) fn no_pull_request(name: &EnvironmentReference) -> Self {
        Self {
            code: ErrorCode::NotFound,
            message: format!("there is no pull request {name}, or it is not one of your teams'"),
            retryable: false,
            next_action: "Check the repository and the number, and that previewd has access to the repository."
                .to_owned(),
        }
    }

    pub(super) fn key_of_another_request() -> Self {
        Self::invalid("idempotency_key", "it was given to another request before; take a new one")
    }

    pub(super) fn no_github() -> Self {
        Self::server(
            "this previewd was started without GitHub, and knows only pull requests that it was told of",
            false,
            "Tell the operator to set github.app or github.token.",
        )
    }

    pub(super) fn no_cluster() -> Self {
        Self::server(
            "this previewd was started without a cluster, so it cannot read logs",
            false,
            "Tell the operator to set kubernetes.context or kubernetes.kubeconfig.",
        )
    }

    pub(super) fn operators_only(role: Role) -> Self {
        Self {
            code: ErrorCode::Unauthorized,
            message: format!("the role {role} may not look after previewd itself"),
            retryable: false,
            next_action: format!("Ask somebody with the role {} to do it.", Role::Operator),
        }
    }

    pub(super) fn no_token() -> Self {
        Self {
            code: ErrorCode::NotFound,
            message: "there is no valid token with this id".to_owned(),
            retryable: false,
            next_action: "List the tokens to see which there are.".to_owned(),
        }
    }

    pub(super) fn nothing_to_follow() -> Self {
        Self {
            code: ErrorCode::InvalidInput,
            message: "environment: it is deleted, and nothing of it runs".to_owned(),
            retryable: false,
            next_action: "Read what was kept of its log, without following it.".to_owned(),
        }
    }

    pub(super) fn others_check() -> Self {
        Self::server("others have their recipes checked now", true, "Ask again in 10 seconds.")
    }

    fn server(message: &str, retryable: bool, next_action: &str) -> Self {
        let (message, next_action) = (message.to_owned(), next_action.to_owned());
        Self { code: ErrorCode::ServerError, message, retryable, next_action }
    }
}

impl From<InvalidName> for ServiceError {
    fn from(InvalidName { field, rule }: InvalidName) -> Self {
        Self::invalid(field, rule)
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        // Its source may quote a statement or an address: that is for the log.
        tracing::error!(error = &error as &dyn std::error::Error, "the database failed");
        match error {
            StoreError::Unreachable(_) => {
                Self::server("the database cannot be reached", true, "Ask again in a minute.")
            }
            StoreError::Query(_) => Self::server("the database could not do it", true, "Ask again in a minute."),
            StoreError::Unreadable(_) => Self::server(
                "the database holds what this version of previewd cannot read",
                false,
                "Tell the operator to update previewd.",
            ),
            StoreError::Sealed => Self::server(
                "what has to be hidden is sealed with a key that previewd does not have any more",
                false,
                "Tell the operator to put the key back into sealing.keys; it may go once the environment was deployed anew.",
            ),
        }
    }
}

impl From<GitHubError> for ServiceError {
    fn from(error: GitHubError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "GitHub failed");
        match error {
            GitHubError::Away { .. } => Self::server("GitHub does not answer", true, "Ask again in a minute."),
            GitHubError::RateLimited { retry_after, .. } => Self::server(
                "GitHub's rate limit is used up",
                true,
                &format!("Ask again in {} seconds.", retry_after.as_secs()),
            ),
            GitHubError::NotFound { .. } | GitHubError::Forbidden { .. } | GitHubError::Unauthorized { .. } => {
                Self::server("GitHub does not let previewd look", false, "Tell the operator to run previewd doctor.")
            }
            GitHubError::Other { .. } => Self::server(
                "GitHub's answer makes no sense to this version of previewd",
                false,
                "Tell the operator to look at previewd's log.",
            ),
        }
    }
}

impl From<ClusterError> for ServiceError {
    fn from(error: ClusterError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "the cluster failed");
        match error {
            ClusterError::Away { .. } | ClusterError::NotTaken { .. } => {
                Self::server("the cluster cannot be reached", true, "Ask again in a minute.")
            }
            ClusterError::NamespaceTerminating | ClusterError::NamespaceGone => {
                Self::server("the environment's namespace is gone", true, "Look at the environment's status.")
            }
            ClusterError::Forbidden { .. } => Self::server(
                "previewd's account in the cluster lacks a permission",
                false,
                "Tell the operator to run previewd doctor.",
            ),
            ClusterError::Refused(_) | ClusterError::Immutable(_) | ClusterError::Unexpected { .. } => Self::server(
                "the cluster's answer makes no sense to this version of previewd",
                false,
                "Tell the operator to look at previewd's log.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_somebody_is_not_said_to_be_under_way() {
        use EnvironmentStatus::{Deploying, Pending, Running};
        for (status, reason, expected) in [
            (Pending, Some(Reason::AwaitingApproval), "An admin looks at the commit"),
            (Pending, Some(Reason::NoRecipe), "Push a .preview.yaml"),
            (Pending, Some(Reason::Draft), "Mark it ready for review"),
            (Pending, Some(Reason::NotLabelled), "Add the label"),
            (Pending, Some(Reason::WaitingForImage), "Wait for the build"),
            (Pending, Some(Reason::QueuedForCapacity), "Close or delete a preview"),
            (Pending, None, "Wait: a deployment is under way."),
            (Deploying, Some(Reason::CrashLoop), "It is tried three times"),
            (Running, None, "There is nothing to do"),
        ] {
            let next_action = ServiceError::not_failed(status, reason).next_action;
            assert!(next_action.starts_with(expected), "{status} {reason:?}: {next_action}");
        }
    }
}
