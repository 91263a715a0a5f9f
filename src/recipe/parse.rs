//! `.preview.yaml` as text to a [`Recipe`], or to the one sentence that says what is wrong in which line.
//!
//! The text is read twice: as any YAML, which finds what is malformed and where everything stands, and then as a recipe,
//! whose types have the rules. No error text of the YAML library is passed on: it may quote the file.

use serde_json::Value;
use serde_saphyr::{Error, Location};

use super::{
    format::Recipe,
    mistakes::{Findings, Mistakes},
    outline::{Outline, join, shown, with_doubles, yaml_options},
};
use crate::environment::Cause;

/// The longest recipe, in bytes.
const LONGEST_RECIPE: usize = 64 * 1_024;

/// The field that is named where the file as a whole breaks a rule.
const WHOLE_FILE: &str = "the recipe";
/// The rule of every YAML file that is somebody's own.
pub(super) const KEY_TWICE: &str = "has the same key twice in one mapping";

impl Recipe {
    /// The recipe that `text` says, which came from `file`.
    ///
    /// # Errors
    ///
    /// [`Cause::InvalidRecipe`] for each line and dotted field that breaks a rule.
    pub fn parse(file: &str, text: &str) -> Result<Self, Mistakes> {
        match Self::read(file, text) {
            (_, Some(mistakes)) => Err(mistakes),
            (recipe, None) => recipe.ok_or_else(|| refuse(file, 1, "", "is not one").into()),
        }
    }

    /// The same as far as it can be read, without what breaks a rule; and what is wrong. There is none where what is left
    /// would be another recipe.
    pub fn read(file: &str, text: &str) -> (Option<Self>, Option<Mistakes>) {
        let mut findings = Findings::default();
        let recipe = Self::read_into(file, text, &mut findings);
        (recipe, findings.into_notes().err())
    }

    fn read_into(file: &str, text: &str, findings: &mut Findings) -> Option<Self> {
        if text.len() > LONGEST_RECIPE {
            let rule = format!("must be at most {} KiB long", LONGEST_RECIPE / 1_024);
            findings.refuse(refuse(file, 1, "", rule));
            return None;
        }
        let outline = match Outline::read(text) {
            Ok(outline) => outline,
            Err(error) => {
                let line = location_of(&error).line();
                findings.refuse(refuse(file, line, "", malformation(&error, text, line)));
                return None;
            }
        };
        outline.doubles().into_iter().for_each(|line| findings.refuse(refuse(file, line, "", KEY_TWICE)));
        let source = outline.source(file);
        let mut told = Told::default();
        let mut recipe = match from_text(text, &outline) {
            Ok(recipe) => recipe,
            Err(broken) => {
                findings.refuse(refuse(file, broken.line, &broken.field, broken.rule.clone()));
                let mut more = Vec::new();
                let left =
                    without_mistakes(text, broken, &mut told, |field, rule| more.push(source.refuse(field, rule)));
                // What is left is read in another order than it was written.
                more.sort_by_key(|cause| if let Cause::InvalidRecipe { line, .. } = cause { *line } else { 0 });
                more.into_iter().for_each(|cause| findings.refuse(cause));
                left?
            }
        };
        recipe.source = source;
        if ["app", "manifests", "helm"].into_iter().any(|content| told.has(content)) {
            return None;
        }
        for (field, rule) in recipe.check() {
            if !told.has(&field) {
                findings.refuse(recipe.refuse(&field, rule));
            }
        }
        (recipe.content().is_some() && !told.is_of_what_is_named()).then_some(recipe)
    }
}

fn refuse(file: &str, line: u64, field: &str, rule: impl Into<String>) -> Cause {
    let field = if field.is_empty() { WHOLE_FILE } else { field };
    Cause::InvalidRecipe { file: file.to_owned(), line: line.max(1), field: field.to_owned(), rule: rule.into() }
}

/// A field that breaks a rule.
struct Broken {
    line: u64,
    field: String,
    rule: String,
    /// What has to go for everything else to be read: the field, or what misses it.
    culprit: String,
    /// What an unknown key was probably meant to be.
    meant: Option<String>,
}

