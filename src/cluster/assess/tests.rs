//! Every judgement as a row: what the cluster holds, and what follows.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::environment::{
    EnvironmentStatus, Eviction, FailedProbe, Hindrance, JobEnd, Obstacle, ProbeKind, ProbeResult, PullFailure,
    Shortage, StartFailure, VolumeProblem, legal_reasons,
};

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
    assess(workloads, &at(60, &web))
}

/// So many seconds into the attempt.
fn at(seconds: Millis, workloads: &[(WorkloadKind, String)]) -> Expected<'_> {
    Expected {
        workloads,
        attempt_started_at: START,
        attempt_deadline: END,
        now: START + seconds * 1_000,
        tasks: Tasks::Repositorys,
    }
}

fn crash_loop(restarts: i32, exit_code: i32) -> Cause {
    Cause::CrashLoop { container: "app".to_owned(), restarts, exit_code: Some(exit_code) }
}

fn pull_failed(image: &str, why: PullFailure) -> Cause {
    Cause::ImagePullFailed { container: "app".to_owned(), image: image.to_owned(), why }
}

fn not_taken(why: Obstacle) -> Cause {
    Cause::NotTaken { kind: "Deployment".to_owned(), name: "web".to_owned(), why }
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
    let not_ready = Cause::NotReadyYet { container: "app".into(), seconds: 58, of: 178, probe: None };

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
            alone(waiting("ErrImagePull", "unexpected status from HEAD request: 401 Unauthorized")),
            Stumbling(pull_failed("ghcr.io/acme/shop:abc", PullFailure::Denied)),
        ),
        (
            "the image could not be pulled for a while",
            alone(waiting("ImagePullBackOff", "Back-off pulling image")),
            Stumbling(pull_failed("ghcr.io/acme/shop:abc", PullFailure::Unsaid)),
        ),
        (
            "the image's name is none, and is not shown",
            rollout(
                unready.clone(),
                vec![with(pod(2, waiting("InvalidImageName", "x")), |pod| {
                    pod.spec.as_mut().unwrap().containers[0].image = Some("[click](http://x)".into());
                })],
            ),
            Failed(pull_failed("named in the recipe", PullFailure::NoName)),
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
            Stumbling(Cause::Unschedulable { hindrances: vec![Hindrance::Cpu] }),
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
            "what the containers of a pod that has failed did does not count",
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
            "over the quota while an old pod ends",
            rollout(
                replica_failure(QUOTA),
                vec![with(pod(1, running.clone()), |pod| {
                    pod.metadata.deletion_timestamp = from(json!("2026-11-23T18:01:10Z"));
                })],
            ),
            Progressing,
        ),
        (
            "over the quota while an old pod does not end",
            rollout(
                replica_failure(QUOTA),
                vec![with(pod(1, running.clone()), |pod| {
                    pod.metadata.deletion_timestamp = from(json!("2026-11-23T18:00:10Z"));
                })],
            ),
            Stumbling(over_quota()),
        ),
        (
            "a command that its image does not have",
            alone(crashed(1, 128, "StartError", IN_ATTEMPT)).also(|workloads| {
                let statuses = workloads.pods[0].status.as_mut().unwrap().container_statuses.as_mut().unwrap();
                let last = statuses[0].last_state.as_mut().unwrap().terminated.as_mut().unwrap();
                last.message = Some("runc create failed: exec: \"/nope\": no such file or directory".into());
            }),
            Failed(Cause::CannotStart { container: "app".into(), why: StartFailure::NotThere }),
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
            Stumbling(not_taken(Obstacle::QuotaNotCounted)),
        ),
        (
            "a webhook of the cluster is away",
            rollout(
                replica_failure("Internal error occurred: failed calling webhook \"x.example.com\": timeout"),
                vec![],
            ),
            Stumbling(not_taken(Obstacle::Webhook { name: Some("x.example.com".into()) })),
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
    let expected = at(0, &web);
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
    let expected = at(0, &web);
    let restarted = pods_to_restart(&workloads, &expected);
    let unready = [PodReference { name: "web-2-x".into(), uid: "pod-2".into() }];
    assert_eq!(restarted, unready);
    assert!(failed_pods(&workloads, &expected).is_empty(), "it may become ready yet");
    let as_root = waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root");
    let workloads = rollout(json!({}), vec![pod(1, as_root.clone()), pod(2, as_root)]);
    assert_eq!(failed_pods(&workloads, &expected), unready, "it would end any attempt");
}

