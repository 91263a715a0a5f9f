//! What people and agents ask for: stored as facts, with their event, in one conditional transaction each. The next
//! pass carries it out.

use std::time::Duration;

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;

use super::{
    Keyed, Store, StoreError,
    commands::columns,
    connection::{read, write},
    environments::asked,
    events::{Event, EventRow},
    schema::{approvals, commands, deployments, environments, events, idempotency, pull_requests},
    standings::{StandingChanges, change_standing},
};
use crate::{
    environment::{
        Cause, CommandKey, CommitSha, DeploymentStatus, EnvironmentStatus, Hold, Millis, PullRequestState, Reason,
    },
    faults::Fault,
};

/// Who asks for what, and how it is kept.
#[derive(Debug, Clone)]
pub struct Request {
    pub event: Event,
    /// The command that asked for it, which has its answer by this.
    pub command: Option<CommandKey>,
    /// What its author is told besides.
    pub answer: Option<String>,
    /// It is granted once for its key.
    pub keyed: Option<Keyed>,
    /// It is granted only while this is the head.
    pub expected: Option<CommitSha>,
}

impl From<Event> for Request {
    fn from(event: Event) -> Self {
        Self { event, command: None, answer: None, keyed: None, expected: None }
    }
}

/// Records inside a transaction that something was asked for, and granted.
macro_rules! grant {
    ($connection:expr, $id:expr, $request:expr, $at:expr) => {{
        let Request { event, command, answer, keyed, expected: _ } = &$request;
        if let Some(keyed) = keyed {
            // Of two at once one finds its key taken, and nothing of it is written.
            diesel::insert_into(idempotency::table)
                .values((keyed, idempotency::created_at.eq($at)))
                .execute($connection)
                .await?;
        }
        diesel::insert_into(events::table).values(EventRow::of(Some(&$id), event, $at)).execute($connection).await?;
        if let Some(command) = command {
            diesel::update(commands::table.find(columns(command)))
                .set((commands::accepted.eq(true), commands::answer.eq(answer)))
                .execute($connection)
                .await?;
        }
    }};
}

/// Takes the head commit up again inside a transaction, in a new round: the plan does so with a cancelled row.
macro_rules! renew {
    ($connection:expr, $id:expr) => {{
        let head = environments::table
            .inner_join(pull_requests::table)
            .filter(environments::id.eq(&$id))
            .select(pull_requests::head_sha);
        diesel::update(deployments::table)
            .filter(deployments::environment_id.eq(&$id))
            .filter(deployments::commit_sha.eq_any(head))
            .filter(deployments::status.eq_any([DeploymentStatus::Failed.code(), DeploymentStatus::Succeeded.code()]))
            .set(deployments::status.eq(DeploymentStatus::Cancelled.code()))
            .execute($connection)
            .await?;
    }};
}

/// Ends a transaction with false where the request is for another commit than the head. Locks the environment's pull
/// request, before the environment as everybody does: no push comes between.
macro_rules! refuse_stale {
    ($connection:expr, $id:expr, $request:expr) => {
        if let Some(expected) = &$request.expected {
            let pull_request = environments::table.find(&$id).select(environments::pull_request_id);
            let is_head = diesel::update(pull_requests::table)
                .filter(pull_requests::github_id.eq_any(pull_request))
                .filter(pull_requests::head_sha.eq(expected.as_str()))
                .set(pull_requests::updated_at.eq(pull_requests::updated_at))
                .execute($connection)
                .await?;
            if is_head == 0 {
                return Ok(false);
            }
        }
    };
}

/// A status without a cause.
macro_rules! plain_status {
    ($status:expr) => {
        (
            environments::status.eq($status.code()),
            environments::reason.eq(None::<String>),
            environments::message.eq(None::<String>),
        )
    };
}

pub(super) use {plain_status, renew};

/// What is asked for is granted only for the commit that it expects: where another is the head, each of these gives false
/// and writes nothing.
impl Store {
    /// Asks for a new round of attempts at the head commit, or for what sleeps to wake. False, and nothing written,
    /// where the environment is neither failed nor asleep.
    pub async fn request_retry(&self, environment_id: &str, request: Request) -> Result<bool, StoreError> {
        self.request_round(environment_id, request, true).await
    }

    /// Asks for what sleeps to wake. False, and nothing written, where the environment is not asleep.
    pub async fn request_waking(&self, environment_id: &str, request: Request) -> Result<bool, StoreError> {
        self.request_round(environment_id, request, false).await
    }

