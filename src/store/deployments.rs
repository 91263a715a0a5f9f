//! Deployments: one commit put into an environment, and what GitHub and people are told of it.

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::{read, write},
    lease::held,
    pull_requests::{commit, from_code},
    schema::{deployments, environments},
};
use crate::environment::{CommitSha, DeploymentStatus, GitHubState, Millis, Readiness, Reason};

/// What stands before what was tried, in the column of the images. No image has a space in it.
pub(super) const TRIED: &str = "tried ";

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
    phase: i64,
    applied_digest: Option<String>,
    created_at: Millis,
    started_at: Option<Millis>,
    finished_at: Option<Millis>,
    github_id: Option<i64>,
    github_state: Option<String>,
    github_description: Option<String>,
    readiness: Option<String>,
    awaited_images: Option<String>,
    images_deadline: Option<Millis>,
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
    /// How many phases of the current attempt were applied.
    pub phase: i64,
    pub applied_digest: Option<String>,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    /// Its number at GitHub, where it is reported there.
    pub github_id: Option<i64>,
    /// The state that was written there last.
    pub github_state: Option<GitHubState>,
    /// What was written beside it.
    pub github_description: Option<String>,
    /// What showed that it ran. None before it did, and where another version wrote it.
    pub readiness: Option<Readiness>,
    /// The images that were missing when somebody first looked. None: nobody looked in this round.
    pub awaited_images: Option<Vec<String>>,
    /// Until when they are waited for. None: for as long as it takes.
    pub images_deadline: Option<Millis>,
    /// What the tags of the pull request meant when the last attempt of this round began, as far as their registries said
    /// it: `image@digest`.
    pub tried_images: Vec<String>,
}

impl TryFrom<DeploymentRow> for Deployment {
    type Error = StoreError;

    fn try_from(row: DeploymentRow) -> Result<Self, StoreError> {
        let images: Option<Vec<String>> = row.awaited_images.as_deref().and_then(|it| serde_json::from_str(it).ok());
        let (tried, awaited): (Vec<String>, Vec<String>) =
            images.iter().flatten().cloned().partition(|image| image.starts_with(TRIED));
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
            phase: row.phase,
            applied_digest: row.applied_digest,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            github_id: row.github_id,
            github_state: row.github_state.as_deref().and_then(GitHubState::from_code),
            github_description: row.github_description,
            readiness: row.readiness.as_deref().and_then(|proof| serde_json::from_str(proof).ok()),
            awaited_images: images.map(|_| awaited),
            images_deadline: row.images_deadline,
            tried_images: tried.iter().filter_map(|image| image.strip_prefix(TRIED)).map(str::to_owned).collect(),
        })
    }
}

impl Store {
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
                .filter(held(&lease))
                .set((environments::comment_id.eq(comment_id), environments::comment_digest.eq(digest)))
                .execute(connection)
                .await
        })?;
        Ok(if written == 1 { Ok(()) } else { Err(LeaseLost) })
    }

    /// The deployments of which GitHub may have to be told something: those of the head commit and of the one that serves,
    /// and all that it does not show as ended; with `untold` also those that began and of which it was told nothing yet.
    /// Oldest first.
    pub async fn deployments_to_report(
        &self,
        environment_id: &str,
        head: &CommitSha,
        serving: Option<&CommitSha>,
        untold: bool,
    ) -> Result<Vec<Deployment>, StoreError> {
        // One that was told to be inactive may be what was put back.
        let commits: Vec<&str> = [Some(head), serving].into_iter().flatten().map(CommitSha::as_str).collect();
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
                        .eq_any(commits.clone())
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

    /// Records what GitHub has of a deployment: its number there, and the state and description that it shows. None: it is
    /// not known.
    pub async fn record_github_deployment(
        &self,
        lease: &Lease,
        deployment_id: &str,
        github_id: Option<i64>,
        shown: Option<(GitHubState, &str)>,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, deployment_id) = (lease.clone(), deployment_id.to_owned());
        let (state, description) = shown.map(|(state, description)| (state.code(), description.to_owned())).unzip();
        let written = write!(self, |connection| {
            let held = environments::table.filter(held(&lease)).select(environments::id);
            diesel::update(deployments::table.find(&deployment_id))
                .filter(deployments::environment_id.eq_any(held))
                .set((
                    deployments::github_id.eq(github_id),
                    deployments::github_state.eq(state),
                    deployments::github_description.eq(&description),
                ))
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
                .filter(held(&lease))
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

    /// The newest deployments of an environment, newest first.
    pub async fn deployments_of(&self, environment_id: &str, limit: i64) -> Result<Vec<Deployment>, StoreError> {
        let rows: Vec<DeploymentRow> = read!(self, |connection| {
            deployments::table
                .filter(deployments::environment_id.eq(environment_id))
                .order(deployments::created_at.desc())
                .limit(limit)
                .select(DeploymentRow::as_select())
                .load(connection)
                .await
        })?;
        rows.into_iter().map(Deployment::try_from).collect()
    }
}
