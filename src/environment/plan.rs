//! The plan: from what is known of an environment to the one step that is due next. A pass takes steps until one of
//! them waits; each step records what it did, so that the next look at the facts leads on from there, in this process
//! or in another.

use std::time::Duration;

use super::{Cause, CommitSha, Decision, DeploymentStatus, EnvironmentStatus, Lifetime, Millis, Patience, Reason};

pub const ATTEMPTS: i64 = 3;
/// The longest time between two looks at something that is awaited: a watch event usually comes first.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The same for a URL and what is behind a Service, of which no watch tells.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The same for an image that is still built somewhere. A webhook may tell of it before.
const LOOK_FOR_IMAGE: Duration = Duration::from_secs(15);
/// Passes look every 10 s while they await something; a gap this long means that previewd or the cluster was away, and
/// nobody's attempt pays for that.
const UNOBSERVED: Duration = Duration::from_secs(30);
/// Whoever waits longer than this is told what for.
const TOLD_AFTER: Duration = Duration::from_secs(10);
/// What ran and has no ready pod for this long does not run any more. A pod that a node gives up is made anew elsewhere
/// sooner than that.
const DOWN: Duration = Duration::from_secs(10);

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
    /// Its pods are ready, and its URL does not lead to them yet. `told`: for so long that people should know.
    Unproved {
        cause: Cause,
        told: bool,
    },
    /// This attempt cannot succeed any more; another may.
    AttemptOver(Cause),
    /// No attempt can succeed.
    Failed(Cause),
}

/// The head commit's own images, as their registries have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Images {
    /// Nobody looked which there are.
    Unknown,
    Missing {
        image: String,
    },
    /// It was missing, and its registry does not say now whether it is.
    Untold {
        image: String,
    },
    /// The registry has, or may have, one of another commit under the same name, and a build is under way.
    Outdated {
        image: String,
    },
    /// It is missing, no workflow of the commit is under way, and one failed. Something else may build it: until then it is
    /// waited for all the same.
    Unbuilt {
        image: String,
        until: Millis,
    },
    /// It is still the one of the commit before, and nothing builds it any more: each workflow of the commit failed.
    Unchanged {
        image: String,
    },
    /// As far as previewd can know.
    There,
}

/// The environment's namespace, as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceFacts {
    Absent,
    /// It exists without our labels.
    Foreign,
    Ours,
    /// `since`: by the API server's clock. `blocked_by`: what its status says it still waits for.
    Terminating {
        since: Millis,
        blocked_by: Option<String>,
    },
}

/// What earlier commits left in the cluster, and what is applied now has no part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftovers {
    None,
    /// Volumes, perhaps with something in them, and what else only holds something.
    Volumes,
    /// Objects that can be made anew as they were, and perhaps volumes too.
    Objects,
}

/// The deployment row of the head commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentFacts {
    pub status: DeploymentStatus,
    pub reason: Option<Reason>,
    pub attempt: i64,
    pub attempt_deadline: Option<Millis>,
    pub retry_at: Option<Millis>,
    /// Until when missing images are waited for. None: for as long as it takes.
    pub images_deadline: Option<Millis>,
    /// How many phases of the current attempt are in the cluster.
    pub phase: i64,
    /// All of them are, and nothing of another commit.
    pub applied: bool,
    /// When the next one comes at the latest although what is there is not ready: its hooks may be waited for.
    pub hooks_at: Option<Millis>,
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub decision: Decision,
    pub status: EnvironmentStatus,
    pub reason: Option<Reason>,
    pub serving: Option<CommitSha>,
    /// Whose objects are in the cluster, perhaps not all of them.
    pub applied: Option<CommitSha>,
    /// The last commit that ran, while what was applied for it is kept.
    pub good: Option<CommitSha>,
    /// None where the head commit has no row yet.
    pub deployment: Option<DeploymentFacts>,
    pub images: Images,
    /// What was tried is not what a tag of the pull request means any more, or what it lacked is there: its build ended later.
    pub rebuilt: bool,
    pub namespace: NamespaceFacts,
    /// Of what is applied. None where nothing is.
    pub progress: Option<Progress>,
    /// People reach `serving` now: a pod of it is ready behind what its URL leads to.
    pub answers: bool,
    /// What should run has no ready pod, or a part of it has none.
    pub is_down: bool,
    /// Since when that is so, as far as it was noted.
    pub down_since: Option<Millis>,
    /// Something else is applied of the last commit that ran than what ran of it.
    pub remade: bool,
    /// Not all of what is applied is in the cluster: somebody was stopped half-way.
    pub half_applied: bool,
    /// The head is a chart, and what is applied is the commit that ran before it: its hooks find that one running.
    pub upgrades: bool,
    /// What is applied has no pods until somebody wants it again.
    pub asleep: bool,
    pub leftovers: Leftovers,
    /// Pods of an abandoned revision keep a StatefulSet from making those of the newest.
    pub has_blocking_pods: bool,
    /// Somebody asked to begin anew: the namespace of before goes first, with its volumes.
    pub resets: bool,
    /// It holds one of the places of which there may be a limited number.
    pub has_place: bool,
    pub lifetime: Lifetime,
    /// What was applied is to be held against what is there.
    pub check_is_due: bool,
    pub deletion_started_at: Option<Millis>,
    pub observed_at: Option<Millis>,
    /// From -1 to 1, another for each environment and attempt.
    pub jitter: f64,
    pub patience: Patience,
}

