//! Hooks of charts: which objects belong to which event of a release, in which order they are applied, and which of them
//! stay or go afterwards. As helm does it, with what differs in `docs/charts.md`.

use serde_json::json;

use super::{Object, Render, admission::place_of};
use crate::environment::HOOK;

/// helm's annotation for the order of hooks within an event.
const WEIGHT: &str = "helm.sh/hook-weight";
/// helm's annotation for when a hook's object is deleted.
const DELETION: &str = "helm.sh/hook-delete-policy";
/// helm's annotation of what stays where a release no longer has it.
const RESOURCE_POLICY: &str = "helm.sh/resource-policy";
/// The annotation of a chart's hook that says for which event it is applied: `pre-install`.
const EVENT: &str = "previewd.dev/hook";
/// The annotation of what a chart leaves in the namespace: later commits that do not have it let it stay.
pub const STAYS: &str = "previewd.dev/stays";
/// The annotations that charts' objects get.
pub(super) const OWN: [&str; 2] = [EVENT, STAYS];

/// When a hook's object is deleted.
#[derive(Debug, Clone, Copy)]
enum Goes {
    /// Once all hooks of its event are done.
    Succeeded,
    /// Once it failed.
    Failed,
}

impl Goes {
    fn policy(self) -> &'static str {
        match self {
            Self::Succeeded => "hook-succeeded",
            Self::Failed => "hook-failed",
        }
    }
}

/// A chart's objects by when they are applied.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub before: Vec<Object>,
    pub main: Vec<Object>,
    pub after: Vec<Object>,
}

/// Sorts a chart's objects for an event of its release: `install` or `upgrade`. Hooks of other events are left out.
pub(super) fn sort(objects: Vec<Object>, current: &str) -> Sorted {
    let [pre, post] = ["pre", "post"].map(|when| format!("{when}-{current}"));
    let mut sorted = Sorted::default();
    for mut object in objects {
        let Some(events) = words(&object, HOOK) else {
            let keeps =
                object.annotation(RESOURCE_POLICY).is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"));
            if keeps && !object.makes_pods() {
                object.annotate(STAYS, "true");
            }
            sorted.main.push(object);
            continue;
        };
        // What an installation started goes on running: it has its part of the quota, sleeps and is waited for.
        let goes_on = object.makes_pods() && object.kind != "Job";
        let runs = |event: &str| {
            let at_install = || event.replace("upgrade", "install");
            events.iter().any(|named| named == event || (goes_on && *named == at_install()))
        };
        let is_in_both = runs(&pre) && runs(&post);
        if runs(&pre) {
            sorted.before.push(as_hook(object.clone(), &pre));
        }
        if runs(&post) {
            let mut object = as_hook(object, &post);
            // It runs once more: a Job of the same name would be the one that is done.
            if is_in_both && object.kind == "Job" {
                object.rename(second_name(&object.name));
            }
            sorted.after.push(object);
        }
    }
    sorted
}

fn as_hook(mut object: Object, event: &str) -> Object {
    object.annotate(EVENT, event);
    if !object.makes_pods() && !object.goes(Goes::Succeeded) {
        object.annotate(STAYS, "true");
    }
    object
}

/// A name for the same once more, no longer than a Job's may be.
fn second_name(name: &str) -> String {
    const LONGEST: usize = 63;
    const SECOND: &str = "-post";
    let cut: String = name.chars().take(LONGEST - SECOND.len()).collect();
    format!("{cut}{SECOND}")
}

/// One after the other, by weight, then by kind, then by name: a phase ends with each Job.
pub(super) fn phases_of(mut hooks: Vec<Object>, commit: &str) -> Vec<Vec<Object>> {
    let weight = |hook: &Object| hook.annotation(WEIGHT).and_then(|weight| weight.parse().ok()).unwrap_or(0_i64);
    // What a Job uses comes before it.
    hooks.sort_by_cached_key(|hook| (weight(hook), hook.kind == "Job", place_of(&hook.kind), hook.name.clone()));
    let mut phases = vec![Vec::new()];
    for mut object in hooks {
        let is_job = object.kind == "Job";
        if is_job {
            object.run_anew_for(commit);
        }
        if let Some(phase) = phases.last_mut() {
            phase.push(object);
        }
        if is_job {
            phases.push(Vec::new());
        }
    }
    phases
}

/// The words of a list such as `pre-install, pre-upgrade`, as helm reads it. None where the annotation is not there.
fn words(object: &Object, annotation: &str) -> Option<Vec<String>> {
    let list = object.annotation(annotation)?;
    Some(list.split(',').map(|word| word.trim().to_lowercase()).collect())
}

