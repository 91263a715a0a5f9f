//! Answers as API servers gave them, and what each means.

use serde_json::{Value, json};

use super::*;

const CANARY: &str = "canary-77ab";

fn status(code: u16, reason: &str, message: &str, details: Value) -> Status {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": details,
    });
    serde_json::from_value(status).expect("a Status")
}

fn forbidden(message: &str) -> Status {
    status(403, "Forbidden", message, json!({"name": "web", "kind": "pods"}))
}

fn invalid(causes: Value) -> Status {
    let message = format!("Deployment.apps \"web\" is invalid: spec: Invalid value: \"{CANARY}\"");
    status(422, "Invalid", &message, json!({"name": "web", "group": "apps", "kind": "Deployment", "causes": causes}))
}

fn refused(rule: &str) -> ClusterError {
    let (kind, name) = ("Pod".to_owned(), "web".to_owned());
    ClusterError::Refused(Cause::ObjectRefused { kind, name, rule: rule.to_owned() })
}

fn over_quota(resource: &str, needed: &str, allowed: &str) -> ClusterError {
    let [resource, needed, allowed] = [resource, needed, allowed].map(str::to_owned);
    ClusterError::Refused(Cause::QuotaExceeded { resource, needed, allowed })
}

fn away(why: &str) -> ClusterError {
    ClusterError::Away { call: "apply Pod web in pr-7".to_owned(), why: why.to_owned(), retry_after: None }
}

