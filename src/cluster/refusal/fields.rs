//! The fields that a refusal names, and what is to be written there.

use kube::core::response::StatusCause;

use super::is_set_for_good;

/// So many fields of one object are named in a sentence.
const MOST_NAMED: usize = 3;

/// A field of an object as the API server writes it, `spec.template.spec.containers[0].image` or
/// `.spec.template.spec.containers[name="shop"].env`, and the text after it. Keys in brackets keep their names, and lose
/// their quotation marks. None: the text does not begin with a field.
fn read_field(text: &str) -> Option<(String, &str)> {
    const LONGEST: usize = 200;
    let mut field = String::new();
    let mut rest = text.strip_prefix('.').unwrap_or(text);
    loop {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        let plain = rest.find(|c| !is_plain(c)).unwrap_or(rest.len());
        field.push_str(&rest[..plain]);
        rest = &rest[plain..];
        let Some(inside) = rest.strip_prefix('[') else { break };
        let (key, after) = inside.split_once(']')?;
        let key = key.replace('"', "");
        if !key.chars().all(|c| is_plain(c) || matches!(c, '=' | ',')) {
            return None;
        }
        field.push_str(&format!("[{key}]"));
        rest = after;
    }
    (!field.is_empty() && field.len() <= LONGEST).then_some((field, rest))
}

/// A text that is a field and nothing else.
pub(super) fn field_of(text: &str) -> Option<String> {
    read_field(text).filter(|(_, rest)| rest.is_empty()).map(|(field, _)| field)
}

/// `field` of what stands at `place` in the object that is named. Names are the object's own.
pub(super) fn placed(place: &str, field: &str) -> String {
    if place.is_empty() || field == "metadata.name" { field.to_owned() } else { format!("{place}.{field}") }
}

/// What validation says, in words of k8s.io/apimachinery and k8s.io/kubernetes, and what it means to whoever writes.
const VALIDATION: [(&str, &str); 16] = [
    ("RFC 1123 subdomain", "must be lower-case letters, digits, dashes and dots"),
    ("RFC 1123 label", "must be at most 63 lower-case letters, digits and dashes"),
    ("RFC 1035 label", "must be at most 63 lower-case letters, digits and dashes, the first of them a letter"),
    ("must be no more than 15 characters", "must be at most 15 lower-case letters, digits and dashes"),
    (
        "must contain at least one letter",
        "must be at most 15 lower-case letters, digits and dashes, one of them a letter",
    ),
    ("`selector` does not match template `labels`", "must be labels that spec.template.metadata.labels has"),
    ("must be less than or equal to", "must be at most the limit"),
    ("must be between 1 and 65535", "must be a number from 1 to 65535"),
    ("must be greater than or equal to 0", "must be 0 or more"),
    ("must be greater than zero", "must be more than 0"),
    ("must be greater than 0", "must be more than 0"),
    ("must be an absolute path", "must be a path that begins with /"),
    ("must be unique", "is there twice"),
    ("must be an IANA_SVC_NAME", "must be at most 15 lower-case letters, digits and dashes"),
    ("expected exactly 5 fields", "must be a schedule of five fields"),
    ("must be no more than 63 ", "must be at most 63 characters long"),
];

/// `Unsupported value: "Sometimes": supported values: "Always", "OnFailure"`. The values are the API server's own.
fn supported(message: &str) -> Option<String> {
    let (_, values) = message.split_once("supported values: ")?;
    let values: Vec<&str> = values.split(", ").filter_map(|value| value.strip_prefix('"')?.strip_suffix('"')).collect();
    let is_word =
        |value: &&str| !value.is_empty() && value.len() <= 40 && value.bytes().all(|b| b.is_ascii_alphanumeric());
    if values.is_empty() || !values.iter().all(is_word) {
        return None;
    }
    Some(format!("must be one of {}", values.join(", ")))
}

/// What is to be written where validation is not content: k8s.io/apimachinery's `field.ErrorType`, and the words of
/// `ValidateImmutableField`.
pub(super) fn rule_of(cause: &StatusCause) -> String {
    let message = &cause.message;
    // A value in it may choose among our sentences, and no more.
    let known = VALIDATION.iter().find(|(words, _)| message.contains(words));
    let rule = match cause.reason.as_str() {
        _ if message.contains(super::CANNOT_SHRINK) => "cannot be made smaller",
        _ if is_set_for_good(cause) => "cannot be changed once it is set",
        "FieldValueNotSupported" => match supported(message) {
            Some(rule) => return rule,
            None => "has a value that is not supported",
        },
        "FieldValueRequired" => "must be set",
        "FieldValueDuplicate" => "is there twice",
        "FieldValueForbidden" => "may not be set or changed",
        "FieldValueTooLong" => "is too long",
        "FieldValueTooMany" => "has too many items",
        "FieldValueTypeInvalid" => "has a value of the wrong type",
        "FieldValueNotFound" => "names something that does not exist",
        _ => known.map_or("has a value that is not valid", |(_, rule)| rule),
    };
    rule.to_owned()
}

