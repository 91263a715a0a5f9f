//! Waiting: one call instead of many, until an environment has got somewhere.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::{EnvironmentSummary, ExpectedCommit, Service, ServiceError, WaitRequest, WaitUntil, now};
use crate::{
    environment::{CommitSha, EnvironmentStatus, Reason},
    identity::{Action, Identity},
};

/// Clients give up after a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(45);
/// A look is one read of one row.
const LOOK: Duration = Duration::from_millis(500);

/// Where an environment has got to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    #[serde(flatten)]
    pub summary: EnvironmentSummary,
    /// Whether it is where it was awaited.
    pub done: bool,
    pub waited_seconds: u64,
    /// What to do now, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_action: Option<String>,
}

impl Waited {
    /// Whether waiting longer is no use: it was answered before its time.
    pub fn is_stopped(&self) -> bool {
        !self.done && self.waited_seconds < LONGEST_WAIT.as_secs()
    }
}

impl Service {
    /// Waits until an environment has got where `request` wants it, for 45 s at most. `changes` gets each change.
    pub async fn wait(
        &self,
        identity: &Identity,
        request: WaitRequest,
        changes: UnboundedSender<EnvironmentSummary>,
    ) -> Result<Waited, ServiceError> {
        let WaitRequest { environment, commit, until } = request;
        let began = Instant::now();
        let mut told = None;
        loop {
            let overview = self.find(identity, &environment, Action::Inspect).await?;
            let summary = self.summary(&overview, now()).await?;
            let at_commit = commit.as_ref().is_none_or(|ExpectedCommit(commit)| summary.commit == commit.as_str());
            let progress = progress(until, summary.status, summary.reason);
            let is_over = began.elapsed() >= LONGEST_WAIT;
            let superseded = match &commit {
                Some(ExpectedCommit(commit)) if !at_commit => {
                    let known = self.store().deployment(&overview.environment.id, commit).await?;
                    known.map(|_| superseded(commit, &overview.pull_request.facts.head_sha))
                }
                Some(_) | None => None,
            };
            if (at_commit && progress != Progress::UnderWay) || superseded.is_some() || is_over {
                let done = at_commit && progress == Progress::Done;
                let otherwise = || superseded.unwrap_or_else(|| next_action(at_commit, progress).to_owned());
                let next_action = (!done).then(otherwise);
                let waited_seconds = began.elapsed().as_secs();
                return Ok(Waited { summary, done, waited_seconds, next_action });
            }
            let state = (summary.status, summary.reason, summary.commit.clone());
            if told.as_ref() != Some(&state) {
                // Whoever does not listen any more still gets the answer.
                let _ = changes.send(summary);
                told = Some(state);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What is said of a commit that was the head before.
fn superseded(commit: &CommitSha, head: &CommitSha) -> String {
    format!("Commit {} was superseded by {}; wait for that one.", commit.short(), head.short())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    UnderWay,
    /// It will not get there by itself.
    Stopped,
}

fn progress(until: WaitUntil, status: EnvironmentStatus, reason: Option<Reason>) -> Progress {
    match (until, status) {
        // Its URL answers nobody but browsers, which wake it.
        (WaitUntil::Running, EnvironmentStatus::Running) if reason == Some(Reason::Asleep) => Progress::Stopped,
        (WaitUntil::Running | WaitUntil::Settled, EnvironmentStatus::Running) => Progress::Done,
        (WaitUntil::Deleted | WaitUntil::Settled, EnvironmentStatus::Deleted) => Progress::Done,
        (WaitUntil::Settled, EnvironmentStatus::Failed) => Progress::Done,
        (WaitUntil::Running, EnvironmentStatus::Failed | EnvironmentStatus::Deleted) => Progress::Stopped,
        (_, EnvironmentStatus::Deploying | EnvironmentStatus::Deleting) => Progress::UnderWay,
        (_, EnvironmentStatus::Pending) => match (until, reason) {
            (_, None | Some(Reason::QueuedForCapacity | Reason::WaitingForImage | Reason::NamespaceTerminating)) => {
                Progress::UnderWay
            }
            (WaitUntil::Settled, Some(_)) => Progress::Done,
            (WaitUntil::Running | WaitUntil::Deleted, Some(_)) => Progress::Stopped,
        },
        (WaitUntil::Deleted, EnvironmentStatus::Running | EnvironmentStatus::Failed) => Progress::Stopped,
    }
}

fn next_action(at_commit: bool, progress: Progress) -> &'static str {
    match (at_commit, progress) {
        (false, _) => "The commit has not arrived; check that it was pushed, then wait again.",
        (true, Progress::Stopped) => "It will not get there by itself: the reason and the message say why.",
        (true, Progress::Done | Progress::UnderWay) => "It is still under way: wait again.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_an_older_commit_is_told_of_the_newer_one() {
        let commit = |digit: &str| digit.repeat(40).parse::<CommitSha>().unwrap();
        let said = superseded(&commit("a"), &commit("b"));
        assert_eq!(said, "Commit aaaaaaa was superseded by bbbbbbb; wait for that one.");
    }

    #[test]
    fn what_will_not_change_by_itself_is_not_waited_for() {
        use EnvironmentStatus::{Deleted, Deleting, Deploying, Failed, Pending, Running};
        use Progress::{Done, Stopped, UnderWay};
        let approval = Some(Reason::AwaitingApproval);
        let table = [
            (Running, None, [Done, Done, Stopped]),
            (Running, Some(Reason::Asleep), [Done, Stopped, Stopped]),
            (Failed, Some(Reason::CrashLoop), [Done, Stopped, Stopped]),
            (Deleted, None, [Done, Stopped, Done]),
            (Deleting, None, [UnderWay, UnderWay, UnderWay]),
            (Deploying, Some(Reason::Unschedulable), [UnderWay, UnderWay, UnderWay]),
            (Pending, None, [UnderWay, UnderWay, UnderWay]),
            (Pending, Some(Reason::QueuedForCapacity), [UnderWay, UnderWay, UnderWay]),
            (Pending, Some(Reason::WaitingForImage), [UnderWay, UnderWay, UnderWay]),
            (Pending, Some(Reason::NamespaceTerminating), [UnderWay, UnderWay, UnderWay]),
            (Pending, Some(Reason::NamespaceStuck), [Done, Stopped, Stopped]),
            (Pending, approval, [Done, Stopped, Stopped]),
        ];
        for (status, reason, expected) in table {
            let found = [WaitUntil::Settled, WaitUntil::Running, WaitUntil::Deleted]
                .map(|until| progress(until, status, reason));
            assert_eq!(found, expected, "{status} {reason:?}");
        }
    }
}
