//! What the played API server refuses: what the namespace's quota has no room for, what cannot be changed in place, what
//! an admission webhook denies, and anything at all while something in the cluster is broken.

use axum::body::Body;
use http::Response;
use previewd::recipe::{Bytes, Millicores};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Images,
    pod::{Pod, Template},
    shapes::{refuse, refuse_with},
    state::Namespace,
    workload::Workload,
};

/// Something of the cluster's that breaks for a while: it says so to every write of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A webhook that has to be asked does not answer.
    Webhook,
    /// The API server has too much to do.
    Throttled,
    /// Others write the same objects.
    Conflict,
}

impl Trouble {
    pub(super) fn answer(self, plural: &str, name: &str) -> Response<Body> {
        match self {
            Self::Webhook => {
                let message = "Internal error occurred: failed calling webhook \"check.example.com\": failed to call webhook: \
                               Post \"https://check.example.svc:443/\": context deadline exceeded";
                refuse(500, "InternalError", message)
            }
            Self::Throttled => {
                let details = json!({ "retryAfterSeconds": 1 });
                refuse_with(429, "TooManyRequests", "too many requests, please try again later", &details)
            }
            Self::Conflict => {
                let message = format!(
                    "Operation cannot be fulfilled on {plural} \"{name}\": the object has been modified; please apply \
                     your changes to the latest version and try again"
                );
                refuse(409, "Conflict", &message)
            }
        }
    }
}

/// The image that the cluster's policy does not let in.
const DENIED: &str = "/denied:";

/// A webhook of the cluster's denies what uses this image.
pub(super) fn policy_denies(object: &Value, template: &str) -> Option<Response<Body>> {
    let image = object.pointer(template)?["containers"][0]["image"].as_str()?;
    let message = "admission webhook \"images.example.com\" denied the request: this image is not allowed";
    image.contains(DENIED).then(|| refuse(403, "Forbidden", message))
}

/// Why the quota has no room for a pod.
pub(super) fn quota_refuses(
    found: &Namespace,
    name: &str,
    template: &Template,
    images: &Images,
    now: Instant,
) -> Option<String> {
    let quota = found.objects.get(&("resourcequotas".to_owned(), "preview".to_owned()))?;
    let counted: Vec<&Pod> = found.pods.values().filter(|pod| pod.is_counted(images, now)).collect();
    template.counted().into_iter().enumerate().find_map(|(index, (resource, asked))| {
        let allowed = quota["spec"]["hard"][resource].as_str()?;
        let used: u64 = counted.iter().map(|pod| pod.template.counted()[index].1).sum();
        (used + asked > amount(resource, allowed)).then(|| {
            let (asked, used) = (shown(resource, asked), shown(resource, used));
            format!(
                "pods \"{name}\" is forbidden: exceeded quota: preview, requested: {resource}={asked}, used: \
                 {resource}={used}, limited: {resource}={allowed}"
            )
        })
    })
}

fn amount(resource: &str, text: &str) -> u64 {
    let cpu = || text.parse::<Millicores>().ok().map(|amount| amount.0);
    let memory = || text.parse::<Bytes>().ok().map(|amount| amount.0);
    if resource == "limits.cpu" { cpu() } else { memory() }.expect("previewd writes amounts that it reads")
}

fn shown(resource: &str, amount: u64) -> String {
    let shown = if resource == "limits.cpu" { json!(Millicores(amount)) } else { json!(Bytes(amount)) };
    shown.as_str().map_or_else(|| shown.to_string(), str::to_owned)
}

/// Fields that are set for good, by plural.
fn set_for_good(plural: &str) -> &'static [&'static str] {
    match plural {
        "jobs" => &["/spec/template", "/spec/selector", "/spec/completions"],
        "deployments" => &["/spec/selector"],
        "statefulsets" => &["/spec/selector", "/spec/serviceName", "/spec/volumeClaimTemplates"],
        _ => &[],
    }
}

/// What of an object cannot be changed where it stands.
pub(super) fn refuses_change(plural: &str, name: &str, known: &Workload, body: &Value) -> Option<Response<Body>> {
    let changed = set_for_good(plural).iter().find(|field| known.body.pointer(field) != body.pointer(field))?;
    let field = changed[1..].replace('/', ".");
    Some(invalid(plural, name, &field, "field is immutable"))
}

/// A claim's volume does not become smaller, and this cluster's do not become larger.
pub(super) fn refuses_size(name: &str, known: &Value, body: &Value) -> Option<Response<Body>> {
    let size = |body: &Value| {
        let size = body["spec"]["resources"]["requests"]["storage"].as_str().map(str::parse::<Bytes>);
        size.and_then(Result::ok).map(|size| size.0)
    };
    match (size(known), size(body)) {
        (Some(known), Some(new)) if new < known => {
            let rule = "field can not be less than status.capacity";
            Some(invalid("persistentvolumeclaims", name, "spec.resources.requests.storage", rule))
        }
        (Some(known), Some(new)) if new > known => {
            let message = format!(
                "persistentvolumeclaims \"{name}\" is forbidden: only dynamically provisioned pvc can be resized and the \
                 storageclass that provisions the pvc must support resize"
            );
            Some(refuse(403, "Forbidden", &message))
        }
        _ => None,
    }
}

fn invalid(plural: &str, name: &str, field: &str, rule: &str) -> Response<Body> {
    let message = format!("{plural} \"{name}\" is invalid: {field}: Invalid value: {rule}");
    let causes = json!({ "causes": [{ "reason": "FieldValueInvalid", "message": format!("Invalid value: {rule}"), "field": field }] });
    refuse_with(422, "Invalid", &message, &causes)
}

/// A pod whose containers mount volumes that it does not have is none.
/// Source: `ValidatePodSpec` in k8s.io/kubernetes/pkg/apis/core/validation.
pub(super) fn refuses_mounts(pod: &Value) -> Option<Response<Body>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let volumes: Vec<Value> = list(&pod["spec"]["volumes"]).into_iter().map(|volume| volume["name"].clone()).collect();
    let containers = list(&pod["spec"]["containers"]).into_iter().enumerate();
    let mounts = containers.flat_map(|(container, body)| {
        let mounts = list(&body["volumeMounts"]).into_iter().enumerate();
        mounts.map(move |(mount, body)| (container, mount, body["name"].clone()))
    });
    let (container, mount, volume) = mounts.into_iter().find(|(_, _, volume)| !volumes.contains(volume))?;
    let field = format!("spec.containers[{container}].volumeMounts[{mount}].name");
    let message = format!("Pod {} is invalid: {field}: Not found: {volume}", pod["metadata"]["name"]);
    let cause = json!({ "reason": "FieldValueNotFound", "message": format!("Not found: {volume}"), "field": field });
    Some(refuse_with(422, "Invalid", &message, &json!({ "causes": [cause] })))
}

/// An object that names its UID is one that is there already.
pub(super) fn refuses_uid(plural: &str, name: &str, body: &Value) -> Option<Response<Body>> {
    let uid = body["metadata"]["uid"].as_str()?;
    let message = format!(
        "Operation cannot be fulfilled on {plural} \"{name}\": StorageError: invalid object, Code: 4, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {uid}, UID in object meta: "
    );
    Some(refuse(409, "Conflict", &message))
}
