//! Explaining a pull request's preview in one answer: what arrived, what was decided and why, what was tried, and what
//! would change it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DeploymentSummary, EnvironmentReference, EnvironmentSummary, EventSummary, ExplainRequest, Repository, Service,
    ServiceError,
    answers::{expires_at, plain, rfc3339},
    now,
};
use crate::{
    environment::{Audience, EnvironmentStatus, Millis, PullRequestState, RepositoryName, remedy, short_commit},
    github::{GitHubError, RepositoryAccess},
    identity::{Action, Identity, Permission, may},
    store::{Overview, Trouble},
    text::{age, capitalized},
};

/// How much of each history is shown.
const DEPLOYMENTS: i64 = 3;
const DELIVERIES: i64 = 5;
const EVENTS: i64 = 10;
/// What went wrong this long ago may still be why nothing is seen to happen.
const RECENT: Millis = 120_000;

/// Why a pull request's preview is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// `owner/name#number`.
    pub pull_request: String,
    /// Where it stands and why, in a sentence or two.
    pub explanation: String,
    /// What would change it.
    pub next_action: String,
    /// What else is the matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentSummary>,
    /// RFC 3339: when it goes for want of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The last three, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DeploymentSummary>,
    /// The last ten steps of its life, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventSummary>,
    /// The last five webhooks of the pull request, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<DeliverySummary>,
}

/// Where an environment stands, in sentences.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Where it stands and why.
    pub explanation: String,
    /// What would change it.
    pub next_action: String,
    /// What else is the matter.
    pub findings: Vec<String>,
    /// RFC 3339: when it goes for want of use.
    pub expires_at: Option<String>,
}

impl Standing {
    pub(super) fn of(
        overview: &Overview,
        summary: &EnvironmentSummary,
        trouble: Option<&Trouble>,
        now: Millis,
        audience: Audience,
    ) -> Self {
        let Overview { environment, pull_request } = overview;
        let explanation = state(summary);
        let next_action = remedy(summary.status, summary.reason, audience);
        let mut findings = Vec::new();
        findings.extend(trouble_to_show(environment.failures, trouble, now));
        if environment.comment_id.is_none() && environment.comment_digest.is_some() {
            findings.push("GitHub does not let previewd comment on the pull request.".to_owned());
        }
        if environment.requested {
            findings.push("Somebody asked for it, so the triggers do not count.".to_owned());
        }
        if let Some(name) = overview.renamed_label() {
            findings.push(format!(
                "The label that its recipe asks for is called {:?} by now; it stays, and new ones need the new name in the \
                 recipe.",
                plain(name),
            ));
        }
        if pull_request.facts.from_fork {
            findings.push("The pull request comes from a fork: its recipe is the base branch's.".to_owned());
        }
        let expires_at = expires_at(environment);
        Self { explanation, next_action, findings, expires_at }
    }
}

/// One webhook that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliverySummary {
    /// RFC 3339.
    pub at: String,
    /// `event` or `event.action`.
    pub event: String,
    /// `recorded`, or why it was ignored.
    pub outcome: String,
}

impl Service {
    /// Explains the preview of a pull request, one without a preview too.
    pub async fn explain(&self, identity: &Identity, request: ExplainRequest) -> Result<Explanation, ServiceError> {
        let ExplainRequest { repository: Repository(repository), pull_request } = request;
        let number = pull_request.get();
        let name = EnvironmentReference::PullRequest { repository: repository.clone(), number };
        if may(identity, Action::Inspect, &repository, number) != Permission::Allowed {
            return Err(ServiceError::no_pull_request(&name));
        }
        let arrived = self.store().deliveries_of(&repository, number, DELIVERIES).await?;
        let deliveries = arrived
            .into_iter()
            .map(|delivery| DeliverySummary {
                at: rfc3339(delivery.received_at),
                event: match &delivery.action {
                    Some(action) => plain(&format!("{}.{action}", delivery.event)),
                    None => plain(&delivery.event),
                },
                outcome: delivery.reason.unwrap_or(delivery.outcome),
            })
            .collect();
        let mut explanation = match self.store().find_environment_of(&repository, number).await? {
            Some(overview) => self.explain_environment(&overview).await?,
            None => self.explain_absence(identity, &repository, number).await?,
        };
        explanation.deliveries = deliveries;
        if !self.store().has_live_engine().await? {
            explanation.findings.push("No engine of previewd is alive, so nothing is worked on.".to_owned());
        }
        Ok(explanation)
    }

