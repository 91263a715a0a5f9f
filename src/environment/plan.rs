//! The plan: from what is known of an environment to the one step that is due next. A pass takes steps until one of
//! them waits; each step records what it did, so that the next look at the facts leads on from there, in this process
//! or in another.

use std::time::Duration;

use super::{Cause, CommitSha, Decision, DeploymentStatus, EnvironmentStatus, Millis, Reason};

/// One attempt's time to become ready. A round of three with its waits stays under ten minutes.
pub const ATTEMPT: Duration = Duration::from_secs(180);
pub const ATTEMPTS: i64 = 3;
/// The longest time between two looks at something that is awaited: a watch event usually comes first.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Passes look every 10 s while they await something; a gap this long means that previewd or the cluster was away, and
/// nobody's attempt pays for that.
const UNOBSERVED: Duration = Duration::from_secs(30);
/// A namespace needs about six seconds, and thirty more where a process ignores SIGTERM.
const DELETION_IS_STUCK: Duration = Duration::from_secs(300);

/// How long to wait before attempt `after` + 1: 10 s, then 30 s, each moved by `jitter` (-1 to 1) times 20 %.
fn wait_after_attempt(after: i64, jitter: f64) -> Millis {
    let wait = if after <= 1 { 10_000.0 } else { 30_000.0 };
    (wait * (1.0 + 0.2 * jitter.clamp(-1.0, 1.0))) as Millis
}

/// How long to wait after a pass failed `failures` times in a row: one second, doubled each time, at most 5 minutes.
pub fn wait_after_failures(failures: i64) -> Duration {
    let exponent = u32::try_from(failures.clamp(1, 10) - 1).unwrap_or(0);
    Duration::from_secs(2u64.pow(exponent)).min(Duration::from_secs(300))
}

/// How far the workloads of the applied commit have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Ready,
    Progressing,
    /// Not ready because of this, which waiting may heal.
    Stumbling(Cause),
    /// This attempt cannot succeed any more; another may.
    AttemptOver(Cause),
    /// No attempt can succeed.
    Failed(Cause),
}

/// The environment's namespace, as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceFacts {
    Absent,
    /// It exists without our labels.
    Foreign,
    Ours,
    /// `blocked_by`: what its status says it still waits for.
    Terminating {
        blocked_by: Option<String>,
    },
}

/// The deployment row of the head commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentFacts {
    pub status: DeploymentStatus,
    pub reason: Option<Reason>,
    pub attempt: i64,
    pub attempt_deadline: Option<Millis>,
    pub retry_at: Option<Millis>,
    /// Everything of the current attempt is in the cluster.
    pub applied: bool,
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub decision: Decision,
    pub status: EnvironmentStatus,
    pub reason: Option<Reason>,
    pub serving: Option<CommitSha>,
    /// None where the head commit has no row yet.
    pub deployment: Option<DeploymentFacts>,
    pub namespace: NamespaceFacts,
    /// None where nothing of the head commit is applied.
    pub progress: Option<Progress>,
    pub deletion_started_at: Option<Millis>,
    pub observed_at: Option<Millis>,
    /// From -1 to 1, drawn anew for each pass.
    pub jitter: f64,
}

/// What to do next. Those that wait end the pass; after all others the pass looks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing is owed until something happens.
    Settle,
    /// Look again at `until`, or when the watch says so; meanwhile show `cause`.
    Await {
        until: Millis,
        cause: Option<Cause>,
    },

    /// Show that nothing starts, and why; ends what is under way.
    ShowWaiting {
        cause: Cause,
    },
    /// Give the head commit its row and end what is under way for others.
    CreateDeployment {
        commit: CommitSha,
    },
    /// Take the head commit's ended row up again: a new round.
    RenewDeployment,
    /// Record that an attempt begins. What it applies is not in the cluster yet.
    BeginAttempt {
        attempt: i64,
        deadline: Millis,
    },
    /// Put everything of the recipe into the cluster. `restart_pods`: those that are there have failed before.
    Apply {
        restart_pods: bool,
    },
    /// Give the attempt the time back in which nobody could look.
    ExtendAttempt {
        deadline: Millis,
    },
    /// Record that the attempt failed; the next begins at `retry_at`.
    EndAttempt {
        cause: Cause,
        retry_at: Millis,
    },
    Succeed,
    Fail {
        cause: Cause,
    },
    /// Show the row's own outcome where the environment shows something else.
    ShowOutcome,

    /// Record that everything goes; ends what is under way.
    BeginDeletion {
        cause: Option<Cause>,
    },
    DeleteNamespace,
    FinishDeletion {
        cause: Option<Cause>,
    },
}

