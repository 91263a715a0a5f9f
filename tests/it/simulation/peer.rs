//! The played Kubernetes says what previewd takes for what it stands for: seen through previewd's own client.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use previewd::{
    cluster::{
        Cluster, ClusterError, Creation, Deletion, Expected, NamespaceState, Owner, Tasks, WorkloadKind, assess,
        blocking_pods,
    },
    environment::{Cause, Namespace, Progress},
    recipe::Object,
};
use serde_json::json;
use tokio::time::sleep;

use super::kubernetes::{CallSeen, Fate, Images, Kubernetes, Outcome, Trouble};

fn owner() -> Owner {
    Owner { installation_id: "installation".to_owned(), environment_id: "environment".to_owned() }
}

fn object(api_version: &str, kind: &str, name: &str, mut body: serde_json::Value) -> Object {
    body["apiVersion"] = json!(api_version);
    body["kind"] = json!(kind);
    body["metadata"]["name"] = json!(name);
    body["metadata"]["labels"] =
        json!({ "previewd.dev/installation": "installation", "previewd.dev/environment": "environment" });
    Object { api_version: api_version.to_owned(), kind: kind.to_owned(), name: name.to_owned(), body }
}

fn template(image: &str) -> serde_json::Value {
    let labels = json!({
        "previewd.dev/installation": "installation",
        "previewd.dev/environment": "environment",
        "previewd.dev/commit": "a".repeat(40),
        "app": "app",
    });
    let limits = json!({ "cpu": "100m", "memory": "64Mi" });
    let container = json!({ "name": "app", "image": image, "resources": { "limits": limits } });
    json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } })
}

fn deployment(image: &str) -> Object {
    object("apps/v1", "Deployment", "app", json!({ "spec": { "replicas": 1, "template": template(image) } }))
}

fn service() -> Object {
    let ports = json!([{ "name": "http", "port": 80 }]);
    object("v1", "Service", "app", json!({ "spec": { "selector": { "app": "app" }, "ports": ports } }))
}

fn quota(cpu: &str) -> Object {
    let hard = json!({ "limits.cpu": cpu, "limits.memory": "512Mi" });
    object("v1", "ResourceQuota", "preview", json!({ "spec": { "hard": hard } }))
}

/// A namespace in a cluster on the way to which every call has this fate.
async fn namespace_in(outcome: Outcome) -> (Kubernetes, Cluster, Namespace) {
    let near = Duration::from_millis(1);
    let fate = move |call: &CallSeen| Fate {
        before: near,
        after: near,
        outcome: if call.is_write { outcome } else { Outcome::Answer },
    };
    let kubernetes = Kubernetes::new(Arc::new(fate), Images::new());
    let cluster = Cluster::with_client(kubernetes.client(1));
    (kubernetes, cluster, "pr-1".parse().unwrap())
}

/// How far it is in an attempt that began so many seconds ago.
async fn progress(cluster: &Cluster, namespace: &Namespace, seconds: i64) -> Progress {
    progress_of(cluster, namespace, WorkloadKind::Deployment, seconds).await
}

async fn progress_of(cluster: &Cluster, namespace: &Namespace, kind: WorkloadKind, seconds: i64) -> Progress {
    let mut workloads = cluster.workloads(namespace, &owner(), &[kind]).await.unwrap();
    workloads.events = cluster.events(namespace).await;
    let now = 1_800_000_000_000 + seconds * 1_000;
    let expected = Expected {
        workloads: &[(kind, "app".to_owned())],
        attempt_started_at: 1_800_000_000_000,
        attempt_deadline: 1_800_000_180_000,
        now,
        tasks: Tasks::Repositorys,
    };
    assess(&workloads, &expected)
}

