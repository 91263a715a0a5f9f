//! Reporting: the one comment on the pull request, and GitHub's deployments, say what is true. Written only where that
//! differs from what was written last.

use std::time::Duration;

use tracing::warn;

use super::{interrupted::Interrupted, observe::access, pass::Pass};
use crate::{
    environment::{
        ATTEMPTS, Audience, CommitSha, DeploymentStatus, EnvironmentStatus, GitHubState, Hitches, Millis, PublicUrl,
        Reason, ReportTo, Telling, Urgency, github_state, remedy,
    },
    faults::Fault,
    github::{self, CommentDeployment, CommentFacts, CommentLog, GitHubError, GitRef, RepositoryAccess},
    store::{Deployment, Environment, KeptLog, Overview},
    text::tried_again,
};

/// How many deployments the comment shows.
const HISTORY: i64 = 5;
/// A removal that takes no longer is told when it is over, in milliseconds.
const REMOVAL_TAKES: Millis = 25_000;
/// How many lines of a log it shows.
const SHOWN_LINES: usize = 20;

/// What is in the way, as a pull request is told of it.
struct InTheWay {
    sentence: String,
    /// None: previewd itself cannot do its work.
    reason: Option<Reason>,
}

impl InTheWay {
    fn of(trouble: Option<&str>, hitches: &Hitches) -> Option<Self> {
        match trouble {
            Some(trouble) => Some(Self { sentence: tried_again(trouble), reason: None }),
            None => hitches.told().map(|hitch| Self { sentence: hitch.sentence.clone(), reason: Some(hitch.reason) }),
        }
    }
}