/// The next step for an environment. `now` and every time in `facts` are by the database's clock.
pub fn next_step(facts: &Facts, now: Millis) -> Step {
    match &facts.decision {
        Decision::Gone(cause) => deletion_step(facts, cause.clone(), now),
        Decision::Wait(cause) => {
            if facts.status == EnvironmentStatus::Pending && facts.reason == Some(cause.reason()) {
                Step::Settle
            } else {
                Step::ShowWaiting { cause: cause.clone() }
            }
        }
        Decision::Deploy(commit) => match &facts.deployment {
            None => Step::CreateDeployment { commit: commit.clone() },
            Some(deployment) => deployment_step(facts, deployment, commit, now),
        },
    }
}

fn deletion_step(facts: &Facts, cause: Option<Cause>, now: Millis) -> Step {
    if facts.status == EnvironmentStatus::Deleted && facts.namespace != NamespaceFacts::Ours {
        return Step::Settle;
    }
    let Some(started_at) = facts.deletion_started_at else {
        return Step::BeginDeletion { cause };
    };
    match &facts.namespace {
        NamespaceFacts::Ours => Step::DeleteNamespace,
        NamespaceFacts::Terminating { blocked_by } => {
            let stuck = now - started_at >= millis(DELETION_IS_STUCK);
            let blocked_by = || blocked_by.clone().unwrap_or_else(|| "it is still terminating".to_owned());
            Step::Await {
                until: now + millis(LOOK_AGAIN),
                cause: if stuck { Some(Cause::NamespaceStuck { blocked_by: blocked_by() }) } else { cause },
            }
        }
        NamespaceFacts::Absent | NamespaceFacts::Foreign => Step::FinishDeletion { cause },
    }
}

fn deployment_step(facts: &Facts, deployment: &DeploymentFacts, commit: &CommitSha, now: Millis) -> Step {
    let has_namespace = facts.namespace == NamespaceFacts::Ours;
    if let NamespaceFacts::Terminating { .. } = facts.namespace {
        // Whatever the rows say, nothing can be put into it; it comes anew once it is gone.
        return Step::Await { until: now + millis(LOOK_AGAIN), cause: None };
    }
    match deployment.status {
        DeploymentStatus::Pending => Step::BeginAttempt { attempt: 1, deadline: now + millis(ATTEMPT) },
        DeploymentStatus::Deploying => attempt_step(facts, deployment, now),
        DeploymentStatus::Succeeded if !has_namespace || facts.serving.as_ref() != Some(commit) => {
            Step::RenewDeployment
        }
        DeploymentStatus::Failed if has_namespace && facts.progress == Some(Progress::Ready) => Step::Succeed,
        DeploymentStatus::Succeeded if facts.status != EnvironmentStatus::Running => Step::ShowOutcome,
        DeploymentStatus::Failed if facts.status != EnvironmentStatus::Failed => Step::ShowOutcome,
        DeploymentStatus::Succeeded | DeploymentStatus::Failed => Step::Settle,
        DeploymentStatus::Superseded | DeploymentStatus::Cancelled => Step::RenewDeployment,
    }
}

