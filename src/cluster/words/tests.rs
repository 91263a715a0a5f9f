use serde_json::{Value, json};

use super::*;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the object parses")
}

#[test]
fn runtimes_say_why_an_image_is_not_pulled() {
    use PullFailure::{Denied, NotFound, OtherMachine, RateLimited, Unreachable, Unsaid};
    const IMAGE: &str = "ghcr.io/acme/shop:abc";
    let failed = "rpc error: code = NotFound desc = failed to pull and unpack image";
    for (text, expected) in [
        // containerd
        (
            format!("{failed} \"{IMAGE}\": failed to resolve reference \"{IMAGE}\": {IMAGE}: not found"),
            NotFound,
        ),
        (
            format!("failed to resolve reference \"{IMAGE}\": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=x: 403 Forbidden"),
            Denied,
        ),
        (
            format!("failed to resolve reference \"{IMAGE}\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"),
            Denied,
        ),
        (
            format!("failed to resolve reference \"{IMAGE}\": unexpected status from HEAD request to https://ghcr.io/v2/acme/shop/manifests/abc: 401 Unauthorized"),
            Denied,
        ),
        (
            format!("failed to resolve reference \"{IMAGE}\": failed to do request: Head \"https://127.0.0.1:1/v2/shop/manifests/abc\": dial tcp 127.0.0.1:1: connect: connection refused"),
            Unreachable,
        ),
        (
            "failed to do request: Head \"https://registry.invalid/v2/\": dial tcp: lookup registry.invalid on 10.0.0.10:53: no such host".to_owned(),
            Unreachable,
        ),
        ("failed to do request: Head \"https://r/v2/\": dial tcp 10.0.0.1:443: i/o timeout".to_owned(), Unreachable),
        (
            "failed to do request: Head \"https://r/v2/\": dial tcp 10.0.0.1:443: connect: connection timed out".to_owned(),
            Unreachable,
        ),
        (
            "failed to do request: Head \"https://r/v2/\": dial tcp 10.0.0.1:443: connect: operation timed out".to_owned(),
            Unreachable,
        ),
        (
            "failed to do request: Head \"https://r/v2/\": dial tcp: lookup r: Temporary failure in name resolution".to_owned(),
            Unreachable,
        ),
        (
            "failed to do request: Head \"https://r/v2/\": net/http: timeout awaiting response headers".to_owned(),
            Unreachable,
        ),
        ("failed to copy: httpReadSeeker: failed open: failed to do request: unexpected EOF".to_owned(), Unreachable),
        (
            "failed to do request: Head \"https://r/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned(),
            Unreachable,
        ),
        ("unexpected status from HEAD request to https://r/v2/: 503 Service Unavailable".to_owned(), Unreachable),
        (
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/x: 429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit.".to_owned(),
            RateLimited,
        ),
        (format!("{failed} \"{IMAGE}\": no match for platform in manifest: not found"), OtherMachine),
        // CRI-O
        ("rpc error: code = Unknown desc = reading manifest abc in ghcr.io/acme/shop: manifest unknown: manifest unknown".to_owned(), NotFound),
        ("reading manifest abc in ghcr.io/acme/shop: name unknown: repository name not known to registry".to_owned(), NotFound),
        (
            "initializing source docker://ghcr.io/acme/shop:abc: reading manifest abc in ghcr.io/acme/shop: errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n".to_owned(),
            Denied,
        ),
        ("unable to retrieve auth token: invalid username/password: unauthorized".to_owned(), Denied),
        (
            "pinging container registry 127.0.0.1:1: Get \"https://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused".to_owned(),
            Unreachable,
        ),
        ("choosing an image from manifest list docker://ghcr.io/acme/shop:abc: no image found in manifest list for architecture \"amd64\", variant \"\", OS \"linux\"".to_owned(), OtherMachine),
        ("toomanyrequests: You have reached your pull rate limit.".to_owned(), RateLimited),
        // The kubelet
        ("image pull failed for x because the registry is unavailable: pinging it".to_owned(), Unreachable),
        (format!("Back-off pulling image \"{IMAGE}\""), Unsaid),
        (String::new(), Unsaid),
    ] {
        assert_eq!(pull_failure(IMAGE, &text), expected, "{text}");
    }
    // An image's own name says nothing.
    for image in ["ghcr.io/acme/denied:not-found", "unauthorized:1", "r/forbidden@sha256:0"] {
        assert_eq!(pull_failure(image, &format!("Back-off pulling image \"{image}\"")), Unsaid, "{image}");
        let text = format!("failed to resolve reference \"{image}\": {image}: not found");
        assert_eq!(pull_failure(image, &text), NotFound, "{image}");
    }
}

