//! The metrics API of a cluster that is not as it should be.

use std::time::Duration;

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
};
use previewd::cluster::{Cluster, ClusterError, KubernetesSettings};
use serde_json::json;
use tokio::net::TcpListener;
use xtask::cluster::bare_kubeconfig;

/// A cluster whose API server answers everything so, after a while.
async fn cluster(status: StatusCode, body: &str, after: Duration) -> (Cluster, tempfile::TempDir) {
    let body = body.to_owned();
    let answer = move || async move {
        tokio::time::sleep(after).await;
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, bare_kubeconfig(&server)).unwrap();
    let settings = KubernetesSettings { kubeconfig: Some(kubeconfig), context: None };
    (Cluster::new(settings).await.unwrap(), folder)
}

#[tokio::test]
async fn nonsense_is_no_figure() {
    let status = |code: u16, reason: &str| {
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason }).to_string()
    };
    let usage = async |code: StatusCode, body: &str| {
        let (cluster, _folder) = cluster(code, body, Duration::ZERO).await;
        cluster.usage("0123").await
    };
    let pod = |cpu: &str| {
        let usage = json!({ "cpu": cpu, "memory": "1Mi" });
        json!({ "items": [{ "metadata": { "namespace": "pr-7", "name": "web" }, "containers": [{ "usage": usage }] }] })
            .to_string()
    };
    assert_eq!(usage(StatusCode::OK, &pod("5m")).await.unwrap().unwrap().len(), 1);
    for nonsense in ["<html>", "{}", "{\"items\": 7}", "[]", &pod("a lot"), &pod("-1"), &pod("")] {
        let found = usage(StatusCode::OK, nonsense).await;
        assert!(matches!(found, Err(ClusterError::Unexpected { .. })), "{nonsense}: {found:?}");
    }
    let absent = usage(StatusCode::NOT_FOUND, &status(404, "NotFound")).await;
    assert!(matches!(absent, Ok(None)), "{absent:?}");
    let forbidden = usage(StatusCode::FORBIDDEN, &status(403, "Forbidden")).await;
    assert!(matches!(forbidden, Err(ClusterError::Forbidden { .. })), "{forbidden:?}");
    // As the aggregator answers while metrics-server is away.
    let away = usage(StatusCode::SERVICE_UNAVAILABLE, &status(503, "ServiceUnavailable")).await;
    assert!(away.is_err(), "{away:?}");
}

#[tokio::test]
async fn an_answer_that_is_late_is_not_waited_for() {
    let (cluster, _folder) = cluster(StatusCode::OK, "{\"items\": []}", Duration::from_secs(60)).await;
    let began = std::time::Instant::now();
    assert!(cluster.usage("0123").await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}
