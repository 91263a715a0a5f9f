//! Who gets how much of an environment's quota: what the recipe leaves open is shared equally, and what does not fit is
//! refused before anything is applied.

use serde_json::{Value, json};

use super::{
    Bytes, Millicores, Object, Quota, list,
    mistakes::Findings,
    pods,
    walls::{COUNTS, Count},
};
use crate::environment::Cause;

/// A Deployment needs its resources twice to put a new commit beside the old one.
const TIMES_FOR_SURGE: u64 = 2;
/// What a container gets at least where it says nothing: in less nothing starts.
const LEAST_CPU: u64 = 10;
const LEAST_MEMORY: u64 = 16 << 20;

/// One of the two things that are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Cpu,
    Memory,
}

impl Resource {
    fn key(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    fn parse(self, amount: &Value) -> Option<u64> {
        let text = match amount {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        match self {
            Self::Cpu => text.parse::<Millicores>().ok().map(|amount| amount.0),
            Self::Memory => text.parse::<Bytes>().ok().map(|amount| amount.0),
        }
    }

    fn to_json(self, amount: u64) -> Value {
        match self {
            Self::Cpu => json!(Millicores(amount)),
            Self::Memory => json!(Bytes(amount)),
        }
    }

    fn least(self) -> u64 {
        match self {
            Self::Cpu => LEAST_CPU,
            Self::Memory => LEAST_MEMORY,
        }
    }

    /// Whole MiB are what people can read.
    fn rounded(self, amount: u64) -> u64 {
        match self {
            Self::Cpu => amount,
            Self::Memory if amount >= 1 << 20 => amount >> 20 << 20,
            Self::Memory => amount,
        }
    }
}

/// What the pods of one object ask for.
struct Demand {
    phase: usize,
    /// Its pods run to their end, and those of one phase end before those of the next begin.
    ends: bool,
    pods: u64,
    /// A new commit's pods may start beside the old ones.
    surges: bool,
}

impl Demand {
    /// None for what makes no pods.
    fn of(object: &Object, phase: usize, most_pods: Option<u64>) -> Option<Self> {
        pods::template(object)?;
        let spec = &object.body["spec"];
        let replicas = || most_pods.or(spec["replicas"].as_u64()).unwrap_or(1);
        let parallel = |spec: &Value| spec["parallelism"].as_u64().unwrap_or(1);
        let (pods, ends) = match object.kind.as_str() {
            "Job" => (parallel(spec), true),
            "CronJob" => (parallel(&spec["jobTemplate"]["spec"]), false),
            _ => (replicas(), false),
        };
        let surges = object.kind == "Deployment" && spec["strategy"]["type"] != "Recreate";
        Some(Self { phase, ends, pods, surges })
    }

    /// How many pods there are at once.
    fn times(&self, surge: bool) -> u64 {
        if surge && self.surges { self.pods.saturating_mul(TIMES_FOR_SURGE) } else { self.pods }
    }
}

/// What containers that run at once ask for: so much, and so many shares.
#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    said: u64,
    open: u64,
}

impl Stage {
    fn with(self, container: &Value, resource: Resource) -> Self {
        match said(container, resource) {
            Some(amount) => Self { said: self.said.saturating_add(amount), ..self },
            None => Self { open: self.open + 1, ..self },
        }
    }

    /// All of it, where a share is so much.
    fn at(self, share: u64) -> u64 {
        self.said.saturating_add(self.open.saturating_mul(share))
    }
}

/// What one pod asks for: as much as the stage that asks for most. What runs before the others has a stage each, with
/// what was started before it and stays; the last one is of all that stays. As Kubernetes counts it: `PodRequests` and
/// `PodLimits` in `k8s.io/component-helpers/resource`.
#[derive(Debug, Clone, Default)]
struct PodDemand(Vec<Stage>);

impl PodDemand {
    fn of(spec: &Value, resource: Resource) -> Self {
        let mut stages = Vec::new();
        let mut staying = Stage::default();
        for container in list(&spec["initContainers"]) {
            if stays(container) {
                staying = staying.with(container, resource);
            } else {
                // One that says nothing gets what the rest of the pod leaves it, and no less than it starts in.
                let own = said(container, resource).unwrap_or(resource.least());
                stages.push(Stage { said: staying.said.saturating_add(own), ..staying });
            }
        }
        stages.push(list(&spec["containers"]).iter().fold(staying, |stage, container| stage.with(container, resource)));
        Self(stages)
    }

