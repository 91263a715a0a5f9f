//! What the loopback GitHub knows. Plain data behind one lock; every rule that needs no network lives here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::error::ControlError;
pub use super::model::{
    App, Comment, Commit, Deployment, DeploymentStatus, Head, Installation, PullRequest, PullState, Repository, Role,
    Tree, User, UserKind, WorkflowRun,
};

/// Ids start beyond 32 bits, as GitHub's own comment ids soon do: a client that stores them too small fails here.
const FIRST_ID: u64 = 5_000_000_001;

/// Unix seconds.
type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

#[derive(Default)]
pub struct State {
    frozen: Option<i64>,
    /// The machine's, if None.
    clock: Option<Clock>,
    next_id: u64,
    users: BTreeMap<String, User>,
    pub repositories: BTreeMap<u64, Repository>,
    /// Lower-cased former `owner/name` to the repository: GitHub redirects from there.
    pub former_names: HashMap<String, u64>,
    pub commits: BTreeMap<String, Commit>,
    pub installations: BTreeMap<u64, Installation>,
    pub app: Option<App>,
}

impl State {
    pub fn with_clock(clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { clock: Some(Box::new(clock)), ..Self::default() }
    }

    /// Unix seconds.
    pub fn now(&self) -> i64 {
        match (self.frozen, &self.clock) {
            (Some(at), _) => at,
            (None, Some(clock)) => clock(),
            (None, None) => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
            }
        }
    }

    pub fn freeze(&mut self, at: Option<i64>) {
        self.frozen = at;
    }

    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        FIRST_ID + self.next_id - 1
    }

    pub fn user(&self, login: &str) -> Option<&User> {
        self.users.get(&login.to_lowercase())
    }

    /// An account of this login; whose name says that it is a bot's is one.
    pub fn ensure_user(&mut self, login: &str, kind: UserKind) -> &User {
        let id = self.next_id();
        let kind = if login.ends_with("[bot]") { UserKind::Bot } else { kind };
        self.users.entry(login.to_lowercase()).or_insert_with(|| User { id, login: login.to_owned(), kind })
    }

    /// By `owner/name` in any case, former names included.
    pub fn find(&self, full_name: &str) -> Option<&Repository> {
        self.current(full_name)
            .or_else(|| self.former_names.get(&full_name.to_lowercase()).and_then(|id| self.repositories.get(id)))
    }

    /// By the name it has now.
    pub fn current(&self, full_name: &str) -> Option<&Repository> {
        self.repositories.values().find(|repository| repository.full_name().eq_ignore_ascii_case(full_name))
    }

    pub fn repository(&self, full_name: &str) -> Result<&Repository, ControlError> {
        self.find(full_name).ok_or_else(|| ControlError::NoRepository(full_name.to_owned()))
    }

    pub fn repository_mut(&mut self, full_name: &str) -> Result<&mut Repository, ControlError> {
        let id = self.repository(full_name)?.id;
        self.repositories.get_mut(&id).ok_or_else(|| ControlError::NoRepository(full_name.to_owned()))
    }

    pub fn pull(&self, full_name: &str, number: u64) -> Result<&PullRequest, ControlError> {
        self.repository(full_name)?
            .pulls
            .get(&number)
            .ok_or_else(|| ControlError::NoPullRequest(full_name.to_owned(), number))
    }

    pub fn pull_mut(&mut self, full_name: &str, number: u64) -> Result<&mut PullRequest, ControlError> {
        self.repository_mut(full_name)?
            .pulls
            .get_mut(&number)
            .ok_or_else(|| ControlError::NoPullRequest(full_name.to_owned(), number))
    }

    pub fn role(&self, repository: &Repository, login: &str) -> Role {
        if repository.owner.eq_ignore_ascii_case(login) {
            return Role::Admin;
        }
        let given = repository.collaborators.get(&login.to_lowercase()).copied();
        // Everybody reads a public repository.
        given.unwrap_or(if repository.private { Role::None } else { Role::Read })
    }

    /// The commit a ref names in a repository: branch, commit (whole or abbreviated), `refs/heads/…` or
    /// `refs/pull/{n}/head`.
    pub fn resolve<'a>(&'a self, repository: &'a Repository, reference: &str) -> Option<&'a Commit> {
        let short = reference.strip_prefix("refs/").unwrap_or(reference);
        let branch = short.strip_prefix("heads/").unwrap_or(reference);
        if let Some(sha) = repository.branches.get(branch) {
            return self.commits.get(sha);
        }
        if let Some(number) = short.strip_prefix("pull/").and_then(|rest| rest.strip_suffix("/head")) {
            return self.commits.get(&repository.pulls.get(&number.parse().ok()?)?.head.sha);
        }
        // Git takes abbreviations from four digits; GitHub from seven.
        if reference.len() < 7 || !reference.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let network = repository.fork_of.unwrap_or(repository.id);
        let wanted = reference.to_lowercase();
        self.commits
            .range(wanted.clone()..)
            .map(|(_, commit)| commit)
            .take_while(|commit| commit.sha.starts_with(&wanted))
            .find(|commit| commit.network == network)
    }

    /// Adds a commit on top of a branch (made where it is missing) and moves the branch to it.
    pub fn commit(
        &mut self,
        repository: u64,
        branch: &str,
        changes: &BTreeMap<String, Option<Vec<u8>>>,
        message: &str,
        author: &str,
        sha: Option<&str>,
    ) -> Result<String, ControlError> {
        let (at, serial) = (self.now(), self.next_id());
        let found = self.repositories.get(&repository);
        let found = found.ok_or_else(|| ControlError::NoRepository(repository.to_string()))?;
        let network = found.fork_of.unwrap_or(found.id);
        let parent = found.branches.get(branch).or_else(|| found.branches.get(&found.default_branch)).cloned();
        let mut tree = parent
            .as_ref()
            .and_then(|sha| self.commits.get(sha))
            .map_or_else(Tree::default, |commit| Tree::clone(&commit.tree));
        for (path, content) in changes {
            match content {
                Some(content) => tree.insert(path.clone(), content.clone()),
                None => tree.remove(path),
            };
        }
        let sha = match sha {
            Some(given) if is_sha(given) => given.to_owned(),
            Some(given) => {
                return Err(ControlError::Refused(format!("{given} is not 40 lower-case hex digits")));
            }
            None => {
                let mut hash = Sha256::new();
                hash.update(format!("{serial} {network} {branch} {at} {message} {parent:?}"));
                tree.iter().for_each(|(path, content)| {
                    hash.update(path);
                    hash.update(content);
                });
                short_hash(hash)
            }
        };
        let commit = Commit {
            sha: sha.clone(),
            parent,
            message: message.to_owned(),
            author: author.to_owned(),
            at,
            tree: Arc::new(tree),
            network,
        };
        self.commits.insert(sha.clone(), commit);
        self.move_branch(repository, branch, &sha)?;
        Ok(sha)
    }

    pub fn move_branch(&mut self, repository: u64, branch: &str, sha: &str) -> Result<(), ControlError> {
        let now = self.now();
        let found = self.repositories.get_mut(&repository);
        let found = found.ok_or_else(|| ControlError::NoRepository(repository.to_string()))?;
        found.branches.insert(branch.to_owned(), sha.to_owned());
        found.pushed_at = now;
        Ok(())
    }
}

pub fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Forty hex digits. Git uses SHA-1; nothing that talks to GitHub recomputes it, so the one hash at hand will do.
pub fn object_id(content: &[u8]) -> String {
    short_hash(Sha256::new_with_prefix(content))
}

fn short_hash(hash: Sha256) -> String {
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(40);
    digits
}

/// As GitHub writes times: `2026-01-31T09:26:53Z`.
pub fn iso(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::from("1970-01-01T00:00:00Z"), |time| time.to_string())
}