/// A change to what a row holds.
trait Also: Sized {
    fn also(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Also for Workloads {}
impl Also for Value {}
impl Also for k8s_openapi::api::core::v1::Event {}

fn unready(container: Value) -> Workloads {
    rollout(json!({"availableReplicas": 0, "unavailableReplicas": 1}), vec![pod(2, container)])
}

/// Times count from when the container began, which may be long after the attempt did.
#[test]
fn what_starts_late_is_not_late() {
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let started = unready(json!({"state": {"running": {"startedAt": "2026-11-23T18:01:25Z"}}}));
    let not_ready =
        |seconds, of| Progress::Stumbling(Cause::NotReadyYet { container: "app".into(), seconds, of, probe: None });
    assert_eq!(assess(&started, &at(86, &web)), Progress::Progressing, "a second after its start");
    assert_eq!(assess(&started, &at(101, &web)), not_ready(16, 95));
    assert_eq!(assess(&started, &at(180, &web)), not_ready(95, 95));
    let Progress::Stumbling(cause) = assess(&started, &at(101, &web)) else { panic!("it stumbles") };
    assert_eq!(cause.to_string(), "Container app is not ready yet, 16 s of 95 s.");
    let ended = "Container app runs, but was not ready within the 16 seconds that it had.";
    assert_eq!(cause.in_the_end().to_string(), ended);
    // What ran before the attempt began has had nothing of it.
    let older = unready(json!({"state": {"running": {"startedAt": BEFORE}}}));
    assert_eq!(assess(&older, &at(10, &web)), Progress::Progressing);
    assert_eq!(assess(&older, &at(20, &web)), not_ready(20, 180));
}

/// A crash counts for as long as nothing shows that it is over: a run that lasts longer than the one before it does.
#[test]
fn what_runs_for_longer_than_before_its_crash_is_judged_as_it_runs() {
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let ended = |reason: &str, restarts: i32, started: &str, finished: &str| {
        let again = json!({"running": {"startedAt": "2026-11-23T18:00:31Z"}});
        let terminated = json!({"exitCode": 1, "reason": reason, "startedAt": started, "finishedAt": finished});
        let container = json!({"restartCount": restarts, "state": again, "lastState": {"terminated": terminated}});
        unready(container).also(|workloads| {
            workloads.pods[0].spec.as_mut().unwrap().containers[0].readiness_probe =
                from(json!({"httpGet": {"path": "/", "port": 8080}}));
            let app = json!({"kind": "Pod", "uid": "pod-2", "fieldPath": "spec.containers{app}"});
            let answered = "Readiness probe failed: HTTP probe failed with statuscode: 503";
            workloads.events = vec![event(app, "Unhealthy", answered)];
        })
    };
    let probe = FailedProbe {
        kind: ProbeKind::Readiness,
        target: Some("GET / on port 8080".into()),
        result: ProbeResult::Answered(503),
    };
    let not_ready = |seconds| {
        let probe = Some(probe.clone());
        Progress::Stumbling(Cause::NotReadyYet { container: "app".into(), seconds, of: 149, probe })
    };
    // It lived for a second, so that sixteen are enough.
    let once = ended("Error", 1, "2026-11-23T18:00:29Z", IN_ATTEMPT);
    assert_eq!(assess(&once, &at(46, &web)), Progress::Stumbling(crash_loop(1, 1)));
    assert_eq!(assess(&once, &at(47, &web)), not_ready(16));
    // It lived for twenty.
    let late = ended("Error", 3, "2026-11-23T18:00:10Z", IN_ATTEMPT);
    assert_eq!(assess(&late, &at(65, &web)), Progress::AttemptOver(crash_loop(3, 1)));
    assert_eq!(assess(&late, &at(66, &web)), not_ready(35));
    let hungry = ended("OOMKilled", 1, "2026-11-23T18:00:29Z", IN_ATTEMPT);
    assert_eq!(assess(&hungry, &at(100, &web)), Progress::Stumbling(out_of_memory()), "it may be hungry again");
}

/// What waits for something else before the application begins is named, and not the application.
#[test]
fn an_init_container_that_does_not_end_is_told() {
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let waits = |started: &str, policy: Value| {
        with(pod(2, waiting("PodInitializing", "")), |pod| {
            let init = json!({"name": "wait-for-db", "restartPolicy": policy});
            pod.spec.as_mut().unwrap().init_containers = from(json!([init]));
            pod.status.as_mut().unwrap().init_container_statuses = from(json!([{
                "name": "wait-for-db", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"running": {"startedAt": started}},
            }]));
        })
    };
    let alone = |pod: Pod| rollout(json!({"availableReplicas": 0, "unavailableReplicas": 1}), vec![pod]);
    let runs =
        |seconds, of| Progress::Stumbling(Cause::InitRuns { container: "wait-for-db".into(), seconds, of: Some(of) });
    let new = alone(waits("2026-11-23T18:00:02Z", Value::Null));
    assert_eq!(assess(&new, &at(16, &web)), Progress::Progressing);
    assert_eq!(assess(&new, &at(18, &web)), runs(16, 178));
    let Progress::Stumbling(cause) = assess(&new, &at(162, &web)) else { panic!("it stumbles") };
    assert_eq!(cause.to_string(), "Init container wait-for-db has not ended yet, 160 s of 178 s.");
    assert_eq!(cause.clone().steady().to_string(), "Init container wait-for-db has not ended yet.");
    let ended =
        "Init container wait-for-db did not end within the 160 seconds that it had; its log says how far it came.";
    assert_eq!(cause.in_the_end().to_string(), ended);
    // What ran before the attempt began has had nothing of it.
    let older = alone(waits(BEFORE, Value::Null));
    assert_eq!(assess(&older, &at(10, &web)), Progress::Progressing);
    assert_eq!(assess(&older, &at(20, &web)), runs(20, 180));
    // One that goes on beside the others is to become ready.
    let beside = assess(&alone(waits("2026-11-23T18:00:02Z", json!("Always"))), &at(60, &web));
    assert!(matches!(&beside, Progress::Stumbling(Cause::NotReadyYet { .. })), "{beside:?}");
    // Whatever else is wrong tells more.
    let both = rollout(json!({}), vec![waits(BEFORE, Value::Null), pod(2, crashed(1, 1, "Error", IN_ATTEMPT))]);
    assert_eq!(assess(&both, &at(60, &web)), Progress::Stumbling(crash_loop(1, 1)));
    // A Job's belongs to its work.
    let of_job = with(waits("2026-11-23T18:00:32Z", Value::Null), |pod| {
        pod.metadata.owner_references = of_work(json!({})).metadata.owner_references;
    });
    let jobs = Workloads { jobs: vec![job(json!({}), json!({}))], pods: vec![of_job], ..Workloads::default() };
    let work = [(WorkloadKind::Job, "work".to_owned())];
    assert_eq!(assess(&jobs, &at(60, &work)), Progress::Progressing);
    let late = Cause::JobFailed { job: "work".into(), end: JobEnd::OutOfTime { seconds: 150 } };
    assert_eq!(assess(&jobs, &at(180, &work)), Progress::Stumbling(late));
}

#[test]
fn a_pod_that_no_node_takes_is_told_after_a_while() {
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let waits = unready(json!({})).also(|workloads| {
        workloads.pods[0].status = from(json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: persistentvolumeclaim \"data\" not found.",
        }]}));
        workloads.pods[0].metadata.creation_timestamp = from(json!("2026-11-23T18:01:00Z"));
    });
    assert_eq!(assess(&waits, &at(65, &web)), Progress::Progressing);
    let missing = Cause::VolumeUnavailable { name: Some("data".into()), why: VolumeProblem::Missing };
    assert_eq!(assess(&waits, &at(70, &web)), Progress::Stumbling(missing));
}