impl Object {
    /// The value of one of its own annotations.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.body["metadata"]["annotations"][name].as_str()
    }

    fn annotate(&mut self, name: &str, value: &str) {
        self.body["metadata"]["annotations"][name] = json!(value);
    }

    /// Whether pods come of it.
    pub(super) fn makes_pods(&self) -> bool {
        self.kind == "Job" || self.sleeps()
    }

    /// The event of a chart's release that it is a hook of: `pre-install`. None for everything else.
    pub(super) fn event(&self) -> Option<&str> {
        self.annotation(EVENT)
    }

    fn goes(&self, when: Goes) -> bool {
        let policies = self.event().and_then(|_| words(self, DELETION)).unwrap_or_default();
        policies.iter().any(|policy| policy == when.policy())
    }

    /// Whether a chart has it for its hooks alone: it is gone once they are done.
    pub(super) fn is_passing(&self) -> bool {
        self.goes(Goes::Succeeded)
    }
}

impl Render {
    /// What goes before a phase begins: a chart's objects that were there for the hooks of an event which has ended.
    pub fn departing(&self, phase: usize) -> Vec<&Object> {
        let phases = self.phases();
        let event = |phase: usize| phases.get(phase)?.first()?.event();
        let Some(ended) = phase.checked_sub(1).and_then(event).filter(|ended| event(phase) != Some(ended)) else {
            return Vec::new();
        };
        // What comes again is changed in place.
        let comes = |object: &Object| {
            let mut later = phases.iter().skip(phase).copied().flatten();
            later.any(|other| (&other.kind, &other.name) == (&object.kind, &object.name))
        };
        let of_event = phases.iter().take(phase).copied().flatten().filter(|object| object.event() == Some(ended));
        of_event.filter(|object| object.is_passing() && !comes(object)).collect()
    }

    /// Whether a phase is of hooks that come after the chart's other objects.
    pub fn has_last_hooks(&self, phase: usize) -> bool {
        let first = self.phases().get(phase).and_then(|objects| objects.first());
        first.and_then(Object::event).is_some_and(|event| event.starts_with("post-"))
    }

    /// What goes once the Job `failed`, a hook, has failed: itself, where the chart wants it so, and what was there for
    /// the hooks before it and nothing else.
    pub fn departing_after_failure(&self, failed: &str) -> Vec<&Object> {
        let is_it = |object: &Object| object.kind == "Job" && object.name == failed;
        let Some(at) = self.objects.iter().position(is_it) else { return Vec::new() };
        let event = self.objects[at].event();
        let is_otherwise_there = |object: &Object| {
            let mut others = self.objects.iter().filter(|other| other.event() != event);
            others.any(|other| (&other.kind, &other.name) == (&object.kind, &object.name))
        };
        let so_far = self.objects[..=at].iter().filter(|object| object.event().is_some() && object.event() == event);
        let goes = |object: &&Object| if is_it(object) { object.goes(Goes::Failed) } else { object.is_passing() };
        so_far.filter(goes).filter(|object| !is_otherwise_there(object)).collect()
    }