/// What to do next. Those that wait end the pass; after all others the pass looks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing is owed until something happens, or until then.
    Settle {
        until: Option<Millis>,
    },
    /// Look again at `until`, or when the watch says so; meanwhile show `cause`.
    Await {
        until: Millis,
        cause: Option<Cause>,
    },

    /// Show that nothing starts, and why; ends what is under way.
    ShowWaiting {
        cause: Cause,
    },
    /// Ask for a place, in line with all others that wait for one.
    AskForPlace,
    /// Give the head commit its row and end what is under way for others.
    CreateDeployment {
        commit: CommitSha,
    },
    /// Take the head commit's ended row up again: a new round.
    RenewDeployment,
    /// Find out which images the head commit's own build makes, and which of them are missing.
    LookForImages,
    /// Show that an image is missing; look again at `until`, or when a webhook tells of it.
    AwaitImage {
        cause: Cause,
        until: Millis,
    },
    /// Record that an attempt begins. What it applies is not in the cluster yet.
    BeginAttempt {
        attempt: i64,
        deadline: Millis,
    },
    /// Put the next phase of the recipe into the cluster. `restart_pods`: those that are there have failed before.
    Apply {
        phase: i64,
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
    /// Put back what was applied for the last commit that ran.
    RollBack {
        commit: CommitSha,
    },
    /// Record which commit serves although it is not the head's: the one that was put back, or none any more.
    ShowServing {
        commit: Option<CommitSha>,
    },
    /// Delete what earlier commits left. `volumes`: those too.
    Prune {
        volumes: bool,
    },
    /// Delete the pods that keep a StatefulSet from making those of its newest revision.
    RemoveBlockingPods,
    /// Note since when what ran has no ready pod; None: it has.
    NoteDown {
        since: Option<Millis>,
    },
    /// Record that nothing is left of what was before. `deadline`: the first attempt of a new round begins, and ends
    /// then; None: nothing of the head commit had begun.
    BeginAnew {
        deadline: Option<Millis>,
    },
    /// Put what was applied into the cluster again, where something of it is missing or was changed.
    Reapply {
        commit: CommitSha,
    },
    /// Have what sleeps run again, before what comes after it.
    Wake {
        commit: CommitSha,
    },
    /// Record that it was looked at where nothing is whole that could be held against what is there.
    NoteChecked,
    /// Stop the pods of what serves until somebody wants it again.
    FallAsleep {
        commit: CommitSha,
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

impl Step {
    /// What metrics and traces call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Settle { .. } => "settle",
            Self::Await { .. } => "await",
            Self::ShowWaiting { .. } => "show_waiting",
            Self::AskForPlace => "ask_for_place",
            Self::CreateDeployment { .. } => "create_deployment",
            Self::RenewDeployment => "renew_deployment",
            Self::LookForImages => "look_for_images",
            Self::AwaitImage { .. } => "await_image",
            Self::BeginAttempt { .. } => "begin_attempt",
            Self::Apply { .. } => "apply",
            Self::ExtendAttempt { .. } => "extend_attempt",
            Self::EndAttempt { .. } => "end_attempt",
            Self::Succeed => "succeed",
            Self::Fail { .. } => "fail",
            Self::RollBack { .. } => "roll_back",
            Self::ShowServing { .. } => "show_serving",
            Self::Prune { .. } => "prune",
            Self::RemoveBlockingPods => "remove_blocking_pods",
            Self::NoteDown { .. } => "note_down",
            Self::BeginAnew { .. } => "begin_anew",
            Self::Reapply { .. } => "reapply",
            Self::NoteChecked => "note_checked",
            Self::Wake { .. } => "wake",
            Self::FallAsleep { .. } => "fall_asleep",
            Self::ShowOutcome => "show_outcome",
            Self::BeginDeletion { .. } => "begin_deletion",
            Self::DeleteNamespace => "delete_namespace",
            Self::FinishDeletion { .. } => "finish_deletion",
        }
    }
}

