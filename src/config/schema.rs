//! The configuration's JSON schema, and what loading reads from it: the known keys, their types, and the words for what
//! is wanted. Deriving these keeps a new key from being forgotten anywhere.

use std::sync::LazyLock;

use serde_json::Value;

use super::Config;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Config).to_value());

/// The JSON schema of `previewd.toml`.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// Stands in a key's path for a name that the operator chooses, as in `teams.*.members`.
pub const ANY_NAME: &str = "*";

/// One key that can be set.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key's path, sections first.
    pub path: Vec<String>,
    pub description: Option<String>,
    pub default: Option<Value>,
    /// A section holds other keys and has no value of its own.
    pub is_section: bool,
}

/// Every key and section, each section before its keys.
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    collect_keys(Node::root(), &mut Vec::new(), &mut keys);
    keys
}

fn collect_keys(node: Node, path: &mut Vec<String>, keys: &mut Vec<Key>) {
    for (name, child) in node.children() {
        path.push(name.to_owned());
        let note = |word| child.notes.get(word).or_else(|| child.schema.get(word));
        keys.push(Key {
            path: path.clone(),
            description: note("description").and_then(Value::as_str).map(str::to_owned),
            default: note("default").cloned(),
            is_section: child.kind() == Kind::Table,
        });
        collect_keys(child, path, keys);
        path.pop();
    }
}

/// The variable that sets the key at `path`.
pub fn variable<S: AsRef<str>>(path: &[S]) -> String {
    let parts: Vec<String> = path.iter().map(|part| part.as_ref().to_ascii_uppercase()).collect();
    format!("{PREFIX}{}", parts.join("__"))
}

/// What every variable of previewd begins with.
pub const PREFIX: &str = "PREVIEWD_";

/// The known key nearest to the unknown one at `path`, under the names that the operator chose there.
pub(super) fn nearest(path: &[String]) -> Vec<String> {
    let wrong = path.join(".");
    let similarity = |known: &[String]| {
        let whole = strsim::normalized_damerau_levenshtein(&wrong, &known.join("."));
        // The right key in the wrong section, and a key cut short, are nearer than a key of similar letters. One of the
        // same section is the nearest.
        let is_beside = known.len() == path.len() && known[..known.len() - 1] == path[..path.len() - 1];
        let weight = if is_beside { 0.95 } else { 0.85 };
        whole.max(weight * strsim::jaro_winkler(last(path), last(known)))
    };
    // A name of the operator's choice is never what was misspelt.
    let known = keys().into_iter().map(|key| key.path).filter(|known| last(known) != ANY_NAME);
    let known = known.map(|known| with_names_of(path, known));
    known.max_by(|one, other| similarity(one).total_cmp(&similarity(other))).unwrap_or_default()
}

/// Puts names into the known path `known`: those of `path`, as far as it leads to the same place.
fn with_names_of(path: &[String], mut known: Vec<String>) -> Vec<String> {
    for position in 0..known.len() {
        if known[position] == ANY_NAME {
            let name = path.get(position).filter(|_| path[..position] == known[..position]);
            known[position] = name.map_or("NAME", String::as_str).to_owned();
        }
    }
    known
}

fn last(path: &[String]) -> &str {
    path.last().map_or("", String::as_str)
}

/// One place in the schema, references and nullability resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    schema: &'static Value,
    /// Where the place is described; the reference itself, for a referenced schema.
    notes: &'static Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Numbers and booleans: TOML tells them apart.
    Scalar,
    List,
    Table,
    /// Several forms, or none said: whoever reads the value decides.
    Any,
}

impl Node {
    pub fn root() -> Self {
        Self::new(schema())
    }

    fn new(notes: &'static Value) -> Self {
        let mut schema = notes;
        loop {
            let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
            let referenced = reference.and_then(|pointer| self::schema().pointer(pointer));
            let alternatives = schema["anyOf"].as_array().map(|any| any.iter().filter(|one| one["type"] != "null"));
            let only = alternatives.and_then(|mut any| any.next().filter(|_| any.next().is_none()));
            match referenced.or(only) {
                Some(inner) => schema = inner,
                None => return Self { schema, notes },
            }
        }
    }

    /// The node at `path`, or None where a part is unknown.
    pub fn at<S: AsRef<str>>(path: &[S]) -> Option<Self> {
        path.iter().try_fold(Self::root(), |node, part| node.child(part.as_ref()))
    }

    /// The value under `key` of a table, or an item of a list under its index.
    pub fn child(self, key: &str) -> Option<Self> {
        match self.kind() {
            Kind::Table => {
                let named = self.schema["properties"].get(key);
                named.or_else(|| self.names()).map(Self::new)
            }
            Kind::List => Some(self.item()),
            Kind::Any => Some(self),
            Kind::Text | Kind::Scalar => None,
        }
    }

    fn children(self) -> impl Iterator<Item = (&'static str, Self)> {
        let properties = self.schema["properties"].as_object().into_iter().flatten();
        let properties = properties.map(|(name, schema)| (name.as_str(), Self::new(schema)));
        properties.chain(self.names().map(|schema| (ANY_NAME, Self::new(schema))))
    }

    /// The schema of values under freely chosen names.
    fn names(self) -> Option<&'static Value> {
        self.schema.get("additionalProperties").filter(|schema| schema.is_object())
    }

    pub fn item(self) -> Self {
        Self::new(&self.schema["items"])
    }

    pub fn kind(self) -> Kind {
        if !self.choices().is_empty() {
            return Kind::Text;
        }
        match self.types().as_slice() {
            ["string"] => Kind::Text,
            ["integer" | "number" | "boolean"] => Kind::Scalar,
            ["array"] => Kind::List,
            ["object"] if self.children().next().is_some() || self.schema["additionalProperties"] == false => {
                Kind::Table
            }
            _ => Kind::Any,
        }
    }

    fn types(self) -> Vec<&'static str> {
        match &self.schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
            name => name.as_str().into_iter().collect(),
        }
    }

    /// The values of an enumeration of texts: schemars writes `oneOf` with `const` where they are described.
    fn choices(self) -> Vec<&'static str> {
        let listed = self.schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let described = self.schema["oneOf"].as_array().into_iter().flatten().flat_map(|one| {
            one["const"]
                .as_str()
                .into_iter()
                .chain(one["enum"].as_array().into_iter().flatten().filter_map(Value::as_str))
        });
        listed.chain(described).collect()
    }

    /// Whether nothing said about the value may be passed on.
    pub fn is_secret(self) -> bool {
        self.schema["writeOnly"] == true || self.notes["writeOnly"] == true
    }

    /// What the value must be, to follow "must be".
    pub fn wanted(self) -> String {
        let choices = self.choices();
        if !choices.is_empty() {
            return format!("one of {}", choices.join(", "));
        }
        match self.types().as_slice() {
            ["string"] if self.schema["format"] == "uri" || self.notes["format"] == "uri" => {
                "a URL such as https://example.com".to_owned()
            }
            ["string"] => "a string".to_owned(),
            ["integer"] => match (self.schema["minimum"].as_u64(), self.schema["maximum"].as_u64()) {
                (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
                (Some(least), None) => format!("a whole number of at least {least}"),
                _ => "a whole number".to_owned(),
            },
            ["number"] => "a number".to_owned(),
            ["boolean"] => "true or false".to_owned(),
            ["array"] => match self.item().types().as_slice() {
                ["string"] => "a list of strings".to_owned(),
                ["object"] => "a list of tables".to_owned(),
                _ => "a list".to_owned(),
            },
            ["object"] => "a table".to_owned(),
            _ => "another value".to_owned(),
        }
    }
}
