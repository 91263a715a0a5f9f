//! Kubernetes' YAML: files of several documents, read as Kubernetes' own tools read it, with variables in their text.

use serde_json::{Map, Value};
use serde_saphyr::Options;

use super::{
    Context, Template,
    mistakes::Findings,
    outline::{Outline, Source, join, with_doubles},
    parse::{KEY_TWICE, malformed},
};
use crate::environment::Cause;

/// The longest file, in bytes.
const LONGEST_FILE: usize = 1 << 20;
/// The longest text with variables in it, in bytes.
const LONGEST_TEXT: usize = 256 * 1_024;

/// One document, and where its values stand.
pub(super) struct Document {
    pub value: Value,
    pub source: Source,
    /// The lines of keys that were there before in their mapping, whose last value counts.
    pub doubles: Vec<u64>,
}

/// As `sigs.k8s.io/yaml` reads: `0644` is a mode, `yes` is a truth. Larger than a recipe may be, and as bounded.
fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        reject_unsupported_tags: true,
        legacy_octal_numbers: true,
        strict_booleans: false,
        budget: serde_saphyr::budget! {
            // Twice what the deepest of Kubernetes' kinds needs. Each level takes a part of a thread's stack.
            max_depth: 32, max_nodes: 100_000, max_events: 300_000, max_aliases: 100, max_anchors: 100,
            max_total_scalar_bytes: 4 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000, max_replay_stack_depth: 8 },
    }
}

/// The documents of `text`, the text of `file`, that can be read. Those that say nothing are left out.
pub(super) fn read(file: &str, text: &str, findings: &mut Findings) -> Vec<Document> {
    let refuse = |line: u64, rule: String| Cause::InvalidRecipe {
        file: file.to_owned(),
        line: line.max(1),
        field: "the file".to_owned(),
        rule,
    };
    let mut documents = Vec::new();
    if text.len() > LONGEST_FILE {
        findings.refuse(refuse(1, format!("must be at most {} KiB long", LONGEST_FILE >> 10)));
        return documents;
    }
    for (first_line, text) in split(text) {
        let read = Outline::read_with(&text, options())
            .and_then(|outline| Ok((outline, serde_saphyr::from_str_with_options(&text, with_doubles(options()))?)));
        match read {
            Ok((_, Value::Null)) | Err(serde_saphyr::Error::Eof { .. }) => {}
            Ok((outline, value)) => {
                let doubles = outline.doubles().into_iter().map(|line| first_line + line).collect();
                documents.push(Document { value, source: outline.source(file).moved_by(first_line), doubles });
            }
            Err(error) => {
                let (line, rule) = malformed(&error, &text);
                findings.refuse(refuse(first_line + line, rule));
            }
        }
    }
    documents
}

impl Document {
    /// Refuses keys that are there twice, as strict readers do.
    pub(super) fn refuse_doubles(&self, findings: &mut Findings) {
        for line in &self.doubles {
            findings.refuse(self.source.refuse_at(*line, "the file", KEY_TWICE));
        }
    }
}

