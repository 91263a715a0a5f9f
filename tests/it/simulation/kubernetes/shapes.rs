//! Objects and refusals as the API server spells them.

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{BEGINNING, Kubernetes, state::Namespace};

impl Kubernetes {
    pub(super) fn time(&self, at: Instant) -> String {
        let seconds = BEGINNING + i64::try_from((at - self.began).as_secs()).expect("a story is short");
        k8s_openapi::jiff::Timestamp::from_second(seconds).expect("a year of this millennium").to_string()
    }

    pub(super) fn namespace(&self, name: &str, found: &Namespace) -> Value {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "uid": found.uid, "labels": found.labels, "resourceVersion": "1" },
            "status": { "phase": "Active" },
        });
        if let Some(at) = found.deleted_at {
            object["metadata"]["deletionTimestamp"] = json!(self.time(at));
            object["status"]["phase"] = json!("Terminating");
            if !found.holds_for.is_zero() {
                let message =
                    "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
                object["status"]["conditions"] = json!([{
                    "type": "NamespaceFinalizersRemaining",
                    "status": "True",
                    "reason": "SomeFinalizersRemain",
                    "message": message,
                }]);
            }
        }
        object
    }

    /// The ready pods behind a Service.
    pub(super) fn endpoint_slice(&self, namespace: &str, service: &str, found: &Namespace) -> Option<Value> {
        let body = found.object("services", service)?;
        let ports: Vec<Value> = body["spec"]["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|port| json!({ "name": port["name"], "port": 8080, "protocol": "TCP" }))
            .collect();
        let endpoints: Vec<Value> = found
            .behind(&body, &self.images, Instant::now())
            .into_iter()
            .map(|pod| {
                json!({
                    "addresses": ["10.0.0.1"],
                    "conditions": { "ready": true },
                    "targetRef": { "kind": "Pod", "name": pod.name },
                })
            })
            .collect();
        Some(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-1"),
                "namespace": namespace,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        }))
    }
}

pub(super) fn meta(metadata: Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
}

pub(super) fn answer(object: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(object.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

pub(super) fn refuse(code: u16, reason: &str, message: &str) -> Response<Body> {
    refuse_with(code, reason, message, &json!({}))
}

pub(super) fn refuse_with(code: u16, reason: &str, message: &str, details: &Value) -> Response<Body> {
    let mut response = answer(&json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

pub(super) fn not_found(plural: &str, name: &str) -> Response<Body> {
    let details = json!({ "name": name, "kind": plural });
    refuse_with(404, "NotFound", &format!("{plural} \"{name}\" not found"), &details)
}

pub(super) fn conflict(wanted: &str, found: &str) -> Response<Body> {
    let message = format!("the UID in the precondition ({wanted}) does not match the UID in record ({found})");
    refuse(409, "Conflict", &message)
}

pub(super) fn terminating(namespace: &str, name: &str) -> Response<Body> {
    let message = format!(
        "{name} is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
    );
    let details = json!({ "name": name, "causes": [{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }] });
    refuse_with(403, "Forbidden", &message, &details)
}