/// The next step for an environment. `now` and every time in `facts` are by the database's clock.
pub fn next_step(facts: &Facts, now: Millis) -> Step {
    match &facts.decision {
        Decision::Gone(cause) => deletion_step(facts, cause.clone(), now),
        Decision::Wait(_) | Decision::Deploy(_) if facts.resets => reset_step(facts, now),
        Decision::Wait(cause) => {
            if facts.status == EnvironmentStatus::Pending && facts.reason == Some(cause.reason()) {
                step_back(facts, now)
            } else {
                Step::ShowWaiting { cause: cause.clone() }
            }
        }
        Decision::Deploy(_) if !facts.has_place => Step::AskForPlace,
        Decision::Deploy(commit) => match &facts.deployment {
            None => Step::CreateDeployment { commit: commit.clone() },
            Some(deployment) => deployment_step(facts, deployment, commit, now),
        },
    }
}

fn deletion_step(facts: &Facts, cause: Option<Cause>, now: Millis) -> Step {
    if facts.status == EnvironmentStatus::Deleted {
        return match facts.namespace {
            NamespaceFacts::Absent | NamespaceFacts::Foreign => Step::Settle { until: None },
            // A process that was stopped made it when it went on: until it is gone again nobody is told that it is.
            NamespaceFacts::Ours | NamespaceFacts::Terminating { .. } => Step::BeginDeletion { cause },
        };
    }
    let Some(started_at) = facts.deletion_started_at else {
        return Step::BeginDeletion { cause };
    };
    match &facts.namespace {
        NamespaceFacts::Ours => Step::DeleteNamespace,
        NamespaceFacts::Terminating { since: _, blocked_by } => {
            let stuck = now - started_at >= facts.patience.deletion.millis();
            Step::Await {
                until: now + millis(LOOK_AGAIN),
                cause: if stuck { Some(stuck_on(blocked_by)) } else { cause },
            }
        }
        NamespaceFacts::Absent | NamespaceFacts::Foreign => Step::FinishDeletion { cause },
    }
}

fn stuck_on(blocked_by: &Option<String>) -> Cause {
    let blocked_by = blocked_by.clone().unwrap_or_else(|| "it is still terminating".to_owned());
    Cause::NamespaceStuck { blocked_by }
}

/// Nothing can be put into a namespace that goes; it comes anew once it is gone.
fn await_removal(facts: &Facts, since: Millis, blocked_by: &Option<String>, now: Millis) -> Step {
    let cause = match now - since {
        waited if waited >= facts.patience.deletion.millis() => Some(stuck_on(blocked_by)),
        waited if waited >= millis(TOLD_AFTER) => Some(Cause::NamespaceTerminating),
        _ => None,
    };
    Step::Await { until: now + millis(LOOK_AGAIN), cause }
}

