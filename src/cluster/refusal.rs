//! The API server's refusals, read for what they mean.
//!
//! Their texts quote values of objects, so they are only searched: for words that are known beforehand, and for names
//! and figures of a strict form. The sentences are previewd's own. The sources are named with each form; where a text
//! has none of them, a general sentence stands.

mod fields;

use kube::core::response::StatusCause;

pub(super) use fields::of_form;

use crate::{
    environment::{Cause, Obstacle, is_dns_label},
    recipe::SERVICE_ACCOUNT,
};

/// What a refusal means for what was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something of the cluster's that passes.
    Wait(Obstacle),
    Refused(Cause),
    /// A field that is set for good where the object stands.
    Immutable(Cause),
}

fn refused(kind: &str, name: &str, rule: impl Into<String>) -> Cause {
    Cause::ObjectRefused { kind: kind.to_owned(), name: name.to_owned(), rule: rule.into() }
}

/// Whether a 403 is about previewd's own permissions: the form of k8s.io/apiserver's `responsewriters.Forbidden`.
pub(super) fn is_missing_permission(message: &str) -> bool {
    message.contains("is forbidden: User \"") || message.starts_with("forbidden: User \"")
}

/// What a text says of the cluster's own troubles, whatever status it comes with: `ErrCallingWebhook` of
/// k8s.io/apiserver, its CRDs' conversions, its quota plugin, and its serviceaccount plugin in a new namespace.
pub(super) fn obstacle(message: &str) -> Option<Obstacle> {
    if let Some((_, rest)) = message.split_once("failed calling webhook ") {
        return Some(Obstacle::Webhook { name: quoted_name(rest).map(str::to_owned) });
    }
    if message.contains("conversion webhook for ") {
        return Some(Obstacle::Webhook { name: None });
    }
    if message.contains("status unknown for quota: ") || message.contains("resource quota evaluation timed out") {
        return Some(Obstacle::QuotaNotCounted);
    }
    // The recipe's own are another matter, where they are really missing.
    let is_ours = ["default", SERVICE_ACCOUNT].iter().any(|name| message.contains(&format!("/{name}: ")));
    if message.contains("error looking up service account ") && (is_ours || !message.contains("not found")) {
        return Some(Obstacle::NoServiceAccount);
    }
    None
}

/// Whether a webhook cannot be asked about what is only tried: `NewDryRunUnsupportedErr` of k8s.io/apiserver. Nobody denied
/// anything then.
pub(super) fn cannot_be_tried(message: &str) -> bool {
    message.starts_with("admission webhook \"")
        && message.ends_with("\" does not support dry run")
        && denying_policy(message).is_none()
}

/// What the other admission plugins of k8s.io/kubernetes say, and the rule that it means.
const ADMISSION_RULES: [(&str, &str); 9] = [
    ("error looking up service account ", "its service account does not exist"),
    ("no PriorityClass with name ", "its priorityClassName names a class that the cluster does not have"),
    ("pod rejected: RuntimeClass ", "its runtimeClassName names a class that the cluster does not have"),
    ("node label selector conflicts with its namespace", "its nodeSelector is not one that environments may have"),
    ("conflict with its namespace tolerations", "its tolerations are not ones that environments may have"),
    ("whitelist for namespace", "its tolerations are not ones that environments may have"),
    ("RequiredDuringScheduling has TopologyKey ", "its podAntiAffinity names a topologyKey that is not allowed"),
    ("Use of external IPs is denied by admission control", "externalIPs may not be set"),
    ("image policy webhook ", "the cluster's image policy denies one of its images"),
];

/// The PersistentVolumeClaimResize plugin of k8s.io/kubernetes.
const CANNOT_GROW: [&str; 2] =
    ["only dynamically provisioned pvc can be resized", "Only bound persistent volume claims can be expanded"];

