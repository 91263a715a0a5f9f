//! One pass over one environment, read top to bottom: observe, decide, take the step, look again; report; release.

use std::{fmt, time::Duration};

use tracing::{info, warn};

use super::Engine;
use crate::{
    cluster::{CALL_TIMEOUT, ClusterError},
    environment::{
        Cause, CommitSha, Decision, DeploymentStatus, EnvironmentStatus, Hold, Millis, Place, Step, Urgency, next_step,
        wait_after_failures,
    },
    github::{self, GitHubError},
    metrics,
    store::{
        Deployment, DeploymentChanges, Environment, EnvironmentChanges, Event, EventKind, Installation, Lease,
        LeaseLost, Record, StoreError, Turn,
    },
};

/// A pass takes a handful of steps; more would be a plan that goes in circles.
const STEPS_AT_MOST: usize = 12;
/// How often those that wait in line look where they stand. A place that becomes free wakes whoever gets it.
const IN_LINE: Duration = Duration::from_secs(60);

/// One pass: an environment, the lease on it, and what to work with.
pub(super) struct Pass<'a> {
    pub engine: &'a Engine,
    pub installation: &'a Installation,
    pub lease: Lease,
    /// The cluster was seen in this pass.
    pub observed_cluster: bool,
    /// On whose budget this pass speaks to GitHub.
    pub app_installation_id: Option<i64>,
    /// Whether the pull request at this head changes something that gets a preview.
    pub in_paths: Option<(CommitSha, bool)>,
}

/// Why a pass ended early. None of it counts towards an attempt.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The lease is lost, or something newer was asked for: whoever holds the row goes on.
    Over,
    /// Something that a pass needs is away, or does not do what it should. The next pass tries again.
    Failed { why: String, retry_after: Option<Duration> },
    /// GitHub may not be asked before this has passed, and nothing is wrong.
    NotYet(Duration),
    /// GitHub asked for silence.
    Silenced { why: String, wait: Duration },
}

impl From<LeaseLost> for Interrupted {
    fn from(LeaseLost: LeaseLost) -> Self {
        Self::Over
    }
}

impl Interrupted {
    pub fn failed(why: &str) -> Self {
        Self::Failed { why: why.to_owned(), retry_after: None }
    }

    fn by(error: &dyn fmt::Display, retry_after: Option<Duration>) -> Self {
        Self::Failed { why: error.to_string(), retry_after }
    }
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        let why = format!("{:#}", anyhow::Error::from(error));
        Self::Failed { why, retry_after: None }
    }
}

