//! Objects and refusals as the API server spells them.

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{BEGINNING, CRASHES_EVERY, Deployment, Kubernetes, Namespace, Revision};

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
        }
        object
    }

    pub(super) fn deployment(&self, namespace: &str, name: &str, deployment: &Deployment) -> Value {
        let now = Instant::now();
        let mut object = deployment.body.clone();
        let newest = deployment.revisions.last().expect("a Deployment has a template");
        let living = deployment.living(now);
        let pods: u64 = living.iter().map(|revision| revision.replicas).sum();
        let available: u64 =
            living.iter().filter(|revision| revision.is_ready(now)).map(|revision| revision.replicas).sum();
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(deployment.uid);
        object["metadata"]["resourceVersion"] = json!("1");
        object["metadata"]["generation"] = json!(deployment.generation);
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!(newest.number.to_string());
        object["status"] = json!({
            "observedGeneration": deployment.generation,
            "replicas": pods,
            "updatedReplicas": newest.replicas,
            "availableReplicas": available,
            "readyReplicas": available,
        });
        object
    }

    pub(super) fn pod(&self, namespace: &str, deployment: &str, revision: &Revision) -> Value {
        let now = Instant::now();
        let ready = revision.is_ready(now);
        let image = revision.image();
        let lived = now - revision.since;
        let restarts = lived.as_secs() / CRASHES_EVERY.as_secs();
        let (restart_count, state, last) = if image.contains("nopull") {
            (0, json!({ "waiting": { "reason": "ImagePullBackOff" } }), Value::Null)
        } else if image.contains("crash") && restarts > 0 {
            let ended = self.time(now);
            let last = json!({ "terminated": { "exitCode": 1, "reason": "Error", "finishedAt": ended } });
            (restarts, json!({ "waiting": { "reason": "CrashLoopBackOff" } }), last)
        } else {
            (0, json!({ "running": { "startedAt": self.time(revision.since) } }), json!({}))
        };
        let digest = format!("{:0>64}", revision.number);
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod_name(deployment, revision),
                "namespace": namespace,
                "uid": revision.pods_uid,
                "labels": revision.template["metadata"]["labels"],
                "resourceVersion": "1",
                "creationTimestamp": self.time(revision.since),
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": deployment, "uid": revision.uid, "controller": true,
                }],
            },
            "spec": revision.template["spec"],
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
                "containerStatuses": [{
                    "name": revision.template["spec"]["containers"][0]["name"],
                    "image": image,
                    "imageID": format!("registry.invalid/app@sha256:{digest}"),
                    "ready": ready,
                    "restartCount": restart_count,
                    "state": state,
                    "lastState": last,
                }],
            },
        })
    }
}

pub(super) fn pod_name(deployment: &str, revision: &Revision) -> String {
    format!("{deployment}-{}", revision.pods_uid)
}

pub(super) fn replica_set(namespace: &str, name: &str, deployment: &Deployment, revision: &Revision) -> Value {
    meta(json!({
        "name": format!("{name}-{}", revision.uid),
        "namespace": namespace,
        "uid": revision.uid,
        "labels": revision.template["metadata"]["labels"],
        "annotations": { "deployment.kubernetes.io/revision": revision.number.to_string() },
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": deployment.uid, "controller": true,
        }],
    }))
}

/// The ready pods behind every Service of the namespace: there is one application.
pub(super) fn endpoint_slice(namespace: &str, deployment: &str, revision: &Revision, found: &Namespace) -> Value {
    let service = found.objects.iter().find(|((plural, _), _)| plural == "services");
    let (name, ports) =
        service.map(|((_, name), body)| (name.clone(), body["spec"]["ports"].clone())).unwrap_or_default();
    let ports: Vec<Value> = ports
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| json!({ "name": port["name"], "port": 8080, "protocol": "TCP" }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{}", revision.uid),
            "namespace": namespace,
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{
            "addresses": ["10.0.0.1"],
            "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": pod_name(deployment, revision) },
        }],
    })
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