#[tokio::test(start_paused = true)]
async fn an_application_becomes_ready_or_stumbles_as_its_image_says() {
    let (kubernetes, cluster, namespace) = namespace_in(Outcome::Answer).await;
    let made = cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await.unwrap();
    assert!(matches!(made, Creation::Created { .. }));
    let again = cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await.unwrap();
    assert_eq!(again, Creation::AlreadyThere);

    cluster.apply(&namespace, &service()).await.unwrap();
    cluster.apply(&namespace, &deployment("registry.invalid/good:1")).await.unwrap();
    assert_eq!(progress(&cluster, &namespace, 0).await, Progress::Progressing);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(progress(&cluster, &namespace, 10).await, Progress::Ready);
    assert_eq!(kubernetes.serving("pr-1"), BTreeSet::from(["a".repeat(40)]));

    // What serves goes on while the next does not come.
    cluster.apply(&namespace, &deployment("registry.invalid/nopull:1")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let stumbles = progress(&cluster, &namespace, 20).await;
    assert!(matches!(stumbles, Progress::Stumbling(Cause::ImagePullFailed { .. })), "{stumbles:?}");
    assert_eq!(kubernetes.serving("pr-1"), BTreeSet::from(["a".repeat(40)]));
    cluster.apply(&namespace, &deployment("registry.invalid/crash:1")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let crashes = progress(&cluster, &namespace, 80).await;
    assert!(matches!(crashes, Progress::AttemptOver(Cause::CrashLoop { .. })), "{crashes:?}");
    cluster.apply(&namespace, &deployment("registry.invalid/hang:1")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let never = progress(&cluster, &namespace, 140).await;
    assert!(matches!(never, Progress::Stumbling(Cause::NotReadyYet { .. })), "{never:?}");
}

/// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback>
#[tokio::test(start_paused = true)]
async fn a_stateful_set_waits_for_a_broken_pod() {
    let (_, cluster, namespace) = namespace_in(Outcome::Answer).await;
    cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await.unwrap();
    let claims = json!([{ "metadata": { "name": "data" }, "spec": {} }]);
    let set = |image: &str| {
        let spec = json!({ "replicas": 1, "template": template(image), "volumeClaimTemplates": claims });
        object("apps/v1", "StatefulSet", "app", json!({ "spec": spec }))
    };
    let progress = async |seconds| progress_of(&cluster, &namespace, WorkloadKind::StatefulSet, seconds).await;
    cluster.apply(&namespace, &set("registry.invalid/good:1")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(progress(10).await, Progress::Ready);
    assert_eq!(cluster.claims_of(&namespace, &owner(), "app").await.unwrap(), Vec::<String>::new(), "no labels");
    cluster.apply(&namespace, &set("registry.invalid/crash:1")).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    cluster.apply(&namespace, &set("registry.invalid/good:2")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let workloads = cluster.workloads(&namespace, &owner(), &[WorkloadKind::StatefulSet]).await.unwrap();
    let blocking = blocking_pods(&workloads);
    assert_eq!(blocking.len(), 1, "{:?}", workloads.pods);
    cluster.restart_pod(&namespace, &blocking[0]).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(progress(110).await, Progress::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_and_its_ttl_takes_it_away() {
    let (_, cluster, namespace) = namespace_in(Outcome::Answer).await;
    cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await.unwrap();
    let job = |image: &str| {
        let spec = json!({ "backoffLimit": 0, "ttlSecondsAfterFinished": 60, "template": template(image) });
        object("batch/v1", "Job", "app", json!({ "spec": spec }))
    };
    let progress = async |seconds| progress_of(&cluster, &namespace, WorkloadKind::Job, seconds).await;
    cluster.apply(&namespace, &job("registry.invalid/good:1")).await.unwrap();
    let changed = cluster.apply(&namespace, &job("registry.invalid/crash:1")).await;
    assert!(matches!(changed, Err(ClusterError::Immutable(_))), "{changed:?}");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(progress(10).await, Progress::Ready);
    sleep(Duration::from_secs(60)).await;
    let workloads = cluster.workloads(&namespace, &owner(), &[WorkloadKind::Job]).await.unwrap();
    assert_eq!((workloads.jobs.len(), workloads.pods.len()), (0, 0));
    cluster.apply(&namespace, &job("registry.invalid/crash:1")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let failed = progress(80).await;
    assert!(matches!(failed, Progress::AttemptOver(Cause::JobFailed { .. })), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quota_keeps_pods_from_being_made() {
    let (kubernetes, cluster, namespace) = namespace_in(Outcome::Answer).await;
    cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await.unwrap();
    cluster.apply(&namespace, &quota("150m")).await.unwrap();
    cluster.apply(&namespace, &service()).await.unwrap();
    cluster.apply(&namespace, &deployment("registry.invalid/good:1")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    cluster.apply(&namespace, &deployment("registry.invalid/good:2")).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let refused = progress(&cluster, &namespace, 40).await;
    assert!(matches!(refused, Progress::Stumbling(Cause::QuotaExceeded { .. })), "{refused:?}");
    cluster.apply(&namespace, &quota("200m")).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(progress(&cluster, &namespace, 60).await, Progress::Ready);
    kubernetes.break_down(Trouble::Webhook, Duration::from_secs(10));
    let refused = cluster.apply(&namespace, &deployment("registry.invalid/good:3")).await;
    assert!(matches!(refused, Err(ClusterError::NotTaken { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_all_that_is_in_it() {
    let (_, cluster, namespace) = namespace_in(Outcome::Answer).await;
    assert_eq!(cluster.namespace(&namespace, &owner()).await.unwrap(), NamespaceState::Absent);
    cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await.unwrap();
    cluster.apply(&namespace, &deployment("registry.invalid/good:1")).await.unwrap();
    let NamespaceState::Ours { uid, terminating: None } = cluster.namespace(&namespace, &owner()).await.unwrap() else {
        panic!("it is there");
    };
    let another = cluster.delete_namespace(&namespace, "00000000-0000-4000-8000-999999999999").await.unwrap();
    assert_eq!(another, Deletion::AnotherOne);
    assert_eq!(cluster.delete_namespace(&namespace, &uid).await.unwrap(), Deletion::Accepted);
    let refused = cluster.apply(&namespace, &deployment("registry.invalid/good:2")).await;
    assert!(matches!(refused, Err(ClusterError::NamespaceTerminating)), "{refused:?}");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.namespace(&namespace, &owner()).await.unwrap(), NamespaceState::Absent);
    assert_eq!(cluster.delete_namespace(&namespace, &uid).await.unwrap(), Deletion::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_was_done_and_one_that_is_refused_was_not() {
    for (outcome, is_done) in [(Outcome::LoseAnswer, true), (Outcome::RefuseUnseen, false)] {
        let (kubernetes, cluster, _) = namespace_in(outcome).await;
        let made = cluster.create_namespace(&object("v1", "Namespace", "pr-1", json!({}))).await;
        assert!(matches!(made, Err(ClusterError::Away { .. })), "{made:?}");
        assert_eq!(
            (kubernetes.namespaces().len(), kubernetes.writes().len()),
            (usize::from(is_done), usize::from(is_done))
        );
    }
}
