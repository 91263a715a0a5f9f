//! What changes something: each is stored as a fact with its event, and carried out by the next pass.

use sha2::{Digest, Sha256};

use super::{
    ChangeRequest, CreateRequest, EnvironmentReference, EnvironmentSummary, ExpectedCommit, IdempotencyKey,
    KeepRequest, Kept, Repository, Service, ServiceError, answers, now,
};
use crate::{
    environment::{CommitSha, PullRequestState, RepositoryName},
    github::{GitHubError, RepositoryAccess},
    identity::{Action, Identity, Permission, may},
    store::{Environment, EventKind, Keyed, Overview, Request, StoreError},
};

/// A change that somebody asks for.
struct Change<'a> {
    identity: &'a Identity,
    action: Action,
    kind: EventKind,
    environment: EnvironmentReference,
    expected: Option<CommitSha>,
    key: Option<IdempotencyKey>,
    /// What tells it from another change of the same kind.
    detail: Option<String>,
    /// What is said where the environment is not in a state for it. None: it is as if it was done.
    otherwise: fn(&Environment) -> Option<ServiceError>,
}

impl Service {
    /// Asks for everything of an environment to go. Where it is going or gone already, the answer is the same.
    pub async fn delete(
        &self,
        identity: &Identity,
        request: ChangeRequest,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let change = Change::of(identity, Action::Delete, EventKind::DeletionRequested, request);
        self.change(change, async |overview, request| {
            self.store().request_deletion(&overview.environment.id, request).await
        })
        .await
    }

    /// Asks for a new round of attempts at the head commit, whose deployment failed, or for what sleeps to wake.
    pub async fn retry(&self, identity: &Identity, request: ChangeRequest) -> Result<EnvironmentSummary, ServiceError> {
        let mut change = Change::of(identity, Action::Retry, EventKind::RetryRequested, request);
        change.otherwise = |environment| Some(ServiceError::not_failed(environment.status, environment.reason));
        self.change(change, async |overview, request| {
            self.store().request_retry(&overview.environment.id, request).await
        })
        .await
    }

    /// Keeps an environment for so long at least, from now on.
    pub async fn keep(&self, identity: &Identity, request: KeepRequest) -> Result<Kept, ServiceError> {
        let KeepRequest { environment, duration, expected_commit, idempotency_key } = request;
        let duration = duration.unwrap_or_default();
        let request = ChangeRequest { environment, expected_commit, idempotency_key };
        let mut change = Change::of(identity, Action::Keep, EventKind::KeepingRequested, request);
        change.detail = Some(format!("for {} s", duration.seconds()));
        change.otherwise = |environment| Some(ServiceError::nothing_to_keep(environment.status));
        let (limits, reference) = (&self.shared.parts.limits, change.environment.clone());
        let until = limits.kept_until(self.store().clock().await?, duration.into());
        let keep = async |overview: &Overview, request| {
            self.store().request_keeping(&overview.environment.id, until, request).await
        };
        let summary = self.change(change, keep).await?;
        let overview = self.find(identity, &reference, Action::Inspect).await?;
        Ok(Kept {
            summary,
            expires_at: answers::expires_at(&overview.environment),
            note: limits.shortfall(duration.into()),
        })
    }

    /// Asks for an environment of an open pull request, whatever its recipe leaves out and whatever was held back. One
    /// that nobody told previewd of is read from GitHub.
    pub async fn create(
        &self,
        identity: &Identity,
        request: CreateRequest,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let CreateRequest { repository: Repository(repository), pull_request, expected_commit, idempotency_key } =
            request;
        let number = pull_request.get();
        let environment = EnvironmentReference::PullRequest { repository: repository.clone(), number };
        if let Err(error) = self.learn_of(identity, &repository, number).await {
            self.note_refusal(identity, EventKind::DeploymentRequested, &environment, &error).await;
            return Err(error);
        }
        self.ask_for_deployment(identity, ChangeRequest { environment, expected_commit, idempotency_key }).await
    }

    /// The same for an environment that is known, however it is named.
    pub async fn create_again(
        &self,
        identity: &Identity,
        environment: EnvironmentReference,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let request = ChangeRequest { environment, expected_commit: None, idempotency_key: None };
        self.ask_for_deployment(identity, request).await
    }

    async fn ask_for_deployment(
        &self,
        identity: &Identity,
        request: ChangeRequest,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let mut change = Change::of(identity, Action::Create, EventKind::DeploymentRequested, request);
        change.otherwise = |_| Some(ServiceError::closed());
        self.change(change, async |overview, request| {
            self.store().request_deployment(&overview.environment.id, request).await
        })
        .await
    }

    /// Lets a fork's commit run, where it is still the head.
    pub async fn approve(
        &self,
        identity: &Identity,
        environment: EnvironmentReference,
        commit: CommitSha,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let expected_commit = Some(ExpectedCommit(commit.clone()));
        let request = ChangeRequest { environment, expected_commit, idempotency_key: None };
        let change = Change::of(identity, Action::Approve, EventKind::Approved, request);
        self.change(change, async |overview, request| {
            self.store().approve(&overview.environment.id, &commit, request).await
        })
        .await
    }