#[test]
fn answers_to_an_object_that_is_sent() {
    let namespace: Namespace = "pr-7".parse().unwrap();
    let call = Call::new("apply", "Pod", "web").in_namespace(&namespace).with_object();
    let table = [
        (
            status(
                403,
                "Forbidden",
                "configmaps \"new\" is forbidden: unable to create new content in namespace pr-7 because it is being terminated",
                json!({"name": "new", "kind": "configmaps", "causes": [{
                    "reason": "NamespaceTerminating", "message": "namespace pr-7 is being terminated", "field": "metadata.namespace",
                }]}),
            ),
            ClusterError::NamespaceTerminating,
        ),
        (
            forbidden(
                "pods is forbidden: User \"system:serviceaccount:previewd:previewd\" cannot create resource \"pods\" in API group \"\" in the namespace \"pr-7\"",
            ),
            ClusterError::Forbidden { call: "apply Pod web in pr-7".to_owned() },
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: exceeded quota: previewd, requested: limits.cpu=1,limits.memory=1Gi, used: limits.cpu=0,limits.memory=0, limited: limits.cpu=500m,limits.memory=512Mi",
            ),
            over_quota("limits.cpu", "1", "500m"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: exceeded quota: previewd, requested: pods=1, used: pods=10, limited: pods=10",
            ),
            over_quota("pods", "1 (besides 10 in use)", "10"),
        ),
        (
            forbidden(
                "persistentvolumeclaims \"data\" is forbidden: exceeded quota: previewd, requested: requests.storage=5Gi, used: requests.storage=1Gi, limited: requests.storage=<script>",
            ),
            refused("it exceeds the environment's quota"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: failed quota: previewd: must specify limits.cpu for: app; limits.memory for: app",
            ),
            refused("every container must state limits.cpu, limits.memory"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: status unknown for quota: previewd, resources: limits.cpu,limits.memory",
            ),
            away("the cluster has not counted the environment's quota yet"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"app\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"app\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"app\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"app\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ),
            refused(
                "the Pod Security profile asks that allowPrivilegeEscalation must be false; capabilities must drop ALL and add at most NET_BIND_SERVICE; runAsNonRoot must be true; seccompProfile must be RuntimeDefault or Localhost",
            ),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true), hostPort (container \"privileged\" uses hostPort 80)",
            ),
            refused(
                "the Pod Security profile asks that hostNetwork, hostPID and hostIPC must not be set; hostPort must not be set",
            ),
        ),
        (
            forbidden("pods \"web\" is forbidden: violates PodSecurity \"restricted:v1.99\": something new (x)"),
            refused("it breaks the Pod Security profile of the environment"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: [maximum cpu usage per Container is 200m, but limit is 300m, maximum memory usage per Container is 64Mi, but limit is 128Mi]",
            ),
            refused("the maximum of cpu per Container is 200m, and its limit is 300m"),
        ),
        (
            forbidden("pods \"web\" is forbidden: minimum memory usage per Pod is 16Mi.  No request is specified"),
            refused("the minimum of memory per Pod is 16Mi"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: error looking up service account pr-7/default: serviceaccount \"default\" not found",
            ),
            away("the cluster has not made the namespace's default service account yet"),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: error looking up service account pr-7/web: serviceaccount \"web\" not found",
            ),
            refused("its service account does not exist"),
        ),
        (
            status(
                403,
                "Forbidden",
                &format!("admission webhook \"images.example.com\" denied the request: {CANARY}"),
                json!({}),
            ),
            refused("the cluster's policy images.example.com denies it"),
        ),
        (
            status(403, "Forbidden", &format!("admission webhook \"{CANARY} <b>\" denied the request"), json!({})),
            refused("a rule of the cluster denies it"),
        ),
        (
            status(
                422,
                "Invalid",
                &format!(
                    "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'no-latest' with binding 'all' denied request: {CANARY}"
                ),
                json!({"causes": [{"message": CANARY}]}),
            ),
            refused("the cluster's policy no-latest denies it"),
        ),
        (
            invalid(
                json!([{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.template.spec.containers[0].image"}]),
            ),
            refused("spec.template.spec.containers[0].image must be set"),
        ),
        (
            invalid(json!([
                {"reason": "FieldValueInvalid", "message": format!("Invalid value: \"{CANARY}\": must be at most 63"), "field": "metadata.labels[app.kubernetes.io/name]"},
                {"reason": "FieldValueNotSupported", "message": format!("Unsupported value: \"{CANARY}\""), "field": "spec.x"},
            ])),
            refused("metadata.labels[app.kubernetes.io/name] has a value that is not valid (and 1 more)"),
        ),
        (
            invalid(
                json!([{"reason": "FieldValueInvalid", "message": format!("Invalid value: {{\"{CANARY}\"}}: field is immutable"), "field": "spec.selector"}]),
            ),
            refused("spec.selector cannot be changed once it is set"),
        ),
        (
            invalid(
                json!([{"reason": "FieldValueForbidden", "message": "Forbidden: updates are forbidden", "field": "spec"}]),
            ),
            refused("spec may not be set or changed"),
        ),
        (
            invalid(json!([{"reason": "FieldValueInvalid", "message": "", "field": "data[<b>]"}])),
            refused("it is not valid"),
        ),
        (
            status(
                500,
                "",
                &format!(
                    "failed to create typed patch object (pr-7/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema {CANARY}"
                ),
                json!({}),
            ),
            refused("it has no field spec.replica"),
        ),
        (
            status(
                500,
                "",
                &format!(
                    "failed to create typed patch object (pr-7/web; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string value of {CANARY}"
                ),
                json!({}),
            ),
            refused("spec.replicas has a value of the wrong type"),
        ),
        (
            status(404, "NotFound", "the server could not find the requested resource", json!({})),
            refused("the cluster has no such kind of object"),
        ),
        (
            status(404, "NotFound", "namespaces \"pr-7\" not found", json!({"name": "pr-7", "kind": "namespaces"})),
            ClusterError::NamespaceGone,
        ),
        (status(413, "RequestEntityTooLarge", "limit is 3145728", json!({})), refused("it is too large")),
        (status(400, "BadRequest", CANARY, json!({})), refused("the cluster cannot read it")),
        (
            status(
                409,
                "Conflict",
                "Operation cannot be fulfilled on resourcequotas \"previewd\": the object has been modified",
                json!({}),
            ),
            away("another write came between"),
        ),
        (
            status(401, "Unauthorized", "Unauthorized", json!({})),
            away("the API server does not accept the credentials"),
        ),
        (
            status(
                500,
                "InternalError",
                &format!("Internal error occurred: failed calling webhook: {CANARY}"),
                json!({}),
            ),
            away("the API server answered 500 InternalError"),
        ),
        (status(503, "", "", json!({})), away("the API server answered 503")),
        (
            status(429, "TooManyRequests", "", json!({"retryAfterSeconds": 7})),
            ClusterError::Away {
                call: "apply Pod web in pr-7".to_owned(),
                why: "the API server answered 429 TooManyRequests".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
            },
        ),
    ];
    for (status, expected) in table {
        let found = classify(&call, &status);
        assert_eq!(found, expected, "{status:?}");
        assert!(!format!("{found} {found:?}").contains(CANARY), "{found:?}");
    }
}

#[test]
fn answers_to_a_question() {
    let call = Call::new("read", "Namespace", "pr-7");
    let table = [
        (
            forbidden("namespaces \"pr-7\" is forbidden: User \"x\" cannot get resource \"namespaces\""),
            "may not read Namespace pr-7",
        ),
        (status(404, "NotFound", "namespaces \"pr-7\" not found", json!({"kind": "namespaces"})), "does not exist"),
        (
            status(500, "InternalError", "etcdserver: leader changed", json!({})),
            "could not read Namespace pr-7: the API server answered 500 InternalError: etcdserver: leader changed",
        ),
        (status(504, "Timeout", "", json!({})), "the API server answered 504 Timeout"),
        (status(418, "", "", json!({})), "the API server answered 418"),
    ];
    for (status, expected) in table {
        let found = classify(&call, &status);
        assert!(found.to_string().contains(expected), "{found}");
        assert!(!matches!(found, ClusterError::Refused(_)), "{found:?}");
    }
}
