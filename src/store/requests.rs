//! What people and agents ask for: stored as facts, with their event, in one conditional transaction each. The next
//! pass carries it out.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{wall_clock, write},
    events::{Event, EventRow},
    schema::{deployments, environments, events, pull_requests},
};
use crate::environment::{Cause, CommitSha, DeploymentStatus, EnvironmentStatus, Hold};

impl Store {
    /// Asks for a new round of attempts at `commit`. False, and nothing written, where the environment is not failed.
    pub async fn request_retry(
        &self,
        environment_id: &str,
        commit: &CommitSha,
        event: Event,
    ) -> Result<bool, StoreError> {
        let (id, commit) = (environment_id.to_owned(), commit.to_string());
        let (at, now) = (wall_clock(), self.now());
        let asked = write!(self, |connection| {
            let asked = diesel::update(environments::table.find(&id))
                .filter(environments::status.eq(EnvironmentStatus::Failed.code()))
                .set((
                    environments::status.eq(EnvironmentStatus::Pending.code()),
                    environments::reason.eq(None::<String>),
                    environments::message.eq(None::<String>),
                    environments::revision.eq(environments::revision + 1),
                    environments::refresh.eq(true),
                    environments::failures.eq(0),
                    environments::due_at.eq(now.nullable()),
                    environments::updated_at.eq(at),
                ))
                .execute(connection)
                .await?;
            if asked == 0 {
                return Ok(false);
            }
            // The plan takes a cancelled row of the head commit up again, as a new round.
            diesel::update(deployments::table)
                .filter(deployments::environment_id.eq(&id))
                .filter(deployments::commit_sha.eq(&commit))
                .filter(deployments::status.eq(DeploymentStatus::Failed.code()))
                .set(deployments::status.eq(DeploymentStatus::Cancelled.code()))
                .execute(connection)
                .await?;
            diesel::insert_into(events::table).values(EventRow::of(&id, &event, at)).execute(connection).await?;
            Ok(true)
        })?;
        self.announce_due();
        Ok(asked)
    }

    /// Asks for everything of the environment to go, and for it to stay away until a new commit or reopening. False,
    /// and nothing written, where it is going or gone already, or where the head is another than `expected`.
    pub async fn request_deletion(
        &self,
        environment_id: &str,
        expected: Option<&CommitSha>,
        event: Event,
    ) -> Result<bool, StoreError> {
        let id = environment_id.to_owned();
        let expected = expected.map(CommitSha::to_string);
        let (at, now) = (wall_clock(), self.now());
        let cause = Cause::RemovedByHand;
        let asked = write!(self, |connection| {
            if let Some(expected) = expected {
                // Locks the pull request's row, before the environment's as everybody does: no push comes between.
                let pull_request = environments::table.find(&id).select(environments::pull_request_id);
                let has_this_head = diesel::update(pull_requests::table)
                    .filter(pull_requests::github_id.eq_any(pull_request))
                    .filter(pull_requests::head_sha.eq(expected))
                    .set(pull_requests::updated_at.eq(pull_requests::updated_at))
                    .execute(connection)
                    .await?;
                if has_this_head == 0 {
                    return Ok(false);
                }
            }
            let asked = diesel::update(environments::table.find(&id))
                .filter(
                    environments::status
                        .ne_all([EnvironmentStatus::Deleting.code(), EnvironmentStatus::Deleted.code()]),
                )
                .set((
                    environments::status.eq(EnvironmentStatus::Deleting.code()),
                    environments::reason.eq(cause.reason().code()),
                    environments::message.eq(cause.to_string()),
                    environments::hold.eq(Hold::RemovedByHand.code()),
                    environments::revision.eq(environments::revision + 1),
                    environments::refresh.eq(true),
                    environments::failures.eq(0),
                    environments::due_at.eq(now.nullable()),
                    environments::updated_at.eq(at),
                ))
                .execute(connection)
                .await?;
            if asked == 1 {
                diesel::insert_into(events::table).values(EventRow::of(&id, &event, at)).execute(connection).await?;
            }
            Ok(asked == 1)
        })?;
        self.announce_due();
        Ok(asked)
    }
}
