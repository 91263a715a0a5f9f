//! The pods that objects make: where their specs stand, and what every one of them gets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Context, Object, list, walls};
use crate::environment::COMMIT_LABEL;

/// kube-proxy writes its rules once a second at most, ingress controllers are as quick:
/// <https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/> (`minSyncPeriod`).
const DRAIN_SECONDS: i64 = 2;
/// How long a pod must stay ready before it counts: one that answers its first probe and then runs out of memory or ends
/// would otherwise be called running, in whichever instant somebody looks.
const STAYS_READY_SECONDS: u32 = 3;
/// How long a Job that ended stays at least: longer than previewd, its database or the cluster is usually away. One that is
/// gone before anybody saw it end would be run again.
const STAYS_ENDED_SECONDS: u64 = 3_600;

/// Where a kind has its pod template; None for what makes no pods.
pub(super) fn template_path(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment" | "StatefulSet" | "Job" => Some("/spec/template"),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// The object's pod template, with its place as people write it.
pub(super) fn template(object: &Object) -> Option<(&Value, String)> {
    let path = template_path(&object.kind)?;
    Some((object.body.pointer(path)?, path[1..].replace('/', ".")))
}

pub(super) fn template_mut(object: &mut Object) -> Option<&mut Value> {
    object.body.pointer_mut(template_path(&object.kind)?)
}

/// The containers of a pod's spec, those that run before the others included.
pub(super) fn containers_mut(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let Value::Object(spec) = spec else { return Vec::new().into_iter() };
    let lists = spec.iter_mut().filter(|(key, _)| matches!(key.as_str(), "initContainers" | "containers"));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten().collect::<Vec<_>>().into_iter()
}

impl Object {
    /// The containers of the pods that it makes, those that run before the others first.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        let spec = template(self).map(|(template, _)| &template["spec"]);
        let lists = spec.map(|spec| ["initContainers", "containers"].map(|list| spec[list].as_array()));
        lists.into_iter().flatten().flatten().flatten()
    }
}

/// Labels the object and its pods as ours, and makes of its pods what previewd has in every environment: no token,
/// everything that Pod Security's standard `restricted` asks for and they leave open, and what makes a rollout one that
/// nobody notices, where they say nothing of it. `own_images` are pushed anew for each commit.
pub(super) fn take_over(object: &mut Object, own_images: &BTreeSet<String>, context: &Context<'_>) {
    let labels = walls::labels(context);
    merge(&mut object.body["metadata"]["labels"], &labels);
    if let Some(claims) = object.body.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut) {
        for claim in claims {
            merge(&mut claim["metadata"]["labels"], &labels);
        }
    }
    // Jobs are labelled like what they make.
    if let Some(template) = object.body.pointer_mut("/spec/jobTemplate") {
        merge(&mut template["metadata"]["labels"], &labels);
    }
    if let Some(stays) = object.body.pointer_mut("/spec/ttlSecondsAfterFinished")
        && stays.as_u64().is_some_and(|seconds| seconds < STAYS_ENDED_SECONDS)
    {
        *stays = json!(STAYS_ENDED_SECONDS);
    }
    let serves = matches!(object.kind.as_str(), "Deployment" | "StatefulSet");
    if serves {
        default(&mut object.body["spec"], "minReadySeconds", json!(STAYS_READY_SECONDS));
    }
    let Some(template) = template_mut(object) else { return };
    // Stamped only where the commit is used: otherwise the pods survive a push that does not concern them.
    let text = template.to_string();
    let is_own_build = |container: &Value| container["image"].as_str().is_some_and(|image| own_images.contains(image));
    let has_own_build = containers_mut(&mut template["spec"]).any(|container| is_own_build(container));
    let uses_commit = has_own_build || text.contains(context.commit.as_str()) || text.contains(context.commit.short());
    merge(&mut template["metadata"]["labels"], &labels);
    if uses_commit {
        template["metadata"]["labels"][COMMIT_LABEL] = json!(context.commit);
    }

    let spec = &mut template["spec"];
    if spec["serviceAccountName"].is_null() {
        spec["serviceAccountName"] = json!(walls::SERVICE_ACCOUNT);
    }
    spec["automountServiceAccountToken"] = json!(false);
    if context.registries.is_some() {
        let own = json!({ "name": walls::REGISTRY_SECRET });
        match spec["imagePullSecrets"].as_array_mut() {
            Some(named) => named.push(own),
            None => spec["imagePullSecrets"] = json!([own]),
        }
    }
    let security = &mut spec["securityContext"];
    default(security, "runAsNonRoot", json!(true));
    default(security, "seccompProfile", json!({ "type": "RuntimeDefault" }));
    for container in containers_mut(spec) {
        // The node may have what the tag meant for another commit, which most charts have it keep. One that must never pull
        // has its images by another way.
        if is_own_build(container) && container["imagePullPolicy"] != "Never" {
            container["imagePullPolicy"] = json!("Always");
        }
        let security = &mut container["securityContext"];
        default(security, "allowPrivilegeEscalation", json!(false));
        default(&mut security["capabilities"], "drop", json!(["ALL"]));
        // Routers learn of a pod's end a moment after the pod does: until then it goes on answering.
        if serves && container["ports"].is_array() && container["lifecycle"].is_null() {
            container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": DRAIN_SECONDS } } });
        }
    }
}

