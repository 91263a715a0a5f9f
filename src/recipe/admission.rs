//! Which objects of a chart or of manifests an environment may hold: the kinds that there may be, and what their fields may
//! not say. What is refused is refused with the object, the field and the rule. What is left out or made safe instead is
//! noted: nothing is changed silently.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::{Context, Object, list, mistakes::Findings, walls};
use crate::environment::Cause;

mod doubles;
mod exported;
mod leads;
mod pods;
mod ports;
mod references;
mod rollout;
mod routes;
mod shape;
mod text;

pub(super) use leads::admit_leads;
pub(super) use references::note_what_is_missing;

/// Every kind that an environment may hold, by API version. In the order in which helm installs them (`InstallOrder` of
/// its `kind_sorter.go`): what pods use comes before them.
const KINDS: [(&str, &str); 15] = [
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v1", "HorizontalPodAutoscaler"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"),
];

/// More than any preview needs, and little enough for the cluster's database.
const MOST_OBJECTS: usize = 200;
/// The whole of what is rendered, in bytes.
const LARGEST_RENDER: usize = 4 << 20;
/// One object. Kubernetes' database takes 1.5 MiB.
const LARGEST_OBJECT: usize = 1 << 20;

/// What a chart may find in the cluster: what an environment may hold.
pub(super) fn api_versions(context: &Context<'_>) -> Vec<String> {
    let has_gateway = context.policy.ingress.gateway.is_some();
    let kinds = KINDS.iter().filter(|(_, kind)| *kind != "HTTPRoute" || has_gateway);
    kinds.flat_map(|(version, kind)| [(*version).to_owned(), format!("{version}/{kind}")]).collect()
}

/// Which place a kind has in the order in which objects are applied.
pub(super) fn place_of(kind: &str) -> usize {
    KINDS.iter().position(|(_, known)| *known == kind).unwrap_or(KINDS.len())
}

/// What is found of one object.
struct Review<'a> {
    kind: String,
    name: String,
    findings: &'a mut Findings,
    is_admitted: bool,
}

impl<'a> Review<'a> {
    /// Of the object that is the `number`th, whatever it calls itself.
    fn of(body: &Value, number: usize, findings: &'a mut Findings) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&body["kind"]), text(&body["metadata"]["name"]));
        let kind = if is_kind(&kind) { kind } else { "Object".to_owned() };
        let name = if is_name(&name) { name } else { format!("number {}", number + 1) };
        Self { kind, name, findings, is_admitted: true }
    }

    /// The object breaks a rule.
    fn refuse(&mut self, rule: impl Into<String>) {
        self.is_admitted = false;
        let (kind, name) = (self.kind.clone(), self.name.clone());
        self.findings.refuse(Cause::ObjectRefused { kind, name, rule: rule.into() });
    }

    /// Something of the object was made safe, or may not be as it is meant: a sentence that begins with the object, without
    /// a period.
    fn note(&mut self, note: &str) {
        let Self { kind, name, .. } = self;
        self.findings.note(format!("{kind} {name}: {note}."));
    }
}

/// Refuses what an environment may not hold, and leaves out what is another cluster's own, and the namespace where it is
/// the environment's. What is only wrong, and harms nobody, is among `others`. Gives whether every object has the shape
/// that others may look into.
pub(super) fn admit(
    phases: &mut [Vec<Object>],
    context: &Context<'_>,
    findings: &mut Findings,
    others: &mut Findings,
) -> bool {
    let as_a_whole = |rule| Cause::ObjectRefused { kind: "The recipe".to_owned(), name: "as a whole".to_owned(), rule };
    let count: usize = phases.iter().map(Vec::len).sum();
    if count > MOST_OBJECTS {
        findings.refuse(as_a_whole(format!("it makes {count} objects, and may make {MOST_OBJECTS}")));
        return false;
    }
    let is_the_clusters =
        |object: &Object| (object.kind.as_str(), object.name.as_str()) == ("ConfigMap", ROOT_CERTIFICATE);
    for phase in phases.iter_mut() {
        if phase.iter().any(is_the_clusters) {
            findings.note(format!(
                "ConfigMap {ROOT_CERTIFICATE}: every namespace has one of its cluster's own, and it was left out."
            ));
            phase.retain(|object| !is_the_clusters(object));
        }
    }
    let mut are_shaped = true;
    let mut size = 0;
    let mut names = BTreeSet::new();
    for (number, object) in phases.iter_mut().flatten().enumerate() {
        let mut review = Review::of(&object.body, number, findings);
        shape::admit_shape(&object.body, &mut review);
        if !review.is_admitted {
            are_shaped = false;
            continue;
        }
        exported::leave_out(&mut object.body, &mut review);
        admit_object(object, context, &mut review);
        admit_meaning(object, &mut Review::of(&object.body, number, others));
        // A chart's hooks may bring what it has otherwise too: it is there for both.
        let event = object.event().filter(|_| !object.makes_pods()).map(str::to_owned);
        if !names.insert((object.kind.clone(), object.name.clone(), event)) {
            review.refuse("there are two of this kind and name");
        }
        let bytes = object.body.to_string().len();
        if bytes > LARGEST_OBJECT {
            review.refuse(format!("it is {} KiB large, and may be {} KiB", bytes >> 10, LARGEST_OBJECT >> 10));
        }
        size += bytes;
    }
    if size > LARGEST_RENDER {
        let rule = format!("its objects are {} KiB large, and may be {} KiB", size >> 10, LARGEST_RENDER >> 10);
        findings.refuse(as_a_whole(rule));
    }
    are_shaped
}

