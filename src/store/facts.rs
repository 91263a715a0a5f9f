//! How what GitHub says of a pull request and its repository becomes rows, inside the transaction of whoever heard it.
//!
//! Rows are locked in one order everywhere: repository, pull request, environment, deployments. Transactions that took
//! them in different orders would end as deadlocks on PostgreSQL.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::write,
    environments::{Trigger, apply_trigger, lift_hold},
    lease::held_unasked,
    pull_requests::{PullRequestRow, RepositoryRow},
    schema::{environments, pull_requests, repositories},
};
use crate::environment::{PullRequestFacts, PullRequestState};

/// How a payload relates to the row that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Newer than the row: the row takes it.
    Newer,
    /// Older, or of the same second without proof of order: the row stays, and GitHub is asked.
    Doubtful,
}

/// GitHub's times have a resolution of one second. Within one second only a push whose `before` is the stored head is
/// known to come after it.
pub(super) fn freshness(stored: &PullRequestRow, facts: &PullRequestFacts, before: Option<&str>) -> Freshness {
    let follows = before == Some(stored.head_sha.as_str());
    if facts.github_updated_at > stored.github_updated_at
        || (facts.github_updated_at == stored.github_updated_at && follows)
    {
        Freshness::Newer
    } else {
        Freshness::Doubtful
    }
}

/// What newer facts mean for the environment.
pub(super) fn trigger(stored: Option<&PullRequestRow>, facts: &PullRequestFacts) -> Trigger {
    let was_open = stored.is_some_and(|stored| stored.state == PullRequestState::Open.code());
    match facts.state {
        PullRequestState::Closed | PullRequestState::Merged if was_open => Trigger::Closed,
        PullRequestState::Closed | PullRequestState::Merged => Trigger::Edited { new_labels: Vec::new() },
        PullRequestState::Open if !was_open => Trigger::Opened,
        PullRequestState::Open if stored.is_some_and(|stored| stored.head_sha != facts.head_sha.as_str()) => {
            Trigger::Pushed
        }
        PullRequestState::Open => Trigger::Edited { new_labels: new_labels(stored, facts) },
    }
}

fn new_labels(stored: Option<&PullRequestRow>, facts: &PullRequestFacts) -> Vec<String> {
    let stored: Vec<String> = stored.and_then(|stored| serde_json::from_str(&stored.labels).ok()).unwrap_or_default();
    facts.labels.iter().filter(|label| !stored.contains(label)).map(|label| label.to_lowercase()).collect()
}

/// Locks a row inside a transaction, and gives it. A write that changes nothing does so on both databases: what was read
/// stays true until the end.
macro_rules! lock_row {
    ($connection:expr, $table:ident, $row:ty, $github_id:expr) => {
        diesel::update($table::table.find($github_id))
            .set($table::updated_at.eq($table::updated_at))
            .returning(<$row>::as_returning())
            .get_result::<$row>($connection)
            .await
            .optional()?
    };
}

/// Takes a repository's name from another row inside a transaction: that row's repository was renamed, and nobody told.
/// It gets a name of its own until it is heard of again.
macro_rules! free_name {
    ($connection:expr, $row:expr) => {{
        let name = format!("renamed-{}-{}", $row.github_id, $row.updated_at);
        let freed = diesel::update(repositories::table)
            .filter(repositories::owner.eq(&$row.owner))
            .filter(repositories::name.eq(&$row.name))
            .filter(repositories::github_id.ne($row.github_id))
            .set(repositories::name.eq(&name))
            .execute($connection)
            .await?;
        if freed > 0 {
            super::tokens::move_tokens!($connection, $row.full_name(), format!("{}/{name}", $row.owner));
        }
    }};
}

/// Locks a repository's row inside a transaction, made where there is none, and gives it. Whatever a delivery changes
/// it changes under this lock: deliveries of one repository follow each other, and take no locks crosswise.
macro_rules! lock_repository {
    ($connection:expr, $row:expr) => {{
        let row: &RepositoryRow = $row;
        let mut known: Option<RepositoryRow> = lock_row!($connection, repositories, RepositoryRow, row.github_id);
        if known.is_none() {
            free_name!($connection, row);
            diesel::insert_into(repositories::table).values(row).on_conflict_do_nothing().execute($connection).await?;
            known = lock_row!($connection, repositories, RepositoryRow, row.github_id);
        }
        known
    }};
}

