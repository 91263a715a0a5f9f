//! What stands twice where Kubernetes looks by a key: server-side apply refuses it, in words that nobody understands. What
//! is the same twice is there once; of a variable the last one counts, as for the containers of other tools; everything
//! else is refused with both names.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::{Object, pods},
    Review, shown,
};

/// Lists whose items are told apart by a key. The keys are those of Kubernetes' types (`listMapKey`).
const OF_PODS: [(&str, &[&str]); 3] = [
    ("volumes", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
];
const OF_CONTAINERS: [(&str, &[&str]); 3] =
    [("ports", &["containerPort", "protocol"]), ("volumeMounts", &["mountPath"]), ("ports", &["name"])];
const OF_SERVICES: [&[&str]; 2] = [&["port", "protocol"], &["name"]];

pub(super) fn merge_doubles(object: &mut Object, review: &mut Review<'_>) {
    if object.kind == "Service" {
        for keys in OF_SERVICES {
            merge_list(object.body.pointer_mut("/spec/ports"), keys, "spec.ports", review);
        }
    }
    let Some((_, path)) = pods::template(object) else { return };
    let Some(spec) = pods::template_mut(object).and_then(|template| template.get_mut("spec")) else { return };
    for (list, keys) in OF_PODS {
        merge_list(spec.get_mut(list), keys, &format!("{path}.spec.{list}"), review);
    }
    let mut names = BTreeMap::new();
    for kind in ["initContainers", "containers"] {
        for (index, container) in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            let place = format!("{path}.spec.{kind}[{index}]");
            if let Some(name) = container["name"].as_str()
                && let Some(first) = names.insert(name.to_owned(), place.clone())
            {
                let name = shown(name);
                review.refuse(format!("{place}.name must be another than {name}, which {first} has"));
            }
            for (list, keys) in OF_CONTAINERS {
                merge_list(container.get_mut(list), keys, &format!("{place}.{list}"), review);
            }
            merge_variables(container.get_mut("env"), &place, review);
        }
    }
}

/// A key as people read it: `8080/TCP`. None: an item that has no key is another rule's matter.
fn key_of(item: &Value, keys: &[&str]) -> Option<String> {
    let parts = keys.iter().map(|key| match &item[key] {
        Value::String(text) => Some(shown(text)),
        Value::Number(number) => Some(number.to_string()),
        // Kubernetes' default.
        Value::Null if *key == "protocol" => Some("TCP".to_owned()),
        _ => None,
    });
    parts.collect::<Option<Vec<_>>>().map(|parts| parts.join("/"))
}

fn merge_list(items: Option<&mut Value>, keys: &[&str], path: &str, review: &mut Review<'_>) {
    let Some(items) = items.and_then(Value::as_array_mut) else { return };
    let mut kept: Vec<Value> = Vec::new();
    for (index, item) in std::mem::take(items).into_iter().enumerate() {
        let key = key_of(&item, keys);
        match kept.iter().find(|other| key.is_some() && key_of(other, keys) == key) {
            None => kept.push(item),
            Some(other) if *other == item => {
                review.note(&format!("{path} has {} twice, and once is enough", key.unwrap_or_default()));
            }
            Some(_) => {
                let key = key.unwrap_or_default();
                review.refuse(format!("{path}[{index}] has {key} once more; leave one of them out"));
                kept.push(item);
            }
        }
    }
    *items = kept;
}

/// The last value of a variable counts, at the place of the first.
fn merge_variables(variables: Option<&mut Value>, place: &str, review: &mut Review<'_>) {
    let Some(variables) = variables.and_then(Value::as_array_mut) else { return };
    let mut kept: Vec<Value> = Vec::new();
    for variable in std::mem::take(variables) {
        let name = variable["name"].as_str().map(str::to_owned);
        match kept.iter_mut().find(|other| name.is_some() && other["name"].as_str() == name.as_deref()) {
            None => kept.push(variable),
            Some(other) => {
                let name = shown(&name.unwrap_or_default());
                review.note(&format!("{place}.env has {name} more than once, and the last one counts"));
                *other = variable;
            }
        }
    }
    *variables = kept;
}
