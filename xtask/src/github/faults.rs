//! What can be made to go wrong, per operation.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::operation::Operation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    Writes,
    CommentWrites,
    DeploymentWrites,
    Operation(Operation),
}

impl Scope {
    fn covers(self, operation: Operation) -> bool {
        match self {
            Self::Everything => true,
            Self::Writes => operation.is_write(),
            Self::CommentWrites => operation.is_comment_write(),
            Self::DeploymentWrites => operation.is_deployment_write(),
            Self::Operation(only) => only == operation,
        }
    }
}

impl From<Operation> for Scope {
    fn from(operation: Operation) -> Self {
        Self::Operation(operation)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset before anything happens.
    Reset,
    /// The write takes effect, then the connection is reset.
    CommitThenReset,
    /// 502 with an HTML page, as GitHub's edge answers; nothing happens.
    BadGateway,
    /// The write takes effect, then 502.
    CommitThenBadGateway,
    /// 500 with a JSON body; nothing happens.
    ServerError,
    /// 403 with Retry-After: GitHub's secondary limit.
    SecondaryLimit {
        retry_after: Duration,
    },
    /// 403 with `x-ratelimit-remaining: 0`: the hour's requests are used up.
    PrimaryLimit {
        reset_in: Duration,
    },
    /// 403 as on a locked conversation.
    Locked,
    /// 403: the token may not.
    Forbidden,
    /// 401: the token was revoked.
    BadCredentials,
    NotFound,
    /// This status with these words.
    Refused {
        status: u16,
        message: String,
    },
    /// 200 with a page that is not JSON.
    NotJson,
    /// 200 with an empty array.
    EmptyList,
    /// Answers rightly, but late.
    Slow(Duration),
}

#[derive(Default)]
pub struct Faults(Mutex<Vec<(Scope, Fault, Option<u32>)>>);

impl Faults {
    pub fn add(&self, scope: Scope, fault: Fault, times: Option<u32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((scope, fault, times));
    }

    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The fault for this request, counted down where it has a number of times.
    pub fn take(&self, operation: Operation) -> Option<Fault> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = faults.iter().position(|(scope, _, _)| scope.covers(operation))?;
        let (_, fault, times) = faults.get_mut(index)?;
        let fault = fault.clone();
        if let Some(times) = times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                faults.remove(index);
            }
        }
        Some(fault)
    }
}
