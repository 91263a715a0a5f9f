//! What a step leaves in the rows. Pure: from the step and what was seen to the record of it.

use crate::{
    environment::{
        Cause, CommitSha, DeploymentStatus, EnvironmentStatus, Hitch, Hold, Millis, Readiness, Reason, Step,
    },
    store::{DeploymentChanges, EnvironmentChanges, Event, EventKind, Record},
};

/// What was seen, as far as records say it.
#[derive(Debug, Clone)]
pub(super) struct Seen<'a> {
    pub head: &'a CommitSha,
    /// The recipe's text, where this pass read it and the row is to keep it.
    pub recipe: Option<&'a str>,
    /// Of the head commit's row.
    pub round: i64,
    pub attempt: i64,
    /// The commit that served before, if some of its pods still do.
    pub still_serving: Option<CommitSha>,
    /// Something of a commit is in the cluster.
    pub holds_objects: bool,
    /// What shows that the head commit runs.
    pub readiness: Option<&'a Readiness>,
    /// A tag of the pull request means something else by now than what the head commit was tried with.
    pub rebuilt: bool,
    /// How the head commit's row says it ended, with its reason and message.
    pub outcome: Option<(DeploymentStatus, Option<Reason>, Option<&'a str>)>,
}

/// What `step` leaves behind, once what it does to the cluster is done.
pub(super) fn record_of(step: &Step, seen: &Seen<'_>, now: Millis) -> Record {
    let head = || seen.head.clone();
    match step {
        Step::Settle { .. }
        | Step::Await { .. }
        | Step::AskForPlace
        | Step::LookForImages
        | Step::AwaitImage { .. }
        | Step::Apply { .. }
        | Step::RollBack { .. }
        | Step::Prune { .. }
        | Step::RemoveBlockingPods
        | Step::DeleteNamespace => Record::default(),
        Step::ShowWaiting { cause } => {
            let shown = EnvironmentChanges::status(EnvironmentStatus::Pending, Some(cause));
            Record {
                environment: Some(if seen.holds_objects { shown } else { shown.without_place() }),
                end_others: Some(DeploymentStatus::Superseded),
                event: event(EventKind::Waiting, cause.reason().code()),
                ..Record::default()
            }
        }
        Step::CreateDeployment { commit } => Record {
            deployment: Some((
                commit.clone(),
                DeploymentChanges { recipe: seen.recipe_to_keep(), ..Default::default() },
            )),
            end_others: Some(DeploymentStatus::Superseded),
            ..Record::default()
        },
        Step::RenewDeployment => {
            let changes = DeploymentChanges {
                status: Some(DeploymentStatus::Pending.code()),
                round: Some(seen.round + 1),
                attempt: Some(0),
                attempt_deadline: Some(None),
                retry_at: Some(None),
                phase: Some(0),
                applied_digest: Some(None),
                finished_at: Some(None),
                ..Default::default()
            };
            let shown = EnvironmentChanges::status(EnvironmentStatus::Pending, None);
            Record {
                // It is asked once for each check, whatever becomes of the round.
                environment: Some(if seen.rebuilt { shown.checked(now) } else { shown }),
                deployment: Some((head(), changes.cause(None).readiness(None).images(None, None))),
                end_others: Some(DeploymentStatus::Superseded),
                ..Record::default()
            }
        }
        Step::BeginAttempt { attempt, deadline } => {
            let first = first_attempt(*deadline, now);
            let changes = DeploymentChanges {
                attempt: Some(*attempt),
                recipe: seen.recipe_to_keep(),
                started_at: first.started_at.filter(|_| *attempt == 1),
                ..first
            };
            let shown = EnvironmentChanges::status(EnvironmentStatus::Deploying, None);
            Record {
                // What was in the way of the attempt before is told until it is seen that it is not any more.
                environment: Some(if *attempt == 1 { shown.begins() } else { shown }),
                deployment: Some((head(), changes)),
                end_others: Some(DeploymentStatus::Superseded),
                event: event(EventKind::Deploying, format!("{} attempt {attempt}", seen.head)),
            }
        }
        Step::ExtendAttempt { deadline } => {
            let changes = DeploymentChanges { attempt_deadline: Some(Some(*deadline)), ..Default::default() };
            Record { deployment: Some((head(), changes)), ..Record::default() }
        }
        Step::EndAttempt { cause, retry_at } => {
            let changes = DeploymentChanges { retry_at: Some(Some(*retry_at)), ..Default::default() };
            Record {
                environment: Some(stumbling(cause, EnvironmentStatus::Deploying)),
                deployment: Some((head(), changes.cause(Some(cause)))),
                event: event(EventKind::AttemptFailed, format!("attempt {}: {cause}", seen.attempt)),
                ..Record::default()
            }
        }
        Step::Succeed => {
            let shown = EnvironmentChanges::status(EnvironmentStatus::Running, None).used(now).ran();
            Record {
                environment: Some(shown.serving(Some(seen.head)).good(Some(seen.head))),
                deployment: Some((
                    head(),
                    ended(DeploymentStatus::Succeeded, now).cause(None).readiness(seen.readiness),
                )),
                event: event(EventKind::Running, seen.head.to_string()),
                ..Record::default()
            }
        }
        Step::Fail { cause } => failed(cause, seen, now),
        Step::ShowServing { commit: None } => shown(EnvironmentChanges::default().serving(None)),
        Step::ShowServing { commit } => shown(EnvironmentChanges::default().serving(commit.as_ref()).ran()),
        Step::NoteDown { since } => shown(EnvironmentChanges::default().down(*since)),
        Step::BeginAnew { deadline } => {
            let changes = EnvironmentChanges::default().nothing_applied();
            let Some(deadline) = deadline else { return shown(changes) };
            let attempt = DeploymentChanges { round: Some(seen.round + 1), ..first_attempt(*deadline, now) };
            Record {
                environment: Some(changes.with_status(EnvironmentStatus::Deploying)),
                deployment: Some((head(), attempt.cause(None).readiness(None))),
                end_others: Some(DeploymentStatus::Superseded),
                event: event(EventKind::Deploying, format!("{} attempt 1", seen.head)),
            }
        }
        Step::Reapply { .. } | Step::NoteChecked => shown(EnvironmentChanges::default().checked(now)),
        Step::Wake { .. } => shown(EnvironmentChanges::default().awake()),
        Step::FallAsleep { commit } => Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Running, Some(&Cause::Asleep)).asleep()),
            deployment: Some((commit.clone(), DeploymentChanges::default())),
            end_others: Some(DeploymentStatus::Superseded),
            event: event(EventKind::Asleep, commit.to_string()),
        },
        Step::ShowOutcome => {
            let Some((status, reason, message)) = seen.outcome else { return Record::default() };
            // A commit may have come and gone before anything of it began.
            Record {
                environment: Some(EnvironmentChanges::outcome(
                    status_while(status),
                    reason,
                    message.map(str::to_owned),
                )),
                deployment: Some((head(), DeploymentChanges::default())),
                end_others: Some(DeploymentStatus::Superseded),
                ..Record::default()
            }
        }
        Step::BeginDeletion { cause } => {
            let shown = EnvironmentChanges::status(EnvironmentStatus::Deleting, cause.as_ref());
            let shown = if *cause == Some(Cause::Expired) { shown.held(Hold::Expired) } else { shown };
            Record {
                environment: Some(shown.serving(None).deletion_started(now)),
                end_others: Some(DeploymentStatus::Cancelled),
                event: event(EventKind::Deleting, reason_code(cause.as_ref())),
                ..Record::default()
            }
        }
        Step::FinishDeletion { cause } => {
            let shown = EnvironmentChanges::status(EnvironmentStatus::Deleted, cause.as_ref());
            Record {
                environment: Some(shown.nothing_applied().without_place().deleted(now)),
                end_others: Some(DeploymentStatus::Cancelled),
                event: event(EventKind::Deleted, reason_code(cause.as_ref())),
                ..Record::default()
            }
        }
    }
}

