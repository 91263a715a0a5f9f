//! Kubernetes' YAML: files of several documents, read as Kubernetes' own tools read it, with variables in their text.

use serde_json::Value;
use serde_saphyr::{Options, options::DuplicateKeyPolicy};

use super::{
    BrokenRule, Context, Template,
    outline::{Outline, Source, join},
    parse::malformed,
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

/// The documents of `text`, the text of `file`. Those that say nothing are left out.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Document>, Cause> {
    read_with(file, text, &options())
}

/// The same as helm reads it: of a key that is there twice the last one counts.
pub(super) fn read_as_helm(file: &str, text: &str) -> Result<Vec<Document>, Cause> {
    let mut options = options();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    read_with(file, text, &options)
}

fn read_with(file: &str, text: &str, options: &Options) -> Result<Vec<Document>, Cause> {
    let refuse = |line: u64, rule: String| {
        Err(Cause::InvalidRecipe { file: file.to_owned(), line: line.max(1), field: "the file".to_owned(), rule })
    };
    if text.len() > LONGEST_FILE {
        return refuse(1, format!("must be at most {} KiB long", LONGEST_FILE >> 10));
    }
    let mut documents = Vec::new();
    for (first_line, text) in split(text) {
        let outline = match Outline::read_with(&text, options.clone()) {
            Ok(outline) => outline,
            Err(error) => {
                let (line, rule) = malformed(&error, &text);
                if matches!(error, serde_saphyr::Error::Eof { .. }) {
                    continue;
                }
                return refuse(first_line + line, rule);
            }
        };
        let value: Value = match serde_saphyr::from_str_with_options(&text, options.clone()) {
            Ok(value) => value,
            Err(error) => {
                let (line, rule) = malformed(&error, &text);
                return refuse(first_line + line, rule);
            }
        };
        if !value.is_null() {
            documents.push(Document { value, source: outline.into_source(file).moved_by(first_line) });
        }
    }
    Ok(documents)
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

/// Puts the variables' values into every text of `value`, whose path is `path`. What comes of it stays text, whatever
/// it reads like.
pub(super) fn fill(value: &mut Value, path: &str, source: &Source, context: &Context<'_>) -> Result<(), Cause> {
    fill_with(value, path, source, context, &|text| Template::parse(text, LONGEST_TEXT))
}

/// The same for a chart's values.
pub(super) fn fill_values(value: &mut Value, path: &str, source: &Source, context: &Context<'_>) -> Result<(), Cause> {
    fill_with(value, path, source, context, &Template::parse_value)
}

fn fill_with(
    value: &mut Value,
    path: &str,
    source: &Source,
    context: &Context<'_>,
    parse: &impl Fn(&str) -> Result<Template, BrokenRule>,
) -> Result<(), Cause> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::Array(items) => {
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(index, item)| fill_with(item, &format!("{path}[{index}]"), source, context, parse))
        }
        Value::Object(entries) => {
            let mut entries = entries.iter_mut();
            entries.try_for_each(|(key, item)| {
                fill_with(item, &join(path, &super::outline::shown(key)), source, context, parse)
            })
        }
        Value::String(text) => {
            if text.contains("{{") {
                let template = parse(text).map_err(|rule| source.refuse(path, rule.to_string()))?;
                *text = context.fill(&template);
            }
            Ok(())
        }
    }
}
