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

fn not_taken(why: Obstacle, retry_after: Option<Duration>) -> ClusterError {
    let (kind, name) = ("Pod".to_owned(), "web".to_owned());
    ClusterError::NotTaken { cause: Cause::NotTaken { kind, name, why }, retry_after }
}

fn webhook(name: Option<&str>) -> ClusterError {
    not_taken(Obstacle::Webhook { name: name.map(str::to_owned) }, None)
}

fn immutable(rule: &str) -> ClusterError {
    match refused(rule) {
        ClusterError::Refused(cause) => ClusterError::Immutable(cause),
        other => other,
    }
}

fn denied(code: u16, message: &str) -> Status {
    status(code, "", message, json!({}))
}

fn away(why: &str, not_taken: Option<Obstacle>) -> ClusterError {
    let (kind, name) = ("Pod".to_owned(), "web".to_owned());
    let not_taken = not_taken.map(|why| Box::new(Cause::NotTaken { kind, name, why }));
    let call = "apply Pod web in pr-7".to_owned();
    ClusterError::Away { call, why: why.to_owned(), retry_after: None, not_taken }
}

#[test]
fn answers_to_an_object_that_is_sent() {
    let namespace: Namespace = "pr-7".parse().unwrap();
    let call = Call::new("apply", "Pod", "web").in_namespace(&namespace).with_object(&json!({}));
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
            not_taken(Obstacle::Forbidden, None),
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
            not_taken(Obstacle::QuotaNotCounted, None),
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
            not_taken(Obstacle::NoServiceAccount, None),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: error looking up service account pr-7/preview: serviceaccount \"preview\" not found",
            ),
            not_taken(Obstacle::NoServiceAccount, None),
        ),
        (
            forbidden(
                "pods \"web\" is forbidden: error looking up service account pr-7/web: context deadline exceeded",
            ),
            not_taken(Obstacle::NoServiceAccount, None),
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
            immutable("spec.selector cannot be changed once it is set"),
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
            refused("spec.replicas must be a number, without quotes"),
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
            not_taken(Obstacle::Conflict, None),
        ),
        (
            status(401, "Unauthorized", "Unauthorized", json!({})),
            away("the API server does not accept the credentials", None),
        ),
        (
            status(
                500,
                "InternalError",
                &format!(
                    "Internal error occurred: failed calling webhook \"images.example.com\": failed to call webhook: {CANARY}"
                ),
                json!({}),
            ),
            webhook(Some("images.example.com")),
        ),
        (
            denied(500, &format!("Internal error occurred: failed calling webhook \"{CANARY} <b>\": no endpoints")),
            webhook(None),
        ),
        (denied(500, "conversion webhook for gateway.networking.k8s.io/v1, Kind=HTTPRoute failed: x"), webhook(None)),
        // Whoever is asked may deny with any code; the API server makes 400 of one that is none.
        (
            denied(400, &format!("admission webhook \"validate.kyverno.svc\" denied the request: {CANARY}")),
            refused("the cluster's policy validate.kyverno.svc denies it"),
        ),
        (
            denied(404, &format!("admission webhook \"a.example.com\" denied the request: {CANARY} not found")),
            refused("the cluster's policy a.example.com denies it"),
        ),
        (
            denied(409, "admission webhook \"a.example.com\" denied the request without explanation"),
            refused("the cluster's policy a.example.com denies it"),
        ),
        (
            denied(500, &format!("admission webhook \"a.example.com\" denied the request: {CANARY}")),
            webhook(Some("a.example.com")),
        ),
        (
            denied(503, &format!("admission webhook \"a.example.com\" denied the request: {CANARY}")),
            webhook(Some("a.example.com")),
        ),
        (
            denied(401, &format!("admission webhook \"a.example.com\" denied the request: {CANARY}")),
            refused("the cluster's policy a.example.com denies it"),
        ),
        (denied(503, "failed calling webhook \"a.example.com\": x"), webhook(Some("a.example.com"))),
        (
            denied(500, "Internal error occurred: resource quota evaluation timed out"),
            not_taken(Obstacle::QuotaNotCounted, None),
        ),
        (denied(500, "etcdserver: request is too large"), refused("it is too large")),
        (
            status(
                409,
                "AlreadyExists",
                "object is being deleted: pods \"web\" already exists",
                json!({"kind": "pods"}),
            ),
            not_taken(Obstacle::Conflict, None),
        ),
        (
            status(500, "InternalError", &format!("Internal error occurred: {CANARY}"), json!({})),
            not_taken(Obstacle::ServerError { code: 500 }, None),
        ),
        (status(504, "Timeout", "", json!({})), not_taken(Obstacle::ServerError { code: 504 }, None)),
        (status(405, "MethodNotAllowed", "", json!({})), not_taken(Obstacle::ServerError { code: 405 }, None)),
        (
            forbidden(
                "persistentvolumeclaims \"data\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ),
            immutable("its storage class cannot make it larger"),
        ),
        (
            forbidden(&format!("pods \"web\" is forbidden: no PriorityClass with name {CANARY} was found")),
            refused("its priorityClassName names a class that the cluster does not have"),
        ),
        (
            status(503, "", "", json!({})),
            away("the API server answered 503", Some(Obstacle::ServerError { code: 503 })),
        ),
        (
            status(429, "TooManyRequests", "", json!({"retryAfterSeconds": 7})),
            not_taken(Obstacle::Throttled, Some(Duration::from_secs(7))),
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

/// Nothing that it says is the recipe's matter, and all of it may pass.
#[test]
fn answers_to_an_object_that_is_read_or_deleted() {
    let call = Call::new("delete", "Pod", "web").by_name();
    let denial = format!("admission webhook \"keep.example.com\" denied the request: {CANARY}");
    let policy = format!(
        "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'keep' with binding 'all' denied request: {CANARY}"
    );
    let is_kept_by = |policy: &str| not_taken(Obstacle::RemovalDenied { policy: policy.to_owned() }, None);
    let table = [
        (forbidden(&denial), is_kept_by("keep.example.com")),
        (denied(400, &denial), is_kept_by("keep.example.com")),
        (denied(401, &denial), is_kept_by("keep.example.com")),
        (denied(503, &denial), webhook(Some("keep.example.com"))),
        (denied(422, &policy), is_kept_by("keep")),
        (
            denied(500, "Internal error occurred: failed calling webhook \"keep.example.com\": no endpoints"),
            webhook(Some("keep.example.com")),
        ),
        (
            forbidden("pods \"web\" is forbidden: User \"previewd\" cannot delete resource \"pods\" in API group \"\""),
            not_taken(Obstacle::Forbidden, None),
        ),
        (forbidden(CANARY), not_taken(Obstacle::ServerError { code: 403 }, None)),
        (denied(409, CANARY), not_taken(Obstacle::Conflict, None)),
        (denied(422, CANARY), not_taken(Obstacle::ServerError { code: 422 }, None)),
        (denied(500, CANARY), not_taken(Obstacle::ServerError { code: 500 }, None)),
        (
            status(429, "TooManyRequests", "", json!({"retryAfterSeconds": 7})),
            not_taken(Obstacle::Throttled, Some(Duration::from_secs(7))),
        ),
    ];
    for (status, expected) in table {
        assert_eq!(classify(&call, &status), expected, "{status:?}");
    }
    for code in [401, 503] {
        let away = classify(&call, &denied(code, CANARY));
        assert!(matches!(away, ClusterError::Away { .. }), "{away:?}");
        assert!(!format!("{away:?}").contains(CANARY), "{away:?}");
    }
    assert!(matches!(Failure::TimedOut.into_error(&call), ClusterError::Away { not_taken: Some(_), .. }));
}

/// What of each kind can be changed only in an object that is made anew, in the API server's words: the first rule is
/// the author's to read where it cannot be made anew.
#[test]
fn fields_that_are_set_for_good() {
    let cause = |field: &str, reason: &str, message: &str| {
        let message = message.replace('?', CANARY);
        json!({ "field": field, "reason": reason, "message": message })
    };
    let once = |field: &str| format!("{field} cannot be changed once it is set");
    let statefulset = "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    let claim = "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n?";
    let table = [
        (
            "Deployment",
            cause("spec.selector", "FieldValueInvalid", "Invalid value: ?: field is immutable"),
            once("spec.selector"),
        ),
        ("StatefulSet", cause("spec", "FieldValueForbidden", statefulset), once("spec")),
        (
            "Job",
            cause("spec.template", "FieldValueInvalid", "Invalid value: ?: field is immutable"),
            once("spec.template"),
        ),
        (
            "Job",
            cause("spec.completions", "FieldValueInvalid", "Invalid value: 2: field is immutable"),
            once("spec.completions"),
        ),
        (
            "Job",
            cause(
                "spec.completions",
                "FieldValueInvalid",
                "Invalid value: 4: can only be modified in tandem with spec.parallelism",
            ),
            once("spec.completions"),
        ),
        (
            "Job",
            cause("spec.minCount", "FieldValueInvalid", "Invalid value: null: field cannot be cleared once set"),
            once("spec.minCount"),
        ),
        (
            "Job",
            cause("spec.minCount", "FieldValueInvalid", "Invalid value: null: field cannot be set once created"),
            once("spec.minCount"),
        ),
        (
            "Job",
            cause("spec.minCount", "FieldValueInvalid", "Invalid value: null: field cannot be modified once set"),
            once("spec.minCount"),
        ),
        (
            "PersistentVolumeClaim",
            cause(
                "spec.volumeAttributesClassName",
                "FieldValueForbidden",
                "Forbidden: update from non-nil value to nil is forbidden",
            ),
            once("spec.volumeAttributesClassName"),
        ),
        (
            "PersistentVolumeClaim",
            cause(
                "spec.volumeAttributesClassName",
                "FieldValueForbidden",
                "Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
            ),
            once("spec.volumeAttributesClassName"),
        ),
        (
            "Service",
            cause("spec.clusterIPs[0]", "FieldValueInvalid", "Invalid value: [\"None\"]: may not change once set"),
            once("spec.clusterIPs[0]"),
        ),
        (
            "Service",
            cause("spec.clusterIPs[0]", "FieldValueInvalid", "Invalid value: ?: primary clusterIP can not be unset"),
            once("spec.clusterIPs[0]"),
        ),
        (
            "Service",
            cause("spec.loadBalancerClass", "FieldValueInvalid", "Invalid value: ?: may not change once set"),
            once("spec.loadBalancerClass"),
        ),
        ("Secret", cause("type", "FieldValueInvalid", "Invalid value: ?: field is immutable"), once("type")),
        (
            "Secret",
            cause("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"),
            once("data"),
        ),
        (
            "ConfigMap",
            cause("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"),
            once("data"),
        ),
        (
            "ConfigMap",
            cause("immutable", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"),
            once("immutable"),
        ),
        (
            "RoleBinding",
            cause("roleRef", "FieldValueInvalid", "Invalid value: ?: cannot change roleRef"),
            once("roleRef"),
        ),
        (
            "PodDisruptionBudget",
            cause("spec", "FieldValueForbidden", "Forbidden: updates to poddisruptionbudget spec are forbidden."),
            once("spec"),
        ),
        ("PersistentVolumeClaim", cause("spec", "FieldValueForbidden", claim), once("spec")),
        (
            "PersistentVolumeClaim",
            cause(
                "spec.resources.requests.storage",
                "FieldValueForbidden",
                "Forbidden: field can not be less than status.capacity",
            ),
            "spec.resources.requests.storage cannot be made smaller".to_owned(),
        ),
        (
            "PersistentVolumeClaim",
            cause(
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]",
                "FieldValueInvalid",
                "Invalid value: ?: field is immutable",
            ),
            once("metadata.annotations[volume.beta.kubernetes.io/storage-class]"),
        ),
    ];
    for (kind, cause, rule) in table {
        let call = Call::new("apply", kind, "web").with_object(&json!({}));
        let answer = status(422, "Invalid", CANARY, json!({ "causes": [cause] }));
        let (kind, name) = (kind.to_owned(), "web".to_owned());
        assert_eq!(classify(&call, &answer), ClusterError::Immutable(Cause::ObjectRefused { kind, name, rule }));
        // Made anew it would be refused for the other fault, and what stood there would be gone.
        let missing = json!({ "field": "spec.x", "reason": "FieldValueRequired", "message": "Required value" });
        let answer = status(422, "Invalid", CANARY, json!({ "causes": [cause, missing] }));
        let ClusterError::Refused(refusal) = classify(&call, &answer) else { panic!("{answer:?}") };
        assert!(refusal.to_string().ends_with("spec.x must be set (and 1 more)."), "{refusal}");
    }
    let uid = json!({ "field": "metadata.uid", "reason": "FieldValueInvalid", "message": "field is immutable" });
    let call = Call::new("apply", "ConfigMap", "web").with_object(&json!({}));
    let answer = status(422, "Invalid", "", json!({ "causes": [uid] }));
    assert!(matches!(classify(&call, &answer), ClusterError::Refused(_)));
}

#[test]
fn an_object_that_means_one_certain_object_is_its_authors_matter() {
    let conflict = |kind: &str, message: &str| status(409, "Conflict", message, json!({ "kind": kind }));
    let modified = "Operation cannot be fulfilled on configmaps \"web\": the object has been modified; please apply your changes to the latest version and try again";
    let absent = "Operation cannot be fulfilled on configmaps \"web\": uid mismatch: the provided object specified uid 1, and no existing object was found";
    let quota = "Operation cannot be fulfilled on resourcequotas \"previewd\": the object has been modified";
    for (metadata, field) in [
        (json!({"uid": "1", "resourceVersion": "7"}), "metadata.uid"),
        (json!({"resourceVersion": "7"}), "metadata.resourceVersion"),
    ] {
        let body = json!({ "metadata": metadata });
        let call = Call::new("apply", "ConfigMap", "web").with_object(&body);
        for message in [modified, absent] {
            let ClusterError::Refused(cause) = classify(&call, &conflict("configmaps", message)) else {
                panic!("{message}")
            };
            assert!(cause.to_string().contains(&format!("refused: {field} means one certain object")), "{cause}");
        }
        assert!(matches!(classify(&call, &conflict("resourcequotas", quota)), ClusterError::NotTaken { .. }));
    }
}

#[test]
fn an_object_whose_write_hangs_is_not_taken_and_a_question_finds_the_cluster_away() {
    let write = Call::new("apply", "Pod", "web").with_object(&json!({}));
    assert_eq!(Failure::TimedOut.into_error(&write), not_taken(Obstacle::NoAnswer { seconds: 10 }, None));
    let question = Call::new("read", "Namespace", "pr-7");
    assert!(matches!(Failure::TimedOut.into_error(&question), ClusterError::Away { .. }));
}

/// Whether the cluster is away, or only this is not answered, shows where it answers others.
#[test]
fn a_write_on_which_the_connection_breaks_says_what_it_is_where_others_are_answered() {
    let broken = || Failure::Transport(kube::Error::Service("the connection was reset".into()));
    let namespace: Namespace = "pr-7".parse().unwrap();
    let write = Call::new("apply", "Pod", "web").in_namespace(&namespace).with_object(&json!({}));
    let expected = away("the connection was reset", Some(Obstacle::ConnectionBroke));
    assert_eq!(broken().into_error(&write), expected);
    let question = Call::new("read", "Namespace", "pr-7");
    let ClusterError::Away { not_taken: None, .. } = broken().into_error(&question) else { panic!("it is away") };
}

#[test]
fn a_policy_that_denies_with_401_says_nothing_of_the_credentials() {
    let failure = |message: &str| Failure::Status(status(401, "Unauthorized", message, json!({})).boxed());
    assert!(failure("Unauthorized").is_unauthorized());
    assert!(!failure("admission webhook \"a.example.com\" denied the request: x").is_unauthorized());
}

#[test]
fn a_webhook_that_cannot_be_asked_about_what_is_only_tried_denied_nothing() {
    for (message, cannot) in [
        ("admission webhook \"a.example.com\" does not support dry run", true),
        ("admission webhook \"a.example.com\" denied the request: \"x\" does not support dry run", false),
        ("the server does not support dry run", false),
    ] {
        assert_eq!(refusal::cannot_be_tried(message), cannot, "{message}");
    }
}

/// As k8s.io/kubernetes 1.37 answers server-side apply and the creation of a Pod.
#[test]
fn what_does_not_have_its_form_is_told_with_its_fields_and_what_to_write() {
    let typed = |problems: &str| {
        format!("failed to create typed patch object (pr-7/web; apps/v1, Kind=Deployment): {problems}")
    };
    let container = ".spec.template.spec.containers[name=\"shop\"]";
    let pod = |problem: &str| format!("Pod in version \"v1\" cannot be handled as a Pod: {problem}");
    let table = [
        (
            typed(&format!("{container}.env: duplicate entries for key [name=\"LOG_LEVEL\"]")),
            "spec.template.spec.containers[name=shop].env has two entries of name=LOG_LEVEL; leave one out",
        ),
        (
            typed(&format!(
                "{container}.env[name=\"PORT\"].value: expected string, got &value.valueUnstructured{{Value:{CANARY}}}"
            )),
            "spec.template.spec.containers[name=shop].env[name=PORT].value must be text; put it in quotes",
        ),
        (
            typed(&format!(
                "errors:\n  {container}.ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]\n  {container}.portz: field not declared in schema\n  .spec.replicas: expected numeric (int or float), got string\n  .spec.paused: expected boolean, got {CANARY}"
            )),
            "spec.template.spec.containers[name=shop].ports has two entries of containerPort=80,protocol=TCP; leave one out; \
             it has no field spec.template.spec.containers[name=shop].portz; spec.replicas must be a number, without quotes (and 1 more)",
        ),
        (
            typed(
                ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
            ),
            "each item of spec.template.spec.containers must have name",
        ),
        (typed(&format!(".data.{CANARY}!: expected string, got 1")), "it does not have the form of its kind"),
        (typed(&format!("{CANARY}: field not declared in schema")), "it does not have the form of its kind"),
        (
            pod("json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"),
            "spec.template.spec.containers.env.value must be text; put it in quotes",
        ),
        (
            pod(
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            "spec.template.spec.containers.ports.containerPort must be a number, without quotes",
        ),
        (
            pod("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
            "one of its amounts is none; write them as 100m or 128Mi",
        ),
        ("illegal base64 data at input byte 4".to_owned(), "data must be in base64; write text under stringData"),
    ];
    let body = json!({});
    for (message, rule) in table {
        for code in [400, 500] {
            let call = Call::new("try", "Deployment", "web").with_object(&body);
            let call = if message.starts_with("Pod ") { call.at("spec.template") } else { call };
            let ClusterError::Refused(Cause::ObjectRefused { kind, name, rule: told }) =
                classify(&call, &status(code, "", &message, json!({})))
            else {
                panic!("{message}")
            };
            assert_eq!((kind.as_str(), name.as_str(), told.as_str()), ("Deployment", "web", rule));
        }
    }
}

/// A pod that nobody wrote is refused in the name of what makes it.
#[test]
fn a_pod_is_refused_in_the_name_of_what_makes_it_with_what_to_write() {
    let cause =
        |field: &str, reason: &str, message: &str| json!({ "field": field, "reason": reason, "message": message });
    let table = [
        (
            cause("spec.containers[0].volumeMounts[0].name", "FieldValueNotFound", "Not found: \"data\""),
            "spec.template.spec.containers[0].volumeMounts[0].name names something that does not exist",
        ),
        (
            cause(
                "spec.containers[0].imagePullPolicy",
                "FieldValueNotSupported",
                "Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            "spec.template.spec.containers[0].imagePullPolicy must be one of Always, IfNotPresent, Never",
        ),
        (
            cause(
                "spec.containers[0].resources.requests",
                "FieldValueInvalid",
                "Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            "spec.template.spec.containers[0].resources.requests must be at most the limit",
        ),
        (
            cause("metadata.labels[a]", "FieldValueInvalid", "Invalid value: \"x\": must be no more than 63 bytes"),
            "spec.template.metadata.labels[a] must be at most 63 characters long",
        ),
    ];
    let body = json!({});
    for (cause, rule) in table {
        let call = Call::new("try", "StatefulSet", "web").with_object(&body).at("spec.template");
        let answer = status(422, "Invalid", CANARY, json!({ "causes": [cause] }));
        let refused =
            Cause::ObjectRefused { kind: "StatefulSet".to_owned(), name: "web".to_owned(), rule: rule.to_owned() };
        assert_eq!(classify(&call, &answer), ClusterError::Refused(refused));
    }
}

#[test]
fn people_hear_what_the_cluster_did_and_to_what() {
    let namespace: Namespace = "pr-7".parse().unwrap();
    let call = Call::new("list", "Pods", "").in_namespace(&namespace);
    let status =
        Status { code: 503, reason: "ServiceUnavailable".into(), message: "s3cret".into(), ..Default::default() };
    assert_eq!(classify(&call, &status).trouble(), "the cluster answered 503 to \"list Pods in pr-7\"");
    let refused = call.away("tcp connect error to 10.0.0.1: Connection refused");
    assert_eq!(refused.trouble(), "the cluster gave no answer to \"list Pods in pr-7\"");
}
