//! Why a pass, or what it applies, ended early.

use std::{fmt, time::Duration};

use crate::{
    cluster::ClusterError,
    environment::{Cause, Obstacle},
    github::GitHubError,
    store::{LeaseLost, ObjectKey, StoreError},
};

/// Why a pass ended early. None of it counts towards an attempt.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The lease is lost, or something newer was asked for: whoever holds the row goes on.
    Over,
    /// Something that a pass needs is away, or does not do what it should. The next pass tries again.
    /// `why` is for the log; `trouble` is for whoever asks why nothing happens, and quotes nobody.
    Failed { why: String, trouble: String, retry_after: Option<Duration> },
    /// Something takes its time, such as what GitHub lets write or an object that goes, and nothing is wrong.
    NotYet(Duration),
    /// GitHub asked for silence.
    Silenced { why: String, trouble: String, wait: Duration },
}

impl Interrupted {
    /// `why`: in words of previewd's own.
    pub fn failed(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self::Failed { trouble: why.trim_end_matches('.').to_owned(), why, retry_after: None }
    }

    /// What ends a pass of which two parts ended early, each for itself: that GitHub asked for silence,
    /// else what says more, else what is over sooner.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Over, _) | (_, Self::Over) => Self::Over,
            (Self::NotYet(one), Self::NotYet(other)) => Self::NotYet(one.min(other)),
            (silenced @ Self::Silenced { .. }, _) | (_, silenced @ Self::Silenced { .. }) => silenced,
            (Self::NotYet(_), more) | (more, _) => more,
        }
    }
}

impl From<LeaseLost> for Interrupted {
    fn from(LeaseLost: LeaseLost) -> Self {
        Self::Over
    }
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        let trouble = "previewd's database failed".to_owned();
        Self::Failed { why: format!("{:#}", anyhow::Error::from(error)), trouble, retry_after: None }
    }
}

impl From<ClusterError> for Interrupted {
    fn from(error: ClusterError) -> Self {
        let retry_after = match &error {
            ClusterError::Away { retry_after, .. } | ClusterError::NotTaken { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self::Failed { why: error.to_string(), trouble: error.trouble(), retry_after }
    }
}

impl From<GitHubError> for Interrupted {
    fn from(error: GitHubError) -> Self {
        match &error {
            GitHubError::RateLimited { retry_after, .. } => {
                Self::Silenced { why: error.to_string(), trouble: error.trouble(), wait: *retry_after }
            }
            _ => Self::Failed { why: error.to_string(), trouble: error.trouble(), retry_after: None },
        }
    }
}

/// Why nothing, or not everything, was applied.
pub(super) enum NotApplied {
    /// The cluster, or previewd itself, does not take what the recipe says.
    Refused(Cause),
    /// The cluster does not take it now, or has no room for it, for this reason, and may take it later.
    NotTaken(Cause),
    /// The cluster is away, or does not take this one object: a question tells.
    Unanswered {
        not_taken: Box<Cause>,
        away: Interrupted,
    },
    /// The namespace is on its way out; it is made anew once it is gone.
    NamespaceGoes,
    Interrupted(Interrupted),
}

impl NotApplied {
    /// The same where it counts towards no attempt.
    pub fn interrupts(self) -> Interrupted {
        match self {
            Self::Refused(cause) | Self::NotTaken(cause) => Interrupted::failed(cause),
            Self::Unanswered { not_taken: _, away } => away,
            Self::NamespaceGoes => Interrupted::failed(ClusterError::NamespaceTerminating),
            Self::Interrupted(interrupted) => interrupted,
        }
    }

    /// This object cannot be put into the cluster yet.
    pub fn not_yet(ObjectKey { kind, name, .. }: &ObjectKey, why: Obstacle) -> Self {
        Self::NotTaken(Cause::NotTaken { kind: kind.clone(), name: name.clone(), why })
    }
}

impl From<Interrupted> for NotApplied {
    fn from(interrupted: Interrupted) -> Self {
        Self::Interrupted(interrupted)
    }
}

impl From<LeaseLost> for NotApplied {
    fn from(lost: LeaseLost) -> Self {
        Self::Interrupted(lost.into())
    }
}

impl From<StoreError> for NotApplied {
    fn from(error: StoreError) -> Self {
        Self::Interrupted(error.into())
    }
}

impl From<GitHubError> for NotApplied {
    fn from(error: GitHubError) -> Self {
        Self::Interrupted(error.into())
    }
}

impl From<ClusterError> for NotApplied {
    fn from(error: ClusterError) -> Self {
        if let ClusterError::Away { not_taken: Some(not_taken), .. } = &error {
            return Self::Unanswered { not_taken: not_taken.clone(), away: error.into() };
        }
        match error {
            ClusterError::Refused(cause) | ClusterError::Immutable(cause) => Self::Refused(cause),
            ClusterError::NotTaken { cause, retry_after: _ } => Self::NotTaken(cause),
            ClusterError::NamespaceTerminating | ClusterError::NamespaceGone => Self::NamespaceGoes,
            other => Self::Interrupted(other.into()),
        }
    }
}