/// The head commit cannot run.
pub(super) fn failed(cause: &Cause, seen: &Seen<'_>, now: Millis) -> Record {
    let shown = EnvironmentChanges::status(EnvironmentStatus::Failed, Some(cause));
    Record {
        environment: Some(shown.serving(seen.still_serving.as_ref())),
        deployment: Some((seen.head.clone(), ended(DeploymentStatus::Failed, now).cause(Some(cause)))),
        event: event(EventKind::Failed, format!("{} {}: {cause}", seen.head, cause.reason())),
        ..Record::default()
    }
}

/// The head commit cannot run, which showed before its only attempt had begun.
pub(super) fn refused_at_once(cause: &Cause, seen: &Seen<'_>, now: Millis) -> Record {
    let mut record = failed(cause, seen, now);
    if let Some((_, changes)) = &mut record.deployment {
        changes.attempt = Some(1);
        changes.started_at = Some(Some(now));
    }
    record
}

/// So many phases of the head commit are in the cluster. `digest`: that is everything, and has this digest.
pub(super) fn applied(phases: i64, digest: Option<String>, seen: &Seen<'_>) -> Record {
    let is_whole = digest.is_some();
    let changes = DeploymentChanges { phase: Some(phases), applied_digest: digest.map(Some), ..Default::default() };
    Record {
        environment: is_whole.then(|| EnvironmentChanges::default().whole()),
        deployment: Some((seen.head.clone(), changes)),
        ..Record::default()
    }
}