fn from_text(text: &str, outline: &Outline) -> Result<Recipe, Broken> {
    let options = if outline.doubles().is_empty() { yaml_options() } else { with_doubles(yaml_options()) };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = location_of(&error);
        let (field, rule) = broken_rule(&error, location, outline);
        let culprit = if is_missing(&error) { parent_of(&field).to_owned() } else { field.clone() };
        let meant = rule.split_once("did you mean ").map(|(_, meant)| meant.trim_end_matches('?').to_owned());
        Broken { line: location.line(), field, rule, culprit, meant }
    })
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn is_missing(error: &Error) -> bool {
    match error {
        Error::AliasError { error, .. } => is_missing(error),
        Error::SerdeMissingField { .. } => true,
        _ => false,
    }
}

/// The fields of which something was said, and which are not there any more: that they are missing is no other mistake.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn has(&self, field: &str) -> bool {
        self.0.iter().any(|told| told == field)
    }

    /// Whether it is of what names files, or Services in them.
    fn is_of_what_is_named(&self) -> bool {
        let of = |told: &String, field: &str| told.strip_prefix(field).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.0.iter().any(|told| ["expose", "manifests", "helm"].iter().any(|field| told == field || of(told, field)))
    }

    /// `field` of what is left, as it was in the file: items of lists move up when one before them goes.
    fn in_file(&self, field: &str) -> String {
        let moved = |field: String, told: &String| {
            let Some((list, index)) = told.strip_suffix(']').and_then(|told| told.rsplit_once('[')) else {
                return field;
            };
            let Some((at, rest)) = field.strip_prefix(&format!("{list}[")).and_then(|rest| rest.split_once(']')) else {
                return field;
            };
            match (at.parse::<usize>(), index.parse::<usize>()) {
                (Ok(at), Ok(index)) if at >= index => format!("{list}[{}]{rest}", at + 1),
                _ => field,
            }
        };
        self.0.iter().rev().fold(field.to_owned(), moved)
    }
}

/// Reads what is left of `text` without what breaks a rule, over and over, because types tell their first mistake alone.
fn without_mistakes(
    text: &str,
    first: Broken,
    told: &mut Told,
    mut refuse: impl FnMut(&str, String),
) -> Option<Recipe> {
    let mut document: Value = serde_saphyr::from_str_with_options(text, with_doubles(yaml_options())).ok()?;
    let mut broken = first;
    // Each time one thing less is there.
    for _ in 0..MOST_ROUNDS {
        if broken.field == "version" {
            // There is no other.
            document.as_object_mut()?.insert("version".to_owned(), 1.into());
        } else if broken.culprit.is_empty() || !take_out(&mut document, "", &broken.culprit) {
            return None;
        }
        told.0.extend(broken.meant);
        told.0.push(broken.culprit);
        let text = document.to_string();
        broken = match from_text(&text, &Outline::read(&text).ok()?) {
            Ok(recipe) => return Some(recipe),
            Err(next) => next,
        };
        if !told.has(&broken.field) {
            refuse(&told.in_file(&broken.field), broken.rule.clone());
        }
    }
    None
}

/// More mistakes than anybody reads at once.
const MOST_ROUNDS: usize = 30;