/// Whatever the head commit's row says of what ran, it runs no more: it begins again in an empty namespace.
fn reset_step(facts: &Facts, now: Millis) -> Step {
    match &facts.namespace {
        NamespaceFacts::Ours => Step::DeleteNamespace,
        NamespaceFacts::Terminating { since, blocked_by } => await_removal(facts, *since, blocked_by, now),
        NamespaceFacts::Absent | NamespaceFacts::Foreign => {
            let had_begun = facts.deployment.as_ref().is_some_and(|deployment| match deployment.status {
                DeploymentStatus::Deploying | DeploymentStatus::Succeeded | DeploymentStatus::Failed => true,
                DeploymentStatus::Pending | DeploymentStatus::Superseded | DeploymentStatus::Cancelled => false,
            });
            let deploys = matches!(facts.decision, Decision::Deploy(_)) && facts.has_place;
            Step::BeginAnew { deadline: (had_begun && deploys).then(|| now + facts.patience.attempt.millis()) }
        }
    }
}

fn deployment_step(facts: &Facts, deployment: &DeploymentFacts, commit: &CommitSha, now: Millis) -> Step {
    let has_namespace = facts.namespace == NamespaceFacts::Ours;
    let is_ready = deployment.applied && facts.progress == Some(Progress::Ready);
    // It was pushed back to, or is put back half-way: what serves is not all of what there is.
    let is_whole = facts.applied.as_ref() == Some(commit) && !facts.half_applied;
    if deployment.status == DeploymentStatus::Succeeded
        && (!has_namespace || !is_whole || facts.serving.as_ref() != Some(commit))
    {
        return Step::RenewDeployment;
    }
    if let Some(serving) = &facts.serving
        && deployment.status != DeploymentStatus::Succeeded
        && !still_answers(facts, serving)
    {
        return Step::ShowServing { commit: None };
    }
    if let NamespaceFacts::Terminating { since, blocked_by } = &facts.namespace {
        match deployment.status {
            DeploymentStatus::Pending => return await_removal(facts, *since, blocked_by, now),
            // What was under way ended with the namespace; the time until it can begin again is no attempt's.
            DeploymentStatus::Deploying => return Step::RenewDeployment,
            DeploymentStatus::Succeeded
            | DeploymentStatus::Failed
            | DeploymentStatus::Superseded
            | DeploymentStatus::Cancelled => {}
        }
    }
    match deployment.status {
        DeploymentStatus::Pending => first_attempt(facts, deployment, now),
        // Somebody had it deleted and thought better of it before anything was.
        DeploymentStatus::Deploying if facts.status != EnvironmentStatus::Deploying => Step::ShowOutcome,
        DeploymentStatus::Deploying => attempt_step(facts, deployment, now),
        DeploymentStatus::Failed if has_namespace && is_ready => match facts.leftovers {
            Leftovers::Objects => Step::Prune { volumes: false },
            Leftovers::None | Leftovers::Volumes => Step::Succeed,
        },
        // It was closed, or removed, and reopened before anything of it went.
        DeploymentStatus::Succeeded if facts.asleep && facts.reason != Some(Reason::Asleep) => {
            Step::FallAsleep { commit: commit.clone() }
        }
        DeploymentStatus::Succeeded if facts.status != EnvironmentStatus::Running => Step::ShowOutcome,
        DeploymentStatus::Failed if facts.status != EnvironmentStatus::Failed => Step::ShowOutcome,
        DeploymentStatus::Succeeded => running_step(facts, commit, now),
        DeploymentStatus::Failed if facts.rebuilt && deployment.reason.is_some_and(is_of_an_image) => {
            Step::RenewDeployment
        }
        DeploymentStatus::Failed => match step_back(facts, now) {
            // What is noted is asked for again in an hour: what it lacks may come at any time.
            Step::Settle { .. } if facts.check_is_due => Step::NoteChecked,
            step => step,
        },
        DeploymentStatus::Superseded | DeploymentStatus::Cancelled => Step::RenewDeployment,
    }
}