/// An event about the pod `pod-2`, so many seconds after an attempt began.
fn event(reason: &str, message: &str, seconds: i64) -> Event {
    let at = jiff::Timestamp::from_second(seconds).expect("a time").to_string();
    from(json!({
        "metadata": {},
        "involvedObject": { "kind": "Pod", "uid": "pod-2", "fieldPath": "spec.containers{app}" },
        "reason": reason, "message": message, "lastTimestamp": at,
    }))
}

fn container(probes: Value) -> Container {
    let mut container = json!({
        "name": "app", "image": "ghcr.io/acme/shop:abc", "ports": [{ "name": "http", "containerPort": 8080 }],
    });
    container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
    from(container)
}

#[test]
fn the_newest_words_that_say_something_count() {
    let events = [
        event("Failed", "Failed to pull image \"ghcr.io/acme/shop:abc\": dial tcp: no such host", 10),
        event("Failed", "Failed to pull image \"ghcr.io/acme/shop:abc\": manifest unknown", 20),
        event("BackOff", "Back-off pulling image \"ghcr.io/acme/shop:abc\"", 30),
        event("Failed", "Error: ImagePullBackOff", 30),
    ];
    let app = container(json!({}));
    let why = |status: &str, pod: &str, since: Millis| {
        why_not_pulled(&app, status, Some(pod), Said { events: &events, since })
    };
    assert_eq!(why("Back-off pulling image \"ghcr.io/acme/shop:abc\"", "pod-2", 0), PullFailure::NotFound);
    assert_eq!(why("ErrImagePull: unauthorized", "pod-2", 0), PullFailure::Denied, "the status says it itself");
    assert_eq!(why("", "pod-2", 25_000), PullFailure::Unsaid, "what was said before the attempt");
    assert_eq!(why("", "pod-1", 0), PullFailure::Unsaid, "another pod's");
}

#[test]
fn probes_say_how_they_failed() {
    let http = json!({ "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" } } });
    let tcp = json!({ "readinessProbe": { "tcpSocket": { "port": 5432 } } });
    let grpc = json!({ "startupProbe": { "grpc": { "port": 9000 } } });
    let exec = json!({ "readinessProbe": { "exec": { "command": ["/ok"] } } });
    for (probes, message, expected) in [
        (
            &http,
            "Readiness probe failed: Get \"http://10.0.0.5:8080/healthz\": dial tcp 10.0.0.5:8080: connect: connection refused",
            "its readiness probe (GET /healthz on port 8080) is refused the connection: nothing listens there",
        ),
        (
            &http,
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
            "its readiness probe (GET /healthz on port 8080) is answered with 503",
        ),
        (
            &http,
            "Readiness probe failed: Get \"http://10.0.0.5:8080/healthz\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            "its readiness probe (GET /healthz on port 8080) times out",
        ),
        (
            &tcp,
            "Readiness probe failed: dial tcp 10.0.0.5:5432: i/o timeout",
            "its readiness probe (port 5432) times out",
        ),
        (
            &tcp,
            "Readiness probe failed: dial tcp 10.0.0.5:5432: connect: connection refused",
            "its readiness probe (port 5432) is refused the connection: nothing listens there",
        ),
        (
            &grpc,
            "Startup probe failed: service unhealthy (responded with \"NOT_SERVING\")",
            "its startup probe (gRPC on port 9000) is told that it does not serve",
        ),
        (
            &grpc,
            "Startup probe failed: timeout: failed to connect service \"10.0.0.5:9000\" within 1s: connection refused",
            "its startup probe (gRPC on port 9000) is refused the connection: nothing listens there",
        ),
        (
            &exec,
            "Readiness probe failed: password s3cret: connection refused",
            "its readiness probe ends with a failure",
        ),
        (
            &exec,
            "Readiness probe errored and resulted in unknown state: command timed out: \"/ok\" timed out after 1s",
            "its readiness probe times out",
        ),
    ] {
        let events = [
            event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 418", 1),
            event("Unhealthy", message, 20),
        ];
        let said = Said { events: &events, since: 0 };
        let kinds = [ProbeKind::Startup, ProbeKind::Readiness];
        let found =
            failed_probe(&container(probes.clone()), Some("pod-2"), said, &kinds).map(|probe| probe.to_string());
        assert_eq!(found.as_deref(), Some(expected), "{message}");
        assert_eq!(failed_probe(&container(probes.clone()), Some("pod-1"), said, &kinds), None, "another pod's");
        assert_eq!(failed_probe(&container(probes.clone()), Some("pod-2"), said, &[ProbeKind::Liveness]), None);
    }
}

