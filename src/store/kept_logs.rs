//! The last lines of deployments that failed.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::{read, write},
    objects::lease_held,
    schema::{deployments, environments, kept_logs},
};
use crate::environment::CommitSha;

/// What one container printed last.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = kept_logs)]
pub struct KeptLog {
    pub pod: String,
    pub container: String,
    /// Lines, each with its time before it, RFC 3339.
    pub body: String,
}

impl Store {
    /// Keeps what the containers of a commit printed last, in place of what was kept of it before.
    pub async fn keep_logs(
        &self,
        lease: &Lease,
        commit: &CommitSha,
        logs: Vec<KeptLog>,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, commit) = (lease.clone(), commit.to_string());
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            let deployment_id: Option<String> = deployments::table
                .filter(deployments::environment_id.eq(&lease.environment_id))
                .filter(deployments::commit_sha.eq(&commit))
                .select(deployments::id)
                .first(connection)
                .await
                .optional()?;
            let Some(deployment_id) = deployment_id else { return Ok(Ok(())) };
            diesel::delete(kept_logs::table.filter(kept_logs::deployment_id.eq(&deployment_id)))
                .execute(connection)
                .await?;
            for (position, KeptLog { pod, container, body }) in logs.iter().enumerate() {
                diesel::insert_into(kept_logs::table)
                    .values((
                        kept_logs::deployment_id.eq(&deployment_id),
                        kept_logs::place.eq(position as i64),
                        kept_logs::pod.eq(pod),
                        kept_logs::container.eq(container),
                        kept_logs::body.eq(body),
                    ))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }

    /// What was kept of a commit, in the order in which it was read.
    pub async fn kept_logs(&self, environment_id: &str, commit: &CommitSha) -> Result<Vec<KeptLog>, StoreError> {
        read!(self, |connection| {
            kept_logs::table
                .inner_join(deployments::table)
                .filter(deployments::environment_id.eq(environment_id))
                .filter(deployments::commit_sha.eq(commit.as_str()))
                .order(kept_logs::place)
                .select(KeptLog::as_select())
                .load(connection)
                .await
        })
    }
}