    async fn request_round(
        &self,
        environment_id: &str,
        request: Request,
        of_failed_too: bool,
    ) -> Result<bool, StoreError> {
        let id = environment_id.to_owned();
        let (at, now) = (self.wall_clock(), self.now());
        let asked = write!(self, |connection| {
            refuse_stale!(connection, id, request);
            let failed = environments::status.eq(EnvironmentStatus::Failed.code());
            let failed = failed.and(of_failed_too.into_sql::<Bool>());
            let asleep = environments::reason.eq(Reason::Asleep.code());
            let asked = diesel::update(environments::table.find(&id))
                .filter(failed.or(asleep))
                .set((plain_status!(EnvironmentStatus::Pending), asked!(now, at), environments::used_at.eq(now)))
                .execute(connection)
                .await?;
            if asked == 0 {
                return Ok(false);
            }
            renew!(connection, id);
            grant!(connection, id, request, at);
            Ok(true)
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Asks for an environment of a pull request, whatever its recipe leaves out and whatever was held back on purpose.
    /// What runs, or is on its way, stays as it is. False, and nothing written, where the pull request is not open.
    pub async fn request_deployment(&self, environment_id: &str, request: Request) -> Result<bool, StoreError> {
        let id = environment_id.to_owned();
        let (at, now) = (self.wall_clock(), self.now());
        let asked = write!(self, |connection| {
            refuse_stale!(connection, id, request);
            let open = pull_requests::table
                .filter(pull_requests::state.eq(PullRequestState::Open.code()))
                .select(pull_requests::github_id);
            let asked = diesel::update(environments::table.find(&id))
                .filter(environments::pull_request_id.eq_any(open))
                .set((
                    asked!(now, at),
                    environments::requested.eq(true),
                    environments::hold.eq(Hold::None.code()),
                    environments::used_at.eq(now.clone()),
                ))
                .execute(connection)
                .await?;
            if asked == 0 {
                return Ok(false);
            }
            let under_way = [EnvironmentStatus::Running.code(), EnvironmentStatus::Deploying.code()];
            let asleep = environments::reason.eq(Reason::Asleep.code());
            let anew = diesel::update(environments::table.find(&id))
                .filter(environments::status.ne_all(under_way).or(asleep))
                .set((
                    plain_status!(EnvironmentStatus::Pending),
                    environments::deletion_started_at.eq(None::<i64>),
                    environments::deleted_at.eq(None::<i64>),
                ))
                .execute(connection)
                .await?;
            if anew == 1 {
                renew!(connection, id);
            }
            grant!(connection, id, request, at);
            Ok(true)
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Asks for the environment to begin anew, with empty volumes. What its recipe leaves out stays left out. False, and
    /// nothing written, where the pull request is not open.
    pub async fn request_reset(&self, environment_id: &str, request: Request) -> Result<bool, StoreError> {
        let id = environment_id.to_owned();
        let (at, now) = (self.wall_clock(), self.now());
        let is_seen = !self.faults.has(Fault::ResetUnseen);
        let asked = write!(self, |connection| {
            refuse_stale!(connection, id, request);
            let open = pull_requests::table
                .filter(pull_requests::state.eq(PullRequestState::Open.code()))
                .select(pull_requests::github_id);
            let asked = diesel::update(environments::table.find(&id))
                .filter(environments::pull_request_id.eq_any(open))
                .set((
                    asked!(now, at),
                    is_seen.then(|| {
                        (plain_status!(EnvironmentStatus::Pending), environments::serving_commit.eq(None::<String>))
                    }),
                    environments::hold.eq(Hold::None.code()),
                    environments::used_at.eq(now.clone()),
                    environments::deletion_started_at.eq(None::<i64>),
                    environments::deleted_at.eq(None::<i64>),
                ))
                .execute(connection)
                .await?;
            if asked == 1 {
                let reset = StandingChanges { reset_at: Some(Some(at)), ..StandingChanges::default() };
                change_standing!(connection, id, reset);
                grant!(connection, id, request, at);
            }
            Ok(asked == 1)
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Asks for everything of the environment to go, and for it to stay away until a new commit, reopening or a request.
    /// False, and nothing written, where it is going or gone already.
    pub async fn request_deletion(&self, environment_id: &str, request: Request) -> Result<bool, StoreError> {
        let id = environment_id.to_owned();
        let (at, now) = (self.wall_clock(), self.now());
        let cause = Cause::RemovedByHand;
        let asked = write!(self, |connection| {
            refuse_stale!(connection, id, request);
            let asked = diesel::update(environments::table.find(&id))
                .filter(
                    environments::status
                        .ne_all([EnvironmentStatus::Deleting.code(), EnvironmentStatus::Deleted.code()]),
                )
                .set((
                    asked!(now, at),
                    environments::status.eq(EnvironmentStatus::Deleting.code()),
                    environments::reason.eq(cause.reason().code()),
                    environments::message.eq(cause.to_string()),
                    environments::hold.eq(Hold::RemovedByHand.code()),
                    environments::requested.eq(false),
                ))
                .execute(connection)
                .await?;
            if asked == 1 {
                grant!(connection, id, request, at);
            }
            Ok(asked == 1)
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Keeps an environment until `until` at least. False, and nothing written, where it is going or gone.
    pub async fn request_keeping(
        &self,
        environment_id: &str,
        until: Millis,
        request: Request,
    ) -> Result<bool, StoreError> {
        let id = environment_id.to_owned();
        let (at, now) = (self.wall_clock(), self.now());
        let asked = write!(self, |connection| {
            refuse_stale!(connection, id, request);
            let asked = diesel::update(environments::table.find(&id))
                .filter(
                    environments::status
                        .ne_all([EnvironmentStatus::Deleting.code(), EnvironmentStatus::Deleted.code()]),
                )
                .set((asked!(now, at), environments::used_at.eq(now)))
                .execute(connection)
                .await?;
            if asked == 1 {
                // Whoever wants it for a day takes nothing from whoever wants it for a week.
                diesel::update(environments::table.find(&id))
                    .filter(environments::keep_until.is_null().or(environments::keep_until.lt(until)))
                    .set(environments::keep_until.eq(until))
                    .execute(connection)
                    .await?;
                grant!(connection, id, request, at);
            }
            Ok(asked == 1)
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Lets a fork's commit run. False, and nothing written, where it is not the head.
    pub async fn approve(
        &self,
        environment_id: &str,
        commit: &CommitSha,
        request: Request,
    ) -> Result<bool, StoreError> {
        let request = Request { expected: Some(commit.clone()), ..request };
        let (id, commit) = (environment_id.to_owned(), commit.to_string());
        let (at, now) = (self.wall_clock(), self.now());
        let approved = write!(self, |connection| {
            refuse_stale!(connection, id, request);
            let pull_request_id: i64 = diesel::update(environments::table.find(&id))
                .set((asked!(now, at), environments::used_at.eq(now)))
                .returning(environments::pull_request_id)
                .get_result(connection)
                .await?;
            diesel::insert_into(approvals::table)
                .values((
                    approvals::pull_request_id.eq(pull_request_id),
                    approvals::commit_sha.eq(&commit),
                    approvals::actor.eq(&request.event.actor),
                    approvals::created_at.eq(at),
                ))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            grant!(connection, id, request, at);
            Ok(true)
        })?;
        self.announce_due();
        Ok(approved)
    }

    /// Whether an admin has approved this very commit.
    pub async fn is_approved(&self, pull_request_id: i64, commit: &CommitSha) -> Result<bool, StoreError> {
        let any = self.faults.has(Fault::AnyApproval);
        let approvals: i64 = read!(self, |connection| {
            approvals::table
                .filter(approvals::pull_request_id.eq(pull_request_id))
                .filter(approvals::commit_sha.eq(commit.as_str()).or(any.into_sql::<Bool>()))
                .count()
                .get_result(connection)
                .await
        })?;
        Ok(approvals > 0)
    }

    /// Records that an environment was used, where its last use is older than `after`
    /// ([`Lifetime::counts_a_use_after`](crate::environment::Lifetime::counts_a_use_after)).
    pub async fn record_use(&self, environment_id: &str, after: Duration) -> Result<(), StoreError> {
        let id = environment_id.to_owned();
        let (now, before) = (self.now(), self.now_minus(after));
        write!(self, |connection| {
            diesel::update(environments::table.find(&id))
                .filter(environments::used_at.lt(before))
                .set(environments::used_at.eq(now))
                .execute(connection)
                .await
        })?;
        Ok(())
    }
}