/// The texts of the documents, each with how many lines stand before it.
fn split(text: &str) -> Vec<(u64, String)> {
    let mut documents = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        // Nothing that is part of a document begins so: what is in a block is indented.
        if line == "---" || line.starts_with("--- ") || line.starts_with("---\t") {
            documents.push((number as u64 + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

/// What begins the annotations that are meant for helm.
const HELMS: &str = "helm.sh/";

/// The objects that a document has: itself, or the items of a list, such as `kubectl get -o yaml` writes. A list whose
/// items are none is itself, and is refused for its kind. As kubectl and helm take them apart: items of a typed list may
/// leave out what they are, and what a list says to helm it says for each of them.
pub(super) fn objects_in(mut document: Value) -> Vec<Value> {
    let Some(kind) = document["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned) else {
        return vec![document];
    };
    let Some(mut items) = document.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take) else {
        return vec![document];
    };
    let annotations = document["metadata"]["annotations"].as_object().into_iter().flatten();
    let for_helm: Vec<(&String, &Value)> = annotations.filter(|(key, _)| key.starts_with(HELMS)).collect();
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        if !kind.is_empty() && !item.contains_key("kind") && !item.contains_key("apiVersion") {
            item.insert("kind".to_owned(), kind.as_str().into());
            item.insert("apiVersion".to_owned(), document["apiVersion"].clone());
        }
        annotate(item, &for_helm);
    }
    items
}

/// Puts these annotations over an object's own. One whose metadata are no mapping has yet to be refused for that.
fn annotate(object: &mut Map<String, Value>, annotations: &[(&String, &Value)]) {
    if annotations.is_empty() {
        return;
    }
    let is_mapping = |value: &Value| value.is_null() || value.is_object();
    let metadata = object.entry("metadata").or_insert(Value::Null);
    if is_mapping(metadata) && is_mapping(&metadata["annotations"]) {
        for (key, value) in annotations {
            metadata["annotations"][key.as_str()] = (*value).clone();
        }
    }
}

/// What becomes of braces that hold none of previewd's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherBraces {
    /// They are mistakes.
    Refused,
    /// They are somebody else's, as Go's templates are in a chart's values.
    Text,
}

/// Puts the variables' values into every text of `value`, whose path is `path`. What comes of it stays text, whatever
/// it reads like.
pub(super) fn fill(
    value: &mut Value,
    path: &str,
    others: OtherBraces,
    source: &Source,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                fill(item, &format!("{path}[{index}]"), others, source, context, findings);
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                fill(item, &join(path, &super::outline::shown(key)), others, source, context, findings);
            }
        }
        Value::String(text) if text.contains("{{") => {
            let template = match others {
                OtherBraces::Refused => Template::parse(text, LONGEST_TEXT),
                OtherBraces::Text => Template::parse_value(text),
            };
            match template {
                Ok(template) => *text = context.fill(&template),
                Err(rule) => findings.refuse(source.refuse(path, rule.to_string())),
            }
        }
        Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_what_they_list() {
        let map = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        let list = |kind: &str, items: Value| json!({ "apiVersion": "v1", "kind": kind, "items": items });
        assert_eq!(objects_in(list("List", json!([map("a"), map("b")]))), [map("a"), map("b")]);
        let untyped = json!({ "metadata": { "name": "a" } });
        assert_eq!(objects_in(list("ConfigMapList", json!([untyped, map("b")]))), [map("a"), map("b")]);
        for other in [map("a"), list("ConfigMap", json!([map("a")])), list("List", json!({ "a": 1 })), json!("List")] {
            assert_eq!(objects_in(other.clone()), [other]);
        }
    }

    #[test]
    fn what_a_list_says_to_helm_it_says_for_its_items() {
        let hook = json!({ "helm.sh/hook": "pre-install", "helm.sh/resource-policy": "keep", "note": "x" });
        let items = json!([
            { "kind": "Job" },
            { "kind": "Job", "metadata": { "name": "b", "annotations": { "own": "y", "helm.sh/hook": "test" } } },
            { "kind": "Job", "metadata": "wrong" },
            "wrong",
        ]);
        let expected = [
            json!({ "kind": "Job", "metadata": { "annotations": {
                "helm.sh/hook": "pre-install", "helm.sh/resource-policy": "keep" } } }),
            json!({ "kind": "Job", "metadata": { "name": "b", "annotations": {
                "own": "y", "helm.sh/hook": "pre-install", "helm.sh/resource-policy": "keep" } } }),
            json!({ "kind": "Job", "metadata": "wrong" }),
            json!("wrong"),
        ];
        assert_eq!(
            objects_in(json!({ "kind": "List", "metadata": { "annotations": hook }, "items": items })),
            expected
        );
    }
}
