//! What an export of a living object brings along, and is another cluster's own: `kubectl get -o yaml` writes it, and
//! nobody means it. It is left out, and that is said.
//!
//! Where a field could be meant as well (an address, a volume, an owner), it is left out of what is an export by its other
//! fields, and refused elsewhere.

use serde_json::{Map, Value, json};

use super::{super::pods, Review, is_set, list, shown};

/// What only an API server sets: `ObjectMeta` of k8s.io/apimachinery.
const METADATA: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// What controllers, and kubectl, keep in annotations about the object that they are on. A claim that says it is bound
/// would be lost.
const ANNOTATIONS: [&str; 11] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
    "batch.kubernetes.io/job-tracking",
    "control-plane.alpha.kubernetes.io/leader",
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
];

/// What a Job's controller has its pods known by.
const LABELS_OF_JOBS: [&str; 4] =
    ["controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"];

/// What an API server writes into a pod's description where nobody did.
const DEFAULTS_OF_PODS: [(&str, &str); 2] =
    [("schedulerName", "default-scheduler"), ("preemptionPolicy", "PreemptLowerPriority")];

/// How the admission plugin ServiceAccount calls the volume with a pod's token.
const TOKEN_VOLUME: &str = "kube-api-access-";

pub(super) fn leave_out(body: &mut Value, review: &mut Review<'_>) {
    let is_export = METADATA.iter().any(|field| is_set(&body["metadata"][field]));
    let kind = body["kind"].as_str().unwrap_or_default().to_owned();
    let mut left_out = Vec::new();
    of_metadata(body, "metadata", &mut left_out);
    take_out(body, "", "status", &mut left_out);
    if is_export {
        take_out(body, "/metadata", "ownerReferences", &mut left_out);
        take_out(body, "/metadata", "finalizers", &mut left_out);
        match kind.as_str() {
            "Service" => of_service(body, &mut left_out),
            "PersistentVolumeClaim" => take_out(body, "/spec", "volumeName", &mut left_out),
            "ServiceAccount" => take_out(body, "", "secrets", &mut left_out),
            _ => {}
        }
    }
    if kind == "Job" && body["spec"]["manualSelector"] != true {
        take_out(body, "/spec", "selector", &mut left_out);
        for place in ["/metadata/labels", "/spec/template/metadata/labels"] {
            LABELS_OF_JOBS.iter().for_each(|label| take_out(body, place, label, &mut left_out));
        }
    }
    for index in 0..list(&body["spec"]["volumeClaimTemplates"]).len() {
        let place = format!("spec.volumeClaimTemplates[{index}]");
        if let Some(claim) = body.pointer_mut(&format!("/spec/volumeClaimTemplates/{index}")) {
            let mut of_claim = Vec::new();
            of_metadata(claim, "metadata", &mut of_claim);
            take_out(claim, "", "status", &mut of_claim);
            left_out.extend(of_claim.into_iter().map(|field| format!("{place}.{field}")));
        }
    }
    if let Some(path) = pods::template_path(&kind)
        && let Some(template) = body.pointer_mut(path)
    {
        let place = path[1..].replace('/', ".");
        let mut of_template = Vec::new();
        of_metadata(template, "metadata", &mut of_template);
        if let Some(spec) = template.get_mut("spec") {
            of_pods(spec, &mut of_template);
        }
        left_out.extend(of_template.into_iter().map(|field| format!("{place}.{field}")));
    }
    match left_out.as_slice() {
        [] => {}
        [field] => review.note(&format!("{field} is the cluster's own that it was exported from, and was left out")),
        [fields @ .., last] => {
            let fields = fields.join(", ");
            review.note(&format!(
                "{fields} and {last} are the cluster's own that it was exported from, and were left out"
            ));
        }
    }
}

/// Takes `key` out of the mapping at `pointer`. It is told only where it said something.
fn take_out(body: &mut Value, pointer: &str, key: &str, left_out: &mut Vec<String>) {
    let Some(parent) = body.pointer_mut(pointer).and_then(Value::as_object_mut) else { return };
    let Some(value) = parent.remove(key) else { return };
    if is_set(&value) {
        let place = pointer.trim_start_matches('/').replace('/', ".");
        let key = shown(key);
        left_out.push(if place.is_empty() { key } else { format!("{place}.{key}") });
    }
}

fn of_metadata(body: &mut Value, place: &str, left_out: &mut Vec<String>) {
    let pointer = format!("/{place}");
    METADATA.iter().for_each(|field| take_out(body, &pointer, field, left_out));
    let annotations = format!("{pointer}/annotations");
    ANNOTATIONS.iter().for_each(|annotation| take_out(body, &annotations, annotation, left_out));
    if body.pointer(&annotations).and_then(Value::as_object).is_some_and(Map::is_empty)
        && let Some(metadata) = body.pointer_mut(&pointer).and_then(Value::as_object_mut)
    {
        metadata.remove("annotations");
    }
}

/// Addresses and ports of nodes are given out by a cluster; none, on purpose, is the Service's own word.
fn of_service(body: &mut Value, left_out: &mut Vec<String>) {
    if body["spec"]["clusterIP"] != "None" {
        for field in ["clusterIP", "clusterIPs"] {
            take_out(body, "/spec", field, left_out);
        }
    }
    for field in ["ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        take_out(body, "/spec", field, left_out);
    }
    for index in 0..list(&body["spec"]["ports"]).len() {
        take_out(body, &format!("/spec/ports/{index}"), "nodePort", left_out);
    }
}

/// Of a pod's spec.
fn of_pods(spec: &mut Value, left_out: &mut Vec<String>) {
    let Some(fields) = spec.as_object_mut() else { return };
    for (field, value) in DEFAULTS_OF_PODS {
        if fields.get(field).is_some_and(|there| there == value) {
            fields.remove(field);
        }
    }
    if fields.get("priority").is_some_and(|priority| priority == 0) {
        fields.remove("priority");
    }
    let is_token = |item: &Value| item["name"].as_str().is_some_and(|name| name.starts_with(TOKEN_VOLUME));
    let Some(volumes) = fields.get_mut("volumes").and_then(Value::as_array_mut) else { return };
    let before = volumes.len();
    volumes.retain(|volume| !is_token(volume));
    if volumes.len() == before {
        return;
    }
    left_out.push("the volume with its account's token".to_owned());
    for container in pods::containers_mut(spec) {
        if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
            mounts.retain(|mount| !is_token(mount));
        }
    }
    if spec["volumes"] == json!([])
        && let Some(fields) = spec.as_object_mut()
    {
        fields.remove("volumes");
    }
}
