//! What previewd sends to a collector of traces.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;

use super::life::{self, Life, recipe};

/// The trace and the name of each span.
type Spans = Arc<Mutex<Vec<(String, String)>>>;

/// A collector of traces: its address, and what it was sent.
async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let take = async |State(spans): State<Spans>, body: Bytes| {
        let sent = ExportTraceServiceRequest::decode(body).unwrap();
        let all = sent.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let all = all.flat_map(|scope| scope.spans);
        spans.lock().unwrap().extend(all.map(|span| {
            let step = span.attributes.iter().find(|attribute| attribute.key == "step");
            let step = step.and_then(|step| step.value.clone()).map(|value| format!(" {:?}", value.value));
            (hex::encode(span.trace_id), span.name + &step.unwrap_or_default())
        }));
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/v1/traces"), spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_webhook_to_what_runs() {
    let Some(ground) = life::node().await else { return };
    let (endpoint, spans) = collector().await;
    let mut life = Life::prepare(ground, "traced", None).await;
    life.configure(&format!("[traces]\nendpoint = \"{endpoint}\"\n"));
    life.begin().await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_running(number).await;
    let caller = "0af7651916cd43dd8448eb211c80319c";
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": "list_preview_environments", "arguments": {},
            "_meta": { "traceparent": format!("00-{caller}-b7ad6b7169203331-01") },
        },
    });
    let token = life.stand.create_token("tracer", "viewer", &["shop"]).await.unwrap();
    let asked = xtask::web::plain_client()
        .post(life.stand.mcp_url())
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .bearer_auth(token)
        .body(call.to_string());
    assert_eq!(asked.send().await.unwrap().status(), 200);
    // What one life counts.
    let metrics = xtask::web::plain_client().get(format!("{}/metrics", life.stand.url));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let counted = |series: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    for series in [
        "previewd_deliveries_total{outcome=\"recorded\"}",
        "previewd_deployments_total{outcome=\"succeeded\"}",
        "previewd_passes_total{outcome=\"done\"}",
        "previewd_step_duration_seconds_count{step=\"apply\"}",
        "previewd_deployment_duration_seconds_count{stage=\"deploying\"}",
        "previewd_tool_calls_total{tool=\"list_preview_environments\",outcome=\"answered\"}",
    ] {
        assert!(counted(series) >= 1.0, "{series}: {metrics}");
    }
    assert_eq!(counted("previewd_deployments_total{outcome=\"failed\"}"), 0.0);
    // What is left is sent when the process ends.
    life.stand.server.take().unwrap().stop().await.unwrap();
    life.begin().await;

    let spans = spans.lock().unwrap().clone();
    let of_webhook = spans.iter().find(|(_, name)| name == "webhook").expect("the webhook");
    let mut way = spans.iter().filter(|(trace, _)| *trace == of_webhook.0).map(|(_, name)| name.as_str());
    for step in ["create_deployment", "begin_attempt", "apply", "succeed"] {
        assert!(way.clone().any(|name| name.contains(&format!("{step:?}"))), "no {step} in {spans:#?}");
    }
    assert!(way.all(|name| name.starts_with("webhook") || name.starts_with("step")), "{spans:#?}");
    assert!(spans.contains(&(caller.to_owned(), "tool".to_owned())), "{spans:#?}");
    life.finish().await;
}