    /// Whether hooks at its end leave something that goes once they are done.
    pub(super) fn leaves_passing_objects(&self) -> bool {
        !self.departing(self.phases().len()).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::Pins;
    use super::*;

    fn object(kind: &str, name: &str, annotations: Value) -> Object {
        let version = match kind {
            "Job" => "batch/v1",
            "Deployment" | "StatefulSet" => "apps/v1",
            _ => "v1",
        };
        Object::from_body(
            json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "annotations": annotations } }),
        )
    }

    fn hook(kind: &str, name: &str, events: &str, more: &[(&str, &str)]) -> Object {
        let mut annotations = json!({ HOOK: events });
        more.iter().for_each(|(key, value)| annotations[key] = json!(value));
        object(kind, name, annotations)
    }

    fn names(objects: &[Object]) -> Vec<&str> {
        objects.iter().map(|object| object.name.as_str()).collect()
    }

    #[test]
    fn hooks_run_at_their_events() {
        let objects = || {
            vec![
                hook("Job", "install", "pre-install", &[]),
                hook("Job", "always", "Pre-Install, pre-upgrade", &[]),
                hook("Job", "upgrade", "post-upgrade", &[]),
                hook("Job", "twice", "pre-upgrade,post-upgrade", &[]),
                hook("Job", "probe", "test", &[]),
                hook("Job", "probed", "test,post-upgrade", &[]),
                hook("Job", "end", "pre-delete,post-delete,pre-rollback,post-rollback", &[]),
                hook("StatefulSet", "database", "pre-install", &[]),
                hook("Secret", "key", "pre-install", &[]),
                object("Service", "web", Value::Null),
            ]
        };
        let installed = sort(objects(), "install");
        assert_eq!(names(&installed.before), ["install", "always", "database", "key"]);
        assert_eq!((names(&installed.main), names(&installed.after)), (vec!["web"], vec![]));
        let upgraded = sort(objects(), "upgrade");
        assert_eq!(names(&upgraded.before), ["always", "twice", "database"], "what an installation started goes on");
        assert_eq!(names(&upgraded.after), ["upgrade", "twice-post", "probed"]);
    }

    #[test]
    fn hooks_come_by_weight_and_each_job_ends_a_phase() {
        let weight = |weight: &'static str| [(WEIGHT, weight)];
        let hooks = vec![
            hook("Job", "b", "pre-install", &[]),
            hook("Job", "late", "pre-install", &weight("5")),
            hook("StatefulSet", "database", "pre-install", &[]),
            hook("ConfigMap", "settings", "pre-install", &[]),
            hook("Secret", "z", "pre-install", &weight("x")),
            hook("Job", "early", "pre-install", &weight("-5")),
            hook("Job", "a", "pre-install", &weight("0")),
        ];
        let phases = phases_of(hooks, "0123");
        let phases: Vec<Vec<&str>> = phases.iter().map(|phase| names(phase)).collect();
        assert_eq!(phases, [vec!["early"], vec!["z", "settings", "database", "a"], vec!["b"], vec!["late"], vec![]]);
    }

    #[test]
    fn what_a_chart_leaves_is_marked() {
        let stays = |object: Object| {
            let Sorted { before, main, after } = sort(vec![object], "install");
            [before, main, after].concat()[0].annotation(STAYS).is_some()
        };
        assert!(stays(hook("Secret", "key", "pre-install", &[])));
        assert!(stays(hook("PersistentVolumeClaim", "data", "post-install", &[(DELETION, "before-hook-creation")])));
        assert!(!stays(hook("Secret", "key", "pre-install", &[(DELETION, "before-hook-creation, Hook-Succeeded")])));
        assert!(!stays(hook("Job", "migrate", "pre-install", &[])));
        assert!(stays(object("PersistentVolumeClaim", "data", json!({ RESOURCE_POLICY: " Keep" }))));
        assert!(!stays(object("PersistentVolumeClaim", "data", Value::Null)));
        assert!(!stays(object("Deployment", "web", json!({ RESOURCE_POLICY: "keep" }))), "its pods would stay");
    }

    /// A render with a phase for each of these.
    fn render(phases: Vec<Vec<Object>>) -> Render {
        let mut phase_ends = Vec::new();
        for phase in &phases {
            phase_ends.push(phase_ends.last().copied().unwrap_or_default() + phase.len());
        }
        let namespace = object("Namespace", "pr-1", Value::Null);
        let objects = phases.concat();
        let (walls, notes, pins, own_images) = (vec![], vec![], Pins::new(), BTreeSet::new());
        Render { namespace, walls, objects, phase_ends, backend: None, notes, pins, own_images, upgrades: None }
    }

    #[test]
    fn what_is_there_for_hooks_goes_with_their_event() {
        let succeeded = [(DELETION, "hook-succeeded,before-hook-creation")];
        let objects = vec![
            hook("ServiceAccount", "migrate", "pre-install", &succeeded),
            hook("ServiceAccount", "web", "pre-install", &succeeded),
            hook("Secret", "key", "pre-install", &[(WEIGHT, "-1")]),
            hook("Job", "first", "pre-install", &succeeded),
            hook("Job", "second", "pre-install", &[(DELETION, "hook-failed")]),
            object("ServiceAccount", "web", Value::Null),
            hook("Job", "seed", "post-install", &succeeded),
        ];
        let Sorted { before, main, after } = sort(objects, "install");
        let mut phases = phases_of(before, "0123");
        phases.retain(|phase| !phase.is_empty());
        phases.extend([main, after]);
        let render = render(phases);
        let departing =
            |phase: usize| render.departing(phase).iter().map(|object| object.name.as_str()).collect::<Vec<_>>();
        assert_eq!(departing(0), [""; 0]);
        assert_eq!(departing(1), [""; 0], "other hooks of the event may use it");
        assert_eq!(departing(2), ["migrate", "first"], "the chart has an account web of its own");
        assert_eq!(departing(3), [""; 0]);
        assert_eq!(departing(4), ["seed"]);
        assert!(render.leaves_passing_objects());
        assert_eq!([0, 2, 3, 4].map(|phase| render.has_last_hooks(phase)), [false, false, true, false]);
        let after = |job: &str| {
            render.departing_after_failure(job).iter().map(|object| object.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(after("first"), ["migrate"], "the Job itself stays, for whoever wants to know");
        assert_eq!(after("second"), ["migrate", "first", "second"]);
        assert_eq!(after("seed"), [""; 0]);
        assert_eq!(names(&render.lasting().objects), ["key", "web"]);
    }
}
