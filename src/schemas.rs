//! The interfaces as JSON schemas, generated from the types that implement them. `schemas/` keeps a copy, so that a
//! change to one shows in the diff.

use serde_json::{Map, Value, json};

use crate::{cluster::cluster_role, config, mcp, recipe::Recipe};

/// The schema of `previewd.toml`.
pub fn config() -> Value {
    config::schema::schema().clone()
}

/// The schema of `.preview.yaml`.
pub fn recipe() -> Value {
    schemars::schema_for!(Recipe).to_value()
}

/// The tools by name: title, annotations, input and output schema, as `tools/list` shows them.
pub fn tools() -> Value {
    let tools = mcp::tools();
    let described = tools.iter().map(|tool| (tool.name.to_string(), json!(tool)));
    Value::Object(described.collect::<Map<_, _>>())
}

/// Every schema with the name of its file, and the role of previewd's account.
pub fn all() -> Vec<(String, Value)> {
    let mut schemas = vec![("config.schema.json".to_owned(), config()), ("preview.schema.json".to_owned(), recipe())];
    schemas.push(("cluster-role.json".to_owned(), cluster_role()));
    if let Value::Object(tools) = tools() {
        schemas.extend(tools.into_iter().map(|(name, tool)| (format!("tools/{name}.json"), tool)));
    }
    schemas
}
