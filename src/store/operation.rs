//! What operators look at: who holds places, who waits, what is stuck, and which processes do what for all.

use diesel::{dsl::count_star, prelude::*};
use diesel_async::RunQueryDsl;

use super::{
    SAMPLE_FRESH, Store, StoreError,
    connection::read,
    pull_requests::unreadable,
    schema::{engines, environments, github_budgets, leases, pull_requests, repositories, usage_samples},
};
use crate::environment::{EnvironmentStatus, Millis, Reason, RepositoryName};

/// Of a list that people look at.
const SHOWN: i64 = 50;
const MINUTE: Millis = 60_000;
const HOUR: Millis = 3_600_000;

/// What there is, and what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupancy {
    /// By status, without those that are deleted.
    pub statuses: Vec<(String, i64)>,
    /// What holds a place.
    pub repositories: Vec<RepositoryUsage>,
    /// The names of those that wait for a place, in order.
    pub queue: Vec<String>,
    /// Those whose namespace does not go, with what holds it.
    pub stuck: Vec<(String, String)>,
    pub overdue: Overdue,
}

/// What metrics show of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauges {
    /// Environments by status.
    pub statuses: Vec<(String, i64)>,
    /// How many wait for a place.
    pub queued: i64,
    pub overdue: Overdue,
    /// What all use together, as far as it was sampled lately.
    pub cpu_millicores: i64,
    pub memory_bytes: i64,
    /// What one process does for all, and since how many seconds it was not done.
    pub chores: Vec<(String, i64)>,
    /// How many engines are alive.
    pub engines: i64,
    pub github: Vec<Budget>,
}

/// Environments whose next pass is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    pub environments: i64,
    /// Since when the longest is.
    pub seconds: i64,
}

/// What the environments of a repository use together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryUsage {
    pub repository: RepositoryName,
    pub environments: i64,
    pub cpu_millicores: i64,
    pub memory_bytes: i64,
}

/// What one installation of the App wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub app_installation_id: i64,
    pub writes_this_minute: i64,
    pub writes_this_hour: i64,
    pub blocked_until: Option<Millis>,
}

impl Store {
    pub async fn occupancy(&self) -> Result<Occupancy, StoreError> {
        let named = || environments::table.inner_join(pull_requests::table.inner_join(repositories::table));
        let name = (repositories::owner, repositories::name, pull_requests::number);
        let statuses = self.environments_by_status().await?;
        let now = self.clock().await?;
        let used: Vec<UseOfOne> = read!(self, |connection| {
            let sample = usage_samples::environment_id
                .eq(environments::id)
                .and(usage_samples::sampled_at.gt(now - SAMPLE_FRESH));
            // Added up here: PostgreSQL's sum of a BIGINT is none.
            named()
                .left_join(usage_samples::table.on(sample))
                .filter(environments::admitted_at.is_not_null())
                .select((
                    repositories::owner,
                    repositories::name,
                    usage_samples::cpu_millicores.nullable(),
                    usage_samples::memory_bytes.nullable(),
                ))
                .load(connection)
                .await
        })?;
        let queue: Vec<(String, String, i64)> = read!(self, |connection| {
            named()
                .filter(environments::queued_at.is_not_null())
                .order((environments::queued_at, environments::id))
                .limit(SHOWN)
                .select(name)
                .load(connection)
                .await
        })?;
        let stuck: Vec<((String, String, i64), Option<String>)> = read!(self, |connection| {
            named()
                .filter(environments::status.eq(EnvironmentStatus::Deleting.code()))
                .filter(environments::reason.eq(Reason::NamespaceStuck.code()))
                .order(environments::id)
                .limit(SHOWN)
                .select((name, environments::message))
                .load(connection)
                .await
        })?;
        let reference = |(owner, name, number): (String, String, i64)| format!("{owner}/{name}#{number}");
        Ok(Occupancy {
            statuses,
            repositories: by_repository(used)?,
            queue: queue.into_iter().map(reference).collect(),
            stuck: stuck.into_iter().map(|(name, held)| (reference(name), held.unwrap_or_default())).collect(),
            overdue: self.overdue(now).await?,
        })
    }

