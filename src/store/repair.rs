//! What the repair sweep looks at and remembers: which repositories to list, which rows to hold against GitHub and the
//! cluster, and which process does it.

use std::time::Duration;

use diesel::{
    dsl::{case_when, exists},
    prelude::*,
    sql_types::{Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::{
    PullRequest, Store, StoreError,
    connection::{read, write},
    deliveries::{make_repositories_due, one_at_a_time},
    environments::asked,
    facts::{free_name, lock_repository, lock_row, store_repository},
    pull_requests::{PullRequestRow, RepositoryRow, unreadable},
    schema::{deliveries, deployments, environments, installation, leases, orphans, pull_requests, repositories},
};
use crate::environment::{
    EnvironmentStatus, Millis, Namespace, PullRequestState, Reason, RepositoryFacts, RepositoryName, RepositoryState,
};

/// Asks inside a statement for what was applied to be held against what is there. A negative time asks for that, and keeps
/// when it was done last.
macro_rules! check_asked {
    () => {
        diesel::dsl::case_when(environments::checked_at.ge(0), environments::checked_at * -1 - 1)
            .otherwise(environments::checked_at)
    };
}
pub(super) use check_asked;

/// The row that says when the App's repositories were last asked for.
pub(super) const LISTING: &str = "app_repositories";
/// Whatever was written late was about one of the last.
const DOUBTED_DEPLOYMENTS: i64 = 3;

/// A repository whose open pull requests are to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptRepository {
    pub github_id: i64,
    pub name: RepositoryName,
    pub app_installation_id: Option<i64>,
    /// Of the last list.
    pub tag: Option<ListTag>,
    /// GitHub showed it at the last list.
    pub was_shown: bool,
}

impl SweptRepository {
    /// One that the rows do not know.
    pub fn unheard(name: RepositoryName) -> Self {
        Self { github_id: 0, name, app_installation_id: None, tag: None, was_shown: false }
    }
}

/// What tells whether a list of open pull requests has to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTag {
    /// GitHub's: the list is still the same.
    pub etag: String,
    /// Ours, of what the list said: the rows still say the same. Webhooks change rows, so that GitHub's tag alone would
    /// take a list for agreed with that is the one before last.
    pub digest: String,
}

/// How often repositories are listed: those with something going on, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepPeriods {
    pub busy: Duration,
    pub quiet: Duration,
}

