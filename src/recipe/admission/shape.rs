//! What previewd looks into and adds to has to be what Kubernetes has there: a mapping, or a list of mappings.

use serde_json::Value;

/// Mappings, where they are there at all; `*` is each item of what has to be a list then.
const MAPPINGS: [&str; 13] = [
    "metadata",
    "metadata.labels",
    "metadata.annotations",
    "data",
    "stringData",
    "spec",
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
const OF_TEMPLATES: [&str; 6] =
    ["metadata", "metadata.labels", "metadata.annotations", "spec", "spec.securityContext", "spec.imagePullSecrets.*"];
const CONTAINERS: [&str; 2] = ["spec.containers.*", "spec.initContainers.*"];
const OF_CONTAINERS: [&str; 6] =
    ["", "resources", "resources.limits", "resources.requests", "securityContext", "securityContext.capabilities"];

/// # Errors
/// The field that is something else, as a rule.
pub(super) fn admit_shape(object: &Value) -> Result<(), String> {
    for path in MAPPINGS {
        admit(object, path, "")?;
    }
    for template in TEMPLATES {
        admit(object, template, "")?;
        for path in OF_TEMPLATES {
            admit(object, &format!("{template}.{path}"), "")?;
        }
        for container in CONTAINERS {
            for path in OF_CONTAINERS {
                admit(object, format!("{template}.{container}.{path}").trim_end_matches('.'), "")?;
            }
        }
    }
    Ok(())
}

/// `at`: the field that `value` is.
fn admit(value: &Value, path: &str, at: &str) -> Result<(), String> {
    if path.is_empty() {
        let fits = value.is_null() || value.is_object();
        return if fits { Ok(()) } else { Err(format!("{at} must be a mapping")) };
    }
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    if key != "*" {
        let field = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        return admit(&value[key], rest, &field);
    }
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| admit(item, rest, &format!("{at}[{index}]")))
        }
        _ => Err(format!("{at} must be a list")),
    }
}
