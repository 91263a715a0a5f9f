//! Who may do what in the cluster: previewd what it must, as every test here shows, and a preview nothing at all.

use serde_json::{Value, json};

use super::life::{self, ACCOUNT, Life, recipe};

/// What `user` may do in a namespace besides asking what it may do, as the API server says.
async fn may(life: &Life, user: &str, namespace: &str) -> Vec<Value> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": namespace },
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews")
        .header("content-type", "application/json")
        .header("impersonate-user", user)
        .header("impersonate-group", "system:authenticated")
        .body(review.to_string().into_bytes())
        .unwrap();
    let answer: Value = life.kube.request(request).await.unwrap();
    let rules = answer["status"]["resourceRules"].as_array().unwrap().clone();
    let asks = |rule: &Value| {
        let group = rule["apiGroups"][0].as_str().unwrap_or_default();
        group == "authorization.k8s.io" || group == "authentication.k8s.io"
    };
    rules.into_iter().filter(|rule| !asks(rule)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_may_do_nothing_in_the_cluster() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "powerless").await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    let environment = life.get(number).await;
    let namespace = environment["namespace"].as_str().unwrap();
    let account = format!("system:serviceaccount:{namespace}:preview");
    assert_eq!(may(&life, &account, namespace).await, Vec::<Value>::new());
    assert!(!may(&life, ACCOUNT, namespace).await.is_empty(), "the question itself works");
    life.finish().await;
}
