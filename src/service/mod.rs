//! What can be asked for, and who may ask: the same for MCP, the command line and the dashboard. Reads are answered
//! from the rows and cost the API server nothing, logs excepted; what changes something is stored as a fact, and the
//! next pass carries it out.

mod answers;
mod authoring;
mod changes;
mod error;
mod explain;
mod logs;
mod requests;
mod wait;

use std::sync::Arc;

use tokio::sync::OnceCell;

pub use answers::{
    Addresses, ContainerLogs, DeploymentSummary, EnvironmentDetail, EnvironmentList, EnvironmentLogs,
    EnvironmentSummary, PullRequestSummary, rfc3339,
};
pub use authoring::{Author, CheckRecipeRequest, Occasion, RecipeVerdict};
pub use error::{ErrorCode, ServiceError};
pub use explain::{DeliverySummary, EventSummary, Explanation};
pub use requests::{
    ChangeRequest, ContainerName, CreateRequest, Cursor, EnvironmentReference, ExpectedCommit, ExplainRequest,
    GetRequest, IdempotencyKey, KeepRequest, ListRequest, LogsRequest, Number, Repository, Tail, WaitRequest,
    WaitUntil,
};
pub use wait::Waited;

use crate::{
    cluster::{Cluster, ClusterError, LogRequest, Logs, Owner},
    config::Limits,
    environment::{EnvironmentStatus, Millis},
    github::GitHub,
    identity::{Action, Identity, Permission, may},
    store::{EnvironmentFilter, Overview, Store},
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

struct Shared {
    store: Store,
    /// None: previewd was started without one, and only logs need it.
    cluster: Option<Cluster>,
    /// None: previewd was started without one, and only pull requests that it does not know need it.
    github: Option<GitHub>,
    limits: Limits,
    author: Author,
    addresses: Addresses,
    installation_id: OnceCell<String>,
}

impl Service {
    pub fn new(
        store: Store,
        cluster: Option<Cluster>,
        github: Option<GitHub>,
        addresses: Addresses,
        limits: Limits,
        author: Author,
    ) -> Self {
        let installation_id = OnceCell::new();
        Self { shared: Arc::new(Shared { store, cluster, github, limits, author, addresses, installation_id }) }
    }

    /// A page of the environments that exist for `identity`, newest first: as many as fit into [`DEFAULT_ANSWER`].
    pub async fn list(&self, identity: &Identity, request: ListRequest) -> Result<EnvironmentList, ServiceError> {
        let ListRequest { status, repository, cursor } = request;
        let mut filter = EnvironmentFilter {
            statuses: status,
            repository: repository.map(|Repository(name)| name),
            visible: identity.visible.as_ref().map(|patterns| patterns.iter().map(|p| p.as_str().to_owned()).collect()),
            pull_request: identity.pull_request,
            after: cursor.map(|cursor| cursor.as_str().to_owned()),
            limit: ENVIRONMENTS_PER_PAGE,
        };
        let (page, mut more) = self.store().list_environments(&filter).await?;
        let now = now();

        let mut environments = Vec::new();
        let mut last = None;
        let mut room = DEFAULT_ANSWER - FRAME;
        for overview in &page {
            let summary = self.summary(overview, now);
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
            return Ok(EnvironmentList { environments, left_out: 0, next_cursor: None });
        }
        filter.after.clone_from(&last);
        let left_out = self.store().count_environments(&filter).await?;
        Ok(EnvironmentList { environments, left_out, next_cursor: last })
    }

    /// One environment with its last five deployments.
    pub async fn get(&self, identity: &Identity, request: GetRequest) -> Result<EnvironmentDetail, ServiceError> {
        let overview = self.find(identity, &request.environment, Action::Inspect).await?;
        let deployments = self.store().deployments_of(&overview.environment.id, DEPLOYMENTS_SHOWN).await?;
        Ok(EnvironmentDetail::of(&overview, deployments, &self.shared.addresses, now()))
    }

    /// The end of what the environment's containers printed. The oldest lines are left out where there are more than an
    /// answer may hold: [`LONGEST_ANSWER`] where `tail` is given, else [`DEFAULT_ANSWER`].
    pub async fn logs(&self, identity: &Identity, request: LogsRequest) -> Result<EnvironmentLogs, ServiceError> {
        let LogsRequest { environment, tail, timestamps, container, previous } = request;
        let overview = self.find(identity, &environment, Action::Inspect).await?;
        let request = LogRequest {
            tail: tail.unwrap_or(Tail::DEFAULT).lines(),
            timestamps,
            container: container.map(|name| name.as_str().to_owned()),
            previous,
        };
        let logs = self.read_logs(&overview, &request).await?;
        // Whoever reads its logs uses it. Should this be missed, the next use is not.
        if let Err(error) = self.store().record_use(&overview.environment.id).await {
            tracing::debug!(%error, "it is not known that an environment was used");
        }
        let budget = if tail.is_some() { LONGEST_ANSWER } else { DEFAULT_ANSWER };
        let frames: usize = logs.containers.iter().map(|log| log.pod.len() + log.container.len() + 120).sum();
        let (containers, lines_left_out) = logs::fit(logs.containers, budget.saturating_sub(FRAME + frames));
        Ok(EnvironmentLogs {
            environment: answers::name_of(&overview.pull_request.facts),
            namespace: overview.environment.namespace.to_string(),
            status: overview.environment.status,
            containers,
            lines_left_out,
            containers_left_out: logs.omitted as u64,
        })
    }

    /// The environment that `reference` names, where it exists for `identity` and `action` is allowed.
    async fn find(
        &self,
        identity: &Identity,
        reference: &EnvironmentReference,
        action: Action,
    ) -> Result<Overview, ServiceError> {
        let found = match reference {
            EnvironmentReference::PullRequest { repository, number } => {
                self.store().find_environment_of(repository, *number).await?
            }
            EnvironmentReference::IdOrNamespace(name) => self.store().find_environment(name.as_str()).await?,
        };
        let overview = found.ok_or_else(|| ServiceError::not_found(reference))?;
        let facts = &overview.pull_request.facts;
        match may(identity, action, &facts.repository.name, facts.number) {
            Permission::Allowed => Ok(overview),
            Permission::Denied => Err(ServiceError::denied(identity.role, action)),
            Permission::Invisible => Err(ServiceError::not_found(reference)),
        }
    }

    async fn read_logs(&self, overview: &Overview, request: &LogRequest) -> Result<Logs, ServiceError> {
        let nothing = Logs { containers: Vec::new(), omitted: 0 };
        if overview.environment.status == EnvironmentStatus::Deleted {
            return Ok(nothing);
        }
        let cluster = self.shared.cluster.as_ref().ok_or_else(ServiceError::no_cluster)?;
        let owner = Owner {
            installation_id: self.installation_id().await?.to_owned(),
            environment_id: overview.environment.id.clone(),
        };
        match cluster.logs(&overview.environment.namespace, &owner, request).await {
            Ok(logs) => Ok(logs),
            Err(ClusterError::NamespaceGone | ClusterError::NamespaceTerminating) => Ok(nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Never changes once it is there.
    async fn installation_id(&self) -> Result<&str, ServiceError> {
        let read = async || Ok::<_, ServiceError>(self.store().installation().await?.id);
        self.shared.installation_id.get_or_try_init(read).await.map(String::as_str)
    }

    fn summary(&self, overview: &Overview, now: Millis) -> EnvironmentSummary {
        EnvironmentSummary::of(overview, &self.shared.addresses, now)
    }

    fn store(&self) -> &Store {
        &self.shared.store
    }
}

/// For ages, which people read: what processes compare goes by the database's clock.
fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}
