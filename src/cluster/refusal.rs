//! The API server's refusals, read for what they mean.
//!
//! Their texts quote values of objects, so they are only searched: for words that are known beforehand, and for names
//! and figures of a strict form. The sentences are previewd's own. The sources are named with each form; where a text
//! has none of them, a general sentence stands.

use kube::core::response::StatusCause;

use crate::environment::{Cause, is_dns_label};

/// What a refusal means for what was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something that the cluster sets up by itself is not there yet.
    Wait(&'static str),
    Refused(Cause),
}

/// Whether a 403 is about previewd's own permissions: the form of k8s.io/apiserver's `responsewriters.Forbidden`.
pub(super) fn is_missing_permission(message: &str) -> bool {
    message.contains("is forbidden: User \"") || message.starts_with("forbidden: User \"")
}

/// A 403 of an admission plugin.
pub(super) fn of_admission(kind: &str, name: &str, message: &str) -> Verdict {
    let refused =
        |rule: String| Verdict::Refused(Cause::ObjectRefused { kind: kind.to_owned(), name: name.to_owned(), rule });
    if let Some((_, figures)) = message.split_once("exceeded quota: ") {
        return match exceeded_quota(figures) {
            Some(cause) => Verdict::Refused(cause),
            None => refused("it exceeds the environment's quota".to_owned()),
        };
    }
    if message.contains("status unknown for quota: ") {
        return Verdict::Wait("the cluster has not counted the environment's quota yet");
    }
    if let Some((_, rest)) = message.split_once("failed quota: ") {
        return refused(unstated_resources(rest));
    }
    if let Some((_, rest)) = message.split_once("violates PodSecurity ") {
        return refused(pod_security(rest));
    }
    if let Some(rule) = limit_range(message) {
        return refused(rule);
    }
    if message.contains("error looking up service account ") {
        if message.contains("/default: ") {
            return Verdict::Wait("the cluster has not made the namespace's default service account yet");
        }
        return refused("its service account does not exist".to_owned());
    }
    if let Some(policy) = policy(message) {
        return refused(format!("the cluster's policy {policy} denies it"));
    }
    refused("a rule of the cluster denies it".to_owned())
}

/// The message of a ReplicaFailure condition: the error that the ReplicaSet controller got for a pod.
pub(super) fn of_pod_creation(deployment: &str, message: &str) -> Verdict {
    if message.contains("because it is being terminated") {
        return Verdict::Wait("the namespace is being removed");
    }
    if message.contains(" is forbidden: ") || message.contains(" denied the request") {
        return of_admission("Deployment", deployment, message);
    }
    if message.contains(" is invalid: ") {
        let (kind, name) = ("Deployment".to_owned(), deployment.to_owned());
        return Verdict::Refused(Cause::ObjectRefused { kind, name, rule: "its pods are not valid".to_owned() });
    }
    Verdict::Wait("the cluster cannot make its pods now")
}

/// A 422: the first field that is wrong, and how many more are.
pub(super) fn of_validation(kind: &str, name: &str, message: &str, causes: &[StatusCause]) -> Cause {
    let wrong: Vec<_> = causes.iter().filter(|cause| is_field_path(&cause.field)).collect();
    let rule = match (wrong.first(), policy(message)) {
        (_, Some(policy)) => format!("the cluster's policy {policy} denies it"),
        (Some(first), None) => {
            let more = match wrong.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            // A ConfigMap that is too large is so as a whole, which is named `[]`.
            let field = if first.field.contains(char::is_alphabetic) { &first.field } else { "it" };
            format!("{field} {}{more}", field_rule(first))
        }
        (None, None) => "it is not valid".to_owned(),
    };
    Cause::ObjectRefused { kind: kind.to_owned(), name: name.to_owned(), rule }
}

/// Whether a 422 is about a field that is set for good: `ValidateImmutableField` of k8s.io/apimachinery, and the words of
/// k8s.io/kubernetes' `ValidateStatefulSetUpdate` and `ValidatePersistentVolumeClaimUpdate`.
pub(super) fn is_immutable(message: &str) -> bool {
    ["field is immutable", "updates to statefulset spec for fields other than", "spec is immutable after creation"]
        .into_iter()
        .any(|words| message.contains(words))
}