/// What runs goes on running for as long as it does; the volumes that it left behind go now, and no sooner.
fn running_step(facts: &Facts, commit: &CommitSha, now: Millis) -> Step {
    match (facts.is_down && !facts.asleep, facts.down_since) {
        (true, None) => return Step::NoteDown { since: Some(now) },
        (true, Some(since)) if now - since >= millis(DOWN) => return Step::RenewDeployment,
        (true, Some(since)) => return Step::Await { until: since + millis(DOWN), cause: None },
        (false, Some(_)) => return Step::NoteDown { since: None },
        (false, None) => {}
    }
    if facts.leftovers != Leftovers::None {
        return Step::Prune { volumes: true };
    }
    if facts.rebuilt {
        return Step::RenewDeployment;
    }
    // Somebody changed what makes the pod, and it was put back since.
    if facts.has_blocking_pods && !facts.asleep {
        return Step::RemoveBlockingPods;
    }
    if falls_asleep(facts, now) { Step::FallAsleep { commit: commit.clone() } } else { settle(facts, now) }
}

/// Whether a commit that is said to serve does. What sleeps is woken before anybody says it.
fn still_answers(facts: &Facts, serving: &CommitSha) -> bool {
    facts.answers || (facts.asleep && facts.applied.as_ref() == Some(serving))
}

/// The first attempt begins once what it needs has been built; the time until then is nobody's attempt.
fn first_attempt(facts: &Facts, deployment: &DeploymentFacts, now: Millis) -> Step {
    let begin = Step::BeginAttempt { attempt: 1, deadline: now + facts.patience.attempt.millis() };
    let deadline = deployment.images_deadline.unwrap_or(Millis::MAX);
    match &facts.images {
        Images::Unknown => Step::LookForImages,
        Images::There => begin,
        Images::Missing { image } => {
            let cause = Cause::WaitingForImage { image: image.clone(), has_failed: false };
            await_image(facts, deadline, cause, now)
                .unwrap_or_else(|| Step::Fail { cause: Cause::ImageMissing { image: image.clone() } })
        }
        // The node will see.
        Images::Untold { image } => {
            let cause = Cause::WaitingForImage { image: image.clone(), has_failed: false };
            await_image(facts, deadline, cause, now).unwrap_or(begin)
        }
        Images::Unbuilt { image, until } => {
            let cause = Cause::WaitingForImage { image: image.clone(), has_failed: true };
            await_image(facts, deadline.min(*until), cause, now)
                .unwrap_or_else(|| Step::Fail { cause: Cause::BuildFailed { image: image.clone(), is_there: false } })
        }
        Images::Unchanged { image } => {
            Step::Fail { cause: Cause::BuildFailed { image: image.clone(), is_there: true } }
        }
        // What there is may be what the build leaves it at.
        Images::Outdated { image } => {
            await_image(facts, deadline, Cause::WaitingForBuild { image: image.clone() }, now).unwrap_or(begin)
        }
    }
}

/// None once it was awaited for long enough.
fn await_image(facts: &Facts, deadline: Millis, cause: Cause, now: Millis) -> Option<Step> {
    // Where nobody could look for a while, it is looked for once more.
    let looked = facts.observed_at.is_none_or(|observed_at| now - observed_at <= millis(UNOBSERVED));
    if now >= deadline && looked {
        return None;
    }
    // What of a commit before it was half applied is not what people look at meanwhile.
    Some(match step_back(facts, now) {
        Step::Settle { .. } | Step::Reapply { .. } => {
            let deadline = deadline.max(now + 1);
            Step::AwaitImage { cause, until: deadline.min(now + millis(LOOK_FOR_IMAGE)) }
        }
        goes_back => goes_back,
    })
}

