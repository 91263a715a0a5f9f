//! Commits and pushes, as methods. Open pull requests follow their branches.

use std::collections::BTreeMap;

use serde_json::json;

use super::GitHub;
use super::control::pull_request_event;
use super::error::ControlError;
use super::state::{PullState, Repository, State};
use super::webhooks::Event;

fn changes(files: &[(&str, &str)]) -> BTreeMap<String, Option<Vec<u8>>> {
    files.iter().map(|(path, content)| ((*path).to_owned(), Some(content.as_bytes().to_vec()))).collect()
}

impl GitHub {
    /// Commits files (path, content) on a branch; a branch that is missing starts at the default branch. Open pull
    /// requests from that branch get their `synchronize`.
    pub async fn commit(&self, repository: &str, branch: &str, files: &[(&str, &str)]) -> Result<String, ControlError> {
        self.commit_changes(repository, branch, &changes(files), None).await
    }

    /// As [`GitHub::commit`], with the commit's id given.
    pub async fn commit_as(
        &self,
        repository: &str,
        branch: &str,
        files: &[(&str, &str)],
        sha: &str,
    ) -> Result<String, ControlError> {
        self.commit_changes(repository, branch, &changes(files), Some(sha)).await
    }

    /// As [`GitHub::commit`]; None in the place of a content removes the file.
    pub async fn commit_changes(
        &self,
        repository: &str,
        branch: &str,
        changes: &BTreeMap<String, Option<Vec<u8>>>,
        sha: Option<&str>,
    ) -> Result<String, ControlError> {
        let (sha, events) = {
            let mut state = self.state();
            let found = state.repository(repository)?;
            let (id, owner) = (found.id, found.owner.clone());
            let message = format!("Change {}", changes.keys().cloned().collect::<Vec<_>>().join(", "));
            let sha = state.commit(id, branch, changes, &message, &owner, sha)?;
            let events = self.follow_branch(&mut state, id, branch)?;
            (sha, events)
        };
        self.report(events).await;
        Ok(sha)
    }

    /// Moves a branch to a commit that exists, as a force-push does.
    pub async fn force_push(&self, repository: &str, branch: &str, sha: &str) -> Result<(), ControlError> {
        let events = {
            let mut state = self.state();
            let id = state.repository(repository)?.id;
            if !state.commits.contains_key(sha) {
                return Err(ControlError::Refused(format!("no commit {sha}")));
            }
            state.move_branch(id, branch, sha)?;
            self.follow_branch(&mut state, id, branch)?
        };
        self.report(events).await;
        Ok(())
    }

    /// Open pull requests whose head is this branch follow it.
    fn follow_branch(&self, state: &mut State, head: u64, branch: &str) -> Result<Vec<Event>, ControlError> {
        let now = state.now();
        let tip = state.repositories.get(&head).and_then(|found| found.branches.get(branch)).cloned();
        let Some(tip) = tip else {
            return Ok(Vec::new());
        };
        let mut moved = Vec::new();
        for repository in state.repositories.values_mut() {
            let full_name = repository.full_name();
            for pull in repository.pulls.values_mut() {
                let from_here = pull.head.repository == Some(head) && pull.head.branch == branch;
                if from_here && pull.state == PullState::Open && pull.head.sha != tip {
                    let before = std::mem::replace(&mut pull.head.sha, tip.clone());
                    pull.commits.push(tip.clone());
                    pull.updated_at = now;
                    moved.push((full_name.clone(), pull.number, before));
                }
            }
        }
        let events = moved.into_iter().map(|(repository, number, before)| {
            let more = json!({ "before": before, "after": tip });
            pull_request_event(self, state, &repository, number, "synchronize", None, more)
        });
        events.collect()
    }

    /// Commits files on a pull request's branch and says the new head commit. A closed one's branch moves without
    /// the pull request, as on GitHub.
    pub async fn push(&self, repository: &str, number: u64, files: &[(&str, &str)]) -> Result<String, ControlError> {
        self.push_changes(repository, number, &changes(files), None).await
    }

    /// As [`GitHub::push`], with the commit's id given.
    pub async fn push_as(
        &self,
        repository: &str,
        number: u64,
        files: &[(&str, &str)],
        sha: &str,
    ) -> Result<String, ControlError> {
        self.push_changes(repository, number, &changes(files), Some(sha)).await
    }

    pub async fn push_changes(
        &self,
        repository: &str,
        number: u64,
        changes: &BTreeMap<String, Option<Vec<u8>>>,
        sha: Option<&str>,
    ) -> Result<String, ControlError> {
        let (head, branch) = {
            let state = self.state();
            let pull = state.pull(repository, number)?;
            let head = pull.head.repository.and_then(|id| state.repositories.get(&id)).map(Repository::full_name);
            let head = head.ok_or_else(|| ControlError::Refused("the fork of this pull request is gone".to_owned()))?;
            (head, pull.head.branch.clone())
        };
        self.commit_changes(&head, &branch, changes, sha).await
    }
}
