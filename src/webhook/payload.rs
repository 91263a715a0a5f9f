//! What a delivery asks to store: facts, as they come.

mod said;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};

use crate::{
    environment::{Change, CommentKind, CommitSha, RepositoryName, RepositoryState},
    github::wire::{self, InvalidField},
    text::storable,
};

/// A delivery: what it changes, and what its own row says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    pub change: Change,
    pub action: Option<String>,
    pub repository: Option<RepositoryName>,
    pub number: Option<i64>,
    pub head_sha: Option<CommitSha>,
}

/// Why a delivery changes nothing.
const PING: Change = Change::Nothing { reason: "ping" };
const EVENT_NOT_USED: Change = Change::Nothing { reason: "event_not_used" };
const NOT_A_COMMAND: Change = Change::Nothing { reason: "not_a_command" };
const NO_REPOSITORY: Change = Change::Nothing { reason: "no_repository" };
const ACTION_NOT_USED: Change = Change::Nothing { reason: "action_not_used" };
const NOTHING_BUILT: Change = Change::Nothing { reason: "nothing_built" };

/// Why a body is not one of its event. Says where and which rule, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    #[error("the body is not UTF-8")]
    NotText,
    #[error("the body is a form; set the webhook's content type to application/json")]
    Form,
    #[error("the body is not whole JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("{field}: {rule}")]
    Field { field: String, rule: &'static str },
}

impl From<InvalidField> for BadPayload {
    fn from(InvalidField { field, rule }: InvalidField) -> Self {
        Self::Field { field, rule }
    }
}

const THE_BODY: &str = "the body";

/// Reads a delivery. `event` is the value of `X-GitHub-Event`, `body` what was signed.
pub fn parse(event: &str, body: &[u8]) -> Result<Parsed, BadPayload> {
    // serde_json does not look into strings that it skips.
    let body = str::from_utf8(body).map_err(|_| BadPayload::NotText)?;
    if body.starts_with("payload=") {
        return Err(BadPayload::Form);
    }
    // serde reads structs from arrays too.
    if !body.trim_ascii_start().starts_with('{') {
        return Err(BadPayload::Field { field: THE_BODY.to_owned(), rule: "must be a JSON object" });
    }
    let parsed = match event {
        "pull_request" => pull_request(read(body)?),
        "issue_comment" => said::said(CommentKind::Comment, read(body)?),
        "pull_request_review" => said::said(CommentKind::Review, read(body)?),
        "pull_request_review_comment" => said::said(CommentKind::ReviewComment, read(body)?),
        "repository" => repository(read(body)?),
        "installation" => installation(read(body)?),
        "installation_repositories" => installation_repositories(read(body)?),
        "workflow_run" | "check_suite" | "registry_package" | "package" => built(read(body)?),
        "ping" => Ok(ignored(read(body)?, PING)),
        _ => Ok(ignored(read(body)?, EVENT_NOT_USED)),
    }?;
    Ok(Parsed { action: parsed.action.map(storable), ..parsed })
}

#[derive(Deserialize)]
struct PullRequestEvent {
    action: String,
    number: i64,
    pull_request: wire::PullRequest,
    before: Option<String>,
    installation: Option<Installation>,
}

#[derive(Deserialize)]
struct RepositoryEvent {
    action: String,
    repository: wire::Repository,
    installation: Option<Installation>,
}

/// A build that ended, or a package that was pushed.
#[derive(Deserialize)]
struct BuildEvent {
    action: String,
    #[serde(alias = "check_suite")]
    workflow_run: Option<Run>,
    /// Missing where a package is of no repository.
    repository: Option<wire::Repository>,
}

#[derive(Deserialize)]
struct Run {
    head_sha: String,
    /// What started it. Suites do not say it.
    event: Option<String>,
    conclusion: Option<String>,
}

/// What starts a run at the default branch, or at any branch that somebody names, whatever it builds. That of
/// `pull_request_target` is the base branch.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows>
const OF_NO_COMMIT: [&str; 5] =
    ["workflow_run", "workflow_dispatch", "repository_dispatch", COMMENT, "pull_request_target"];
/// Each change of previewd's own comment starts such a run.
const COMMENT: &str = "issue_comment";

#[derive(Deserialize)]
struct InstallationEvent {
    action: String,
    installation: Installation,
    /// Missing where an installation is suspended or comes back.
    repositories: Option<Vec<wire::Repository>>,
}

#[derive(Deserialize)]
struct InstallationRepositoriesEvent {
    action: String,
    installation: Installation,
    repositories_added: Vec<wire::Repository>,
    repositories_removed: Vec<wire::Repository>,
}

#[derive(Deserialize)]
struct Installation {
    id: i64,
}

/// Any event, of which nothing is certain.
#[derive(Deserialize)]
struct AnyEvent {
    #[serde(default)]
    action: Value,
    #[serde(default)]
    repository: Value,
}

