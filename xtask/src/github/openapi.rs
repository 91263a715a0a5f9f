//! Requests and answers held against GitHub's published OpenAPI description.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Context as _;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::lock;
use super::operation::{Operation, Params};
use super::rest::answer::{Answer, Body};

const PUBLISHED: &str = include_str!("../../data/github-openapi.json");

/// Where the description is stricter than GitHub itself: the place, the schema to put there, and why.
const AMENDMENTS: &[(&str, &str, &str)] = &[
    (
        "/paths/~1app~1installations/get/responses/200/schema",
        r##"{"type": "array", "items": {"$ref": "#/components/schemas/installation"}}"##,
        "asks for an account that is a user and an enterprise at once",
    ),
    (
        "/components/schemas/pull-request/properties/head/properties/repo",
        r##"{"nullable": true, "allOf": [{"$ref": "#/components/schemas/repository"}]}"##,
        "null once the fork is deleted",
    ),
    (
        "/components/schemas/pull-request-simple/properties/head/properties/repo",
        r##"{"nullable": true, "allOf": [{"$ref": "#/components/schemas/repository"}]}"##,
        "null once the fork is deleted",
    ),
    (
        "/components/schemas/deployment-status/properties/environment_url",
        r#"{"type": "string"}"#,
        "empty where none was given, which is no URI",
    ),
    (
        "/components/schemas/deployment-status/properties/log_url",
        r#"{"type": "string"}"#,
        "empty where none was given, which is no URI",
    ),
    (
        "/components/schemas/deployment-status/properties/target_url",
        r#"{"type": "string"}"#,
        "empty where none was given, which is no URI",
    ),
];