fn event(object: Value, reason: &str, message: &str) -> k8s_openapi::api::core::v1::Event {
    from(json!({
        "metadata": {}, "involvedObject": object, "reason": reason, "message": message, "lastTimestamp": IN_ATTEMPT,
    }))
}

/// What another revision's pods stumble over is not this commit's matter, nor is what was said in another attempt.
#[test]
fn only_the_pods_own_events_count() {
    let refused = "Readiness probe failed: dial tcp 10.0.0.5:8080: connect: connection refused";
    let app = |uid: &str| json!({"kind": "Pod", "uid": uid, "fieldPath": "spec.containers{app}"});
    let probed = |container: Value, uid: &str| {
        unready(container).also(|workloads| {
            let spec = workloads.pods[0].spec.as_mut().unwrap();
            spec.containers[0].readiness_probe = from(json!({"tcpSocket": {"port": 8080}}));
            spec.containers[0].liveness_probe = from(json!({"tcpSocket": {"port": 8080}}));
            workloads.events = vec![
                event(app(uid), "Unhealthy", refused),
                event(app(uid), "Unhealthy", &refused.replace("Readiness", "Liveness")),
            ];
        })
    };
    let running = json!({"state": {"running": {}}});
    let probe = |kind| FailedProbe { kind, target: Some("port 8080".into()), result: ProbeResult::Refused };
    let not_ready =
        |probe| Progress::Stumbling(Cause::NotReadyYet { container: "app".into(), seconds: 58, of: 178, probe });
    assert_eq!(judge(&probed(running.clone(), "pod-2")), not_ready(Some(probe(ProbeKind::Readiness))));
    assert_eq!(judge(&probed(running.clone(), "pod-1")), not_ready(None));
    let before = probed(running, "pod-2").also(|workloads| {
        for event in &mut workloads.events {
            event.last_timestamp = from(json!(BEFORE));
        }
    });
    assert_eq!(judge(&before), not_ready(None));
    // It is the node that ends it.
    let killed = Cause::KilledByProbe { container: "app".into(), restarts: 1, probe: probe(ProbeKind::Liveness) };
    assert_eq!(judge(&probed(crashed(1, 137, "Error", IN_ATTEMPT), "pod-2")), Progress::Stumbling(killed));
    assert_eq!(judge(&probed(crashed(1, 1, "Error", IN_ATTEMPT), "pod-2")), Progress::Stumbling(crash_loop(1, 1)));
}

