//! Webhook deliveries: each is recorded once, with the facts that it brought, in one transaction.

use diesel::{
    dsl::{case_when, exists},
    prelude::*,
    sql_types::{BigInt, Bool},
};
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    commands::NewCommand,
    connection::{read, write},
    environments::{NewEnvironment, Trigger, apply_trigger, asked},
    events::{EventKind, EventRow},
    facts::{
        Freshness, free_name, freshness, lock_repository, lock_row, store_pull_request, store_repository, trigger,
    },
    pull_requests::{PullRequestRow, RepositoryRow},
    repair::{LISTING, check_asked},
    requests::{plain_status, renew},
    schema::{
        commands, deliveries, deployments, environments, events, installation, leases, pull_requests, repositories,
    },
};
use crate::environment::{
    ATTEMPTS, Change, CommitSha, DeploymentStatus, EnvironmentStatus, Millis, Namespace, PullRequestFacts,
    PullRequestState, Reason, RepositoryFacts, RepositoryName, RepositoryState,
};

/// One webhook request, as its headers and its payload name it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// GitHub's X-GitHub-Delivery.
    pub guid: String,
    pub event: String,
    pub action: Option<String>,
    pub repository: Option<String>,
    pub number: Option<i64>,
    pub head_sha: Option<String>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedDelivery {
    Recorded,
    /// Recorded, and nothing else to do; the code says why.
    Ignored(&'static str),
    /// Its GUID is known.
    Duplicate,
}

/// A delivery that arrived, as histories show it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub struct ArrivedDelivery {
    pub event: String,
    pub action: Option<String>,
    pub received_at: Millis,
    pub outcome: String,
    pub reason: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = deliveries)]
struct DeliveryRow {
    guid: String,
    event: String,
    action: Option<String>,
    repository: Option<String>,
    number: Option<i64>,
    head_sha: Option<String>,
    received_at: Millis,
    outcome: &'static str,
    reason: Option<&'static str>,
}

/// Makes the environments of `repositories` (a filter on their table) due inside a transaction. Those that are gone with
/// their pull request stay as they are.
macro_rules! make_repositories_due {
    ($connection:expr, $now:expr, $filter:expr) => {{
        let is_open = pull_requests::table
            .filter(pull_requests::github_id.eq(environments::pull_request_id))
            .filter(pull_requests::state.eq(PullRequestState::Open.code()));
        diesel::update(environments::table)
            .filter(environments::pull_request_id.eq_any(
                pull_requests::table.inner_join(repositories::table).filter($filter).select(pull_requests::github_id),
            ))
            .filter(environments::status.ne(EnvironmentStatus::Deleted.code()).or(exists(is_open)))
            .set((environments::revision.eq(environments::revision + 1), environments::due_at.eq($now.nullable())))
            .execute($connection)
            .await?
    }};
}

/// Lets one transaction at a time change many environments: two that lock the same ones in different orders would end
/// as a deadlock on PostgreSQL.
macro_rules! one_at_a_time {
    ($connection:expr) => {
        diesel::update(installation::table)
            .set(installation::created_at.eq(installation::created_at))
            .execute($connection)
            .await?
    };
}
pub(super) use {make_repositories_due, one_at_a_time};

/// Takes the facts of a pull request in, inside a transaction: stores them as far as they are newer, makes the environment
/// where there is none, and says what they mean for it. Gives the namespace of an environment that was made, with its
/// author.
macro_rules! take_pull_request {
    ($connection:expr, $facts:expr, $before:expr, $at:expr, $now:expr) => {{
        let facts: &PullRequestFacts = &$facts;
        let (stored, believed) = store_pull_request!($connection, facts, $at, |stored| {
            freshness(stored, facts, $before) == Freshness::Newer
        });
        let trigger = match believed {
            true => trigger(stored.as_ref(), facts),
            false => Trigger::Edited { new_labels: Vec::new() },
        };
        let mut created = None;
        // Of one that may be open without an environment GitHub can be asked only by a pass over it.
        let may_be_open = !believed && facts.state == PullRequestState::Open;
        if trigger == Trigger::Opened || may_be_open {
            let RepositoryFacts { github_id, name, .. } = &facts.repository;
            let namespace = Namespace::of_pull_request(*github_id, name, facts.number);
            let environment = NewEnvironment::of(facts, &namespace, $at);
            let inserted = diesel::insert_into(environments::table)
                .values(&environment)
                .on_conflict(environments::pull_request_id)
                .do_nothing()
                .execute($connection)
                .await?;
            if inserted == 1 {
                diesel::insert_into(events::table)
                    .values(EventRow::created(&environment.id, &facts.author, $at))
                    .execute($connection)
                    .await?;
                created = Some((namespace, facts.author.clone()));
            }
        }
        apply_trigger!($connection, $now, $at, facts, trigger);
        created
    }};
}

