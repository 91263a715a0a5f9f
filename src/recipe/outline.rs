//! Where everything in a YAML file stands: from a place to the dotted path of what is there, and from a path to its line.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Location, Options, Spanned, options::DuplicateKeyPolicy};

use crate::environment::Cause;

/// The longest part of a path that is shown: longer keys are cut.
const LONGEST_SHOWN_KEY: usize = 40;

/// How recipes are read. Aliases are there for people who repeat themselves, not for what they can be blown up to.
pub(super) fn yaml_options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        budget: serde_saphyr::budget! { max_depth: 16, max_nodes: 5_000, max_aliases: 100, max_anchors: 100 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 5_000, max_replay_stack_depth: 8 },
    }
}

/// The same where a key may be there twice: the last one counts. An [`Outline`] says whether one is.
pub(super) fn with_doubles(mut options: Options) -> Options {
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    options
}

/// The file that a recipe came from, and the line of each of its values. Two recipes that say the same are equal,
/// wherever they say it.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    file: String,
    lines: BTreeMap<String, u64>,
}

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Source {
    /// The same, `lines` further down in the file.
    pub(super) fn moved_by(mut self, lines: u64) -> Self {
        self.lines.values_mut().for_each(|line| *line += lines);
        self
    }

    /// The cause that `field` breaks `rule`. Where the recipe does not write the field, the line is that of what it
    /// would stand in.
    pub(super) fn refuse(&self, field: &str, rule: impl Into<String>) -> Cause {
        let ancestors = std::iter::successors(Some(field), |path| path.rsplit_once('.').map(|(parent, _)| parent));
        let line = ancestors.filter_map(|path| self.lines.get(path)).next().copied().unwrap_or(1);
        self.refuse_at(line, field, rule)
    }

    /// The same, where the line is known.
    pub(super) fn refuse_at(&self, line: u64, field: &str, rule: impl Into<String>) -> Cause {
        Cause::InvalidRecipe { file: self.file.clone(), line, field: field.to_owned(), rule: rule.into() }
    }
}

/// The paths of a YAML file's keys and values, by line and column.
#[derive(Debug, Default)]
pub(super) struct Outline {
    keys: HashMap<(u64, u64), String>,
    values: HashMap<(u64, u64), String>,
    lines: BTreeMap<String, u64>,
    /// The lines of keys that their mapping had before.
    doubles: Vec<u64>,
}

impl Outline {
    /// Reads `text` as YAML of any shape.
    pub(super) fn read(text: &str) -> Result<Self, serde_saphyr::Error> {
        Self::read_with(text, yaml_options())
    }

    /// The same, with other options than a recipe's.
    pub(super) fn read_with(text: &str, options: Options) -> Result<Self, serde_saphyr::Error> {
        let mut options = options;
        options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
        let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options)?;
        let mut outline = Self::default();
        outline.add(String::new(), &root);
        Ok(outline)
    }

    fn add(&mut self, path: String, node: &Spanned<Node>) {
        match &node.value {
            Node::Scalar(_) => {}
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(format!("{path}[{index}]"), item);
                }
            }
            Node::Map(entries) => {
                let mut seen = HashSet::new();
                for (key, value) in entries {
                    if let Node::Scalar(text) = &key.value
                        && !seen.insert(text)
                    {
                        self.doubles.push(key.referenced.line());
                    }
                    let key_text = if let Node::Scalar(text) = &key.value { shown(text) } else { "?".to_owned() };
                    let path = join(&path, &key_text);
                    self.keys.insert(place(key.referenced), path.clone());
                    self.add(path, value);
                }
            }
        }
        self.lines.insert(path.clone(), node.referenced.line());
        // What an alias brings stands where the alias stands, which is its outermost node's place: added last.
        self.values.insert(place(node.referenced), path);
    }

    /// The path of the value at `location`, or of the key where no value begins there. A mapping begins where its first
    /// key does.
    pub(super) fn value_at(&self, location: Location) -> &str {
        let place = place(location);
        self.values.get(&place).or_else(|| self.keys.get(&place)).map_or("", String::as_str)
    }

    /// The path of the mapping at `location`, or of the one whose key is there: in braces it begins before its first key.
    pub(super) fn mapping_at(&self, location: Location) -> &str {
        let place = place(location);
        let of_key = || self.keys.get(&place).map(|key| key.rsplit_once('.').map_or("", |(mapping, _)| mapping));
        self.values.get(&place).map(String::as_str).or_else(of_key).unwrap_or_default()
    }

    /// The path of the key at `location`, or of the value where no key is there.
    pub(super) fn key_at(&self, location: Location) -> &str {
        let place = place(location);
        self.keys.get(&place).or_else(|| self.values.get(&place)).map_or("", String::as_str)
    }

    /// The lines of keys that their mapping had before, from the first.
    pub(super) fn doubles(&self) -> Vec<u64> {
        let mut doubles = self.doubles.clone();
        doubles.sort_unstable();
        doubles
    }

    pub(super) fn source(&self, file: &str) -> Source {
        Source { file: file.to_owned(), lines: self.lines.clone() }
    }
}

/// `key` under the path `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn place(location: Location) -> (u64, u64) {
    (location.line(), location.column())
}

/// A node of YAML, of any shape. Only scalars that are keys are looked at.
#[derive(Debug)]
enum Node {
    Scalar(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<Node>, Spanned<Node>)>),
}

/// A key as it may be shown. It is text of somebody else and ends up in a comment, so nothing is left of it that could
/// be markup, a mention or a link.
pub(super) fn shown(key: &str) -> String {
    let harmless = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => character,
        _ => '?',
    };
    key.chars().take(LONGEST_SHOWN_KEY).map(harmless).collect()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Scalar(text.to_owned()))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Node, E> {
                Ok(Node::Scalar(truth.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Scalar(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Scalar(number.to_string()))
            }

            fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
                Ok(Node::Scalar(number.to_string()))
            }

            fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
                Ok(Node::Scalar(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Scalar(number.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar("null".to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Node::Map(map))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
