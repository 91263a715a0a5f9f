//! How far a Job is. It runs to its end, and its pods are tried again for as often as it says.

use std::cmp::Reverse;

use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};
use kube::ResourceExt;

use super::{
    Expected, Tasks, Workloads,
    evictions::{evicted, eviction, with_evictions},
    is_controlled_by, job_named, of_creation_events,
    pods::{CLOCK_DIFFERENCE, created_at, ended_at, exit_code, of_pod, out_of_memory, worse},
};
use crate::environment::{Cause, Eviction, HOOK, JobEnd, Millis, Progress};

pub(super) fn of_job(workloads: &Workloads, name: &str, expected: &Expected<'_>) -> Progress {
    let Some(job) = job_named(workloads, name) else { return Progress::Progressing };
    if has_job_condition(job, "Complete") {
        return Progress::Ready;
    }
    let pods = pods_of(workloads, job);
    if let Some(condition) = job_condition(job, "Failed").or_else(|| job_condition(job, "FailureTarget")) {
        return Progress::AttemptOver(why_failed(job, condition, &pods, expected));
    }
    if pods.is_empty() {
        let why = of_creation_events("Job", name, job.uid(), workloads, expected);
        let is_untold = why == Progress::Progressing && expected.is_late();
        return if is_untold { Progress::Stumbling(failed(job, JobEnd::NoPod, expected)) } else { why };
    }
    let said = expected.said(workloads);
    match pods.iter().map(|pod| of_pod(pod, said, expected)).reduce(worse).unwrap_or(Progress::Progressing) {
        // It is no server: it works for as long as it takes, ready or not, and is late at the end of the attempt.
        Progress::Progressing | Progress::Stumbling(Cause::NotReadyYet { .. } | Cause::InitRuns { .. }) => {
            of_tries(job, &pods, expected)
        }
        progress => progress,
    }
}

/// By how those of its pods ended that did.
fn of_tries(job: &Job, pods: &[&Pod], expected: &Expected<'_>) -> Progress {
    let ended = pods.iter().filter(|pod| has_ended_in(pod, expected));
    let (mut evictions, mut others) = (Vec::new(), Vec::new());
    for end in ended.filter_map(|pod| BadEnd::of(pod)) {
        match end {
            BadEnd::Evicted(why) => evictions.push(why),
            BadEnd::OutOfMemory(_) | BadEnd::ExitCode(_) => others.push(end),
        }
    }
    // What its node does to it is not its own doing.
    let of_evictions = with_evictions(Progress::Progressing, &job.name_any(), &evictions, expected);
    if of_evictions != Progress::Progressing {
        return of_evictions;
    }
    match others.into_iter().next() {
        Some(end) => Progress::Stumbling(end.cause(job, expected)),
        None if expected.is_late() => Progress::Stumbling(out_of_time(job, expected.now, expected)),
        None => Progress::Progressing,
    }
}

/// The Job's pods: the newest, which tells most, comes first, and those that are made to end, which tell least, last.
fn pods_of<'a>(workloads: &'a Workloads, job: &Job) -> Vec<&'a Pod> {
    let mut pods: Vec<&Pod> = workloads.pods.iter().filter(|pod| is_controlled_by(*pod, job.uid())).collect();
    pods.sort_by_key(|pod| (pod.metadata.deletion_timestamp.is_some(), Reverse(created_at(pod))));
    pods
}

fn why_failed(job: &Job, condition: &JobCondition, pods: &[&Pod], expected: &Expected<'_>) -> Cause {
    let is_late = condition.reason.as_deref() == Some("DeadlineExceeded");
    let ended = condition.last_transition_time.as_ref().map_or(expected.now, |time| time.0.as_millisecond());
    match pods.iter().find_map(|pod| BadEnd::of(pod)) {
        // Its pods are ended for that, and their codes say nothing else.
        Some(BadEnd::ExitCode(_)) | None if is_late => out_of_time(job, ended, expected),
        Some(end) => end.cause(job, expected),
        None => failed(job, JobEnd::Failed, expected),
    }
}

/// How a pod of a Job ended without having done its work.
enum BadEnd {
    Evicted(Eviction),
    OutOfMemory(Cause),
    ExitCode(i32),
}

impl BadEnd {
    /// None: it did its work, or goes on with it, or nothing says how it ended.
    fn of(pod: &Pod) -> Option<Self> {
        let evicted = eviction(pod).map(Self::Evicted);
        let by_itself = || out_of_memory(pod).map(Self::OutOfMemory).or_else(|| exit_code(pod).map(Self::ExitCode));
        evicted.or_else(by_itself)
    }

    fn cause(self, job: &Job, expected: &Expected<'_>) -> Cause {
        match self {
            Self::Evicted(why) => evicted(&job.name_any(), &why),
            Self::OutOfMemory(cause) => cause,
            Self::ExitCode(code) => failed(job, JobEnd::ExitCode(code), expected),
        }
    }
}

/// Whether the pod ended by itself while this attempt lasts, or does so as soon as all of its containers have. Where its
/// containers are started again, it goes on, and their restarts are counted.
fn has_ended_in(pod: &Pod, expected: &Expected<'_>) -> bool {
    let has_failed = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
    let restarts = pod.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() == Some("OnFailure"));
    (has_failed || !restarts)
        && pod.metadata.deletion_timestamp.is_none()
        && ended_at(pod) >= expected.attempt_started_at - CLOCK_DIFFERENCE
}

fn failed(job: &Job, end: JobEnd, expected: &Expected<'_>) -> Cause {
    let name = job.name_any();
    match expected.tasks {
        _ if job.annotations().contains_key(HOOK) => Cause::HookFailed { job: name, end },
        Tasks::Recipes { databases } => Cause::SetupFailed { job: name, end, databases },
        Tasks::Repositorys => Cause::JobFailed { job: name, end },
    }
}

/// It had from its own beginning, or from the attempt's, until then.
fn out_of_time(job: &Job, until: Millis, expected: &Expected<'_>) -> Cause {
    let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
    let started = started.or(job.metadata.creation_timestamp.as_ref()).map(|time| time.0.as_millisecond());
    let started = started.unwrap_or(expected.attempt_started_at).max(expected.attempt_started_at);
    failed(job, JobEnd::OutOfTime { seconds: (until - started).max(0) / 1_000 }, expected)
}

pub(in crate::cluster) fn is_finished(job: &Job) -> bool {
    ["Complete", "Failed", "FailureTarget"].iter().any(|kind| has_job_condition(job, kind))
}

pub(super) fn has_job_condition(job: &Job, kind: &str) -> bool {
    job_condition(job, kind).is_some()
}

fn job_condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let mut conditions = job.status.iter().flat_map(|status| &status.conditions).flatten();
    conditions.find(|condition| condition.type_ == kind && condition.status == "True")
}