/// The head commit does not run and will not: the last one that did serves again.
fn step_back(facts: &Facts, now: Millis) -> Step {
    if let Some(serving) = &facts.serving
        && !still_answers(facts, serving)
    {
        return Step::ShowServing { commit: None };
    }
    let Some(good) = &facts.good else { return settle(facts, now) };
    if let NamespaceFacts::Terminating { since, blocked_by } = &facts.namespace {
        return await_removal(facts, *since, blocked_by, now);
    }
    // What sleeps does not answer, and a visit wakes only what runs: it is put back with its pods.
    if facts.applied.as_ref() != Some(good) || facts.remade || facts.half_applied || facts.asleep {
        return Step::RollBack { commit: good.clone() };
    }
    // Though others of its pods answer.
    if facts.has_blocking_pods {
        return Step::RemoveBlockingPods;
    }
    if facts.serving.as_ref() == Some(good) {
        return settle(facts, now);
    }
    match &facts.progress {
        Some(Progress::Ready) => Step::ShowServing { commit: Some(good.clone()) },
        Some(Progress::Unproved { .. }) => Step::Await { until: now + millis(ASK_AGAIN), cause: None },
        Some(Progress::Progressing | Progress::Stumbling(_)) | None => {
            Step::Await { until: now + millis(LOOK_AGAIN), cause: None }
        }
        // It ran before, and does not any more: a new commit or a retry is all that helps.
        Some(Progress::AttemptOver(_) | Progress::Failed(_)) => settle(facts, now),
    }
}

/// Nothing is to be done before the environment's time does something: what holds a place is looked at when it expires.
fn settle(facts: &Facts, now: Millis) -> Step {
    // What was refused half-way is not applied to its end by that.
    let is_whole = |commit: &CommitSha| {
        facts.good.as_ref() == Some(commit) || facts.deployment.as_ref().is_some_and(|deployment| deployment.applied)
    };
    if facts.check_is_due
        && facts.namespace == NamespaceFacts::Ours
        && let Some(commit) = facts.applied.as_ref().filter(|commit| is_whole(commit))
    {
        return Step::Reapply { commit: commit.clone() };
    }
    Step::Settle { until: if facts.has_place { facts.lifetime.next_change(now) } else { None } }
}

fn falls_asleep(facts: &Facts, now: Millis) -> bool {
    !facts.asleep && facts.lifetime.sleeps_at().is_some_and(|at| at <= now)
}

fn attempt_step(facts: &Facts, deployment: &DeploymentFacts, now: Millis) -> Step {
    if let Some(retry_at) = deployment.retry_at {
        return match facts.progress {
            // Its URL is proved once nothing else can answer there.
            Some(Progress::Ready) if deployment.applied && facts.leftovers == Leftovers::Objects => {
                Step::Prune { volumes: false }
            }
            Some(Progress::Ready) if deployment.applied => Step::Succeed,
            _ if now >= retry_at => {
                Step::BeginAttempt { attempt: deployment.attempt + 1, deadline: now + facts.patience.attempt.millis() }
            }
            // The status keeps showing why the attempt ended.
            _ => Step::Await { until: retry_at, cause: None },
        };
    }
    let deadline = deployment.attempt_deadline.unwrap_or(now);
    // Nothing before the attempt is its time, and before it comes a wait in which nobody looks.
    let began_at = deadline - facts.patience.attempt.millis();
    let unobserved = facts.observed_at.map(|observed_at| now - observed_at.max(began_at));
    if let Some(gap) = unobserved.filter(|gap| *gap > millis(UNOBSERVED)) {
        return Step::ExtendAttempt { deadline: deadline + gap };
    }
    let phase = if facts.namespace == NamespaceFacts::Absent { 0 } else { deployment.phase };
    let restart_pods = deployment.attempt > 1 && deployment.reason.is_some_and(is_in_a_pod);
    if phase == 0 {
        return before_upgrade(facts, began_at, now).unwrap_or(Step::Apply { phase, restart_pods });
    }

    if facts.has_blocking_pods {
        return Step::RemoveBlockingPods;
    }
    let progress = facts.progress.clone().unwrap_or(Progress::Progressing);
    if deployment.hooks_at.is_some_and(|at| may_wait_for_hooks(&progress, now >= at)) {
        return Step::Apply { phase, restart_pods };
    }
    match progress {
        // What comes next waits for what there is.
        Progress::Ready if !deployment.applied => Step::Apply { phase, restart_pods },
        // What answers must be what was applied. Volumes stay until it is sure that nothing goes back to them.
        Progress::Ready if facts.leftovers == Leftovers::Objects => Step::Prune { volumes: false },
        Progress::Ready => Step::Succeed,
        Progress::Failed(cause) => Step::Fail { cause },
        Progress::AttemptOver(cause) => end_attempt(facts, deployment, cause, now),
        Progress::Stumbling(cause) | Progress::Unproved { cause, told: _ } if now >= deadline => {
            end_attempt(facts, deployment, cause, now)
        }
        Progress::Progressing if now >= deadline => {
            let seconds = facts.patience.attempt.seconds();
            end_attempt(facts, deployment, Cause::NotReadyInTime { container: None, seconds, probe: None }, now)
        }
        Progress::Unproved { cause, told } => {
            Step::Await { until: deadline.min(now + millis(ASK_AGAIN)), cause: told.then_some(cause) }
        }
        Progress::Stumbling(cause) => Step::Await { until: deadline.min(now + millis(LOOK_AGAIN)), cause: Some(cause) },
        Progress::Progressing => Step::Await { until: deadline.min(now + millis(LOOK_AGAIN)), cause: None },
    }
}

