//! The HTTP server, as GitHub, browsers and operators meet it.

use std::time::Duration;

use axum::body::Body;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, request::Builder};
use http_body_util::BodyExt;
use previewd::{
    environment::Millis,
    identity::{Identity, Role, TokenGrant, issue_token},
    metrics::METRICS,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt;

use crate::support::{Stand, WEBHOOK_SECRET, commit};

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

async fn send(stand: &Stand, request: Builder, body: impl Into<Body>) -> Answer {
    let request = request.header("host", "127.0.0.1:8787").body(body.into()).unwrap();
    let (parts, body) = stand.router.clone().oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A one-shot call of a tool, as a client without a handshake sends it.
fn mcp(token: Option<&str>) -> Builder {
    let request = Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25");
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
}

fn list_call() -> String {
    let params = json!({ "name": "list_preview_environments", "arguments": {} });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string()
}

fn signature(secret: &str, body: &[u8]) -> String {
    let hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    format!("sha256={}", hex::encode(hmac.finalize().into_bytes()))
}

fn delivery(guid: &str, event: &str) -> Builder {
    Request::post("/webhooks/github").header("X-GitHub-Delivery", guid).header("X-GitHub-Event", event)
}

/// A `pull_request` event with what previewd reads of it.
fn opened(number: i64) -> Vec<u8> {
    let repository = json!({ "id": 42, "full_name": "acme/shop", "name": "shop", "owner": { "login": "acme" },
        "default_branch": "main" });
    let pull_request = json!({
        "id": 4200 + number, "number": number, "title": "Add a cart", "state": "open", "draft": false, "merged": false,
        "user": { "login": "octocat" }, "labels": [], "updated_at": "2026-11-23T18:00:00Z",
        "head": { "sha": commit('a'), "ref": "cart", "repo": repository },
        "base": { "sha": commit('b'), "ref": "main", "repo": repository },
    });
    let event = json!({ "action": "opened", "number": number, "pull_request": pull_request, "repository": repository });
    event.to_string().into_bytes()
}

#[tokio::test]
async fn only_valid_tokens_reach_the_tools() {
    let stand = Stand::start().await;
    let valid = stand.token(Role::Viewer, &["shop"]).await;
    let answer = send(&stand, mcp(Some(&valid)), list_call()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json()["result"]["structuredContent"]["environments"], json!([]));
    assert!(!answer.header("x-request-id").is_empty());

    let answer = send(&stand, mcp(None), list_call()).await;
    assert_eq!(answer.status, 401);
    let metadata = "resource_metadata=\"http://127.0.0.1:8787/.well-known/oauth-protected-resource/mcp\"";
    assert_eq!(answer.header("www-authenticate"), format!("Bearer {metadata}"));
    let answer = send(&stand, Request::get("/.well-known/oauth-protected-resource/mcp"), Body::empty()).await;
    assert_eq!((answer.status, &answer.json()["resource"]), (200, &json!("http://127.0.0.1:8787/mcp")));

    let now = stand.store.clock().await.unwrap();
    let expired = grant(&stand, now - 1000).await;
    assert_eq!(send(&stand, mcp(Some(&grant(&stand, now + 60_000).await)), list_call()).await.status, 200);
    let garbled = format!("{}x", &valid[..valid.len() - 1]);
    for token in ["", "pvd_", "secret", &expired, &garbled, &valid.to_uppercase()] {
        let answer = send(&stand, mcp(Some(token)), list_call()).await;
        assert_eq!(answer.status, 401, "{token}");
        assert_eq!(answer.header("www-authenticate"), format!("Bearer error=\"invalid_token\", {metadata}"));
    }
    stand.revoke_all().await;
    assert_eq!(send(&stand, mcp(Some(&valid)), list_call()).await.status, 401);
}

async fn grant(stand: &Stand, expires_at: Millis) -> String {
    let grant = TokenGrant {
        subject: "ann".parse().unwrap(),
        role: Role::Viewer,
        teams: Vec::new(),
        scope: None,
        expires_at: Some(expires_at),
    };
    issue_token(&stand.store, grant, &Identity::local_operator()).await.unwrap().token.expose_secret().to_owned()
}

#[tokio::test]
async fn other_hosts_and_origins_are_forbidden() {
    let stand = Stand::start().await;
    let token = stand.token(Role::Viewer, &["shop"]).await;
    for (origin, status) in [
        ("https://inspector.example.com", 200),
        ("http://localhost:6274", 200),
        ("https://inspector.example.com:8443", 403),
        ("https://evil.example.com", 403),
        ("null", 403),
    ] {
        let answer = send(&stand, mcp(Some(&token)).header("origin", origin), list_call()).await;
        assert_eq!(answer.status, status, "{origin}");
        let preflight = Request::options("/mcp")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, mcp-method");
        let answer = send(&stand, preflight, Body::empty()).await;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, if status == 200 { origin } else { "" }, "{origin}");
    }
    let request = mcp(Some(&token)).header("host", "evil.example.com").body(Body::from(list_call())).unwrap();
    assert_eq!(stand.router.clone().oneshot(request).await.unwrap().status(), 403);
}

#[tokio::test]
async fn there_are_no_sessions_and_no_large_requests() {
    let stand = Stand::start().await;
    let token = stand.token(Role::Viewer, &["shop"]).await;
    for method in ["GET", "DELETE"] {
        let request = Request::builder().method(method).uri("/mcp").header("authorization", format!("Bearer {token}"));
        assert_eq!(send(&stand, request.header("accept", "text/event-stream"), Body::empty()).await.status, 405);
    }
    let params =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "it", "version": "1" } });
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let answer = send(&stand, mcp(Some(&token)), initialize.to_string()).await;
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, ""));
    assert_eq!(answer.json()["result"]["serverInfo"]["name"], "previewd");
    assert_eq!(send(&stand, mcp(Some(&token)), "x".repeat(6_300_000)).await.status, 413);
    assert_ne!(send(&stand, mcp(Some(&token)), "{").await.status, 200);
}