    /// Stores what GitHub says of a pull request that previewd does not know.
    async fn learn_of(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        number: i64,
    ) -> Result<(), ServiceError> {
        let name = || EnvironmentReference::PullRequest { repository: repository.clone(), number };
        match may(identity, Action::Create, repository, number) {
            Permission::Allowed => {}
            Permission::Denied => return Err(ServiceError::denied(identity.role, Action::Create)),
            Permission::Invisible => return Err(ServiceError::no_pull_request(&name())),
        }
        if self.store().find_environment_of(repository, number).await?.is_some() {
            return Ok(());
        }
        let github = self.shared.parts.github.as_ref().ok_or_else(ServiceError::no_github)?;
        let access = RepositoryAccess { name: repository.clone(), app_installation_id: None };
        let facts = match github.pull_request(&access, number).await {
            Ok(facts) => facts,
            Err(GitHubError::NotFound { .. }) => return Err(ServiceError::no_pull_request(&name())),
            Err(error) => return Err(error.into()),
        };
        // GitHub answers under the name that the repository has today, which may be another team's.
        if may(identity, Action::Create, &facts.repository.name, number) != Permission::Allowed {
            return Err(ServiceError::no_pull_request(&name()));
        }
        if facts.state != PullRequestState::Open {
            return Err(ServiceError::closed());
        }
        Ok(self.store().record_pull_request(facts).await?)
    }

    /// Carries a change as far as the row: who may ask, for which commit, and once. What is refused is noted.
    async fn change(
        &self,
        change: Change<'_>,
        ask: impl AsyncFnOnce(&Overview, Request) -> Result<bool, StoreError>,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let (identity, kind, reference) = (change.identity, change.kind, change.environment.clone());
        let answer = self.carry(change, ask).await;
        if let Err(error) = &answer {
            self.note_refusal(identity, kind, &reference, error).await;
        }
        answer
    }

    async fn carry(
        &self,
        change: Change<'_>,
        ask: impl AsyncFnOnce(&Overview, Request) -> Result<bool, StoreError>,
    ) -> Result<EnvironmentSummary, ServiceError> {
        let Change { identity, action, kind, environment: reference, expected, key, detail, otherwise } = change;
        let overview = self.find(identity, &reference, action).await?;
        let keyed = key.map(|key| Keyed {
            subject: identity.subject.clone(),
            request_digest: digest(kind, &overview.environment.id, expected.as_ref(), detail.as_deref()),
            key: key.into(),
        });
        if let Some(keyed) = &keyed {
            match self.store().request_of(keyed).await? {
                // The same was asked for before.
                Some(before) if before == keyed.request_digest => return self.summary(&overview, now()).await,
                Some(_) => return Err(ServiceError::key_of_another_request()),
                None => {}
            }
        }
        refuse_stale(&overview, expected.as_ref())?;
        let event = identity.event(kind, detail.unwrap_or_else(|| overview.pull_request.facts.head_sha.to_string()));
        let asked = ask(&overview, Request { keyed, expected: expected.clone(), ..event.into() }).await?;
        let overview = self.find(identity, &reference, action).await?;
        if asked {
            let environment = answers::name_of(&overview.pull_request.facts);
            tracing::info!(environment, actor = identity.subject, "{kind}");
            return self.summary(&overview, now()).await;
        }
        // A push may have come between the look and the request.
        refuse_stale(&overview, expected.as_ref())?;
        match otherwise(&overview.environment) {
            Some(error) => Err(error),
            None => self.summary(&overview, now()).await,
        }
    }

    /// Keeps who asked for what and did not get it. What was not done because something is away is no refusal.
    pub(crate) async fn note_refusal(
        &self,
        identity: &Identity,
        kind: EventKind,
        reference: &EnvironmentReference,
        error: &ServiceError,
    ) {
        let Some(refusal) = error.code.refusal() else { return };
        tracing::info!(environment = %reference, actor = identity.subject, %refusal, "{kind} refused");
        let noted = async {
            let id = self.look_up(reference).await?.map(|overview| overview.environment.id);
            // Of what is not there only its name is known.
            let event = identity.event(kind, reference.to_string());
            self.store().record_refusal(id.as_deref(), &event, refusal).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a refusal cannot be recorded");
        }
    }
}

impl<'a> Change<'a> {
    fn of(identity: &'a Identity, action: Action, kind: EventKind, request: ChangeRequest) -> Self {
        let ChangeRequest { environment, expected_commit, idempotency_key } = request;
        let expected = expected_commit.map(|ExpectedCommit(commit)| commit);
        Self { identity, action, kind, environment, expected, key: idempotency_key, detail: None, otherwise: |_| None }
    }
}

fn digest(kind: EventKind, environment_id: &str, expected: Option<&CommitSha>, detail: Option<&str>) -> String {
    let request = serde_json::json!([kind.code(), environment_id, expected.map(CommitSha::as_str), detail]);
    hex::encode(Sha256::digest(request.to_string()))
}

fn refuse_stale(overview: &Overview, expected: Option<&CommitSha>) -> Result<(), ServiceError> {
    let head = &overview.pull_request.facts.head_sha;
    match expected {
        Some(expected) if expected != head => Err(ServiceError::stale(head)),
        Some(_) | None => Ok(()),
    }
}