impl Store {
    /// Records a delivery and what it brought, or finds that it is known.
    pub async fn record_delivery(&self, delivery: Delivery, change: Change) -> Result<RecordedDelivery, StoreError> {
        let ignored = match &change {
            Change::Nothing { reason } => Some(*reason),
            _ => None,
        };
        let at = self.wall_clock();
        let guid = delivery.guid.clone();
        let row = DeliveryRow {
            guid: delivery.guid,
            event: delivery.event,
            action: delivery.action,
            repository: delivery.repository,
            number: delivery.number,
            head_sha: delivery.head_sha,
            received_at: at,
            outcome: if ignored.is_some() { "ignored" } else { "recorded" },
            reason: ignored,
        };
        let now = self.now();
        let outcome = write!(self, |connection| {
            let mut created = None;
            let inserted = diesel::insert_into(deliveries::table)
                .values(&row)
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            if inserted == 0 {
                return Ok(Err(RecordedDelivery::Duplicate));
            }
            match change {
                Change::Nothing { .. } => {}
                Change::PullRequest { facts, before } => {
                    let before = before.as_ref().map(|before| before.as_str());
                    created = take_pull_request!(connection, facts, before, at, now);
                }
                Change::Command(comment) => {
                    for command in NewCommand::of(&comment, &guid, at) {
                        diesel::insert_into(commands::table)
                            .values(command)
                            .on_conflict_do_nothing()
                            .execute(connection)
                            .await?;
                    }
                    let pull_request = pull_requests::table
                        .filter(pull_requests::repository_id.eq(comment.repository_id))
                        .filter(pull_requests::number.eq(comment.number))
                        .select(pull_requests::github_id);
                    diesel::update(environments::table)
                        .filter(environments::pull_request_id.eq_any(pull_request))
                        .set((environments::due_at.eq(now.nullable()), environments::failures.eq(0)))
                        .execute(connection)
                        .await?;
                }
                Change::Built { repository_id, commit, perhaps } => {
                    one_at_a_time!(connection);
                    let is_its_own = match &commit {
                        None => !perhaps,
                        Some(commit) if perhaps => {
                            let heads: i64 = pull_requests::table
                                .filter(pull_requests::repository_id.eq(repository_id))
                                .filter(pull_requests::state.eq(PullRequestState::Open.code()))
                                .filter(pull_requests::head_sha.eq(commit.as_str()))
                                .count()
                                .get_result(connection)
                                .await?;
                            heads > 0
                        }
                        Some(_) => true,
                    };
                    let commit = commit.filter(|_| is_its_own);
                    let its = pull_requests::table
                        .filter(pull_requests::repository_id.eq(repository_id))
                        .select(pull_requests::github_id);
                    // What failed before the image was there tries again: not every registry says that it is missing. A
                    // run that names no commit may have been started by previewd's own comment, and each new round changes
                    // that one: after such a run a pass asks the registry first.
                    type Lacking = (String, String, String, Option<String>);
                    let lacking: Vec<Lacking> = environments::table
                        .inner_join(pull_requests::table)
                        .filter(pull_requests::repository_id.eq(repository_id))
                        .filter(pull_requests::state.eq(PullRequestState::Open.code()))
                        .filter(environments::reason.eq(Reason::ImagePullFailed.code()))
                        .select((
                            environments::id,
                            environments::status,
                            pull_requests::head_sha,
                            environments::message,
                        ))
                        .load(connection)
                        .await?;
                    let is_built =
                        |head: &String| is_its_own && commit.as_ref().is_none_or(|commit| commit.as_str() == head);
                    for (id, status, head, message) in lacking.into_iter().filter(|(_, _, head, _)| is_built(head)) {
                        if status == EnvironmentStatus::Failed.code() {
                            diesel::update(environments::table.find(&id))
                                .set((plain_status!(EnvironmentStatus::Pending), asked!(now, at)))
                                .execute(connection)
                                .await?;
                            // What no attempt began of goes on waiting, in its round: nobody asked for another.
                            let waits = diesel::update(deployments::table)
                                .filter(deployments::environment_id.eq(&id))
                                .filter(deployments::commit_sha.eq(&head))
                                .filter(deployments::status.eq(DeploymentStatus::Failed.code()))
                                .filter(deployments::attempt.eq(0))
                                .set((
                                    deployments::status.eq(DeploymentStatus::Pending.code()),
                                    deployments::reason.eq(None::<String>),
                                    deployments::message.eq(None::<String>),
                                    deployments::finished_at.eq(None::<Millis>),
                                    deployments::awaited_images.eq(None::<String>),
                                    deployments::images_deadline.eq(None::<Millis>),
                                ))
                                .execute(connection)
                                .await?;
                            if waits == 0 {
                                renew!(connection, id);
                            }
                        } else if status == EnvironmentStatus::Deploying.code() {
                            // The attempt is over, and one more begins at once: nodes wait ever longer between two tries.
                            diesel::update(environments::table.find(&id))
                                .set(asked!(now, at))
                                .execute(connection)
                                .await?;
                            let before_the_last = (ATTEMPTS - 1).into_sql::<BigInt>();
                            let attempt = case_when(deployments::attempt.ge(ATTEMPTS), before_the_last)
                                .otherwise(deployments::attempt);
                            diesel::update(deployments::table)
                                .filter(deployments::environment_id.eq(&id))
                                .filter(deployments::commit_sha.eq(&head))
                                .filter(deployments::status.eq(DeploymentStatus::Deploying.code()))
                                .set((
                                    deployments::attempt.eq(attempt),
                                    deployments::retry_at.eq(now.clone().nullable()),
                                    deployments::reason.eq(Reason::ImagePullFailed.code()),
                                    deployments::message.eq(message),
                                ))
                                .execute(connection)
                                .await?;
                        }
                    }
                    // What was deployed before may have been deployed with what the tag meant until now, and have failed
                    // with it, or before anything of it was applied.
                    let (of_any, sha) = (commit.is_none(), commit.as_ref().map_or("", CommitSha::as_str));
                    let its_heads = pull_requests::table
                        .filter(pull_requests::repository_id.eq(repository_id))
                        .filter(pull_requests::head_sha.eq(sha).or(of_any.into_sql::<Bool>()))
                        .select(pull_requests::github_id);
                    let is_deployed =
                        [EnvironmentStatus::Running, EnvironmentStatus::Deploying, EnvironmentStatus::Failed]
                            .map(EnvironmentStatus::code);
                    diesel::update(environments::table)
                        .filter(environments::pull_request_id.eq_any(its_heads))
                        .filter(environments::status.eq_any(is_deployed))
                        .filter(
                            environments::applied_commit
                                .is_not_null()
                                .or(environments::reason.eq(Reason::ImagePullFailed.code())),
                        )
                        .set((
                            environments::checked_at.eq(check_asked!()),
                            environments::due_at.eq(now.clone().nullable()),
                        ))
                        .execute(connection)
                        .await?;
                    diesel::update(environments::table)
                        .filter(environments::reason.eq(Reason::WaitingForImage.code()))
                        .filter(environments::pull_request_id.eq_any(its))
                        .set(environments::due_at.eq(now.nullable()))
                        .execute(connection)
                        .await?;
                }
                Change::Repository(facts) => {
                    one_at_a_time!(connection);
                    let row = RepositoryRow::from_facts(&facts, at);
                    let known = lock_repository!(connection, &row);
                    store_repository!(connection, &row, known);
                    make_repositories_due!(connection, now, repositories::github_id.eq(facts.github_id));
                }
                Change::RepositoryDeleted { github_id } => {
                    one_at_a_time!(connection);
                    diesel::update(repositories::table.find(github_id))
                        .set(repositories::state.eq(RepositoryState::Removed.code()))
                        .execute(connection)
                        .await?;
                    make_repositories_due!(connection, now, repositories::github_id.eq(github_id));
                }
                Change::Installation { app_installation_id, state } => {
                    one_at_a_time!(connection);
                    // What was taken from the installation before does not come back with it.
                    let from = match state {
                        RepositoryState::Active => vec![RepositoryState::Suspended.code()],
                        RepositoryState::Suspended => vec![RepositoryState::Active.code()],
                        RepositoryState::Removed => {
                            vec![RepositoryState::Active.code(), RepositoryState::Suspended.code()]
                        }
                    };
                    diesel::update(repositories::table)
                        .filter(repositories::app_installation_id.eq(app_installation_id))
                        .filter(repositories::state.eq_any(from))
                        .set(repositories::state.eq(state.code()))
                        .execute(connection)
                        .await?;
                    make_repositories_due!(connection, now, repositories::app_installation_id.eq(app_installation_id));
                }
                Change::InstallationRepositories { app_installation_id, added, removed } => {
                    one_at_a_time!(connection);
                    diesel::update(repositories::table)
                        .filter(repositories::github_id.eq_any(added.clone()))
                        .set((
                            repositories::state.eq(RepositoryState::Active.code()),
                            repositories::app_installation_id.eq(app_installation_id),
                        ))
                        .execute(connection)
                        .await?;
                    diesel::update(repositories::table)
                        .filter(repositories::github_id.eq_any(removed.clone()))
                        // One that was given to another installation since is no longer this one's to take.
                        .filter(
                            repositories::app_installation_id
                                .is_null()
                                .or(repositories::app_installation_id.eq(app_installation_id)),
                        )
                        .set(repositories::state.eq(RepositoryState::Removed.code()))
                        .execute(connection)
                        .await?;
                    // Those that nobody told of before are asked for with the next sweep.
                    diesel::update(leases::table.find(LISTING)).set(leases::done_at.eq(0)).execute(connection).await?;
                    let touched: Vec<i64> = added.into_iter().chain(removed).collect();
                    make_repositories_due!(connection, now, repositories::github_id.eq_any(touched));
                }
            }
            Ok(Ok(created))
        })?;
        let created = match outcome {
            Ok(created) => created,
            Err(duplicate) => return Ok(duplicate),
        };
        self.announce_created(created);
        Ok(ignored.map_or(RecordedDelivery::Recorded, RecordedDelivery::Ignored))
    }

