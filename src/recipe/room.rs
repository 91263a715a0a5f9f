//! Whether the quota has room for what a phase makes beside what runs already, and what makes room by ending. Pure.
//!
//! A render by itself fits: [`super::shares`] saw to that. What does not always fit is a commit beside the one before.

use serde_json::Value;

use super::{Object, Quota, Render, shares};

/// A pod that counts towards the quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedPod {
    /// Kind and name of what makes it. None where nothing of ours does.
    pub workload: Option<(String, String)>,
    pub limits: PodLimits,
    /// It is on its way out, and counts until it is gone.
    pub goes: bool,
}

/// What runs in an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    pub pods: Vec<CountedPod>,
    /// Kind and name of what makes pods, with the digest of what was applied last ([`Object::digest`]).
    pub applied: Vec<(String, String, String)>,
}

/// What the quota counts of one pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// In thousandths of a core.
    pub cpu: u64,
    /// In bytes.
    pub memory: u64,
}

impl PodLimits {
    /// Of a pod's spec.
    pub fn of(spec: &Value) -> Self {
        let (cpu, memory) = shares::limits_of(spec);
        Self { cpu, memory }
    }

    fn times(self, pods: u64) -> Self {
        Self { cpu: self.cpu.saturating_mul(pods), memory: self.memory.saturating_mul(pods) }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_add(other.cpu), memory: self.memory.saturating_add(other.memory) }
    }

    fn minus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(other.cpu), memory: self.memory.saturating_sub(other.memory) }
    }
}

/// So many pods, and what they count for together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    pods: u64,
    limits: PodLimits,
}

impl Sum {
    fn of<'a>(pods: impl Iterator<Item = &'a CountedPod>) -> Self {
        pods.fold(Self::default(), |sum, pod| sum.plus(Self { pods: 1, limits: pod.limits }))
    }

    fn plus(self, other: Self) -> Self {
        Self { pods: self.pods.saturating_add(other.pods), limits: self.limits.plus(other.limits) }
    }
}

/// Whether the pods that the objects of `phase` make fit beside those that run.
pub fn has_room(render: &Render, phase: usize, running: &Running, quota: &Quota) -> bool {
    let objects = render.phases().get(phase).copied().unwrap_or_default();
    let coming = objects.iter().filter(|object| !running.has(object)).map(|object| coming(object, &running.pods));
    let all = coming.fold(Sum::of(running.pods.iter()), Sum::plus);
    all.pods <= u64::from(quota.pods) && all.limits.cpu <= quota.cpu.0 && all.limits.memory <= quota.memory.0
}

