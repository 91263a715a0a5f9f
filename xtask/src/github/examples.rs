//! GitHub's published webhook examples, and whether a payload has their shape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;

const PUBLISHED: &str = include_str!("../../data/webhook-examples.json");

static EXAMPLES: LazyLock<BTreeMap<String, Vec<Value>>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(PUBLISHED).unwrap_or_default();
    document.get("examples").cloned().and_then(|examples| serde_json::from_value(examples).ok()).unwrap_or_default()
});

/// Per event and action ("" where the event has none); under "*" all examples of the event together.
static SHAPES: LazyLock<BTreeMap<(&str, &str), Shape>> = LazyLock::new(|| {
    let mut shapes: BTreeMap<(&str, &str), Shape> = BTreeMap::new();
    for (event, examples) in EXAMPLES.iter() {
        for example in examples {
            let action = example.get("action").and_then(Value::as_str).unwrap_or_default();
            for action in [action, "*"] {
                shapes.entry((event, action)).or_default().learn(example);
            }
        }
    }
    shapes
});

/// Ends of places that may be null although no example of the action has them so.
const NULLABLE: [&str; 13] = [
    "/assignee",
    "/body",
    "/description",
    "/head/repo",
    "/homepage",
    "/language",
    "/merge_commit_sha",
    "/mergeable",
    "/merged_by",
    "/milestone",
    "/performed_via_github_app",
    "/rebaseable",
    "/requester",
];

/// Members that depend on what the event is about: an organization transfers a repository under another name.
const OPTIONAL: [&str; 1] = ["/changes/owner/from/user"];

/// Every published example of an event, oldest form first as the package has them.
pub fn webhook_examples(event: &str) -> Vec<Value> {
    EXAMPLES.get(event).cloned().unwrap_or_default()
}

#[derive(Default)]
struct Shape {
    kinds: BTreeSet<&'static str>,
    /// How many objects were seen here, and in how many of them each member was.
    objects: usize,
    members: BTreeMap<String, (usize, Shape)>,
    elements: Option<Box<Shape>>,
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Shape {
    fn learn(&mut self, value: &Value) {
        self.kinds.insert(kind(value));
        match value {
            Value::Object(members) => {
                self.objects += 1;
                for (name, value) in members {
                    let (count, shape) = self.members.entry(name.clone()).or_default();
                    *count += 1;
                    shape.learn(value);
                }
            }
            Value::Array(items) => {
                let elements = self.elements.get_or_insert_default();
                items.iter().for_each(|item| elements.learn(item));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The first place where a payload has less than the examples: than any of them, or than all of them.
    fn lacks(&self, value: &Value, place: &str, than_any: bool) -> Option<String> {
        let is = kind(value);
        let unseen = self.kinds.is_empty() || self.kinds.iter().eq(["null"].iter());
        let nullable = is == "null" && NULLABLE.iter().any(|end| place.ends_with(end));
        if !unseen && !self.kinds.contains(is) && !nullable {
            return Some(format!(
                "{place} is {is}, not {}",
                self.kinds.iter().copied().collect::<Vec<_>>().join(" or ")
            ));
        }
        match value {
            Value::Object(members) => self.members.iter().find_map(|(name, (count, shape))| {
                let place = format!("{place}/{name}");
                match members.get(name) {
                    Some(value) => shape.lacks(value, &place, than_any),
                    None if OPTIONAL.contains(&place.as_str()) => None,
                    None if than_any || *count == self.objects => Some(format!("{place} is missing")),
                    None => None,
                }
            }),
            Value::Array(items) => {
                let elements = self.elements.as_ref()?;
                items.iter().find_map(|item| elements.lacks(item, &format!("{place}/-"), than_any))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
}

/// Where a payload has less than GitHub's examples of the same event and action have, or another type. An action
/// without examples is held against what all examples of its event have.
pub fn disagreement(event: &str, payload: &Value) -> Option<String> {
    let action = payload.get("action").and_then(Value::as_str).unwrap_or_default();
    // The other events' examples come from several kinds of hooks and accounts, whose members differ.
    let exact = matches!(event, "pull_request" | "issue_comment");
    let (shape, than_any) = match SHAPES.get(&(event, action)).filter(|_| exact) {
        Some(shape) => (shape, true),
        None => (SHAPES.get(&(event, "*"))?, false),
    };
    // No example of an App's own ping is published.
    if event == "ping" && payload.pointer("/hook/type").and_then(Value::as_str) == Some("App") {
        return None;
    }
    let mut payload = payload.clone();
    // Only an organization's repositories report it, and only to an App its installation.
    if let Value::Object(members) = &mut payload {
        for name in ["organization", "installation"] {
            let known = shape.members.get(name);
            if let (None, Some(_)) = (members.get(name), known) {
                members.insert(name.to_owned(), EXAMPLES.get(event)?.iter().find_map(|other| other.get(name))?.clone());
            }
        }
    }
    shape.lacks(&payload, "", than_any)
}
