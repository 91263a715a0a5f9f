//! What previewd looks into and adds to has to be what Kubernetes has there: a mapping, or a list of mappings.

use serde_json::Value;

use super::Review;

/// Mappings, where they are there at all; `*` is each item of what has to be a list then.
const MAPPINGS: [&str; 15] = [
    "metadata",
    "metadata.labels",
    "metadata.annotations",
    "data",
    "stringData",
    "spec",
    "spec.updateStrategy",
    "spec.ports.*",
    "spec.volumeClaimTemplates.*",
    "spec.volumeClaimTemplates.*.metadata",
    "spec.volumeClaimTemplates.*.metadata.labels",
    "spec.jobTemplate",
    "spec.jobTemplate.metadata",
    "spec.jobTemplate.metadata.labels",
    "spec.jobTemplate.spec",
];
/// Where pods are described.
const TEMPLATES: [&str; 2] = ["spec.template", "spec.jobTemplate.spec.template"];
/// The same within a pod's description.
const OF_TEMPLATES: [&str; 7] = [
    "metadata",
    "metadata.labels",
    "metadata.annotations",
    "spec",
    "spec.securityContext",
    "spec.imagePullSecrets.*",
    "spec.volumes.*",
];
const CONTAINERS: [&str; 2] = ["spec.containers.*", "spec.initContainers.*"];
const OF_CONTAINERS: [&str; 9] = [
    "",
    "env.*",
    "ports.*",
    "volumeMounts.*",
    "resources",
    "resources.limits",
    "resources.requests",
    "securityContext",
    "securityContext.capabilities",
];

/// Refuses every field that is something else.
pub(super) fn admit_shape(object: &Value, review: &mut Review<'_>) {
    for path in MAPPINGS {
        admit(object, path, "", review);
    }
    for template in TEMPLATES {
        admit(object, template, "", review);
        for path in OF_TEMPLATES {
            admit(object, &format!("{template}.{path}"), "", review);
        }
        for container in CONTAINERS {
            for path in OF_CONTAINERS {
                admit(object, format!("{template}.{container}.{path}").trim_end_matches('.'), "", review);
            }
        }
    }
}

/// `at`: the field that `value` is.
fn admit(value: &Value, path: &str, at: &str, review: &mut Review<'_>) {
    if path.is_empty() {
        if !value.is_null() && !value.is_object() {
            review.refuse(format!("{at} must be a mapping"));
        }
        return;
    }
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    if key != "*" {
        let field = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        return admit(&value[key], rest, &field, review);
    }
    match value {
        Value::Null => {}
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                admit(item, rest, &format!("{at}[{index}]"), review);
            }
        }
        _ => review.refuse(format!("{at} must be a list")),
    }
}
