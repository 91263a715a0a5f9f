//! Which pods an environment may hold: none that reaches out of itself.

use serde_json::Value;

use super::{
    super::{Bytes, Millicores, Object, walls},
    Review, admit_claim, few, is_set, keys, list, shown,
};

/// What a pod's spec must leave out: all that reaches out of the pod, or chooses where and before whom it runs.
const FORBIDDEN_IN_PODS: [&str; 17] = [
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
    // Nobody here would open them.
    "schedulingGates",
];

/// Annotations of pods from which controllers give what no field of a pod gives: other networks than the one that the
/// walls stand in (Multus), and a cloud's credentials (kube2iam, kiam).
const FORBIDDEN_POD_ANNOTATIONS: [&str; 4] = [
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
    "iam.amazonaws.com/role",
    "iam.amazonaws.com/external-id",
];

pub(super) fn admit_annotations(annotations: &Value, path: &str, review: &mut Review<'_>) {
    for annotation in keys(annotations).filter(|annotation| FORBIDDEN_POD_ANNOTATIONS.contains(annotation)) {
        review.refuse(format!("{path} must not have {annotation}"));
    }
}

/// A namespace is gone once its pods are, and they take as long as they may: all of it has five minutes.
const LONGEST_GRACE_SECONDS: u64 = 120;

/// What a container may ask for: what an environment has a quota of, and its node's disk. Devices have none.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The volumes of Pod Security's `restricted`, without those that drivers and other namespaces serve.
const VOLUMES: [&str; 7] =
    ["configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

pub(super) fn admit_pod(spec: &Value, path: &str, review: &mut Review<'_>) {
    for field in FORBIDDEN_IN_PODS {
        // `false` is what is left out as well.
        if is_set(&spec[field]) && spec[field] != false {
            review.refuse(format!("{path}.{field} must not be set"));
        }
    }
    if list(&spec["containers"]).is_empty() {
        review.refuse(format!("{path}.containers must have a container"));
    }
    admit_security(&spec["securityContext"], &format!("{path}.securityContext"), review);
    let grace = &spec["terminationGracePeriodSeconds"];
    if is_set(grace) && grace.as_u64().is_none_or(|seconds| seconds > LONGEST_GRACE_SECONDS) {
        review.refuse(format!("{path}.terminationGracePeriodSeconds must be at most {LONGEST_GRACE_SECONDS}"));
    }
    if is_set(&spec["securityContext"]["sysctls"]) {
        review.refuse(format!("{path}.securityContext.sysctls must not be set"));
    }
    for (index, volume) in list(&spec["volumes"]).iter().enumerate() {
        admit_volume(volume, &format!("{path}.volumes[{index}]"), review);
    }
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(&spec[kind]).iter().enumerate() {
            admit_container(container, &format!("{path}.{kind}[{index}]"), review);
        }
    }
}

fn admit_volume(volume: &Value, path: &str, review: &mut Review<'_>) {
    for kind in keys(volume).filter(|key| *key != "name" && !VOLUMES.contains(key)) {
        review.refuse(format!("{path}.{} must not be set; a volume may be {}", shown(kind), VOLUMES.join(", ")));
    }
    if volume["secret"]["secretName"] == walls::REGISTRY_SECRET {
        review.refuse(format!("{path}.secret must not be {}, which is previewd's own", walls::REGISTRY_SECRET));
    }
    for (index, source) in list(&volume["projected"]["sources"]).iter().enumerate() {
        for field in ["serviceAccountToken", "clusterTrustBundle", "podCertificate"] {
            if is_set(&source[field]) {
                review.refuse(format!("{path}.projected.sources[{index}].{field} must not be set"));
            }
        }
        if source["secret"]["name"] == walls::REGISTRY_SECRET {
            review.refuse(format!("{path}.projected.sources[{index}].secret is previewd's own"));
        }
    }
    if is_set(&volume["ephemeral"]) {
        admit_claim(
            &volume["ephemeral"]["volumeClaimTemplate"]["spec"],
            &format!("{path}.ephemeral.volumeClaimTemplate.spec"),
            review,
        );
    }
}

fn admit_container(container: &Value, path: &str, review: &mut Review<'_>) {
    admit_security(&container["securityContext"], &format!("{path}.securityContext"), review);
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        for field in ["hostPort", "hostIP"] {
            if is_set(&port[field]) && port[field] != 0 {
                review.refuse(format!("{path}.ports[{index}].{field} must not be set"));
            }
        }
    }
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        if variable["valueFrom"]["secretKeyRef"]["name"] == walls::REGISTRY_SECRET {
            review.refuse(format!(
                "{path}.env[{index}] must not read {}, which is previewd's own",
                walls::REGISTRY_SECRET
            ));
        }
    }
    for (index, source) in list(&container["envFrom"]).iter().enumerate() {
        if source["secretRef"]["name"] == walls::REGISTRY_SECRET {
            review.refuse(format!(
                "{path}.envFrom[{index}] must not read {}, which is previewd's own",
                walls::REGISTRY_SECRET
            ));
        }
    }
    if is_set(&container["volumeDevices"]) {
        review.refuse(format!("{path}.volumeDevices must not be set"));
    }
    admit_resources(&container["resources"], &format!("{path}.resources"), review);
    admit_questions(container, path, review);
}

