//! Text of a recipe with variables in it: `ghcr.io/acme/shop:{{ sha }}`.
//!
//! Templates are written by whoever opens a pull request, so there is nothing in them but variables. Expressions,
//! filters and blocks of a template language could make gigabytes out of a line; a list of parts cannot, renders without
//! a way to fail, and says which variables it uses.

use std::{borrow::Cow, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{BrokenRule, parse::nearest};

/// The longest template, in bytes.
const LONGEST_TEMPLATE: usize = 4_096;

/// What a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The commit, 40 hexadecimal digits.
    Sha,
    /// The commit's first seven digits.
    ShortSha,
    /// The pull request's number.
    PullRequest,
    /// The pull request's branch. Text of somebody else: anything that Git allows.
    Branch,
    /// `owner/name`, lower-cased.
    Repository,
    /// The environment's namespace.
    Namespace,
    /// The host of the environment's URL, without a port.
    Host,
    /// The environment's URL.
    Url,
}

impl Variable {
    const NAMES: [(&str, Variable); 8] = [
        ("sha", Self::Sha),
        ("short_sha", Self::ShortSha),
        ("pull_request", Self::PullRequest),
        ("branch", Self::Branch),
        ("repository", Self::Repository),
        ("namespace", Self::Namespace),
        ("host", Self::Host),
        ("url", Self::Url),
    ];
}

/// Text with variables, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// As it was written.
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

impl Template {
    /// The text with every variable replaced by what `value` has for it. Values are not parsed again.
    pub fn render<'a>(&self, value: impl Fn(Variable) -> Cow<'a, str>) -> String {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Variable(variable) => rendered.push_str(&value(*variable)),
            }
        }
        rendered
    }

    pub fn uses(&self, variable: Variable) -> bool {
        self.parts.contains(&Part::Variable(variable))
    }

    /// Whether it renders differently for another commit.
    pub fn uses_commit(&self) -> bool {
        self.uses(Variable::Sha) || self.uses(Variable::ShortSha)
    }
}

impl FromStr for Template {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        Self::parse(text, LONGEST_TEMPLATE)
    }
}