/// OpenAPI 3.0's `nullable` in JSON Schema's words.
fn without_nullable(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(without_nullable);
            if members.get("nullable").is_some_and(Value::is_boolean) {
                let nullable = members.remove("nullable") == Some(Value::Bool(true));
                if nullable {
                    let inner = Value::Object(std::mem::take(members));
                    *schema = json!({ "anyOf": [inner, { "type": "null" }] });
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_nullable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub struct Description {
    document: Value,
    /// By the place of the schema in the document; each compiled when first needed.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Description {
    /// The published one, read once for all that run in this process.
    pub fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: OnceLock<Arc<Description>> = OnceLock::new();
        if let Some(read) = SHARED.get() {
            return Ok(Arc::clone(read));
        }
        let read = Self::published().context("the published description is unusable")?;
        Ok(Arc::clone(SHARED.get_or_init(|| Arc::new(read))))
    }

    pub fn published() -> anyhow::Result<Self> {
        let mut document: Value = serde_json::from_str(PUBLISHED)?;
        for (place, schema, reason) in AMENDMENTS {
            let found = document.pointer_mut(place).with_context(|| format!("nothing at {place} ({reason})"))?;
            *found = serde_json::from_str(schema)?;
        }
        without_nullable(&mut document);
        Ok(Self { document, validators: Mutex::default() })
    }

    fn operation(&self, operation: Operation) -> Option<&Value> {
        self.document.get("paths")?.get(operation.template())?.get(operation.method().to_lowercase())
    }

    fn validator(&self, place: &str) -> Result<Arc<Validator>, String> {
        let mut validators = lock(&self.validators);
        if let Some(validator) = validators.get(place) {
            return Ok(Arc::clone(validator));
        }
        let schema = self.document.pointer(place).ok_or_else(|| format!("no schema at {place}"))?;
        let root = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema],
            "components": self.document.get("components"),
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&root);
        let validator = Arc::new(validator.map_err(|error| format!("schema at {place}: {error}"))?);
        validators.insert(place.to_owned(), Arc::clone(&validator));
        Ok(validator)
    }

    fn check(&self, place: &str, value: &Value) -> Option<String> {
        let validator = match self.validator(place) {
            Ok(validator) => validator,
            Err(reason) => return Some(reason),
        };
        let errors = validator.iter_errors(value).take(3);
        let errors: Vec<_> = errors.map(|error| format!("{}: {}", error.instance_path(), error.masked())).collect();
        if errors.is_empty() { None } else { Some(errors.join("; ")) }
    }

    /// Why a request is not one of GitHub's, where it is not.
    pub fn check_request(
        &self,
        operation: Operation,
        params: &Params,
        query: &[(String, String)],
        body: &Value,
    ) -> Option<String> {
        let described = self.operation(operation)?;
        let root = place(operation);
        let parameters = described.get("parameters").and_then(Value::as_array);
        let parameters: Vec<_> = parameters.into_iter().flatten().enumerate().collect();
        let named = |kind: &str, name: &str| {
            let is =
                |parameter: &Value, key: &str, value: &str| parameter.get(key).and_then(Value::as_str) == Some(value);
            parameters.iter().find(|(_, parameter)| is(parameter, "in", kind) && is(parameter, "name", name))
        };
        let path = params.iter().map(|(name, value)| ("path", name, value));
        let query = query.iter().map(|(name, value)| ("query", name.as_str(), value.as_str()));
        for (kind, name, value) in path.chain(query) {
            let Some((index, parameter)) = named(kind, name) else {
                return Some(format!("GitHub knows no {kind} parameter {name}"));
            };
            let value = coerced(parameter.get("schema").unwrap_or(&Value::Null), value);
            if let Some(reason) = self.check(&format!("{root}/parameters/{index}/schema"), &value) {
                return Some(format!("{kind} parameter {name} {reason}"));
            }
        }
        let Some(expected) = described.get("requestBody") else {
            let empty = body.is_null() || body.as_object().is_some_and(Map::is_empty);
            return (!empty).then(|| "takes no body".to_owned());
        };
        if body.is_null() {
            return (expected.get("required") == Some(&Value::Bool(true))).then(|| "needs a body".to_owned());
        }
        // GitHub ignores what it does not know; here a misspelt member should show.
        let known = expected.pointer("/schema/properties").and_then(Value::as_object);
        if let (Some(known), Some(given)) = (known, body.as_object())
            && let Some(unknown) = given.keys().find(|name| !known.contains_key(*name))
        {
            return Some(format!("GitHub knows no member {unknown} in this body"));
        }
        self.check(&format!("{root}/requestBody/schema"), body).map(|reason| format!("body {reason}"))
    }

    /// Why an answer is not one of GitHub's, where it is not.
    pub fn check_answer(&self, operation: Operation, answer: &Answer) -> Option<String> {
        let described = self.operation(operation)?;
        let status = answer.status.to_string();
        let response = described.get("responses").and_then(|responses| responses.get(&status));
        let place = match response {
            Some(response) if response.get("schema").is_some() => {
                format!("{}/responses/{status}/schema", place(operation))
            }
            // Any operation may redirect or fail in ways it does not list, in the common shape.
            _ if answer.status >= 300 => "/components/schemas/basic-error".to_owned(),
            Some(_) => {
                return (!matches!(answer.body, Body::Empty)).then(|| "GitHub answers this without a body".to_owned());
            }
            None => return Some("GitHub never answers with this status".to_owned()),
        };
        match &answer.body {
            Body::Json(body) => self.check(&place, body),
            // The raw media type replaces the described body.
            Body::Raw(..) => None,
            Body::Empty => Some("GitHub answers this with a body".to_owned()),
        }
    }
}

/// Where an operation is in the document.
fn place(operation: Operation) -> String {
    let escaped = operation.template().replace('~', "~0").replace('/', "~1");
    format!("/paths/{escaped}/{}", operation.method().to_lowercase())
}

/// Text from a path or query as the type its schema has.
fn coerced(schema: &Value, text: &str) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Some("boolean") => text.parse().map_or_else(|_| json!(text), |flag: bool| json!(flag)),
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every schema in use compiles, and an answer that is not GitHub's is noticed.
    #[test]
    fn answers_are_held_against_the_description() -> anyhow::Result<()> {
        let description = Description::published()?;
        for operation in Operation::ALL {
            let described = description.operation(*operation).context("not described")?;
            let responses = described.get("responses").and_then(Value::as_object);
            for (status, response) in responses.into_iter().flatten() {
                if response.get("schema").is_some() {
                    let schema = format!("{}/responses/{status}/schema", place(*operation));
                    description.validator(&schema).map_err(anyhow::Error::msg)?;
                }
            }
        }
        let check = |answer: &Answer| description.check_answer(Operation::CreateComment, answer);
        let missing = check(&Answer::json(201, json!({ "id": 1 })));
        assert!(missing.is_some_and(|reason| reason.contains("node_id")));
        assert!(check(&Answer::ok(json!({}))).is_some_and(|reason| reason.contains("never")));
        assert!(check(&Answer::empty(201)).is_some());
        assert_eq!(check(&Answer::error(403, "no")), None);
        Ok(())
    }
}