/// k8s.io/apimachinery's `field.ErrorType`, and the words of `ValidateImmutableField`.
fn field_rule(cause: &StatusCause) -> &'static str {
    match cause.reason.as_str() {
        "FieldValueRequired" => "must be set",
        "FieldValueInvalid" if cause.message.contains("field is immutable") => "cannot be changed once it is set",
        "FieldValueNotSupported" => "has a value that is not supported",
        "FieldValueDuplicate" => "is there twice",
        "FieldValueForbidden" => "may not be set or changed",
        "FieldValueTooLong" => "is too long",
        "FieldValueTooMany" => "has too many items",
        "FieldValueTypeInvalid" => "has a value of the wrong type",
        "FieldValueNotFound" => "names something that does not exist",
        _ => "has a value that is not valid",
    }
}

/// Whether server-side apply found fields that the kind does not have: `failed to create typed patch object (…)`.
pub(super) fn is_schema_violation(message: &str) -> bool {
    message.contains("failed to create typed patch object")
}

pub(super) fn schema_rule(message: &str) -> String {
    let field = message.split(": ").find_map(|part| part.strip_prefix('.')).filter(|field| is_field_path(field));
    match field {
        Some(field) if message.contains("field not declared in schema") => format!("it has no field {field}"),
        Some(field) => format!("{field} has a value of the wrong type"),
        None => "it does not have the form of its kind".to_owned(),
    }
}

/// `NAME, requested: limits.cpu=1,…, used: limits.cpu=0,…, limited: limits.cpu=500m,…`: k8s.io/apiserver's
/// resourcequota plugin. The first resource counts.
fn exceeded_quota(figures: &str) -> Option<Cause> {
    let (_, figures) = figures.split_once(", requested: ")?;
    let (requested, figures) = figures.split_once(", used: ")?;
    let (used, limited) = figures.split_once(", limited: ")?;
    let first = |figures: &str| {
        let (resource, figure) = figures.split(',').next()?.trim().split_once('=')?;
        (is_resource(resource) && is_quantity(figure)).then(|| (resource.to_owned(), figure.to_owned()))
    };
    let ((resource, requested), (_, used), (limited_resource, allowed)) =
        (first(requested)?, first(used)?, first(limited)?);
    if resource != limited_resource {
        return None;
    }
    let needed = if used == "0" { requested } else { format!("{requested} (besides {used} in use)") };
    Some(Cause::QuotaExceeded { resource, needed, allowed })
}

/// `NAME: must specify limits.cpu for: app; …`
fn unstated_resources(rest: &str) -> String {
    const KNOWN: [&str; 6] = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "cpu", "memory"];
    let words: Vec<&str> = rest.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':')).collect();
    let missing: Vec<&str> = KNOWN.into_iter().filter(|resource| words.contains(resource)).collect();
    if missing.is_empty() {
        return "it does not state what the environment's quota counts".to_owned();
    }
    format!("every container must state {}", missing.join(", "))
}

/// What each check of the profiles asks for, by its `ForbiddenReason`: k8s.io/pod-security-admission, `policy/check_*`.
const POD_SECURITY_CHECKS: [(&str, &str); 19] = [
    ("allowPrivilegeEscalation != false", "allowPrivilegeEscalation must be false"),
    ("unrestricted capabilities", "capabilities must drop ALL and add at most NET_BIND_SERVICE"),
    ("non-default capabilities", "no capabilities may be added"),
    ("runAsNonRoot != true", "runAsNonRoot must be true"),
    ("runAsUser=0", "runAsUser must not be 0"),
    ("seccompProfile", "seccompProfile must be RuntimeDefault or Localhost"),
    ("privileged", "privileged must not be set"),
    ("host namespaces", "hostNetwork, hostPID and hostIPC must not be set"),
    ("hostPort", "hostPort must not be set"),
    ("hostPath volumes", "hostPath volumes are not allowed"),
    ("restricted volume types", "a volume is of a type that is not allowed"),
    ("procMount", "procMount must be Default"),
    ("seLinuxOptions", "seLinuxOptions may not be set so"),
    ("forbidden sysctls", "a sysctl is not a safe one"),
    ("forbidden AppArmor profile", "the AppArmor profile is not allowed"),
    ("forbidden AppArmor profiles", "the AppArmor profiles are not allowed"),
    ("hostProcess", "hostProcess must not be set"),
    ("probe or lifecycle host", "probes and lifecycle hooks must not name a host"),
    ("unknown forbidden reason", "a check of the profile fails"),
];

