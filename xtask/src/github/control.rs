//! What people do on GitHub, as methods: commits and pull requests. Each reports what GitHub would report and
//! waits for the answers.

use serde_json::{Value, json};

use super::GitHub;
use super::error::ControlError;
use super::opening::{NewPullRequest, ensure_label, open};
use super::payloads;
use super::shapes::Shapes;
use super::state::{Commit, PullRequest, PullState, Repository, State};
use super::webhooks::Event;

impl GitHub {
    /// Opens a pull request and says its number.
    pub async fn open_pull_request(&self, repository: &str, new: NewPullRequest) -> Result<u64, ControlError> {
        let (number, events) = {
            let mut state = self.state();
            let number = open(&mut state, repository, new)?;
            (number, vec![pull_request_event(self, &state, repository, number, "opened", None, json!({}))?])
        };
        self.report(events).await;
        Ok(number)
    }

    pub async fn close(&self, repository: &str, number: u64) -> Result<(), ControlError> {
        self.change(repository, number, "closed", json!({}), |pull, now| {
            require(pull.state == PullState::Open, "it is not open")?;
            pull.state = PullState::Closed;
            pull.closed_at = Some(now);
            Ok(())
        })
        .await
    }

    /// Merges into the base branch; GitHub reports it as `closed` with `merged: true`.
    pub async fn merge(&self, repository: &str, number: u64) -> Result<(), ControlError> {
        let (merge, owner) = {
            let mut state = self.state();
            let found = state.repository(repository)?;
            let (id, owner) = (found.id, found.owner.clone());
            let pull = state.pull(repository, number)?;
            require(pull.state == PullState::Open, "it is not open")?;
            let (base, head) = (pull.base_branch.clone(), pull.head.sha.clone());
            let tree = state.commits.get(&head).map(|commit| commit.tree.clone()).unwrap_or_default();
            let tree = tree.iter().map(|(path, content)| (path.clone(), Some(content.clone()))).collect();
            (state.commit(id, &base, &tree, &format!("Merge #{number}"), &owner, None)?, owner)
        };
        self.change(repository, number, "closed", json!({}), |pull, now| {
            pull.state = PullState::Merged;
            pull.closed_at = Some(now);
            pull.merged_at = Some(now);
            pull.merged_by = Some(owner);
            pull.merge_commit = Some(merge);
            Ok(())
        })
        .await
    }

    /// Opens a closed pull request again, at its branch's tip.
    pub async fn reopen(&self, repository: &str, number: u64) -> Result<(), ControlError> {
        let tip = {
            let state = self.state();
            let pull = state.pull(repository, number)?;
            let head = pull.head.repository.and_then(|id| state.repositories.get(&id));
            head.and_then(|head| head.branches.get(&pull.head.branch)).cloned()
        };
        let tip = tip.ok_or_else(|| ControlError::Refused("its branch is gone".to_owned()))?;
        self.change(repository, number, "reopened", json!({}), |pull, _| {
            require(pull.state == PullState::Closed, "it is not closed")?;
            pull.state = PullState::Open;
            pull.closed_at = None;
            if pull.head.sha != tip {
                pull.commits.push(tip.clone());
                pull.head.sha = tip;
            }
            Ok(())
        })
        .await
    }

    pub async fn convert_to_draft(&self, repository: &str, number: u64) -> Result<(), ControlError> {
        self.change(repository, number, "converted_to_draft", json!({}), |pull, _| {
            require(!pull.draft, "it is a draft")?;
            pull.draft = true;
            Ok(())
        })
        .await
    }

    pub async fn ready_for_review(&self, repository: &str, number: u64) -> Result<(), ControlError> {
        self.change(repository, number, "ready_for_review", json!({}), |pull, _| {
            require(pull.draft, "it is no draft")?;
            pull.draft = false;
            Ok(())
        })
        .await
    }

    pub async fn label(&self, repository: &str, number: u64, name: &str) -> Result<(), ControlError> {
        let label = {
            let mut state = self.state();
            ensure_label(&mut state, repository, name)?;
            let shapes = Shapes { state: &state, api: self.url(), html: self.url() };
            shapes.label(state.repository(repository)?, name)
        };
        self.change(repository, number, "labeled", json!({ "label": label }), |pull, _| {
            require(!pull.labels.iter().any(|known| known == name), "it has that label")?;
            pull.labels.push(name.to_owned());
            Ok(())
        })
        .await
    }