fn pull_request(event: PullRequestEvent) -> Result<Parsed, BadPayload> {
    let PullRequestEvent { action, number, pull_request, before, installation } = event;
    wire::positive(number, || "number".to_owned())?;
    if number != pull_request.number {
        return Err(BadPayload::Field { field: "number".to_owned(), rule: "is not the pull request's" });
    }
    let facts = pull_request.facts("pull_request", installation.map(|installation| installation.id))?;
    let (repository, head_sha) = (facts.repository.name.clone(), facts.head_sha.clone());
    let change = match (action.as_str(), before) {
        ("synchronize", Some(sha)) => {
            let before = wire::commit(&sha, || "before".to_owned())?;
            Change::PullRequest { facts, before: Some(before) }
        }
        (
            "opened" | "reopened" | "synchronize" | "closed" | "edited" | "labeled" | "unlabeled" | "ready_for_review"
            | "converted_to_draft",
            _,
        ) => Change::PullRequest { facts, before: None },
        _ => ACTION_NOT_USED,
    };
    Ok(Parsed {
        change,
        action: Some(action),
        repository: Some(repository),
        number: Some(number),
        head_sha: Some(head_sha),
    })
}

fn repository(event: RepositoryEvent) -> Result<Parsed, BadPayload> {
    let RepositoryEvent { action, repository, installation } = event;
    let facts = repository.facts("repository", installation.map(|installation| installation.id))?;
    let name = facts.name.clone();
    let change = match action.as_str() {
        "renamed" | "transferred" => Change::Repository(facts),
        "deleted" => Change::RepositoryDeleted { github_id: facts.github_id },
        _ => ACTION_NOT_USED,
    };
    Ok(Parsed { change, action: Some(action), repository: Some(name), number: None, head_sha: None })
}

fn built(event: BuildEvent) -> Result<Parsed, BadPayload> {
    let BuildEvent { action, workflow_run, repository } = event;
    let started_by = workflow_run.as_ref().and_then(|run| run.event.as_deref());
    let perhaps = started_by.is_some_and(|event| OF_NO_COMMIT.contains(&event));
    let ended_well = workflow_run.as_ref().is_some_and(|run| run.conclusion.as_deref() == Some("success"));
    // Where the default branch is itself a pull request's head, that one's comment would start it again and again.
    let names_commit = started_by != Some(COMMENT);
    let commit = workflow_run.filter(|_| names_commit).and_then(|run| run.head_sha.parse().ok());
    let facts = repository.map(|repository| repository.facts("repository", None)).transpose()?;
    let change = match (action.as_str(), &facts) {
        ("completed" | "published" | "updated", Some(_)) if perhaps && !ended_well => NOTHING_BUILT,
        ("completed" | "published" | "updated", Some(facts)) => {
            Change::Built { repository_id: facts.github_id, commit, perhaps }
        }
        ("completed" | "published" | "updated", None) => NO_REPOSITORY,
        _ => ACTION_NOT_USED,
    };
    let repository = facts.map(|facts| facts.name);
    Ok(Parsed { change, action: Some(action), repository, number: None, head_sha: None })
}

fn installation(event: InstallationEvent) -> Result<Parsed, BadPayload> {
    let InstallationEvent { action, installation, repositories } = event;
    let app_installation_id = wire::positive(installation.id, || "installation.id".to_owned())?;
    let of_all = |state| Change::Installation { app_installation_id, state };
    let change = match action.as_str() {
        "created" => {
            let added = ids(&repositories.unwrap_or_default(), "repositories")?;
            Change::InstallationRepositories { app_installation_id, added, removed: Vec::new() }
        }
        "deleted" => of_all(RepositoryState::Removed),
        "suspend" => of_all(RepositoryState::Suspended),
        "unsuspend" => of_all(RepositoryState::Active),
        _ => ACTION_NOT_USED,
    };
    Ok(Parsed { change, action: Some(action), repository: None, number: None, head_sha: None })
}

fn installation_repositories(event: InstallationRepositoriesEvent) -> Result<Parsed, BadPayload> {
    let InstallationRepositoriesEvent { action, installation, repositories_added, repositories_removed } = event;
    let change = Change::InstallationRepositories {
        app_installation_id: wire::positive(installation.id, || "installation.id".to_owned())?,
        added: ids(&repositories_added, "repositories_added")?,
        removed: ids(&repositories_removed, "repositories_removed")?,
    };
    Ok(Parsed { change, action: Some(action), repository: None, number: None, head_sha: None })
}

fn ids(repositories: &[wire::Repository], path: &str) -> Result<Vec<i64>, InvalidField> {
    let ids = repositories.iter().enumerate().map(|(index, repository)| repository.id(&format!("{path}[{index}]")));
    ids.collect()
}

fn ignored(event: AnyEvent, change: Change) -> Parsed {
    Parsed {
        change,
        action: event.action.as_str().map(ToOwned::to_owned),
        repository: event.repository["full_name"].as_str().and_then(|name| name.parse().ok()),
        number: None,
        head_sha: None,
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, BadPayload> {
    let mut json = serde_json::Deserializer::from_str(body);
    let event = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| bad_payload(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| bad_payload(".", &error))?;
    Ok(event)
}

fn bad_payload(path: &str, error: &serde_json::Error) -> BadPayload {
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            BadPayload::NotJson { line: error.line(), column: error.column() }
        }
        Category::Data => {
            // The only way to a missing field's name; everything else in serde's text may be a value of the payload.
            let text = error.to_string();
            let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
            match (path, missing) {
                (".", Some((name, _))) => BadPayload::Field { field: name.to_owned(), rule: "is missing" },
                (path, Some((name, _))) => BadPayload::Field { field: format!("{path}.{name}"), rule: "is missing" },
                (path, None) => {
                    let field = if path == "." { THE_BODY } else { path };
                    BadPayload::Field { field: field.to_owned(), rule: "is of another type than GitHub sends" }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
