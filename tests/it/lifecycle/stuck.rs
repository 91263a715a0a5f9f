//! A namespace that does not go, for real: what holds it is named, operators are told once, and it is tried for as long
//! as it takes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::post};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::life::{self, Life, SOON, TO_GONE, recipe};

/// Five minutes until somebody is told, on a machine with much else to do.
const UNTIL_TOLD: Duration = Duration::from_secs(420);

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
    life.configure(&format!("[alerts]\nwebhook_url = \"{url}\"\n"));
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
    xtask::testing::eventually("the chat is told", SOON, async || (!told.lock().unwrap().is_empty()).then_some(()))
        .await;

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