impl Pass<'_> {
    /// Gives how soon there may be more to say. `trouble`: what keeps previewd from its work.
    pub(super) async fn report(&mut self, trouble: Option<&str>) -> Result<Option<Duration>, Interrupted> {
        let store = &self.engine.store;
        let overview = store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over)?;
        let environment = &overview.environment;
        if environment.revision != self.lease.revision {
            // What stands now is about to be wrong.
            return Err(Interrupted::Over);
        }
        self.app_installation_id = overview.pull_request.facts.repository.app_installation_id;
        let deployments = store.deployments_of(&environment.id, HISTORY).await?;
        let (hitches, wish) = self.decide_what_to_tell(environment).await?;
        let told = InTheWay::of(trouble, &hitches);
        let told = told.as_ref();
        // What was told once is told to its end, whatever the recipe says by then.
        let report_to = environment.terms.map_or(self.engine.report_to, |terms| terms.report_to);
        let has_comment = environment.comment_id.is_some() || environment.comment_digest.is_some();
        if (report_to.comments() || has_comment) && is_worth_telling(&overview, &deployments, told, self.lease.now()) {
            self.report_by_comment(&overview, &deployments, told).await?;
        }
        let head = &overview.pull_request.facts.head_sha;
        let serving = environment.serving_commit.as_ref();
        let untold = report_to.deployments();
        let deployments = store.deployments_to_report(&environment.id, head, serving, untold).await?;
        self.report_by_deployments(&overview, &deployments, report_to, told).await?;
        Ok(wish)
    }

    /// What is in the way of the attempt that is under way, and what people are told of it from now on. Also how soon that
    /// may change.
    async fn decide_what_to_tell(&self, environment: &Environment) -> Result<(Hitches, Option<Duration>), Interrupted> {
        if environment.status != EnvironmentStatus::Deploying || self.engine.faults.has(Fault::ToldInTheEnd) {
            return Ok((Hitches::default(), None));
        }
        let mut hitches = self.engine.store.hitches(&environment.id).await?;
        let wish = match hitches.telling(self.lease.now()) {
            Telling::AsBefore => None,
            Telling::Tell(told) => {
                self.engine.store.record_told(&self.lease, &told).await??;
                hitches.told = Some(told);
                None
            }
            Telling::Later(at) => Some(self.until(at)),
        };
        Ok((hitches, wish))
    }

    async fn report_by_comment(
        &mut self,
        overview: &Overview,
        deployments: &[Deployment],
        told: Option<&InTheWay>,
    ) -> Result<(), Interrupted> {
        let environment = &overview.environment;
        let text = github::comment(&self.comment_facts(overview, deployments, told).await?);
        let digest = github::digest(&text);
        if environment.comment_digest.as_deref() == Some(&digest) {
            return Ok(());
        }
        let comment_id = match self.write_comment(overview, &text).await? {
            Ok(comment_id) => Some(comment_id),
            // A locked conversation, or a permission that is missing: the same text is not tried again.
            Err(error @ GitHubError::Forbidden { .. }) => {
                warn!(error = %error, "GitHub does not let previewd comment");
                environment.comment_id
            }
            // Neither is that it is gone from a repository that GitHub does not show any more.
            Err(error @ GitHubError::NotFound { .. }) if environment.status == EnvironmentStatus::Deleted => {
                warn!(error = %error, "there is nobody to tell that an environment is gone");
                environment.comment_id
            }
            Err(error) => return Err(error.into()),
        };
        self.engine.store.record_comment(&self.lease, comment_id, &digest).await??;
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
        let urgency = urgency_of(&overview.environment);
        if let Some(known) = overview.environment.comment_id {
            self.github_write(urgency).await?;
            // The same of a comment: a text that may be there, and was not heard of, is not taken for the one before.
            self.engine.store.record_comment(&self.lease, Some(known), "").await??;
            match github.update_comment(access, known, text).await {
                Ok(()) => return Ok(Ok(known)),
                // Somebody deleted it.
                Err(GitHubError::NotFound { .. }) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let marker = github::marker(&self.installation.id, &overview.environment.id);
        let found = if self.engine.faults.has(Fault::BlindComment) {
            Ok(Vec::new())
        } else {
            self.find_comments(access, number, &marker).await?
        };
        let mut found = match found {
            Ok(found) => found.into_iter(),
            Err(error) => return Ok(Err(error)),
        };
        let kept = found.next();
        // A process that was stopped just as it sent one may have made another.
        for superfluous in found {
            self.github_write(urgency).await?;
            if let Err(error) = github.delete_comment(access, superfluous).await {
                warn!(%error, "a comment that is there twice cannot be removed");
            }
        }
        self.github_write(urgency).await?;
        Ok(match kept {
            Some(found) => github.update_comment(access, found, text).await.map(|()| found),
            None => github.create_comment(access, number, text).await,
        })
    }

    /// Our comments that begin with `marker`, on all pages, the oldest first.
    pub(super) async fn find_comments(
        &mut self,
        access: &RepositoryAccess,
        number: i64,
        marker: &str,
    ) -> Result<Result<Vec<i64>, GitHubError>, Interrupted> {
        let (mut found, mut page) = (Vec::new(), 1);
        loop {
            self.github_read().await?;
            match self.engine.github.find_comments(access, number, marker, page).await {
                Ok((on_page, more)) => {
                    found.extend(on_page);
                    if !more {
                        return Ok(Ok(found));
                    }
                    page += 1;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Brings GitHub's deployments up to date, one after the other.
    async fn report_by_deployments(
        &mut self,
        overview: &Overview,
        deployments: &[Deployment],
        report_to: ReportTo,
        told: Option<&InTheWay>,
    ) -> Result<(), Interrupted> {
        let head = &overview.pull_request.facts.head_sha;
        let environment = &overview.environment;
        let serving = environment.serving_commit.as_ref();
        // The oldest first: what served before is ended before anything is said of what comes after it.
        for deployment in deployments {
            let state = github_state(environment.status, deployment.status, &deployment.commit, serving);
            let description = match state {
                Some(GitHubState::InProgress) if deployment.commit == *head => told.map(|told| told.sentence.as_str()),
                Some(GitHubState::Failure) => deployment.message.as_deref(),
                _ => None,
            };
            let description = description.unwrap_or_default();
            let is_news = |state: &GitHubState| {
                let shown = deployment.github_description.as_deref().unwrap_or_default();
                deployment.github_state != Some(*state) || (*state == GitHubState::InProgress && shown != description)
            };
            let Some(state) = state.filter(is_news) else { continue };
            // GitHub cannot have one of what never began.
            let may_exist = deployment.started_at.is_some() || state != GitHubState::Inactive;
            if deployment.github_id.is_none() && !(report_to.deployments() && may_exist) {
                continue;
            }
            match self.report_deployment(overview, deployment, state, description).await? {
                Ok(()) => {}
                // A permission that is missing, or a deployment that somebody deleted: nobody waits for it.
                Err(error @ (GitHubError::Forbidden { .. } | GitHubError::NotFound { .. })) => {
                    warn!(error = %error, "GitHub does not let previewd report deployments");
                    let (store, github_id) = (&self.engine.store, deployment.github_id);
                    store
                        .record_github_deployment(&self.lease, &deployment.id, github_id, Some((state, description)))
                        .await??;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn report_deployment(
        &mut self,
        overview: &Overview,
        deployment: &Deployment,
        state: GitHubState,
        description: &str,
    ) -> Result<Result<(), GitHubError>, Interrupted> {
        let (github, store) = (&self.engine.github, &self.engine.store);
        let (access, environment) = (&access(overview), &overview.environment);
        let urgency = match state {
            GitHubState::InProgress if description.is_empty() => Urgency::Normal,
            // What people can do something about.
            GitHubState::InProgress => Urgency::High,
            GitHubState::Success | GitHubState::Failure | GitHubState::Inactive => Urgency::High,
        };
        let github_id = match deployment.github_id {
            Some(known) => known,
            None => {
                self.github_read().await?;
                let found = match github.find_deployment(access, &deployment.commit, &environment.namespace).await {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                let github_id = match found {
                    Some(found) => found,
                    // It ended before GitHub was told of it, and no answer got lost.
                    None if state == GitHubState::Inactive => {
                        store
                            .record_github_deployment(&self.lease, &deployment.id, None, Some((state, description)))
                            .await??;
                        return Ok(Ok(()));
                    }
                    None => match self.create_deployment(overview, &deployment.commit, urgency).await? {
                        Ok(created) => created,
                        Err(error) => return Ok(Err(error)),
                    },
                };
                let recorded =
                    store.record_github_deployment(&self.lease, &deployment.id, Some(github_id), None).await?;
                if let Err(lost) = recorded {
                    self.end_superfluous(overview, &deployment.commit, github_id).await?;
                    return Err(lost.into());
                }
                github_id
            }
        };
        let url = PublicUrl::of(&environment.namespace, &self.engine.base_domain);
        let url = (state == GitHubState::Success).then(|| url.as_str());
        let page = self.page_of(environment);
        self.github_write(urgency).await?;
        // Should the answer get lost, nobody knows what GitHub shows: it is told again, whatever it is then.
        if deployment.github_state.is_some() {
            store.record_github_deployment(&self.lease, &deployment.id, Some(github_id), None).await??;
        }
        let told = github.set_deployment_state(access, github_id, state, url, page.as_deref(), description).await;
        if let Err(error) = told {
            return Ok(Err(error));
        }
        let shown = Some((state, description));
        store.record_github_deployment(&self.lease, &deployment.id, Some(github_id), shown).await??;
        Ok(Ok(()))
    }

    /// Tells GitHub of a deployment. It shows on the pull request what was made for the branch, and takes that for
    /// whatever the branch is at by then.
    async fn create_deployment(
        &mut self,
        overview: &Overview,
        commit: &CommitSha,
        urgency: Urgency,
    ) -> Result<Result<i64, GitHubError>, Interrupted> {
        let (github, access, preview) = (&self.engine.github, &access(overview), &overview.environment.namespace);
        let facts = &overview.pull_request.facts;
        // The branch of a fork is in another repository.
        if !facts.from_fork && facts.head_sha == *commit {
            self.github_write(urgency).await?;
            match github.create_deployment(access, GitRef::Branch(&facts.head_ref), preview).await {
                Ok((created, of)) if of == commit.as_str() => return Ok(Ok(created)),
                Ok((of_another, _)) => {
                    self.github_write(urgency).await?;
                    let ended =
                        github.set_deployment_state(access, of_another, GitHubState::Inactive, None, None, "").await;
                    if let Err(error) = ended {
                        warn!(%error, "a deployment of a newer commit cannot be ended; it goes on with that commit");
                    }
                }
                // The branch is gone.
                Err(GitHubError::NotFound { .. } | GitHubError::Other { .. }) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        self.github_write(urgency).await?;
        Ok(github.create_deployment(access, GitRef::Commit(commit), preview).await.map(|(created, _)| created))
    }

    /// Made when the lease no longer held: another process has made one as well, or found this one.
    async fn end_superfluous(
        &self,
        overview: &Overview,
        commit: &CommitSha,
        github_id: i64,
    ) -> Result<(), Interrupted> {
        let row = self.engine.store.deployment(&overview.environment.id, commit).await?;
        if row.is_some_and(|row| row.github_id != Some(github_id)) {
            let (github, access) = (&self.engine.github, access(overview));
            let ended = github.set_deployment_state(&access, github_id, GitHubState::Inactive, None, None, "").await;
            if let Err(error) = ended {
                warn!(%error, "a deployment that is there twice cannot be ended");
            }
        }
        Ok(())
    }

    async fn comment_facts(
        &self,
        overview: &Overview,
        deployments: &[Deployment],
        told: Option<&InTheWay>,
    ) -> Result<CommentFacts, Interrupted> {
        let environment = &overview.environment;
        let head = &overview.pull_request.facts.head_sha;
        let row = deployments.iter().find(|deployment| &deployment.commit == head);
        let log = match environment.status {
            EnvironmentStatus::Failed => self.log_to_show(environment, head).await?,
            _ => None,
        };
        Ok(CommentFacts {
            installation_id: self.installation.id.clone(),
            environment_id: environment.id.clone(),
            status: environment.status,
            reason: environment.reason,
            expires_at: self.expiry_to_warn_of(environment),
            cause_message: environment.message.clone(),
            told: told.map(|told| told.sentence.clone()),
            next_step: next_step_to_show(environment, told),
            log,
            page: self.page_of(environment),
            url: Some(PublicUrl::of(&environment.namespace, &self.engine.base_domain)),
            commit: head.clone(),
            serving_commit: environment.serving_commit.clone(),
            ran_before: environment.good_commit.as_ref() == Some(head),
            attempt: row.map_or(0, |row| row.attempt),
            attempts: ATTEMPTS,
            volumes_to_go: self.volumes_to_go(environment).await?,
            volumes_gone: self.volumes_gone(environment, row).await?,
            renamed_label: overview
                .renamed_label()
                .map(|name| (environment.trigger_label.clone().unwrap_or_default(), name.to_owned())),
            deployments: deployments
                .iter()
                .map(|deployment| CommentDeployment {
                    message: deployment.message.clone().filter(|_| deployment.status == DeploymentStatus::Failed),
                    at: deployment.finished_at.unwrap_or(deployment.created_at),
                    commit: deployment.commit.clone(),
                    status: deployment.status,
                })
                .collect(),
        })
    }

    /// The end of what the container printed that the message means.
    async fn log_to_show(
        &self,
        environment: &Environment,
        head: &CommitSha,
    ) -> Result<Option<CommentLog>, Interrupted> {
        if !environment.reason.is_some_and(is_in_a_log) {
            return Ok(None);
        }
        let kept = self.engine.store.kept_logs(&environment.id, head).await?;
        Ok(meant_log(environment.message.as_deref().unwrap_or_default(), &kept).map(|log| {
            let lines: Vec<&str> = log.body.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            // Each begins with its time.
            let lines = last.iter().map(|line| line.split_once(' ').map_or(*line, |(_, text)| text).to_owned());
            CommentLog { container: log.container.clone(), lines: lines.collect() }
        }))
    }

    fn page_of(&self, environment: &Environment) -> Option<String> {
        let public_url = self.engine.public_url.as_ref()?;
        Some(format!("{}/environments/{}", public_url.as_str().trim_end_matches('/'), environment.id))
    }

    fn expiry_to_warn_of(&self, environment: &Environment) -> Option<Millis> {
        let is_there = matches!(environment.status, EnvironmentStatus::Running | EnvironmentStatus::Failed);
        let warns_at = environment.lifetime.warns_at().filter(|_| is_there && environment.has_place)?;
        environment.lifetime.expires_at().filter(|_| warns_at <= self.lease.now())
    }
}

/// How it ended is what people wait for; a line that moves, or a warning, may come later.
fn urgency_of(environment: &Environment) -> Urgency {
    match (environment.status, environment.reason) {
        (EnvironmentStatus::Pending, Some(Reason::QueuedForCapacity)) => Urgency::Low,
        (EnvironmentStatus::Pending | EnvironmentStatus::Deploying, Some(_)) => Urgency::High,
        (EnvironmentStatus::Pending | EnvironmentStatus::Deploying | EnvironmentStatus::Deleting, _) => Urgency::Normal,
        (EnvironmentStatus::Running | EnvironmentStatus::Failed | EnvironmentStatus::Deleted, _) => Urgency::High,
    }
}

/// Whether something that ran may have said why.
fn is_in_a_log(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SetupFailed
            | Reason::HookFailed
            | Reason::JobFailed
            | Reason::CrashLoop
            | Reason::OutOfMemory
            | Reason::Evicted
            | Reason::NotReadyInTime
            | Reason::UrlUnreachable
    )
}

/// The log of the container that a message names, or of what a Job that it names came to last, or the only one of which
/// something was kept. Logs of the newest pod come first, and each pod's as its containers begin.
fn meant_log<'a>(message: &str, kept: &'a [KeptLog]) -> Option<&'a KeptLog> {
    let of_container = kept.iter().find(|log| message.contains(&format!("ontainer {} ", log.container)));
    let job = message.split_once("The job ").and_then(|(_, rest)| rest.split_whitespace().next());
    let of_job = job.and_then(|job| {
        let newest = kept.iter().find(|log| log.pod.starts_with(job))?;
        kept.iter().rfind(|log| log.pod == newest.pod)
    });
    of_container.or(of_job).or(if kept.len() == 1 { kept.first() } else { None })
}

/// What people can do about it now.
fn next_step_to_show(environment: &Environment, told: Option<&InTheWay>) -> Option<String> {
    let reason = match environment.status {
        EnvironmentStatus::Failed => environment.reason,
        EnvironmentStatus::Deploying => {
            // It may only start slowly.
            Some(told.and_then(|told| told.reason).filter(|reason| *reason != Reason::NotReadyInTime)?)
        }
        // The text says how to approve.
        EnvironmentStatus::Pending => Some(environment.reason.filter(|reason| *reason != Reason::AwaitingApproval)?),
        EnvironmentStatus::Running | EnvironmentStatus::Deleting | EnvironmentStatus::Deleted => return None,
    };
    Some(remedy(environment.status, reason, Audience::PullRequest))
}

/// Nothing is said on a pull request before something was deployed for it, and nothing while it is only about to be.
fn is_worth_telling(overview: &Overview, deployments: &[Deployment], told: Option<&InTheWay>, now: Millis) -> bool {
    let environment = &overview.environment;
    let has_comment = environment.comment_id.is_some() || environment.comment_digest.is_some();
    match environment.status {
        // Whoever was told of an image that is built is told next how it ended: two texts a push are enough.
        EnvironmentStatus::Deploying => {
            let head = &overview.pull_request.facts.head_sha;
            let row = deployments.iter().find(|deployment| &deployment.commit == head);
            let waited = row.and_then(|row| row.awaited_images.as_ref()).is_some_and(|images| !images.is_empty());
            !(waited && has_comment) || told.is_some()
        }
        EnvironmentStatus::Running | EnvironmentStatus::Failed => true,
        EnvironmentStatus::Pending => match environment.reason {
            // Somebody can do something about it, or waits for it.
            Some(Reason::AwaitingApproval | Reason::QueuedForCapacity | Reason::WaitingForImage) => true,
            reason => has_comment && (reason.is_some() || told.is_some()),
        },
        EnvironmentStatus::Deleting => {
            has_comment && environment.deletion_started_at.is_some_and(|began| now - began >= REMOVAL_TAKES)
        }
        EnvironmentStatus::Deleted => has_comment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{Cause, JobEnd};

    fn log(pod: &str, container: &str) -> KeptLog {
        KeptLog { pod: pod.to_owned(), container: container.to_owned(), body: "- a line".to_owned() }
    }

    #[test]
    fn the_log_of_what_the_message_means_is_shown() {
        let web: &[KeptLog] = &[log("web-2-x", "wait-for-db"), log("web-2-x", "app"), log("web-2-y", "wait-for-db")];
        let work: &[KeptLog] = &[log("work-2", "fetch"), log("work-2", "import"), log("work-1", "import")];
        let job = |name: &str| Cause::JobFailed { job: name.to_owned(), end: JobEnd::ExitCode(1) };
        let crash =
            |container: &str| Cause::CrashLoop { container: container.to_owned(), restarts: 3, exit_code: None };
        for (cause, kept, expected) in [
            (Cause::InitRuns { container: "wait-for-db".to_owned(), seconds: 160, of: None }, web, Some(&web[0])),
            (crash("wait-for-db"), web, Some(&web[0])),
            (crash("app"), web, Some(&web[1])),
            (crash("other"), web, None),
            (crash("other"), &web[..1], Some(&web[0])),
            // What it came to last, of its last try.
            (job("work"), work, Some(&work[1])),
            // What comes after it never began.
            (job("work"), &work[..1], Some(&work[0])),
            (job("other"), work, None),
        ] {
            assert_eq!(meant_log(&cause.to_string(), kept), expected, "{cause}");
        }
    }
}
