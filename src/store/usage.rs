//! What environments use: the last sample of each, and the last day in buckets.

use std::{collections::BTreeMap, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{read, write},
    schema::{environments, installation, usage_buckets, usage_samples},
};
use crate::environment::{EnvironmentStatus, Millis, Namespace};

/// How often environments are measured.
pub const SAMPLED_EVERY: Duration = Duration::from_secs(30);
/// A sample that is older says nothing of now.
pub const SAMPLE_FRESH: Millis = 120_000;
/// A bucket's length.
pub const BUCKET: Millis = 5 * 60_000;
/// How long buckets are kept.
const KEPT: Millis = 24 * 3_600_000;

/// What is known of an environment's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Queryable, Selectable)]
#[diesel(table_name = usage_samples)]
pub struct Usage {
    /// When the two below were measured. None: they never were.
    pub sampled_at: Option<Millis>,
    pub cpu_millicores: Option<i64>,
    pub memory_bytes: Option<i64>,
    /// How often containers of its present pods were started again.
    pub restarts: i64,
    /// How often the last of them had run out of memory.
    pub out_of_memory: i64,
}

/// How often the containers of an environment's present pods were started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restarts {
    pub all: i64,
    /// How often the last of them had run out of memory.
    pub out_of_memory: i64,
}

/// Five minutes of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = usage_buckets)]
pub struct UsageBucket {
    /// When it began.
    pub bucket: Millis,
    pub samples: i64,
    /// Sums over the samples.
    pub cpu_millicores: i64,
    pub memory_bytes: i64,
    pub cpu_peak: i64,
    pub memory_peak: i64,
}

/// How sampling goes.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Sampling {
    /// When it was last done. None: never.
    pub at: Option<Millis>,
    /// Why there was nothing to be had then, in a sentence.
    pub problem: Option<String>,
}

impl Store {
    /// Records what each namespace uses. `used`: millicores and bytes; of an environment that is not among them nothing is
    /// known, and its last sample grows old.
    pub async fn record_usage(&self, used: BTreeMap<Namespace, (i64, i64)>) -> Result<(), StoreError> {
        let at = self.wall_clock();
        let bucket = at - at.rem_euclid(BUCKET);
        write!(self, |connection| {
            diesel::update(installation::table)
                .set((installation::sampled_at.eq(at), installation::sampling_problem.eq(None::<String>)))
                .execute(connection)
                .await?;
            let held: Vec<(String, String)> = environments::table
                .filter(environments::namespace.eq_any(used.keys().map(Namespace::as_str)))
                .filter(environments::admitted_at.is_not_null())
                .filter(environments::status.ne(EnvironmentStatus::Deleted.code()))
                .select((environments::id, environments::namespace))
                .load(connection)
                .await?;
            for (id, namespace) in &held {
                let found = namespace.parse().ok().and_then(|name: Namespace| used.get(&name));
                let Some((cpu, memory)) = found.copied() else { continue };
                diesel::insert_into(usage_samples::table)
                    .values((
                        usage_samples::environment_id.eq(id),
                        usage_samples::sampled_at.eq(at),
                        usage_samples::cpu_millicores.eq(cpu),
                        usage_samples::memory_bytes.eq(memory),
                    ))
                    .on_conflict(usage_samples::environment_id)
                    .do_update()
                    .set((
                        usage_samples::sampled_at.eq(at),
                        usage_samples::cpu_millicores.eq(cpu),
                        usage_samples::memory_bytes.eq(memory),
                    ))
                    .execute(connection)
                    .await?;
                let known = usage_buckets::table.find((id, bucket));
                let peaks: Option<(i64, i64)> = diesel::update(known)
                    .set((
                        usage_buckets::samples.eq(usage_buckets::samples + 1),
                        usage_buckets::cpu_millicores.eq(usage_buckets::cpu_millicores + cpu),
                        usage_buckets::memory_bytes.eq(usage_buckets::memory_bytes + memory),
                    ))
                    .returning((usage_buckets::cpu_peak, usage_buckets::memory_peak))
                    .get_result(connection)
                    .await
                    .optional()?;
                match peaks {
                    None => {
                        diesel::insert_into(usage_buckets::table)
                            .values((
                                usage_buckets::environment_id.eq(id),
                                usage_buckets::bucket.eq(bucket),
                                usage_buckets::samples.eq(1),
                                usage_buckets::cpu_millicores.eq(cpu),
                                usage_buckets::memory_bytes.eq(memory),
                                usage_buckets::cpu_peak.eq(cpu),
                                usage_buckets::memory_peak.eq(memory),
                            ))
                            .execute(connection)
                            .await?;
                    }
                    Some((cpu_peak, memory_peak)) if cpu > cpu_peak || memory > memory_peak => {
                        diesel::update(known)
                            .set((
                                usage_buckets::cpu_peak.eq(cpu.max(cpu_peak)),
                                usage_buckets::memory_peak.eq(memory.max(memory_peak)),
                            ))
                            .execute(connection)
                            .await?;
                    }
                    Some(_) => {}
                }
            }
            diesel::delete(usage_buckets::table.filter(usage_buckets::bucket.lt(at - KEPT))).execute(connection).await
        })?;
        Ok(())
    }

