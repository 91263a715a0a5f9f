//! Leases: how a pass gets an environment to itself, keeps it, and gives it back.

use std::time::Duration;

use diesel::{
    dsl::case_when,
    prelude::*,
    sql_types::{BigInt, Bool},
};
use diesel_async::RunQueryDsl;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Environment, Store, StoreError,
    connection::{Pools, read, uncancelled, write},
    environments::EnvironmentRow,
    schema::environments,
};
use crate::{
    environment::{Millis, Namespace},
    faults::Fault,
};

/// How long a claim holds, unless it is renewed. It is what a process that dies costs its environments: short, so that
/// they wait little, and longer than the longest single call to GitHub (15 s) or the cluster (10 s), so that a pass can
/// always renew between two calls.
pub const LEASE: Duration = Duration::from_secs(20);

/// A claim on one environment, with the revision of what was asked for when it was made.
#[derive(Debug, Clone)]
pub struct Lease {
    pub environment_id: String,
    pub revision: i64,
    /// 122 random bits: whoever knows them has the lease.
    pub(super) token: String,
    /// The claim's own `due_at`: still there at the end, nobody woke the row meanwhile.
    due_at: Millis,
    /// Before the database was asked for the claim, so that it never holds for longer than this process thinks.
    asked_at: Instant,
    /// The database's clock at the claim, and this process's when it heard of it.
    claimed_at: (Millis, Instant),
}

impl Lease {
    /// On the row as the claim left it, which the database was asked for at `asked_at`.
    fn of(row: &EnvironmentRow, token: String, asked_at: Instant) -> Self {
        Self {
            environment_id: row.id.clone(),
            revision: row.revision,
            token,
            due_at: row.lease_until,
            asked_at,
            claimed_at: (row.lease_until - LEASE.as_millis() as Millis, Instant::now()),
        }
    }

    /// The database's clock, carried on by this process's.
    pub fn now(&self) -> Millis {
        let (database, ours) = self.claimed_at;
        database + ours.elapsed().as_millis() as Millis
    }

    /// What shows whoever is told of it that it comes from the environment's pass: see [`Store::is_held_with`].
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether a call that may take as long as `timeout` ends while the lease holds.
    pub fn outlasts(&self, timeout: Duration) -> bool {
        self.asked_at.elapsed() + timeout < LEASE
    }
}

/// A write found that its pass is over: the lease was lost, or something newer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLost;

/// The row of the environment that the pass holds. Every statement of a pass is conditional on it.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn held(lease: &Lease) -> _ {
    let (id, token): (&str, &str) = (&lease.environment_id, &lease.token);
    environments::id.eq(id).and(environments::lease_token.eq(token))
}

/// The same, where nothing newer was asked for since the claim.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn held_unasked(lease: &Lease) -> _ {
    let (id, token, revision): (&str, &str, i64) = (&lease.environment_id, &lease.token, lease.revision);
    environments::id.eq(id).and(environments::lease_token.eq(token)).and(environments::revision.eq(revision))
}

/// The statement that claims the most overdue environment; `$locked` adds what the backend has to lock it with.
macro_rules! claim {
    ($now:expr, $until:expr, $token:expr, |$most_overdue:ident| $locked:expr) => {{
        let candidates = diesel::alias!(environments as candidates);
        let $most_overdue = candidates
            .filter(candidates.field(environments::due_at).le($now.clone().nullable()))
            .filter(candidates.field(environments::lease_until).le($now.clone()))
            .order(candidates.field(environments::due_at).asc())
            .select(candidates.field(environments::id))
            .limit(1);
        diesel::update(environments::table)
            .filter(environments::id.nullable().eq($locked.single_value()))
            .filter(environments::due_at.le($now.clone().nullable()))
            .filter(environments::lease_until.le($now.clone()))
            .set((
                environments::lease_token.eq($token),
                environments::lease_until.eq($until.clone()),
                environments::due_at.eq($until.nullable()),
            ))
            .returning(EnvironmentRow::as_returning())
    }};
}

impl Store {
    /// Whether a pass holds the environment now, with a lease of this token.
    pub async fn is_held_with(&self, environment_id: &str, token: &str) -> Result<bool, StoreError> {
        let now = self.now();
        let held = environments::id.eq(environment_id).and(environments::lease_token.eq(token));
        read!(self, |connection| {
            let holds = environments::table.filter(held).filter(environments::lease_until.gt(now));
            diesel::select(diesel::dsl::exists(holds)).get_result(connection).await
        })
    }