/// Which fields do not have the form of the kind, and what is to be written there. None: the text is of something else.
/// `place` is where what was sent stands in the object that is named.
pub(in super::super) fn of_form(place: &str, message: &str) -> Option<String> {
    if let Some((_, problems)) = message.split_once("failed to create typed patch object ") {
        return Some(of_typed_patch(place, problems));
    }
    // encoding/json, which does not count the items of lists.
    if let Some((_, rest)) = message.split_once("json: cannot unmarshal ") {
        let (_, rest) = rest.split_once(" into Go struct field ")?;
        let (field, kind) = rest.split_once(" of type ")?;
        let field = field.split_once('.').and_then(|(_, field)| field_of(field))?;
        return Some(format!("{} {}", placed(place, &field), of_go_type(kind)));
    }
    if message.contains("quantities must match the regular expression") || message.contains("unable to parse quantity")
    {
        return Some("one of its amounts is none; write them as 100m or 128Mi".to_owned());
    }
    if message.contains("illegal base64 data") {
        return Some("data must be in base64; write text under stringData".to_owned());
    }
    None
}

fn of_go_type(kind: &str) -> &'static str {
    match kind {
        "string" => "must be text; put it in quotes",
        "bool" => "must be true or false, without quotes",
        "int" | "int32" | "int64" | "float64" => "must be a number, without quotes",
        kind if kind.starts_with("[]") => "must be a list",
        kind if kind.starts_with("map[") => "must be a mapping",
        // Types of Kubernetes' own.
        _ => "has a value of the wrong type",
    }
}

/// `(pr-7/web; apps/v1, Kind=Deployment): .spec.x: field not declared in schema`, or `errors:` and a line for each:
/// `ValidationErrors` of sigs.k8s.io/structured-merge-diff, `typed/helpers.go`, and what `typed/validate.go` says in it.
fn of_typed_patch(place: &str, problems: &str) -> String {
    let (_, problems) = problems.split_once("): ").unwrap_or(("", problems));
    let lines = problems.strip_prefix("errors:\n").unwrap_or(problems).lines();
    let mut rules: Vec<String> = lines.filter_map(|line| of_typed_problem(place, line.trim())).collect();
    rules.dedup();
    let more = rules.len().saturating_sub(MOST_NAMED);
    rules.truncate(MOST_NAMED);
    match (rules.is_empty(), more) {
        (true, _) => "it does not have the form of its kind".to_owned(),
        (false, 0) => rules.join("; "),
        (false, more) => format!("{} (and {more} more)", rules.join("; ")),
    }
}

fn of_typed_problem(place: &str, line: &str) -> Option<String> {
    // What does not begin so is no field, and may be a value.
    let (field, said) = line.starts_with('.').then(|| read_field(line))??;
    let (field, said) = (placed(place, &field), said.strip_prefix(": ")?);
    let rule = match said {
        _ if said.starts_with("field not declared in schema") => return Some(format!("it has no field {field}")),
        _ if said.starts_with("duplicate entries for key ") => {
            let key = said.strip_prefix("duplicate entries for key ").and_then(read_field);
            let key = key.map_or_else(|| "the same key".to_owned(), |(key, _)| key.replace(['[', ']'], ""));
            return Some(format!("{field} has two entries of {key}; leave one out"));
        }
        _ if said.starts_with("expected string") => "must be text; put it in quotes",
        _ if said.starts_with("expected numeric") => "must be a number, without quotes",
        _ if said.starts_with("expected boolean") => "must be true or false, without quotes",
        _ if said.starts_with("expected list") => "must be a list",
        _ if said.starts_with("expected map") => "must be a mapping",
        _ if said.contains("omits key field") => {
            let key = said.split_once("omits key field \"").and_then(|(_, key)| field_of(key.split_once('"')?.0));
            return Some(format!("each item of {field} must have {}", key.unwrap_or_else(|| "its key".to_owned())));
        }
        _ => "has a value of the wrong type",
    };
    Some(format!("{field} {rule}"))
}