/// What Kubernetes puts into every namespace, and an export of one brings along.
const ROOT_CERTIFICATE: &str = "kube-root-ca.crt";

/// Refuses objects that hold something else where previewd looks for a mapping or a list: before anything else looks.
/// Gives whether there are none.
pub(super) fn admit_shapes<'a>(bodies: impl Iterator<Item = &'a Value>, findings: &mut Findings) -> bool {
    let mut are_admitted = true;
    for (number, body) in bodies.enumerate() {
        let mut review = Review::of(body, number, findings);
        shape::admit_shape(body, &mut review);
        are_admitted &= review.is_admitted;
    }
    are_admitted
}

/// Refuses what would take the place of previewd's own route.
pub(super) fn admit_beside(phases: &[Vec<Object>], route: &Object, findings: &mut Findings) {
    let is_same = |object: &Object| object.kind == route.kind && object.name == route.name;
    if phases.iter().flatten().any(is_same) {
        let rule = format!("metadata.name must not be {}, which is previewd's own where there is expose", route.name);
        Review::of(&route.body, 0, findings).refuse(rule);
    }
}

fn admit_object(object: &mut Object, context: &Context<'_>, review: &mut Review<'_>) {
    if !object.body.is_object() {
        return review.refuse("it must be a mapping with apiVersion, kind and metadata");
    }
    if !is_name(&object.name) {
        return review.refuse("metadata.name must be a name of lower-case letters, digits, dashes and dots");
    }
    if !KINDS.contains(&(object.api_version.as_str(), object.kind.as_str())) {
        let versions: Vec<&str> =
            KINDS.iter().filter(|(_, kind)| *kind == object.kind).map(|(version, _)| *version).collect();
        return review.refuse(match versions.as_slice() {
            [] => format!("an environment holds no objects of this kind; it may hold {}", kinds()),
            versions => format!("apiVersion must be {}", versions.join(" or ")),
        });
    }
    admit_metadata(object, context, review);
    let body = &object.body;
    let spec = &body["spec"];
    match object.kind.as_str() {
        "Service" => routes::admit_service(spec, review),
        "Secret" if [walls::OPERATORS_SECRET, walls::REGISTRY_SECRET].contains(&object.name.as_str()) => {
            review.refuse(format!("metadata.name must not be {}, which is previewd's own", object.name));
        }
        "Secret" => admit_secret(body, review),
        "PersistentVolumeClaim" => admit_claim(spec, "spec", review),
        "ServiceAccount" if object.name == walls::SERVICE_ACCOUNT => {
            review.refuse(format!("metadata.name must not be {}, which is previewd's own", walls::SERVICE_ACCOUNT));
        }
        "Ingress" => routes::admit_ingress(spec, context, review),
        "HTTPRoute" => routes::admit_http_route(spec, context, review),
        "StatefulSet" => {
            for (index, claim) in list(&spec["volumeClaimTemplates"]).iter().enumerate() {
                admit_claim(&claim["spec"], &format!("spec.volumeClaimTemplates[{index}].spec"), review);
            }
        }
        _ => {}
    }
    if let Some((template, path)) = super::pods::template(object) {
        pods::admit_pod(&template["spec"], &format!("{path}.spec"), review);
        for label in keys(&template["metadata"]["labels"]) {
            admit_label(label, &format!("{path}.metadata.labels"), review);
        }
        pods::admit_annotations(&template["metadata"]["annotations"], &format!("{path}.metadata.annotations"), review);
    }
    doubles::merge_doubles(object, review);
    rollout::settle(object, review);
    // Whoever makes no token for pods makes none here either.
    if object.kind == "ServiceAccount" {
        object.body["automountServiceAccountToken"] = false.into();
    }
    if let Some(metadata) = object.body["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
}

/// What an API server, or a controller, would refuse of the object.
fn admit_meaning(object: &Object, review: &mut Review<'_>) {
    if let Some((template, path)) = super::pods::template(object) {
        let claims = &object.body["spec"]["volumeClaimTemplates"];
        pods::admit_mounts(&template["spec"], claims, &format!("{path}.spec"), review);
        pods::admit_workload(object, review);
    }
    text::admit_text(object, review);
}

fn kinds() -> String {
    let kinds: BTreeSet<&str> = KINDS.iter().map(|(_, kind)| *kind).collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}

fn admit_metadata(object: &Object, context: &Context<'_>, review: &mut Review<'_>) {
    let metadata = &object.body["metadata"];
    let namespace = &metadata["namespace"];
    if !namespace.is_null() && namespace != context.namespace.as_str() {
        review.refuse("metadata.namespace must be {{ namespace }}, or left out");
    }
    for field in ["ownerReferences", "finalizers", "generateName"] {
        if is_set(&metadata[field]) {
            review.refuse(format!("metadata.{field} must not be set"));
        }
    }
    for label in keys(&metadata["labels"]) {
        admit_label(label, "metadata.labels", review);
    }
    // What controllers read from these reaches beyond the namespace: DNS names, load balancers, certificates, and the
    // role that a cloud gives to an account's pods.
    if matches!(object.kind.as_str(), "Service" | "Ingress" | "HTTPRoute" | "ServiceAccount") {
        let allowed = &context.policy.ingress.allowed_annotations;
        for annotation in keys(&metadata["annotations"]) {
            let is_allowed = allowed.iter().any(|allowed| allowed == annotation)
                || annotation.starts_with("meta.helm.sh/")
                || annotation.starts_with("helm.sh/")
                || super::hooks::OWN.contains(&annotation);
            if !is_allowed {
                let shown = shown(annotation);
                review.refuse(format!(
                    "metadata.annotations must not have {shown}; the operator may allow it (ingress.allowed_annotations)"
                ));
            }
        }
    }
}

fn admit_label(label: &str, path: &str, review: &mut Review<'_>) {
    if label.starts_with("previewd.dev/") {
        review.refuse(format!("{path} must not begin with previewd.dev/"));
    }
}

fn admit_secret(body: &Value, review: &mut Review<'_>) {
    if !is_left_out_or(&body["type"], &["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson"]) {
        review.refuse("type must be Opaque, kubernetes.io/tls or kubernetes.io/dockerconfigjson");
    }
    for (key, value) in body["data"].as_object().into_iter().flatten() {
        // As Go reads it. What is no text is refused elsewhere.
        let encoded = value.as_str().map(|text| text.replace(['\r', '\n'], ""));
        if encoded.is_some_and(|encoded| BASE64.decode(encoded).is_err()) {
            review.refuse(format!("data.{} must be in base64; write text under stringData", shown(key)));
        }
    }
}

fn admit_claim(spec: &Value, path: &str, review: &mut Review<'_>) {
    for field in ["volumeName", "dataSource", "dataSourceRef", "selector", "volumeAttributesClassName"] {
        if is_set(&spec[field]) {
            review.refuse(format!("{path}.{field} must not be set"));
        }
    }
    if !is_left_out_or(&spec["volumeMode"], &["Filesystem"]) {
        review.refuse(format!("{path}.volumeMode must be Filesystem"));
    }
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

/// Whether a field says nothing, or one of these.
fn is_left_out_or(value: &Value, allowed: &[&str]) -> bool {
    !is_set(value) || value.as_str().is_some_and(|text| allowed.contains(&text))
}

/// Whether a field says anything: charts write many as `null`, `""`, `[]` or `{}`.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// DNS-1123, as Kubernetes wants names: nothing in it could be markup, a mention or a link to anything but itself.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
}

fn is_kind(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Somebody else's text in a sentence of ours.
fn shown(text: &str) -> String {
    let harmless = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '/' | '.' => character,
        _ => '?',
    };
    text.chars().take(80).map(harmless).collect()
}

/// A few names in a sentence.
fn few<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.map(shown).collect();
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 => "none".to_owned(),
        1..=8 => names.join(", "),
        more => format!("{} and {} more", names[..8].join(", "), more - 8),
    }
}

#[cfg(test)]
mod tests;