/// Many applications end well when they are asked to, and their code does not say who asked.
#[test]
fn what_its_node_ends_for_a_probe_is_not_the_applications_doing() {
    let app = |field: &str| json!({"kind": "Pod", "uid": "pod-2", "fieldPath": format!("spec.containers{{{field}}}")});
    let killing = |which: &str| format!("Container app failed {which} probe, will be restarted");
    let unhealthy = |which: &str| format!("{which} probe failed: dial tcp 10.0.0.5:8080: connect: connection refused");
    let judged = |exit_code: i32, events: Vec<k8s_openapi::api::core::v1::Event>| {
        let run = crashed(1, exit_code, "Completed", IN_ATTEMPT).also(|status| {
            status["lastState"]["terminated"]["startedAt"] = json!("2026-11-23T18:00:20Z");
        });
        judge(&unready(run).also(|workloads| {
            let spec = workloads.pods[0].spec.as_mut().unwrap();
            spec.containers[0].startup_probe = from(json!({"tcpSocket": {"port": 8080}}));
            spec.containers[0].liveness_probe = from(json!({"tcpSocket": {"port": 8080}}));
            workloads.events = events;
        }))
    };
    let killed = |kind, result| {
        let probe = FailedProbe { kind, target: Some("port 8080".into()), result };
        Progress::Stumbling(Cause::KilledByProbe { container: "app".into(), restarts: 1, probe })
    };
    for exit_code in [0, 1, 2, 137, 143] {
        for (which, kind) in [("Liveness", ProbeKind::Liveness), ("Startup", ProbeKind::Startup)] {
            let kill = || event(app("app"), "Killing", &killing(&which.to_lowercase()));
            let said = vec![kill(), event(app("app"), "Unhealthy", &unhealthy(which))];
            assert_eq!(judged(exit_code, said), killed(kind, ProbeResult::Refused), "{which}, {exit_code}");
            assert_eq!(judged(exit_code, vec![kill()]), killed(kind, ProbeResult::Failed), "{which}, {exit_code}");
        }
    }
    let by_itself = Progress::Stumbling(crash_loop(1, 2));
    let other = vec![event(app("other"), "Killing", &killing("liveness"))];
    assert_eq!(judged(2, other), by_itself, "another container");
    assert_eq!(judged(2, vec![event(app("app"), "Killing", "Stopping container app")]), by_itself, "no probe");
    let before = event(app("app"), "Killing", &killing("liveness")).also(|event| {
        event.last_timestamp = from(json!("2026-11-23T18:00:19Z"));
    });
    assert_eq!(judged(2, vec![before]), by_itself, "the run before");
}

const TOO_MUCH: &str = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ";
const PRESSURE: &str = "The node was low on resource: memory. Container app was using 1Gi, request is 0. ";

fn storage() -> Eviction {
    Eviction::Storage { limit: Some("1Gi".to_owned()) }
}

fn evicted_of(pod_of: &str, why: Eviction) -> Progress {
    Progress::Stumbling(Cause::Evicted { pod_of: pod_of.to_owned(), why })
}

/// A pod that its node did not keep, made at this time.
fn not_kept(pod: Pod, reason: &str, message: &str, created: &str) -> Pod {
    with(pod, |pod| {
        pod.metadata.creation_timestamp = from(json!(created));
        let status = pod.status.as_mut().unwrap();
        status.phase = Some("Failed".into());
        (status.reason, status.message) = (Some(reason.into()), Some(message.into()));
    })
}