impl Store {
    /// Takes or renews the lease on what `name` is. False where another process has it, or where it was done less than
    /// `every` ago.
    pub async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        lease: Duration,
        every: Duration,
    ) -> Result<bool, StoreError> {
        let holder = holder.to_owned();
        let (now, until, done_before) = (self.now(), self.now_plus(lease), self.now_minus(every));
        let taken = write!(self, |connection| {
            diesel::insert_into(leases::table)
                .values((
                    leases::name.eq(name),
                    leases::holder.eq(&holder),
                    leases::lease_until.eq(0),
                    leases::done_at.eq(0),
                ))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            diesel::update(leases::table.find(name))
                .filter(leases::holder.eq(&holder).or(leases::lease_until.le(now)))
                .filter(leases::done_at.le(done_before))
                .set((leases::holder.eq(&holder), leases::lease_until.eq(until)))
                .execute(connection)
                .await
        })?;
        Ok(taken == 1)
    }

    /// Gives a lease back, with its work done or not.
    pub async fn give_lease_back(&self, name: &'static str, holder: &str, done: bool) -> Result<(), StoreError> {
        let holder = holder.to_owned();
        let now = self.now();
        write!(self, |connection| {
            let done_at = case_when(done.into_sql::<diesel::sql_types::Bool>(), now).otherwise(leases::done_at);
            diesel::update(leases::table.find(name))
                .filter(leases::holder.eq(&holder))
                .set((leases::lease_until.eq(0), leases::done_at.eq(done_at)))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// The repositories whose list is due, the longest overdue first: those with an environment or with a delivery since
    /// their last list after `periods.busy`, all others after `periods.quiet`.
    pub async fn repositories_to_sweep(&self, periods: SweepPeriods) -> Result<Vec<SweptRepository>, StoreError> {
        let (busy, quiet) = (self.now_minus(periods.busy), self.now_minus(periods.quiet));
        type Row = (i64, String, String, Option<i64>, Option<String>, Option<String>);
        let rows: Vec<Row> = read!(self, |connection| {
            let has_environment = environments::table
                .inner_join(pull_requests::table)
                .filter(pull_requests::repository_id.eq(repositories::github_id))
                .filter(environments::status.ne(EnvironmentStatus::Deleted.code()));
            let full_name = repositories::owner.concat("/").concat(repositories::name);
            let has_news = deliveries::table
                .filter(deliveries::repository.eq(full_name.nullable()))
                .filter(deliveries::received_at.gt(repositories::swept_at));
            repositories::table
                .filter(repositories::state.eq(RepositoryState::Active.code()))
                .filter(repositories::swept_at.le(busy))
                .filter(repositories::swept_at.le(quiet).or(exists(has_environment)).or(exists(has_news)))
                .order((repositories::swept_at, repositories::github_id))
                .select((
                    repositories::github_id,
                    repositories::owner,
                    repositories::name,
                    repositories::app_installation_id,
                    repositories::pulls_etag,
                    repositories::pulls_digest,
                ))
                .load(connection)
                .await
        })?;
        let repository = |(github_id, owner, name, app_installation_id, etag, digest): Row| {
            let name = format!("{owner}/{name}").parse().map_err(unreadable)?;
            let was_shown = digest.is_some();
            let tag = etag.zip(digest).map(|(etag, digest)| ListTag { etag, digest });
            Ok(SweptRepository { github_id, name, app_installation_id, tag, was_shown })
        };
        rows.into_iter().map(repository).collect()
    }

    /// Records that a repository was listed just now: what the list said, None where GitHub did not show it, and GitHub's
    /// tag of it, None where it has none for the whole list.
    pub async fn record_swept(
        &self,
        github_id: i64,
        digest: Option<String>,
        etag: Option<String>,
    ) -> Result<(), StoreError> {
        let now = self.now();
        write!(self, |connection| {
            diesel::update(repositories::table.find(github_id))
                .set((
                    repositories::swept_at.eq(now),
                    repositories::pulls_etag.eq(etag),
                    repositories::pulls_digest.eq(digest),
                ))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// Whether the rows say the same of a repository: its name, and that this installation gives access to it.
    pub async fn has_repository(&self, facts: &RepositoryFacts) -> Result<bool, StoreError> {
        let found: i64 = read!(self, |connection| {
            repositories::table
                .find(facts.github_id)
                .filter(repositories::owner.eq(facts.name.owner()))
                .filter(repositories::name.eq(facts.name.name()))
                .filter(repositories::app_installation_id.eq(facts.app_installation_id))
                .filter(repositories::state.eq(RepositoryState::Active.code()))
                .count()
                .get_result(connection)
                .await
        })?;
        Ok(found > 0)
    }

    /// Stores what GitHub itself says of a repository that an installation gives access to. One that is new is listed
    /// with this sweep; the environments of one that is back are due.
    pub async fn record_repository(&self, facts: RepositoryFacts) -> Result<(), StoreError> {
        let (at, now) = (self.wall_clock(), self.now());
        write!(self, |connection| {
            one_at_a_time!(connection);
            let row = RepositoryRow::from_facts(&facts, at);
            let known = lock_repository!(connection, &row);
            store_repository!(connection, &row, known);
            make_repositories_due!(connection, now, repositories::github_id.eq(facts.github_id));
            Ok::<_, diesel::result::Error>(())
        })?;
        self.announce_due();
        Ok(())
    }

    /// Whether the App's repositories are to be asked for: they were not for `every`.
    pub async fn is_listing_due(&self, every: Duration) -> Result<bool, StoreError> {
        let before = self.now_minus(every);
        let done: i64 = read!(self, |connection| {
            leases::table.find(LISTING).filter(leases::done_at.gt(before)).count().get_result(connection).await
        })?;
        Ok(done == 0)
    }

    /// Records that the App's repositories were asked for just now.
    pub async fn record_listing(&self) -> Result<(), StoreError> {
        let now = self.now();
        write!(self, |connection| {
            diesel::insert_into(leases::table)
                .values((
                    leases::name.eq(LISTING),
                    leases::holder.eq(""),
                    leases::lease_until.eq(0),
                    leases::done_at.eq(0),
                ))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            diesel::update(leases::table.find(LISTING)).set(leases::done_at.eq(now)).execute(connection).await
        })?;
        Ok(())
    }

    /// Whether the rows know a repository by this name.
    pub async fn knows_repository_name(&self, name: &RepositoryName) -> Result<bool, StoreError> {
        let found: i64 = read!(self, |connection| {
            repositories::table
                .filter(repositories::owner.eq(name.owner()))
                .filter(repositories::name.eq(name.name()))
                .count()
                .get_result(connection)
                .await
        })?;
        Ok(found > 0)
    }

    /// The pull requests of a repository that the rows take for open.
    pub async fn open_pull_requests_of(&self, repository_id: i64) -> Result<Vec<PullRequest>, StoreError> {
        let rows: Vec<(PullRequestRow, RepositoryRow)> = read!(self, |connection| {
            pull_requests::table
                .inner_join(repositories::table)
                .filter(pull_requests::repository_id.eq(repository_id))
                .filter(pull_requests::state.eq(PullRequestState::Open.code()))
                .select((PullRequestRow::as_select(), RepositoryRow::as_select()))
                .load(connection)
                .await
        })?;
        rows.into_iter().map(|(pull_request, repository)| pull_request.with_repository(repository)).collect()
    }

    /// Has the environment of a pull request looked at, and the pull request read from GitHub before.
    pub async fn ask_for_proof(&self, pull_request_id: i64) -> Result<(), StoreError> {
        let (at, now) = (self.wall_clock(), self.now());
        write!(self, |connection| {
            diesel::update(environments::table.filter(environments::pull_request_id.eq(pull_request_id)))
                .set(asked!(now, at))
                .execute(connection)
                .await
        })?;
        self.announce_due();
        Ok(())
    }

    /// Has an environment looked at of which a pass may have written something outside without its lease: what is applied
    /// is held against what is there, its comment is written again, and GitHub is told again of its newest deployments.
    pub async fn doubt(&self, environment_id: &str) -> Result<(), StoreError> {
        let (id, now) = (environment_id.to_owned(), self.now());
        write!(self, |connection| {
            // There may be a comment where there was one, and it has to be written.
            let no_text = case_when(environments::comment_digest.is_not_null(), Some("").into_sql::<Nullable<Text>>())
                .otherwise(environments::comment_digest);
            diesel::update(environments::table.find(&id))
                .set((
                    environments::checked_at.eq(check_asked!()),
                    environments::comment_id.eq(None::<i64>),
                    environments::comment_digest.eq(no_text),
                    environments::due_at.eq(now.nullable()),
                ))
                .execute(connection)
                .await?;
            let told = diesel::alias!(deployments as told);
            let newest = told
                .filter(told.field(deployments::environment_id).eq(&id))
                .filter(told.field(deployments::github_id).is_not_null())
                .order(told.field(deployments::created_at).desc())
                .limit(DOUBTED_DEPLOYMENTS)
                .select(told.field(deployments::id));
            diesel::update(deployments::table.filter(deployments::id.eq_any(newest)))
                .set(deployments::github_state.eq(None::<String>))
                .execute(connection)
                .await
        })?;
        self.announce_due();
        Ok(())
    }

    /// The namespaces that have to be there, as far as the rows know. What failed with nothing to go back to is not
    /// deployed again because somebody took it away.
    pub async fn needed_namespaces(&self) -> Result<Vec<Namespace>, StoreError> {
        let names: Vec<String> = read!(self, |connection| {
            environments::table
                .filter(environments::good_commit.is_not_null())
                .filter(
                    environments::status.eq_any([EnvironmentStatus::Running.code(), EnvironmentStatus::Failed.code()]),
                )
                .select(environments::namespace)
                .load(connection)
                .await
        })?;
        names.into_iter().map(|name| name.parse().map_err(unreadable)).collect()
    }

    /// Has what was applied held against what is in the cluster, and what failed for want of its image against its
    /// registry, for up to `limit` environments that were not looked at so for `every`. Gives how many.
    pub async fn ask_for_checks(&self, every: Duration, limit: i64) -> Result<usize, StoreError> {
        let (now, before) = (self.now(), self.now_minus(every));
        let asked = write!(self, |connection| {
            let candidates = diesel::alias!(environments as candidates);
            let overdue = candidates
                .filter(
                    candidates
                        .field(environments::applied_commit)
                        .is_not_null()
                        .or(candidates.field(environments::reason).eq(Reason::ImagePullFailed.code())),
                )
                .filter(
                    candidates
                        .field(environments::status)
                        .eq_any([EnvironmentStatus::Running.code(), EnvironmentStatus::Failed.code()]),
                )
                .filter(candidates.field(environments::checked_at).lt(before))
                .filter(candidates.field(environments::checked_at).ge(0))
                .order(candidates.field(environments::checked_at))
                .limit(limit)
                .select(candidates.field(environments::id));
            // A negative time asks for a check, and keeps when the last one was.
            diesel::update(environments::table.filter(environments::id.eq_any(overdue)))
                .set((
                    environments::checked_at.eq(environments::checked_at * -1 - 1),
                    environments::due_at.eq(now.nullable()),
                ))
                .execute(connection)
                .await
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Whether a delivery arrived, by its GUID.
    pub async fn has_delivery(&self, guid: &str) -> Result<bool, StoreError> {
        let found: i64 =
            read!(self, |connection| { deliveries::table.find(guid).count().get_result(connection).await })?;
        Ok(found > 0)
    }

    /// Remembers a namespace that no row is for; gives since when.
    pub async fn remember_orphan(&self, namespace: &Namespace) -> Result<Millis, StoreError> {
        let name = namespace.to_string();
        let now = self.now();
        write!(self, |connection| {
            diesel::insert_into(orphans::table)
                .values((orphans::namespace.eq(&name), orphans::found_at.eq(now)))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            orphans::table.find(&name).select(orphans::found_at).first(connection).await
        })
    }

    /// How many namespaces without a row were removed in the last hour.
    pub async fn orphans_removed(&self) -> Result<i64, StoreError> {
        let an_hour_ago = self.now_minus(Duration::from_secs(3_600));
        read!(self, |connection| {
            orphans::table.filter(orphans::removed_at.gt(an_hour_ago.nullable())).count().get_result(connection).await
        })
    }

    /// Forgets namespaces that are orphans no longer, and those that were removed over an hour ago.
    pub async fn forget_orphans(&self, orphaned: &[Namespace]) -> Result<(), StoreError> {
        let names: Vec<String> = orphaned.iter().map(Namespace::to_string).collect();
        let an_hour_ago = self.now_minus(Duration::from_secs(3_600));
        write!(self, |connection| {
            let is_over = orphans::removed_at.is_null().or(orphans::removed_at.lt(an_hour_ago.nullable()));
            diesel::delete(orphans::table.filter(orphans::namespace.ne_all(names)).filter(is_over))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    pub async fn record_orphan_removed(&self, namespace: &Namespace) -> Result<(), StoreError> {
        let name = namespace.to_string();
        let now = self.now();
        write!(self, |connection| {
            diesel::update(orphans::table.find(&name))
                .set(orphans::removed_at.eq(now.nullable()))
                .execute(connection)
                .await
        })?;
        Ok(())
    }
}