fn default(parent: &mut Value, key: &str, value: Value) {
    if parent.is_null() {
        *parent = json!({});
    }
    if parent[key].is_null() {
        parent[key] = value;
    }
}

fn merge(labels: &mut Value, more: &Value) {
    if labels.is_null() {
        *labels = json!({});
    }
    if let (Value::Object(labels), Value::Object(more)) = (labels, more) {
        labels.extend(more.clone());
    }
}

/// A pod as an object makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct MadePod {
    pub pod: Object,
    /// Where the object describes it, such as `spec.template`. Empty: the object is the pod.
    pub place: String,
}

impl Object {
    /// One of the pods that it makes, with all that its controller puts into it and validation asks for.
    pub fn pod(&self) -> Option<MadePod> {
        if self.kind == "Pod" {
            return Some(MadePod { pod: self.clone(), place: String::new() });
        }
        let (template, place) = template(self)?;
        let mut metadata = json!({ "name": self.name, "labels": template["metadata"]["labels"] });
        if !template["metadata"]["annotations"].is_null() {
            metadata["annotations"] = template["metadata"]["annotations"].clone();
        }
        let mut spec = template["spec"].clone();
        if spec["restartPolicy"].is_null() {
            spec["restartPolicy"] = json!("Always");
        }
        mount_claims(&mut spec, &self.body["spec"]["volumeClaimTemplates"], &self.name);
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        Some(MadePod { pod: Object::from_body(pod), place })
    }
}

impl Object {
    /// The claims that a StatefulSet's controller makes, one of each template for each pod, as large as the template says.
    /// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-storage>
    pub fn claims(&self) -> Vec<Self> {
        let spec = &self.body["spec"];
        let (first, pods) = (spec["ordinals"]["start"].as_u64().unwrap_or(0), spec["replicas"].as_u64().unwrap_or(1));
        let claims_of = |template: &Value| {
            let name = template["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let resources = template["spec"]["resources"].clone();
            (first..first.saturating_add(pods)).map(move |pod| {
                Self::from_body(json!({
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": { "name": format!("{name}-{}-{pod}", self.name) },
                    "spec": { "resources": resources },
                }))
            })
        };
        list(&spec["volumeClaimTemplates"]).iter().flat_map(claims_of).collect()
    }
}

/// The volumes of a StatefulSet's claims, which take the place of the template's own of their names, as its controller
/// has it: `updateStorage` in k8s.io/kubernetes, `pkg/controller/statefulset/stateful_set_utils.go`.
fn mount_claims(spec: &mut Value, claims: &Value, set: &str) {
    let names: Vec<&str> =
        claims.as_array().into_iter().flatten().filter_map(|claim| claim["metadata"]["name"].as_str()).collect();
    if names.is_empty() {
        return;
    }
    let own = spec["volumes"].as_array().into_iter().flatten();
    let mut volumes: Vec<Value> =
        own.filter(|volume| volume["name"].as_str().is_none_or(|name| !names.contains(&name))).cloned().collect();
    volumes.extend(
        names
            .iter()
            .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": format!("{name}-{set}-0") } })),
    );
    spec["volumes"] = json!(volumes);
}
