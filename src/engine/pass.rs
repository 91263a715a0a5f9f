//! One pass over one environment, read top to bottom: observe, decide, take the step, look again; report; release.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tracing::{Instrument, debug_span, info, warn};

use super::{
    Engine,
    apply::Applied,
    images::Awaited,
    interrupted::{Interrupted, NotApplied},
    observe::Observed,
    records::{self, record_of},
};
use crate::{
    cluster::{CALL_TIMEOUT, WorkloadKind},
    environment::{
        Cause, CommitSha, Decision, DeploymentStatus, EnvironmentStatus, Hitch, Millis, Place, Step, Urgency,
        next_step, not_taken, wait_after_failures,
    },
    faults::{Fault, Moment},
    github,
    metrics::METRICS,
    store::{Deployment, Environment, Event, Installation, Lease, Record, Restarts, Turn as Budget},
    traces,
};

/// A pass takes a handful of steps; more would be a plan that goes in circles.
const STEPS_AT_MOST: usize = 16;
/// How often those that wait in line look where they stand. A place that becomes free wakes whoever gets it.
const IN_LINE: Duration = Duration::from_secs(60);
/// How often a lease is renewed during work that may outlast it, and something newer is looked for.
const KEEP_LEASE: Duration = Duration::from_secs(2);
/// A pull request is told what keeps previewd from its work after so many tries in a row, which take a quarter of a minute.
const TOLD_AFTER: i64 = 4;
/// That going back is not taken is told after so many tries in a row, which take two minutes.
const TOLD_AFTER_FAILURES: i64 = 7;
/// A wait for GitHub that whoever asks is to hear of.
const WORTH_TELLING: Duration = Duration::from_secs(10);
/// How soon to look again at a namespace that is on its way out; the watch usually says it before.
const NAMESPACE_GOES: Duration = Duration::from_secs(1);
/// The same for pods.
const PODS_GO: Duration = Duration::from_secs(1);

/// How soon what nobody uses is stopped again, where the cluster refused that.
const STOPS_LATER: Duration = Duration::from_secs(600);

/// One pass: an environment, the lease on it, and what to work with.
pub(super) struct Pass<'a> {
    pub engine: &'a Engine,
    pub installation: &'a Installation,
    pub lease: Lease,
    /// The cluster was seen in this pass.
    pub observed_cluster: bool,
    /// Something was removed in this pass that the namespace's quota may still count.
    pub makes_room: bool,
    /// Something was sent since the lease was last known to hold.
    sent: bool,
    /// Something may have been sent when the lease no longer held.
    late: bool,
    /// On whose budget this pass speaks to GitHub.
    pub app_installation_id: Option<i64>,
    /// Whether the pull request at this head changes something that gets a preview.
    pub in_paths: Option<(CommitSha, bool)>,
    /// What was last recorded of its containers' restarts.
    pub restarts: Option<Restarts>,
    /// GitHub was asked whether what is known is still so, and did not say it: what goes anyhow goes on.
    pub unconfirmed: bool,
    /// There are commands on the pull request whose authors wait for an answer.
    pub has_commands: bool,
    /// What could not be done, and holds nothing else up.
    put_off: Option<Interrupted>,
}

/// How a pass goes on after a step.
enum Turn {
    /// It looks again at once.
    Again,
    /// It ends; the next begins after this at the latest. None: when something happens.
    Wait(Option<Duration>),
}

