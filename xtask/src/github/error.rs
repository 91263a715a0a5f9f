//! What a caller of the control API can get wrong.

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no repository {0}: create it first")]
    NoRepository(String),
    #[error("{0} has no pull request #{1}")]
    NoPullRequest(String, u64),
    #[error("no comment {0}")]
    NoComment(u64),
    #[error("no delivery {0}")]
    NoDelivery(String),
    #[error("no webhook is set: call set_webhook first")]
    NoWebhook,
    #[error("{0}")]
    Refused(String),
}
