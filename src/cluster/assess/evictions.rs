//! The pods of a workload that their nodes did not keep: others take their places.

use k8s_openapi::api::core::v1::Pod;

use super::{
    Expected,
    pods::{CLOCK_DIFFERENCE, created_at, worse},
};
use crate::{
    cluster::words,
    environment::{Cause, Eviction, Progress},
};

/// Why its node did not keep the pod. None: it did.
pub(super) fn eviction(pod: &Pod) -> Option<Eviction> {
    let status = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Failed"))?;
    words::eviction(status.reason.as_deref()?, status.message.as_deref().unwrap_or_default())
}

/// The same of those of the pods that were made in this attempt, the newest first.
pub(super) fn evictions<'a>(pods: impl Iterator<Item = &'a Pod>, expected: &Expected<'_>) -> Vec<Eviction> {
    let began = expected.attempt_started_at - CLOCK_DIFFERENCE;
    let mut pods: Vec<&Pod> = pods.filter(|pod| created_at(pod) >= began).collect();
    pods.sort_by_key(|pod| -created_at(pod));
    pods.into_iter().filter_map(eviction).collect()
}

pub(super) fn evicted(workload: &str, why: &Eviction) -> Cause {
    Cause::Evicted { pod_of: workload.to_owned(), why: why.clone() }
}

/// What is said of a workload that lost pods in this attempt, the last one first. `others`: of those that it still has.
pub(super) fn with_evictions(
    others: Progress,
    workload: &str,
    evictions: &[Eviction],
    expected: &Expected<'_>,
) -> Progress {
    let repeats = evictions.iter().find(|why| why.repeats());
    let again = evictions.first().filter(|_| evictions.len() > 1);
    // One that need not happen again is what an attempt ends with where nothing else is known.
    let once = evictions.first().filter(|_| others == Progress::Progressing && expected.is_late());
    match repeats.or(again).or(once) {
        Some(why) => worse(others, Progress::Stumbling(evicted(workload, why))),
        None => others,
    }
}