/// Runs one pass and gives the row back.
pub(super) async fn run(engine: &Engine, installation: &Installation, lease: Lease, claimed: Environment) {
    let began = Instant::now();
    let mut pass = Pass {
        engine,
        installation,
        lease,
        observed_cluster: false,
        makes_room: false,
        sent: false,
        late: false,
        app_installation_id: None,
        in_paths: None,
        restarts: None,
        unconfirmed: false,
        has_commands: false,
        put_off: None,
    };
    // One environment on which previewd breaks down must not be taken up again at once, and for ever.
    let worked = AssertUnwindSafe(async {
        let taken = pass.take_steps().await;
        let failures = if taken.is_ok() { 0 } else { claimed.failures };
        let next = match taken {
            Ok(next) => match pass.report(None).await {
                Ok(wish) => next.into_iter().chain(wish).min(),
                Err(interrupted) => {
                    pass.put_off(interrupted);
                    next
                }
            },
            Err(Interrupted::Over) => return (None, failures, Some(Interrupted::Over)),
            Err(interrupted) => {
                let trouble = match &interrupted {
                    Interrupted::Failed { trouble, .. } if claimed.failures >= TOLD_AFTER => Some(trouble.clone()),
                    _ => None,
                };
                pass.put_off(interrupted);
                if let Some(trouble) = trouble
                    && let Err(interrupted) = pass.report(Some(&trouble)).await
                {
                    pass.put_off(interrupted);
                }
                None
            }
        };
        if let Err(interrupted) = pass.answer_commands().await {
            pass.put_off(interrupted);
        }
        (next, failures, pass.put_off.take())
    });
    let why = "previewd broke down; what it says before this is a defect";
    let broke_down = || (None, claimed.failures, Some(Interrupted::failed(why)));
    let (next, failures_before, interrupted) = worked.catch_unwind().await.unwrap_or_else(|_| broke_down());
    // Where only the report failed the environment itself is well: what it awaits is still looked at in time.
    let at_the_latest = |wait: Duration| Some(next.map_or(wait, |next| next.min(wait)));
    let (next, failures, outcome) = match interrupted {
        None => (next, 0, "done"),
        // Where somebody else has the row, or made it due, this changes nothing; where time ran out, the next pass is owed.
        Some(Interrupted::Over) => (Some(Duration::ZERO), 0, "lost"),
        Some(Interrupted::NotYet(wait)) => (at_the_latest(wait), failures_before, "postponed"),
        Some(Interrupted::Silenced { why, trouble, wait }) => {
            pass.keep_trouble(&trouble).await;
            warn!(error = why, retry_in_seconds = wait.as_secs(), "GitHub asked for silence");
            if let Err(error) = engine.store.block_github(pass.app_installation_id, wait).await {
                warn!(error = %error, "could not tell the others that GitHub asked for silence");
            }
            (at_the_latest(wait), failures_before, "postponed")
        }
        Some(Interrupted::Failed { why, trouble, retry_after }) => {
            pass.keep_trouble(&trouble).await;
            let failures = claimed.failures + 1;
            let wait = retry_after.unwrap_or_default().max(wait_after_failures(failures));
            warn!(error = why, failures, retry_in_seconds = wait.as_secs(), "a pass failed");
            (at_the_latest(wait), failures, "failed")
        }
    };
    pass.look_back();
    if pass.late {
        warn!("this process was stopped while it worked; what it wrote since is looked at again");
        if let Err(error) = engine.store.doubt(&pass.lease.environment_id).await {
            warn!(error = %error, "could not have an environment looked at again");
        }
    }
    METRICS.passes.count(outcome);
    METRICS.pass_duration.observe(outcome, began.elapsed());
    if let Err(error) = engine.store.release(&pass.lease, next, failures, pass.observed_cluster).await {
        warn!(error = %error, "could not give an environment back; its lease runs out by itself");
    }
}