impl Template {
    /// A template of at most `longest` bytes.
    pub fn parse(text: &str, longest: usize) -> Result<Self, BrokenRule> {
        if text.len() > longest {
            return Err(BrokenRule::new(format!("must be at most {longest} bytes long")));
        }
        if text.contains('\0') {
            return Err(BrokenRule::new("must not contain a NUL character"));
        }
        // Jinja's other delimiters stay free, so that they may get a meaning one day.
        if text.contains("{%") || text.contains("{#") {
            return Err(BrokenRule::new("must not contain {% or {#; a template has only variables, as in {{ sha }}"));
        }

        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(|| BrokenRule::new("has a {{ without its }}"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            // Jinja's way to write what begins a variable.
            parts.push(match name.trim() {
                "'{{'" | "\"{{\"" => Part::Text("{{".to_owned()),
                name => Part::Variable(parse_variable(name)?),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl Template {
    /// The same for a chart's values, where braces may be helm's: what is none of our variables stays as it is, but for
    /// plain words that are nearly one. A field (`.host`), a variable of Go's (`$host`) or a call never was meant as ours.
    pub(super) fn parse_value(text: &str) -> Result<Self, BrokenRule> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find("{{") {
            let (before, after) = rest.split_at(begin);
            let Some(end) = after.find("}}").map(|end| end + "}}".len()) else { break };
            let (braces, after) = after.split_at(end);
            let name = braces[2..end - 2].trim();
            parts.push(Part::Text(before.to_owned()));
            parts.push(match parse_variable(name) {
                Ok(variable) => Part::Variable(variable),
                Err(rule) if is_nearly_a_variable(name) => return Err(rule),
                Err(_) if matches!(name, "'{{'" | "\"{{\"") => Part::Text("{{".to_owned()),
                Err(_) => Part::Text(braces.to_owned()),
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self { text: text.to_owned(), parts })
    }
}

fn is_nearly_a_variable(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'));
    is_word && nearest(name, &Variable::NAMES.map(|(known, _)| known)).is_some()
}

fn parse_variable(name: &str) -> Result<Variable, BrokenRule> {
    if let Some((_, variable)) = Variable::NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*variable);
    }
    let names = Variable::NAMES.map(|(known, _)| known);
    let rule = match nearest(name, &names) {
        Some(near) => format!("uses an unknown variable; did you mean {{{{ {near} }}}}?"),
        None => format!("uses an unknown variable; there are {}", names.join(", ")),
    };
    Err(BrokenRule::new(rule))
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Variable::NAMES.map(|(name, _)| name).join(", ");
        json_schema!({
            "description": format!("Text with variables, as in {{{{ sha }}}}. There are {names}."),
            // YAML's bare numbers and booleans are taken as they are written.
            "type": ["string", "number", "boolean"],
            "maxLength": LONGEST_TEMPLATE,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let template: Template = text.parse().map_err(|error: BrokenRule| error.to_string())?;
        Ok(template.render(|variable| match variable {
            Variable::Branch => "{{ sha }}".into(),
            variable => format!("<{variable:?}>").into(),
        }))
    }

    #[test]
    fn variables_are_replaced_once() {
        assert_eq!(rendered("a:{{ sha }}{{short_sha}}"), Ok("a:<Sha><ShortSha>".to_owned()));
        assert_eq!(rendered("{{ pull_request }} {{ repository }}"), Ok("<PullRequest> <Repository>".to_owned()));
        assert_eq!(rendered("{{ namespace }} {{ host }} {{ url }}"), Ok("<Namespace> <Host> <Url>".to_owned()));
        assert_eq!(rendered("on {{ branch }}"), Ok("on {{ sha }}".to_owned()), "a value is no template");
        assert_eq!(rendered("{\"a\":{\"b\":1}}"), Ok("{\"a\":{\"b\":1}}".to_owned()));
        assert_eq!(rendered(""), Ok(String::new()));
    }

    #[test]
    fn everything_but_variables_is_refused() {
        for (text, rule) in [
            ("{{ shaa }}", "uses an unknown variable; did you mean {{ sha }}?"),
            ("{{ pullrequest }}", "uses an unknown variable; did you mean {{ pull_request }}?"),
            (
                "{{ secrets }}",
                "uses an unknown variable; there are sha, short_sha, pull_request, branch, repository, namespace, host, url",
            ),
            (
                "{{ 'a' * 100000000 }}",
                "uses an unknown variable; there are sha, short_sha, pull_request, branch, repository, namespace, host, url",
            ),
            ("{{ sha", "has a {{ without its }}"),
            ("{% for a in b %}", "must not contain {% or {#; a template has only variables, as in {{ sha }}"),
            ("a\0b", "must not contain a NUL character"),
        ] {
            assert_eq!(rendered(text), Err(rule.to_owned()));
        }
        assert_eq!(rendered(&"a".repeat(4_097)), Err("must be at most 4096 bytes long".to_owned()));
    }

    #[test]
    fn braces_of_values_are_ours_only_where_they_are_a_variable() {
        let value = |text: &str| {
            let template = Template::parse_value(text).map_err(|error| error.to_string())?;
            Ok::<_, String>(template.render(|variable| format!("<{variable:?}>").into()))
        };
        assert_eq!(value("a-{{sha}}").as_deref(), Ok("a-<Sha>"));
        let of_go = [".host", ".Host", ".hosts", "$host", "$.url", ".sha", ".Branch", ".Namespace", ".Release.Name"];
        for name in of_go.into_iter().chain(["host 1", "end", "- url -", "range .hosts"]) {
            let text = format!("x {{{{ {name} }}}} y");
            assert_eq!(value(&text).as_ref(), Ok(&text));
        }
        for name in ["shaa", "hosts", "pullrequest", "shortsha", "pull-request"] {
            assert!(value(&format!("{{{{ {name} }}}}")).is_err_and(|error| error.contains("did you mean")), "{name}");
        }
    }

    proptest! {
        #[test]
        fn templates_never_panic(text in "[{}%a-z \\PC]{0,60}") {
            let _ = text.parse::<Template>();
        }
    }
}
