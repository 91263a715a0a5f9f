//! Which objects of a chart or of manifests an environment may hold: the kinds that there may be, and what their fields may
//! not say. What is refused is refused with the object, the field and the rule: nothing is left out silently.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Context, Object, walls};
use crate::environment::Cause;

mod pods;
mod routes;
mod shape;

/// Every kind that an environment may hold, by API version.
const KINDS: [(&str, &str); 15] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling/v1", "HorizontalPodAutoscaler"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
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

/// The rule that an object breaks.
type Refusal = Result<(), String>;

/// Refuses what an environment may not hold, and takes out the namespace where it is the environment's own.
pub(super) fn admit(phases: &mut [Vec<Object>], context: &Context<'_>) -> Result<(), Cause> {
    let count: usize = phases.iter().map(Vec::len).sum();
    if count > MOST_OBJECTS {
        return Err(refused(
            "The recipe",
            "as a whole",
            format!("it makes {count} objects, and may make {MOST_OBJECTS}"),
        ));
    }
    let mut size = 0;
    let mut names = BTreeSet::new();
    admit_shapes(phases.iter().flatten().map(|object| &object.body))?;
    for (number, object) in phases.iter_mut().flatten().enumerate() {
        let (kind, name) = called(&object.kind, &object.name, number);
        let refuse = |rule: String| refused(&kind, &name, rule);
        admit_object(object, context).map_err(refuse)?;
        // A chart's hooks may bring what it has otherwise too: it is there for both.
        let event = object.event().filter(|_| !object.makes_pods()).map(str::to_owned);
        if !names.insert((object.kind.clone(), object.name.clone(), event)) {
            return Err(refuse("there are two of this kind and name".to_owned()));
        }
        let bytes = object.body.to_string().len();
        if bytes > LARGEST_OBJECT {
            return Err(refuse(format!("it is {} KiB large, and may be {} KiB", bytes >> 10, LARGEST_OBJECT >> 10)));
        }
        size += bytes;
    }
    if size > LARGEST_RENDER {
        let rule = format!("its objects are {} KiB large, and may be {} KiB", size >> 10, LARGEST_RENDER >> 10);
        return Err(refused("The recipe", "as a whole", rule));
    }
    Ok(())
}

/// Refuses objects that hold something else where previewd looks for a mapping or a list: before anything else looks.
pub(super) fn admit_shapes<'a>(bodies: impl Iterator<Item = &'a Value>) -> Result<(), Cause> {
    for (number, body) in bodies.enumerate() {
        shape::admit_shape(body).map_err(|rule| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = called(&text(&body["kind"]), &text(&body["metadata"]["name"]), number);
            refused(&kind, &name, rule)
        })?;
    }
    Ok(())
}

/// How an object is called in a refusal, whatever it calls itself.
fn called(kind: &str, name: &str, number: usize) -> (String, String) {
    let kind = if is_kind(kind) { kind } else { "Object" };
    (kind.to_owned(), if is_name(name) { name.to_owned() } else { format!("number {}", number + 1) })
}

/// Refuses what would take the place of previewd's own route.
pub(super) fn admit_beside(phases: &[Vec<Object>], route: &Object) -> Result<(), Cause> {
    let is_same = |object: &Object| object.kind == route.kind && object.name == route.name;
    if phases.iter().flatten().any(is_same) {
        let rule = format!("metadata.name must not be {}, which is previewd's own where there is expose", route.name);
        return Err(refused(&route.kind, &route.name, rule));
    }
    Ok(())
}

fn refused(kind: &str, name: &str, rule: String) -> Cause {
    Cause::ObjectRefused { kind: kind.to_owned(), name: name.to_owned(), rule }
}