/// Takes what stands at `path` out of `value`, which stands at `at`. Gives whether it was there.
fn take_out(value: &mut Value, at: &str, path: &str) -> bool {
    let is_above = |place: &str| path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['.', '[']));
    match value {
        Value::Object(entries) => {
            let place = |key: &str| join(at, &shown(key));
            if let Some(key) = entries.keys().find(|key| place(key) == path).cloned() {
                return entries.remove(&key).is_some();
            }
            entries.iter_mut().any(|(key, value)| {
                let place = join(at, &shown(key));
                is_above(&place) && take_out(value, &place, path)
            })
        }
        Value::Array(items) => {
            let place = |index: usize| format!("{at}[{index}]");
            if let Some(index) = (0..items.len()).find(|index| place(*index) == path) {
                items.remove(index);
                return true;
            }
            items.iter_mut().enumerate().any(|(index, value)| {
                let place = format!("{at}[{index}]");
                is_above(&place) && take_out(value, &place, path)
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The line in which `text` is no YAML as it must be, and the rule that it breaks.
pub(super) fn malformed(error: &Error, text: &str) -> (u64, String) {
    let line = location_of(error).line();
    (line, malformation(error, text, line))
}

/// Where `error` is; for what an alias brought, where the alias stands.
fn location_of(error: &Error) -> Location {
    error.locations().map_or(Location::UNKNOWN, |locations| locations.reference_location)
}

/// The rule that YAML of no shape at all breaks.
fn malformation(error: &Error, text: &str, line: u64) -> String {
    let rule = match error {
        Error::AliasError { error, .. } => return malformation(error, text, line),
        Error::DuplicateMappingKey { .. } => KEY_TWICE,
        Error::MultipleDocuments { .. } => "must be a single YAML document",
        Error::UnknownAnchor { .. } => "uses a YAML alias that is not defined before it",
        Error::RecursiveReferencesRequireWeakTypes { .. } => "uses a YAML alias inside of what it stands for",
        Error::MergeKeyNotAllowed { .. } => "must not use YAML's merge key <<",
        Error::UnsupportedTag { .. } => "must not use YAML tags",
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "is too large or too deep, its YAML aliases expanded",
        _ if is_indented_with_tab(text, line) => "is not valid YAML: indent with spaces, not with tabs",
        _ => "is not valid YAML",
    };
    rule.to_owned()
}

/// Whether a tab indents `line` or the one after it: a scanner notices at either.
fn is_indented_with_tab(text: &str, line: u64) -> bool {
    let before = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    text.lines().skip(before).take(2).any(|line| line.trim_start_matches(' ').starts_with('\t'))
}

/// The field at `location`, and the rule that it breaks.
fn broken_rule(error: &Error, location: Location, outline: &Outline) -> (String, String) {
    let at_value = |rule: &str| (outline.value_at(location).to_owned(), rule.to_owned());
    match error {
        Error::AliasError { error, .. } => broken_rule(error, location, outline),
        // Only the rules of our own types come as free text. They are about keys and scalars, never about a mapping,
        // which begins where its first key does.
        Error::Message { msg, .. } => (outline.key_at(location).to_owned(), msg.clone()),
        Error::SerdeUnknownField { field, expected, .. } => {
            let path = outline.key_at(location);
            let rule = unknown_key(path, field, expected);
            (path.to_owned(), rule)
        }
        Error::SerdeMissingField { field, .. } => (join(outline.mapping_at(location), field), "must be set".to_owned()),
        // Of a mapping the library tells where it begins, of everything else where its key is.
        Error::SerdeInvalidType { expected, unexpected, .. } if unexpected == "map" => {
            at_value(&format!("must be {expected}"))
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            (outline.key_at(location).to_owned(), format!("must be {expected}"))
        }
        Error::Eof { .. } => at_value("is empty"),
        Error::Unexpected { expected: "mapping start", .. } => at_value("must be a mapping of keys to values"),
        Error::Unexpected { expected: "sequence start", .. } => at_value("must be a list"),
        Error::Unexpected { expected: "string scalar", .. } | Error::NullIntoString { .. } => {
            at_value("must be text; put it in quotes where it begins with {{")
        }
        _ => at_value("has a value of another kind than it must have"),
    }
}

fn unknown_key(path: &str, key: &str, known: &[&str]) -> String {
    let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    match nearest(key, known) {
        Some(near) => format!("is not a known key; did you mean {}?", join(parent, near)),
        None => format!("is not a known key; there are {}", known.join(", ")),
    }
}

/// Which of `known` is most like `word`, if any is like it at all: a third of it may differ.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let longest = known.iter().map(|known| known.len()).max()?;
    if word.len() > 2 * longest {
        return None;
    }
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    let near = known.iter().copied().min_by_key(|known| distance(known))?;
    (distance(near) <= near.len().div_ceil(3)).then_some(near)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "version: 1\napp:\n  image: shop:{{ sha }}\n  port: 8080\n";

    /// The line, the field and the rule that `text` breaks.
    fn refusal(text: &str) -> (u64, String, String) {
        match Recipe::parse(".preview.yaml", text).map_err(|mistakes| mistakes.first().clone()) {
            Err(Cause::InvalidRecipe { file, line, field, rule }) => {
                assert_eq!(file, ".preview.yaml");
                (line, field, rule)
            }
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    fn assert_refused(table: &[(&str, u64, &str, &str)]) {
        for (text, line, field, rule) in table {
            assert_eq!(refusal(text), (*line, (*field).to_owned(), (*rule).to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let recipe = Recipe::parse(".preview.yaml", VALID).expect("a recipe");
        let app = recipe.app.as_ref().expect("an app");
        assert_eq!(app.port.expect("a port").get(), 8080);
        assert_eq!(app.health, None);
        assert_eq!(app.replicas.get(), 1);
        assert_eq!(app.resources.cpu, None);
        let again: Recipe = serde_json::from_str(&serde_json::to_string(&recipe).expect("JSON")).expect("a recipe");
        assert_eq!(again, recipe);
    }

    #[test]
    fn the_example_is_valid() {
        let recipe = Recipe::parse("app.preview.yaml", include_str!("../../examples/app.preview.yaml"));
        assert_eq!(recipe.expect("a recipe").app.expect("an app").env.len(), 3);
    }

    #[test]
    fn plain_scalars_are_taken_as_they_are_written() {
        let text = format!("{VALID}  env: {{ A: 010, B: yes, C: 1_0, D: 1e3, E: '' }}\n");
        let recipe = Recipe::parse(".preview.yaml", &text).expect("a recipe");
        let values: Vec<_> =
            recipe.app.iter().flat_map(|app| app.env.values()).map(|value| value.render(|_| "".into())).collect();
        assert_eq!(values, ["010", "yes", "1_0", "1e3", ""]);
    }

    #[test]
    fn aliases_are_there_for_people() {
        let text = format!("{VALID}  env: {{ A: &text hello, B: *text }}\n");
        assert!(Recipe::parse(".preview.yaml", &text).is_ok());
    }

    #[test]
    fn malformed_yaml_is_refused_with_its_line() {
        assert_refused(&[
            ("version: 1\napp: {image: x\n", 2, "the recipe", "is not valid YAML"),
            ("version: 1\napp:\n  image: \"x\n  y\n", 3, "the recipe", "is not valid YAML"),
            ("version: 1\napp:\n  image: x: y\n", 3, "the recipe", "is not valid YAML"),
            ("version: 1\napp:\n  image: x\n port: 3\n", 4, "the recipe", "is not valid YAML"),
            ("version: 1\n\tapp: 2", 1, "the recipe", "is not valid YAML: indent with spaces, not with tabs"),
            ("version: 1\nversion: 2\n", 2, "the recipe", "has the same key twice in one mapping"),
            ("version: 1\napp:\n  image: x\n  image: y\n", 4, "the recipe", "has the same key twice in one mapping"),
            ("version: 1\n---\nversion: 2\n", 3, "the recipe", "must be a single YAML document"),
            ("app: &x\n  image: *y\n", 2, "the recipe", "uses a YAML alias that is not defined before it"),
            ("app: &a [*a]\n", 1, "the recipe", "uses a YAML alias inside of what it stands for"),
            ("app:\n  <<: {image: x}\n", 2, "the recipe", "must not use YAML's merge key <<"),
            ("app:\n  image: !file /etc/passwd\n", 2, "the recipe", "must not use YAML tags"),
        ]);
    }

    #[test]
    fn other_shapes_are_refused_with_their_line() {
        let mapping = "must be a mapping of keys to values";
        assert_refused(&[
            ("", 1, "the recipe", "is empty"),
            ("# nothing\n", 2, "the recipe", "is empty"),
            ("null", 1, "the recipe", mapping),
            ("hello", 1, "the recipe", mapping),
            ("[1]", 1, "the recipe", mapping),
            ("version: 1\napp: x\n", 2, "app", mapping),
            ("version: 1\napp: [x]\n", 2, "app", mapping),
            ("version: 1\napp:\n", 2, "app", "must be set, or manifests, or helm"),
            ("version: 1\n", 1, "app", "must be set, or manifests, or helm"),
            ("app: { image: x, port: 1 }\n", 1, "version", "must be set"),
            ("version: 1\napp:\n  image: x\n", 3, "app.port", "must be set"),
            ("version: 1\napp: { port: 1 }\n", 2, "app.image", "must be set"),
            ("? [a]\n: b\nversion: 1\n", 1, "?", "must be text; put it in quotes where it begins with {{"),
        ]);
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_one() {
        let keys = "image, port, health, env, command, args, replicas, resources, run_as, volumes";
        let all = "version, triggers, ttl, sleep_after, report, secrets, app, services, databases, setup, seed, manifests, helm, expose";
        let unknown = format!("is not a known key; there are {all}");
        assert_refused(&[
            ("1: 2\n", 1, "1", &unknown),
            ("version: 1\nkustomize: {}\n", 2, "kustomize", &unknown),
            ("versoin: 1\n", 1, "versoin", "is not a known key; did you mean version?"),
            (
                "version: 1\napp:\n  image: x\n  port: 1\n  helth: /\n",
                5,
                "app.helth",
                "is not a known key; did you mean app.health?",
            ),
            ("version: 1\napp:\n  network: []\n", 3, "app.network", &format!("is not a known key; there are {keys}")),
            (
                "version: 1\napp:\n  image: x\n  port: 1\n  resources:\n    mem: 1Gi\n",
                6,
                "app.resources.mem",
                "is not a known key; there are cpu, memory",
            ),
        ]);
    }

    #[test]
    fn values_are_refused_with_their_rule() {
        let text = "must be text; put it in quotes where it begins with {{";
        let port = "must be a number from 1 to 65535";
        let path = "must be a path that begins with /, without spaces";
        let name = "must be a name of letters, digits and _ that does not begin with a digit";
        let cpu = "must be an amount of CPU such as 500m, 0.5 or 1";
        let memory = "must be an amount of bytes such as 512Mi, 1Gi or 1G";
        let table: &[(&str, u64, &str, &str)] = &[
            ("port: 0", 5, "port", port),
            ("port: 65536", 5, "port", port),
            ("port: -1", 5, "port", port),
            ("port: 1.5", 5, "port", port),
            ("port: http", 5, "port", port),
            ("port: 99999999999999999999999999999999999999999", 5, "port", port),
            ("port: [80]", 5, "port", port),
            ("port:", 5, "port", "must be set"),
            ("port: { a: 1 }", 5, "port", port),
            ("port:\n    a: 1", 6, "port", port),
            ("resources:\n    cpu:\n      a: 1", 7, "resources.cpu", cpu),
            ("health: healthz", 5, "health", path),
            ("health: /a b", 5, "health", path),
            ("health: [/]", 5, "health", text),
            ("health: ~", 5, "health", text),
            ("env: [A]", 5, "env", "must be a mapping of keys to values"),
            ("env:\n    A: 1\n    B-C: 2", 7, "env.B-C", name),
            ("env:\n    1A: 1", 6, "env.1A", name),
            ("env:\n    A: [1]", 6, "env.A", text),
            ("env:\n    A: {{ sha }}", 6, "env.A", text),
            ("env:\n    A:\n", 6, "env.A", text),
            ("env:\n    A: \"{{ shaa }}\"", 6, "env.A", "uses an unknown variable; did you mean {{ sha }}?"),
            ("env:\n    A: hello {{ sha", 6, "env.A", "has a {{ without its }}"),
            ("command: serve", 5, "command", "must be a list"),
            (
                "args: [a, \"{% if %}\"]",
                5,
                "args[1]",
                "must not contain {% or {#; a template has only variables, as in {{ sha }}",
            ),
            ("args:\n    - a\n    - [b]", 7, "args[1]", text),
            ("replicas: 0", 5, "replicas", "must be a number from 1 to 10"),
            ("replicas: 11", 5, "replicas", "must be a number from 1 to 10"),
            ("run_as: 0", 5, "run_as", "must be a number from 1 to 2147483647"),
            ("resources: { cpu: 1 core }", 5, "resources.cpu", cpu),
            ("resources: { cpu: [1] }", 5, "resources.cpu", cpu),
            ("resources: { cpu: 0 }", 5, "resources.cpu", "must be more than 0"),
            ("resources: { cpu: -1 }", 5, "resources.cpu", cpu),
            ("resources: { memory: 1MB }", 5, "resources.memory", memory),
            ("resources: { memory: 128m }", 5, "resources.memory", "must be at least 4Mi"),
            ("resources: { memory: true }", 5, "resources.memory", memory),
        ];
        for (lines, line, field, rule) in table {
            let port = if lines.starts_with("port") { "" } else { "  port: 80\n" };
            let line = if port.is_empty() { line - 1 } else { *line };
            let text = format!("version: 1\napp:\n  image: x\n{port}  {lines}\n");
            assert_eq!(refusal(&text), (line, format!("app.{field}"), (*rule).to_owned()), "{text}");
        }
        assert_refused(&[
            ("version: 2\napp: { image: x, port: 1 }\n", 1, "version", "must be 1"),
            ("version: 1\napp:\n  image: {{ sha }}\n  port: 1\n", 3, "app.image", text),
            ("version: 1\r\napp:\r\n  image: x\r\n  port: 0\r\n", 4, "app.port", port),
        ]);
    }

    /// The fields and lines of everything that is wrong.
    fn refusals(text: &str) -> Vec<(u64, String)> {
        let mistakes = Recipe::parse(".preview.yaml", text).expect_err("mistakes");
        let place = |cause: &Cause| match cause {
            Cause::InvalidRecipe { line, field, .. } => (*line, field.clone()),
            other => panic!("{other}"),
        };
        mistakes.causes().map(place).collect()
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        for (text, fields) in [
            (
                "version: 1\napp:\n  image: x\n  port: 0\n  helth: /\n  env:\n    A: [1]\n    B: '{{ shaa }}'\nkustomize: 1\n",
                vec![(4, "app.port"), (5, "app.helth"), (7, "app.env.A"), (8, "app.env.B"), (9, "kustomize")],
            ),
            // What is taken for a misspelling is not missing as well.
            ("version: 1\napp:\n  imgae: x\n  port: 1\n  replicas: 0\n", vec![(3, "app.imgae"), (5, "app.replicas")]),
            ("version: 1\napp:\n  image: x\n  prot: 1\nttl: soon\n", vec![(4, "app.prot"), (5, "ttl")]),
            // Nothing follows from what is not there.
            (
                "app: { image: 1, port: x }\nservices: { app: { image: x } }\n",
                vec![(1, "app.port"), (1, "version"), (2, "services.app")],
            ),
            (
                "version: 3\nmanifests: [../a, k8s, /abs]\nsetup: {}\n",
                vec![(1, "version"), (2, "manifests[0]"), (2, "manifests[2]"), (3, "setup")],
            ),
            (
                "version: 1\nversion: 1\nhelm: { chart: ./a }\ndatabases: { db: { engine: oracle, version: 1 } }\n",
                vec![(2, "the recipe"), (4, "databases.db.engine")],
            ),
        ] {
            let fields: Vec<_> = fields.into_iter().map(|(line, field)| (line, field.to_owned())).collect();
            assert_eq!(refusals(text), fields, "{text}");
        }
    }

    #[test]
    fn an_alias_is_refused_where_it_stands() {
        let text = format!("{VALID}  env:\n    A: &path no-slash\n  health: *path\n");
        let (line, field, rule) = refusal(&text);
        assert_eq!((line, field.as_str()), (7, "app.health"));
        assert_eq!(rule, "must be a path that begins with /, without spaces");
    }

    #[test]
    fn keys_of_somebody_else_are_harmless_and_short() {
        let (_, field, _) = refusal(&format!("version: 1\n\"@everyone [x](https://evil) {}\": 1\n", "a".repeat(500)));
        assert_eq!(field, "?everyone ?x??https???evil? aaaaaaaaaaaa".replace(' ', "?"));
        assert_eq!(nearest("", &["version"]), None);
    }

    /// Lines that look like a recipe, with a mark wherever somebody else's text may stand.
    fn recipe_like() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "version: 1",
            "app:",
            "image:",
            "port:",
            "env:",
            "args:",
            "resources:",
            "cpu:",
            "{{ sha }}",
            "{{",
            "}}",
            "{%",
            ":",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "&a",
            "*a",
            "!!binary",
            "!x",
            "<<:",
            "|",
            ">",
            "\"",
            "'",
            "#",
            "\n",
            "\n  ",
            "\n    ",
            "\t",
            "---",
            "0",
            "1.5",
            "~",
            "marker@evil",
            "\u{0}",
            "\u{feff}",
            "é",
            "? ",
            "%YAML",
        ]);
        prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.join(" "))
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            let _ = Recipe::parse(".preview.yaml", &text);
        }

        #[test]
        fn no_value_is_echoed(text in recipe_like()) {
            for cause in Recipe::parse(".preview.yaml", &text).err().iter().flat_map(Mistakes::causes) {
                prop_assert!(!cause.to_string().contains("marker@evil"), "{}", cause);
                prop_assert!(cause.to_string().len() < 1_000, "{}", cause);
            }
        }
    }
}