/// `"restricted:latest": REASON (details), REASON (details)`
fn pod_security(rest: &str) -> String {
    let reasons = outside_parentheses(rest);
    let reasons: Vec<&str> = reasons.split_once("\": ").map_or("", |(_, r)| r).split(',').map(str::trim).collect();
    let asked: Vec<&str> = POD_SECURITY_CHECKS
        .into_iter()
        .filter(|(reason, _)| reasons.contains(reason))
        .map(|(_, asked)| asked)
        .collect();
    if asked.is_empty() {
        return "it breaks the Pod Security profile of the environment".to_owned();
    }
    format!("the Pod Security profile asks that {}", asked.join("; "))
}

fn outside_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::new();
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(character),
            _ => {}
        }
    }
    kept
}

/// `maximum cpu usage per Container is 200m, but limit is 500m`: the limitranger plugin.
fn limit_range(message: &str) -> Option<String> {
    let (bound, rest) = ["maximum", "minimum"].into_iter().find_map(|bound| {
        let (_, rest) = message.split_once(bound)?;
        Some((bound, rest))
    })?;
    let mut words = rest.split([' ', ',']).filter(|word| !word.is_empty());
    let resource = words.next().filter(|word| is_resource(word))?;
    if (words.next()?, words.next()?) != ("usage", "per") {
        return None;
    }
    let whole = words.next().filter(|word| matches!(*word, "Container" | "Pod" | "PersistentVolumeClaim"))?;
    let enforced = words.nth(1).map(|word| word.trim_end_matches('.')).filter(|word| is_quantity(word))?;
    let asked = rest.split_once(", but ").and_then(|(_, but)| {
        let mut words = but.split([' ', ',', ']']);
        let what = words.next().filter(|word| matches!(*word, "limit" | "request"))?;
        let figure = words.nth(1).filter(|word| is_quantity(word))?;
        Some(format!(", and its {what} is {figure}"))
    });
    Some(format!("the {bound} of {resource} per {whole} is {enforced}{}", asked.unwrap_or_default()))
}

/// The name of the webhook or policy that denied it: k8s.io/apiserver's `webhook.ToStatusErr` and the
/// validatingadmissionpolicy plugin.
fn policy(message: &str) -> Option<&str> {
    let quoted = |before: &str, quote: char| {
        let (_, rest) = message.split_once(before)?;
        let (name, _) = rest.split_once(quote)?;
        (name.len() <= 253 && name.split('.').all(is_dns_label)).then_some(name)
    };
    quoted("admission webhook \"", '"').or_else(|| quoted("ValidatingAdmissionPolicy '", '\''))
}

/// `spec.template.spec.containers[0].image`, with label keys in brackets.
fn is_field_path(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'[' | b']' | b'-' | b'_' | b'/');
    !text.is_empty() && text.len() <= 200 && text.bytes().all(allowed)
}

/// `limits.cpu`, `requests.storage`, `count/jobs.batch`
fn is_resource(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'/' | b'-');
    !text.is_empty() && text.len() <= 100 && text.bytes().all(allowed)
}

/// `500m`, `1536Mi`, `1e3`: what `resource.Quantity` prints.
fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[digits.len()..];
    !digits.is_empty()
        && text.len() <= 24
        && suffix.len() <= 2
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e'))
}