fn admit_object(object: &mut Object, context: &Context<'_>) -> Refusal {
    if !object.body.is_object() {
        return Err("it must be a mapping with apiVersion, kind and metadata".to_owned());
    }
    if !is_name(&object.name) {
        return Err("metadata.name must be a name of lower-case letters, digits, dashes and dots".to_owned());
    }
    if !KINDS.contains(&(object.api_version.as_str(), object.kind.as_str())) {
        let versions: Vec<&str> =
            KINDS.iter().filter(|(_, kind)| *kind == object.kind).map(|(version, _)| *version).collect();
        return Err(match versions.as_slice() {
            [] => format!("an environment holds no objects of this kind; it may hold {}", kinds()),
            versions => format!("apiVersion must be {}", versions.join(" or ")),
        });
    }
    admit_metadata(object, context)?;
    let body = &object.body;
    let spec = &body["spec"];
    match object.kind.as_str() {
        "Service" => routes::admit_service(spec)?,
        "Secret" if [walls::OPERATORS_SECRET, walls::REGISTRY_SECRET].contains(&object.name.as_str()) => {
            return Err(format!("metadata.name must not be {}, which is previewd's own", object.name));
        }
        "Secret" => admit_secret(body)?,
        "PersistentVolumeClaim" => admit_claim(spec, "spec")?,
        "ServiceAccount" if object.name == walls::SERVICE_ACCOUNT => {
            return Err(format!("metadata.name must not be {}, which is previewd's own", walls::SERVICE_ACCOUNT));
        }
        "Ingress" => routes::admit_ingress(spec, context)?,
        "HTTPRoute" => routes::admit_http_route(spec, context)?,
        "StatefulSet" => {
            for (index, claim) in list(&spec["volumeClaimTemplates"]).iter().enumerate() {
                admit_claim(&claim["spec"], &format!("spec.volumeClaimTemplates[{index}].spec"))?;
            }
        }
        _ => {}
    }
    if let Some((template, path)) = super::pods::template(object) {
        pods::admit_pod(&template["spec"], &format!("{path}.spec"))?;
        for label in keys(&template["metadata"]["labels"]) {
            admit_label(label, &format!("{path}.metadata.labels"))?;
        }
        pods::admit_annotations(&template["metadata"]["annotations"], &format!("{path}.metadata.annotations"))?;
    }
    // Whoever makes no token for pods makes none here either.
    if object.kind == "ServiceAccount" {
        object.body["automountServiceAccountToken"] = false.into();
    }
    if let Some(metadata) = object.body["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    Ok(())
}

fn kinds() -> String {
    let kinds: BTreeSet<&str> = KINDS.iter().map(|(_, kind)| *kind).collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}

fn admit_metadata(object: &Object, context: &Context<'_>) -> Refusal {
    let metadata = &object.body["metadata"];
    let namespace = &metadata["namespace"];
    if !namespace.is_null() && namespace != context.namespace.as_str() {
        return Err("metadata.namespace must be {{ namespace }}, or left out".to_owned());
    }
    for field in ["ownerReferences", "finalizers", "generateName"] {
        if is_set(&metadata[field]) {
            return Err(format!("metadata.{field} must not be set"));
        }
    }
    for label in keys(&metadata["labels"]) {
        admit_label(label, "metadata.labels")?;
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
                return Err(format!(
                    "metadata.annotations must not have {shown}; the operator may allow it (ingress.allowed_annotations)"
                ));
            }
        }
    }
    Ok(())
}

fn admit_label(label: &str, path: &str) -> Refusal {
    if label.starts_with("previewd.dev/") {
        return Err(format!("{path} must not begin with previewd.dev/"));
    }
    Ok(())
}

fn admit_secret(body: &Value) -> Refusal {
    if is_left_out_or(&body["type"], &["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson"]) {
        return Ok(());
    }
    Err("type must be Opaque, kubernetes.io/tls or kubernetes.io/dockerconfigjson".to_owned())
}

fn admit_claim(spec: &Value, path: &str) -> Refusal {
    for field in ["volumeName", "dataSource", "dataSourceRef", "selector", "volumeAttributesClassName"] {
        if is_set(&spec[field]) {
            return Err(format!("{path}.{field} must not be set"));
        }
    }
    if !is_left_out_or(&spec["volumeMode"], &["Filesystem"]) {
        return Err(format!("{path}.volumeMode must be Filesystem"));
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

/// Whether a field says nothing, or one of these.
fn is_left_out_or(value: &Value, allowed: &[&str]) -> bool {
    !is_set(value) || value.as_str().is_some_and(|text| allowed.contains(&text))
}

/// Whether a field says anything: charts write many as `null`, `""`, `[]` or `{}`.
fn is_set(value: &Value) -> bool {
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

#[cfg(test)]
mod tests;
