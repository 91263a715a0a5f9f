//! What can be asked for, and who may ask: the same for MCP, the command line and the dashboard. Reads are answered
//! from the rows and cost the API server nothing, logs and the pods of a detail page excepted; what changes something
//! is stored as a fact, and the next pass carries it out.

mod answers;
mod changes;
mod error;
mod events;
mod explain;
mod follow;
mod latest;
mod logs;
mod operation;
mod page;
mod rendering;
mod requests;
mod usage;
mod wait;

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{OnceCell, Semaphore};

pub use answers::{
    Addresses, ContainerLogs, DeploymentSummary, EnvironmentDetail, EnvironmentList, EnvironmentLogs,
    EnvironmentSummary, Kept, PullRequestSummary, ReadinessSummary, rfc3339,
};
pub use error::{ErrorCode, ServiceError};
pub use events::{EventList, EventSummary, EventsRequest};
pub use explain::{DeliverySummary, Explanation, Standing};
pub use follow::{Followed, LogEvent};
pub use logs::merged;
pub use operation::{GitHubBudget, NewTokenRequest, Operation, TeamUsage, TokenSummary};
pub use page::{Dossier, EnvironmentRows, PageRequest, Possible};
pub use rendering::{CheckRecipeRequest, RecipeRenderer, RecipeVerdict, RenderTarget, SAMPLE_COMMIT};
pub use requests::{
    ChangeRequest, ContainerName, CreateRequest, Cursor, EnvironmentReference, ExpectedCommit, ExplainRequest,
    GetRequest, IdempotencyKey, KeepDuration, KeepRequest, ListRequest, LogsRequest, Number, Repository, SearchText,
    Since, Tail, WaitRequest, WaitUntil, parse_request,
};
use usage::Used;
pub use usage::{Cost, UsageSummary};
pub use wait::Waited;

use crate::{
    cluster::{Cluster, ClusterError, LogRequest, Logs, Owner},
    config::{Limits, Prices},
    environment::{CommitSha, EnvironmentStatus, Millis},
    github::GitHub,
    identity::{Action, Identity, Permission, Teams, TeamsInForce, may},
    masking::Mask,
    store::{Environment, EnvironmentFilter, Overview, Store, StoreError},
    text::tried_again,
};

/// An answer is this long at most where the caller did not ask for more. Bytes of JSON, the frame around it included.
pub const DEFAULT_ANSWER: usize = 4 * 1024;
/// An answer is this long at most. Some clients cut what is longer, in the middle.
pub const LONGEST_ANSWER: usize = 48_000;
/// What the frame of an answer needs: the names around a list or a log, and a transport's own words.
const FRAME: usize = 600;
const ENVIRONMENTS_PER_PAGE: i64 = 20;
const DEPLOYMENTS_SHOWN: i64 = 5;

/// Everything that can be asked for. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// What answers are made with.
pub struct Parts {
    pub store: Store,
    /// None: previewd was started without one, and only logs need it.
    pub cluster: Option<Cluster>,
    /// None: previewd was started without one, and only pull requests that it does not know need it.
    pub github: Option<GitHub>,
    pub limits: Limits,
    pub renderer: RecipeRenderer,
    pub prices: Prices,
    pub addresses: Addresses,
    pub teams: TeamsInForce,
}

struct Shared {
    parts: Parts,
    installation_id: OnceCell<String>,
    feeds: follow::Feeds,
    /// Recipes that are looked at for somebody.
    checks: Semaphore,
}

impl Service {
    pub fn new(parts: Parts) -> Self {
        let (installation_id, feeds) = Default::default();
        let checks = Semaphore::new(rendering::CHECKS_AT_ONCE);
        Self { shared: Arc::new(Shared { parts, installation_id, feeds, checks }) }
    }

    /// A page of the environments that exist for `identity`, newest first: as many as fit into [`DEFAULT_ANSWER`].
    pub async fn list(&self, identity: &Identity, request: ListRequest) -> Result<EnvironmentList, ServiceError> {
        let ListRequest { status, repository, cursor } = request;
        let mut filter = EnvironmentFilter {
            statuses: status,
            repository: repository.map(|Repository(name)| name),
            visible: identity.visible_patterns(),
            of_team: None,
            pull_request: identity.pull_request,
            text: None,
            after: cursor.map(|cursor| cursor.as_str().to_owned()),
            limit: ENVIRONMENTS_PER_PAGE,
        };
        let (page, mut more) = self.store().list_environments(&filter).await?;
        let now = now();

        let mut environments = Vec::new();
        let mut last = None;
        let mut room = DEFAULT_ANSWER - FRAME;
        let ids: Vec<&str> = page.iter().map(|overview| overview.environment.id.as_str()).collect();
        let mut figures = self.figures(&ids, now).await?;
        let usage_unavailable = self.unmeasured().await?;
        for overview in &page {
            let figures = figures.remove(&overview.environment.id).unwrap_or_default();
            let summary = self.summary(overview, now).await?.with(figures);
            let bytes = serde_json::to_string(&summary).map_or(0, |json| json.len()) + 1;
            // One that is too long by itself is shown nevertheless, or the list could not go on after it.
            if bytes > room && !environments.is_empty() {
                more = true;
                break;
            }
            room = room.saturating_sub(bytes);
            last = Some(overview.environment.id.clone());
            environments.push(summary);
        }
        if !more {
            return Ok(EnvironmentList { environments, left_out: 0, next_cursor: None, usage_unavailable });
        }
        filter.after.clone_from(&last);
        let left_out = self.store().count_environments(&filter).await?;
        Ok(EnvironmentList { environments, left_out, next_cursor: last, usage_unavailable })
    }

