//! Which objects of a chart or of manifests an environment may hold. Everything that is not allowed here is refused, with
//! the object, the field and the rule: nothing is left out silently.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Context, Object, pods, walls};
use crate::environment::Cause;

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

/// Where an object was found, for what has no name to be called by.
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
    for (number, object) in phases.iter_mut().flatten().enumerate() {
        let kind = if is_kind(&object.kind) { object.kind.clone() } else { "Object".to_owned() };
        let name = if is_name(&object.name) { object.name.clone() } else { format!("number {}", number + 1) };
        let refuse = |rule: String| refused(&kind, &name, rule);
        admit_object(object, context).map_err(refuse)?;
        if !names.insert((object.kind.clone(), object.name.clone())) {
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
        "Service" => admit_service(spec)?,
        "Secret" if [walls::OPERATORS_SECRET, walls::REGISTRY_SECRET].contains(&object.name.as_str()) => {
            return Err(format!("metadata.name must not be {}, which is previewd's own", object.name));
        }
        "Secret" => admit_secret(body)?,
        "PersistentVolumeClaim" => admit_claim(spec, "spec")?,
        "ServiceAccount" if object.name == walls::SERVICE_ACCOUNT => {
            return Err(format!("metadata.name must not be {}, which is previewd's own", walls::SERVICE_ACCOUNT));
        }
        "Ingress" => admit_ingress(spec, context)?,
        "HTTPRoute" => admit_http_route(spec, context)?,
        "StatefulSet" => {
            for (index, claim) in list(&spec["volumeClaimTemplates"]).iter().enumerate() {
                admit_claim(&claim["spec"], &format!("spec.volumeClaimTemplates[{index}].spec"))?;
            }
        }
        _ => {}
    }
    if let Some((template, path)) = pods::template(object) {
        admit_pod(&template["spec"], &format!("{path}.spec"))?;
        for label in keys(&template["metadata"]["labels"]) {
            admit_label(label, &format!("{path}.metadata.labels"))?;
        }
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
    // What controllers read from these reaches beyond the namespace: DNS names, load balancers, certificates.
    if matches!(object.kind.as_str(), "Service" | "Ingress" | "HTTPRoute") {
        let allowed = &context.policy.ingress.allowed_annotations;
        for annotation in keys(&metadata["annotations"]) {
            let is_allowed = allowed.iter().any(|allowed| allowed == annotation)
                || annotation.starts_with("meta.helm.sh/")
                || annotation.starts_with("helm.sh/");
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

fn admit_service(spec: &Value) -> Refusal {
    match spec["type"].as_str() {
        None | Some("ClusterIP") => {}
        Some(_) => return Err("spec.type must be ClusterIP; the URL leads in, and nothing else does".to_owned()),
    }
    for field in ["externalIPs", "externalName", "loadBalancerIP", "loadBalancerClass", "healthCheckNodePort"] {
        if is_set(&spec[field]) {
            return Err(format!("spec.{field} must not be set"));
        }
    }
    if !is_set(&spec["selector"]) {
        return Err("spec.selector must be set: a Service leads to pods of the environment".to_owned());
    }
    Ok(())
}

fn admit_secret(body: &Value) -> Refusal {
    match body["type"].as_str() {
        None | Some("Opaque" | "kubernetes.io/tls" | "kubernetes.io/dockerconfigjson") => Ok(()),
        Some(_) => Err("type must be Opaque, kubernetes.io/tls or kubernetes.io/dockerconfigjson".to_owned()),
    }
}

fn admit_claim(spec: &Value, path: &str) -> Refusal {
    for field in ["volumeName", "dataSource", "dataSourceRef", "selector", "volumeAttributesClassName"] {
        if is_set(&spec[field]) {
            return Err(format!("{path}.{field} must not be set"));
        }
    }
    if spec["volumeMode"].as_str().is_some_and(|mode| mode != "Filesystem") {
        return Err(format!("{path}.volumeMode must be Filesystem"));
    }
    Ok(())
}

const HOST_RULE: &str = "must be {{ host }}: an environment answers at its own host only";

fn admit_ingress(spec: &Value, context: &Context<'_>) -> Refusal {
    let host = context.url.host();
    if is_set(&spec["defaultBackend"]) {
        return Err("spec.defaultBackend must not be set".to_owned());
    }
    if list(&spec["rules"]).is_empty() {
        return Err("spec.rules must have a rule for {{ host }}".to_owned());
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        if rule["host"] != host {
            return Err(format!("spec.rules[{index}].host {HOST_RULE}"));
        }
        for (place, path) in list(&rule["http"]["paths"]).iter().enumerate() {
            if is_set(&path["backend"]["resource"]) {
                let rule = "must be a service";
                return Err(format!("spec.rules[{index}].http.paths[{place}].backend {rule}"));
            }
        }
    }
    for (index, tls) in list(&spec["tls"]).iter().enumerate() {
        if list(&tls["hosts"]).iter().any(|named| named != host) {
            return Err(format!("spec.tls[{index}].hosts {HOST_RULE}"));
        }
    }
    let class = context.policy.ingress.class.as_deref();
    if spec["ingressClassName"].as_str().is_some_and(|named| Some(named) != class) {
        return Err("spec.ingressClassName must be the operator's (ingress.class), or left out".to_owned());
    }
    Ok(())
}

fn admit_http_route(spec: &Value, context: &Context<'_>) -> Refusal {
    let host = context.url.host();
    if list(&spec["hostnames"]).is_empty() || list(&spec["hostnames"]).iter().any(|named| named != host) {
        return Err(format!("spec.hostnames {HOST_RULE}"));
    }
    let Some(gateway) = &context.policy.ingress.gateway else {
        return Err("the operator names no gateway (ingress.gateway) that it could belong to".to_owned());
    };
    for (index, parent) in list(&spec["parentRefs"]).iter().enumerate() {
        let is_gateway = parent["name"] == gateway.name.as_str() && parent["namespace"] == gateway.namespace.as_str();
        if !is_gateway {
            return Err(format!("spec.parentRefs[{index}] must be the operator's gateway (ingress.gateway)"));
        }
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        for (place, backend) in list(&rule["backendRefs"]).iter().enumerate() {
            let namespace = &backend["namespace"];
            let is_service = backend["kind"].as_str().is_none_or(|kind| kind == "Service");
            if !is_service || (!namespace.is_null() && namespace != context.namespace.as_str()) {
                return Err(format!("spec.rules[{index}].backendRefs[{place}] must be a Service of the environment"));
            }
        }
        if is_set(&rule["filters"]) {
            return Err(format!("spec.rules[{index}].filters must not be set"));
        }
    }
    Ok(())
}

/// What a pod's spec must leave out: all that reaches out of the pod, or chooses where and before whom it runs.
const FORBIDDEN_IN_PODS: [&str; 15] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "hostAliases",
    "nodeName",
    "priorityClassName",
    "priority",
    "preemptionPolicy",
    "runtimeClassName",
    "schedulerName",
    "tolerations",
    "overhead",
    "resourceClaims",
    "ephemeralContainers",
];

/// The volumes of Pod Security's `restricted`, without those that drivers and other namespaces serve.
const VOLUMES: [&str; 7] =
    ["configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn admit_pod(spec: &Value, path: &str) -> Refusal {
    for field in FORBIDDEN_IN_PODS {
        // `false` is what is left out as well.
        if is_set(&spec[field]) && spec[field] != false {
            return Err(format!("{path}.{field} must not be set"));
        }
    }
    if list(&spec["containers"]).is_empty() {
        return Err(format!("{path}.containers must have a container"));
    }
    admit_security(&spec["securityContext"], &format!("{path}.securityContext"))?;
    if is_set(&spec["securityContext"]["sysctls"]) {
        return Err(format!("{path}.securityContext.sysctls must not be set"));
    }
    for (index, volume) in list(&spec["volumes"]).iter().enumerate() {
        admit_volume(volume, &format!("{path}.volumes[{index}]"))?;
    }
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(&spec[kind]).iter().enumerate() {
            admit_container(container, &format!("{path}.{kind}[{index}]"))?;
        }
    }
    Ok(())
}

fn admit_volume(volume: &Value, path: &str) -> Refusal {
    if let Some(kind) = keys(volume).find(|key| *key != "name" && !VOLUMES.contains(key)) {
        return Err(format!("{path}.{} must not be set; a volume may be {}", shown(kind), VOLUMES.join(", ")));
    }
    if volume["secret"]["secretName"] == walls::REGISTRY_SECRET {
        return Err(format!("{path}.secret must not be {}, which is previewd's own", walls::REGISTRY_SECRET));
    }
    for (index, source) in list(&volume["projected"]["sources"]).iter().enumerate() {
        for field in ["serviceAccountToken", "clusterTrustBundle", "podCertificate"] {
            if is_set(&source[field]) {
                return Err(format!("{path}.projected.sources[{index}].{field} must not be set"));
            }
        }
        if source["secret"]["name"] == walls::REGISTRY_SECRET {
            return Err(format!("{path}.projected.sources[{index}].secret is previewd's own"));
        }
    }
    if is_set(&volume["ephemeral"]) {
        admit_claim(
            &volume["ephemeral"]["volumeClaimTemplate"]["spec"],
            &format!("{path}.ephemeral.volumeClaimTemplate.spec"),
        )?;
    }
    Ok(())
}

fn admit_container(container: &Value, path: &str) -> Refusal {
    admit_security(&container["securityContext"], &format!("{path}.securityContext"))?;
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        for field in ["hostPort", "hostIP"] {
            if is_set(&port[field]) && port[field] != 0 {
                return Err(format!("{path}.ports[{index}].{field} must not be set"));
            }
        }
    }
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        if variable["valueFrom"]["secretKeyRef"]["name"] == walls::REGISTRY_SECRET {
            return Err(format!(
                "{path}.env[{index}] must not read {}, which is previewd's own",
                walls::REGISTRY_SECRET
            ));
        }
    }
    for (index, source) in list(&container["envFrom"]).iter().enumerate() {
        if source["secretRef"]["name"] == walls::REGISTRY_SECRET {
            return Err(format!(
                "{path}.envFrom[{index}] must not read {}, which is previewd's own",
                walls::REGISTRY_SECRET
            ));
        }
    }
    if is_set(&container["volumeDevices"]) {
        return Err(format!("{path}.volumeDevices must not be set"));
    }
    Ok(())
}

