//! Traces for an OpenTelemetry collector, where the operator names one. What is done for one commit of a pull request is
//! one trace, from the webhook to the URL that answers: its id is computed from both, so that processes that know
//! nothing of each other add to the same, and nothing of it is stored.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};
use url::Url;

use crate::{
    environment::CommitSha,
    outbound::{self, Reach},
};

const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 64 << 10;

/// Where traces go.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// The collector's address for traces, OTLP over HTTP: `http://collector:4318/v1/traces`. Left out: there are none.
    #[schemars(with = "Option<String>", url)]
    pub endpoint: Option<Url>,
    /// Headers that the collector asks for, such as `authorization`.
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub headers: HashMap<String, SecretString>,
}

/// What is still to be sent when the process ends.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// A layer that sends spans to the collector. None where there is no collector. Within a runtime, which sends them.
///
/// # Errors
/// Where the collector cannot be asked from here at all, such as for want of trusted certificates.
pub fn layer<S>(settings: &TraceSettings) -> anyhow::Result<Option<impl Layer<S> + Send + Sync + use<S>>>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let Some(endpoint) = &settings.endpoint else { return Ok(None) };
    let headers = settings.headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector { client: outbound::HttpClient::new(Reach::Anywhere)?, runtime: Handle::current() })
        .with_endpoint(endpoint.as_str())
        .with_headers(headers.collect())
        .with_timeout(TIMEOUT)
        .build()?;
    let resource = Resource::builder().with_service_name("previewd").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer("previewd");
    let _ = PROVIDER.set(provider);
    // Spans of previewd's own; what is logged goes where logs go.
    let is_own = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("previewd"));
    Ok(Some(tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_filter(is_own)))
}

/// Sends what is left, and no longer than a few seconds. Blocks.
pub fn flush() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown()
    {
        tracing::debug!(%error, "the last spans were not sent");
    }
}

/// Makes a span that did not begin yet a part of a commit's trace.
pub fn join(span: &Span, pull_request_id: i64, commit: &CommitSha) {
    if PROVIDER.get().is_none() {
        return;
    }
    let digest = Sha256::digest(format!("{pull_request_id} {commit}"));
    let (trace, parent) = (part(&digest, 0), part(&digest, 16));
    let context = SpanContext::new(
        TraceId::from_bytes(trace),
        SpanId::from_bytes(parent),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    follow(span, Context::new().with_remote_span_context(context));
}

/// Makes a span that did not begin yet a part of the caller's trace, where it sends one: W3C's `traceparent`.
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
pub fn continue_from(span: &Span, traceparent: &str) {
    if PROVIDER.get().is_some() {
        let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        follow(span, TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier));
    }
}

fn follow(span: &Span, context: Context) {
    if let Err(error) = span.set_parent(context) {
        tracing::debug!(%error, "a span has no place in its trace");
    }
}

fn part<const N: usize>(digest: &[u8], from: usize) -> [u8; N] {
    std::array::from_fn(|position| digest.get(from + position).copied().unwrap_or_default())
}

/// The collector's transport. The exporter's own thread has no runtime.
struct Collector {
    client: outbound::HttpClient<Full<Bytes>>,
    runtime: Handle,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let exchange = async {
                let (parts, body) = client.request(request.map(Full::new)).await?.into_parts();
                let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
                Ok(Response::from_parts(parts, body))
            };
            tokio::time::timeout(TIMEOUT, exchange).await?
        });
        sent.await?
    }
}