    fn at(&self, share: u64) -> u64 {
        self.0.iter().map(|stage| stage.at(share)).max().unwrap_or_default()
    }
}

/// Whether one of the init containers goes on running beside the others.
pub(super) fn stays(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// The pods that an object makes.
pub(super) struct PodsOf<'a> {
    /// Of each.
    pub spec: &'a Value,
    /// So many at once.
    pub pods: u64,
    /// A new commit's pods may start beside the old ones.
    pub surges: bool,
}

/// The pods that an object makes as soon as it is applied. None where it makes none then.
pub(super) fn pods_of(object: &Object) -> Option<PodsOf<'_>> {
    let Demand { pods, surges, .. } = Demand::of(object, 0, None)?;
    let (template, _) = pods::template(object).filter(|_| object.kind != "CronJob")?;
    Some(PodsOf { spec: &template["spec"], pods, surges })
}

/// What the quota counts of a pod with this spec, whose containers say all of it: thousandths of a core, and bytes.
pub(super) fn limits_of(spec: &Value) -> (u64, u64) {
    (PodDemand::of(spec, Resource::Cpu).at(0), PodDemand::of(spec, Resource::Memory).at(0))
}

/// Gives each container its limits, and each Deployment the strategy that the quota has room for. Refuses with
/// [`Cause::QuotaExceeded`] each thing of which the objects ask for more than an environment may have.
pub(super) fn share(phases: &mut [Vec<Object>], quota: &Quota, findings: &mut Findings) {
    refuse_counts(phases, findings);
    let most_pods: Vec<(String, String, u64)> = phases.iter().flatten().filter_map(autoscaled).collect();
    let demands: Vec<Option<Demand>> = phases
        .iter()
        .enumerate()
        .flat_map(|(phase, objects)| objects.iter().map(move |object| (phase, object)))
        .map(|(phase, object)| {
            let most = most_pods.iter().find(|(kind, name, _)| (kind, name) == (&object.kind, &object.name));
            Demand::of(object, phase, most.map(|(_, _, pods)| *pods))
        })
        .collect();

    let pods = |surge| at_once(&demands, |demand, _| demand.times(surge));
    let mut has_room = pods(true) <= u64::from(quota.pods);
    for (resource, allowed) in [(Resource::Cpu, quota.cpu.0), (Resource::Memory, quota.memory.0)] {
        let asked: Vec<PodDemand> = phases.iter().flatten().map(|object| of_pod(object, resource)).collect();
        let needed = |surge: bool, share: u64| {
            at_once(&demands, |demand, index| asked[index].at(share).saturating_mul(demand.times(surge)))
        };
        let at_least = needed(false, resource.least());
        if at_least > allowed {
            findings.refuse(match resource {
                Resource::Cpu => exceeded("CPU", Millicores(at_least), quota.cpu),
                Resource::Memory => exceeded("memory", Bytes(at_least), quota.memory),
            });
            continue;
        }
        let surge = needed(true, resource.least()) <= allowed;
        has_room &= surge;
        let share = largest(resource.least(), allowed, |share| needed(surge, share) <= allowed);
        let share = resource.rounded(share);
        for template in phases.iter_mut().flatten().filter_map(pods::template_mut) {
            limit_pod(&mut template["spec"], resource, share);
        }
    }
    refuse_storage(phases, &demands, quota, findings);
    if pods(false) > u64::from(quota.pods) {
        findings.refuse(exceeded("pods", pods(false), quota.pods));
    }
    if !has_room {
        for deployment in phases.iter_mut().flatten().filter(|object| object.kind == "Deployment") {
            deployment.body["spec"]["strategy"] = json!({ "type": "Recreate" });
        }
    }
}

/// The largest number up to `most` that fits, as `least` does, and all do that are smaller than one that fits.
fn largest(mut least: u64, mut most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    while least < most {
        let middle = most - (most - least) / 2;
        if fits(middle) {
            least = middle;
        } else {
            most = middle - 1;
        }
    }
    least
}

fn exceeded(resource: &str, needed: impl ToString, allowed: impl ToString) -> Cause {
    Cause::QuotaExceeded { resource: resource.to_owned(), needed: needed.to_string(), allowed: allowed.to_string() }
}

