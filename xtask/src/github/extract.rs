//! How the parts in use are taken out of GitHub's whole published descriptions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::operation::Operation;

/// Keywords of a schema that say what is valid; all others only describe.
const KEYWORDS: [&str; 17] = [
    "$ref",
    "type",
    "format",
    "enum",
    "required",
    "nullable",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "const",
];

/// The operations of [`Operation`] out of GitHub's whole description, with every schema they reach, and nothing that
/// only describes.
pub fn extract_description(whole: &Value, source: &Value) -> anyhow::Result<Value> {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    for operation in Operation::ALL {
        let method = operation.method().to_lowercase();
        let found = whole.get("paths").and_then(|paths| paths.get(operation.template())?.get(&method));
        let found = found.with_context(|| format!("no {} {}", operation.method(), operation.template()))?;
        let slim = slim_operation(whole, found)?;
        references(&slim, &mut wanted);
        paths.entry(operation.template()).or_default().insert(method, slim);
    }
    // What errors look like where an operation does not say.
    wanted.insert("basic-error".to_owned());
    let mut schemas = BTreeMap::new();
    while let Some(name) = wanted.pop_first() {
        let schema = whole.pointer(&format!("/components/schemas/{name}"));
        let slim = slim_schema(schema.with_context(|| format!("no schema {name}"))?);
        let mut reached = BTreeSet::new();
        references(&slim, &mut reached);
        schemas.insert(name, slim);
        wanted.extend(reached.into_iter().filter(|name| !schemas.contains_key(name)));
    }
    Ok(json!({ "source": source, "paths": paths, "components": { "schemas": schemas } }))
}

/// The examples of the events that matter here.
pub fn extract_examples(whole: &Value, source: &Value) -> anyhow::Result<Value> {
    const EVENTS: [&str; 12] = [
        "check_suite",
        "installation",
        "installation_repositories",
        "issue_comment",
        "package",
        "ping",
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "push",
        "repository",
        "workflow_run",
    ];
    let all = whole.as_array().context("the examples are no list")?;
    let mut examples = BTreeMap::new();
    for event in EVENTS {
        let found = all.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(event));
        let found = found.and_then(|entry| entry.get("examples")).with_context(|| format!("no event {event}"))?;
        examples.insert(event, found);
    }
    Ok(json!({ "source": source, "examples": examples }))
}

fn slim_operation(whole: &Value, operation: &Value) -> anyhow::Result<Value> {
    let mut slim = json!({ "operationId": operation.get("operationId") });
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let parameters = parameters.map(|parameter| {
        let parameter = resolved(whole, parameter)?;
        let schema = slim_schema(parameter.get("schema").unwrap_or(&Value::Null));
        let get = |key| parameter.get(key);
        let required = get("required").and_then(Value::as_bool).unwrap_or_default();
        Ok(json!({ "name": get("name"), "in": get("in"), "required": required, "schema": schema }))
    });
    let parameters = parameters.collect::<anyhow::Result<Vec<_>>>()?;
    let mut responses = BTreeMap::new();
    for (status, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
        responses.insert(status, slim_content(resolved(whole, response)?));
    }
    let target = slim.as_object_mut().context("an operation is an object")?;
    target.insert("parameters".to_owned(), json!(parameters));
    target.insert("responses".to_owned(), json!(responses));
    if let Some(body) = operation.get("requestBody") {
        let body = resolved(whole, body)?;
        let mut content = slim_content(body);
        if let Some(content) = content.as_object_mut() {
            content.insert("required".to_owned(), body.get("required").cloned().unwrap_or(json!(false)));
        }
        target.insert("requestBody".to_owned(), content);
    }
    Ok(slim)
}

fn slim_content(of: &Value) -> Value {
    let schema = of.pointer("/content/application~1json/schema");
    schema.map_or_else(|| json!({}), |schema| json!({ "schema": slim_schema(schema) }))
}

fn resolved<'a>(whole: &'a Value, value: &'a Value) -> anyhow::Result<&'a Value> {
    let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
        return Ok(value);
    };
    whole.pointer(reference.trim_start_matches('#')).with_context(|| format!("nothing at {reference}"))
}

fn slim_schema(schema: &Value) -> Value {
    let Value::Object(schema) = schema else {
        return schema.clone();
    };
    let each = |value: &Value| match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), slim_schema(value))).collect(),
        Value::Array(items) => items.iter().map(slim_schema).collect(),
        other => other.clone(),
    };
    let kept = schema.iter().filter_map(|(key, value)| match key.as_str() {
        "properties" | "patternProperties" | "allOf" | "anyOf" | "oneOf" => Some((key.clone(), each(value))),
        "items" | "additionalProperties" | "not" => Some((key.clone(), slim_schema(value))),
        other if KEYWORDS.contains(&other) => Some((key.clone(), value.clone())),
        _ => None,
    });
    Value::Object(kept.collect())
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = value.as_str().and_then(|reference| reference.strip_prefix("#/components/schemas/"));
                match name {
                    Some(name) if key == "$ref" => {
                        found.insert(name.to_owned());
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
