//! What GitHub said last about a pull request and its repository: stored as it comes, interpreted by the gate only.

use super::{CommitSha, LabelName, Millis, RepositoryName, codes};

/// A repository, as a webhook or the API describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFacts {
    pub github_id: i64,
    pub name: RepositoryName,
    pub default_branch: String,
    /// The GitHub App installation that gives access; none with a plain token.
    pub app_installation_id: Option<i64>,
}

/// A pull request, as a webhook or the API describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestFacts {
    pub repository: RepositoryFacts,
    /// GitHub's own id, unique over all repositories.
    pub github_id: i64,
    pub number: i64,
    pub title: String,
    pub author: String,
    pub head_sha: CommitSha,
    pub head_ref: String,
    pub base_ref: String,
    /// The head is in another repository, or its repository is gone.
    pub from_fork: bool,
    pub draft: bool,
    pub state: PullRequestState,
    pub labels: Vec<String>,
    /// GitHub's own ids of the labels, in their order. Empty where they were not heard of yet.
    pub label_ids: Vec<i64>,
    /// One-second resolution, as GitHub has it.
    pub github_updated_at: Millis,
}

impl PullRequestFacts {
    /// GitHub's id of a label that the pull request has.
    pub fn label_id(&self, label: &LabelName) -> Option<i64> {
        let mut labels = self.labels.iter().zip(&self.label_ids);
        labels.find(|(name, _)| label.matches(name)).map(|(_, id)| *id)
    }
}

codes! {
    PullRequestState {
        Open = "open",
        Closed = "closed",
        Merged = "merged",
    }
}

codes! {
    /// Whether previewd may still work on a repository.
    RepositoryState {
        Active = "active",
        /// Taken from the installation, or deleted.
        Removed = "removed",
        Suspended = "suspended",
    }
}

codes! {
    /// What keeps an open pull request without an environment until somebody asks for it anew.
    Hold {
        None = "none",
        RemovedByHand = "removed_by_hand",
        Expired = "expired",
    }
}

codes! {
    /// Where on a pull request somebody says something.
    CommentKind {
        /// In its conversation.
        Comment = "comment",
        /// With a review, about all of it.
        Review = "review",
        /// On a line of its changes.
        ReviewComment = "review_comment",
    }
}

/// A comment with commands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandComment {
    pub kind: CommentKind,
    /// GitHub's own id, unique among all comments of its kind.
    pub comment_id: i64,
    /// Of the repository, at GitHub.
    pub repository_id: i64,
    /// Of the pull request.
    pub number: i64,
    /// A GitHub login.
    pub author: String,
    /// The lines from `/preview` on, in their order.
    pub lines: Vec<String>,
    /// They were not there before somebody edited it.
    pub edited: bool,
}

/// Which command: where it is written, and which of that comment's commands it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandKey {
    pub kind: CommentKind,
    /// GitHub's own id, unique among all comments of its kind.
    pub comment_id: i64,
    /// From 0 on, or [`Self::EDITED_IN`].
    pub place: i64,
}

impl CommandKey {
    /// What came into a comment when it was edited.
    pub const EDITED_IN: i64 = -1;
    /// So many commands of a comment are run. One more is stored, for all that are not.
    pub const AT_MOST: i64 = 10;
}

/// What one webhook delivery asks to store.
#[expect(clippy::large_enum_variant, reason = "there is one of it for each delivery, and it is moved twice")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The delivery itself and nothing else; the reason is a code of ours.
    Nothing {
        reason: &'static str,
    },
    PullRequest {
        facts: PullRequestFacts,
        /// What the head was before, where the event says so.
        before: Option<CommitSha>,
    },
    /// Somebody wrote commands.
    Command(CommandComment),
    /// Something was built: an image that is waited for may be there.
    Built {
        /// Of the repository, at GitHub.
        repository_id: i64,
        /// What it was built of. None where GitHub does not say it.
        commit: Option<CommitSha>,
        /// The commit is that of the branch that started it, which may have built another one, or nothing: where it is the
        /// head of no open pull request, it may have been built of any.
        perhaps: bool,
    },
    /// Renamed, transferred, or its default branch changed.
    Repository(RepositoryFacts),
    RepositoryDeleted {
        github_id: i64,
    },
    /// Everything that one App installation gave access to.
    Installation {
        app_installation_id: i64,
        state: RepositoryState,
    },
    /// Repositories added to and taken from an App installation, by GitHub's ids.
    InstallationRepositories {
        app_installation_id: i64,
        added: Vec<i64>,
        removed: Vec<i64>,
    },
}