    /// Records why nothing was measured.
    pub async fn record_sampling_problem(&self, problem: &'static str) -> Result<(), StoreError> {
        let at = self.wall_clock();
        write!(self, |connection| {
            diesel::update(installation::table)
                .set((installation::sampled_at.eq(at), installation::sampling_problem.eq(problem)))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    pub async fn sampling(&self) -> Result<Sampling, StoreError> {
        let found: Option<Sampling> = read!(self, |connection| {
            installation::table
                .find(1)
                .select((installation::sampled_at, installation::sampling_problem))
                .first(connection)
                .await
                .optional()
        })?;
        Ok(found.unwrap_or(Sampling { at: None, problem: None }))
    }

    /// Records how often the containers of an environment's present pods were started again.
    pub async fn record_restarts(&self, environment_id: &str, restarts: Restarts) -> Result<(), StoreError> {
        let known = self.usage_of(&[environment_id]).await?.remove(environment_id).unwrap_or_default();
        let Restarts { all, out_of_memory } = restarts;
        if (known.restarts, known.out_of_memory) == (all, out_of_memory) {
            return Ok(());
        }
        let id = environment_id.to_owned();
        write!(self, |connection| {
            let counts = (usage_samples::restarts.eq(all), usage_samples::out_of_memory.eq(out_of_memory));
            diesel::insert_into(usage_samples::table)
                .values((usage_samples::environment_id.eq(&id), counts))
                .on_conflict(usage_samples::environment_id)
                .do_update()
                .set(counts)
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// What is known of these environments' use, by their ids. Of some nothing may be.
    pub async fn usage_of(&self, environment_ids: &[&str]) -> Result<BTreeMap<String, Usage>, StoreError> {
        let mut found = BTreeMap::new();
        for ids in environment_ids.chunks(500) {
            let rows: Vec<(String, Usage)> = read!(self, |connection| {
                usage_samples::table
                    .filter(usage_samples::environment_id.eq_any(ids))
                    .select((usage_samples::environment_id, Usage::as_select()))
                    .load(connection)
                    .await
            })?;
            found.extend(rows);
        }
        Ok(found)
    }

    /// The last day of an environment, oldest first.
    pub async fn usage_buckets(&self, environment_id: &str) -> Result<Vec<UsageBucket>, StoreError> {
        read!(self, |connection| {
            usage_buckets::table
                .filter(usage_buckets::environment_id.eq(environment_id))
                .order(usage_buckets::bucket)
                .select(UsageBucket::as_select())
                .load(connection)
                .await
        })
    }
}
