//! Every judgement as a row: what the cluster holds, and what follows.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::environment::{EnvironmentStatus, legal_reasons};

/// 2026-11-23T18:00:00Z
const START: Millis = 1_795_456_800_000;
/// An attempt has three minutes.
const END: Millis = START + 180_000;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the object parses")
}

/// A Deployment of one replica whose second template is newest, with the ReplicaSets `web-1` and `web-2`.
fn rollout(status: Value, pods: Vec<Pod>) -> Workloads {
    let set = |revision: u8| {
        from(json!({"metadata": {
            "name": format!("web-{revision}"), "uid": format!("set-{revision}"),
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web", "controller": true}],
        }}))
    };
    let mut all = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1});
    all.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    Workloads {
        deployments: vec![from(json!({
            "metadata": {
                "name": "web", "uid": "web", "generation": 2,
                "annotations": {"deployment.kubernetes.io/revision": "2"},
            },
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": all,
        }))],
        replica_sets: vec![set(1), set(2)],
        pods,
        ..Workloads::default()
    }
}

/// A pod of the ReplicaSet `web-{revision}`, made two seconds into the attempt, with one container in this status.
fn pod(revision: u8, container: Value) -> Pod {
    let mut status = json!({"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0});
    status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    from(json!({
        "metadata": {
            "name": format!("web-{revision}-x"), "uid": format!("pod-{revision}"),
            "creationTimestamp": "2026-11-23T18:00:02Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": format!("set-{revision}"), "controller": true}],
        },
        "spec": {"containers": [{
            "name": "app", "image": "ghcr.io/acme/shop:abc", "resources": {"limits": {"memory": "64Mi"}},
        }]},
        "status": {"phase": "Pending", "containerStatuses": [status]},
    }))
}

fn with(mut pod: Pod, change: impl FnOnce(&mut Pod)) -> Pod {
    change(&mut pod);
    pod
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"state": {"waiting": {"reason": reason, "message": message}}})
}

fn crashed(restarts: i32, exit_code: i32, reason: &str, finished_at: &str) -> Value {
    let terminated = json!({"exitCode": exit_code, "reason": reason, "finishedAt": finished_at});
    json!({
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": terminated},
    })
}

fn replica_failure(message: &str) -> Value {
    let condition = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message});
    json!({"replicas": 0, "updatedReplicas": 0, "conditions": [condition]})
}

fn judge(workloads: &Workloads) -> Progress {
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    assess(
        workloads,
        &Expected { workloads: &web, attempt_started_at: START, attempt_deadline: END, now: START + 60_000 },
    )
}

fn crash_loop(restarts: i32, exit_code: i32) -> Cause {
    Cause::CrashLoop { container: "app".to_owned(), restarts, exit_code: Some(exit_code) }
}

fn pull_failed(image: &str) -> Cause {
    Cause::ImagePullFailed { container: "app".to_owned(), image: image.to_owned() }
}

fn container_config(missing: Option<&str>) -> Cause {
    Cause::ContainerConfig { container: "app".to_owned(), missing: missing.map(str::to_owned) }
}

fn out_of_memory() -> Cause {
    Cause::OutOfMemory { container: "app".to_owned(), limit: Some("64Mi".to_owned()) }
}

fn refused(rule: &str) -> Cause {
    Cause::ObjectRefused { kind: "Deployment".to_owned(), name: "web".to_owned(), rule: rule.to_owned() }
}

fn over_quota() -> Cause {
    Cause::QuotaExceeded {
        resource: "limits.cpu".to_owned(),
        needed: "300m (besides 400m in use)".to_owned(),
        allowed: "500m".to_owned(),
    }
}

const QUOTA: &str = "pods \"web-2-abcde\" is forbidden: exceeded quota: previewd, requested: limits.cpu=300m,limits.memory=64Mi, used: limits.cpu=400m,limits.memory=64Mi, limited: limits.cpu=500m,limits.memory=512Mi";
const IN_ATTEMPT: &str = "2026-11-23T18:00:30Z";
const BEFORE: &str = "2026-11-23T17:30:00Z";