    /// One environment with its last five deployments.
    pub async fn get(&self, identity: &Identity, request: GetRequest) -> Result<EnvironmentDetail, ServiceError> {
        let overview = self.find(identity, &request.environment, Action::Inspect).await?;
        let (id, now) = (&overview.environment.id, now());
        let deployments = self.store().deployments_of(id, DEPLOYMENTS_SHOWN).await?;
        let Used { figures, summary, buckets: _ } = self.usage(id, now).await?;
        let deployments = deployments.into_iter().map(DeploymentSummary::from).collect();
        let summarized = self.summary(&overview, now).await?.with(figures);
        Ok(EnvironmentDetail::of(summarized, &overview, deployments, summary))
    }

    /// The end of what the environment's containers printed. The oldest lines are left out where there are more than an
    /// answer may hold: [`LONGEST_ANSWER`] where `tail` is given, else [`DEFAULT_ANSWER`].
    pub async fn logs(&self, identity: &Identity, request: LogsRequest) -> Result<EnvironmentLogs, ServiceError> {
        let budget = if request.tail.is_some() { LONGEST_ANSWER } else { DEFAULT_ANSWER };
        self.logs_within(identity, request, budget).await
    }

    /// The same with every line that is asked for: for people, who have room.
    pub async fn whole_logs(&self, identity: &Identity, request: LogsRequest) -> Result<EnvironmentLogs, ServiceError> {
        self.logs_within(identity, request, usize::MAX).await
    }

    /// `budget`: bytes of the answer.
    async fn logs_within(
        &self,
        identity: &Identity,
        request: LogsRequest,
        budget: usize,
    ) -> Result<EnvironmentLogs, ServiceError> {
        let LogsRequest { environment, tail, timestamps, container, previous, since, contains } = request;
        let overview = self.find(identity, &environment, Action::Inspect).await?;
        let request = LogRequest {
            tail: tail.unwrap_or(Tail::DEFAULT).lines(),
            timestamps,
            container: container.map(|name| name.as_str().to_owned()),
            previous,
            since: since.map(Into::into),
            contains: contains.map(Into::into),
        };
        let mask = self.mask(&overview).await?;
        let (logs, kept_of) = self.printed(&overview, &request, &mask).await?;
        // Whoever reads its logs uses it. Should this be missed, the next use is not.
        let Environment { id, lifetime, .. } = &overview.environment;
        if let Err(error) = self.store().record_use(id, lifetime.counts_a_use_after()).await {
            tracing::debug!(%error, "it is not known that an environment was used");
        }
        let frames: usize = logs.containers.iter().map(|log| log.pod.len() + log.container.len() + 120).sum();
        let (containers, lines_left_out) = logs::fit(logs.containers, budget.saturating_sub(FRAME + frames));
        Ok(EnvironmentLogs {
            environment: answers::name_of(&overview.pull_request.facts),
            namespace: overview.environment.namespace.to_string(),
            status: overview.environment.status,
            note: overview.environment.message.filter(|_| containers.is_empty()),
            containers,
            kept_of: kept_of.map(|commit| commit.to_string()),
            lines_left_out,
            containers_left_out: logs.omitted as u64,
        })
    }

    /// Whether the environment exists for `identity`, and they may look at it.
    pub async fn may_inspect(&self, identity: &Identity, reference: &EnvironmentReference) -> Result<(), ServiceError> {
        self.find(identity, reference, Action::Inspect).await.map(drop)
    }

    /// The environment that `reference` names, where it exists for `identity` and `action` is allowed.
    async fn find(
        &self,
        identity: &Identity,
        reference: &EnvironmentReference,
        action: Action,
    ) -> Result<Overview, ServiceError> {
        let overview = self.look_up(reference).await?.ok_or_else(|| ServiceError::not_found(reference))?;
        let facts = &overview.pull_request.facts;
        match may(identity, action, &facts.repository.name, facts.number) {
            Permission::Allowed => Ok(overview),
            Permission::Denied => Err(ServiceError::denied(identity.role, action)),
            Permission::Invisible => Err(ServiceError::not_found(reference)),
        }
    }

