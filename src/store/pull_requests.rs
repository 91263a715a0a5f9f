//! Repositories and their pull requests: what GitHub said last.

use diesel::prelude::*;

use super::{
    StoreError,
    schema::{pull_requests, repositories},
};
use crate::environment::{
    CommitSha, Millis, PullRequestFacts, PullRequestState, RepositoryFacts, RepositoryName, RepositoryState,
};

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = repositories)]
pub(super) struct RepositoryRow {
    pub github_id: i64,
    pub owner: String,
    pub name: String,
    pub app_installation_id: Option<i64>,
    pub default_branch: String,
    pub state: String,
    pub created_at: Millis,
    pub updated_at: Millis,
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = pull_requests)]
pub(super) struct PullRequestRow {
    pub github_id: i64,
    pub repository_id: i64,
    pub number: i64,
    pub title: String,
    pub author: String,
    pub head_sha: String,
    pub head_ref: String,
    pub base_ref: String,
    pub from_fork: bool,
    pub draft: bool,
    pub state: String,
    pub labels: String,
    pub github_updated_at: Millis,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub label_ids: String,
}

/// A repository as the rows have it.
#[derive(Debug, Clone)]
pub struct Repository {
    pub facts: RepositoryFacts,
    pub state: RepositoryState,
}

/// A pull request as the rows have it.
#[derive(Debug, Clone)]
pub struct PullRequest {
    pub facts: PullRequestFacts,
    pub repository_state: RepositoryState,
}

impl RepositoryRow {
    pub(super) fn from_facts(facts: &RepositoryFacts, now: Millis) -> Self {
        Self {
            github_id: facts.github_id,
            owner: facts.name.owner().to_owned(),
            name: facts.name.name().to_owned(),
            app_installation_id: facts.app_installation_id,
            default_branch: facts.default_branch.clone(),
            state: RepositoryState::Active.code().to_owned(),
            created_at: now,
            updated_at: now,
        }
    }

    /// `owner/name`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Whether these facts, just heard, say more than the row that is `known`.
    pub(super) fn is_news_to(&self, known: &Self) -> bool {
        let Self {
            github_id: _,
            owner,
            name,
            app_installation_id,
            default_branch,
            state,
            created_at: _,
            updated_at: _,
        } = self;
        let gives_access = app_installation_id.is_some();
        (owner, name, default_branch) != (&known.owner, &known.name, &known.default_branch)
            || gives_access && (app_installation_id, state) != (&known.app_installation_id, &known.state)
    }

    pub(super) fn repository_name(&self) -> Result<RepositoryName, StoreError> {
        format!("{}/{}", self.owner, self.name).parse().map_err(unreadable)
    }
}

impl TryFrom<RepositoryRow> for Repository {
    type Error = StoreError;

    fn try_from(row: RepositoryRow) -> Result<Self, StoreError> {
        Ok(Self {
            state: from_code(&row.state, RepositoryState::from_code)?,
            facts: RepositoryFacts {
                github_id: row.github_id,
                name: row.repository_name()?,
                default_branch: row.default_branch,
                app_installation_id: row.app_installation_id,
            },
        })
    }
}

impl PullRequestRow {
    pub(super) fn from_facts(facts: &PullRequestFacts, now: Millis) -> Self {
        Self {
            github_id: facts.github_id,
            repository_id: facts.repository.github_id,
            number: facts.number,
            title: facts.title.clone(),
            author: facts.author.clone(),
            head_sha: facts.head_sha.to_string(),
            head_ref: facts.head_ref.clone(),
            base_ref: facts.base_ref.clone(),
            from_fork: facts.from_fork,
            draft: facts.draft,
            state: facts.state.code().to_owned(),
            labels: serde_json::Value::from(facts.labels.clone()).to_string(),
            github_updated_at: facts.github_updated_at,
            created_at: now,
            updated_at: now,
            label_ids: serde_json::Value::from(facts.label_ids.clone()).to_string(),
        }
    }

    pub(super) fn with_repository(self, repository: RepositoryRow) -> Result<PullRequest, StoreError> {
        let repository = Repository::try_from(repository)?;
        Ok(PullRequest {
            repository_state: repository.state,
            facts: PullRequestFacts {
                repository: repository.facts,
                github_id: self.github_id,
                number: self.number,
                title: self.title,
                author: self.author,
                head_sha: commit(&self.head_sha)?,
                head_ref: self.head_ref,
                base_ref: self.base_ref,
                from_fork: self.from_fork,
                draft: self.draft,
                state: from_code(&self.state, PullRequestState::from_code)?,
                labels: serde_json::from_str(&self.labels).map_err(unreadable)?,
                label_ids: serde_json::from_str(&self.label_ids).map_err(unreadable)?,
                github_updated_at: self.github_updated_at,
            },
        })
    }
}

pub(super) fn commit(text: &str) -> Result<CommitSha, StoreError> {
    text.parse().map_err(unreadable)
}

pub(super) fn from_code<T>(code: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    parse(code).ok_or_else(|| StoreError::Unreadable(format!("the code {code}")))
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