/// What a pod writes, the next one writes too. What its node ran short of, the next one may find.
#[test]
fn pods_that_their_nodes_do_not_keep_are_told() {
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let gone = |reason: &str, message: &str, created: &str| not_kept(pod(2, json!({})), reason, message, created);
    let evicted = |message: &str| gone("Evicted", message, IN_ATTEMPT);
    let full = |created: &str| gone("OutOfcpu", "Node didn't have enough resource: cpu, requested: 500", created);
    let makes = || pod(2, waiting("ContainerCreating", ""));
    let runs = || pod(2, json!({"state": {"running": {}}}));
    let judged = |seconds, pods: Vec<Pod>| {
        let status = json!({"availableReplicas": 0, "unavailableReplicas": 1});
        assess(&rollout(status, pods), &at(seconds, &web))
    };
    let memory = || Eviction::Pressure(Shortage::Memory);
    for (what, seconds, pods, expected) in [
        ("it wrote too much", 60, vec![evicted(TOO_MUCH)], evicted_of("web", storage())),
        ("the next one is made", 60, vec![evicted(TOO_MUCH), makes()], evicted_of("web", storage())),
        ("the next one runs", 60, vec![evicted(TOO_MUCH), runs()], evicted_of("web", storage())),
        (
            "the next one crashes",
            60,
            vec![evicted(TOO_MUCH), pod(2, crashed(1, 1, "Error", IN_ATTEMPT))],
            Progress::Stumbling(crash_loop(1, 1)),
        ),
        ("its node ran short once", 60, vec![evicted(PRESSURE), makes()], Progress::Progressing),
        ("twice", 60, vec![evicted(PRESSURE), evicted(PRESSURE), makes()], evicted_of("web", memory())),
        ("once, and that is all there is", 180, vec![evicted(PRESSURE), makes()], evicted_of("web", memory())),
        (
            "once, and the next one is not ready",
            180,
            vec![evicted(PRESSURE), runs()],
            Progress::Stumbling(Cause::NotReadyYet { container: "app".into(), seconds: 178, of: 178, probe: None }),
        ),
        (
            "the last one counts",
            60,
            vec![evicted(PRESSURE), full("2026-11-23T18:00:40Z"), makes()],
            evicted_of("web", Eviction::NoRoom),
        ),
        (
            "what lies in the pod tells more",
            60,
            vec![evicted(TOO_MUCH), full("2026-11-23T18:00:40Z")],
            evicted_of("web", storage()),
        ),
        ("before the attempt", 60, vec![gone("Evicted", TOO_MUCH, BEFORE), makes()], Progress::Progressing),
        (
            "of an older template",
            60,
            vec![not_kept(pod(1, json!({})), "Evicted", TOO_MUCH, IN_ATTEMPT), makes()],
            Progress::Progressing,
        ),
        ("for another reason", 60, vec![gone("Terminated", "", IN_ATTEMPT), makes()], Progress::Progressing),
    ] {
        assert_eq!(judged(seconds, pods), expected, "{what}");
    }
}

/// Its controller takes such a pod away at once: the events stay.
#[test]
fn a_stateful_set_lost_the_pods_that_events_tell_of() {
    let judged = |seconds, events: Vec<k8s_openapi::api::core::v1::Event>| {
        let set = json!({
            "metadata": {"name": "db", "uid": "db", "generation": 1, "creationTimestamp": BEFORE},
            "spec": {"replicas": 1, "serviceName": "db", "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "replicas": 1, "updateRevision": "db-2"},
        });
        let pod = with(pod(2, waiting("ContainerCreating", "")), |pod| {
            pod.metadata.name = Some("db-0".into());
            pod.metadata.labels = from(json!({"controller-revision-hash": "db-2"}));
            pod.metadata.owner_references = from(json!([
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db", "controller": true}
            ]));
        });
        let workloads = Workloads { stateful_sets: vec![from(set)], pods: vec![pod], events, ..Workloads::default() };
        assert!(needs_explaining(&workloads, START + 3_000), "though its newest pod is younger than that");
        assess(&workloads, &at(seconds, &[(WorkloadKind::StatefulSet, "db".to_owned())]))
    };
    let of_pod = |name: &str, uid: &str, reason: &str, message: &str| {
        event(json!({"kind": "Pod", "name": name, "uid": uid}), reason, message)
    };
    let pressure = |uid: &str| of_pod("db-0", uid, "Evicted", PRESSURE);
    let memory = || Eviction::Pressure(Shortage::Memory);
    let none = Progress::Progressing;
    assert_eq!(judged(60, vec![of_pod("db-0", "a", "Evicted", TOO_MUCH)]), evicted_of("db", storage()));
    assert_eq!(judged(60, vec![pressure("a")]), none, "once");
    assert_eq!(judged(60, vec![pressure("a"), pressure("a")]), none, "the same one");
    assert_eq!(judged(60, vec![pressure("a"), pressure("b")]), evicted_of("db", memory()));
    assert_eq!(judged(180, vec![pressure("a")]), evicted_of("db", memory()), "and that is all there is");
    for other in ["db-", "db-0-x", "db-old-0", "web-0"] {
        assert_eq!(judged(60, vec![of_pod(other, "a", "Evicted", TOO_MUCH)]), none, "{other}");
    }
    let before = of_pod("db-0", "a", "Evicted", TOO_MUCH).also(|event| event.last_timestamp = from(json!(BEFORE)));
    assert_eq!(judged(60, vec![before]), none, "before the attempt");
}

/// Its containers are ended with it, and their codes are not the Job's own doing.
#[test]
fn a_job_whose_pods_their_nodes_do_not_keep_says_so() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let gone = |message: &str| not_kept(failed_try(137, "Error"), "Evicted", message, IN_ATTEMPT);
    let judged = |seconds, status: Value, pods: Vec<Pod>| {
        let workloads = Workloads { jobs: vec![job(json!({}), status)], pods, ..Workloads::default() };
        assess(&workloads, &at(seconds, &work))
    };
    let tried = |seconds, pods| judged(seconds, json!({}), pods);
    let memory = || Eviction::Pressure(Shortage::Memory);
    let code = Progress::Stumbling(Cause::JobFailed { job: "work".into(), end: JobEnd::ExitCode(2) });
    assert_eq!(tried(60, vec![gone(TOO_MUCH)]), evicted_of("work", storage()));
    assert_eq!(tried(60, vec![gone(TOO_MUCH), failed_try(2, "Error")]), evicted_of("work", storage()));
    assert_eq!(tried(60, vec![gone(PRESSURE)]), Progress::Progressing);
    assert_eq!(tried(60, vec![gone(PRESSURE), failed_try(2, "Error")]), code);
    assert_eq!(tried(60, vec![gone(PRESSURE), gone(PRESSURE)]), evicted_of("work", memory()));
    assert_eq!(tried(180, vec![gone(PRESSURE)]), evicted_of("work", memory()));
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
    let over = Cause::Evicted { pod_of: "work".into(), why: memory() };
    assert_eq!(judged(60, failed, vec![gone(PRESSURE)]), Progress::AttemptOver(over), "it is not tried again");
}