#[test]
fn rollouts() {
    use Progress::{AttemptOver, Failed, Progressing, Ready, Stumbling};
    let unready = json!({"availableReplicas": 0, "unavailableReplicas": 1});
    let alone = |container| rollout(unready.clone(), vec![pod(2, container)]);
    let running = json!({"ready": true, "started": true, "state": {"running": {}}});
    let not_ready = Cause::NotReadyInTime { container: Some("app".into()), seconds: 60 };

    let table: Vec<(&str, Workloads, Progress)> = vec![
        ("nothing is there yet", Workloads::default(), Progressing),
        (
            "available, the only pods there are",
            rollout(json!({"availableReplicas": 1}), vec![pod(2, running.clone())]),
            Ready,
        ),
        (
            "available, and the pod before is still ending",
            rollout(
                json!({"availableReplicas": 1}),
                vec![
                    pod(2, running.clone()),
                    with(pod(1, running.clone()), |pod| {
                        pod.metadata.deletion_timestamp = from(json!("2026-11-23T18:00:05Z"));
                    }),
                ],
            ),
            Progressing,
        ),
        (
            "available, and the pod before has ended",
            rollout(
                json!({"availableReplicas": 1}),
                vec![
                    pod(2, running.clone()),
                    with(pod(1, running.clone()), |pod| {
                        pod.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
                    }),
                ],
            ),
            Ready,
        ),
        (
            "the controller has not seen the newest template",
            rollout(json!({"availableReplicas": 1, "observedGeneration": 1}), vec![pod(2, running.clone())]),
            Progressing,
        ),
        ("an old pod is still there", rollout(json!({"availableReplicas": 2, "replicas": 2}), vec![]), Progressing),
        (
            "only the old pod is available",
            rollout(json!({"availableReplicas": 1, "updatedReplicas": 0}), vec![pod(1, running.clone())]),
            Progressing,
        ),
        (
            "an older template's pods crash",
            rollout(unready.clone(), vec![pod(1, crashed(9, 1, "Error", IN_ATTEMPT))]),
            Progressing,
        ),
        (
            "read on two sides of a change: the newest ReplicaSet is not listed",
            Workloads {
                replica_sets: vec![],
                ..rollout(unready.clone(), vec![pod(2, crashed(9, 1, "Error", IN_ATTEMPT))])
            },
            Progressing,
        ),
        ("being created", alone(waiting("ContainerCreating", "")), Progressing),
        (
            "the image cannot be pulled",
            alone(waiting("ErrImagePull", "401")),
            Stumbling(pull_failed("ghcr.io/acme/shop:abc")),
        ),
        (
            "the image could not be pulled for a while",
            alone(waiting("ImagePullBackOff", "Back-off pulling image")),
            Stumbling(pull_failed("ghcr.io/acme/shop:abc")),
        ),
        (
            "the image's name is none, and is not shown",
            rollout(
                unready.clone(),
                vec![with(pod(2, waiting("InvalidImageName", "x")), |pod| {
                    pod.spec.as_mut().unwrap().containers[0].image = Some("[click](http://x)".into());
                })],
            ),
            Failed(pull_failed("named in the recipe")),
        ),
        (
            "root in the image",
            alone(waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root (pod: \"web-2-x_pr-7(uid)\", container: app)",
            )),
            Failed(Cause::RunsAsRoot { container: "app".into() }),
        ),
        (
            "root in the template",
            alone(waiting("CreateContainerConfigError", "container's runAsUser breaks non-root policy (pod: …)")),
            Failed(Cause::RunsAsRoot { container: "app".into() }),
        ),
        (
            "a user by name in the image",
            alone(waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image has non-numeric user (node), cannot verify user is non-root",
            )),
            Failed(container_config(Some("a numeric USER in its image"))),
        ),
        (
            "a ConfigMap is missing",
            alone(waiting("CreateContainerConfigError", "configmap \"settings\" not found")),
            Failed(container_config(Some("the ConfigMap settings"))),
        ),
        (
            "a Secret is missing",
            alone(waiting("CreateContainerConfigError", "secret \"tls.web\" not found")),
            Failed(container_config(Some("the Secret tls.web"))),
        ),
        (
            "a key is missing",
            alone(waiting("CreateContainerConfigError", "couldn't find key API_KEY in Secret pr-7-shop/keys")),
            Failed(container_config(Some("the key API_KEY in the Secret keys"))),
        ),
        (
            "a name that is none is not shown",
            alone(waiting("CreateContainerConfigError", "secret \"<b>\" not found")),
            Failed(container_config(None)),
        ),
        (
            "the kubelet waits for the object",
            alone(waiting(
                "CreateContainerConfigError",
                "failed to sync configmap cache: timed out waiting for the condition",
            )),
            Progressing,
        ),
        (
            "an image without a command",
            alone(waiting("CreateContainerError", "failed to generate spec: no command specified")),
            Failed(container_config(None)),
        ),
        ("the runtime is slow", alone(waiting("CreateContainerError", "context deadline exceeded")), Progressing),
        (
            "crashed, not restarted yet",
            alone(json!({"state": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": IN_ATTEMPT}}})),
            Progressing,
        ),
        ("crashed once", alone(crashed(1, 1, "Error", IN_ATTEMPT)), Stumbling(crash_loop(1, 1))),
        (
            "ended without a failure, again and again",
            alone(crashed(2, 0, "Completed", IN_ATTEMPT)),
            Stumbling(crash_loop(2, 0)),
        ),
        ("crashed three times", alone(crashed(3, 137, "Error", IN_ATTEMPT)), AttemptOver(crash_loop(3, 137))),
        (
            "an older pod crashed, and did not since the attempt began",
            alone(crashed(7, 1, "Error", BEFORE)),
            Progressing,
        ),
        (
            "an older pod goes on crashing",
            rollout(
                unready.clone(),
                vec![with(pod(2, crashed(7, 1, "Error", IN_ATTEMPT)), |pod| {
                    pod.metadata.creation_timestamp = from(json!(BEFORE));
                })],
            ),
            Stumbling(crash_loop(7, 1)),
        ),
        (
            "the node's clock is a little behind",
            rollout(
                unready.clone(),
                vec![with(pod(2, crashed(3, 1, "Error", "2026-11-23T17:59:58Z")), |pod| {
                    pod.metadata.creation_timestamp = from(json!("2026-11-23T17:59:57Z"));
                })],
            ),
            AttemptOver(crash_loop(3, 1)),
        ),
        (
            "out of memory for the first time",
            alone(json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": IN_ATTEMPT}}})),
            Stumbling(out_of_memory()),
        ),
        (
            "out of memory, running again",
            alone(json!({
                "restartCount": 1, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": IN_ATTEMPT}},
            })),
            Stumbling(out_of_memory()),
        ),
        ("out of memory three times", alone(crashed(3, 137, "OOMKilled", IN_ATTEMPT)), AttemptOver(out_of_memory())),
        ("runs, but is not ready", alone(json!({"state": {"running": {}}})), Stumbling(not_ready)),
        (
            "no node has room",
            rollout(
                unready.clone(),
                vec![with(pod(2, json!({})), |pod| {
                    pod.status = from(json!({"phase": "Pending", "conditions": [{
                        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient cpu.",
                    }]}));
                })],
            ),
            Stumbling(Cause::Unschedulable),
        ),
        (
            "a pod that shuts down does not count",
            rollout(
                unready.clone(),
                vec![with(pod(2, crashed(5, 1, "Error", IN_ATTEMPT)), |pod| {
                    pod.metadata.deletion_timestamp = from(json!(IN_ATTEMPT));
                })],
            ),
            Progressing,
        ),
        (
            "an evicted pod does not count",
            rollout(
                unready.clone(),
                vec![with(pod(2, crashed(5, 1, "Error", IN_ATTEMPT)), |pod| {
                    pod.status.as_mut().unwrap().phase = Some("Failed".into());
                })],
            ),
            Progressing,
        ),
        (
            "an init container crashes",
            rollout(
                unready.clone(),
                vec![with(pod(2, waiting("PodInitializing", "")), |pod| {
                    pod.spec.as_mut().unwrap().init_containers = from(json!([{"name": "migrate"}]));
                    let mut status = crashed(3, 2, "Error", IN_ATTEMPT);
                    status.as_object_mut().unwrap().extend(
                        json!({"name": "migrate", "image": "", "imageID": "", "ready": false})
                            .as_object()
                            .unwrap()
                            .clone(),
                    );
                    pod.status.as_mut().unwrap().init_container_statuses = from(json!([status]));
                })],
            ),
            AttemptOver(Cause::CrashLoop { container: "migrate".into(), restarts: 3, exit_code: Some(2) }),
        ),
        ("over the quota, and nothing leaves", rollout(replica_failure(QUOTA), vec![]), Failed(over_quota())),
        (
            "over the quota while an old pod is still there",
            rollout(replica_failure(QUOTA), vec![pod(1, running.clone())]),
            Stumbling(over_quota()),
        ),
        (
            "an older ReplicaSet is over the quota",
            rollout(replica_failure(&QUOTA.replace("web-2-", "web-1-")), vec![]),
            Progressing,
        ),
        (
            "Pod Security refuses the pods",
            rollout(
                replica_failure(
                    "pods \"web-2-abcde\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true (pod or container \"app\" must set securityContext.runAsNonRoot=true)",
                ),
                vec![],
            ),
            Failed(refused("the Pod Security profile asks that runAsNonRoot must be true")),
        ),
        (
            "the quota is not counted yet",
            rollout(
                replica_failure(
                    "pods \"web-2-abcde\" is forbidden: status unknown for quota: previewd, resources: limits.cpu",
                ),
                vec![],
            ),
            Progressing,
        ),
        (
            "a webhook of the cluster is away",
            rollout(
                replica_failure("Internal error occurred: failed calling webhook \"x.example.com\": timeout"),
                vec![],
            ),
            Progressing,
        ),
        (
            "a webhook of the cluster denies the pods",
            rollout(replica_failure("admission webhook \"images.example.com\" denied the request: <b>no</b>"), vec![]),
            Failed(refused("the cluster's policy images.example.com denies it")),
        ),
        (
            "a pod of two is bad",
            rollout(json!({"availableReplicas": 1}), vec![pod(2, running), pod(2, crashed(3, 1, "Error", IN_ATTEMPT))]),
            // The counts decide: the Deployment says that it has what it wants.
            Ready,
        ),
    ];

    for (name, workloads, expected) in table {
        let found = judge(&workloads);
        assert_eq!(found, expected, "{name}");
        // What is shown must be a pair that environments may show.
        let shown = match &found {
            Progress::Ready | Progress::Progressing => continue,
            Progress::Stumbling(cause) | Progress::Unproved { cause, told: _ } => (EnvironmentStatus::Deploying, cause),
            Progress::AttemptOver(cause) | Progress::Failed(cause) => (EnvironmentStatus::Failed, cause),
        };
        assert!(legal_reasons(shown.0).contains(&Some(shown.1.reason())), "{name}: {shown:?}");
    }
}

#[test]
fn the_worst_deployment_decides() {
    let mut workloads = rollout(json!({"availableReplicas": 1}), vec![]);
    let mut other = workloads.deployments[0].clone();
    other.metadata.name = Some("worker".into());
    other.status.as_mut().unwrap().available_replicas = Some(0);
    workloads.deployments.push(other);
    workloads.pods.push(pod(2, crashed(3, 1, "Error", IN_ATTEMPT)));
    let web = ["web", "worker"].map(|name| (WorkloadKind::Deployment, name.to_owned()));
    let expected = Expected { workloads: &web, attempt_started_at: START, attempt_deadline: END, now: START };
    assert_eq!(assess(&workloads, &expected), Progress::AttemptOver(crash_loop(3, 1)));
}

#[test]
fn pods_that_are_not_ready_are_started_anew() {
    let ready = with(pod(2, json!({"ready": true})), |pod| {
        pod.metadata.name = Some("web-2-ready".into());
        pod.status.as_mut().unwrap().conditions = from(json!([{"type": "Ready", "status": "True"}]));
    });
    let workloads = rollout(json!({}), vec![pod(1, json!({})), pod(2, json!({})), ready]);
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let expected = Expected { workloads: &web, attempt_started_at: START, attempt_deadline: END, now: START };
    let restarted = pods_to_restart(&workloads, &expected);
    assert_eq!(restarted, [PodReference { name: "web-2-x".into(), uid: "pod-2".into() }]);
}

/// What runs to its end has the whole of an attempt for it, whether its container says that it is ready or not.
#[test]
fn a_job_is_late_at_the_end_of_an_attempt() {
    let job = |annotations: Value| -> Job {
        from(json!({"metadata": {"name": "work", "uid": "work", "annotations": annotations}, "spec": {"template": {}}}))
    };
    let runs = with(pod(2, json!({"ready": true, "state": {"running": {}}})), |pod| {
        pod.metadata.owner_references = from(json!([
            {"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": "work", "controller": true}
        ]));
    });
    let setup = Cause::SetupFailed { job: "work".to_owned(), exit_code: None };
    let hook = Cause::HookFailed { job: "work".to_owned(), exit_code: None };
    for (annotations, cause) in [(json!({}), setup), (json!({"helm.sh/hook": "pre-install"}), hook)] {
        for pods in [vec![], vec![runs.clone()]] {
            let workloads = Workloads { jobs: vec![job(annotations.clone())], pods, ..Workloads::default() };
            let work = [(WorkloadKind::Job, "work".to_owned())];
            let after = |seconds: Millis| {
                assess(
                    &workloads,
                    &Expected {
                        workloads: &work,
                        attempt_started_at: START,
                        attempt_deadline: END,
                        now: START + seconds * 1_000,
                    },
                )
            };
            assert_eq!(after(170), Progress::Progressing);
            assert_eq!(after(180), Progress::Stumbling(cause.clone()));
        }
    }
}

#[test]
fn a_job_is_done_for_what_it_was_applied_for() {
    let job = |annotations: Value, condition: &str| Workloads {
        jobs: vec![from(json!({
            "metadata": {"name": "migrate", "annotations": annotations},
            "status": {"conditions": [{"type": condition, "status": "True"}]},
        }))],
        ..Workloads::default()
    };
    let applied = json!({"previewd.dev/applied": "this"});
    assert!(has_completed(&job(applied.clone(), "Complete"), "migrate", "this"));
    assert!(!has_completed(&job(applied.clone(), "Failed"), "migrate", "this"));
    assert!(!has_completed(&job(applied.clone(), "Complete"), "migrate", "another commit's"));
    assert!(!has_completed(&job(applied, "Complete"), "other", "this"));
    assert!(has_completed(&job(json!({"previewd.dev/once": "true"}), "Complete"), "migrate", "another commit's"));
}
