//! What was asked of the stand-in, and hooks into its writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{Method, Uri};
use futures::future::BoxFuture;

use super::operation::Operation;

#[derive(Clone, Debug)]
pub struct LoggedRequest {
    pub method: String,
    /// As it was sent, `/api/v3` included.
    pub path: String,
    pub query: String,
    /// None: nothing GitHub has, or nothing known here.
    pub operation: Option<Operation>,
    /// The path by the repository's present name, where it has an operation.
    pub canonical: Option<String>,
    pub status: u16,
    /// Whether a write changed anything, whatever was answered.
    pub took_effect: bool,
    pub duration: Duration,
    /// When it was answered.
    pub at: Instant,
}

impl LoggedRequest {
    pub(super) fn new(
        method: &Method,
        uri: &Uri,
        operation: Option<Operation>,
        status: u16,
        canonical: Option<&str>,
    ) -> Self {
        Self {
            method: method.to_string(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            operation,
            canonical: canonical.map(str::to_owned),
            status,
            took_effect: false,
            duration: Duration::ZERO,
            at: Instant::now(),
        }
    }
}

/// Writes to comments, as asked for and as they took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommentWrites {
    pub created: usize,
    pub edited: usize,
    pub deleted: usize,
    /// Asked for, without effect.
    pub refused: usize,
}

impl CommentWrites {
    pub fn of<'a>(requests: impl IntoIterator<Item = &'a LoggedRequest>) -> Self {
        let mut writes = Self::default();
        for request in requests {
            let count = match request.operation {
                Some(operation) if !operation.is_comment_write() => continue,
                Some(_) if !request.took_effect => &mut writes.refused,
                Some(Operation::CreateComment) => &mut writes.created,
                Some(Operation::UpdateComment) => &mut writes.edited,
                Some(_) => &mut writes.deleted,
                None => continue,
            };
            *count += 1;
        }
        writes
    }

    /// How many took effect.
    pub fn total(self) -> usize {
        self.created + self.edited + self.deleted
    }
}

/// A write that took effect and is not answered yet.
#[derive(Clone, Debug)]
pub struct Write {
    pub operation: Operation,
    /// `owner/name`; `/` for the App's own writes.
    pub repository: String,
    /// The pull request, where the path names it.
    pub number: Option<u64>,
    /// The object made or changed.
    pub id: u64,
}

pub type WriteHook = Arc<dyn Fn(Write) -> BoxFuture<'static, ()> + Send + Sync>;
