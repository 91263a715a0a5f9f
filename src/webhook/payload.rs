//! What a delivery asks to store: facts, as they come.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};

use crate::{
    environment::{CommitSha, PullRequestFacts, RepositoryFacts, RepositoryName, codes},
    github::wire::{self, InvalidField},
};

codes! {
    /// The actions of `pull_request` that change what should run.
    PullRequestAction {
        Opened = "opened",
        Reopened = "reopened",
        /// The head moved.
        Synchronize = "synchronize",
        /// Merged or not.
        Closed = "closed",
        /// The title, the text or the base.
        Edited = "edited",
        Labeled = "labeled",
        Unlabeled = "unlabeled",
        ReadyForReview = "ready_for_review",
        ConvertedToDraft = "converted_to_draft",
    }
}

codes! {
    /// The actions of `repository` that change where environments belong.
    RepositoryChange {
        Renamed = "renamed",
        Transferred = "transferred",
        Deleted = "deleted",
    }
}

codes! {
    /// The actions of `installation` that change which repositories previewd may see.
    InstallationAction {
        Created = "created",
        Deleted = "deleted",
        Suspend = "suspend",
        Unsuspend = "unsuspend",
    }
}

codes! {
    /// Why a delivery changes nothing.
    IgnoredReason {
        Ping = "ping",
        EventNotUsed = "event_not_used",
        ActionNotUsed = "action_not_used",
    }
}

/// What a delivery asks to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookFact {
    PullRequest {
        action: PullRequestAction,
        facts: Box<PullRequestFacts>,
        /// The head before, where the action is `synchronize`.
        before: Option<CommitSha>,
        /// The label's name, where the action is `labeled` or `unlabeled`.
        label: Option<String>,
    },
    /// The repository as it is after the change; its id is the one from before.
    Repository {
        change: RepositoryChange,
        facts: RepositoryFacts,
    },
    /// An installation of the App and the repositories that it covers.
    Installation {
        id: i64,
        action: InstallationAction,
        repositories: Vec<RepositoryReference>,
    },
    InstallationRepositories {
        id: i64,
        added: Vec<RepositoryReference>,
        removed: Vec<RepositoryReference>,
    },
    Ignored {
        reason: IgnoredReason,
    },
}

/// A repository as installations list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryReference {
    pub github_id: i64,
    pub name: RepositoryName,
}

/// A delivery: its fact, and what its own row says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    pub fact: WebhookFact,
    pub action: Option<String>,
    pub repository: Option<RepositoryName>,
    pub number: Option<i64>,
    pub head_sha: Option<CommitSha>,
}

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
        "repository" => repository(read(body)?),
        "installation" => installation(read(body)?),
        "installation_repositories" => installation_repositories(read(body)?),
        "ping" => Ok(ignored(read(body)?, IgnoredReason::Ping)),
        _ => Ok(ignored(read(body)?, IgnoredReason::EventNotUsed)),
    }?;
    Ok(Parsed { action: parsed.action.map(wire::text), ..parsed })
}

#[derive(Deserialize)]
struct PullRequestEvent {
    action: String,
    number: i64,
    pull_request: wire::PullRequest,
    before: Option<String>,
    label: Option<wire::Label>,
    installation: Option<Installation>,
}

#[derive(Deserialize)]
struct RepositoryEvent {
    action: String,
    repository: wire::Repository,
    installation: Option<Installation>,
}

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
    let PullRequestEvent { action, number, pull_request, before, label, installation } = event;
    wire::positive(number, || "number".to_owned())?;
    if number != pull_request.number {
        return Err(BadPayload::Field { field: "number".to_owned(), rule: "is not the pull request's" });
    }
    let facts = pull_request.facts("pull_request", installation.map(|installation| installation.id))?;
    let parsed = Parsed {
        fact: WebhookFact::Ignored { reason: IgnoredReason::ActionNotUsed },
        repository: Some(facts.repository.name.clone()),
        number: Some(number),
        head_sha: Some(facts.head_sha.clone()),
        action: Some(action),
    };
    let Some(action) = parsed.action.as_deref().and_then(PullRequestAction::from_code) else {
        return Ok(parsed);
    };
    let before = match before {
        Some(sha) if action == PullRequestAction::Synchronize => Some(wire::commit(&sha, || "before".to_owned())?),
        Some(_) | None => None,
    };
    let label = match action {
        PullRequestAction::Labeled | PullRequestAction::Unlabeled => label.map(|label| wire::text(label.name)),
        PullRequestAction::Opened
        | PullRequestAction::Reopened
        | PullRequestAction::Synchronize
        | PullRequestAction::Closed
        | PullRequestAction::Edited
        | PullRequestAction::ReadyForReview
        | PullRequestAction::ConvertedToDraft => None,
    };
    Ok(Parsed { fact: WebhookFact::PullRequest { action, facts: Box::new(facts), before, label }, ..parsed })
}

fn repository(event: RepositoryEvent) -> Result<Parsed, BadPayload> {
    let RepositoryEvent { action, repository, installation } = event;
    let facts = repository.facts("repository", installation.map(|installation| installation.id))?;
    let name = facts.name.clone();
    let fact = match RepositoryChange::from_code(&action) {
        Some(change) => WebhookFact::Repository { change, facts },
        None => WebhookFact::Ignored { reason: IgnoredReason::ActionNotUsed },
    };
    Ok(Parsed { fact, action: Some(action), repository: Some(name), number: None, head_sha: None })
}

fn installation(event: InstallationEvent) -> Result<Parsed, BadPayload> {
    let InstallationEvent { action, installation, repositories } = event;
    let fact = match InstallationAction::from_code(&action) {
        Some(action) => WebhookFact::Installation {
            id: wire::positive(installation.id, || "installation.id".to_owned())?,
            action,
            repositories: references(&repositories.unwrap_or_default(), "repositories")?,
        },
        None => WebhookFact::Ignored { reason: IgnoredReason::ActionNotUsed },
    };
    Ok(Parsed { fact, action: Some(action), repository: None, number: None, head_sha: None })
}

fn installation_repositories(event: InstallationRepositoriesEvent) -> Result<Parsed, BadPayload> {
    let InstallationRepositoriesEvent { action, installation, repositories_added, repositories_removed } = event;
    let fact = WebhookFact::InstallationRepositories {
        id: wire::positive(installation.id, || "installation.id".to_owned())?,
        added: references(&repositories_added, "repositories_added")?,
        removed: references(&repositories_removed, "repositories_removed")?,
    };
    Ok(Parsed { fact, action: Some(action), repository: None, number: None, head_sha: None })
}

fn references(repositories: &[wire::Repository], path: &str) -> Result<Vec<RepositoryReference>, BadPayload> {
    let reference = |(index, repository): (usize, &wire::Repository)| {
        let (github_id, name) = repository.reference(&format!("{path}[{index}]"))?;
        Ok(RepositoryReference { github_id, name })
    };
    repositories.iter().enumerate().map(reference).collect()
}

fn ignored(event: AnyEvent, reason: IgnoredReason) -> Parsed {
    Parsed {
        fact: WebhookFact::Ignored { reason },
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
