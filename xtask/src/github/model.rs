//! The things GitHub has, as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A tree: path to content. Commits share unchanged trees.
pub type Tree = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    User,
    Organization,
    Bot,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: u64,
    pub login: String,
    pub kind: UserKind,
}

/// A collaborator's role on one repository, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    None,
    Read,
    Triage,
    Write,
    Maintain,
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Maintain => "maintain",
            Self::Admin => "admin",
        }
    }

    /// The older `permission` field knows four words: triage is shown as read and maintain as write.
    pub fn legacy_name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read | Self::Triage => "read",
            Self::Write | Self::Maintain => "write",
            Self::Admin => "admin",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Commit {
    pub sha: String,
    pub parent: Option<String>,
    pub message: String,
    pub author: String,
    /// Unix seconds.
    pub at: i64,
    pub tree: Arc<Tree>,
    /// The repository at the root of the fork network: forks share objects, so a fork's commit is read through the
    /// base repository too.
    pub network: u64,
}

/// A run of a workflow of GitHub Actions.
#[derive(Clone, Debug)]
pub struct WorkflowRun {
    /// `in_progress`, `completed`.
    pub status: String,
    /// How it ended: `success`, `failure`. None where it goes on.
    pub conclusion: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Repository {
    pub id: u64,
    pub owner: String,
    pub name: String,
    pub default_branch: String,
    pub private: bool,
    pub fork_of: Option<u64>,
    pub installation: Option<u64>,
    pub created_at: i64,
    pub pushed_at: i64,
    pub updated_at: i64,
    /// Branch to the commit at its tip.
    pub branches: BTreeMap<String, String>,
    pub collaborators: BTreeMap<String, Role>,
    pub labels: BTreeMap<String, u64>,
    pub pulls: BTreeMap<u64, PullRequest>,
    pub comments: BTreeMap<u64, Comment>,
    /// On lines of changes.
    pub review_comments: BTreeMap<u64, Comment>,
    pub deployments: BTreeMap<u64, Deployment>,
    /// A commit's one workflow run, by the commit.
    pub workflow_runs: BTreeMap<String, WorkflowRun>,
    pub next_number: u64,
}

impl Repository {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullState {
    Open,
    Closed,
    Merged,
}

/// Where a pull request comes from. `repository` is None once the fork was deleted.
#[derive(Clone, Debug)]
pub struct Head {
    pub sha: String,
    pub branch: String,
    pub owner: String,
    pub repository: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct PullRequest {
    pub id: u64,
    pub number: u64,
    pub title: String,
    pub body: Option<String>,
    pub author: String,
    pub head: Head,
    pub base_branch: String,
    pub base_sha: String,
    pub draft: bool,
    pub locked: bool,
    pub state: PullState,
    pub labels: Vec<String>,
    /// Every head commit it had, oldest first.
    pub commits: Vec<String>,
    /// Unix seconds, like all times here: GitHub's have one-second resolution.
    pub created_at: i64,
    pub updated_at: i64,
    pub closed_at: Option<i64>,
    pub merged_at: Option<i64>,
    pub merged_by: Option<String>,
    pub merge_commit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    pub id: u64,
    pub number: u64,
    pub author: String,
    pub body: String,
    /// Unix seconds.
    pub created_at: i64,
    pub updated_at: i64,
    pub via_app: bool,
    /// (login, content), each pair at most once.
    pub reactions: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Deployment {
    pub id: u64,
    pub sha: String,
    pub reference: String,
    pub task: String,
    pub payload: serde_json::Value,
    pub environment: String,
    pub description: Option<String>,
    pub creator: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub transient: bool,
    pub production: bool,
    pub via_app: bool,
    pub statuses: Vec<DeploymentStatus>,
}

#[derive(Clone, Debug)]
pub struct DeploymentStatus {
    pub id: u64,
    pub state: String,
    pub description: String,
    pub environment: String,
    pub environment_url: String,
    pub log_url: String,
    pub creator: String,
    pub created_at: i64,
}

#[derive(Clone, Debug)]
pub struct Installation {
    pub id: u64,
    pub account: String,
    pub suspended_at: Option<i64>,
    pub created_at: i64,
}

/// The GitHub App the stand-in knows, as registered.
#[derive(Clone, Debug)]
pub struct App {
    pub id: u64,
    pub slug: String,
    pub client_id: String,
    pub owner: String,
    pub permissions: BTreeMap<String, String>,
    pub events: Vec<String>,
    pub created_at: i64,
}

impl App {
    pub fn bot(&self) -> String {
        format!("{}[bot]", self.slug)
    }
}
