//! What operators look at: the whole of it, and tokens.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Service, ServiceError, answers::rfc3339, usage::cost_of_an_hour};
use crate::{
    environment::Millis,
    identity::{Identity, IssuedToken, Permission, Role, Scope, Subject, TokenGrant, issue_token, may_operate},
    store::{EventKind, Occupancy, Overdue, Token},
};

/// How the whole of it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// By status, without those that are deleted.
    pub statuses: Vec<(String, i64)>,
    pub teams: Vec<TeamUsage>,
    /// All environments together.
    pub total: TeamUsage,
    /// Environments that wait for a place, the first in the line first: their names.
    pub queue: Vec<String>,
    /// Namespaces that do not go, with what holds them.
    pub stuck: Vec<(String, String)>,
    /// What one process does for all: its name, and when it was done last.
    pub chores: Vec<(String, Option<String>)>,
    /// Processes that work on environments, with their last sign of life.
    pub engines: Vec<(String, String)>,
    /// What was written to GitHub, by installation of the App.
    pub github: Vec<GitHubBudget>,
    pub overdue: Overdue,
    /// Why there are no figures of usage.
    pub unmeasured: Option<String>,
}

/// What the environments of a team use together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TeamUsage {
    pub name: String,
    pub environments: i64,
    pub cpu_millicores: i64,
    pub memory_bytes: i64,
    /// What an hour of that costs, with the currency. None where the operator has no prices.
    pub cost_an_hour: Option<String>,
    /// How many there may be.
    pub at_most: Option<u64>,
}

/// How much of what GitHub lets write is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubBudget {
    pub installation: i64,
    pub writes_this_minute: i64,
    pub writes_this_hour: i64,
    /// Until when GitHub asked for silence.
    pub silent_until: Option<String>,
}

/// One token, without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenSummary {
    pub id: String,
    pub subject: String,
    pub role: String,
    pub teams: Vec<String>,
    /// The only repository or pull request that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// To the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
}

/// A token that somebody wants.
#[derive(Debug, Clone)]
pub struct NewTokenRequest {
    pub subject: Subject,
    pub role: Role,
    pub teams: Vec<String>,
    pub only: Option<Scope>,
    /// For how long it is valid. None: until it is revoked.
    pub expires: Option<Duration>,
}

impl TokenSummary {
    fn of(token: Token, now: Millis) -> Self {
        let Token { id, subject, role, teams, repository, pull_request, expires_at, last_used_at, revoked_at, .. } =
            token;
        let state = match (revoked_at, expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(expires_at)) if expires_at <= now => "expired",
            (None, _) => "valid",
        };
        let only = repository.map(|repository| match pull_request {
            Some(number) => format!("{repository}#{number}"),
            None => repository,
        });
        let (expires_at, last_used_at) = (expires_at.map(rfc3339), last_used_at.map(rfc3339));
        Self { id, subject, role, teams, only, state: state.to_owned(), expires_at, last_used_at }
    }
}

impl Service {
    /// How the whole of it is, for operators.
    pub async fn operation(&self, identity: &Identity) -> Result<Operation, ServiceError> {
        operate(identity)?;
        let store = self.store();
        let Occupancy { statuses, repositories, queue, stuck, overdue } = store.occupancy().await?;
        let mut total = TeamUsage { name: "all".to_owned(), ..TeamUsage::default() };
        let configured = self.teams();
        let mut teams: Vec<TeamUsage> = configured
            .iter()
            .map(|(name, team)| TeamUsage { name: name.clone(), at_most: team.environments, ..TeamUsage::default() })
            .collect();
        for used in &repositories {
            let of_team = |usage: &&mut TeamUsage| {
                let patterns = configured.get(&usage.name).into_iter().flat_map(|team| &team.repositories);
                patterns.into_iter().any(|pattern| pattern.covers(&used.repository))
            };
            for usage in teams.iter_mut().filter(of_team).chain([&mut total]) {
                usage.environments += used.environments;
                usage.cpu_millicores += used.cpu_millicores;
                usage.memory_bytes += used.memory_bytes;
            }
        }
        total.at_most = self.shared.parts.limits.environments;
        let prices = &self.shared.parts.prices;
        for usage in teams.iter_mut().chain([&mut total]) {
            let amount = cost_of_an_hour(prices, usage.cpu_millicores, usage.memory_bytes);
            usage.cost_an_hour = amount.map(|amount| format!("{amount:.4} {}", prices.currency));
        }
        let budgets = store.github_budgets().await?;
        Ok(Operation {
            statuses,
            teams,
            total,
            queue,
            stuck,
            chores: store.chores().await?.into_iter().map(|(name, at)| (name, (at > 0).then(|| rfc3339(at)))).collect(),
            engines: store.engines().await?.into_iter().map(|(id, at)| (id, rfc3339(at))).collect(),
            github: budgets
                .into_iter()
                .map(|budget| GitHubBudget {
                    installation: budget.app_installation_id,
                    writes_this_minute: budget.writes_this_minute,
                    writes_this_hour: budget.writes_this_hour,
                    silent_until: budget.blocked_until.map(rfc3339),
                })
                .collect(),
            overdue,
            unmeasured: self.unmeasured().await?,
        })
    }