fn admit_resources(resources: &Value, path: &str, review: &mut Review<'_>) {
    if is_set(&resources["claims"]) {
        review.refuse(format!("{path}.claims must not be set"));
    }
    for kind in ["limits", "requests"] {
        for (resource, amount) in resources[kind].as_object().into_iter().flatten() {
            if !RESOURCES.contains(&resource.as_str()) {
                review.refuse(format!("{path}.{kind} may only have {}", RESOURCES.join(", ")));
                continue;
            }
            let is_amount = match amount {
                Value::Null => true,
                Value::String(text) => is_amount(resource, text),
                Value::Number(number) => is_amount(resource, &number.to_string()),
                Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
            };
            if !is_amount {
                review.refuse(format!("{path}.{kind}.{resource} must be an amount such as 100m or 128Mi"));
            }
        }
    }
}

fn is_amount(resource: &str, text: &str) -> bool {
    if resource == "cpu" { text.parse::<Millicores>().is_ok() } else { text.parse::<Bytes>().is_ok() }
}

/// The kubelet asks what probes and lifecycle hooks name, from the node and past every wall: they ask their own pod.
fn admit_questions(container: &Value, path: &str, review: &mut Review<'_>) {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
    let probes = probes.map(|probe| (probe.to_owned(), &container[probe]));
    let hooks = ["postStart", "preStop"].map(|hook| (format!("lifecycle.{hook}"), &container["lifecycle"][hook]));
    for (place, handler) in probes.into_iter().chain(hooks) {
        for kind in ["httpGet", "tcpSocket"] {
            if is_set(&handler[kind]["host"]) {
                review.refuse(format!("{path}.{place}.{kind}.host must not be set"));
            }
        }
    }
}

/// Of a pod or of a container: what Pod Security's `restricted` refuses, said before anything is applied.
fn admit_security(security: &Value, path: &str, review: &mut Review<'_>) {
    for field in ["privileged", "allowPrivilegeEscalation"] {
        if security[field] == true {
            review.refuse(format!("{path}.{field} must not be true"));
        }
    }
    if security["runAsNonRoot"] == false {
        review.refuse(format!("{path}.runAsNonRoot must not be false"));
    }
    // As YAML may write it too.
    if security["runAsUser"].as_f64() == Some(0.0) {
        review.refuse(format!("{path}.runAsUser must not be 0: nothing runs as root"));
    }
    for field in ["procMount", "windowsOptions", "seLinuxOptions"] {
        if is_set(&security[field]) && security[field] != "Default" {
            review.refuse(format!("{path}.{field} must not be set"));
        }
    }
    if security["seccompProfile"]["type"] == "Unconfined" {
        review.refuse(format!("{path}.seccompProfile must not be Unconfined"));
    }
    if security["appArmorProfile"]["type"] == "Unconfined" {
        review.refuse(format!("{path}.appArmorProfile must not be Unconfined"));
    }
    let added = &security["capabilities"]["add"];
    if list(added).iter().any(|capability| capability != "NET_BIND_SERVICE") {
        review.refuse(format!("{path}.capabilities.add may only have NET_BIND_SERVICE"));
    }
}

/// What containers mount has to be there: a volume of the pod, or a claim of a StatefulSet's.
pub(super) fn admit_mounts(spec: &Value, claims: &Value, path: &str, review: &mut Review<'_>) {
    let volumes = list(&spec["volumes"]).iter().map(|volume| &volume["name"]);
    let claims = list(claims).iter().map(|claim| &claim["metadata"]["name"]);
    let names: Vec<&str> = volumes.chain(claims).filter_map(Value::as_str).collect();
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(&spec[kind]).iter().enumerate() {
            for (place, mount) in list(&container["volumeMounts"]).iter().enumerate() {
                if mount["name"].as_str().is_some_and(|name| !names.contains(&name)) {
                    let there = few(names.iter().copied());
                    review.refuse(format!(
                        "{path}.{kind}[{index}].volumeMounts[{place}].name names no volume of the pod; there are: {there}"
                    ));
                }
            }
        }
    }
}

/// What a controller asks of the pods that it makes.
pub(super) fn admit_workload(object: &Object, review: &mut Review<'_>) {
    let spec = &object.body["spec"];
    match object.kind.as_str() {
        "Deployment" | "StatefulSet" => {
            let labels = &spec["template"]["metadata"]["labels"];
            let selector = &spec["selector"];
            if !is_set(selector) {
                review.refuse(
                    "spec.selector must be set: matchLabels with labels that spec.template.metadata.labels has",
                );
            }
            for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
                if labels[key] != *value {
                    let key = shown(key);
                    review.refuse(format!(
                        "spec.selector.matchLabels.{key} must be as spec.template.metadata.labels has it"
                    ));
                }
            }
            if spec["template"]["spec"]["restartPolicy"].as_str().is_some_and(|policy| policy != "Always") {
                review.refuse("spec.template.spec.restartPolicy must be Always, or left out");
            }
        }
        "Job" | "CronJob" => {
            let Some((template, path)) = super::super::pods::template(object) else { return };
            if !matches!(template["spec"]["restartPolicy"].as_str(), Some("Never" | "OnFailure")) {
                review.refuse(format!("{path}.spec.restartPolicy must be Never or OnFailure"));
            }
        }
        _ => {}
    }
}