    /// What metrics show.
    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        let now = self.clock().await?;
        let queued = read!(self, |connection| {
            environments::table
                .filter(environments::queued_at.is_not_null())
                .select(count_star())
                .first(connection)
                .await
        })?;
        let samples: Vec<(Option<i64>, Option<i64>)> = read!(self, |connection| {
            environments::table
                .inner_join(usage_samples::table)
                .filter(environments::admitted_at.is_not_null())
                .filter(usage_samples::sampled_at.gt(now - SAMPLE_FRESH))
                .select((usage_samples::cpu_millicores, usage_samples::memory_bytes))
                .load(connection)
                .await
        })?;
        let age = |done_at: Millis| (now - done_at).max(0) / 1_000;
        let chores = self.chores().await?.into_iter().filter(|(_, done_at)| *done_at > 0);
        Ok(Gauges {
            statuses: self.environments_by_status().await?,
            queued,
            overdue: self.overdue(now).await?,
            cpu_millicores: samples.iter().filter_map(|(cpu, _)| *cpu).sum(),
            memory_bytes: samples.iter().filter_map(|(_, memory)| *memory).sum(),
            chores: chores.map(|(name, done_at)| (name, age(done_at))).collect(),
            engines: i64::try_from(self.engines().await?.len()).unwrap_or(i64::MAX),
            github: self.github_budgets().await?,
        })
    }

    async fn environments_by_status(&self) -> Result<Vec<(String, i64)>, StoreError> {
        read!(self, |connection| {
            environments::table
                .filter(environments::status.ne(EnvironmentStatus::Deleted.code()))
                .group_by(environments::status)
                .order(environments::status)
                .select((environments::status, count_star()))
                .load(connection)
                .await
        })
    }

    async fn overdue(&self, now: Millis) -> Result<Overdue, StoreError> {
        let (environments, since): (i64, Option<Millis>) = read!(self, |connection| {
            environments::table
                .filter(environments::due_at.le(now))
                .select((count_star(), diesel::dsl::min(environments::due_at)))
                .first(connection)
                .await
        })?;
        Ok(Overdue { environments, seconds: since.map_or(0, |since| (now - since).max(0) / 1_000) })
    }

    /// What one process does for all, and when it was done last.
    pub async fn chores(&self) -> Result<Vec<(String, Millis)>, StoreError> {
        read!(self, |connection| {
            leases::table.order(leases::name).select((leases::name, leases::done_at)).load(connection).await
        })
    }

    /// The engines that are alive, with their last sign of life.
    pub async fn engines(&self) -> Result<Vec<(String, Millis)>, StoreError> {
        let since = self.now_minus(super::engines::ALIVE);
        read!(self, |connection| {
            engines::table
                .filter(engines::heartbeat.gt(since))
                .order(engines::id)
                .select((engines::id, engines::heartbeat))
                .load(connection)
                .await
        })
    }

    /// What was written to GitHub lately.
    pub async fn github_budgets(&self) -> Result<Vec<Budget>, StoreError> {
        let now = self.clock().await?;
        type Row = (i64, Millis, Millis, i64, Millis, i64);
        let rows: Vec<Row> = read!(self, |connection| {
            github_budgets::table
                .order(github_budgets::app_installation_id)
                .select((
                    github_budgets::app_installation_id,
                    github_budgets::blocked_until,
                    github_budgets::minute_began,
                    github_budgets::minute_writes,
                    github_budgets::hour_began,
                    github_budgets::hour_writes,
                ))
                .load(connection)
                .await
        })?;
        let within = |began: Millis, window: Millis, writes: i64| if now - began < window { writes } else { 0 };
        let budget = |(app_installation_id, blocked_until, minute, of_minute, hour, of_hour): Row| Budget {
            app_installation_id,
            writes_this_minute: within(minute, MINUTE, of_minute),
            writes_this_hour: within(hour, HOUR, of_hour),
            blocked_until: (blocked_until > now).then_some(blocked_until),
        };
        Ok(rows.into_iter().map(budget).collect())
    }
}

/// Owner and name of the repository, millicores and bytes.
type UseOfOne = (String, String, Option<i64>, Option<i64>);

fn by_repository(rows: Vec<UseOfOne>) -> Result<Vec<RepositoryUsage>, StoreError> {
    let mut found = std::collections::BTreeMap::<String, RepositoryUsage>::new();
    for (owner, name, cpu, memory) in rows {
        let full_name = format!("{owner}/{name}");
        let repository: RepositoryName = full_name.parse().map_err(unreadable)?;
        let usage = found.entry(full_name).or_insert(RepositoryUsage {
            repository,
            environments: 0,
            cpu_millicores: 0,
            memory_bytes: 0,
        });
        usage.environments += 1;
        usage.cpu_millicores += cpu.unwrap_or_default();
        usage.memory_bytes += memory.unwrap_or_default();
    }
    Ok(found.into_values().collect())
}
