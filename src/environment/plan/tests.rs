use super::*;
use crate::environment::{FailedProbe, ProbeKind, ProbeResult};

const NOW: Millis = 1_000_000_000;

/// No node has room.
fn unschedulable() -> Cause {
    Cause::Unschedulable { hindrances: Vec::new() }
}

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
        images_deadline: None,
        phase: 1,
        applied: true,
        hooks_at: None,
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
        applied: Some(commit()),
        good: None,
        deployment,
        images: Images::There,
        rebuilt: false,
        namespace: NamespaceFacts::Ours,
        progress: Some(Progress::Progressing),
        answers: true,
        is_down: false,
        down_since: None,
        remade: false,
        half_applied: false,
        upgrades: false,
        asleep: false,
        leftovers: Leftovers::None,
        has_blocking_pods: false,
        resets: false,
        has_place: true,
        lifetime: Lifetime::default(),
        check_is_due: false,
        deletion_started_at: None,
        observed_at: Some(NOW - 1_000),
        jitter: 0.0,
        patience: Patience::default(),
    }
}

/// The last commit that ran.
fn good() -> CommitSha {
    "a".repeat(40).parse().expect("a commit")
}

fn roll_back() -> Step {
    Step::RollBack { commit: good() }
}

/// The head commit failed after another one ran.
fn failed_after_good(applied: Option<CommitSha>, serving: Option<CommitSha>) -> Facts {
    let head = DeploymentFacts { applied: applied.as_ref() == Some(&commit()), ..ended(DeploymentStatus::Failed) };
    Facts { status: EnvironmentStatus::Failed, applied, serving, good: Some(good()), ..facts(Some(head)) }
}

/// The head commit failed for this reason after another one ran, and a tag means something else by now.
fn failed_and_rebuilt(reason: Reason, applied: Option<CommitSha>) -> Facts {
    let facts = failed_after_good(applied, Some(good()));
    let deployment = facts.deployment.map(|row| DeploymentFacts { reason: Some(reason), ..row });
    Facts { rebuilt: true, check_is_due: true, deployment, ..facts }
}

/// The first commit failed for want of its image, which came since.
fn failed_for_want() -> Facts {
    let facts = failed_and_rebuilt(Reason::ImagePullFailed, None);
    Facts { good: None, serving: None, progress: None, ..facts }
}

fn gone(status: EnvironmentStatus, namespace: NamespaceFacts, since: Option<Millis>) -> Facts {
    Facts { decision: Decision::Gone(None), status, namespace, deletion_started_at: since, ..facts(None) }
}

/// The first attempt of a chart's next version.
fn upgrade(asleep: bool, progress: Progress) -> Facts {
    let head = DeploymentFacts { attempt_deadline: Some(NOW + 170_000), phase: 0, applied: false, ..deploying(1) };
    Facts {
        upgrades: true,
        asleep,
        applied: Some(good()),
        good: Some(good()),
        progress: Some(progress),
        ..facts(Some(head))
    }
}

/// The head commit serves.
fn running(lifetime: Lifetime) -> Facts {
    Facts {
        status: EnvironmentStatus::Running,
        serving: Some(commit()),
        good: Some(commit()),
        lifetime,
        ..facts(Some(ended(DeploymentStatus::Succeeded)))
    }
}

fn used(ago: Millis) -> Lifetime {
    Lifetime { used_at: NOW - ago, ..Lifetime::default() }
}

fn until(at: Millis) -> Step {
    Step::Settle { until: Some(at) }
}

