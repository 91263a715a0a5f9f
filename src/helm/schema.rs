//! The schemas of values that charts bring. Helm follows their references, over the network and into the machine's files:
//! it knows no way to forbid that, so what refers to something else is refused before.

use serde_json::Value;

use crate::recipe::Files;

/// What helm validates values with, of a chart and of each chart in it.
const SCHEMA: &str = "values.schema.json";
/// Where the languages that schemas are written in are known by heart.
const LANGUAGES: [&str; 2] = ["http://json-schema.org/", "https://json-schema.org/"];

/// The rule that the schemas among a chart's files break, if they break one.
pub(super) fn broken_rule(files: &Files) -> Option<&'static str> {
    let schemas = files.iter().filter(|(path, _)| path.rsplit('/').next() == Some(SCHEMA));
    for (_, content) in schemas {
        match serde_json::from_slice::<Value>(content) {
            Err(_) => return Some("has a values.schema.json that is not JSON"),
            Ok(schema) if !is_self_contained(&schema) => {
                return Some("has a values.schema.json that refers to another file; put what it needs into it");
            }
            Ok(_) => {}
        }
    }
    None
}

/// Whether schemas may be where nobody looked: in packed charts. They are then not used.
pub(super) fn is_hidden(files: &Files) -> bool {
    files.keys().any(|path| path.contains("charts/") && (path.ends_with(".tgz") || path.ends_with(".tar.gz")))
}

fn is_self_contained(schema: &Value) -> bool {
    match schema {
        Value::Object(entries) => entries.iter().all(|(key, value)| {
            let is_fine = match (key.as_str(), value) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(place)) => place.starts_with('#'),
                ("$schema", Value::String(language)) => LANGUAGES.iter().any(|known| language.starts_with(known)),
                _ => true,
            };
            is_fine && is_self_contained(value)
        }),
        Value::Array(items) => items.iter().all(is_self_contained),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_nowhere_else() {
        for (schema, is_fine) in [
            (r##"{ "$ref": "#/definitions/a", "$schema": "https://json-schema.org/draft-07/schema#" }"##, true),
            (r##"{ "properties": { "$ref": { "type": "string" } } }"##, true),
            (r##"{ "$ref": "http://127.0.0.1:8787/metrics" }"##, false),
            (r##"{ "allOf": [{ "properties": { "a": { "$ref": "file:///etc/passwd" } } }] }"##, false),
            (r##"{ "$id": "http://127.0.0.1/", "$ref": "a.json" }"##, false),
            (r##"{ "\u0024ref": "a.json" }"##, false),
            (r##"{ "$schema": "http://127.0.0.1/schema" }"##, false),
            (r##"{ "$ref": "#" "##, false),
        ] {
            let files = Files::from([("charts/a/values.schema.json".to_owned(), schema.as_bytes().to_vec())]);
            assert_eq!(broken_rule(&files).is_none(), is_fine, "{schema}");
        }
    }
}