/// A 403 of an admission plugin.
pub(super) fn of_admission(kind: &str, name: &str, message: &str) -> Verdict {
    let refused = |rule: String| Verdict::Refused(refused(kind, name, rule));
    if let Some(policy) = denying_policy(message) {
        return refused(format!("the cluster's policy {policy} denies it"));
    }
    if let Some(obstacle) = obstacle(message) {
        return Verdict::Wait(obstacle);
    }
    if let Some((_, figures)) = message.split_once("exceeded quota: ") {
        return match exceeded_quota(figures) {
            Some(cause) => Verdict::Refused(cause),
            None => refused("it exceeds the environment's quota".to_owned()),
        };
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
    if CANNOT_GROW.iter().any(|words| message.contains(words)) {
        let rule = "its storage class cannot make it larger";
        return Verdict::Immutable(self::refused(kind, name, rule));
    }
    let known = ADMISSION_RULES.iter().find(|(words, _)| message.contains(words));
    refused(known.map_or("a rule of the cluster denies it", |(_, rule)| rule).to_owned())
}

/// What kept a controller from making a pod: the message of a ReplicaSet's ReplicaFailure condition, or of the event
/// FailedCreate of what else makes pods. None: the namespace is on its way out.
pub(super) fn of_pod_creation(kind: &str, name: &str, message: &str) -> Option<Verdict> {
    if message.contains("because it is being terminated") {
        return None;
    }
    if let Some(obstacle) = obstacle(message) {
        return Some(Verdict::Wait(obstacle));
    }
    if message.contains(" is forbidden: ") || denying_policy(message).is_some() {
        return Some(of_admission(kind, name, message));
    }
    if message.contains(" is invalid: ") {
        return Some(Verdict::Refused(refused(kind, name, "its pods are not valid")));
    }
    if message.contains("the object has been modified") {
        return Some(Verdict::Wait(Obstacle::Conflict));
    }
    Some(Verdict::Wait(Obstacle::Other))
}

/// A 422: the first field that is wrong, and how many more are. Fields that are set for good are told last: where there
/// is another fault, making the object anew would only take away the one that is there. `place`: as for [`of_form`].
pub(super) fn of_validation(kind: &str, name: &str, place: &str, message: &str, causes: &[StatusCause]) -> Verdict {
    let wrong: Vec<_> = causes.iter().filter(|cause| fields::field_of(&cause.field).is_some()).collect();
    let Some(first) = wrong.iter().find(|cause| !is_set_for_good(cause)).or(wrong.first()) else {
        let set_for_good = SET_FOR_GOOD.iter().any(|words| message.contains(words));
        let cause = refused(kind, name, "it is not valid");
        return if set_for_good { Verdict::Immutable(cause) } else { Verdict::Refused(cause) };
    };
    let more = match wrong.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    // A ConfigMap that is too large is so as a whole, which is named `[]`.
    let field = fields::field_of(&first.field).filter(|field| field.contains(char::is_alphabetic));
    let field = field.map_or_else(|| "it".to_owned(), |field| fields::placed(place, &field));
    let cause = refused(kind, name, format!("{field} {}{more}", fields::rule_of(first)));
    if is_set_for_good(first) { Verdict::Immutable(cause) } else { Verdict::Refused(cause) }
}

/// How validation says that a field cannot be changed where the object stands: `ValidateImmutableField` of
/// k8s.io/apimachinery and the constraints of its `api/validate/update.go`, and of k8s.io/kubernetes
/// `ValidateStatefulSetUpdate`, `validateCompletions` of Jobs that are indexed, `ValidatePersistentVolumeClaimUpdate` (of
/// classes of attributes before and since 1.34), `ValidateServiceUpdate` with what it calls, `ValidateRoleBindingUpdate`,
/// `ValidatePodUpdate`, and `ValidatePodDisruptionBudgetUpdate` of clusters before 1.15.
const SET_FOR_GOOD: [&str; 16] = [
    "field is immutable",
    "field cannot be set once created",
    "field cannot be cleared once set",
    "field cannot be modified once set",
    "can only be modified in tandem with",
    "update from non-nil value to ",
    "is forbidden when status.currentVolumeAttributesClassName",
    "updates to statefulset spec for fields other than",
    "spec is immutable after creation",
    CANNOT_SHRINK,
    "may not change once set",
    "can not be unset",
    "may not be changed once set",
    "cannot change roleRef",
    "pod updates may not change fields other than",
    "updates to poddisruptionbudget spec are forbidden",
];

/// `ValidatePersistentVolumeClaimUpdate` of k8s.io/kubernetes.
const CANNOT_SHRINK: &str = "field can not be less than";

/// Whether the field can be set so in an object that is made anew. What only the API server sets cannot.
fn is_set_for_good(cause: &StatusCause) -> bool {
    let is_of_the_server = matches!(
        cause.field.as_str(),
        "metadata.uid" | "metadata.resourceVersion" | "metadata.creationTimestamp" | "metadata.generation"
    );
    !is_of_the_server && SET_FOR_GOOD.iter().any(|words| cause.message.contains(words))
}

/// The database behind the API server: etcd's `ErrGRPCRequestTooLarge`, and the limit of gRPC itself.
pub(super) fn is_too_large(message: &str) -> bool {
    message.contains("etcdserver: request is too large") || message.contains("trying to send message larger than max")
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
pub(super) fn denying_policy(message: &str) -> Option<&str> {
    let (_, webhook) =
        message.split_once("admission webhook ").filter(|(_, rest)| rest.contains("denied the request")).unzip();
    let (_, policy) = message.split_once("ValidatingAdmissionPolicy '").unzip();
    let policy = policy.and_then(|rest| rest.split_once('\'')).map(|(name, _)| name).filter(|name| is_name(name));
    webhook.and_then(quoted_name).or(policy)
}

/// The name in quotation marks with which the text begins.
fn quoted_name(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('"')?.split_once('"')?;
    is_name(name).then_some(name)
}

fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// `limits.cpu`, `requests.storage`, `count/jobs.batch`
fn is_resource(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'/' | b'-');
    !text.is_empty() && text.len() <= 100 && text.bytes().all(allowed)
}

/// `500m`, `1536Mi`, `1e3`: what `resource.Quantity` prints.
pub(super) fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[digits.len()..];
    !digits.is_empty()
        && text.len() <= 24
        && suffix.len() <= 2
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e'))
}