impl Pass<'_> {
    /// Keeps what ended a part of the pass until the others are done.
    pub(super) fn put_off(&mut self, interrupted: Interrupted) {
        self.put_off = Some(match self.put_off.take() {
            None => interrupted,
            Some(before) => before.and(interrupted),
        });
    }

    /// Takes steps until one waits. Gives how long it waits at most; None: until something happens.
    async fn take_steps(&mut self) -> Result<Option<Duration>, Interrupted> {
        self.run_commands().await?;
        if self.engine.faults.has(Fault::AnswersHoldUp) {
            self.answer_commands().await?;
        }
        for _ in 0..STEPS_AT_MOST {
            self.engine.faults.stall(Moment::Before).await;
            let observed = self.observe().await?;
            let step = next_step(&observed.facts, self.lease.now());
            tracing::debug!(?step, "next step");
            let began = Instant::now();
            let facts = &observed.overview.pull_request.facts;
            let span = debug_span!("step", step = step.name(), environment = %observed.overview.environment.namespace);
            // Waiting is no part of the way: an environment waits for as long as it lives.
            if !matches!(step, Step::Settle { .. } | Step::Await { .. }) {
                traces::join(&span, facts.github_id, &facts.head_sha);
            }
            let turn = self.take_step(&step, &observed).instrument(span).await;
            METRICS.steps.observe(step.name(), began.elapsed());
            if let Turn::Wait(wait) = turn? {
                return Ok(wait);
            }
        }
        Err(Interrupted::failed("the plan goes in circles"))
    }

    /// Takes one step and records it.
    async fn take_step(&mut self, step: &Step, observed: &Observed) -> Result<Turn, Interrupted> {
        let environment = &observed.overview.environment;
        let seen = observed.seen();
        if matches!(step, Step::EndAttempt { .. } | Step::Fail { .. }) {
            self.keep_logs(observed).await?;
        }
        if matches!(step, Step::ShowWaiting { .. } | Step::LookForImages) {
            self.end_abandoned_jobs(observed).await;
        }
        let record = match step {
            Step::Settle { until } => return Ok(Turn::Wait(until.map(|until| self.until(until)))),
            Step::Await { until, cause } => {
                self.show_while_waiting(observed, cause.as_ref()).await?;
                return Ok(Turn::Wait(Some(self.until(*until))));
            }
            Step::AskForPlace => return self.ask_for_place(environment).await,
            Step::LookForImages => match self.look_for_images(observed).await {
                Ok(Awaited { missing, deadline }) => records::looked_for_images(&missing, deadline, &seen),
                Err(NotApplied::Refused(cause)) => records::refused_at_once(&cause, &seen, self.lease.now()),
                Err(NotApplied::NamespaceGoes) => return Ok(Turn::Wait(Some(NAMESPACE_GOES))),
                Err(later @ (NotApplied::NotTaken(_) | NotApplied::Unanswered { .. } | NotApplied::Interrupted(_))) => {
                    return Err(later.interrupts());
                }
            },
            Step::AwaitImage { cause, until } => {
                self.show_in_line(environment, cause).await?;
                return Ok(Turn::Wait(Some(self.until(*until))));
            }
            Step::Apply { phase, restart_pods } => match self.apply_or_tell(observed, *phase, *restart_pods).await {
                Ok(Applied { phases, digest }) => records::applied(phases, digest, &seen),
                Err(NotApplied::Refused(cause)) if self.engine.faults.has(Fault::RefusalRetried) => {
                    return Err(Interrupted::failed(cause));
                }
                Err(NotApplied::Refused(cause)) => records::failed(&cause, &seen, self.lease.now()),
                Err(NotApplied::NotTaken(cause)) => return self.is_not_taken(observed, cause).await,
                Err(NotApplied::NamespaceGoes) => return Ok(Turn::Wait(Some(NAMESPACE_GOES))),
                Err(later @ (NotApplied::Unanswered { .. } | NotApplied::Interrupted(_))) => {
                    return Err(later.interrupts());
                }
            },
            Step::RollBack { commit } => match self.put_back(observed, commit).await {
                // Where URLs are proved, this one's is as well before it is said to answer: its route may just have changed.
                Ok(serves) => records::rolled_back(commit, serves && self.engine.prober.is_none()),
                Err(NotApplied::Refused(cause)) => records::gave_up_going_back(commit, &cause),
                Err(NotApplied::NotTaken(cause)) => {
                    // It is tried again, ever more seldom, and told once.
                    if environment.failures == TOLD_AFTER_FAILURES {
                        self.record(records::goes_back_later(commit, &cause)).await?;
                    }
                    return Err(Interrupted::failed(cause));
                }
                Err(NotApplied::NamespaceGoes) => return Ok(Turn::Wait(Some(NAMESPACE_GOES))),
                Err(later @ (NotApplied::Unanswered { .. } | NotApplied::Interrupted(_))) => {
                    return Err(later.interrupts());
                }
            },
            Step::Reapply { commit } | Step::Wake { commit } => {
                let wakes = matches!(step, Step::Wake { .. });
                let reapplied = match self.reapply(environment, commit, observed.standing.asleep && !wakes).await {
                    Err(not_applied) if wakes => Err(self.tell_apart(environment, not_applied).await),
                    reapplied => reapplied,
                };
                let is_whole = match reapplied {
                    Ok(()) => true,
                    Err(NotApplied::Refused(cause) | NotApplied::NotTaken(cause)) => {
                        warn!(%cause, "what was applied cannot be applied again");
                        false
                    }
                    Err(NotApplied::NamespaceGoes) => {
                        warn!("what was applied cannot be applied again: it goes");
                        false
                    }
                    Err(later @ (NotApplied::Unanswered { .. } | NotApplied::Interrupted(_))) => {
                        return Err(later.interrupts());
                    }
                };
                if wakes && !is_whole {
                    // Some of it may run: what goes back to it puts back all of it.
                    self.record(records::half_awake()).await?;
                    return Ok(Turn::Again);
                }
                record_of(step, &seen, self.lease.now())
            }
            Step::FallAsleep { commit } => {
                if !observed.standing.asleep {
                    match self.stop_pods(environment, commit).await {
                        Ok(()) => {}
                        Err(NotApplied::Refused(cause)) => {
                            warn!(%cause, "what nobody uses cannot be stopped");
                            return self.runs_on(environment, commit).await;
                        }
                        Err(later) => return Err(later.interrupts()),
                    }
                }
                record_of(step, &seen, self.lease.now())
            }
            Step::Prune { volumes } => match self.prune(observed, *volumes).await {
                Ok(removed) => records::pruned(&removed),
                // The commit is ready: no attempt of it ends with that.
                Err(NotApplied::NotTaken(cause)) if is_under_way(observed) && self.has_time(observed) => {
                    return self.is_not_taken(observed, cause).await;
                }
                Err(later) => return Err(later.interrupts()),
            },
            Step::RemoveBlockingPods => match self.remove_blocking_pods(observed).await {
                Ok(()) => return Ok(Turn::Wait(Some(PODS_GO))),
                Err(NotApplied::NotTaken(cause)) if is_under_way(observed) => {
                    return self.is_not_taken(observed, cause).await;
                }
                Err(later) => return Err(later.interrupts()),
            },
            Step::DeleteNamespace => {
                self.delete_namespace(observed).await?;
                return Ok(Turn::Again);
            }
            Step::ExtendAttempt { .. } => {
                self.record(record_of(step, &seen, self.lease.now())).await?;
                self.engine.store.record_observation(&self.lease).await?;
                return Ok(Turn::Again);
            }
            Step::ShowWaiting { .. }
            | Step::CreateDeployment { .. }
            | Step::RenewDeployment
            | Step::BeginAttempt { .. }
            | Step::EndAttempt { .. }
            | Step::Succeed
            | Step::Fail { .. }
            | Step::ShowServing { .. }
            | Step::NoteDown { .. }
            | Step::NoteChecked
            | Step::BeginAnew { .. }
            | Step::ShowOutcome
            | Step::BeginDeletion { .. }
            | Step::FinishDeletion { .. } => record_of(step, &seen, self.lease.now()),
        };
        self.record_and_count(record, observed).await?;
        if let Step::EndAttempt { cause: Cause::HookFailed { job, .. }, .. }
        | Step::Fail { cause: Cause::HookFailed { job, .. } } = step
        {
            self.remove_failed_hook(environment, seen.head, job).await?;
        }
        // Should this be missed, whoever waits asks again soon.
        let gives_its_place = matches!(step, Step::ShowWaiting { .. } | Step::FinishDeletion { .. });
        if gives_its_place && environment.has_place {
            self.engine.store.give_places(&self.engine.capacity()).await?;
        }
        Ok(Turn::Again)
    }

    /// The cluster does not take an object now: what is told of it, and when the attempt ends with that.
    async fn is_not_taken(&mut self, observed: &Observed, cause: Cause) -> Result<Turn, Interrupted> {
        let step = not_taken(&observed.facts, cause, self.lease.now());
        if let Step::Await { until, cause } = &step {
            self.show_while_waiting(observed, cause.as_ref()).await?;
            return Ok(Turn::Wait(Some(self.until(*until))));
        }
        self.keep_logs(observed).await?;
        self.record_and_count(record_of(&step, &observed.seen(), self.lease.now()), observed).await?;
        Ok(Turn::Again)
    }

    /// Whether the attempt has time left.
    fn has_time(&self, observed: &Observed) -> bool {
        let deadline = observed.deployment.as_ref().and_then(|row| row.attempt_deadline);
        deadline.is_some_and(|deadline| self.lease.now() < deadline)
    }

    /// The cluster refuses that what nobody uses is stopped. A webhook that can be asked about nothing beforehand may have
    /// let some of it be: all of it goes on to run, as it is said to.
    async fn runs_on(&mut self, environment: &Environment, commit: &CommitSha) -> Result<Turn, Interrupted> {
        match self.reapply(environment, commit, false).await {
            Ok(()) | Err(NotApplied::Refused(_)) => Ok(Turn::Wait(Some(STOPS_LATER))),
            Err(later) => Err(later.interrupts()),
        }
    }

    async fn record_and_count(&self, record: Record, observed: &Observed) -> Result<(), Interrupted> {
        let status = record.deployment.as_ref().and_then(|(_, changes)| changes.status);
        self.record(record).await?;
        if let Some(status) = status {
            self.count_outcome(status, observed.deployment.as_ref());
        }
        Ok(())
    }

    /// Counts a deployment where this status ends it, and what it took where it succeeded. `row`: as it was before.
    fn count_outcome(&self, status: &str, row: Option<&Deployment>) {
        if status == DeploymentStatus::Failed.code() && row.is_none_or(|row| row.status != DeploymentStatus::Failed) {
            METRICS.deployments.count("failed");
        }
        if status != DeploymentStatus::Succeeded.code() {
            return;
        }
        METRICS.deployments.count("succeeded");
        // One that came to life after it had failed says nothing of how long deployments take.
        let Some(row) = row.filter(|row| row.status == DeploymentStatus::Deploying) else { return };
        let Some(started_at) = row.started_at else { return };
        let between = |from: Millis, to: Millis| Duration::from_millis(u64::try_from(to - from).unwrap_or(0));
        METRICS.stages.observe("deploying", between(started_at, self.lease.now()));
        // Later rounds began when somebody asked for them, which no row says.
        if row.round == 1 {
            METRICS.stages.observe("waiting", between(row.created_at, started_at));
        }
    }

    /// For whoever asks why nothing happens.
    async fn keep_trouble(&self, trouble: &str) {
        if let Err(error) = self.engine.store.record_trouble(&self.lease, trouble).await {
            warn!(error = %error, "could not keep what a pass failed of");
        }
    }

    pub(super) fn until(&self, moment: Millis) -> Duration {
        Duration::from_millis(u64::try_from(moment - self.lease.now()).unwrap_or(0))
    }

    /// Gets a place, or shows where in the line the environment stands.
    async fn ask_for_place(&self, environment: &Environment) -> Result<Turn, Interrupted> {
        let place = self.engine.store.ask_for_place(&self.lease, &self.engine.capacity()).await??;
        let Place::Waits { scope, at_most, position } = place else { return Ok(Turn::Again) };
        self.show_in_line(environment, &Cause::QueuedForCapacity { scope, at_most, position }).await?;
        Ok(Turn::Wait(Some(IN_LINE)))
    }

    /// What is awaited before anything begins.
    async fn show_in_line(&self, environment: &Environment, cause: &Cause) -> Result<(), Interrupted> {
        if environment.message.as_ref() == Some(&cause.to_string()) {
            return Ok(());
        }
        self.record(records::in_line(cause, environment.reason != Some(cause.reason()))).await
    }

    /// Records a step, and logs its event once it is stored.
    pub(super) async fn record(&self, record: Record) -> Result<(), Interrupted> {
        self.engine.faults.stall(Moment::Before).await;
        let event = record.event.clone();
        self.engine.store.record(&self.lease, record).await??;
        if let Some(Event { kind, actor: _, origin: _, detail }) = event {
            info!(event = %kind, detail, "environment {kind}");
        }
        Ok(())
    }

    /// Before each call to the outside, which may take as long as `timeout`: it must have ended, whatever comes of it,
    /// while the lease holds. One that is too short is renewed, unless something newer was asked for.
    pub(super) async fn fence(&mut self, timeout: Duration) -> Result<(), Interrupted> {
        self.engine.faults.stall(Moment::Before).await;
        self.look_back();
        if !self.lease.outlasts(timeout) && !self.engine.faults.has(Fault::UnfencedCall) {
            self.engine.store.renew(&mut self.lease).await??;
        }
        self.sent = true;
        self.engine.faults.stall(Moment::After).await;
        Ok(())
    }

    /// Does work of its own that takes longer than a lease, and keeps the lease meanwhile. Something newer that is asked
    /// for ends the work where it is.
    pub(super) async fn keep_lease<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(KEEP_LEASE) => self.engine.store.renew(&mut self.lease).await??,
            }
        }
    }

    /// A process that is stopped between the fence and the call sends it late, over whatever another one wrote meanwhile.
    /// It shows in the lease, which has run out by then.
    fn look_back(&mut self) {
        self.late |= self.sent && !self.lease.outlasts(Duration::ZERO);
        self.sent = false;
    }

    /// Nothing more is sent to GitHub once it asked for silence.
    fn not_silenced(&self) -> Result<(), Interrupted> {
        match &self.put_off {
            Some(Interrupted::Silenced { wait, .. }) => Err(Interrupted::NotYet(*wait)),
            _ => Ok(()),
        }
    }

    /// Before each read from GitHub.
    pub(super) async fn github_read(&mut self) -> Result<(), Interrupted> {
        self.not_silenced()?;
        if let Budget::After(wait) = self.engine.store.may_read(self.app_installation_id).await? {
            if wait >= WORTH_TELLING {
                self.keep_trouble(&format!("GitHub asked for silence, which lasts {} s more", wait.as_secs())).await;
            }
            return Err(Interrupted::NotYet(wait));
        }
        self.fence(github::CALL_TIMEOUT).await
    }

    /// Before each write to GitHub, which counts.
    pub(super) async fn github_write(&mut self, urgency: Urgency) -> Result<(), Interrupted> {
        self.not_silenced()?;
        self.fence(github::CALL_TIMEOUT).await?;
        match self.engine.store.take_write(self.app_installation_id, urgency).await? {
            Budget::Now => Ok(()),
            Budget::After(wait) => {
                if wait >= WORTH_TELLING {
                    let seconds = wait.as_secs();
                    self.keep_trouble(&format!("GitHub takes no more words of previewd's for {seconds} s")).await;
                }
                Err(Interrupted::NotYet(wait))
            }
        }
    }

    /// While something is awaited, the row shows what it was last seen to wait for.
    async fn show_while_waiting(&self, observed: &Observed, cause: Option<&Cause>) -> Result<(), Interrupted> {
        let environment = &observed.overview.environment;
        let Some(cause) = cause else { return self.show_that_it_goes_on(observed).await };
        if environment.status == EnvironmentStatus::Failed {
            // Why it failed stays to be read; this is why nothing comes back.
            self.keep_trouble(cause.to_string().trim_end_matches('.')).await;
            return Ok(());
        }
        let message = cause.to_string();
        let is_noted = environment.status != EnvironmentStatus::Deploying
            || observed.hitches.now.as_ref() == Some(&Hitch::from(cause));
        if environment.message.as_deref() == Some(&message) && is_noted {
            return Ok(());
        }
        let is_news = matches!(cause, Cause::NamespaceStuck { .. }) && environment.reason != Some(cause.reason());
        let status = match (&observed.facts.decision, environment.status) {
            (Decision::Gone(_), _) => EnvironmentStatus::Deleting,
            (Decision::Deploy(_) | Decision::Wait(_), EnvironmentStatus::Pending) => EnvironmentStatus::Pending,
            (Decision::Deploy(_) | Decision::Wait(_), _) => EnvironmentStatus::Deploying,
        };
        self.record(records::waiting_for(cause, status)).await?;
        if is_news {
            // Only whoever recorded it tells it: once.
            tracing::error!(event = "namespace_stuck", "{message}");
            METRICS.alerts.count("namespace_stuck");
            self.engine
                .alerts
                .tell(format!("previewd cannot remove the namespace {}. {message}", environment.namespace));
        }
        Ok(())
    }

    /// Nothing is in the way of the attempt. What was is shown until that has lasted: it may only come and go.
    async fn show_that_it_goes_on(&self, observed: &Observed) -> Result<(), Interrupted> {
        let environment = &observed.overview.environment;
        // Between two attempts the status keeps showing why the one before ended.
        let is_under_way = observed.deployment.as_ref().is_some_and(|row| row.retry_at.is_none());
        if environment.status != EnvironmentStatus::Deploying || !is_under_way {
            return Ok(());
        }
        let lasts = observed.hitches.are_over(self.lease.now());
        if observed.hitches.now.is_some() || (lasts && environment.reason.is_some()) {
            self.record(records::nothing_in_the_way(lasts)).await?;
        }
        Ok(())
    }

    async fn delete_namespace(&mut self, observed: &Observed) -> Result<(), Interrupted> {
        let Some(uid) = &observed.namespace_uid else { return Ok(()) };
        let (cluster, environment) = (&self.engine.cluster, &observed.overview.environment);
        self.fence(CALL_TIMEOUT).await?;
        cluster.delete_namespace(&environment.namespace, uid).await?;

        // The namespace controller waits 5 s before it deletes what is inside, and then half of the pods' grace period
        // where some are left. Ended now, they are gone by then. What this misses, the controller deletes.
        let inventory = self.engine.store.inventory(&environment.id).await?;
        for key in inventory.iter().filter(|key| WorkloadKind::of(&key.kind).is_some()) {
            self.fence(CALL_TIMEOUT).await?;
            let deleted = cluster.delete_object(&environment.namespace, &key.api_version, &key.kind, &key.name);
            if let Err(error) = deleted.await {
                tracing::debug!(%error, "left to the namespace controller");
            }
        }
        Ok(())
    }
}

/// Whether an attempt is under way, and not only awaited.
fn is_under_way(observed: &Observed) -> bool {
    let is_it = |row: &Deployment| row.status == DeploymentStatus::Deploying && row.retry_at.is_none();
    observed.deployment.as_ref().is_some_and(is_it)
}