#[test]
fn the_kubelet_says_for_which_probe_it_ends_a_container() {
    for (message, expected) in [
        ("Container app failed liveness probe, will be restarted", Some(ProbeKind::Liveness)),
        ("Container app failed startup probe, will be restarted", Some(ProbeKind::Startup)),
        ("Container app definition changed, will be restarted", None),
        ("Stopping container app", None),
    ] {
        let events = [event("Killing", message, 10), event("Killing", "Stopping container app", 20)];
        let found = |pod, since| killing_probe(&container(json!({})), Some(pod), Said { events: &events, since });
        assert_eq!(found("pod-2", 0), expected, "{message}");
        assert_eq!(found("pod-1", 0), None, "another pod's");
        assert_eq!(found("pod-2", 11_000), None, "it was said of the run before");
    }
    assert_eq!(some_failure(&container(json!({})), ProbeKind::Liveness).to_string(), "its liveness probe fails");
}

fn pod(volumes: Value) -> Pod {
    from(json!({
        "metadata": { "name": "web-2-x", "uid": "pod-2" },
        "spec": {
            "containers": [{ "name": "side" }, { "name": "app", "volumeMounts": [{ "name": "cfg", "mountPath": "/cfg" }] }],
            "volumes": volumes,
        },
    }))
}

#[test]
fn the_scheduler_says_what_nodes_lack() {
    let data = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
    let unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
    let claim_event = |reason: &str, message: &str| -> Vec<Event> {
        vec![from(json!({
            "metadata": {}, "involvedObject": { "kind": "PersistentVolumeClaim", "name": "data" },
            "reason": reason, "message": message, "lastTimestamp": "2026-11-23T18:00:00Z",
        }))]
    };
    for (text, events, expected) in [
        (
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
            vec![],
            "No node of the cluster has room for this environment: not enough CPU is free.",
        ),
        (
            "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.",
            vec![],
            "No node of the cluster has room for this environment: not enough CPU is free; not enough memory is free.",
        ),
        (
            "0/2 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {dedicated: gpu}.",
            vec![],
            "No node of the cluster takes a pod of this environment: no further pods fit on a node; nodes have taints that it does not tolerate.",
        ),
        (
            "0/1 nodes are available: 1 node(s) had taints that the pod didn't tolerate.",
            vec![],
            "No node of the cluster takes a pod of this environment: nodes have taints that it does not tolerate.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            vec![],
            "No node of the cluster takes a pod of this environment: nodes do not match its node selector or affinity.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
            vec![],
            "No node of the cluster takes a pod of this environment: nodes do not match its affinity to other pods.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints.",
            vec![],
            "No node of the cluster takes a pod of this environment: nodes do not match its topology spread.",
        ),
        (
            "0/1 nodes are available: 1 node(s) had volume node affinity conflict.",
            vec![],
            "No node of the cluster takes a pod of this environment: its volume is in another zone, or on another node.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
            vec![],
            "No node of the cluster takes a pod of this environment: its volume is in another zone, or on another node.",
        ),
        (
            "0/1 nodes are available: 1 node(s) were unschedulable.",
            vec![],
            "No node of the cluster takes a pod of this environment: nodes are closed for new pods.",
        ),
        (
            "0/1 nodes are available: 1 Insufficient example.com/gpu.",
            vec![],
            "No node of the cluster has room for this environment: a resource that it asks for is not free.",
        ),
        ("no nodes available to schedule pods", vec![], "No node of the cluster has room for this environment."),
        (
            "0/1 nodes are available: persistentvolumeclaim \"data\" not found. preemption: not eligible",
            vec![],
            "The PersistentVolumeClaim data does not exist, and a pod mounts it.",
        ),
        (
            "0/1 nodes are available: persistentvolumeclaim \"data\" is being deleted.",
            vec![],
            "The PersistentVolumeClaim data is still being removed.",
        ),
        (
            "0/1 nodes are available: persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"pvc-1\".",
            vec![],
            "The PersistentVolumeClaim data has lost its volume.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
            vec![],
            "The PersistentVolumeClaim data has no volume yet; its storage class has to provide one.",
        ),
        (unbound, vec![], "The PersistentVolumeClaim data has no volume yet; its storage class has to provide one."),
        (
            unbound,
            claim_event("FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
            "The PersistentVolumeClaim data names no storage class, and the cluster has no default one.",
        ),
        (
            unbound,
            claim_event("ProvisioningFailed", "storageclass.storage.k8s.io \"fast\" not found"),
            "The PersistentVolumeClaim data names a storage class that the cluster does not have.",
        ),
        (
            unbound,
            claim_event(
                "ProvisioningFailed",
                "failed to provision volume with StorageClass \"fast\": rpc error: secret",
            ),
            "The PersistentVolumeClaim data gets no volume: its storage class could not make one.",
        ),
    ] {
        let cause = not_scheduled(&pod(data.clone()), text, Said { events: &events, since: 0 });
        assert_eq!(cause.to_string(), expected, "{text}");
    }
}

#[test]
fn volumes_that_are_not_mounted_are_named() {
    let volumes = json!([
        { "name": "cfg", "configMap": { "name": "settings" } },
        { "name": "keys", "secret": { "secretName": "shop-keys" } },
    ]);
    let found = |events: &[Event]| {
        mount_problem(&pod(volumes.clone()), Said { events, since: 0 }).map(|cause| cause.to_string())
    };
    let general = "Unable to attach or mount volumes: unmounted volumes=[cfg], unattached volumes=[], failed to process volumes=[]: timed out waiting for the condition";
    for (reason, text, expected) in [
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"cfg\" : configmap \"settings\" not found",
            Some("Container app needs the ConfigMap settings, which does not exist."),
        ),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"keys\" : secret \"shop-keys\" not found",
            Some("Container side needs the Secret shop-keys, which does not exist."),
        ),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"keys\" : references non-existent secret key: API_KEY",
            Some("Container side needs the key API_KEY in the Secret shop-keys, which does not exist."),
        ),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"cfg\" : configmap references non-existent config key: web.conf",
            Some("Container app needs the key web.conf in the ConfigMap settings, which does not exist."),
        ),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"cfg\" : failed to sync configmap cache: timed out waiting for the condition",
            None,
        ),
        (
            "FailedMount",
            "MountVolume.MountDevice failed for volume \"pvc-1\" : rpc error: code = Internal desc = <b>x</b>",
            Some("The volume pvc-1 cannot be mounted into the pod."),
        ),
        ("FailedMount", general, Some("The volume cfg cannot be mounted into the pod.")),
        (
            "FailedAttachVolume",
            "Multi-Attach error for volume \"pvc-1\" Volume is already used by pod(s) web-1-x",
            Some("The volume pvc-1 is still attached to another node."),
        ),
        (
            "FailedAttachVolume",
            "AttachVolume.Attach failed for volume \"pvc-1\" : rpc error",
            Some("The volume pvc-1 cannot be attached to the pod's node."),
        ),
    ] {
        assert_eq!(found(&[event(reason, text, 10)]).as_deref(), expected, "{text}");
    }
    let both = [
        event("FailedMount", "MountVolume.SetUp failed for volume \"cfg\" : configmap \"settings\" not found", 10),
        event("FailedMount", general, 20),
    ];
    assert!(found(&both).is_some_and(|said| said.contains("the ConfigMap settings")), "what says more");
}