/// The sum of `amount` over everything that runs at the same time: what keeps running, and of what ends the phase that
/// asks for most.
fn at_once(demands: &[Option<Demand>], amount: impl Fn(&Demand, usize) -> u64) -> u64 {
    let all = || demands.iter().enumerate().filter_map(|(index, demand)| Some((index, demand.as_ref()?)));
    let sum = |of: &dyn Fn(&Demand) -> bool| {
        let amounts = all().filter(|(_, demand)| of(demand)).map(|(index, demand)| amount(demand, index));
        amounts.fold(0, u64::saturating_add)
    };
    let phases = all().map(|(_, demand)| demand.phase).max().unwrap_or_default();
    let ending = (0..=phases).map(|phase| sum(&|demand| demand.ends && demand.phase == phase)).max();
    sum(&|demand| !demand.ends).saturating_add(ending.unwrap_or_default())
}

/// Which Deployment or StatefulSet an autoscaler makes how large.
fn autoscaled(object: &Object) -> Option<(String, String, u64)> {
    if object.kind != "HorizontalPodAutoscaler" {
        return None;
    }
    let spec = &object.body["spec"];
    let target = |key: &str| spec["scaleTargetRef"][key].as_str().map(str::to_owned);
    Some((target("kind")?, target("name")?, spec["maxReplicas"].as_u64()?))
}

/// What each of an object's pods asks for. Nothing of what makes none.
fn of_pod(object: &Object, resource: Resource) -> PodDemand {
    pods::template(object).map_or_else(PodDemand::default, |(template, _)| PodDemand::of(&template["spec"], resource))
}

/// The limit that a container states; its request where it states only that.
fn said(container: &Value, resource: Resource) -> Option<u64> {
    let amount = |list: &str| resource.parse(&container["resources"][list][resource.key()]);
    // Kubernetes takes a limit of 0 for no limit.
    amount("limits").or_else(|| amount("requests")).filter(|amount| *amount > 0)
}

/// Gives the containers of a pod what they leave open: a share, and to what runs before the others as much as the pod
/// counts for anyway.
fn limit_pod(spec: &mut Value, resource: Resource, share: u64) {
    let whole = PodDemand::of(spec, resource).at(share);
    let mut staying = Stage::default();
    for container in spec.get_mut("initContainers").and_then(Value::as_array_mut).into_iter().flatten() {
        if stays(container) {
            staying = staying.with(container, resource);
            limit(container, resource, share);
        } else {
            limit(container, resource, whole.saturating_sub(staying.at(share)));
        }
    }
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        limit(container, resource, share);
    }
}

/// `open`: what it gets where it says nothing.
fn limit(container: &mut Value, resource: Resource, open: u64) {
    let key = resource.key();
    let limit = resource.to_json(said(container, resource).unwrap_or(open));
    if container["resources"].is_null() {
        container["resources"] = json!({});
    }
    let resources = &mut container["resources"];
    for list in ["requests", "limits"] {
        if resources[list].is_null() {
            resources[list] = json!({});
        }
    }
    if resource.parse(&resources["requests"][key]).is_none_or(|amount| amount == 0) {
        resources["requests"][key] = limit.clone();
    }
    resources["limits"][key] = limit;
}

/// The objects of each kind, as the environment's ResourceQuota counts them.
fn refuse_counts(phases: &[Vec<Object>], findings: &mut Findings) {
    for Count { kind, allowed, not_the_recipes, .. } in COUNTS {
        let needed = phases.iter().flatten().filter(|object| object.kind == kind).count() as u64;
        let allowed = allowed - not_the_recipes;
        if needed > allowed {
            findings.refuse(exceeded(&format!("kind {kind}"), format!("{needed} objects"), allowed));
        }
    }
}