/// What comes before the first hooks of an upgrade, which may ask the database of what they upgrade: it is woken, and has a
/// third of the attempt to come up.
fn before_upgrade(facts: &Facts, began_at: Millis, now: Millis) -> Option<Step> {
    let good = facts.good.as_ref().filter(|_| facts.upgrades)?;
    if facts.asleep {
        return Some(Step::Wake { commit: good.clone() });
    }
    let until = began_at + facts.patience.attempt.millis() / 3;
    let cause = match &facts.progress {
        Some(Progress::Progressing) => None,
        Some(Progress::Stumbling(cause @ (Cause::NotReadyYet { .. } | Cause::InitRuns { .. }))) => Some(cause.clone()),
        _ => return None,
    };
    (now < until).then(|| Step::Await { until: until.min(now + millis(LOOK_AGAIN)), cause })
}

/// What follows where the cluster did not take what was to be applied, and may do so later: it is tried again for as long
/// as the attempt lasts.
pub fn not_taken(facts: &Facts, cause: Cause, now: Millis) -> Step {
    let Some(deployment) = &facts.deployment else {
        return Step::Await { until: now + millis(ASK_AGAIN), cause: None };
    };
    if now >= deployment.attempt_deadline.unwrap_or(now) {
        end_attempt(facts, deployment, cause, now)
    } else {
        Step::Await { until: now + millis(ASK_AGAIN), cause: Some(cause) }
    }
}

fn end_attempt(facts: &Facts, deployment: &DeploymentFacts, cause: Cause, now: Millis) -> Step {
    let cause = cause.in_the_end();
    if deployment.attempt >= ATTEMPTS {
        Step::Fail { cause }
    } else {
        Step::EndAttempt { cause, retry_at: now + wait_after_attempt(deployment.attempt, facts.jitter) }
    }
}

/// Whether what is not ready may be so because something has not run yet. `late`: it had time to become ready.
fn may_wait_for_hooks(progress: &Progress, late: bool) -> bool {
    match progress {
        Progress::Progressing
        | Progress::Stumbling(
            Cause::NotReadyYet { .. }
            | Cause::NotReadyInTime { .. }
            | Cause::InitRuns { .. }
            | Cause::CrashLoop { .. }
            | Cause::KilledByProbe { .. }
            | Cause::ContainerConfig { .. },
        ) => late,
        Progress::AttemptOver(Cause::CrashLoop { .. } | Cause::KilledByProbe { .. }) => true,
        Progress::Ready
        | Progress::Stumbling(_)
        | Progress::Unproved { .. }
        | Progress::AttemptOver(_)
        | Progress::Failed(_) => false,
    }
}

/// Whether new pods may behave differently.
fn is_in_a_pod(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ImagePullFailed
            | Reason::SetupFailed
            | Reason::HookFailed
            | Reason::JobFailed
            | Reason::VolumeUnavailable
            | Reason::CrashLoop
            | Reason::OutOfMemory
            | Reason::Evicted
            | Reason::NotReadyInTime
            | Reason::ContainerConfig
            | Reason::RunsAsRoot
    )
}

/// Whether another image may mend it.
fn is_of_an_image(reason: Reason) -> bool {
    is_in_a_pod(reason) || reason == Reason::UrlUnreachable
}

fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

#[cfg(test)]
mod tests;