#[test]
fn commands_that_do_not_start_are_told_apart() {
    let failed = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/nope\": ";
    for (end, expected) in [
        ("stat /nope: no such file or directory: unknown", Some(StartFailure::NotThere)),
        ("executable file not found in $PATH: unknown", Some(StartFailure::NotThere)),
        ("permission denied: unknown", Some(StartFailure::NotExecutable)),
        ("exec format error", Some(StartFailure::OtherMachine)),
        ("context deadline exceeded", None),
    ] {
        assert_eq!(start_failure(&format!("{failed}{end}")), expected, "{end}");
    }
    let failed = "container create failed: time=\"2026-11-23T18:00:02Z\" level=error msg=\"runc create failed\"";
    for (text, expected) in [
        // crun
        (
            "container create failed: executable file `serve` not found in $PATH: No such file or directory",
            Some(StartFailure::NotThere),
        ),
        (
            "crun: executable file `serve` not found in $PATH: OCI runtime attempted to invoke a command that was not found",
            Some(StartFailure::NotThere),
        ),
        ("container create failed: open executable: Permission denied", Some(StartFailure::NotExecutable)),
        ("container create failed: open executable: Is a directory", Some(StartFailure::NotExecutable)),
        ("container create failed: exec container process `/app`: Exec format error", Some(StartFailure::OtherMachine)),
        (
            "container create failed: exec container process (missing dynamic library?) `/app`: No such file or directory",
            Some(StartFailure::NotThere),
        ),
        ("container create failed: mount `/x` to `/y`: No such file or directory", None),
        ("container create failed: openat2 `/sys`: Permission denied", None),
        (failed, None),
    ] {
        assert_eq!(start_failure(text), expected, "{text}");
    }
    assert_eq!(start_failure("failed to mount: no such file or directory"), None);
}
