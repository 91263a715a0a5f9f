//! Deployments, and the one transaction in which a pass records a step of an environment and of its deployment.

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::{read, write},
    environments::{Trigger, apply_trigger, lift_hold},
    events::{Event, EventRow},
    facts::{free_name, lock_repository, lock_row, store_pull_request, store_repository, trigger},
    pull_requests::{PullRequestRow, RepositoryRow, commit, from_code},
    schema::{deployments, environments, events, pull_requests, repositories},
};
use crate::{
    environment::{
        Cause, CommitSha, DeploymentStatus, EnvironmentStatus, GitHubState, Hold, Millis, PullRequestFacts, Readiness,
        Reason, Terms,
    },
    faults::Fault,
};

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = deployments)]
pub(super) struct DeploymentRow {
    id: String,
    commit_sha: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    round: i64,
    attempt: i64,
    attempt_deadline: Option<Millis>,
    retry_at: Option<Millis>,
    recipe: Option<String>,
    applied_digest: Option<String>,
    created_at: Millis,
    started_at: Option<Millis>,
    finished_at: Option<Millis>,
    github_id: Option<i64>,
    github_state: Option<String>,
    readiness: Option<String>,
}

/// One commit put into an environment.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: String,
    pub commit: CommitSha,
    pub status: DeploymentStatus,
    pub reason: Option<Reason>,
    pub message: Option<String>,
    pub round: i64,
    pub attempt: i64,
    pub attempt_deadline: Option<Millis>,
    pub retry_at: Option<Millis>,
    pub recipe: Option<String>,
    pub applied_digest: Option<String>,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    /// Its number at GitHub, where it is reported there.
    pub github_id: Option<i64>,
    /// The state that was written there last.
    pub github_state: Option<GitHubState>,
    /// What showed that it ran. None before it did, and where another version wrote it.
    pub readiness: Option<Readiness>,
}

impl TryFrom<DeploymentRow> for Deployment {
    type Error = StoreError;

    fn try_from(row: DeploymentRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            commit: commit(&row.commit_sha)?,
            status: from_code(&row.status, DeploymentStatus::from_code)?,
            reason: row.reason.as_deref().and_then(Reason::from_code),
            message: row.message,
            round: row.round,
            attempt: row.attempt,
            attempt_deadline: row.attempt_deadline,
            retry_at: row.retry_at,
            recipe: row.recipe,
            applied_digest: row.applied_digest,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            github_id: row.github_id,
            github_state: row.github_state.as_deref().and_then(GitHubState::from_code),
            readiness: row.readiness.as_deref().and_then(|proof| serde_json::from_str(proof).ok()),
        })
    }
}

#[derive(Insertable)]
#[diesel(table_name = deployments)]
struct NewDeployment {
    id: String,
    environment_id: String,
    commit_sha: String,
    status: &'static str,
    round: i64,
    attempt: i64,
    created_at: Millis,
}

/// What a step changes in the environment's row; None leaves a column as it is.
#[derive(Debug, Clone, Default, AsChangeset)]
#[diesel(table_name = environments)]
pub struct EnvironmentChanges {
    status: Option<&'static str>,
    reason: Option<Option<&'static str>>,
    message: Option<Option<String>>,
    serving_commit: Option<Option<String>>,
    applied_commit: Option<Option<String>>,
    good_commit: Option<Option<String>>,
    trigger_label: Option<Option<String>>,
    terms: Option<String>,
    hold: Option<&'static str>,
    requested: Option<bool>,
    checked_at: Option<Millis>,
    queued_at: Option<Option<Millis>>,
    admitted_at: Option<Option<Millis>>,
    deletion_started_at: Option<Option<Millis>>,
    deleted_at: Option<Option<Millis>>,
}

impl EnvironmentChanges {
    /// A status with its cause. A status that is no end of it also forgets a deletion that had begun.
    pub fn status(status: EnvironmentStatus, cause: Option<&Cause>) -> Self {
        Self::outcome(status, cause.map(Cause::reason), cause.map(Cause::to_string))
    }

    /// A status with a reason and message that are there already.
    pub fn outcome(status: EnvironmentStatus, reason: Option<Reason>, message: Option<String>) -> Self {
        let ends = matches!(status, EnvironmentStatus::Deleting | EnvironmentStatus::Deleted);
        Self {
            status: Some(status.code()),
            reason: Some(reason.map(Reason::code)),
            message: Some(message),
            deletion_started_at: if ends { None } else { Some(None) },
            deleted_at: if ends { None } else { Some(None) },
            ..Self::default()
        }
    }

    pub fn serving(mut self, commit: Option<&CommitSha>) -> Self {
        self.serving_commit = Some(commit.map(CommitSha::to_string));
        self
    }