/// What earlier commits left is gone: so many volumes among it, by their names.
pub(super) fn pruned(volumes: &[String]) -> Record {
    if volumes.is_empty() {
        return Record::default();
    }
    Record { event: event(EventKind::VolumesRemoved, volumes.join(", ")), ..Record::default() }
}

/// What was applied for `commit` is back; `serves`: it is what answers already.
pub(super) fn rolled_back(commit: &CommitSha, serves: bool) -> Record {
    let back = EnvironmentChanges::default().whole();
    Record {
        environment: Some(if serves { back.serving(Some(commit)).ran() } else { back.serving(None) }),
        event: event(EventKind::RolledBack, commit.to_string()),
        ..Record::default()
    }
}

/// The cluster refuses what it once took: there is nothing left to go back to.
pub(super) fn gave_up_going_back(commit: &CommitSha, cause: &Cause) -> Record {
    Record {
        environment: Some(EnvironmentChanges::default().serving(None).good(None)),
        event: event(EventKind::RolledBack, format!("not to {commit}: {cause}")),
        ..Record::default()
    }
}

/// The cluster does not take what it once took, and may take it later.
pub(super) fn goes_back_later(commit: &CommitSha, cause: &Cause) -> Record {
    Record { event: event(EventKind::RolledBack, format!("not to {commit} yet: {cause}")), ..Record::default() }
}

/// What slept was to be woken, and not all of it was taken.
pub(super) fn half_awake() -> Record {
    shown(EnvironmentChanges::default().awake().half())
}

/// Which of the head commit's own images are missing, and until when they are waited for.
pub(super) fn looked_for_images(missing: &[String], deadline: Option<Millis>, seen: &Seen<'_>) -> Record {
    let changes = DeploymentChanges { recipe: seen.recipe_to_keep(), ..Default::default() };
    Record { deployment: Some((seen.head.clone(), changes.images(Some(missing), deadline))), ..Record::default() }
}

/// It waits for a place, or for an image. Which one, and its position, change; that it waits is news once.
pub(super) fn in_line(cause: &Cause, is_news: bool) -> Record {
    Record {
        environment: Some(EnvironmentChanges::status(EnvironmentStatus::Pending, Some(cause))),
        event: if is_news { event(EventKind::Waiting, cause.reason().code()) } else { None },
        ..Record::default()
    }
}

/// What it was last seen to wait for, while something is under way.
pub(super) fn waiting_for(cause: &Cause, status: EnvironmentStatus) -> Record {
    shown(stumbling(cause, status))
}

fn stumbling(cause: &Cause, status: EnvironmentStatus) -> EnvironmentChanges {
    EnvironmentChanges::status(status, Some(cause)).stumbles(Some(&Hitch::from(cause)))
}

/// Nothing is in the way of the attempt now. `lasts`: for so long that nothing is shown any more.
pub(super) fn nothing_in_the_way(lasts: bool) -> Record {
    let changes = if lasts {
        EnvironmentChanges::status(EnvironmentStatus::Deploying, None)
    } else {
        EnvironmentChanges::default()
    };
    shown(changes.stumbles(None))
}

impl Seen<'_> {
    fn recipe_to_keep(&self) -> Option<Option<String>> {
        self.recipe.map(|text| Some(text.to_owned()))
    }
}

fn shown(environment: EnvironmentChanges) -> Record {
    Record { environment: Some(environment), ..Record::default() }
}

/// Nothing of the first attempt is in the cluster yet.
fn first_attempt(deadline: Millis, now: Millis) -> DeploymentChanges {
    DeploymentChanges {
        status: Some(DeploymentStatus::Deploying.code()),
        attempt: Some(1),
        attempt_deadline: Some(Some(deadline)),
        retry_at: Some(None),
        phase: Some(0),
        applied_digest: Some(None),
        started_at: Some(Some(now)),
        finished_at: Some(None),
        ..Default::default()
    }
}

fn ended(status: DeploymentStatus, now: Millis) -> DeploymentChanges {
    DeploymentChanges {
        status: Some(status.code()),
        retry_at: Some(None),
        finished_at: Some(Some(now)),
        ..Default::default()
    }
}

/// What an environment shows whose head commit's row has this status.
fn status_while(deployment: DeploymentStatus) -> EnvironmentStatus {
    match deployment {
        DeploymentStatus::Failed => EnvironmentStatus::Failed,
        DeploymentStatus::Succeeded => EnvironmentStatus::Running,
        DeploymentStatus::Pending | DeploymentStatus::Deploying => EnvironmentStatus::Deploying,
        DeploymentStatus::Superseded | DeploymentStatus::Cancelled => EnvironmentStatus::Pending,
    }
}

fn event(kind: EventKind, detail: impl Into<String>) -> Option<Event> {
    Some(Event::own(kind, detail))
}

fn reason_code(cause: Option<&Cause>) -> &'static str {
    cause.map_or("closed", |cause| cause.reason().code())
}

#[cfg(test)]
mod tests;