#[test]
fn each_state_has_its_step() {
    let look_again = Step::Await { until: NOW + 10_000, cause: None };
    let begin = |attempt| Step::BeginAttempt { attempt, deadline: NOW + 180_000 };
    let going_for = |waited: Millis| NamespaceFacts::Terminating {
        since: NOW - waited,
        blocked_by: Some("the finalizer x holds 1".to_owned()),
    };
    let terminating = || going_for(5_000);
    let stuck = || Some(Cause::NamespaceStuck { blocked_by: "the finalizer x holds 1".to_owned() });
    let pending_while =
        |waited| Facts { namespace: going_for(waited), ..facts(Some(ended(DeploymentStatus::Pending))) };
    let await_for = |cause| Step::Await { until: NOW + 10_000, cause };
    let reset = |status, namespace| Facts { resets: true, namespace, ..facts(Some(ended(status))) };
    let asleep = |facts| Facts { asleep: true, answers: false, ..facts };
    let progress = |progress| Facts { progress: Some(progress), ..facts(Some(deploying(1))) };
    let late = |attempt, progress| Facts {
        progress: Some(progress),
        ..facts(Some(DeploymentFacts { attempt_deadline: Some(NOW), ..deploying(attempt) }))
    };
    let never_ready = Cause::NotReadyInTime { container: None, seconds: 180, probe: None };
    let table = [
        ("no place yet", Facts { has_place: false, ..facts(None) }, Step::AskForPlace),
        ("a new commit", facts(None), Step::CreateDeployment { commit: commit() }),
        ("its row", facts(Some(ended(DeploymentStatus::Pending))), begin(1)),
        (
            "its namespace still goes",
            Facts { namespace: terminating(), ..facts(Some(ended(DeploymentStatus::Pending))) },
            look_again.clone(),
        ),
        ("and goes on going", pending_while(10_000), await_for(Some(Cause::NamespaceTerminating))),
        ("and does not go", pending_while(300_000), await_for(stuck())),
        (
            "it went under an attempt",
            Facts { namespace: terminating(), ..facts(Some(deploying(2))) },
            Step::RenewDeployment,
        ),
        ("it went under what ran", Facts { namespace: terminating(), ..running(used(0)) }, Step::RenewDeployment),
        ("to begin anew", reset(DeploymentStatus::Succeeded, NamespaceFacts::Ours), Step::DeleteNamespace),
        ("what was before goes", reset(DeploymentStatus::Succeeded, terminating()), await_for(None)),
        ("what was before does not go", reset(DeploymentStatus::Failed, going_for(300_000)), await_for(stuck())),
        (
            "what was before is gone",
            reset(DeploymentStatus::Succeeded, NamespaceFacts::Absent),
            Step::BeginAnew { deadline: Some(NOW + 180_000) },
        ),
        (
            "nothing had begun before",
            reset(DeploymentStatus::Pending, NamespaceFacts::Absent),
            Step::BeginAnew { deadline: None },
        ),
        (
            "a draft that begins anew",
            Facts { decision: Decision::Wait(Cause::Draft), ..reset(DeploymentStatus::Pending, NamespaceFacts::Ours) },
            Step::DeleteNamespace,
        ),
        (
            "closed while it begins anew",
            Facts { resets: true, ..gone(EnvironmentStatus::Deleting, NamespaceFacts::Ours, Some(NOW)) },
            Step::DeleteNamespace,
        ),
        (
            "an attempt began",
            facts(Some(DeploymentFacts { phase: 0, applied: false, ..deploying(1) })),
            Step::Apply { phase: 0, restart_pods: false },
        ),
        (
            "somebody deleted the namespace",
            Facts { namespace: NamespaceFacts::Absent, ..facts(Some(deploying(1))) },
            Step::Apply { phase: 0, restart_pods: false },
        ),
        (
            "another attempt after a crash",
            facts(Some(DeploymentFacts { phase: 0, applied: false, reason: Some(Reason::CrashLoop), ..deploying(2) })),
            Step::Apply { phase: 0, restart_pods: true },
        ),
        (
            "another attempt after no node had room",
            facts(Some(DeploymentFacts {
                phase: 0,
                applied: false,
                reason: Some(Reason::Unschedulable),
                ..deploying(2)
            })),
            Step::Apply { phase: 0, restart_pods: false },
        ),
        ("a rollout", progress(Progress::Progressing), look_again.clone()),
        (
            "a stumble",
            progress(Progress::Stumbling(unschedulable())),
            Step::Await { until: NOW + 10_000, cause: Some(unschedulable()) },
        ),
        ("ready", progress(Progress::Ready), Step::Succeed),
        (
            "a phase is ready",
            Facts {
                progress: Some(Progress::Ready),
                ..facts(Some(DeploymentFacts { phase: 2, applied: false, ..deploying(1) }))
            },
            Step::Apply { phase: 2, restart_pods: false },
        ),
        (
            "ready, and something of the commit before may answer too",
            Facts { leftovers: Leftovers::Objects, ..progress(Progress::Ready) },
            Step::Prune { volumes: false },
        ),
        (
            "ready, and the commit before has a volume",
            Facts { leftovers: Leftovers::Volumes, ..progress(Progress::Ready) },
            Step::Succeed,
        ),
        (
            "not ready, and the commit before has a volume",
            Facts { leftovers: Leftovers::Objects, ..progress(Progress::Progressing) },
            look_again.clone(),
        ),
        (
            "a pod of another revision is in the way",
            Facts { has_blocking_pods: true, ..progress(Progress::Progressing) },
            Step::RemoveBlockingPods,
        ),
        (
            "the commit before does not answer any more",
            Facts { serving: Some(good()), answers: false, ..progress(Progress::Progressing) },
            Step::ShowServing { commit: None },
        ),
        (
            "the commit before answers",
            Facts { serving: Some(good()), ..progress(Progress::Progressing) },
            look_again.clone(),
        ),
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
            late(2, Progress::Stumbling(unschedulable())),
            Step::EndAttempt { cause: unschedulable(), retry_at: NOW + 30_000 },
        ),
        ("the third deadline", late(3, Progress::Progressing), Step::Fail { cause: never_ready }),
        (
            "between two attempts",
            facts(Some(DeploymentFacts { retry_at: Some(NOW + 5_000), ..deploying(1) })),
            Step::Await { until: NOW + 5_000, cause: None },
        ),
        (
            "what may wait for a chart's last hooks",
            Facts {
                progress: Some(Progress::AttemptOver(crash())),
                ..facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW + 1), ..deploying(1) }))
            },
            Step::Apply { phase: 1, restart_pods: false },
        ),
        (
            "what gets no further without them",
            facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW), ..deploying(1) })),
            Step::Apply { phase: 1, restart_pods: false },
        ),
        (
            "what runs and is not ready without them",
            Facts {
                progress: Some(Progress::Stumbling(Cause::NotReadyYet {
                    container: "app".to_owned(),
                    seconds: 45,
                    of: 180,
                    probe: None,
                })),
                ..facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW), ..deploying(1) }))
            },
            Step::Apply { phase: 1, restart_pods: false },
        ),
        (
            "what waits for them before it begins",
            Facts {
                progress: Some(Progress::Stumbling(Cause::InitRuns {
                    container: "wait-for-db".to_owned(),
                    seconds: 45,
                    of: Some(180),
                })),
                ..facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW), ..deploying(1) }))
            },
            Step::Apply { phase: 1, restart_pods: false },
        ),
        (
            "what its probe ends without them",
            Facts {
                progress: Some(Progress::AttemptOver(Cause::KilledByProbe {
                    container: "app".to_owned(),
                    restarts: 2,
                    probe: FailedProbe { kind: ProbeKind::Liveness, target: None, result: ProbeResult::Refused },
                })),
                ..facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW + 1), ..deploying(1) }))
            },
            Step::Apply { phase: 1, restart_pods: false },
        ),
        (
            "what has some time before they come",
            facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW + 1), ..deploying(1) })),
            look_again.clone(),
        ),
        (
            "what waits for something else",
            Facts {
                progress: Some(Progress::Failed(crash())),
                ..facts(Some(DeploymentFacts { applied: false, hooks_at: Some(NOW), ..deploying(1) }))
            },
            Step::Fail { cause: crash() },
        ),
        ("time for the next attempt", facts(Some(DeploymentFacts { retry_at: Some(NOW), ..deploying(1) })), begin(2)),
        (
            "ready between two attempts",
            Facts {
                progress: Some(Progress::Ready),
                ..facts(Some(DeploymentFacts { retry_at: Some(NOW + 5_000), ..deploying(2) }))
            },
            Step::Succeed,
        ),
        (
            "ready between two attempts, beside what another commit left",
            Facts {
                progress: Some(Progress::Ready),
                leftovers: Leftovers::Objects,
                ..facts(Some(DeploymentFacts { retry_at: Some(NOW + 5_000), ..deploying(2) }))
            },
            Step::Prune { volumes: false },
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
            Step::Settle { until: None },
        ),
        (
            "it runs, and the commit before had a volume",
            Facts { leftovers: Leftovers::Volumes, ..running(used(0)) },
            Step::Prune { volumes: true },
        ),
        ("it went down", Facts { is_down: true, ..running(used(0)) }, Step::NoteDown { since: Some(NOW) }),
        (
            "it went down, with a volume of before and a pod in the way",
            Facts { is_down: true, leftovers: Leftovers::Volumes, has_blocking_pods: true, ..running(used(0)) },
            Step::NoteDown { since: Some(NOW) },
        ),
        (
            "it is down for a moment",
            Facts { is_down: true, down_since: Some(NOW - 4_000), ..running(used(0)) },
            Step::Await { until: NOW + 6_000, cause: None },
        ),
        (
            "it stays down",
            Facts { is_down: true, down_since: Some(NOW - 10_000), ..running(used(0)) },
            Step::RenewDeployment,
        ),
        ("it is up again", Facts { down_since: Some(NOW - 4_000), ..running(used(0)) }, Step::NoteDown { since: None }),
        (
            "it sleeps, which is no fault",
            asleep(Facts { is_down: true, reason: Some(Reason::Asleep), ..running(used(0)) }),
            Step::Settle { until: None },
        ),
        (
            "closed and reopened while it sleeps",
            asleep(Facts { is_down: true, status: EnvironmentStatus::Deleting, ..running(used(0)) }),
            Step::FallAsleep { commit: commit() },
        ),
        (
            "edited, nothing new",
            Facts { serving: Some(commit()), ..facts(Some(ended(DeploymentStatus::Succeeded))) },
            Step::ShowOutcome,
        ),
        (
            "back to the commit that serves, while another one is half applied",
            Facts {
                serving: Some(commit()),
                applied: Some("f".repeat(40).parse().expect("a commit")),
                leftovers: Leftovers::Volumes,
                ..facts(Some(ended(DeploymentStatus::Succeeded)))
            },
            Step::RenewDeployment,
        ),
        ("the same, put back half-way", Facts { half_applied: true, ..running(used(0)) }, Step::RenewDeployment),
        (
            "somebody broke a pod of it, and what makes it was put back",
            Facts { has_blocking_pods: true, ..running(used(0)) },
            Step::RemoveBlockingPods,
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
            Step::Settle { until: None },
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
        ("failed, with one to go back to", failed_after_good(Some(commit()), None), roll_back()),
        (
            "failed with another image than the one that it ran with",
            Facts { remade: true, good: Some(commit()), ..failed_after_good(Some(commit()), Some(commit())) },
            Step::RollBack { commit: commit() },
        ),
        (
            "put back half-way",
            Facts { half_applied: true, ..failed_after_good(Some(good()), Some(good())) },
            roll_back(),
        ),
        (
            "failed, and its namespace is gone",
            Facts { namespace: NamespaceFacts::Absent, answers: false, ..failed_after_good(None, Some(good())) },
            Step::ShowServing { commit: None },
        ),
        (
            "failed, its namespace is gone, and it is said that nothing answers",
            Facts { namespace: NamespaceFacts::Absent, answers: false, ..failed_after_good(None, None) },
            roll_back(),
        ),
        ("failed while the one before slept", asleep(failed_after_good(Some(good()), Some(good()))), roll_back()),
        (
            "a draft, pushed to while it slept",
            asleep(Facts {
                decision: Decision::Wait(Cause::Draft),
                status: EnvironmentStatus::Pending,
                reason: Some(Reason::Draft),
                ..failed_after_good(Some(good()), Some(good()))
            }),
            roll_back(),
        ),
        (
            "put back, with a pod of the other revision in the way",
            Facts { has_blocking_pods: true, ..failed_after_good(Some(good()), None) },
            Step::RemoveBlockingPods,
        ),
        (
            "put back, with a pod of the other revision in the way of one of two",
            Facts { has_blocking_pods: true, ..failed_after_good(Some(good()), Some(good())) },
            Step::RemoveBlockingPods,
        ),
        (
            "put back, and down again",
            Facts { answers: false, ..failed_after_good(Some(good()), Some(good())) },
            Step::ShowServing { commit: None },
        ),
        ("put back", failed_after_good(Some(good()), None), look_again.clone()),
        (
            "put back, and ready",
            Facts { progress: Some(Progress::Ready), ..failed_after_good(Some(good()), None) },
            Step::ShowServing { commit: Some(good()) },
        ),
        (
            "put back, and ready, with nothing behind its Service yet",
            Facts {
                progress: Some(Progress::Unproved { cause: Cause::UrlUnreachable { answered: None }, told: true }),
                ..failed_after_good(Some(good()), None)
            },
            Step::Await { until: NOW + 1_000, cause: None },
        ),
        ("put back, and serving", failed_after_good(Some(good()), Some(good())), Step::Settle { until: None }),
        (
            "put back in vain",
            Facts { progress: Some(Progress::AttemptOver(crash())), ..failed_after_good(Some(good()), None) },
            Step::Settle { until: None },
        ),
        (
            "refused half-way, and looked at again",
            Facts {
                status: EnvironmentStatus::Failed,
                check_is_due: true,
                ..facts(Some(DeploymentFacts { applied: false, ..ended(DeploymentStatus::Failed) }))
            },
            Step::NoteChecked,
        ),
        (
            "failed, and looked at again",
            Facts {
                status: EnvironmentStatus::Failed,
                check_is_due: true,
                ..facts(Some(ended(DeploymentStatus::Failed)))
            },
            Step::Reapply { commit: commit() },
        ),
        (
            "a chart's next version, and what it upgrades sleeps",
            upgrade(true, Progress::Progressing),
            Step::Wake { commit: good() },
        ),
        (
            "what it upgrades comes up",
            upgrade(false, Progress::Progressing),
            Step::Await { until: NOW + 10_000, cause: None },
        ),
        (
            "what it upgrades waits before it comes up",
            upgrade(
                false,
                Progress::Stumbling(Cause::InitRuns { container: "wait".to_owned(), seconds: 16, of: Some(178) }),
            ),
            Step::Await {
                until: NOW + 10_000,
                cause: Some(Cause::InitRuns { container: "wait".to_owned(), seconds: 16, of: Some(178) }),
            },
        ),
        ("what it upgrades runs", upgrade(false, Progress::Ready), Step::Apply { phase: 0, restart_pods: false }),
        (
            "waiting, with half of another commit applied",
            Facts {
                decision: Decision::Wait(Cause::NoRecipe),
                status: EnvironmentStatus::Pending,
                reason: Some(Reason::NoRecipe),
                ..failed_after_good(Some(commit()), None)
            },
            roll_back(),
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
            Step::Settle { until: None },
        ),
        (
            "its image was built after it was deployed",
            Facts { rebuilt: true, check_is_due: true, ..running(Lifetime::default()) },
            Step::RenewDeployment,
        ),
        (
            "it failed with the image of before, and its build ended later",
            failed_and_rebuilt(Reason::CrashLoop, Some(commit())),
            Step::RenewDeployment,
        ),
        (
            "the same once the one before is back",
            failed_and_rebuilt(Reason::UrlUnreachable, Some(good())),
            Step::RenewDeployment,
        ),
        (
            "it failed before anything of it was applied, and what it lacks is not there",
            Facts { rebuilt: false, ..failed_for_want() },
            Step::NoteChecked,
        ),
        ("what it lacks is there", failed_for_want(), Step::RenewDeployment),
        (
            "no image mends a recipe",
            failed_and_rebuilt(Reason::ObjectRefused, Some(good())),
            Step::Reapply { commit: good() },
        ),
        (
            "to be checked",
            Facts { check_is_due: true, ..running(Lifetime::default()) },
            Step::Reapply { commit: commit() },
        ),
        ("used lately", running(Lifetime { sleep_after: Some(5_000), ..used(4_000) }), until(NOW + 1_000)),
        (
            "unused",
            running(Lifetime { sleep_after: Some(5_000), ..used(5_000) }),
            Step::FallAsleep { commit: commit() },
        ),
        (
            "asleep",
            asleep(Facts {
                reason: Some(Reason::Asleep),
                ..running(Lifetime { sleep_after: Some(5_000), ttl: Some(40_000), ..used(5_000) })
            }),
            until(NOW + 25_000),
        ),
        ("people were warned", running(Lifetime { ttl: Some(40_000), ..used(30_000) }), until(NOW + 10_000)),
        (
            "a failure expires too",
            Facts {
                status: EnvironmentStatus::Failed,
                lifetime: Lifetime { ttl: Some(40_000), ..used(0) },
                ..facts(Some(ended(DeploymentStatus::Failed)))
            },
            until(NOW + 30_000),
        ),
        ("closed", gone(EnvironmentStatus::Deleting, NamespaceFacts::Ours, None), Step::BeginDeletion { cause: None }),
        ("its namespace", gone(EnvironmentStatus::Deleting, NamespaceFacts::Ours, Some(NOW)), Step::DeleteNamespace),
        ("its namespace goes", gone(EnvironmentStatus::Deleting, terminating(), Some(NOW - 6_000)), look_again.clone()),
        (
            "its namespace is stuck",
            gone(EnvironmentStatus::Deleting, terminating(), Some(NOW - 300_000)),
            await_for(stuck()),
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
        ("gone", gone(EnvironmentStatus::Deleted, NamespaceFacts::Absent, Some(NOW)), Step::Settle { until: None }),
        (
            "gone, made once more, and on its way out",
            gone(EnvironmentStatus::Deleted, NamespaceFacts::Terminating { since: NOW, blocked_by: None }, Some(NOW)),
            Step::BeginDeletion { cause: None },
        ),
        (
            "gone, and there again",
            gone(EnvironmentStatus::Deleted, NamespaceFacts::Ours, Some(NOW)),
            Step::BeginDeletion { cause: None },
        ),
    ];
    for (what, facts, expected) in table {
        assert_eq!(next_step(&facts, NOW), expected, "{what}");
    }
}

