//! Which pods an environment may hold: none that reaches out of itself.

use serde_json::Value;

use super::{
    super::{Bytes, Millicores, walls},
    Refusal, admit_claim, is_set, keys, list, shown,
};

/// What a pod's spec must leave out: all that reaches out of the pod, or chooses where and before whom it runs.
const FORBIDDEN_IN_PODS: [&str; 16] = [
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
    // What its containers say is counted and shared; a sum beside it would be neither.
    "resources",
    "ephemeralContainers",
];

/// Annotations of pods from which controllers give what no field of a pod gives: other networks than the one that the
/// walls stand in (Multus), and a cloud's credentials (kube2iam, kiam).
const FORBIDDEN_POD_ANNOTATIONS: [&str; 4] = [
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
    "iam.amazonaws.com/role",
    "iam.amazonaws.com/external-id",
];

pub(super) fn admit_annotations(annotations: &Value, path: &str) -> Refusal {
    match keys(annotations).find(|annotation| FORBIDDEN_POD_ANNOTATIONS.contains(annotation)) {
        Some(annotation) => Err(format!("{path} must not have {annotation}")),
        None => Ok(()),
    }
}

/// A namespace is gone once its pods are, and they take as long as they may: all of it has five minutes.
const LONGEST_GRACE_SECONDS: u64 = 120;

/// What a container may ask for: what an environment has a quota of, and its node's disk. Devices have none.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The volumes of Pod Security's `restricted`, without those that drivers and other namespaces serve.
const VOLUMES: [&str; 7] =
    ["configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

pub(super) fn admit_pod(spec: &Value, path: &str) -> Refusal {
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
    let grace = &spec["terminationGracePeriodSeconds"];
    if is_set(grace) && grace.as_u64().is_none_or(|seconds| seconds > LONGEST_GRACE_SECONDS) {
        return Err(format!("{path}.terminationGracePeriodSeconds must be at most {LONGEST_GRACE_SECONDS}"));
    }
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
    admit_resources(&container["resources"], &format!("{path}.resources"))?;
    admit_questions(container, path)
}

fn admit_resources(resources: &Value, path: &str) -> Refusal {
    if is_set(&resources["claims"]) {
        return Err(format!("{path}.claims must not be set"));
    }
    for kind in ["limits", "requests"] {
        for (resource, amount) in resources[kind].as_object().into_iter().flatten() {
            if !RESOURCES.contains(&resource.as_str()) {
                return Err(format!("{path}.{kind} may only have {}", RESOURCES.join(", ")));
            }
            let is_amount = match amount {
                Value::Null => true,
                Value::String(text) => is_amount(resource, text),
                Value::Number(number) => is_amount(resource, &number.to_string()),
                Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
            };
            if !is_amount {
                return Err(format!("{path}.{kind}.{resource} must be an amount such as 100m or 128Mi"));
            }
        }
    }
    Ok(())
}

fn is_amount(resource: &str, text: &str) -> bool {
    if resource == "cpu" { text.parse::<Millicores>().is_ok() } else { text.parse::<Bytes>().is_ok() }
}

/// The kubelet asks what probes and lifecycle hooks name, from the node and past every wall: they ask their own pod.
fn admit_questions(container: &Value, path: &str) -> Refusal {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
    let probes = probes.map(|probe| (probe.to_owned(), &container[probe]));
    let hooks = ["postStart", "preStop"].map(|hook| (format!("lifecycle.{hook}"), &container["lifecycle"][hook]));
    for (place, handler) in probes.into_iter().chain(hooks) {
        for kind in ["httpGet", "tcpSocket"] {
            if is_set(&handler[kind]["host"]) {
                return Err(format!("{path}.{place}.{kind}.host must not be set"));
            }
        }
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
    // As YAML may write it too.
    if security["runAsUser"].as_f64() == Some(0.0) {
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