fn attempt_step(facts: &Facts, deployment: &DeploymentFacts, now: Millis) -> Step {
    if let Some(retry_at) = deployment.retry_at {
        return match facts.progress {
            Some(Progress::Ready) => Step::Succeed,
            _ if now >= retry_at => {
                Step::BeginAttempt { attempt: deployment.attempt + 1, deadline: now + millis(ATTEMPT) }
            }
            // The status keeps showing why the attempt ended.
            _ => Step::Await { until: retry_at, cause: None },
        };
    }
    let deadline = deployment.attempt_deadline.unwrap_or(now);
    // Nothing before the attempt is its time, and before it comes a wait in which nobody looks.
    let began_at = deadline - millis(ATTEMPT);
    let unobserved = facts.observed_at.map(|observed_at| now - observed_at.max(began_at));
    if let Some(gap) = unobserved.filter(|gap| *gap > millis(UNOBSERVED)) {
        return Step::ExtendAttempt { deadline: deadline + gap };
    }
    if !deployment.applied || facts.namespace == NamespaceFacts::Absent {
        let restart_pods = deployment.attempt > 1 && deployment.reason.is_some_and(is_in_a_pod);
        return Step::Apply { restart_pods };
    }

    let progress = facts.progress.clone().unwrap_or(Progress::Progressing);
    match progress {
        Progress::Ready => Step::Succeed,
        Progress::Failed(cause) => Step::Fail { cause },
        Progress::AttemptOver(cause) => end_attempt(facts, deployment, cause, now),
        Progress::Stumbling(cause) if now >= deadline => end_attempt(facts, deployment, cause, now),
        Progress::Progressing if now >= deadline => {
            let seconds = ATTEMPT.as_secs() as i64;
            end_attempt(facts, deployment, Cause::NotReadyInTime { container: None, seconds }, now)
        }
        Progress::Stumbling(cause) => Step::Await { until: deadline.min(now + millis(LOOK_AGAIN)), cause: Some(cause) },
        Progress::Progressing => Step::Await { until: deadline.min(now + millis(LOOK_AGAIN)), cause: None },
    }
}

fn end_attempt(facts: &Facts, deployment: &DeploymentFacts, cause: Cause, now: Millis) -> Step {
    if deployment.attempt >= ATTEMPTS {
        Step::Fail { cause }
    } else {
        Step::EndAttempt { cause, retry_at: now + wait_after_attempt(deployment.attempt, facts.jitter) }
    }
}

/// Whether new pods may behave differently.
fn is_in_a_pod(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ImagePullFailed
            | Reason::CrashLoop
            | Reason::OutOfMemory
            | Reason::NotReadyInTime
            | Reason::ContainerConfig
            | Reason::RunsAsRoot
    )
}

fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000_000;

    fn commit() -> CommitSha {
        "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit")
    }

    fn crash() -> Cause {
        Cause::CrashLoop { container: "app".to_owned(), restarts: 3, exit_code: Some(1) }
    }

    /// An attempt that is applied and under way.
    fn deploying(attempt: i64) -> DeploymentFacts {
        DeploymentFacts {
            status: DeploymentStatus::Deploying,
            reason: None,
            attempt,
            attempt_deadline: Some(NOW + 100_000),
            retry_at: None,
            applied: true,
        }
    }

    fn ended(status: DeploymentStatus) -> DeploymentFacts {
        DeploymentFacts { status, attempt_deadline: None, ..deploying(1) }
    }

    /// An environment whose head commit has this deployment and should run.
    fn facts(deployment: Option<DeploymentFacts>) -> Facts {
        Facts {
            decision: Decision::Deploy(commit()),
            status: EnvironmentStatus::Deploying,
            reason: None,
            serving: None,
            deployment,
            namespace: NamespaceFacts::Ours,
            progress: Some(Progress::Progressing),
            deletion_started_at: None,
            observed_at: Some(NOW - 1_000),
            jitter: 0.0,
        }
    }

    fn gone(status: EnvironmentStatus, namespace: NamespaceFacts, since: Option<Millis>) -> Facts {
        Facts { decision: Decision::Gone(None), status, namespace, deletion_started_at: since, ..facts(None) }
    }

    #[test]
    fn each_state_has_its_step() {
        let look_again = Step::Await { until: NOW + 10_000, cause: None };
        let begin = |attempt| Step::BeginAttempt { attempt, deadline: NOW + 180_000 };
        let terminating = || NamespaceFacts::Terminating { blocked_by: Some("the finalizer x holds 1".to_owned()) };
        let progress = |progress| Facts { progress: Some(progress), ..facts(Some(deploying(1))) };
        let late = |attempt, progress| Facts {
            progress: Some(progress),
            ..facts(Some(DeploymentFacts { attempt_deadline: Some(NOW), ..deploying(attempt) }))
        };
        let never_ready = Cause::NotReadyInTime { container: None, seconds: 180 };
        let table = [
            ("a new commit", facts(None), Step::CreateDeployment { commit: commit() }),
            ("its row", facts(Some(ended(DeploymentStatus::Pending))), begin(1)),
            (
                "its namespace still goes",
                Facts { namespace: terminating(), ..facts(Some(ended(DeploymentStatus::Pending))) },
                look_again.clone(),
            ),
            (
                "an attempt began",
                facts(Some(DeploymentFacts { applied: false, ..deploying(1) })),
                Step::Apply { restart_pods: false },
            ),
            (
                "somebody deleted the namespace",
                Facts { namespace: NamespaceFacts::Absent, ..facts(Some(deploying(1))) },
                Step::Apply { restart_pods: false },
            ),
            (
                "another attempt after a crash",
                facts(Some(DeploymentFacts { applied: false, reason: Some(Reason::CrashLoop), ..deploying(2) })),
                Step::Apply { restart_pods: true },
            ),
            (
                "another attempt after no node had room",
                facts(Some(DeploymentFacts { applied: false, reason: Some(Reason::Unschedulable), ..deploying(2) })),
                Step::Apply { restart_pods: false },
            ),
            ("a rollout", progress(Progress::Progressing), look_again.clone()),
            (
                "a stumble",
                progress(Progress::Stumbling(Cause::Unschedulable)),
                Step::Await { until: NOW + 10_000, cause: Some(Cause::Unschedulable) },
            ),
            ("ready", progress(Progress::Ready), Step::Succeed),
            ("ready at the last moment", late(3, Progress::Ready), Step::Succeed),
            (
                "what cannot heal",
                progress(Progress::Failed(Cause::RunsAsRoot { container: "app".to_owned() })),
                Step::Fail { cause: Cause::RunsAsRoot { container: "app".to_owned() } },
            ),
            (
                "a crash loop",
                progress(Progress::AttemptOver(crash())),
                Step::EndAttempt { cause: crash(), retry_at: NOW + 10_000 },
            ),
            (
                "the first deadline",
                late(1, Progress::Progressing),
                Step::EndAttempt { cause: never_ready.clone(), retry_at: NOW + 10_000 },
            ),
            (
                "the second deadline",
                late(2, Progress::Stumbling(Cause::Unschedulable)),
                Step::EndAttempt { cause: Cause::Unschedulable, retry_at: NOW + 30_000 },
            ),
            ("the third deadline", late(3, Progress::Progressing), Step::Fail { cause: never_ready }),
            (
                "between two attempts",
                facts(Some(DeploymentFacts { retry_at: Some(NOW + 5_000), ..deploying(1) })),
                Step::Await { until: NOW + 5_000, cause: None },
            ),
            (
                "time for the next attempt",
                facts(Some(DeploymentFacts { retry_at: Some(NOW), ..deploying(1) })),
                begin(2),
            ),
            (
                "ready between two attempts",
                Facts {
                    progress: Some(Progress::Ready),
                    ..facts(Some(DeploymentFacts { retry_at: Some(NOW + 5_000), ..deploying(2) }))
                },
                Step::Succeed,
            ),
            (
                "nobody looked for an hour",
                Facts {
                    observed_at: Some(NOW - 3_600_000),
                    ..facts(Some(DeploymentFacts { attempt_deadline: Some(NOW - 3_500_000), ..deploying(1) }))
                },
                Step::ExtendAttempt { deadline: NOW + 100_000 },
            ),
            (
                "all is well",
                Facts {
                    serving: Some(commit()),
                    status: EnvironmentStatus::Running,
                    ..facts(Some(ended(DeploymentStatus::Succeeded)))
                },
                Step::Settle,
            ),
            (
                "edited, nothing new",
                Facts { serving: Some(commit()), ..facts(Some(ended(DeploymentStatus::Succeeded))) },
                Step::ShowOutcome,
            ),
            (
                "back to a commit that ran before another",
                Facts {
                    serving: Some("f".repeat(40).parse().expect("a commit")),
                    ..facts(Some(ended(DeploymentStatus::Succeeded)))
                },
                Step::RenewDeployment,
            ),
            (
                "reopened at the same commit",
                Facts { namespace: NamespaceFacts::Absent, ..facts(Some(ended(DeploymentStatus::Succeeded))) },
                Step::RenewDeployment,
            ),
            ("asked for again", facts(Some(ended(DeploymentStatus::Cancelled))), Step::RenewDeployment),
            ("pushed back to", facts(Some(ended(DeploymentStatus::Superseded))), Step::RenewDeployment),
            (
                "failed for good",
                Facts { status: EnvironmentStatus::Failed, ..facts(Some(ended(DeploymentStatus::Failed))) },
                Step::Settle,
            ),
            (
                "failed, and ready after all",
                Facts {
                    status: EnvironmentStatus::Failed,
                    progress: Some(Progress::Ready),
                    ..facts(Some(ended(DeploymentStatus::Failed)))
                },
                Step::Succeed,
            ),
            (
                "waiting for approval",
                Facts { decision: Decision::Wait(Cause::AwaitingApproval), ..facts(None) },
                Step::ShowWaiting { cause: Cause::AwaitingApproval },
            ),
            (
                "still waiting",
                Facts {
                    decision: Decision::Wait(Cause::AwaitingApproval),
                    status: EnvironmentStatus::Pending,
                    reason: Some(Reason::AwaitingApproval),
                    ..facts(None)
                },
                Step::Settle,
            ),
            (
                "closed",
                gone(EnvironmentStatus::Deleting, NamespaceFacts::Ours, None),
                Step::BeginDeletion { cause: None },
            ),
            (
                "its namespace",
                gone(EnvironmentStatus::Deleting, NamespaceFacts::Ours, Some(NOW)),
                Step::DeleteNamespace,
            ),
            (
                "its namespace goes",
                gone(EnvironmentStatus::Deleting, terminating(), Some(NOW - 6_000)),
                look_again.clone(),
            ),
            (
                "its namespace is stuck",
                gone(EnvironmentStatus::Deleting, terminating(), Some(NOW - 300_000)),
                Step::Await {
                    until: NOW + 10_000,
                    cause: Some(Cause::NamespaceStuck { blocked_by: "the finalizer x holds 1".to_owned() }),
                },
            ),
            (
                "its namespace is gone",
                gone(EnvironmentStatus::Deleting, NamespaceFacts::Absent, Some(NOW)),
                Step::FinishDeletion { cause: None },
            ),
            (
                "its namespace is somebody else's",
                gone(EnvironmentStatus::Deleting, NamespaceFacts::Foreign, Some(NOW)),
                Step::FinishDeletion { cause: None },
            ),
            ("gone", gone(EnvironmentStatus::Deleted, NamespaceFacts::Absent, Some(NOW)), Step::Settle),
            (
                "gone, and there again",
                gone(EnvironmentStatus::Deleted, NamespaceFacts::Ours, Some(NOW)),
                Step::DeleteNamespace,
            ),
        ];
        for (what, facts, expected) in table {
            assert_eq!(next_step(&facts, NOW), expected, "{what}");
        }
    }

    /// Three attempts that never become ready, under a clock of the test's own.
    #[test]
    fn a_round_ends_within_ten_minutes() {
        for jitter in [-1.0, 0.0, 1.0] {
            // As passes have it: each look is recorded at its end.
            let (mut now, mut observed_at, mut attempts) = (NOW, None, Vec::new());
            let mut deployment = ended(DeploymentStatus::Pending);
            loop {
                let facts = Facts { observed_at, jitter, ..facts(Some(deployment.clone())) };
                match next_step(&facts, now) {
                    Step::BeginAttempt { attempt, deadline } => {
                        attempts.push(now - NOW);
                        deployment =
                            DeploymentFacts { attempt_deadline: Some(deadline), applied: false, ..deploying(attempt) };
                    }
                    Step::Apply { .. } => deployment.applied = true,
                    Step::Await { until, .. } => {
                        assert!(now < until && until <= now + 36_000, "a look is never far away");
                        observed_at = Some(now);
                        now = until;
                    }
                    Step::EndAttempt { retry_at, .. } => deployment.retry_at = Some(retry_at),
                    Step::Fail { .. } => break,
                    other => panic!("{other:?}"),
                }
            }
            let waits = (10_000 + (2_000.0 * jitter) as Millis, 30_000 + (6_000.0 * jitter) as Millis);
            assert_eq!(attempts, [0, 180_000 + waits.0, 360_000 + waits.0 + waits.1]);
            assert!(now - NOW < 600_000, "{} ms", now - NOW);
        }
    }

    #[test]
    fn waits_after_failures_double_up_to_five_minutes() {
        let seconds: Vec<u64> = (1..=12).map(|failures| wait_after_failures(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(wait_after_failures(i64::MAX).as_secs(), 300);
    }
}