#[test]
fn volumes_are_asked_for_while_containers_are_made() {
    let missing = "MountVolume.SetUp failed for volume \"cfg\" : configmap \"settings\" not found";
    let mounting = |uid: &str| {
        unready(waiting("ContainerCreating", "")).also(|workloads| {
            workloads.pods[0].status.as_mut().unwrap().conditions =
                from(json!([{"type": "PodScheduled", "status": "True"}]));
            workloads.events = vec![event(json!({"kind": "Pod", "uid": uid}), "FailedMount", missing)];
        })
    };
    assert_eq!(judge(&mounting("pod-2")), Progress::Stumbling(container_config(Some("the ConfigMap settings"))));
    assert_eq!(judge(&mounting("pod-1")), Progress::Progressing);
}

#[test]
fn what_does_not_come_up_is_asked_about() {
    let asks = |workloads: &Workloads, seconds: Millis| needs_explaining(workloads, START + seconds * 1_000);
    let running = unready(json!({"state": {"running": {}}}));
    assert!(!asks(&running, 6) && asks(&running, 7), "the pod was made 2 s into the attempt");
    let ready = running.clone().also(|workloads| {
        workloads.pods[0].status.as_mut().unwrap().conditions = from(json!([{"type": "Ready", "status": "True"}]));
    });
    assert!(!asks(&ready, 60));
    let work = job(json!({}), json!({}));
    assert!(asks(&Workloads { jobs: vec![work], ..Workloads::default() }, 60), "a Job without a pod");
    let done = job(json!({}), json!({"conditions": [{"type": "Complete", "status": "True"}]}));
    assert!(!asks(&Workloads { jobs: vec![done], ..Workloads::default() }, 60));
}

/// The Job `work`, which began 30 s into the attempt.
fn job(annotations: Value, status: Value) -> Job {
    let mut all = json!({"startTime": IN_ATTEMPT});
    all.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    from(json!({
        "metadata": {"name": "work", "uid": "work", "annotations": annotations, "creationTimestamp": IN_ATTEMPT},
        "spec": {"template": {}}, "status": all,
    }))
}

fn of_work(container: Value) -> Pod {
    with(pod(2, container), |pod| {
        pod.metadata.owner_references = from(json!([
            {"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": "work", "controller": true}
        ]));
    })
}

/// What runs to its end has the whole of an attempt for it, whether its container says that it is ready or not, and its
/// time counts from its own beginning.
#[test]
fn a_job_is_late_at_the_end_of_an_attempt() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let runs = of_work(json!({"ready": true, "state": {"running": {}}}));
    let name = || "work".to_owned();
    let end = JobEnd::OutOfTime { seconds: 150 };
    let table = [
        (json!({}), Tasks::Recipes { databases: true }, Cause::SetupFailed { job: name(), end, databases: true }),
        (json!({}), Tasks::Repositorys, Cause::JobFailed { job: name(), end }),
        (json!({"helm.sh/hook": "pre-install"}), Tasks::Repositorys, Cause::HookFailed { job: name(), end }),
    ];
    for (annotations, tasks, cause) in table {
        let jobs = vec![job(annotations, json!({}))];
        let workloads = Workloads { jobs, pods: vec![runs.clone()], ..Workloads::default() };
        let after = |seconds| assess(&workloads, &Expected { tasks, ..at(seconds, &work) });
        assert_eq!(after(170), Progress::Progressing);
        assert_eq!(after(180), Progress::Stumbling(cause));
    }
}