    /// The environment that `reference` names, whoever asks.
    async fn look_up(&self, reference: &EnvironmentReference) -> Result<Option<Overview>, StoreError> {
        match reference {
            EnvironmentReference::PullRequest { repository, number } => {
                self.store().find_environment_of(repository, *number).await
            }
            EnvironmentReference::IdOrNamespace(name) => self.store().find_environment(name.as_str()).await,
        }
    }

    /// What its containers printed. Where those of the present commit say nothing any more after it failed, what was kept
    /// of them, and the commit.
    async fn printed(
        &self,
        overview: &Overview,
        request: &LogRequest,
        mask: &Mask,
    ) -> Result<(Logs, Option<CommitSha>), ServiceError> {
        let Overview { environment, pull_request, .. } = overview;
        let head = &pull_request.facts.head_sha;
        let logs = self.read_logs(overview, request, mask).await?;
        // Of what runs, an attempt that failed before says nothing.
        let runs = environment.status == EnvironmentStatus::Running;
        let says_nothing = logs.containers.iter().all(|log| log.lines.is_empty());
        // After a failure that went back to what ran before, what runs says nothing of it.
        let ran_before = environment.good_commit.as_ref() == Some(head);
        let went_back = environment.status == EnvironmentStatus::Failed
            && environment.serving_commit.as_ref().is_some_and(|serving| serving != head || ran_before);
        if (says_nothing || went_back) && !runs && !request.previous {
            let kept = self.store().kept_logs(&environment.id, head).await?;
            let has_kept = !kept.is_empty();
            let kept = logs::of_kept(kept, request, mask);
            if has_kept && (went_back || !kept.containers.is_empty()) {
                return Ok((kept, Some(head.clone())));
            }
        }
        // One of this name may be still to come.
        let is_complete = !matches!(environment.status, EnvironmentStatus::Pending | EnvironmentStatus::Deploying);
        if is_complete && !logs.others.is_empty() {
            let others: Vec<&str> = logs.others.iter().map(String::as_str).collect();
            return Err(ServiceError::invalid(
                "container",
                format!("there is none of this name, but {}", others.join(", ")),
            ));
        }
        Ok((logs, None))
    }

    async fn read_logs(&self, overview: &Overview, request: &LogRequest, mask: &Mask) -> Result<Logs, ServiceError> {
        let nothing = Logs { containers: Vec::new(), omitted: 0, others: BTreeSet::new() };
        if overview.environment.status == EnvironmentStatus::Deleted {
            return Ok(nothing);
        }
        let cluster = self.shared.parts.cluster.as_ref().ok_or_else(ServiceError::no_cluster)?;
        let owner = Owner {
            installation_id: self.installation_id().await?.to_owned(),
            environment_id: overview.environment.id.clone(),
        };
        match cluster.logs(&overview.environment.namespace, &owner, request, mask).await {
            Ok(logs) => Ok(logs),
            Err(ClusterError::NamespaceGone | ClusterError::NamespaceTerminating) => Ok(nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// What has to be hidden of the environment's logs.
    async fn mask(&self, overview: &Overview) -> Result<Mask, StoreError> {
        Mask::of_environment(self.store(), &overview.environment).await
    }

    /// Never changes once it is there.
    async fn installation_id(&self) -> Result<&str, ServiceError> {
        let read = async || Ok::<_, ServiceError>(self.store().installation().await?.id);
        self.shared.installation_id.get_or_try_init(read).await.map(String::as_str)
    }

    /// As it is shown. Where nothing is known to be in its way, what keeps previewd from its work is.
    async fn summary(&self, overview: &Overview, now: Millis) -> Result<EnvironmentSummary, ServiceError> {
        let mut summary = EnvironmentSummary::of(overview, &self.shared.parts.addresses, now);
        let environment = &overview.environment;
        let is_kept = environment.failures > 1 && environment.status != EnvironmentStatus::Deleted;
        if is_kept && summary.message.is_none() {
            let trouble = self.store().trouble(&environment.id).await?;
            summary.message = trouble.map(|trouble| tried_again(&trouble.what));
        }
        Ok(summary)
    }

    fn store(&self) -> &Store {
        &self.shared.parts.store
    }

    /// The configured teams, as they are now.
    fn teams(&self) -> Arc<Teams> {
        Arc::clone(&self.shared.parts.teams.borrow())
    }
}

/// For ages, which people read: what processes compare goes by the database's clock.
fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}
