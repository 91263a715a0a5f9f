//! Why a node does not keep a pod, or does not take one that the scheduler gave it.

use k8s_openapi::api::core::v1::Event;

use super::{Said, has, is_name, message};
use crate::{
    cluster::refusal::is_quantity,
    environment::{Eviction, Shortage},
};

/// The kubelet's reasons for it, in a pod's status and in events: `pkg/kubelet/eviction/helpers.go`,
/// `pkg/kubelet/lifecycle/predicate.go`, and the scheduler's plugins that the latter asks.
const REASONS: [&str; 8] = [
    "Evicted",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "OutOfephemeral-storage",
    "UnexpectedAdmissionError",
    "NodeAffinity",
    "NodePorts",
];

/// Why its node did not keep a pod, by the reason that it gave. None: it is another matter.
pub(in crate::cluster) fn eviction(reason: &str, text: &str) -> Option<Eviction> {
    match reason {
        "Evicted" => Some(why_evicted(text)),
        reason if REASONS.contains(&reason) && reason.starts_with("OutOf") => Some(Eviction::NoRoom),
        reason => REASONS.contains(&reason).then_some(Eviction::Unsaid),
    }
}

/// The same of the pods of a StatefulSet, the last one first: its controller takes them away at once, and makes others of
/// the same name.
pub(in crate::cluster) fn evictions_of_set(set: &str, said: Said<'_>) -> Vec<Eviction> {
    let is_of_it = |event: &&Event| {
        let object = &event.involved_object;
        let ordinal = object.name.as_deref().and_then(|name| name.strip_prefix(set)?.strip_prefix('-'));
        object.kind.as_deref() == Some("Pod") && ordinal.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
    };
    // More may be said of one of them.
    let mut known = Vec::new();
    let events = said.selected(is_of_it, &REASONS).into_iter().filter(|event| {
        let uid = event.involved_object.uid.as_deref();
        let is_new = !known.contains(&uid);
        known.push(uid);
        is_new
    });
    events.filter_map(|event| eviction(event.reason.as_deref()?, message(event))).collect()
}

/// `pkg/kubelet/eviction/helpers.go`
fn why_evicted(text: &str) -> Eviction {
    let quantity = |limit: &str| is_quantity(limit).then(|| limit.to_owned());
    if let Some((_, rest)) = text.split_once("exceeds the total limit of containers ") {
        let limit = rest.split_whitespace().next().and_then(|limit| quantity(limit.trim_end_matches('.')));
        return Eviction::Storage { limit };
    }
    if let Some((_, rest)) = text.split_once("exceeded its local ephemeral storage limit \"") {
        return Eviction::Storage { limit: rest.split_once('"').and_then(|(limit, _)| quantity(limit)) };
    }
    if let Some((_, rest)) = text.split_once("Usage of EmptyDir volume \"") {
        let volume = rest.split_once("\" exceeds the limit \"").and_then(|(name, rest)| {
            let limit = quantity(rest.split_once('"')?.0)?;
            is_name(name).then(|| Eviction::Volume { name: name.to_owned(), limit })
        });
        return volume.unwrap_or(Eviction::Storage { limit: None });
    }
    let said_of_node = ["low on resource: ", "had condition: "].into_iter().find_map(|words| text.split_once(words));
    // What follows are figures, and what the pod's containers had of it.
    let which = said_of_node.map_or("", |(_, rest)| rest.split_once(". ").map_or(rest, |(which, _)| which));
    match () {
        () if has(which, &["memory", "MemoryPressure"]) => Eviction::Pressure(Shortage::Memory),
        () if which.contains("inodes") => Eviction::Pressure(Shortage::Inodes),
        () if has(which, &["ephemeral-storage", "DiskPressure"]) => Eviction::Pressure(Shortage::Storage),
        () if has(which, &["pids", "PIDPressure"]) => Eviction::Pressure(Shortage::Processes),
        () => Eviction::Unsaid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_say_why_they_do_not_keep_a_pod() {
        let storage = |limit: &str| Eviction::Storage { limit: Some(limit.to_owned()) };
        let volume = Eviction::Volume { name: "cache".to_owned(), limit: "10Mi".to_owned() };
        for (reason, text, expected) in [
            (
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
                Some(storage("1Gi")),
            ),
            (
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers 1.5Gi.",
                Some(storage("1.5Gi")),
            ),
            (
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers <b>. ",
                Some(Eviction::Storage { limit: None }),
            ),
            ("Evicted", "Container app exceeded its local ephemeral storage limit \"1Gi\". ", Some(storage("1Gi"))),
            ("Evicted", "Usage of EmptyDir volume \"cache\" exceeds the limit \"10Mi\". ", Some(volume)),
            (
                "Evicted",
                "Usage of EmptyDir volume \"[x](y)\" exceeds the limit \"10Mi\". ",
                Some(Eviction::Storage { limit: None }),
            ),
            (
                "Evicted",
                "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. Container app was using 5Gi, request is 0, has larger consumption of ephemeral-storage. ",
                Some(Eviction::Pressure(Shortage::Storage)),
            ),
            (
                "Evicted",
                "The node was low on resource: memory. Container memory-hog was using 1Gi, which exceeds its request of 0. ",
                Some(Eviction::Pressure(Shortage::Memory)),
            ),
            ("Evicted", "The node was low on resource: inodes. ", Some(Eviction::Pressure(Shortage::Inodes))),
            ("Evicted", "The node was low on resource: pids. ", Some(Eviction::Pressure(Shortage::Processes))),
            (
                "Evicted",
                "Pod was rejected: The node had condition: [DiskPressure]. ",
                Some(Eviction::Pressure(Shortage::Storage)),
            ),
            ("Evicted", "The node had condition: [PIDPressure]. ", Some(Eviction::Pressure(Shortage::Processes))),
            ("Evicted", "something new: memory", Some(Eviction::Unsaid)),
            (
                "OutOfcpu",
                "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 3800, capacity: 4000",
                Some(Eviction::NoRoom),
            ),
            ("OutOfpods", "", Some(Eviction::NoRoom)),
            ("UnexpectedAdmissionError", "Allocate failed due to no devices", Some(Eviction::Unsaid)),
            (
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
                Some(Eviction::Unsaid),
            ),
            ("OutOfLuck", "", None),
            ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", None),
        ] {
            assert_eq!(eviction(reason, text), expected, "{reason}: {text}");
        }
    }
}