#[tokio::test]
async fn signed_deliveries_are_recorded_once() {
    let stand = Stand::start().await;
    let body = opened(7);
    let signed = |guid: &str, event: &str, secret: &str, body: &[u8]| {
        delivery(guid, event).header("X-Hub-Signature-256", signature(secret, body))
    };
    let answer = send(&stand, signed("guid-1", "pull_request", WEBHOOK_SECRET, &body), body.clone()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "outcome": "recorded", "reason": null })));
    let answer = send(&stand, signed("guid-1", "pull_request", "an-older-secret", &body), body.clone()).await;
    assert_eq!((answer.status, &answer.json()["outcome"]), (200, &json!("duplicate")));
    let ping = br#"{"zen":"Keep it logically awesome."}"#;
    let answer = send(&stand, signed("guid-2", "ping", WEBHOOK_SECRET, ping), ping.to_vec()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "outcome": "ignored", "reason": "ping" })));
    let found = stand.store.find_environment_of(&"acme/shop".parse().unwrap(), 7).await.unwrap();
    assert!(found.is_some());
}

#[tokio::test]
async fn refused_deliveries_leave_no_row() {
    let stand = Stand::start().await;
    let body = opened(7);
    let valid = signature(WEBHOOK_SECRET, &body);
    let mut changed = body.clone();
    *changed.last_mut().unwrap() ^= 1;

    let truncated = body[..body.len() / 2].to_vec();
    let mut binary = body.clone();
    binary[20] = 0xff;
    let zero = opened(0);
    let full = || delivery("guid", "pull_request");
    let signed = |body: &[u8]| full().header("X-Hub-Signature-256", signature(WEBHOOK_SECRET, body));
    let table = [
        ("no signature", 401, full(), body.clone()),
        ("another secret", 401, full().header("X-Hub-Signature-256", signature("x", &body)), body.clone()),
        ("sha1", 401, full().header("X-Hub-Signature", "sha1=0000"), body.clone()),
        ("bad hex", 401, full().header("X-Hub-Signature-256", "sha256=zz"), body.clone()),
        ("short", 401, full().header("X-Hub-Signature-256", &valid[..20]), body.clone()),
        ("a changed byte", 401, full().header("X-Hub-Signature-256", &valid), changed),
        ("truncated", 400, signed(&truncated), truncated.clone()),
        ("not UTF-8", 400, signed(&binary), binary.clone()),
        ("number 0", 400, signed(&zero), zero.clone()),
        ("no event", 400, Request::post("/webhooks/github").header("X-GitHub-Delivery", "guid"), body.clone()),
        ("no delivery", 400, Request::post("/webhooks/github").header("X-GitHub-Event", "ping"), body.clone()),
        ("too large", 413, full().header("X-Hub-Signature-256", &valid), vec![b' '; 25 * 1024 * 1024 + 1]),
        ("another method", 405, Request::get("/webhooks/github"), Vec::new()),
    ];
    for (what, status, request, body) in table {
        let answer = send(&stand, request, body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(!answer.body.contains(WEBHOOK_SECRET));
    }
    // Their GUID is not known: the same delivery can be brought again.
    let answer = send(&stand, full().header("X-Hub-Signature-256", &valid), body).await;
    assert_eq!(answer.json()["outcome"], "recorded");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let stand = Stand::start().await;
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = delivery("guid", "ping").header("X-Hub-Signature-256", signature(WEBHOOK_SECRET, b""));
    let began = tokio::time::Instant::now();
    assert_eq!(send(&stand, request, never).await.status, 408);
    assert_eq!(began.elapsed().as_secs(), Duration::from_secs(10).as_secs());
}

#[tokio::test]
async fn without_a_database_nothing_is_promised() {
    let stand = Stand::start().await;
    let answer = send(&stand, Request::get("/readyz"), Body::empty()).await;
    assert_eq!(answer.status, 200);
    let readiness = answer.json();
    assert_eq!(readiness["database"], json!({ "ok": true }));
    assert_eq!(readiness["github"], json!({ "ok": false, "why": "not configured" }));
    assert_eq!(readiness["cluster"]["ok"], false);

    let lost = Stand::start().await;
    lost.lose_database();
    let answer = send(&lost, Request::get("/readyz"), Body::empty()).await;
    assert_eq!((answer.status, &answer.json()["database"]["ok"]), (503, &json!(false)));
    assert_eq!(send(&lost, Request::get("/healthz"), Body::empty()).await.status, 200);
    let body = opened(7);
    let request = delivery("guid", "pull_request").header("X-Hub-Signature-256", signature(WEBHOOK_SECRET, &body));
    let answer = send(&lost, request, body).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(send(&lost, mcp(Some("pvd_x")), list_call()).await.status, 503);
    let answer = send(&lost, Request::get("/metrics"), Body::empty()).await;
    assert!(answer.status == 200 && answer.body.contains("previewd_database_up 0"), "{}", answer.body);
}

#[tokio::test]
async fn operators_see_what_it_is_and_counts() {
    let stand = Stand::start().await;
    let answer = send(&stand, Request::get("/"), Body::empty()).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/login?path=%2F"), "people sign in first");
    stand.open("acme/shop", 7, &commit('a')).await;
    let token = stand.token(Role::Viewer, &["shop"]).await;
    assert_eq!(send(&stand, mcp(Some(&token)), list_call()).await.status, 200);
    // What an engine does, of which there is none here.
    let a_minute = Duration::from_secs(60);
    assert!(stand.store.take_lease("repair", "it", a_minute, Duration::ZERO).await.unwrap());
    stand.store.give_lease_back("repair", "it", true).await.unwrap();
    stand.store.block_github(None, a_minute).await.unwrap();
    METRICS.pass_duration.observe("done", a_minute);
    METRICS.steps.observe("apply", a_minute);
    METRICS.stages.observe("deploying", a_minute);
    let answer = send(&stand, Request::get("/metrics"), Body::empty()).await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let value = |name: &str| -> f64 {
        let line = answer
            .body
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {}", answer.body));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // They are there before anything is counted, so that the first is seen as one more.
    for series in [
        "deliveries_total{outcome=\"recorded\"}",
        "deployments_total{outcome=\"succeeded\"}",
        "sweeps_total{outcome=\"unfinished\"}",
    ] {
        value(&format!("previewd_{series}"));
    }
    assert_eq!(value("previewd_environments{status=\"pending\"}"), 1.0);
    assert_eq!(value("previewd_overdue_environments "), 1.0);
    assert_eq!((value("previewd_database_up "), value("previewd_engines ")), (1.0, 0.0));
    let list = "tool=\"list_preview_environments\"";
    assert!(value(&format!("previewd_tool_calls_total{{{list},outcome=\"answered\"}}")) >= 1.0);
    assert!(value(&format!("previewd_tool_answer_bytes_total{{{list}}}")) > 100.0);
    value(&format!("previewd_tool_call_duration_seconds_count{{{list}}}"));
    // Every line is one of the format's, and every family is there once.
    let mut families = std::collections::BTreeSet::new();
    for line in answer.body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(family) => assert!(families.insert(family), "twice: {line}"),
            None => assert!(line.starts_with("# ") || line.starts_with("previewd_"), "{line}"),
        }
    }
    assert!(answer.body.ends_with("# EOF\n"));

    // What operators are given to watch it with names nothing that is not there.
    for file in ["prometheus/alerts.yaml", "grafana/previewd.json"] {
        let text = std::fs::read_to_string(format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: std::collections::BTreeSet<&str> = words.filter(|word| word.starts_with("previewd_")).collect();
        assert!(named.len() > 5, "{file}: {named:?}");
        for name in named {
            let family = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(families.iter().any(|found| found.starts_with(&format!("{family} "))), "{file}: {name}");
        }
    }
    assert_eq!(send(&stand, Request::get("/nothing"), Body::empty()).await.status, 404);
}