impl From<ClusterError> for Interrupted {
    fn from(error: ClusterError) -> Self {
        let retry_after = match &error {
            ClusterError::Away { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self::by(&error, retry_after)
    }
}

impl From<GitHubError> for Interrupted {
    fn from(error: GitHubError) -> Self {
        match &error {
            GitHubError::RateLimited { retry_after, .. } => {
                Self::Silenced { why: error.to_string(), wait: *retry_after }
            }
            _ => Self::by(&error, None),
        }
    }
}

/// Runs one pass and gives the row back.
pub(super) async fn run(engine: &Engine, installation: &Installation, lease: Lease, claimed: Environment) {
    let mut pass =
        Pass { engine, installation, lease, observed_cluster: false, app_installation_id: None, in_paths: None };
    let steps = pass.take_steps().await;
    let reported = match &steps {
        Ok(_) => pass.report().await,
        Err(_) => Ok(()),
    };

    if let (Err(Interrupted::Silenced { wait, .. }), _) | (_, Err(Interrupted::Silenced { wait, .. })) =
        (&steps, &reported)
        && let Err(error) = engine.store.block_github(pass.app_installation_id, *wait).await
    {
        warn!(error = %error, "could not tell the others that GitHub asked for silence");
    }
    let (next, failures, outcome) = match (steps, reported) {
        // Where somebody else has the row, or made it due, this changes nothing; where time ran out, the next pass is owed.
        (Err(Interrupted::Over), _) | (Ok(_), Err(Interrupted::Over)) => (Some(Duration::ZERO), 0, "lost"),
        (Ok(next), Ok(())) => (next, 0, "done"),
        (Err(Interrupted::NotYet(wait)), _) => (Some(wait), claimed.failures, "postponed"),
        (Ok(next), Err(Interrupted::NotYet(wait))) => {
            (Some(next.map_or(wait, |next| next.min(wait))), claimed.failures, "postponed")
        }
        (Err(Interrupted::Silenced { why, wait }), _) => {
            warn!(error = why, retry_in_seconds = wait.as_secs(), "GitHub asked for silence");
            (Some(wait), claimed.failures, "postponed")
        }
        (Ok(next), Err(Interrupted::Silenced { why, wait })) => {
            warn!(error = why, retry_in_seconds = wait.as_secs(), "GitHub asked for silence");
            (Some(next.map_or(wait, |next| next.min(wait))), claimed.failures, "postponed")
        }
        (Err(Interrupted::Failed { why, retry_after }), _) => {
            let failures = claimed.failures + 1;
            let wait = retry_after.unwrap_or_default().max(wait_after_failures(failures));
            warn!(error = why, failures, retry_in_seconds = wait.as_secs(), "a pass failed");
            (Some(wait), failures, "failed")
        }
        // The environment itself is well: what it awaits is still looked at in time.
        (Ok(next), Err(Interrupted::Failed { why, retry_after })) => {
            let failures = claimed.failures + 1;
            let wait = retry_after.unwrap_or_default().max(wait_after_failures(failures));
            warn!(error = why, failures, "could not report to GitHub");
            (Some(next.map_or(wait, |next| next.min(wait))), failures, "failed")
        }
    };
    metrics::PASSES.count(outcome);
    if let Err(error) = engine.store.release(&pass.lease, next, failures, pass.observed_cluster).await {
        warn!(error = %error, "could not give an environment back; its lease runs out by itself");
    }
}

impl Pass<'_> {
    /// Takes steps until one waits. Gives how long it waits at most; None: until something happens.
    async fn take_steps(&mut self) -> Result<Option<Duration>, Interrupted> {
        for _ in 0..STEPS_AT_MOST {
            let observed = self.observe().await?;
            self.run_commands(&observed.overview).await?;
            let step = next_step(&observed.facts, self.lease.now());
            tracing::debug!(?step, "next step");
            let head = &observed.overview.pull_request.facts.head_sha;
            let deployment = observed.deployment.as_ref();
            match step {
                Step::Settle { until } => return Ok(until.map(|until| self.until(until))),
                Step::Await { until, cause } => {
                    self.show_while_waiting(&observed.overview.environment, &observed.facts.decision, cause).await?;
                    return Ok(Some(self.until(until)));
                }
                Step::AskForPlace => {
                    if let Some(cause) = self.ask_for_place().await? {
                        self.show_in_line(&observed.overview.environment, &cause).await?;
                        return Ok(Some(IN_LINE));
                    }
                }
                Step::ShowWaiting { cause } => {
                    let mut shown = EnvironmentChanges::status(EnvironmentStatus::Pending, Some(&cause));
                    if observed.overview.environment.applied_commit.is_none() {
                        shown = shown.without_place();
                    }
                    self.record(Record {
                        environment: Some(shown),
                        end_others: Some(DeploymentStatus::Superseded),
                        event: event(EventKind::Waiting, cause.reason().code()),
                        ..Record::default()
                    })
                    .await?;
                    self.give_places(&observed.overview.environment).await?;
                }
                Step::CreateDeployment { commit } => {
                    let changes = DeploymentChanges { recipe: observed.recipe_to_store(), ..Default::default() };
                    self.record(Record {
                        deployment: Some((commit, changes)),
                        end_others: Some(DeploymentStatus::Superseded),
                        ..Record::default()
                    })
                    .await?;
                }
                Step::RenewDeployment => self.renew(head, deployment).await?,
                Step::BeginAttempt { attempt, deadline } => {
                    let now = self.lease.now();
                    let changes = DeploymentChanges {
                        status: Some(DeploymentStatus::Deploying.code()),
                        attempt: Some(attempt),
                        attempt_deadline: Some(Some(deadline)),
                        retry_at: Some(None),
                        recipe: observed.recipe_to_store(),
                        applied_digest: Some(None),
                        started_at: if attempt == 1 { Some(Some(now)) } else { None },
                        ..Default::default()
                    };
                    self.record(Record {
                        environment: Some(EnvironmentChanges::status(EnvironmentStatus::Deploying, None)),
                        deployment: Some((head.clone(), changes)),
                        end_others: Some(DeploymentStatus::Superseded),
                        event: event(EventKind::Deploying, format!("{head} attempt {attempt}")),
                    })
                    .await?;
                }
                Step::Apply { restart_pods } => match self.apply(&observed, restart_pods).await? {
                    Ok(digest) => {
                        let changes = DeploymentChanges { applied_digest: Some(Some(digest)), ..Default::default() };
                        self.record(Record { deployment: Some((head.clone(), changes)), ..Record::default() }).await?;
                    }
                    Err(super::apply::NotApplied::Refused(cause)) => self.fail(&observed, &cause).await?,
                    Err(super::apply::NotApplied::NamespaceGoes) => return Ok(Some(Duration::from_secs(1))),
                },
                Step::ExtendAttempt { deadline } => {
                    let changes = DeploymentChanges { attempt_deadline: Some(Some(deadline)), ..Default::default() };
                    self.record(Record { deployment: Some((head.clone(), changes)), ..Record::default() }).await?;
                    self.engine.store.record_observation(&self.lease).await?;
                }
                Step::EndAttempt { cause, retry_at } => {
                    let changes = DeploymentChanges { retry_at: Some(Some(retry_at)), ..Default::default() };
                    let attempt = deployment.map_or(0, |deployment| deployment.attempt);
                    self.record(Record {
                        environment: Some(EnvironmentChanges::status(EnvironmentStatus::Deploying, Some(&cause))),
                        deployment: Some((head.clone(), changes.cause(Some(&cause)))),
                        event: event(EventKind::AttemptFailed, format!("attempt {attempt}: {cause}")),
                        ..Record::default()
                    })
                    .await?;
                }
                Step::Succeed => self.succeed(head).await?,
                Step::Fail { cause } => self.fail(&observed, &cause).await?,
                Step::RollBack { commit } => match self.put_back(&observed.overview.environment, &commit).await? {
                    Ok(serves) => self.rolled_back(&commit, serves).await?,
                    Err(super::apply::NotApplied::Refused(cause)) => self.give_up_going_back(&commit, &cause).await?,
                    Err(super::apply::NotApplied::NamespaceGoes) => return Ok(Some(Duration::from_secs(1))),
                },
                Step::ShowServing { commit } => {
                    let shown = EnvironmentChanges::default().serving(Some(&commit));
                    self.record(Record { environment: Some(shown), ..Record::default() }).await?;
                }
                Step::Reapply { commit } => {
                    let reapplied = self.reapply(&observed.overview.environment, &commit).await?;
                    let checked = EnvironmentChanges::default().checked(self.lease.now());
                    self.record(Record { environment: Some(checked), ..Record::default() }).await?;
                    if let Err(not_applied) = reapplied {
                        warn!(%not_applied, "what was applied cannot be applied again");
                    }
                }
                Step::FallAsleep { commit } => self.fall_asleep(&observed.overview.environment, &commit).await?,
                Step::ShowOutcome => self.show_outcome(deployment).await?,
                Step::BeginDeletion { cause } => {
                    let mut shown = EnvironmentChanges::status(EnvironmentStatus::Deleting, cause.as_ref());
                    if cause == Some(Cause::Expired) {
                        shown = shown.held(Hold::Expired);
                    }
                    self.record(Record {
                        environment: Some(shown.serving(None).deletion_started(self.lease.now())),
                        end_others: Some(DeploymentStatus::Cancelled),
                        event: event(EventKind::Deleting, reason_code(cause.as_ref())),
                        ..Record::default()
                    })
                    .await?;
                }
                Step::DeleteNamespace => self.delete_namespace(&observed).await?,
                Step::FinishDeletion { cause } => {
                    let shown = EnvironmentChanges::status(EnvironmentStatus::Deleted, cause.as_ref());
                    self.record(Record {
                        environment: Some(shown.nothing_applied().without_place().deleted(self.lease.now())),
                        end_others: Some(DeploymentStatus::Cancelled),
                        event: event(EventKind::Deleted, reason_code(cause.as_ref())),
                        ..Record::default()
                    })
                    .await?;
                    self.give_places(&observed.overview.environment).await?;
                }
            }
        }
        Err(Interrupted::failed("the plan goes in circles"))
    }

    fn until(&self, moment: Millis) -> Duration {
        Duration::from_millis(u64::try_from(moment - self.lease.now()).unwrap_or(0))
    }

    /// Why the environment has no place, if it has none.
    async fn ask_for_place(&self) -> Result<Option<Cause>, Interrupted> {
        match self.engine.store.ask_for_place(&self.lease, &self.engine.capacity).await?? {
            Place::Free => Ok(None),
            Place::Waits { scope, at_most, position } => {
                Ok(Some(Cause::QueuedForCapacity { scope, at_most, position }))
            }
        }
    }

    async fn show_in_line(&self, environment: &Environment, cause: &Cause) -> Result<(), Interrupted> {
        if environment.message.as_ref() == Some(&cause.to_string()) {
            return Ok(());
        }
        // Its position changes with everybody's; that it waits is news once.
        let is_news = environment.reason != Some(cause.reason());
        self.record(Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Pending, Some(cause))),
            event: is_news.then(|| event(EventKind::Waiting, cause.reason().code())).flatten(),
            ..Record::default()
        })
        .await
    }

    /// The place that `environment` had is somebody else's now. Should this be missed, whoever waits asks again soon.
    async fn give_places(&self, environment: &Environment) -> Result<(), Interrupted> {
        if environment.has_place {
            self.engine.store.give_places(&self.engine.capacity).await?;
        }
        Ok(())
    }

    async fn fall_asleep(&mut self, environment: &Environment, commit: &CommitSha) -> Result<(), Interrupted> {
        self.stop_pods(environment, commit).await?;
        self.record(Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Running, Some(&Cause::Asleep))),
            event: event(EventKind::Asleep, commit.to_string()),
            ..Record::default()
        })
        .await
    }

    /// Records a step, and logs its event once it is stored.
    pub(super) async fn record(&self, record: Record) -> Result<(), Interrupted> {
        let event = record.event.clone();
        self.engine.store.record(&self.lease, record).await??;
        if let Some(Event { kind, actor: _, detail }) = event {
            info!(event = %kind, detail, "environment {kind}");
        }
        Ok(())
    }

    /// Before each call to the outside, which may take as long as `timeout`: it must have ended, whatever comes of it,
    /// while the lease holds. One that is too short is renewed, unless something newer was asked for.
    pub(super) async fn fence(&mut self, timeout: Duration) -> Result<(), Interrupted> {
        if !self.lease.outlasts(timeout) {
            self.engine.store.renew(&mut self.lease).await??;
        }
        Ok(())
    }

    /// Before each read from GitHub.
    pub(super) async fn github_read(&mut self) -> Result<(), Interrupted> {
        if let Turn::After(wait) = self.engine.store.may_read(self.app_installation_id).await? {
            return Err(Interrupted::NotYet(wait));
        }
        self.fence(github::CALL_TIMEOUT).await
    }

    /// Before each write to GitHub, which counts.
    pub(super) async fn github_write(&mut self, urgency: Urgency) -> Result<(), Interrupted> {
        self.fence(github::CALL_TIMEOUT).await?;
        match self.engine.store.take_write(self.app_installation_id, urgency).await? {
            Turn::Now => Ok(()),
            Turn::After(wait) => Err(Interrupted::NotYet(wait)),
        }
    }

    async fn renew(&self, head: &CommitSha, deployment: Option<&Deployment>) -> Result<(), Interrupted> {
        let changes = DeploymentChanges {
            status: Some(DeploymentStatus::Pending.code()),
            round: Some(deployment.map_or(0, |deployment| deployment.round) + 1),
            attempt: Some(0),
            attempt_deadline: Some(None),
            retry_at: Some(None),
            applied_digest: Some(None),
            finished_at: Some(None),
            ..Default::default()
        };
        self.record(Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Pending, None)),
            deployment: Some((head.clone(), changes.cause(None))),
            end_others: Some(DeploymentStatus::Superseded),
            ..Record::default()
        })
        .await
    }

    async fn succeed(&self, head: &CommitSha) -> Result<(), Interrupted> {
        let changes = DeploymentChanges {
            status: Some(DeploymentStatus::Succeeded.code()),
            retry_at: Some(None),
            finished_at: Some(Some(self.lease.now())),
            ..Default::default()
        };
        self.record(Record {
            environment: Some(
                EnvironmentChanges::status(EnvironmentStatus::Running, None).serving(Some(head)).good(Some(head)),
            ),
            deployment: Some((head.clone(), changes.cause(None))),
            event: event(EventKind::Running, head.to_string()),
            ..Record::default()
        })
        .await
    }

    async fn fail(&self, observed: &super::observe::Observed, cause: &Cause) -> Result<(), Interrupted> {
        let head = &observed.overview.pull_request.facts.head_sha;
        let changes = DeploymentChanges {
            status: Some(DeploymentStatus::Failed.code()),
            retry_at: Some(None),
            finished_at: Some(Some(self.lease.now())),
            ..Default::default()
        };
        let still_serving = observed.still_serving();
        self.record(Record {
            environment: Some(
                EnvironmentChanges::status(EnvironmentStatus::Failed, Some(cause)).serving(still_serving),
            ),
            deployment: Some((head.clone(), changes.cause(Some(cause)))),
            event: event(EventKind::Failed, format!("{head} {}: {cause}", cause.reason())),
            ..Record::default()
        })
        .await
    }

    async fn rolled_back(&self, commit: &CommitSha, serves: bool) -> Result<(), Interrupted> {
        self.record(Record {
            environment: Some(EnvironmentChanges::default().serving(serves.then_some(commit))),
            event: event(EventKind::RolledBack, commit.to_string()),
            ..Record::default()
        })
        .await
    }

    /// The cluster refuses what it once took.
    async fn give_up_going_back(&self, commit: &CommitSha, cause: &Cause) -> Result<(), Interrupted> {
        self.record(Record {
            environment: Some(EnvironmentChanges::default().serving(None).good(None)),
            event: event(EventKind::RolledBack, format!("not to {commit}: {cause}")),
            ..Record::default()
        })
        .await
    }

    async fn show_outcome(&self, deployment: Option<&Deployment>) -> Result<(), Interrupted> {
        let Some(deployment) = deployment else { return Ok(()) };
        let status = match deployment.status {
            DeploymentStatus::Failed => EnvironmentStatus::Failed,
            DeploymentStatus::Succeeded => EnvironmentStatus::Running,
            DeploymentStatus::Pending | DeploymentStatus::Deploying => EnvironmentStatus::Deploying,
            DeploymentStatus::Superseded | DeploymentStatus::Cancelled => EnvironmentStatus::Pending,
        };
        let shown = EnvironmentChanges::outcome(status, deployment.reason, deployment.message.clone());
        self.record(Record { environment: Some(shown), ..Record::default() }).await
    }

    /// While something is awaited, the row shows what it was last seen to wait for.
    async fn show_while_waiting(
        &self,
        environment: &Environment,
        decision: &Decision,
        cause: Option<Cause>,
    ) -> Result<(), Interrupted> {
        let Some(cause) = cause else { return Ok(()) };
        let message = cause.to_string();
        if environment.message.as_deref() == Some(&message) {
            return Ok(());
        }
        let is_news = matches!(cause, Cause::NamespaceStuck { .. }) && environment.reason != Some(cause.reason());
        let status = match decision {
            Decision::Gone(_) => EnvironmentStatus::Deleting,
            Decision::Deploy(_) | Decision::Wait(_) => EnvironmentStatus::Deploying,
        };
        let shown = EnvironmentChanges::outcome(status, Some(cause.reason()), Some(message.clone()));
        self.record(Record { environment: Some(shown), ..Record::default() }).await?;
        if is_news {
            // Only whoever recorded it tells it: once.
            tracing::error!(event = "namespace_stuck", "{message}");
            metrics::ALERTS.count("namespace_stuck");
            self.engine
                .alerts
                .tell(format!("previewd cannot remove the namespace {}. {message}", environment.namespace));
        }
        Ok(())
    }

    async fn delete_namespace(&mut self, observed: &super::observe::Observed) -> Result<(), Interrupted> {
        let Some(uid) = &observed.namespace_uid else { return Ok(()) };
        let (cluster, environment) = (&self.engine.cluster, &observed.overview.environment);
        self.fence(CALL_TIMEOUT).await?;
        cluster.delete_namespace(&environment.namespace, uid).await?;

        // The namespace controller waits 5 s before it deletes what is inside, and then half of the pods' grace period
        // where some are left. Ended now, they are gone by then. What this misses, the controller deletes.
        let inventory = self.engine.store.inventory(&environment.id).await?;
        for key in inventory.iter().filter(|key| key.kind == "Deployment") {
            self.fence(CALL_TIMEOUT).await?;
            let deleted = cluster.delete_object(&environment.namespace, &key.api_version, &key.kind, &key.name, None);
            if let Err(error) = deleted.await {
                tracing::debug!(%error, "left to the namespace controller");
            }
        }
        Ok(())
    }
}

fn event(kind: EventKind, detail: impl Into<String>) -> Option<Event> {
    Some(Event { kind, actor: "previewd".to_owned(), detail: Some(detail.into()) })
}

fn reason_code(cause: Option<&Cause>) -> &'static str {
    cause.map_or("closed", |cause| cause.reason().code())
}