    pub fn good(mut self, commit: Option<&CommitSha>) -> Self {
        self.good_commit = Some(commit.map(CommitSha::to_string));
        self
    }

    /// Nothing of any commit is in the cluster.
    pub fn nothing_applied(mut self) -> Self {
        self.applied_commit = Some(None);
        self.serving(None).good(None)
    }

    /// What the recipe says that matters where nobody reads it, with the label that it asks for.
    pub fn recipe_says(mut self, label: Option<&str>, terms: Terms) -> Self {
        self.trigger_label = Some(label.map(str::to_owned));
        self.terms = Some(serde_json::json!(terms).to_string());
        self
    }

    /// It stays away until somebody wants it again.
    pub fn held(mut self, hold: Hold) -> Self {
        self.hold = Some(hold.code());
        self.requested = Some(false);
        self
    }

    /// What was applied was held against what is there.
    pub fn checked(mut self, at: Millis) -> Self {
        self.checked_at = Some(at);
        self
    }

    /// It has no place, and waits for none.
    pub fn without_place(mut self) -> Self {
        self.queued_at = Some(None);
        self.admitted_at = Some(None);
        self
    }

    pub fn deletion_started(mut self, at: Millis) -> Self {
        self.deletion_started_at = Some(Some(at));
        self
    }

    pub fn deleted(mut self, at: Millis) -> Self {
        self.deleted_at = Some(Some(at));
        self
    }
}

/// What a step changes in the head commit's deployment row; None leaves a column as it is.
#[derive(Debug, Clone, Default, AsChangeset)]
#[diesel(table_name = deployments)]
pub struct DeploymentChanges {
    pub status: Option<&'static str>,
    pub reason: Option<Option<&'static str>>,
    pub message: Option<Option<String>>,
    pub round: Option<i64>,
    pub attempt: Option<i64>,
    pub attempt_deadline: Option<Option<Millis>>,
    pub retry_at: Option<Option<Millis>>,
    pub recipe: Option<Option<String>>,
    pub applied_digest: Option<Option<String>>,
    pub started_at: Option<Option<Millis>>,
    pub finished_at: Option<Option<Millis>>,
    pub readiness: Option<Option<String>>,
}

impl DeploymentChanges {
    /// What shows that it runs. None: nothing was seen of this round yet.
    pub fn readiness(mut self, proof: Option<&Readiness>) -> Self {
        self.readiness = Some(proof.map(|proof| serde_json::json!(proof).to_string()));
        self
    }

    pub fn cause(mut self, cause: Option<&Cause>) -> Self {
        self.reason = Some(cause.map(|cause| cause.reason().code()));
        self.message = Some(cause.map(Cause::to_string));
        self
    }
}

/// What one step of a pass records, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub environment: Option<EnvironmentChanges>,
    /// The row of this commit, made where there is none.
    pub deployment: Option<(CommitSha, DeploymentChanges)>,
    /// Ends every other deployment that is under way.
    pub end_others: Option<DeploymentStatus>,
    pub event: Option<Event>,
}