    async fn explain_environment(&self, overview: &Overview) -> Result<Explanation, ServiceError> {
        let id = &overview.environment.id;
        let now = now();
        let summary = self.summary(overview, now).await?;
        let trouble = self.store().trouble(id).await?;
        let Standing { explanation, next_action, findings, expires_at } =
            Standing::of(overview, &summary, trouble.as_ref(), now, Audience::Tools);
        let figures = self.figures(&[id.as_str()], now).await?.remove(id).unwrap_or_default();
        let summary = summary.with(figures);
        let events = self.store().events_of(id, EVENTS).await?;
        let deployments = self.store().deployments_of(id, DEPLOYMENTS).await?;
        Ok(Explanation {
            pull_request: summary.environment.clone(),
            explanation,
            next_action,
            findings,
            expires_at,
            environment: Some(summary),
            deployments: deployments.into_iter().map(DeploymentSummary::from).collect(),
            events: events.into_iter().map(EventSummary::within_environment).collect(),
            deliveries: Vec::new(),
        })
    }

    /// Why nothing is known of a pull request.
    async fn explain_absence(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        number: i64,
    ) -> Result<Explanation, ServiceError> {
        let name = EnvironmentReference::PullRequest { repository: repository.clone(), number };
        let github = self.shared.parts.github.as_ref().ok_or_else(ServiceError::no_github)?;
        let access = RepositoryAccess { name: repository.clone(), app_installation_id: None };
        let facts = match github.pull_request(&access, number).await {
            Ok(facts) => facts,
            Err(GitHubError::NotFound { .. }) => return Err(ServiceError::no_pull_request(&name)),
            Err(error) => return Err(error.into()),
        };
        // GitHub answers under the name that the repository has today, which may be another team's.
        if may(identity, Action::Inspect, &facts.repository.name, number) != Permission::Allowed {
            return Err(ServiceError::no_pull_request(&name));
        }
        let mut findings = Vec::new();
        let (explanation, next_action) = match facts.state {
            PullRequestState::Closed | PullRequestState::Merged => (
                "The pull request is closed, and previewd never had a preview of it.".to_owned(),
                "Nothing: only open pull requests have previews.".to_owned(),
            ),
            PullRequestState::Open => {
                findings.push(self.explain_silence(repository, facts.repository.github_id).await?);
                (
                    "The pull request is open, but no webhook of it ever arrived.".to_owned(),
                    "Ask for it with create_preview_environment; then mend the webhook, so that the next one comes by itself."
                        .to_owned(),
                )
            }
        };
        Ok(Explanation {
            pull_request: name.to_string(),
            explanation,
            next_action,
            findings,
            environment: None,
            expires_at: None,
            deployments: Vec::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
        })
    }

    /// What became of the webhooks that should have come.
    async fn explain_silence(&self, repository: &RepositoryName, github_id: i64) -> Result<String, ServiceError> {
        let last = self.store().last_delivery_of(repository).await?;
        let heard = match last {
            Some(at) => format!("The last webhook from {repository} arrived at {}.", rfc3339(at)),
            None => format!("No webhook from {repository} ever arrived."),
        };
        let Some(github) = &self.shared.parts.github else { return Ok(heard) };
        // Only an App may look at its deliveries.
        let sent = match github.last_delivery_to(github_id).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::warn!(%error, "the App's deliveries cannot be read");
                None
            }
        };
        Ok(match sent {
            Some(sent) if !sent.arrived => {
                format!("{heard} GitHub's last delivery of it failed with {} at {}.", sent.status, sent.at)
            }
            Some(sent) => {
                format!("{heard} GitHub's last delivery of it was answered with {} at {}.", sent.status, sent.at)
            }
            None => format!("{heard} Is previewd's webhook set up there, for the event pull_request?"),
        })
    }
}

/// What kept the passes over an environment from their work, where it still does.
fn trouble_to_show(failures: i64, trouble: Option<&Trouble>, now: Millis) -> Option<String> {
    let said =
        trouble.map(|Trouble { what, at }| format!("{}, {} ago", capitalized(&plain(what)), age((now - at) / 1_000)));
    let is_recent = trouble.is_some_and(|trouble| now - trouble.at < RECENT);
    match (failures, said) {
        (0, Some(said)) if is_recent => Some(format!("{said}; it goes on by itself.")),
        (0, _) => None,
        (1, Some(said)) => Some(format!("{said}; it is tried again.")),
        (_, Some(said)) => Some(format!("{said}; {failures} tries in a row failed, and it is tried again.")),
        (_, None) => Some(format!("The last {failures} tries of something failed; it is tried again.")),
    }
}

/// Where an environment stands.
fn state(summary: &EnvironmentSummary) -> String {
    let EnvironmentSummary { status, reason, message, commit, serving_commit, url, .. } = summary;
    let commit_is = format!("Commit {} is {status}", short_commit(commit));
    let said = match message {
        None if *status == EnvironmentStatus::Running && reason.is_none() => {
            return format!("{commit_is} at {}", url.as_deref().unwrap_or_default());
        }
        None => format!("{commit_is}."),
        Some(message) => format!("{commit_is}: {message}"),
    };
    match serving_commit {
        Some(serving) if serving != commit => format!("{said} Commit {} still serves.", short_commit(serving)),
        Some(_) if *status == EnvironmentStatus::Failed => format!("{said} Its URL still answers."),
        Some(_) | None => said,
    }
}

#[cfg(test)]
mod tests;
