//! The endpoint: checks a delivery, records it, and answers. What follows from it is the engine's.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::SecretString;
use serde_json::json;
use tracing::{Instrument, debug_span, error, info, info_span, warn};

use super::{Parsed, parse, verify_signature};
use crate::{
    environment::Change,
    metrics::METRICS,
    store::{Delivery, RecordedDelivery, Store},
    traces,
};

/// GitHub sends nothing larger: <https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap>
const LARGEST_PAYLOAD: usize = 25 * 1024 * 1024;
/// GitHub gives up after so long:
/// <https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks#respond-within-10-seconds>
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// GUIDs have 36 characters and events' names fewer; they become rows, so somebody else's are kept short.
const LONGEST_HEADER: usize = 64;

/// What the endpoint works with.
pub struct Receiver {
    pub store: Store,
    pub secrets: Vec<SecretString>,
}

/// Why a delivery was not recorded. GitHub shows status and text to whoever looks after the webhook.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}: a delivery of GitHub has this header, in at most {LONGEST_HEADER} visible characters")]
    Header(&'static str),
    #[error("the body did not come within {} seconds", BODY_TIMEOUT.as_secs())]
    Slow,
    #[error("the body is larger than {LARGEST_PAYLOAD} bytes, and GitHub sends none that is")]
    TooLarge,
    #[error("the body ended early")]
    Truncated,
    #[error(transparent)]
    Signature(#[from] super::BadSignature),
    #[error(transparent)]
    Payload(#[from] super::BadPayload),
    #[error("the database cannot be reached, so nothing was recorded; deliver it again")]
    Store(#[from] crate::store::StoreError),
}

/// POST `/webhooks/github`: 200 for every delivery that is recorded, whatever follows from it.
pub async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let guid = header_text(&parts.headers, "X-GitHub-Delivery");
    let event = header_text(&parts.headers, "X-GitHub-Event");
    let span = info_span!("delivery", delivery = guid.as_deref().unwrap_or_default(), event = tracing::field::Empty);
    async {
        let recorded = match (guid, event) {
            (Ok(guid), Ok(event)) => {
                tracing::Span::current().record("event", &event);
                receiver.record(guid, event, &parts.headers, body).await
            }
            (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
        };
        recorded.map_or_else(|refusal| refusal.into_response(), answer)
    }
    .instrument(span)
    .await
}

impl Receiver {
    async fn record(
        &self,
        guid: String,
        event: String,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<RecordedDelivery, Refusal> {
        let signature = headers.get("X-Hub-Signature-256").map(|value| value.as_bytes());
        // Nobody who does not even claim to have signed may make us hold 25 MiB.
        signature.ok_or(super::BadSignature)?;
        let body = read(body).await?;
        verify_signature(&self.secrets, signature, &body)?;
        let Parsed { change, action, repository, number, head_sha } = parse(&event, &body)?;
        let delivery = Delivery {
            guid,
            event,
            action,
            repository: repository.map(|name| name.to_string()),
            number,
            head_sha: head_sha.map(|sha| sha.to_string()),
        };
        let span = debug_span!("webhook", event = delivery.event, action = delivery.action, number);
        if let Change::PullRequest { facts, .. } = &change {
            traces::join(&span, facts.github_id, &facts.head_sha);
        }
        Ok(self.store.record_delivery(delivery, change).instrument(span).await?)
    }
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LARGEST_PAYLOAD).collect()).await;
    match collected.map_err(|_| Refusal::Slow)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Err(_) => Err(Refusal::Truncated),
    }
}

fn header_text(headers: &HeaderMap, name: &'static str) -> Result<String, Refusal> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let is_short = |text: &&str| !text.is_empty() && text.len() <= LONGEST_HEADER;
    value.filter(is_short).map(str::to_owned).ok_or(Refusal::Header(name))
}

fn answer(recorded: RecordedDelivery) -> Response {
    let (outcome, reason) = match recorded {
        RecordedDelivery::Recorded => ("recorded", None),
        RecordedDelivery::Ignored(reason) => ("ignored", Some(reason)),
        RecordedDelivery::Duplicate => ("duplicate", None),
    };
    METRICS.deliveries.count(outcome);
    info!(outcome, reason, "delivery");
    Json(json!({ "outcome": outcome, "reason": reason })).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Header(_) | Self::Truncated | Self::Payload(_) => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = Json(json!({ "error": self.to_string() }));
        if let Self::Store(error) = &self {
            METRICS.deliveries.count("failed");
            error!(error = error as &dyn std::error::Error, "a delivery was not recorded");
            return (status, [(header::RETRY_AFTER, "10")], body).into_response();
        }
        METRICS.deliveries.count("refused");
        warn!(status = status.as_u16(), why = %self, "a delivery was refused");
        (status, body).into_response()
    }
}
