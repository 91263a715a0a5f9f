//! What keeps the cluster from taking, or going on with, an object in which nothing is wrong.

use std::fmt;

/// Why the cluster did not take an object that it may take later. Its own matter, and never the recipe's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Another write of the object, or of the quota that it counts in, came between.
    Conflict,
    /// The API server turns requests away until it has less to do.
    Throttled,
    /// An admission webhook that has to be asked fails, or does not answer.
    Webhook {
        /// As the cluster calls it. None: the answer does not say which.
        name: Option<String>,
    },
    /// The quota controller has not counted what the namespace holds.
    QuotaNotCounted,
    /// The namespace has no service account of the cluster's or of previewd's yet, or the cluster cannot look for one.
    NoServiceAccount,
    /// previewd's own account lacks the permission.
    Forbidden,
    /// Nothing came back within this time.
    NoAnswer { seconds: u64 },
    /// The connection ended before an answer came.
    ConnectionBroke,
    /// An HTTP status that says no more than that something in the cluster broke.
    ServerError { code: u16 },
    /// There is one of its name, and it is still on its way out.
    Goes,
    /// There is one that has to go first, and a policy of the cluster keeps it.
    RemovalDenied { policy: String },
    /// What is there of the commit before is still on its way out, and the quota has no room for both.
    NoRoom,
    /// Something else, which the cluster's own events tell.
    Other,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => write!(f, "another write came between"),
            Self::Throttled => write!(f, "its API server has too much to do"),
            Self::Webhook { name: Some(name) } => write!(f, "its admission webhook {name} fails"),
            Self::Webhook { name: None } => write!(f, "one of its admission webhooks fails"),
            Self::QuotaNotCounted => write!(f, "it has not counted the environment's quota yet"),
            Self::NoServiceAccount => write!(f, "it does not find the namespace's service accounts yet"),
            Self::Forbidden => write!(f, "previewd's own account lacks the permission"),
            Self::NoAnswer { seconds } => write!(f, "it gave no answer within {seconds} seconds"),
            Self::ConnectionBroke => write!(f, "the connection to its API server broke"),
            Self::ServerError { code } => write!(f, "its API server answered {code}"),
            Self::Goes => write!(f, "the one of before is still being removed"),
            Self::RemovalDenied { policy } => {
                write!(f, "its policy {policy} denies the removal of the one that is there")
            }
            Self::NoRoom => {
                write!(f, "what is there of before is still being removed, and the quota has no room for both")
            }
            Self::Other => write!(f, "its events say why"),
        }
    }
}
