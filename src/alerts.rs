//! What operators are told at once, besides the log and the metrics: a line in their chat.

use std::time::Duration;

use anyhow::{Context, ensure};
use backon::{ExponentialBuilder, Retryable};
use http::{Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::json;
use tracing::{Instrument, Span, info, warn};
use url::Url;

use crate::outbound::{HttpClient, Reach};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Where operators are told what needs them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// An incoming webhook of a chat, which takes a JSON object with `text`. It is a secret.
    #[serde(deserialize_with = "webhook_url")]
    #[schemars(with = "Option<String>")]
    pub webhook_url: Option<SecretString>,
}

fn webhook_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(text.into())),
        _ => Err(D::Error::custom("must be a URL such as https://hooks.slack.com/services/…")),
    }
}

/// The operators' chat, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Alerts {
    webhook_url: Option<SecretString>,
}

impl Alerts {
    pub fn new(settings: &AlertSettings) -> Self {
        Self { webhook_url: settings.webhook_url.clone() }
    }

    /// Tells it in the background, in three tries. A line that gets lost is in the log all the same.
    pub fn tell(&self, text: String) {
        let Some(url) = self.webhook_url.clone() else { return };
        let telling = async move {
            let tries = ExponentialBuilder::default().with_max_times(2);
            match (|| post(&url, &text)).retry(tries).await {
                Ok(()) => info!("the operators' chat was told"),
                Err(error) => warn!(error = format!("{error:#}"), "the operators' chat could not be told"),
            }
        };
        tokio::spawn(telling.instrument(Span::current()));
    }
}

/// Slack's form, which Mattermost, Rocket.Chat and others take too:
/// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
async fn post(url: &SecretString, text: &str) -> anyhow::Result<()> {
    let request = Request::post(url.expose_secret())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(json!({ "text": text }).to_string())))
        .context("alerts.webhook_url is no URL")?;
    let client = HttpClient::new(Reach::Anywhere)?;
    let answer = tokio::time::timeout(TIMEOUT, client.request(request)).await.context("no answer in time")??;
    ensure!(answer.status().is_success(), "it answered {}", answer.status());
    Ok(())
}
