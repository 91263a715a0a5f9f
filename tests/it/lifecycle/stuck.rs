//! A namespace that does not go, for real: what holds it is named, operators are told once, and it is tried for as long
//! as it takes.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use xtask::{
    cluster::{LocalCluster, Options},
    testing,
};

use super::life::{self, Ground, Life, SOON, TO_GONE, recipe};

/// Until somebody is told, on a machine with much else to do. By itself it is five minutes.
const UNTIL_TOLD: Duration = Duration::from_secs(120);
const PATIENCE: &str = "[patience]\ndeletion = \"20s\"\n";

type Told = Arc<Mutex<Vec<Value>>>;

/// A chat on loopback. Gives its webhook's URL, and what was said there.
async fn chat() -> (String, Told) {
    async fn hear(State(told): State<Told>, Json(said): Json<Value>) {
        told.lock().unwrap().push(said);
    }
    let told = Told::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(hear)).with_state(told.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_are_told_once_what_holds_a_namespace() {
    let Some(ground) = life::api_only().await else { return };
    let mut life = Life::prepare(ground, "stuck", None).await;
    let (url, told) = chat().await;
    life.configure(&format!("[alerts]\nwebhook_url = \"{url}\"\n{PATIENCE}"));
    life.begin().await;

    let number = life.open("change", &recipe("ok")).await;
    let namespace = life.until_applied(number).await.metadata.namespace.unwrap();
    // Where nobody was told that it comes, nobody is told that it is gone.
    life.until_commented(number, "is on its way").await;
    let config_maps: Api<ConfigMap> = Api::namespaced(life.kube.clone(), &namespace);
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.com/nobody"] } });
    config_maps.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    life.stand.github.close(&life.repository, number).await.unwrap();

    let stuck = life.until(number, UNTIL_TOLD, |found| found["reason"] == "namespace_stuck").await;
    assert_eq!(stuck["status"], "deleting", "{stuck:#}");
    assert!(stuck["message"].as_str().unwrap().contains("example.com/nobody"), "{stuck:#}");
    testing::eventually("the chat is told", SOON, async || (!told.lock().unwrap().is_empty()).then_some(())).await;

    let freed = json!({ "metadata": { "finalizers": null } });
    config_maps.patch("held", &PatchParams::default(), &Patch::Merge(freed)).await.unwrap();
    // The cluster's own controller looks again only every minute by now.
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    life.until_commented(number, "was removed").await;
    let told = told.lock().unwrap().clone();
    let [line] = &told[..] else { panic!("{told:#?}") };
    let text = line["text"].as_str().unwrap();
    assert!(text.contains(&namespace) && text.contains("example.com/nobody"), "{text}");
    life.finish().await;
}

/// An API that is gone keeps every namespace of its cluster: hence a cluster of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_gone_is_named_as_what_holds_a_namespace() {
    if !testing::has_cluster(false) {
        return;
    }
    let cluster = LocalCluster::start(Options::api_only("gone-api")).await.unwrap();
    let ground = Ground::of(cluster).await;
    let mut life = Life::prepare(&ground, "gone-api", None).await;
    life.configure(PATIENCE);
    life.begin().await;
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": { "name": "v1.gone.example.com" },
        "spec": {
            "group": "gone.example.com",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": true,
            "service": { "namespace": "default", "name": "nobody" },
        },
    });
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"));
    let services: Api<DynamicObject> = Api::all_with(life.kube.clone(), &resource);
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();

    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    life.stand.github.close(&life.repository, number).await.unwrap();
    let stuck = life.until(number, UNTIL_TOLD, |found| found["reason"] == "namespace_stuck").await;
    assert!(stuck["message"].as_str().unwrap().contains("an API of the cluster does not answer"), "{stuck:#}");

    services.delete("v1.gone.example.com", &DeleteParams::default()).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    life.finish().await;
    ground.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_end_when_asked_to_is_ended() {
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "stays").await;
    let number = life.open("change", &recipe("stay")).await;
    life.until_running(number).await;
    let closed = Instant::now();
    life.stand.github.close(&life.repository, number).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    // It was asked before it was killed: that takes its grace period.
    assert!(closed.elapsed() >= Duration::from_secs(8), "{:?}", closed.elapsed());
    life.finish().await;
}
