//! How a pull request is opened: its branch, its fork, its first commit.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::control::require;
use super::error::ControlError;
use super::state::{Head, PullRequest, PullState, Repository, Role, State, UserKind};

/// A pull request to open: `NewPullRequest::new("Add a cart", "cart").file("index.html", "…")`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewPullRequest {
    pub title: String,
    pub branch: String,
    /// Path to content, committed on the branch; without any, the branch's tip is the head where it exists.
    pub files: BTreeMap<String, String>,
    pub body: Option<String>,
    /// By default the owner of the head repository.
    pub author: Option<String>,
    pub base: Option<String>,
    pub draft: bool,
    pub labels: Vec<String>,
    /// The account whose fork it comes from; the fork is made where it is missing.
    pub from_fork: Option<String>,
    /// The head commit's id; by default one is made.
    pub sha: Option<String>,
}

/// How the content of a link begins.
pub(super) const LINK: &str = "\0link to ";

/// The content of a file that is a link.
pub fn link_to(target: &str) -> String {
    format!("{LINK}{target}")
}

impl NewPullRequest {
    pub fn new(title: &str, branch: &str) -> Self {
        Self { title: title.to_owned(), branch: branch.to_owned(), ..Self::default() }
    }

    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }

    pub fn author(mut self, login: &str) -> Self {
        self.author = Some(login.to_owned());
        self
    }

    pub fn base(mut self, branch: &str) -> Self {
        self.base = Some(branch.to_owned());
        self
    }

    pub fn draft(mut self) -> Self {
        self.draft = true;
        self
    }

    pub fn label(mut self, name: &str) -> Self {
        self.labels.push(name.to_owned());
        self
    }

    pub fn from_fork(mut self, owner: &str) -> Self {
        self.from_fork = Some(owner.to_owned());
        self
    }

    pub fn sha(mut self, sha: &str) -> Self {
        self.sha = Some(sha.to_owned());
        self
    }
}

pub(super) fn ensure_label(state: &mut State, repository: &str, name: &str) -> Result<(), ControlError> {
    let id = state.next_id();
    state.repository_mut(repository)?.labels.entry(name.to_owned()).or_insert(id);
    Ok(())
}

pub(super) fn open(state: &mut State, repository: &str, new: NewPullRequest) -> Result<u64, ControlError> {
    let NewPullRequest { title, branch, files, body, author, base, draft, labels, from_fork, sha } = new;
    let found = state.repository(repository)?;
    let (base_id, owner) = (found.id, found.owner.clone());
    let base_branch = base.unwrap_or_else(|| found.default_branch.clone());
    let base_sha = found.branches.get(&base_branch).cloned();
    let base_sha = base_sha.ok_or_else(|| ControlError::Refused(format!("no base branch {base_branch}")))?;
    require(!branch.is_empty(), "it needs a branch")?;
    let head_owner = from_fork.unwrap_or_else(|| owner.clone());
    let head_id = if head_owner.eq_ignore_ascii_case(&owner) { base_id } else { fork(state, base_id, &head_owner)? };
    let author = author.unwrap_or_else(|| head_owner.clone());
    state.ensure_user(&author, UserKind::User);
    let tip = state.repositories.get(&head_id).and_then(|head| head.branches.get(&branch)).cloned();
    let tip = match tip.filter(|tip| files.is_empty() && sha.as_ref().is_none_or(|sha| sha == tip)) {
        Some(tip) => tip,
        None => {
            let changes = files.into_iter().map(|(path, content)| (path, Some(content.into_bytes()))).collect();
            state.commit(head_id, &branch, &changes, &title, &author, sha.as_deref())?
        }
    };
    for label in &labels {
        ensure_label(state, repository, label)?;
    }
    let (id, now) = (state.next_id(), state.now());
    let repository = state.repository_mut(repository)?;
    let open = repository.pulls.values().any(|pull| {
        let same = pull.head.repository == Some(head_id) && pull.head.branch == branch;
        same && pull.state == PullState::Open && pull.base_branch == base_branch
    });
    require(!open, &format!("one is open for {head_owner}:{branch} already"))?;
    let number = repository.next_number;
    repository.next_number += 1;
    let pull = PullRequest {
        id,
        number,
        title,
        body,
        author,
        commits: vec![tip.clone()],
        head: Head { sha: tip, branch, owner: head_owner, repository: Some(head_id) },
        base_branch,
        base_sha,
        draft,
        locked: false,
        state: PullState::Open,
        labels: labels.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        created_at: now,
        updated_at: now,
        closed_at: None,
        merged_at: None,
        merged_by: None,
        merge_commit: None,
    };
    repository.pulls.insert(number, pull);
    Ok(number)
}

/// The account's fork, made with the base's branches where there is none.
fn fork(state: &mut State, base: u64, owner: &str) -> Result<u64, ControlError> {
    state.ensure_user(owner, UserKind::User);
    let known = state
        .repositories
        .values()
        .find(|other| other.fork_of == Some(base) && other.owner.eq_ignore_ascii_case(owner));
    if let Some(known) = known {
        return Ok(known.id);
    }
    let (id, now) = (state.next_id(), state.now());
    let base = state.repositories.get(&base).ok_or_else(|| ControlError::NoRepository(base.to_string()))?;
    let fork = Repository {
        id,
        owner: owner.to_owned(),
        name: base.name.clone(),
        default_branch: base.default_branch.clone(),
        private: base.private,
        fork_of: Some(base.id),
        installation: None,
        created_at: now,
        pushed_at: now,
        updated_at: now,
        branches: base.branches.clone(),
        collaborators: BTreeMap::from([(owner.to_lowercase(), Role::Admin)]),
        labels: BTreeMap::new(),
        pulls: BTreeMap::new(),
        comments: BTreeMap::new(),
        review_comments: BTreeMap::new(),
        deployments: BTreeMap::new(),
        workflow_runs: BTreeMap::new(),
        next_number: 1,
    };
    state.repositories.insert(id, fork);
    Ok(id)
}