    pub async fn unlabel(&self, repository: &str, number: u64, name: &str) -> Result<(), ControlError> {
        let label = {
            let state = self.state();
            let shapes = Shapes { state: &state, api: self.url(), html: self.url() };
            shapes.label(state.repository(repository)?, name)
        };
        self.change(repository, number, "unlabeled", json!({ "label": label }), |pull, _| {
            require(pull.labels.iter().any(|known| known == name), "it has no such label")?;
            pull.labels.retain(|known| known != name);
            Ok(())
        })
        .await
    }

    /// Renames a label in the repository's settings, of which no pull request is told.
    pub fn rename_label(&self, repository: &str, from: &str, to: &str) -> Result<(), ControlError> {
        let mut state = self.state();
        let found = state.repository_mut(repository)?;
        let id = found.labels.remove(from);
        let id = id.ok_or_else(|| ControlError::Refused(format!("no label {from}")))?;
        found.labels.insert(to.to_owned(), id);
        for name in found.pulls.values_mut().flat_map(|pull| &mut pull.labels).filter(|name| *name == from) {
            to.clone_into(name);
        }
        Ok(())
    }

    pub async fn edit_title(&self, repository: &str, number: u64, title: &str) -> Result<(), ControlError> {
        let from = self.pull_request(repository, number)?.title;
        let more = json!({ "changes": { "title": { "from": from } } });
        self.change(repository, number, "edited", more, |pull, _| {
            title.clone_into(&mut pull.title);
            Ok(())
        })
        .await
    }

    /// Points a pull request at another base branch; reported as `edited`.
    pub async fn change_base(&self, repository: &str, number: u64, branch: &str) -> Result<(), ControlError> {
        let (sha, from) = {
            let state = self.state();
            let sha = state.repository(repository)?.branches.get(branch).cloned();
            let sha = sha.ok_or_else(|| ControlError::Refused(format!("no branch {branch}")))?;
            let pull = state.pull(repository, number)?;
            (sha, json!({ "ref": { "from": pull.base_branch }, "sha": { "from": pull.base_sha } }))
        };
        self.change(repository, number, "edited", json!({ "changes": { "base": from } }), |pull, _| {
            branch.clone_into(&mut pull.base_branch);
            pull.base_sha = sha;
            Ok(())
        })
        .await
    }

    pub fn pull_request(&self, repository: &str, number: u64) -> Result<PullRequest, ControlError> {
        self.state().pull(repository, number).cloned()
    }

    pub fn repository(&self, repository: &str) -> Result<Repository, ControlError> {
        self.state().repository(repository).cloned()
    }

    /// The ids of all commits of all repositories.
    pub fn commits(&self) -> Vec<String> {
        self.state().commits.keys().cloned().collect()
    }

    pub fn commit_of(&self, sha: &str) -> Option<Commit> {
        self.state().commits.get(sha).cloned()
    }

    async fn change(
        &self,
        repository: &str,
        number: u64,
        action: &str,
        more: Value,
        change: impl FnOnce(&mut PullRequest, i64) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let now = state.now();
            let pull = state.pull_mut(repository, number)?;
            change(pull, now)?;
            pull.updated_at = now;
            pull_request_event(self, &state, repository, number, action, None, more)?
        };
        self.report(vec![event]).await;
        Ok(())
    }

    pub(super) fn pull_request_event(
        &self,
        repository: &str,
        number: u64,
        action: &str,
        mut more: Value,
    ) -> Result<Event, ControlError> {
        let state = self.state();
        let pull = state.pull(repository, number)?;
        if action == "synchronize" {
            let before = pull.commits.iter().rev().nth(1).unwrap_or(&pull.base_sha);
            more = json!({ "before": before, "after": pull.head.sha });
        }
        pull_request_event(self, &state, repository, number, action, None, more)
    }
}

pub(super) fn require(holds: bool, otherwise: &str) -> Result<(), ControlError> {
    if holds { Ok(()) } else { Err(ControlError::Refused(format!("pull request: {otherwise}"))) }
}

pub(super) fn pull_request_event(
    github: &GitHub,
    state: &State,
    repository: &str,
    number: u64,
    action: &str,
    sender: Option<&str>,
    more: Value,
) -> Result<Event, ControlError> {
    let (found, pull) = (state.repository(repository)?, state.pull(repository, number)?);
    let shapes = Shapes { state, api: github.url(), html: github.url() };
    let sender = sender.unwrap_or(match action {
        "labeled" | "unlabeled" => &found.owner,
        _ => &pull.author,
    });
    let payload = payloads::pull_request(&shapes, found, pull, action, sender, more);
    Ok(Event { name: "pull_request", repository: Some(found.id), installation: found.installation, payload })
}
