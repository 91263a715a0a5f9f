//! GitHub's JSON, as far as previewd reads it: the same objects in webhooks and in answers. Small structs of our own,
//! because a webhook must not fail on a field that nobody uses.

use serde::Deserialize;

use crate::{
    environment::{CommitSha, Millis, PullRequestFacts, PullRequestState, RepositoryFacts},
    text::storable,
};

/// A field that is there but cannot be what GitHub means: its path, and the rule that it breaks. Never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidField {
    pub field: String,
    pub rule: &'static str,
}

#[derive(Debug, Deserialize)]
pub struct Repository {
    id: i64,
    full_name: String,
    /// Missing where an installation lists its repositories.
    default_branch: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct PullRequest {
    id: i64,
    pub number: i64,
    #[serde(default)]
    title: String,
    user: Option<User>,
    head: Head,
    base: Base,
    #[serde(default)]
    draft: bool,
    state: State,
    merged_at: Option<String>,
    #[serde(default)]
    labels: Vec<Label>,
    updated_at: String,
}

#[derive(Debug, Deserialize)]
pub struct User {
    pub login: String,
}

#[derive(Debug, Deserialize)]
struct Head {
    sha: String,
    #[serde(rename = "ref")]
    branch: String,
    /// Null where the fork was deleted.
    repo: Option<RepositoryId>,
}

#[derive(Debug, Deserialize)]
struct Base {
    #[serde(rename = "ref")]
    branch: String,
    repo: Repository,
}

#[derive(Debug, Deserialize)]
struct RepositoryId {
    id: i64,
}

#[derive(Debug, Deserialize)]
pub struct Label {
    #[serde(default)]
    id: i64,
    name: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Open,
    Closed,
}

/// The login that GitHub shows for accounts that are gone.
const GHOST: &str = "ghost";

impl Repository {
    /// `path`: where this repository is in the JSON, for errors.
    pub fn facts(self, path: &str, app_installation_id: Option<i64>) -> Result<RepositoryFacts, InvalidField> {
        let github_id = self.id(path)?;
        let name = self.full_name.parse();
        let name = name.map_err(|_| InvalidField { field: format!("{path}.full_name"), rule: "must be owner/name" })?;
        let Some(default_branch) = self.default_branch else {
            return Err(InvalidField { field: format!("{path}.default_branch"), rule: "is missing" });
        };
        Ok(RepositoryFacts { github_id, name, default_branch: storable(default_branch), app_installation_id })
    }

    /// GitHub's id.
    pub fn id(&self, path: &str) -> Result<i64, InvalidField> {
        positive(self.id, || format!("{path}.id"))
    }
}

impl PullRequest {
    /// `path`: where this pull request is in the JSON, for errors.
    pub fn facts(self, path: &str, app_installation_id: Option<i64>) -> Result<PullRequestFacts, InvalidField> {
        let Self { id, number, title, user, head, base, draft, state, merged_at, labels, updated_at } = self;
        let repository = base.repo.facts(&format!("{path}.base.repo"), app_installation_id)?;
        Ok(PullRequestFacts {
            github_id: positive(id, || format!("{path}.id"))?,
            number: positive(number, || format!("{path}.number"))?,
            title: storable(title),
            author: storable(user.map_or_else(|| GHOST.to_owned(), |user| user.login)),
            head_sha: commit(&head.sha, || format!("{path}.head.sha"))?,
            head_ref: storable(head.branch),
            base_ref: storable(base.branch),
            from_fork: head.repo.is_none_or(|repo| repo.id != repository.github_id),
            draft,
            state: match (state, merged_at) {
                (State::Open, _) => PullRequestState::Open,
                (State::Closed, None) => PullRequestState::Closed,
                (State::Closed, Some(_)) => PullRequestState::Merged,
            },
            label_ids: labels.iter().map(|label| label.id).collect(),
            labels: labels.into_iter().map(|label| storable(label.name)).collect(),
            github_updated_at: time(&updated_at, || format!("{path}.updated_at"))?,
            repository,
        })
    }
}

pub fn positive(number: i64, field: impl FnOnce() -> String) -> Result<i64, InvalidField> {
    if number > 0 { Ok(number) } else { Err(InvalidField { field: field(), rule: "must be 1 or more" }) }
}

pub fn commit(sha: &str, field: impl FnOnce() -> String) -> Result<CommitSha, InvalidField> {
    sha.parse().map_err(|_| InvalidField { field: field(), rule: "must be 40 lower-case hexadecimal digits" })
}

fn time(text: &str, field: impl FnOnce() -> String) -> Result<Millis, InvalidField> {
    text.parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|_| InvalidField { field: field(), rule: "must be a time as in RFC 3339" })
}