#[test]
fn whoever_sets_it_is_patient_for_longer_or_not() {
    let wait = |text: &str| text.parse().expect("a wait");
    let patience = Patience { attempt: wait("10m"), deletion: wait("10s") };
    let begins = Facts { patience, ..facts(Some(ended(DeploymentStatus::Pending))) };
    assert_eq!(next_step(&begins, NOW), Step::BeginAttempt { attempt: 1, deadline: NOW + 600_000 });

    let last = DeploymentFacts { attempt_deadline: Some(NOW), ..deploying(3) };
    let cause = Cause::NotReadyInTime { container: None, seconds: 600, probe: None };
    assert_eq!(next_step(&Facts { patience, ..facts(Some(last)) }, NOW), Step::Fail { cause });

    let goes = |since| Facts {
        patience,
        ..gone(
            EnvironmentStatus::Deleting,
            NamespaceFacts::Terminating { since: NOW, blocked_by: None },
            Some(NOW - since),
        )
    };
    let cause = Some(Cause::NamespaceStuck { blocked_by: "it is still terminating".to_owned() });
    assert_eq!(next_step(&goes(9_999), NOW), Step::Await { until: NOW + 10_000, cause: None });
    assert_eq!(next_step(&goes(10_000), NOW), Step::Await { until: NOW + 10_000, cause });
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
                    deployment = DeploymentFacts {
                        attempt_deadline: Some(deadline),
                        phase: 0,
                        applied: false,
                        ..deploying(attempt)
                    };
                }
                Step::Apply { .. } => (deployment.phase, deployment.applied) = (1, true),
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

