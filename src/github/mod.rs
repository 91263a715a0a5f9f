//! GitHub: the only module that speaks to its API, and the only one that knows how it spells things.

mod client;
mod comment;
mod connection;
mod error;
mod facts;
mod manifest;
mod settings;
pub(crate) mod wire;

pub use client::{
    Entry, EntryKind, FailedDelivery, GitRef, Listing, Page, RECIPE_LIMIT, RepositoryFile, SentDelivery, Workflows,
};
pub use comment::{CommentDeployment, CommentFacts, CommentLog, comment, digest, marker, reply, reply_marker};
pub use connection::{CALL_TIMEOUT, GitHub};
pub use error::GitHubError;
pub use facts::RepositoryAccess;
pub use manifest::{EVENTS, NewApp, address, convert, manifest};
pub(crate) use settings::secrets;
pub use settings::{AppSettings, GitHubSettings, InvalidGitHubSettings};