    /// Records what GitHub itself says of a pull request, as if a delivery had brought it.
    pub async fn record_pull_request(&self, facts: PullRequestFacts) -> Result<(), StoreError> {
        let (at, now) = (self.wall_clock(), self.now());
        let created = write!(self, |connection| Ok(take_pull_request!(connection, facts, None, at, now)))?;
        self.announce_created(created);
        Ok(())
    }

    /// The last deliveries about a pull request, newest first.
    pub async fn deliveries_of(
        &self,
        repository: &RepositoryName,
        number: i64,
        limit: i64,
    ) -> Result<Vec<ArrivedDelivery>, StoreError> {
        read!(self, |connection| {
            deliveries::table
                .filter(deliveries::repository.eq(repository.as_str()))
                .filter(deliveries::number.eq(number))
                .order(deliveries::received_at.desc())
                .limit(limit)
                .select(ArrivedDelivery::as_select())
                .load(connection)
                .await
        })
    }

    /// When the last delivery from a repository arrived.
    pub async fn last_delivery_of(&self, repository: &RepositoryName) -> Result<Option<Millis>, StoreError> {
        read!(self, |connection| {
            deliveries::table
                .filter(deliveries::repository.eq(repository.as_str()))
                .select(diesel::dsl::max(deliveries::received_at))
                .first(connection)
                .await
        })
    }

    fn announce_created(&self, created: Option<(Namespace, String)>) {
        // Only this transaction knows that it was the first.
        if let Some((namespace, actor)) = created {
            tracing::info!(event = %EventKind::Created, environment = %namespace, actor, "environment created");
        }
        self.announce_due();
    }
}
