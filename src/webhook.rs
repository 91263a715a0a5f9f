//! GitHub's webhook: who signed a delivery, and which facts it brings.

mod handler;
mod payload;
mod signature;

pub use handler::{Receiver, receive};
pub use payload::{
    BadPayload, IgnoredReason, InstallationAction, Parsed, PullRequestAction, RepositoryChange, RepositoryReference,
    WebhookFact, parse,
};
pub use signature::{BadSignature, verify_signature};
