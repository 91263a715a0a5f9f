//! Reporting: the one comment on the pull request says what is true. Written only where its text differs from what was
//! written last.

use tracing::warn;

use super::{
    observe::access,
    pass::{Interrupted, Pass},
};
use crate::{
    environment::{ATTEMPTS, DeploymentStatus, EnvironmentStatus, Millis, PublicUrl, Reason},
    github::{self, CommentDeployment, CommentFacts, GitHubError},
    store::{Deployment, Environment, Overview},
};

/// How many deployments the comment shows.
const HISTORY: i64 = 5;

impl Pass<'_> {
    pub(super) async fn report(&mut self) -> Result<(), Interrupted> {
        let store = &self.engine.store;
        let overview = store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over)?;
        let environment = &overview.environment;
        if environment.revision != self.lease.revision {
            // What stands now is about to be wrong.
            return Err(Interrupted::Over);
        }
        if !is_worth_telling(&overview) {
            return Ok(());
        }
        let deployments = store.deployments_of(&environment.id, HISTORY).await?;
        let text = github::comment(&self.comment_facts(&overview, deployments));
        let digest = github::digest(&text);
        if environment.comment_digest.as_deref() == Some(&digest) {
            return Ok(());
        }

        let comment_id = match self.write_comment(&overview, &text).await? {
            Ok(comment_id) => Some(comment_id),
            // A locked conversation, or a permission that is missing: the same text is not tried again.
            Err(error @ GitHubError::Forbidden { .. }) => {
                warn!(error = %error, "GitHub does not let previewd comment");
                environment.comment_id
            }
            Err(error) => return Err(error.into()),
        };
        store.record_comment(&self.lease, comment_id, &digest).await??;
        Ok(())
    }

    /// Edits our comment, or creates it where there is none; gives its id. Whether there is one is asked from GitHub
    /// before each creation, so that one whose answer got lost is found instead of doubled.
    async fn write_comment(
        &mut self,
        overview: &Overview,
        text: &str,
    ) -> Result<Result<i64, GitHubError>, Interrupted> {
        let github = &self.engine.github;
        let access = &access(overview);
        let number = overview.pull_request.facts.number;
        if let Some(known) = overview.environment.comment_id {
            self.fence(github::CALL_TIMEOUT).await?;
            match github.update_comment(access, known, text).await {
                Ok(()) => return Ok(Ok(known)),
                // Somebody deleted it.
                Err(GitHubError::NotFound { .. }) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let marker = github::marker(&self.installation.id, &overview.environment.id);
        let found = match github.find_comment(access, number, &marker).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        self.fence(github::CALL_TIMEOUT).await?;
        Ok(match found {
            Some(found) => github.update_comment(access, found, text).await.map(|()| found),
            None => github.create_comment(access, number, text).await,
        })
    }

    fn comment_facts(&self, overview: &Overview, deployments: Vec<Deployment>) -> CommentFacts {
        let environment = &overview.environment;
        let head = &overview.pull_request.facts.head_sha;
        let attempt = deployments.iter().find(|deployment| &deployment.commit == head).map_or(0, |row| row.attempt);
        CommentFacts {
            installation_id: self.installation.id.clone(),
            environment_id: environment.id.clone(),
            status: environment.status,
            reason: environment.reason,
            expires_at: self.expiry_to_warn_of(environment),
            cause_message: environment.message.clone(),
            url: Some(PublicUrl::of(&environment.namespace, &self.engine.base_domain)),
            commit: head.clone(),
            serving_commit: environment.serving_commit.clone(),
            attempt,
            attempts: ATTEMPTS,
            deployments: deployments
                .into_iter()
                .map(|deployment| CommentDeployment {
                    message: deployment.message.filter(|_| deployment.status == DeploymentStatus::Failed),
                    at: deployment.finished_at.unwrap_or(deployment.created_at),
                    commit: deployment.commit,
                    status: deployment.status,
                })
                .collect(),
        }
    }
}

impl Pass<'_> {
    fn expiry_to_warn_of(&self, environment: &Environment) -> Option<Millis> {
        let is_there = matches!(environment.status, EnvironmentStatus::Running | EnvironmentStatus::Failed);
        let warns_at = environment.lifetime.warns_at().filter(|_| is_there && environment.has_place)?;
        environment.lifetime.expires_at().filter(|_| warns_at <= self.lease.now())
    }
}

/// Nothing is said on a pull request before something was deployed for it, and nothing while it is only about to be.
fn is_worth_telling(overview: &Overview) -> bool {
    let environment = &overview.environment;
    let has_comment = environment.comment_id.is_some() || environment.comment_digest.is_some();
    match environment.status {
        EnvironmentStatus::Deploying | EnvironmentStatus::Running | EnvironmentStatus::Failed => true,
        EnvironmentStatus::Pending => match environment.reason {
            // Somebody can do something about it, or waits for it.
            Some(Reason::AwaitingApproval | Reason::QueuedForCapacity) => true,
            reason => has_comment && reason.is_some(),
        },
        EnvironmentStatus::Deleting => false,
        EnvironmentStatus::Deleted => has_comment,
    }
}