    /// Claims the most overdue environment that nobody holds. None where nothing is due.
    pub async fn claim_due_environment(&self) -> Result<Option<(Lease, Environment)>, StoreError> {
        let token = Uuid::new_v4().to_string();
        let claim_token = token.clone();
        let (now, until) = (self.now(), self.now_plus(LEASE));
        let asked_at = Instant::now();
        let pools = self.pools.clone();
        let row: Option<EnvironmentRow> = uncancelled(Box::pin(async move {
            Ok(match pools {
                // One writer: nobody else can be at the same row, and the statement repeats the conditions.
                Pools::Sqlite { writer, .. } => {
                    let mut connection = writer.get().await?;
                    let claim = claim!(now, until, claim_token, |most_overdue| most_overdue);
                    claim.get_result(&mut *connection).await.optional()?
                }
                // Others pass over the row that one has locked, instead of waiting for it in a queue.
                Pools::Postgres(pool) => {
                    let mut connection = pool.get().await?;
                    let claim = claim!(now, until, claim_token, |most_overdue| most_overdue.for_update().skip_locked());
                    claim.get_result(&mut *connection).await.optional()?
                }
            })
        }))
        .await?;
        let Some(row) = row else { return Ok(None) };
        let lease = Lease::of(&row, token, asked_at);
        Ok(Some((lease, row.try_into()?)))
    }

    /// Makes a lease as long as a new one. [`LeaseLost`]: somebody else holds the row, or something newer was asked for.
    pub async fn renew(&self, lease: &mut Lease) -> Result<Result<(), LeaseLost>, StoreError> {
        let (held, until, asked_at) = (lease.clone(), self.now_plus(LEASE), Instant::now());
        let row: Option<EnvironmentRow> = write!(self, |connection| {
            // A wake during the pass stays.
            let untouched = environments::due_at.eq(held.due_at);
            let due_at = case_when(untouched, until.clone().nullable()).otherwise(environments::due_at);
            diesel::update(environments::table)
                .filter(held_unasked(&held))
                .set((environments::lease_until.eq(until), environments::due_at.eq(due_at)))
                .returning(EnvironmentRow::as_returning())
                .get_result(connection)
                .await
                .optional()
        })?;
        let Some(row) = row else { return Ok(Err(LeaseLost)) };
        *lease = Lease::of(&row, lease.token.clone(), asked_at);
        Ok(Ok(()))
    }

    /// Whether a claim would find something. A read: it takes no lock.
    pub async fn has_due_environment(&self) -> Result<bool, StoreError> {
        let now = self.now();
        let due = environments::table
            .filter(environments::due_at.le(now.clone().nullable()))
            .filter(environments::lease_until.le(now))
            .select(environments::id)
            .limit(1);
        let found: Option<String> = read!(self, |connection| due.first(connection).await.optional())?;
        Ok(found.is_some())
    }

    /// Ends a pass: the next is owed after `next` (None: when something happens), unless something was asked for
    /// meanwhile, which is owed at once.
    pub async fn release(
        &self,
        lease: &Lease,
        next: Option<Duration>,
        failures: i64,
        observed: bool,
    ) -> Result<(), StoreError> {
        let next = self.now_plus_or_never(next);
        let lease = lease.clone();
        let now = lease.now();
        let loses_wakes = self.faults.has(Fault::LostWake);
        write!(self, |connection| {
            let untouched = environments::due_at.eq(lease.due_at).or(loses_wakes.into_sql::<Bool>().nullable());
            // What was asked for meanwhile starts without the waits of what failed before it.
            let still_asked = environments::revision.eq(lease.revision);
            diesel::update(environments::table)
                .filter(held(&lease))
                .set((
                    environments::lease_token.eq(None::<String>),
                    environments::lease_until.eq(0),
                    environments::failures
                        .eq(case_when(still_asked, failures.into_sql::<BigInt>()).otherwise(environments::failures)),
                    environments::due_at.eq(case_when(untouched, next).otherwise(environments::due_at)),
                    observed.then(|| environments::observed_at.eq(now)),
                ))
                .execute(connection)
                .await
        })?;
        self.announce_due();
        Ok(())
    }

    /// Makes the environment of a namespace due, because something of it changed in the cluster.
    pub async fn wake(&self, namespace: &Namespace) -> Result<(), StoreError> {
        let now = self.now();
        let namespace = namespace.to_string();
        let woken = write!(self, |connection| {
            diesel::update(environments::table)
                .filter(environments::namespace.eq(&namespace))
                .filter(environments::due_at.is_null().or(environments::due_at.gt(now.clone().nullable())))
                .set(environments::due_at.eq(now.nullable()))
                .execute(connection)
                .await
        })?;
        if woken > 0 {
            self.announce_due();
        }
        Ok(())
    }
}
