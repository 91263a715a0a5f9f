//! Where Kubernetes takes text alone, YAML's bare numbers and truths are none: `8080` and `yes` are to be put in quotes.

use serde_json::Value;

use super::{
    super::{Object, pods},
    Review, is_name, list, shown,
};

/// What is to be written instead.
const QUOTE: &str = "must be text; put it in quotes";

/// Mappings whose values are text.
const MAPPINGS: [&str; 13] = [
    "metadata.labels",
    "metadata.annotations",
    "data",
    "stringData",
    "binaryData",
    "spec.selector.matchLabels",
    "spec.jobTemplate.metadata.labels",
    "spec.jobTemplate.metadata.annotations",
    "TEMPLATE.metadata.labels",
    "TEMPLATE.metadata.annotations",
    "TEMPLATE.spec.nodeSelector",
    "TEMPLATE.spec.securityContext.seLinuxOptions",
    "SERVICE.spec.selector",
];

/// Fields of a container.
const FIELDS: [&str; 4] = ["name", "image", "workingDir", "imagePullPolicy"];
/// Lists of a container whose items are text.
const LISTS: [&str; 7] = [
    "command",
    "args",
    "livenessProbe.exec.command",
    "readinessProbe.exec.command",
    "startupProbe.exec.command",
    "lifecycle.postStart.exec.command",
    "lifecycle.preStop.exec.command",
];

pub(super) fn admit_text(object: &Object, review: &mut Review<'_>) {
    let template = pods::template(object).map(|(_, place)| place);
    for path in MAPPINGS {
        let path = match (path.strip_prefix("TEMPLATE"), path.strip_prefix("SERVICE.")) {
            (Some(rest), _) => match &template {
                Some(template) => format!("{template}{rest}"),
                None => continue,
            },
            (None, Some(rest)) if object.kind == "Service" => rest.to_owned(),
            (None, Some(_)) => continue,
            (None, None) => path.to_owned(),
        };
        for (key, value) in at(&object.body, &path).as_object().into_iter().flatten() {
            if !is_text(value) {
                review.refuse(format!("{path}.{} {QUOTE}", shown(key)));
            }
        }
    }
    let Some(template) = template else { return };
    let spec = at(&object.body, &format!("{template}.spec"));
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(&spec[kind]).iter().enumerate() {
            admit_container(container, &format!("{template}.spec.{kind}[{index}]"), review);
        }
    }
}

fn admit_container(container: &Value, path: &str, review: &mut Review<'_>) {
    let name = container["name"].as_str().filter(|name| is_name(name)).unwrap_or("the container");
    for field in FIELDS {
        if !is_text(&container[field]) {
            review.refuse(format!("{path}.{field} {QUOTE}"));
        }
    }
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        if !is_text(&variable["name"]) {
            review.refuse(format!("{path}.env[{index}].name {QUOTE}"));
        } else if !is_text(&variable["value"]) {
            let variable = shown(variable["name"].as_str().unwrap_or_default());
            review.refuse(format!("{path}.env[{index}].value ({variable} of {name}) {QUOTE}"));
        }
    }
    for field in LISTS {
        for (index, item) in list(at(container, field)).iter().enumerate() {
            // Of these a null is no item at all.
            if !item.is_string() {
                review.refuse(format!("{path}.{field}[{index}] (of {name}) {QUOTE}"));
            }
        }
    }
}

fn is_text(value: &Value) -> bool {
    value.is_null() || value.is_string()
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| &value[key])
}
