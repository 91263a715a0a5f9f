//! The tools' schemas, generated from the service's types and made short: a model reads every byte of `tools/list`
//! again and again.

use rmcp::model::JsonObject;
use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};

/// What a tool takes.
pub(super) fn input<T: JsonSchema>() -> JsonObject {
    generate::<T>(SchemaSettings::draft2020_12().with_transform(Compact))
}

/// What a tool answers, all of it.
pub(super) fn answer<T: JsonSchema>() -> JsonObject {
    generate::<T>(SchemaSettings::draft2020_12().for_serialize())
}

/// What a tool answers, in outline: the fields that are always there, of a `T` or of an error. What is in them the answer
/// itself shows, and spelling it out would double the list.
pub(super) fn output<T: JsonSchema>() -> JsonObject {
    let always = answer::<T>().remove("required").unwrap_or_default();
    let mut schema = JsonObject::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("anyOf".to_owned(), json!([{ "required": always }, { "required": ["code"] }]));
    schema
}

fn generate<T: JsonSchema>(settings: SchemaSettings) -> JsonObject {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    for key in ["title", "description"] {
        schema.remove(key);
    }
    match schema.to_value() {
        Value::Object(object) => object,
        other => unreachable!("the schema of a struct is an object, not {other}"),
    }
}

/// Drops what says nothing to a caller, and writes enums the short way.
#[derive(Debug, Clone)]
struct Compact;

impl Transform for Compact {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(codes) = object.get("oneOf").and_then(codes) {
            object.clear();
            object.insert("enum".to_owned(), codes);
        }
        object.retain(|key, value| match key.as_str() {
            "format" => false,
            "default" => !(value.is_null() || *value == json!([]) || *value == json!(false)),
            _ => true,
        });
        transform_subschemas(self, schema);
    }
}

/// The codes of an enum: its variants with a description, and those without.
fn codes(variants: &Value) -> Option<Value> {
    let mut codes = Vec::new();
    for variant in variants.as_array()? {
        match (variant.get("const"), variant.get("enum").and_then(Value::as_array)) {
            (Some(code), _) => codes.push(code.clone()),
            (None, Some(several)) => codes.extend(several.iter().cloned()),
            (None, None) => return None,
        }
    }
    Some(Value::Array(codes))
}
