//! Lists and details for people, who page through and look at everything.

use serde::Serialize;

use super::{
    DEPLOYMENTS_SHOWN, DeploymentSummary, EnvironmentDetail, EnvironmentReference, EnvironmentSummary, EventSummary,
    Service, ServiceError, Standing, Used, answers::rfc3339, now,
};
use crate::{
    cluster::{Owner, PodState},
    environment::{Audience, EnvironmentStatus, PullRequestState, Reason, RepositoryName},
    identity::{Action, Identity, Permission, may},
    store::{EnvironmentFilter, EnvironmentOrder, ObjectKey, Overview, UsageBucket},
};

/// Environments of a page.
pub const ROWS_PER_PAGE: u64 = 25;
const DEPLOYMENTS: i64 = 20;
const EVENTS: i64 = 100;

/// Which page of which list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// None: all but deleted.
    pub status: Option<EnvironmentStatus>,
    pub team: Option<String>,
    pub repository: Option<RepositoryName>,
    pub text: Option<String>,
    pub order: EnvironmentOrder,
    /// From 1. One beyond the end is the last.
    pub page: u64,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { status: None, team: None, repository: None, text: None, order: EnvironmentOrder::Newest, page: 1 }
    }
}

impl PageRequest {
    pub fn is_filtered(&self) -> bool {
        let Self { status, team, repository, text, order: _, page: _ } = self;
        status.is_some() || team.is_some() || repository.is_some() || text.is_some()
    }
}

/// A page of environments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnvironmentRows {
    /// Each with when it was created, RFC 3339.
    pub rows: Vec<(EnvironmentSummary, String)>,
    /// On all pages together.
    pub total: u64,
    pub page: u64,
    pub pages: u64,
    /// The teams that may be asked for.
    pub teams: Vec<String>,
    /// Why there are no figures of usage.
    pub unmeasured: Option<String>,
}

/// All that is known of one environment.
#[derive(Debug, Clone)]
pub struct Dossier {
    pub detail: EnvironmentDetail,
    pub standing: Standing,
    /// The last hundred, newest first.
    pub events: Vec<EventSummary>,
    pub deployments: Vec<DeploymentSummary>,
    pub objects: Vec<ObjectKey>,
    /// None: the cluster does not tell now.
    pub pods: Option<Vec<PodState>>,
    /// The last day, oldest first.
    pub usage: Vec<UsageBucket>,
    pub can: Possible,
}

/// What may be done with an environment now, by whoever looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Possible {
    pub retry: bool,
    pub create: bool,
    pub keep: bool,
    pub delete: bool,
    pub approve: bool,
}

impl Service {
    /// One page of a list of the environments that exist for `identity`.
    pub async fn page(&self, identity: &Identity, request: PageRequest) -> Result<EnvironmentRows, ServiceError> {
        let PageRequest { status, team, repository, text, order, page } = request;
        let configured = self.teams();
        // One that is not configured has no repositories.
        let of_team = team.map(|team| {
            let patterns = configured.get(&team).into_iter().flat_map(|team| &team.repositories);
            patterns.map(|pattern| pattern.as_str().to_owned()).collect()
        });
        let rows = i64::try_from(ROWS_PER_PAGE).unwrap_or(i64::MAX);
        let filter = EnvironmentFilter {
            statuses: status.into_iter().collect(),
            repository,
            visible: identity.visible_patterns(),
            of_team,
            pull_request: identity.pull_request,
            text,
            after: None,
            limit: rows,
        };
        let total = self.store().count_environments(&filter).await?;
        let pages = total.div_ceil(ROWS_PER_PAGE).max(1);
        let page = page.clamp(1, pages);
        let offset = i64::try_from((page - 1) * ROWS_PER_PAGE).unwrap_or(i64::MAX);
        let found = self.store().page_of_environments(&filter, order, offset).await?;
        let now = now();
        let ids: Vec<&str> = found.iter().map(|overview| overview.environment.id.as_str()).collect();
        let mut figures = self.figures(&ids, now).await?;
        let mut rows = Vec::new();
        for overview in &found {
            let figures = figures.remove(&overview.environment.id).unwrap_or_default();
            let summary = self.summary(overview, now).await?.with(figures);
            rows.push((summary, rfc3339(overview.environment.created_at)));
        }
        let teams = match &identity.visible {
            None => configured.keys().cloned().collect(),
            Some(_) => identity.teams.clone(),
        };
        let unmeasured = self.unmeasured().await?;
        Ok(EnvironmentRows { rows, total, page, pages, teams, unmeasured })
    }

    /// Everything about one environment. What only the cluster knows is left out where it does not answer.
    pub async fn dossier(
        &self,
        identity: &Identity,
        reference: &EnvironmentReference,
    ) -> Result<Dossier, ServiceError> {
        let overview = self.find(identity, reference, Action::Inspect).await?;
        let (id, now) = (&overview.environment.id, now());
        let deployments: Vec<_> =
            self.store().deployments_of(id, DEPLOYMENTS).await?.into_iter().map(DeploymentSummary::from).collect();
        let Used { figures, summary, buckets } = self.usage(id, now).await?;
        let summarized = self.summary(&overview, now).await?;
        let trouble = self.store().trouble(id).await?;
        let standing = Standing::of(&overview, &summarized, trouble.as_ref(), now, Audience::Page);
        let newest = deployments.iter().take(usize::try_from(DEPLOYMENTS_SHOWN).unwrap_or_default()).cloned().collect();
        let detail = EnvironmentDetail::of(summarized.with(figures), &overview, newest, summary);
        let events = self.store().events_of(id, EVENTS).await?;
        let is_there = overview.environment.status != EnvironmentStatus::Deleted;
        let pods = match &self.shared.parts.cluster {
            Some(cluster) if is_there => {
                let owner =
                    Owner { installation_id: self.installation_id().await?.to_owned(), environment_id: id.clone() };
                cluster.pods(&overview.environment.namespace, &owner).await.ok()
            }
            Some(_) => Some(Vec::new()),
            None => None,
        };
        Ok(Dossier {
            detail,
            standing,
            events: events.into_iter().map(EventSummary::within_environment).collect(),
            deployments,
            objects: self.store().inventory(id).await?,
            pods,
            usage: buckets,
            can: self.possible(identity, &overview),
        })
    }

    fn possible(&self, identity: &Identity, overview: &Overview) -> Possible {
        let (environment, facts) = (&overview.environment, &overview.pull_request.facts);
        let allowed = |action| may(identity, action, &facts.repository.name, facts.number) == Permission::Allowed;
        let is_going = matches!(environment.status, EnvironmentStatus::Deleting | EnvironmentStatus::Deleted);
        let is_left_out = environment.status == EnvironmentStatus::Pending
            && matches!(
                environment.reason,
                Some(
                    Reason::NotLabelled
                        | Reason::LabelExcludes
                        | Reason::BranchNotIncluded
                        | Reason::HeadNotIncluded
                        | Reason::AuthorNotIncluded
                        | Reason::PathsNotIncluded
                        | Reason::Draft
                )
            );
        let is_open = facts.state == PullRequestState::Open;
        Possible {
            retry: allowed(Action::Retry)
                && (environment.status == EnvironmentStatus::Failed || environment.reason == Some(Reason::Asleep)),
            create: allowed(Action::Create)
                && is_open
                && (environment.status == EnvironmentStatus::Deleted || is_left_out),
            keep: allowed(Action::Keep) && !is_going,
            delete: allowed(Action::Delete) && !is_going,
            approve: allowed(Action::Approve) && environment.reason == Some(Reason::AwaitingApproval),
        }
    }
}