impl Store {
    /// Records a step of the pass that holds `lease`. [`LeaseLost`]: somebody else holds it, or something newer was
    /// asked for; nothing was written.
    pub async fn record(&self, lease: &Lease, record: Record) -> Result<Result<(), LeaseLost>, StoreError> {
        let lease = lease.clone();
        let at = lease.now();
        let faults = self.faults.clone();
        write!(self, |connection| {
            // First, because it takes the row's lock: whatever was asked for before it is seen, and what comes later
            // waits.
            let held = diesel::update(environments::table)
                .filter(environments::id.eq(&lease.environment_id))
                .filter(environments::lease_token.eq(&lease.token))
                .filter(environments::revision.eq(lease.revision))
                .set(environments::updated_at.eq(at))
                .execute(connection)
                .await?;
            if held == 0 && !faults.has(Fault::UncheckedLease) {
                return Ok(Err(LeaseLost));
            }
            if let Some(mut changes) = record.environment {
                if faults.has(Fault::PlaceKept) {
                    changes.admitted_at = None;
                }
                diesel::update(environments::table.find(&lease.environment_id))
                    .set(changes)
                    .execute(connection)
                    .await
                    .optional_empty_changeset()?;
            }
            let current = record.deployment.as_ref().map_or(String::new(), |(commit, _)| commit.to_string());
            if let Some(status) = record.end_others.filter(|_| !faults.has(Fault::OthersGoOn)) {
                diesel::update(deployments::table)
                    .filter(deployments::environment_id.eq(&lease.environment_id))
                    .filter(deployments::commit_sha.ne(&current))
                    .filter(
                        deployments::status
                            .eq_any([DeploymentStatus::Pending.code(), DeploymentStatus::Deploying.code()]),
                    )
                    .set((deployments::status.eq(status.code()), deployments::finished_at.eq(at)))
                    .execute(connection)
                    .await?;
            }
            if let Some((commit, changes)) = record.deployment {
                diesel::insert_into(deployments::table)
                    .values(NewDeployment {
                        id: Uuid::now_v7().to_string(),
                        environment_id: lease.environment_id.clone(),
                        commit_sha: commit.to_string(),
                        status: DeploymentStatus::Pending.code(),
                        round: 1,
                        attempt: 0,
                        created_at: at,
                    })
                    .on_conflict_do_nothing()
                    .execute(connection)
                    .await?;
                diesel::update(deployments::table)
                    .filter(deployments::environment_id.eq(&lease.environment_id))
                    .filter(deployments::commit_sha.eq(commit.as_str()))
                    .set(changes)
                    .execute(connection)
                    .await
                    .optional_empty_changeset()?;
            }
            if let Some(event) = record.event {
                diesel::insert_into(events::table)
                    .values(EventRow::of(&lease.environment_id, &event, at))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }

    /// Records which comment was written, and with which text.
    pub async fn record_comment(
        &self,
        lease: &Lease,
        comment_id: Option<i64>,
        digest: &str,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, digest) = (lease.clone(), digest.to_owned());
        let written = write!(self, |connection| {
            diesel::update(environments::table)
                .filter(environments::id.eq(&lease.environment_id))
                .filter(environments::lease_token.eq(&lease.token))
                .set((environments::comment_id.eq(comment_id), environments::comment_digest.eq(digest)))
                .execute(connection)
                .await
        })?;
        Ok(if written == 1 { Ok(()) } else { Err(LeaseLost) })
    }

    /// The deployments of which GitHub may have to be told something: the head commit's, and all that it does not show
    /// as ended; with `untold` also those that began and of which it was told nothing yet. Oldest first.
    pub async fn deployments_to_report(
        &self,
        environment_id: &str,
        head: &CommitSha,
        untold: bool,
    ) -> Result<Vec<Deployment>, StoreError> {
        let rows: Vec<DeploymentRow> = read!(self, |connection| {
            let under_way = [GitHubState::InProgress.code(), GitHubState::Success.code()];
            let is_shown = deployments::github_state.is_null().or(deployments::github_state.eq_any(under_way));
            let is_untold = deployments::github_state
                .is_null()
                .and(deployments::started_at.is_not_null())
                .and(untold.into_sql::<Bool>());
            deployments::table
                .filter(deployments::environment_id.eq(environment_id))
                .filter(
                    deployments::commit_sha
                        .eq(head.as_str())
                        .or(deployments::github_id.is_not_null().and(is_shown))
                        .or(is_untold),
                )
                .order((deployments::created_at, deployments::id))
                .select(DeploymentRow::as_select())
                .load(connection)
                .await
        })?;
        rows.into_iter().map(Deployment::try_from).collect()
    }

    /// Records what GitHub has of a deployment.
    pub async fn record_github_deployment(
        &self,
        lease: &Lease,
        deployment_id: &str,
        github_id: Option<i64>,
        state: Option<GitHubState>,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, deployment_id) = (lease.clone(), deployment_id.to_owned());
        let written = write!(self, |connection| {
            let held = environments::table
                .filter(environments::id.eq(&lease.environment_id))
                .filter(environments::lease_token.eq(&lease.token))
                .select(environments::id);
            diesel::update(deployments::table.find(&deployment_id))
                .filter(deployments::environment_id.eq_any(held))
                .set((deployments::github_id.eq(github_id), deployments::github_state.eq(state.map(GitHubState::code))))
                .execute(connection)
                .await
        })?;
        Ok(if written == 1 { Ok(()) } else { Err(LeaseLost) })
    }

    /// Records that the cluster was seen just now.
    pub async fn record_observation(&self, lease: &Lease) -> Result<(), StoreError> {
        let (lease, at) = (lease.clone(), lease.now());
        write!(self, |connection| {
            diesel::update(environments::table)
                .filter(environments::id.eq(&lease.environment_id))
                .filter(environments::lease_token.eq(&lease.token))
                .set(environments::observed_at.eq(at))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// The row of one commit, if it was ever deployed or is about to be.
    pub async fn deployment(&self, environment_id: &str, commit: &CommitSha) -> Result<Option<Deployment>, StoreError> {
        let row: Option<DeploymentRow> = read!(self, |connection| {
            deployments::table
                .filter(deployments::environment_id.eq(environment_id))
                .filter(deployments::commit_sha.eq(commit.as_str()))
                .select(DeploymentRow::as_select())
                .first(connection)
                .await
                .optional()
        })?;
        row.map(Deployment::try_from).transpose()
    }

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
                .filter(environments::id.eq(&lease.environment_id))
                .filter(environments::lease_token.eq(&lease.token))
                .filter(environments::revision.eq(lease.revision))
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