/// What is asked for as volumes: by claims, and by what makes a claim for each of its pods.
fn refuse_storage(phases: &[Vec<Object>], demands: &[Option<Demand>], quota: &Quota, findings: &mut Findings) {
    let mut claims = 0_u64;
    let mut bytes = 0_u64;
    let mut add = |spec: &Value, times: u64| {
        let size = Resource::Memory.parse(&spec["resources"]["requests"]["storage"]).unwrap_or_default();
        claims = claims.saturating_add(times);
        bytes = bytes.saturating_add(size.saturating_mul(times));
    };
    for (object, demand) in phases.iter().flatten().zip(demands) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        if object.kind == "PersistentVolumeClaim" {
            add(&object.body["spec"], 1);
        }
        let (Some(demand), Some((template, _))) = (demand, pods::template(object)) else { continue };
        for claim in list(&object.body["spec"]["volumeClaimTemplates"]) {
            add(&claim["spec"], demand.pods);
        }
        for volume in list(&template["spec"]["volumes"]).iter().filter(|volume| volume["ephemeral"].is_object()) {
            add(&volume["ephemeral"]["volumeClaimTemplate"]["spec"], demand.pods);
        }
    }
    if bytes > quota.storage.0 {
        findings.refuse(exceeded("storage", Bytes(bytes), quota.storage));
    }
    if claims > u64::from(quota.persistent_volume_claims) {
        findings.refuse(exceeded("volume claims", claims, quota.persistent_volume_claims));
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::PodLimits;
    use super::*;

    /// The limits of CPU of each container, those that run before the others first, and what the pod counts for.
    fn shared(init: &Value, main: &Value) -> Result<(Vec<String>, u64), Cause> {
        let set = Object::from_body(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" },
            "spec": { "template": { "spec": { "initContainers": init, "containers": main } } },
        }));
        let mut phases = [vec![set]];
        let mut findings = Findings::default();
        share(&mut phases, &Quota::default(), &mut findings);
        findings.into_notes().map_err(|mistakes| mistakes.first().clone())?;
        let set = &phases[0][0];
        let limits = set.containers().map(|container| {
            let resources = &container["resources"];
            assert!(resources["limits"]["memory"].is_string() && resources["requests"] == resources["limits"]);
            resources["limits"]["cpu"].as_str().unwrap_or_default().to_owned()
        });
        Ok((limits.collect(), PodLimits::of(&set.body["spec"]["template"]["spec"]).cpu))
    }

    fn container(cpu: &str) -> Value {
        json!({ "resources": { "limits": { "cpu": cpu } } })
    }

    fn sidecar(cpu: &str) -> Value {
        json!({ "restartPolicy": "Always", "resources": { "limits": { "cpu": cpu } } })
    }

    #[test]
    fn what_runs_before_the_others_gets_what_they_leave_it() {
        let (open, open_sidecar) = (json!({}), json!({ "restartPolicy": "Always" }));
        for (init, main, limits, counted) in [
            // Never nothing, which would be no limit.
            (json!([open]), json!([container("100m")]), vec!["100m", "100m"], 100),
            (json!([open]), json!([open, open]), vec!["500m", "250m", "250m"], 500),
            (json!([open]), json!([container("5m")]), vec!["10m", "5m"], 10),
            (
                json!([open, container("300m")]),
                json!([open, container("100m")]),
                vec!["500m", "300m", "400m", "100m"],
                500,
            ),
            (json!([container("400m")]), json!([container("100m")]), vec!["400m", "100m"], 400),
            // With those that stay, as far as they were started before.
            (
                json!([open, sidecar("100m"), open]),
                json!([container("200m")]),
                vec!["300m", "100m", "200m", "200m"],
                300,
            ),
            (
                json!([sidecar("300m"), container("200m")]),
                json!([container("100m")]),
                vec!["300m", "200m", "100m"],
                500,
            ),
            (json!([open_sidecar, container("400m")]), json!([open]), vec!["100m", "400m", "100m"], 500),
        ] {
            let limits: Vec<String> = limits.into_iter().map(str::to_owned).collect();
            assert_eq!(shared(&init, &main), Ok((limits, counted)), "{init} {main}");
        }
    }

    #[test]
    fn what_is_too_large_while_it_starts_is_refused() {
        for (init, main, needed) in [
            (json!([sidecar("300m"), container("300m")]), json!([container("10m")]), "600m"),
            (json!([sidecar("495m"), {}]), json!([container("5m")]), "505m"),
            (json!([container("501m")]), json!([{}]), "501m"),
        ] {
            let needed = needed.to_owned();
            let refused = Cause::QuotaExceeded { resource: "CPU".to_owned(), needed, allowed: "500m".to_owned() };
            assert_eq!(shared(&init, &main), Err(refused), "{init}");
        }
        assert!(shared(&json!([container("300m"), sidecar("300m")]), &json!([container("10m")])).is_ok());
    }
}