/// A Job whose pod was never made changed nothing, and has no log.
#[test]
fn a_job_without_a_pod_is_told_by_what_keeps_it_from_one() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let databases = Tasks::Recipes { databases: true };
    let alone = Workloads { jobs: vec![job(json!({}), json!({}))], ..Workloads::default() };
    let after =
        |workloads: &Workloads, seconds| assess(workloads, &Expected { tasks: databases, ..at(seconds, &work) });
    assert_eq!(after(&alone, 60), Progress::Progressing);
    let Progress::Stumbling(cause) = after(&alone, 180) else { panic!("it stumbles") };
    assert_eq!(cause.to_string(), "The job work did not begin: the cluster made no pod of it.");
    let message = format!("Error creating: {}", QUOTA.replace("web-2-abcde", "work-abcde"));
    let over = alone.also(|workloads| workloads.events = vec![event(json!({"uid": "work"}), "FailedCreate", &message)]);
    assert_eq!(after(&over, 60), Progress::Stumbling(over_quota()));
    let ending = over.clone().also(|workloads| {
        workloads.pods = vec![with(pod(1, json!({"ready": true})), |pod| {
            pod.metadata.deletion_timestamp = from(json!("2026-11-23T18:01:00Z"));
        })];
    });
    assert_eq!(after(&ending, 60), Progress::Progressing, "the room comes by itself");
}

