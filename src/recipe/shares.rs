//! Who gets how much of an environment's quota: what the recipe leaves open is shared equally, and what does not fit is
//! refused before anything is applied.

use serde_json::{Value, json};

use super::{
    Bytes, Millicores, Object, Quota,
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

/// What one pod asks for: so much, and so many containers' shares.
#[derive(Debug, Clone, Copy, Default)]
struct PodDemand {
    said: u64,
    open: u64,
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
    (of_spec(spec, Resource::Cpu).said, of_spec(spec, Resource::Memory).said)
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
        let said = |surge| at_once(&demands, |demand, index| asked[index].said.saturating_mul(demand.times(surge)));
        let open = |surge| at_once(&demands, |demand, index| asked[index].open.saturating_mul(demand.times(surge)));
        let needed = |surge| said(surge).saturating_add(open(surge).saturating_mul(resource.least()));
        if needed(false) > allowed {
            findings.refuse(match resource {
                Resource::Cpu => exceeded("CPU", Millicores(needed(false)), quota.cpu),
                Resource::Memory => exceeded("memory", Bytes(needed(false)), quota.memory),
            });
            continue;
        }
        let surge = needed(true) <= allowed;
        has_room &= surge;
        let share = allowed.saturating_sub(said(surge)).checked_div(open(surge)).unwrap_or_default();
        let share = resource.to_json(resource.rounded(share));
        for object in phases.iter_mut().flatten() {
            let Some(template) = pods::template_mut(object) else { continue };
            pods::containers_mut(&mut template["spec"]).for_each(|container| limit(container, resource, &share));
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

/// Containers that run at once count together; those that run before the others count where they ask for more.
fn of_pod(object: &Object, resource: Resource) -> PodDemand {
    pods::template(object).map_or_else(PodDemand::default, |(template, _)| of_spec(&template["spec"], resource))
}

fn of_spec(spec: &Value, resource: Resource) -> PodDemand {
    let list = |name: &str| spec[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let stays = |container: &&Value| container["restartPolicy"] == "Always";
    let sum = |containers: &mut dyn Iterator<Item = &Value>| {
        containers.fold(PodDemand::default(), |sum, container| match said(container, resource) {
            Some(amount) => PodDemand { said: sum.said.saturating_add(amount), ..sum },
            None => PodDemand { open: sum.open + 1, ..sum },
        })
    };
    let main = sum(&mut list("containers").iter().chain(list("initContainers").iter().filter(stays)));
    let first = list("initContainers").iter().filter(|container| !stays(container));
    let first = first.map(|container| said(container, resource).unwrap_or_default()).max().unwrap_or_default();
    let more = first.saturating_sub(main.said);
    PodDemand { said: main.said.saturating_add(more), open: main.open }
}

/// The limit that a container states; its request where it states only that.
fn said(container: &Value, resource: Resource) -> Option<u64> {
    let amount = |list: &str| resource.parse(&container["resources"][list][resource.key()]);
    // Kubernetes takes a limit of 0 for no limit.
    amount("limits").or_else(|| amount("requests")).filter(|amount| *amount > 0)
}

fn limit(container: &mut Value, resource: Resource, share: &Value) {
    let key = resource.key();
    let said = said(container, resource).map(|amount| resource.to_json(amount));
    if container["resources"].is_null() {
        container["resources"] = json!({});
    }
    let resources = &mut container["resources"];
    for list in ["requests", "limits"] {
        if resources[list].is_null() {
            resources[list] = json!({});
        }
    }
    let limit = said.unwrap_or_else(|| share.clone());
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
