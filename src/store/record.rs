//! What a pass records: one transaction for a step of an environment and of its deployment.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    Event, Lease, LeaseLost, Store, StoreError,
    connection::write,
    deployments::TRIED,
    events::EventRow,
    lease::held_unasked,
    schema::{deployments, environments, events, renders, standings},
    standings::{StandingChanges, change_standing},
};
use crate::{
    environment::{
        Cause, CommitSha, DeploymentStatus, EnvironmentStatus, Hitch, Hold, Millis, Readiness, Reason, Terms,
    },
    faults::Fault,
};

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
    used_at: Option<Millis>,
    /// In a table of its own.
    #[diesel(skip_update)]
    standing: StandingChanges,
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

    /// The same with a status that has no cause.
    pub fn with_status(self, status: EnvironmentStatus) -> Self {
        let Self { status, reason, message, deletion_started_at, deleted_at, .. } = Self::status(status, None);
        Self { status, reason, message, deletion_started_at, deleted_at, ..self }
    }

    pub fn serving(mut self, commit: Option<&CommitSha>) -> Self {
        self.serving_commit = Some(commit.map(CommitSha::to_string));
        self
    }

    pub fn good(mut self, commit: Option<&CommitSha>) -> Self {
        self.good_commit = Some(commit.map(CommitSha::to_string));
        self
    }

    /// Nothing of any commit is in the cluster; what was applied is forgotten.
    pub fn nothing_applied(mut self) -> Self {
        self.applied_commit = Some(None);
        self.standing = StandingChanges::NOTHING;
        self.serving(None).good(None)
    }

    /// What is applied has no pods.
    pub fn asleep(mut self) -> Self {
        self.standing.asleep = Some(true);
        self
    }

    /// It has its pods again.
    pub fn awake(mut self) -> Self {
        self.standing.asleep = Some(false);
        self
    }

    /// Since when nothing of what runs is ready.
    pub fn down(mut self, since: Option<Millis>) -> Self {
        self.standing.down_since = Some(since);
        self
    }

    /// A commit runs in its namespace.
    pub fn ran(mut self) -> Self {
        self.standing.fresh = Some(false);
        self.down(None)
    }

    /// Not all of what is applied is in the cluster.
    pub fn half(mut self) -> Self {
        self.standing.half_applied = Some(true);
        self
    }

    /// All of what is applied is in the cluster.
    pub fn whole(mut self) -> Self {
        self.standing.half_applied = Some(false);
        self
    }

    /// What is in the way of what is under way. None: nothing is.
    pub fn stumbles(mut self, hitch: Option<&Hitch>) -> Self {
        self.standing.set_hitch(hitch);
        self
    }

    /// A deployment begins, of which nobody was told anything.
    pub fn begins(mut self) -> Self {
        self.standing.begin_telling();
        self
    }

    /// From now on its time without use counts.
    pub fn used(mut self, at: Millis) -> Self {
        self.used_at = Some(at);
        self
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
    pub phase: Option<i64>,
    pub applied_digest: Option<Option<String>>,
    pub started_at: Option<Option<Millis>>,
    pub finished_at: Option<Option<Millis>>,
    pub readiness: Option<Option<String>>,
    pub awaited_images: Option<Option<String>>,
    pub images_deadline: Option<Option<Millis>>,
}

impl DeploymentChanges {
    /// What shows that it runs. None: nothing was seen of this round yet.
    pub fn readiness(mut self, proof: Option<&Readiness>) -> Self {
        self.readiness = Some(proof.map(|proof| serde_json::json!(proof).to_string()));
        self
    }

    /// The images that are missing, and until when they are waited for. None: nobody looked in this round yet.
    pub fn images(mut self, missing: Option<&[String]>, deadline: Option<Millis>) -> Self {
        self.awaited_images = Some(missing.map(|images| serde_json::json!(images).to_string()));
        self.images_deadline = Some(deadline);
        self
    }

    /// What the tags of the pull request mean in the attempt that begins, `image@digest`, beside what was awaited.
    pub fn tried(mut self, awaited: &[String], tried: &[String]) -> Self {
        let tried = tried.iter().map(|image| format!("{TRIED}{image}"));
        let images: Vec<String> = awaited.iter().cloned().chain(tried).collect();
        self.awaited_images = Some(Some(serde_json::json!(images).to_string()));
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
                .filter(held_unasked(&lease))
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
                if changes.applied_commit == Some(None) {
                    // What was made up for it is made up anew for what comes.
                    let of_this = deployments::table.filter(deployments::environment_id.eq(&lease.environment_id));
                    diesel::delete(renders::table)
                        .filter(renders::deployment_id.eq_any(of_this.select(deployments::id)))
                        .execute(connection)
                        .await?;
                }
                if changes.good_commit.is_some() {
                    // What is kept of it is what ran.
                    let of_this = deployments::table.filter(deployments::environment_id.eq(&lease.environment_id));
                    diesel::update(renders::table)
                        .filter(renders::deployment_id.eq_any(of_this.select(deployments::id)))
                        .filter(renders::ran_body.is_not_null())
                        .set((renders::ran_body.eq(None::<String>), renders::ran_key.eq(None::<String>)))
                        .execute(connection)
                        .await?;
                }
                if let Some(hitch) = &changes.standing.hitch {
                    let known = standings::table.find(&lease.environment_id).select(standings::hitch);
                    let known: Option<Option<String>> = known.first(connection).await.optional()?;
                    if changes.standing.hitch_since.is_none() && known.flatten() != *hitch {
                        changes.standing.hitch_since = Some(Some(at));
                    }
                }
                if changes.standing != StandingChanges::default() {
                    change_standing!(connection, lease.environment_id, changes.standing.clone());
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
                    .values(EventRow::of(Some(&lease.environment_id), &event, at))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }
}