/// Stores a repository's facts inside a transaction, over the `$known` row.
macro_rules! store_repository {
    ($connection:expr, $row:expr, $known:expr) => {{
        let row: &RepositoryRow = $row;
        if let Some(known) = $known.filter(|known| row.is_news_to(known)) {
            free_name!($connection, row);
            if known.full_name() != row.full_name() {
                super::tokens::move_tokens!($connection, known.full_name(), row.full_name());
            }
            // A payload that names an installation comes from one that gives access.
            let access = row.app_installation_id.map(|installation| {
                (repositories::app_installation_id.eq(installation), repositories::state.eq(&row.state))
            });
            diesel::update(repositories::table.find(row.github_id))
                .set((
                    repositories::owner.eq(&row.owner),
                    repositories::name.eq(&row.name),
                    repositories::default_branch.eq(&row.default_branch),
                    repositories::updated_at.eq(row.updated_at),
                    access,
                ))
                .execute($connection)
                .await?;
        }
    }};
}

/// Stores the facts of a pull request, and of its repository, inside a transaction: those of one that is new, and else
/// those that are to be believed over the `$stored` row. Gives the row that was there, locked, and whether the facts
/// were believed.
macro_rules! store_pull_request {
    ($connection:expr, $facts:expr, $at:expr, |$stored:ident| $believed:expr) => {{
        let facts: &PullRequestFacts = $facts;
        let repository = RepositoryRow::from_facts(&facts.repository, $at);
        let row = PullRequestRow::from_facts(facts, $at);
        let known = lock_repository!($connection, &repository);
        let mut stored: Option<PullRequestRow> = lock_row!($connection, pull_requests, PullRequestRow, row.github_id);
        if stored.is_none() {
            // GitHub, restored from a copy, may know the same number by another id than before.
            diesel::update(pull_requests::table)
                .filter(pull_requests::repository_id.eq(row.repository_id))
                .filter(pull_requests::number.eq(row.number))
                .set(pull_requests::github_id.eq(row.github_id))
                .execute($connection)
                .await?;
            stored = lock_row!($connection, pull_requests, PullRequestRow, row.github_id);
        }
        let believed = stored.as_ref().is_none_or(|$stored| $believed);
        if believed {
            store_repository!($connection, &repository, known);
            diesel::insert_into(pull_requests::table)
                .values(&row)
                .on_conflict(pull_requests::github_id)
                .do_update()
                .set((
                    pull_requests::title.eq(&row.title),
                    pull_requests::author.eq(&row.author),
                    pull_requests::head_sha.eq(&row.head_sha),
                    pull_requests::head_ref.eq(&row.head_ref),
                    pull_requests::base_ref.eq(&row.base_ref),
                    pull_requests::from_fork.eq(row.from_fork),
                    pull_requests::draft.eq(row.draft),
                    pull_requests::state.eq(&row.state),
                    pull_requests::labels.eq(&row.labels),
                    pull_requests::label_ids.eq(&row.label_ids),
                    pull_requests::github_updated_at.eq(row.github_updated_at),
                    pull_requests::updated_at.eq(row.updated_at),
                ))
                .execute($connection)
                .await?;
            if facts.state != PullRequestState::Open {
                super::tokens::end_tokens!($connection, facts.repository.name.as_str(), facts.number, $at);
            }
        }
        (stored, believed)
    }};
}

pub(super) use {free_name, lock_repository, lock_row, store_pull_request, store_repository};

impl Store {
    /// Stores what GitHub itself says of the pull request, believed over the row. Where that is news, the row is due
    /// again, as if a webhook had told it.
    pub async fn confirm_pull_request(
        &self,
        lease: &Lease,
        facts: PullRequestFacts,
    ) -> Result<Result<Confirmed, LeaseLost>, StoreError> {
        let lease = lease.clone();
        let at = self.wall_clock();
        let now = self.now();
        let confirmed = write!(self, |connection| {
            // Locks are taken in the order of `record_delivery`, the environment's last: two transactions that take
            // them in different orders would end as a deadlock.
            let (stored, _) = store_pull_request!(connection, &facts, at, |_stored| true);
            let held = diesel::update(environments::table)
                .filter(held_unasked(&lease))
                .set(environments::refresh.eq(false))
                .execute(connection)
                .await?;
            if held == 0 {
                return Err(diesel::result::Error::RollbackTransaction);
            }
            let trigger = trigger(stored.as_ref(), &facts);
            match trigger {
                Trigger::Edited { new_labels } => {
                    lift_hold!(connection, facts, new_labels);
                    Ok(Confirmed::AsStored)
                }
                Trigger::Opened | Trigger::Pushed | Trigger::Closed => {
                    apply_trigger!(connection, now, at, facts, trigger);
                    Ok(Confirmed::News)
                }
            }
        });
        match confirmed {
            Ok(confirmed) => Ok(Ok(confirmed)),
            Err(StoreError::Query(diesel::result::Error::RollbackTransaction)) => Ok(Err(LeaseLost)),
            Err(error) => Err(error),
        }
    }
}

/// What GitHub's word was beside the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    AsStored,
    /// The head or the state is another: the pass is over, and the next is due.
    News,
}