#[test]
fn an_attempt_begins_once_its_images_are_there() {
    let image = || "ghcr.io/acme/shop:1".to_owned();
    let waits = |images: Images, deadline: Option<Millis>| {
        let row = DeploymentFacts { images_deadline: deadline, ..ended(DeploymentStatus::Pending) };
        next_step(&Facts { images, ..facts(Some(row)) }, NOW)
    };
    let missing = || Images::Missing { image: image() };
    let waits_for =
        |has_failed, until| Step::AwaitImage { cause: Cause::WaitingForImage { image: image(), has_failed }, until };
    let looks_again_at = |until| waits_for(false, until);
    assert_eq!(waits(Images::Unknown, None), Step::LookForImages);
    assert_eq!(waits(Images::There, Some(NOW)), Step::BeginAttempt { attempt: 1, deadline: NOW + 180_000 });
    assert_eq!(waits(missing(), None), looks_again_at(NOW + 15_000));
    assert_eq!(waits(missing(), Some(NOW + 4_000)), looks_again_at(NOW + 4_000));
    assert_eq!(waits(missing(), Some(NOW)), Step::Fail { cause: Cause::ImageMissing { image: image() } });

    let outdated = || Images::Outdated { image: image() };
    let looks_for_build = |until| Step::AwaitImage { cause: Cause::WaitingForBuild { image: image() }, until };
    assert_eq!(waits(outdated(), None), looks_for_build(NOW + 15_000));
    let begins = Step::BeginAttempt { attempt: 1, deadline: NOW + 180_000 };
    assert_eq!(waits(outdated(), Some(NOW)), begins, "with what there is");
    let build_failed = |is_there| Step::Fail { cause: Cause::BuildFailed { image: image(), is_there } };
    let unchanged = waits(Images::Unchanged { image: image() }, Some(NOW + 4_000));
    assert_eq!(unchanged, build_failed(true), "before its time is over");
    // Of what is missing it is not sure that what failed builds it.
    let unbuilt = |until, deadline| waits(Images::Unbuilt { image: image(), until }, deadline);
    assert_eq!(unbuilt(NOW + 20_000, None), waits_for(true, NOW + 15_000));
    assert_eq!(unbuilt(NOW + 20_000, Some(NOW + 4_000)), waits_for(true, NOW + 4_000));
    assert_eq!(unbuilt(NOW + 20_000, Some(NOW)), build_failed(false));
    assert_eq!(unbuilt(NOW, Some(NOW + 4_000)), build_failed(false));
    assert_eq!(unbuilt(NOW, None), build_failed(false));
    let untold = || Images::Untold { image: image() };
    assert_eq!(waits(untold(), Some(NOW + 4_000)), looks_again_at(NOW + 4_000), "it was missing");
    assert_eq!(waits(untold(), Some(NOW)), begins, "a registry that is away is no build that did not end");

    // After an outage it is looked for once more.
    let row = || DeploymentFacts { images_deadline: Some(NOW), ..ended(DeploymentStatus::Pending) };
    let after_outage = Facts { images: missing(), observed_at: Some(NOW - 60_000), ..facts(Some(row())) };
    assert_eq!(next_step(&after_outage, NOW), looks_again_at(NOW + 1));
    // A commit before it that was half applied does not stay meanwhile.
    let row = DeploymentFacts { images_deadline: None, ..row() };
    let half = "b".repeat(40).parse().expect("a commit");
    let half_applied = Facts { images: missing(), applied: Some(half), good: Some(good()), ..facts(Some(row)) };
    assert_eq!(next_step(&half_applied, NOW), roll_back());
    let back = Facts { applied: Some(good()), serving: Some(good()), ..half_applied };
    assert_eq!(next_step(&back, NOW), looks_again_at(NOW + 15_000));
}

#[test]
fn what_the_cluster_does_not_take_is_tried_for_as_long_as_the_attempt_lasts() {
    let cause = unschedulable;
    let with = |deadline, attempt| {
        let row = DeploymentFacts { attempt_deadline: Some(deadline), phase: 0, applied: false, ..deploying(attempt) };
        not_taken(&facts(Some(row)), cause(), NOW)
    };
    assert_eq!(with(NOW + 1, 1), Step::Await { until: NOW + 1_000, cause: Some(cause()) });
    assert_eq!(with(NOW, 1), Step::EndAttempt { cause: cause(), retry_at: NOW + 10_000 });
    assert_eq!(with(NOW, 3), Step::Fail { cause: cause() });
}