#[test]
fn a_job_that_failed_says_of_what() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let failed = |reason: &str| {
        json!({"conditions": [
            {"type": "Failed", "status": "True", "reason": reason, "lastTransitionTime": "2026-11-23T18:00:50Z"}
        ]})
    };
    let ended = |exit_code: i32, reason: &str| {
        of_work(json!({"state": {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": IN_ATTEMPT}}}))
    };
    let judged = |reason: &str, pods: Vec<Pod>| {
        let workloads = Workloads { jobs: vec![job(json!({}), failed(reason))], pods, ..Workloads::default() };
        let tasks = Tasks::Recipes { databases: false };
        match assess(&workloads, &Expected { tasks, ..at(60, &work) }) {
            Progress::AttemptOver(cause) => cause.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (reason, pods, expected) in [
        ("BackoffLimitExceeded", vec![ended(2, "Error")], "The job work ended with exit code 2; its log says why."),
        ("BackoffLimitExceeded", vec![], "The job work failed; its log says why."),
        (
            "BackoffLimitExceeded",
            vec![ended(137, "OOMKilled")],
            "Container app ran out of memory at its limit of 64Mi.",
        ),
        (
            "DeadlineExceeded",
            vec![ended(143, "Error")],
            "The job work did not end within the 20 seconds that it had; its log says how far it came.",
        ),
    ] {
        assert_eq!(judged(reason, pods), expected);
    }
}

/// A pod of the Job `work` that failed with its only container.
fn failed_try(exit_code: i32, reason: &str) -> Pod {
    let terminated = json!({"exitCode": exit_code, "reason": reason, "finishedAt": IN_ATTEMPT});
    with(of_work(json!({"state": {"terminated": terminated}})), |pod| {
        pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
    })
}

/// Kubernetes tries it six times more, and every time takes longer than the one before: that is told meanwhile.
#[test]
fn a_job_that_is_tried_again_says_of_what() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let runs = with(of_work(json!({"state": {"running": {}}})), |pod| {
        pod.metadata.creation_timestamp = from(json!("2026-11-23T18:00:40Z"));
    });
    let judged = |seconds, pods: Vec<Pod>| {
        let workloads = Workloads { jobs: vec![job(json!({}), json!({}))], pods, ..Workloads::default() };
        assess(&workloads, &at(seconds, &work))
    };
    let ended = |end| Progress::Stumbling(Cause::JobFailed { job: "work".into(), end });
    let code = |code| ended(JobEnd::ExitCode(code));
    let between = |change: fn(&mut Pod)| vec![with(failed_try(2, "Error"), change)];
    for (what, pods, expected) in [
        ("between two tries", between(|_| {}), code(2)),
        ("the next try runs", vec![failed_try(2, "Error"), runs.clone()], code(2)),
        (
            "its pod has not ended for its other containers",
            between(|pod| pod.status.as_mut().unwrap().phase = Some("Running".into())),
            code(2),
        ),
        (
            "out of memory, and it runs",
            vec![failed_try(137, "OOMKilled"), runs.clone()],
            Progress::Stumbling(out_of_memory()),
        ),
        (
            "it failed in another way before",
            vec![
                with(failed_try(3, "Error"), |pod| {
                    pod.metadata.creation_timestamp = from(json!("2026-11-23T18:00:01Z"));
                }),
                failed_try(2, "Error"),
            ],
            code(2),
        ),
        (
            "the container is started again in its pod",
            between(|pod| {
                pod.spec.as_mut().unwrap().restart_policy = Some("OnFailure".into());
                pod.status.as_mut().unwrap().phase = Some("Running".into());
            }),
            Progress::Progressing,
        ),
        (
            "somebody takes the pod away",
            between(|pod| pod.metadata.deletion_timestamp = from(json!(IN_ATTEMPT))),
            Progress::Progressing,
        ),
        (
            "it failed before the attempt",
            between(|pod| {
                let statuses = pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
                let terminated = statuses[0].state.as_mut().unwrap().terminated.as_mut().unwrap();
                terminated.finished_at = from(json!(BEFORE));
            }),
            Progress::Progressing,
        ),
        ("it did its work", between(|pod| pod.status = from(json!({"phase": "Succeeded"}))), Progress::Progressing),
    ] {
        assert_eq!(judged(60, pods), expected, "{what}");
    }
    assert_eq!(judged(180, vec![failed_try(2, "Error"), runs.clone()]), code(2));
    assert_eq!(judged(180, vec![runs]), ended(JobEnd::OutOfTime { seconds: 150 }));
}

/// What runs before or beside the work itself has its part in how a pod ends.
#[test]
fn all_containers_of_a_job_count() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let judged = |init: Value, status: Value| {
        let pod = with(failed_try(0, "Completed"), |pod| {
            pod.spec.as_mut().unwrap().init_containers = from(json!([init]));
            let mut all = json!({"image": "", "imageID": "", "ready": false, "restartCount": 0});
            all.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
            pod.status.as_mut().unwrap().init_container_statuses = from(json!([all]));
        });
        let workloads = Workloads { jobs: vec![job(json!({}), json!({}))], pods: vec![pod], ..Workloads::default() };
        assess(&workloads, &at(60, &work))
    };
    let status = |name: &str, exit_code: i32, reason: &str| {
        let terminated = json!({"exitCode": exit_code, "reason": reason, "finishedAt": IN_ATTEMPT});
        json!({"name": name, "state": {"terminated": terminated}})
    };
    let fetch = json!({"name": "fetch", "resources": {"limits": {"memory": "16Mi"}}});
    let hungry = Cause::OutOfMemory { container: "fetch".into(), limit: Some("16Mi".into()) };
    assert_eq!(judged(fetch.clone(), status("fetch", 137, "OOMKilled")), Progress::Stumbling(hungry));
    let failed = Cause::JobFailed { job: "work".into(), end: JobEnd::ExitCode(4) };
    assert_eq!(judged(fetch, status("fetch", 4, "Error")), Progress::Stumbling(failed));
    // It is ended with the others.
    let proxy = json!({"name": "proxy", "restartPolicy": "Always"});
    assert_eq!(judged(proxy, status("proxy", 143, "Error")), Progress::Progressing);
}

#[test]
fn jobs_that_did_not_do_their_work_are_run_anew() {
    let work = [(WorkloadKind::Job, "work".to_owned())];
    let expected = at(0, &work);
    for (condition, failed, restarted) in
        [(None, false, true), (Some("Failed"), true, true), (Some("Complete"), false, false)]
    {
        let conditions = condition.map(|kind| json!([{ "type": kind, "status": "True" }]));
        let workloads =
            Workloads { jobs: vec![job(json!({}), json!({ "conditions": conditions }))], ..Workloads::default() };
        assert_eq!(!failed_jobs(&workloads, &expected).is_empty(), failed, "{condition:?}");
        assert_eq!(!jobs_to_restart(&workloads, &expected).is_empty(), restarted, "{condition:?}");
    }
    let as_root = waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root");
    let jobs = vec![job(json!({}), json!({}))];
    let workloads = Workloads { jobs, pods: vec![of_work(as_root)], ..Workloads::default() };
    assert_eq!(failed_jobs(&workloads, &expected), ["work"], "its pod never begins");
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

/// A pod that was ready for an instant only is none that serves, of a StatefulSet as little as of a Deployment.
#[test]
fn a_stateful_set_is_ready_once_its_newest_pods_are_available() {
    let set = |status: Value| {
        let mut all = json!({
            "observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2,
            "currentRevision": "web-1", "updateRevision": "web-2",
        });
        all.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        let set = json!({ "metadata": { "name": "web", "generation": 2 }, "spec": {
            "replicas": 2, "serviceName": "web", "selector": {}, "template": {},
        }, "status": all });
        let workloads = Workloads { stateful_sets: vec![from(set)], ..Workloads::default() };
        assess(&workloads, &at(60, &[(WorkloadKind::StatefulSet, "web".to_owned())]))
    };
    for (name, status, progress) in [
        ("all", json!({}), Progress::Ready),
        ("the controller has not seen it", json!({ "observedGeneration": 1 }), Progress::Progressing),
        ("one was ready for an instant only", json!({ "availableReplicas": 1 }), Progress::Progressing),
        ("one is of the commit before", json!({ "updatedReplicas": 1 }), Progress::Progressing),
        (
            "put back, and one is still of the commit after",
            json!({ "currentRevision": "web-2", "updatedReplicas": 1 }),
            Progress::Progressing,
        ),
        ("one is still made", json!({ "replicas": 1 }), Progress::Progressing),
    ] {
        assert_eq!(set(status), progress, "{name}");
    }
}
