//! The played Kubernetes says what previewd takes for what it stands for: seen through previewd's own client.

use std::{sync::Arc, time::Duration};

use previewd::{
    cluster::{
        Cluster, ClusterError, Creation, Deletion, Expected, NamespaceState, Owner, Tasks, WorkloadKind, assess,
    },
    environment::{Cause, Namespace, Progress},
    recipe::Object,
};
use serde_json::json;
use tokio::time::sleep;

use super::kubernetes::{Fate, Kubernetes, Outcome};

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

fn deployment(image: &str) -> Object {
    let labels = json!({
        "previewd.dev/installation": "installation",
        "previewd.dev/environment": "environment",
        "previewd.dev/commit": "a".repeat(40),
    });
    let template = json!({
        "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "app", "image": image }] },
    });
    object("apps/v1", "Deployment", "app", json!({ "spec": { "replicas": 1, "template": template } }))
}

/// A namespace in a cluster on the way to which every call has this fate.
async fn namespace_in(outcome: Outcome) -> (Kubernetes, Cluster, Namespace) {
    let near = Duration::from_millis(1);
    let kubernetes = Kubernetes::new(Arc::new(move |call| Fate {
        before: near,
        after: near,
        outcome: if call.is_write { outcome } else { Outcome::Answer },
    }));
    let cluster = Cluster::with_client(kubernetes.client(1));
    (kubernetes, cluster, "pr-1".parse().unwrap())
}

/// How far it is in an attempt that began so many seconds ago.
async fn progress(cluster: &Cluster, namespace: &Namespace, seconds: i64) -> Progress {
    let workloads = cluster.workloads(namespace, &owner(), &[]).await.unwrap();
    let now = 1_800_000_000_000 + seconds * 1_000;
    let expected = Expected {
        workloads: &[(WorkloadKind::Deployment, "app".to_owned())],
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

    cluster.apply(&namespace, &deployment("registry.invalid/good:1")).await.unwrap();
    assert_eq!(progress(&cluster, &namespace, 0).await, Progress::Progressing);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(progress(&cluster, &namespace, 10).await, Progress::Ready);
    assert_eq!(kubernetes.serving("pr-1"), Some("a".repeat(40)));

    // What serves goes on while the next does not come.
    cluster.apply(&namespace, &deployment("registry.invalid/nopull:1")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let stumbles = progress(&cluster, &namespace, 20).await;
    assert!(matches!(stumbles, Progress::Stumbling(Cause::ImagePullFailed { .. })), "{stumbles:?}");
    assert_eq!(kubernetes.serving("pr-1"), Some("a".repeat(40)));
    cluster.apply(&namespace, &deployment("registry.invalid/crash:1")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let crashes = progress(&cluster, &namespace, 80).await;
    assert!(matches!(crashes, Progress::AttemptOver(Cause::CrashLoop { .. })), "{crashes:?}");
    cluster.apply(&namespace, &deployment("registry.invalid/never-ready:1")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let never = progress(&cluster, &namespace, 140).await;
    assert!(matches!(never, Progress::Stumbling(Cause::NotReadyYet { .. })), "{never:?}");
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