    /// The teams that tokens may be for.
    pub fn team_names(&self) -> Vec<String> {
        self.teams().keys().cloned().collect()
    }

    /// All tokens, the oldest first, for operators.
    pub async fn tokens(&self, identity: &Identity) -> Result<Vec<TokenSummary>, ServiceError> {
        operate(identity)?;
        let now = self.store().clock().await?;
        Ok(self.store().list_tokens().await?.into_iter().map(|token| TokenSummary::of(token, now)).collect())
    }

    /// Makes a token, for operators. Nothing shows it again.
    pub async fn create_token(
        &self,
        identity: &Identity,
        request: NewTokenRequest,
    ) -> Result<IssuedToken, ServiceError> {
        match self.issue(identity, request).await {
            Ok(token) => Ok(token),
            Err(error) => Err(self.refuse(identity, EventKind::TokenCreated, "tokens", error).await),
        }
    }

    async fn issue(&self, identity: &Identity, request: NewTokenRequest) -> Result<IssuedToken, ServiceError> {
        let NewTokenRequest { subject, role, teams, only, expires } = request;
        operate(identity)?;
        if let Some(unknown) = teams.iter().find(|team| !self.teams().contains_key(*team)) {
            let rule = format!("there is none called {unknown:?}; add [teams.{unknown}] to the configuration");
            return Err(ServiceError::invalid("teams", rule));
        }
        if teams.is_empty() && role != Role::Operator {
            return Err(ServiceError::invalid("teams", format!("a {role} without a team sees nothing; name one")));
        }
        let expires_at = match expires {
            None => None,
            Some(lasts) => {
                let millis = Millis::try_from(lasts.as_millis()).unwrap_or(Millis::MAX);
                Some(self.store().clock().await?.saturating_add(millis))
            }
        };
        let grant = TokenGrant { subject, role, teams, scope: only, expires_at };
        Ok(issue_token(self.store(), grant, identity).await?)
    }

    /// Ends a token's validity, for operators.
    pub async fn revoke_token(&self, identity: &Identity, id: &str) -> Result<(), ServiceError> {
        let revoke = async {
            operate(identity)?;
            let is_revoked = self.store().revoke_token(id, identity.event(EventKind::TokenRevoked, id)).await?;
            if is_revoked { Ok(()) } else { Err(ServiceError::no_token()) }
        };
        match revoke.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse(identity, EventKind::TokenRevoked, "tokens", error).await),
        }
    }

    /// Whether `identity` may have everything looked at and repaired, as operators may.
    pub async fn may_repair(&self, identity: &Identity) -> Result<(), ServiceError> {
        match operate(identity) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse(identity, EventKind::RepairRequested, "everything", error).await),
        }
    }

    async fn refuse(&self, identity: &Identity, kind: EventKind, detail: &str, error: ServiceError) -> ServiceError {
        if let Some(refusal) = error.code.refusal()
            && let Err(failed) = self.store().record_refusal(None, &identity.event(kind, detail), refusal).await
        {
            tracing::warn!(error = &failed as &dyn std::error::Error, "a refusal cannot be recorded");
        }
        error
    }
}

fn operate(identity: &Identity) -> Result<(), ServiceError> {
    match may_operate(identity) {
        Permission::Allowed => Ok(()),
        Permission::Denied | Permission::Invisible => Err(ServiceError::operators_only(identity.role)),
    }
}