/// Of a pod or of a container: what Pod Security's `restricted` refuses, said before anything is applied.
fn admit_security(security: &Value, path: &str) -> Refusal {
    for field in ["privileged", "allowPrivilegeEscalation"] {
        if security[field] == true {
            return Err(format!("{path}.{field} must not be true"));
        }
    }
    if security["runAsNonRoot"] == false {
        return Err(format!("{path}.runAsNonRoot must not be false"));
    }
    if security["runAsUser"] == 0 {
        return Err(format!("{path}.runAsUser must not be 0: nothing runs as root"));
    }
    for field in ["procMount", "windowsOptions", "seLinuxOptions"] {
        if is_set(&security[field]) && security[field] != "Default" {
            return Err(format!("{path}.{field} must not be set"));
        }
    }
    if security["seccompProfile"]["type"] == "Unconfined" {
        return Err(format!("{path}.seccompProfile must not be Unconfined"));
    }
    if security["appArmorProfile"]["type"] == "Unconfined" {
        return Err(format!("{path}.appArmorProfile must not be Unconfined"));
    }
    let added = &security["capabilities"]["add"];
    if list(added).iter().any(|capability| capability != "NET_BIND_SERVICE") {
        return Err(format!("{path}.capabilities.add may only have NET_BIND_SERVICE"));
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
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