/// Kind and name of what runs and makes room by ending: what is to go, or is to be replaced in this phase or a later one.
pub fn in_the_way(render: &Render, phase: usize, running: &Running) -> Vec<(String, String)> {
    let phases = render.phases();
    let stays = |(kind, name): &(String, String)| {
        let mut objects = phases.iter().enumerate().flat_map(|(at, objects)| objects.iter().map(move |it| (at, it)));
        let ours = objects.find(|(_, object)| (&object.kind, &object.name) == (kind, name));
        ours.is_some_and(|(at, object)| at < phase || running.has(object))
    };
    let stopped = |kind: &str| matches!(kind, "Deployment" | "StatefulSet");
    let living = running.pods.iter().filter(|pod| !pod.goes).filter_map(|pod| pod.workload.clone());
    let mut found: Vec<_> = living.filter(|workload| stopped(&workload.0) && !stays(workload)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

impl Running {
    /// Whether the object is in the cluster as it is: applying it makes no pods.
    fn has(&self, object: &Object) -> bool {
        let digest = object.digest();
        self.applied.iter().any(|(kind, name, applied)| (kind, name, applied) == (&object.kind, &object.name, &digest))
    }
}

/// What an object's pods need while they take the place of those that it has.
fn coming(object: &Object, running: &[CountedPod]) -> Sum {
    let Some(shares::PodsOf { spec, pods, surges }) = shares::pods_of(object) else { return Sum::default() };
    let limits = PodLimits::of(spec);
    let is_its = |pod: &&CountedPod| {
        pod.workload.as_ref().is_some_and(|(kind, name)| (kind, name) == (&object.kind, &object.name))
    };
    let there = Sum::of(running.iter().filter(is_its));
    if there.pods == 0 {
        return Sum { pods, limits: limits.times(pods) };
    }
    // A rolling update goes on once one pod of the new template is ready.
    if surges {
        return Sum { pods: 1, limits };
    }
    Sum { pods: pods.saturating_sub(there.pods), limits: limits.times(pods).minus(there.limits) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::{Bytes, Millicores};

    fn workload(kind: &str, name: &str, cpu: &str, strategy: &str) -> Object {
        Object::from_body(json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": { "name": name },
            "spec": {
                "replicas": 1,
                "strategy": { "type": strategy },
                "template": { "spec": { "containers": [
                    { "name": "app", "resources": { "limits": { "cpu": cpu, "memory": "64Mi" } } },
                ] } },
            },
        }))
    }

    fn render(phases: &[&[Object]]) -> Render {
        let objects: Vec<Object> = phases.iter().flat_map(|phase| phase.iter().cloned()).collect();
        let mut end = 0;
        let phase_ends = phases.iter().map(|phase| {
            end += phase.len();
            end
        });
        let phase_ends = phase_ends.collect();
        Render {
            namespace: Object::from_body(json!({})),
            walls: Vec::new(),
            objects,
            phase_ends,
            backend: None,
            notes: Vec::new(),
            pins: crate::recipe::Pins::new(),
            own_images: std::collections::BTreeSet::new(),
            upgrades: None,
        }
    }

    fn pod(kind: &str, name: &str, cpu: u64, goes: bool) -> CountedPod {
        let workload = Some((kind.to_owned(), name.to_owned()));
        CountedPod { workload, limits: PodLimits { cpu, memory: 64 << 20 }, goes }
    }

    fn quota() -> Quota {
        Quota { cpu: Millicores(500), memory: Bytes(512 << 20), ..Quota::default() }
    }

    /// Beside what was applied.
    fn running(applied: &[&Object], pods: &[CountedPod]) -> Running {
        let applied =
            applied.iter().map(|object| (object.kind.clone(), object.name.clone(), object.digest())).collect();
        Running { pods: pods.to_vec(), applied }
    }

    fn names(found: &[(String, String)]) -> Vec<&str> {
        found.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn a_smaller_commit_makes_room_for_itself() {
        let good = workload("Deployment", "app", "450m", "RollingUpdate");
        let next = render(&[&[workload("Deployment", "app", "100m", "RollingUpdate")]]);
        let of_good = running(&[&good], &[pod("Deployment", "app", 450, false)]);
        assert!(!has_room(&next, 0, &of_good, &quota()), "450m beside 100m");
        assert_eq!(names(&in_the_way(&next, 0, &of_good)), ["app"]);
        let going = running(&[&good], &[pod("Deployment", "app", 450, true)]);
        assert!(!has_room(&next, 0, &going, &quota()), "it counts until it is gone");
        assert!(in_the_way(&next, 0, &going).is_empty(), "it is stopped once");
        assert!(has_room(&next, 0, &running(&[&good], &[]), &quota()));
        let again = render(&[std::slice::from_ref(&good)]);
        assert!(has_room(&again, 0, &of_good, &quota()), "what stays the same makes no pods");
        assert!(in_the_way(&again, 0, &of_good).is_empty());
    }

    #[test]
    fn one_that_takes_the_place_of_its_pods_needs_no_more_room() {
        let next = render(&[&[workload("Deployment", "app", "500m", "Recreate")]]);
        assert!(has_room(&next, 0, &running(&[], &[pod("Deployment", "app", 500, false)]), &quota()));
        let set = render(&[&[workload("StatefulSet", "db", "300m", "")]]);
        assert!(has_room(&set, 0, &running(&[], &[pod("StatefulSet", "db", 300, false)]), &quota()));
        assert!(!has_room(&set, 0, &running(&[], &[pod("Deployment", "app", 300, false)]), &quota()));
    }

    #[test]
    fn a_job_before_the_application_has_it_stopped_and_leaves_the_database() {
        let database = workload("Deployment", "db", "50m", "Recreate");
        let job = Object::from_body(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "setup" },
            "spec": { "template": { "spec": { "containers": [
                { "name": "setup", "resources": { "limits": { "cpu": "250m", "memory": "64Mi" } } },
            ] } } },
        }));
        let app = workload("Deployment", "app", "410m", "Recreate");
        let next = render(&[std::slice::from_ref(&database), &[job], &[app]]);
        let pods = [
            pod("Deployment", "db", 50, false),
            pod("Deployment", "app", 400, false),
            pod("Deployment", "old-worker", 10, false),
        ];
        let all = running(&[&database], &pods);
        assert!(!has_room(&next, 1, &all, &quota()));
        assert_eq!(names(&in_the_way(&next, 1, &all)), ["app", "old-worker"]);
        assert!(has_room(&next, 1, &running(&[&database], &pods[..1]), &quota()));
    }
}
