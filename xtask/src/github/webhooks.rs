//! Deliveries: built, signed, sent, recorded, held back and sent again.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::GitHub;
use super::error::ControlError;
use super::shapes::Shapes;
use super::state::iso;
use super::{examples, payloads};

/// GitHub waits ten seconds for an answer to a delivery.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Something GitHub reports, not yet addressed or signed.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: &'static str,
    pub repository: Option<u64>,
    pub installation: Option<u64>,
    pub payload: Value,
}

impl Event {
    pub fn action(&self) -> Option<&str> {
        self.payload.get("action").and_then(Value::as_str)
    }
}

/// One webhook request, ready to be sent. Everything in it may be changed before it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub guid: String,
    pub event: String,
    pub action: Option<String>,
    pub hook_id: u64,
    pub target_type: String,
    pub target_id: u64,
    pub repository: Option<u64>,
    pub installation: Option<u64>,
    pub content_type: String,
    pub body: Vec<u8>,
    /// `X-Hub-Signature-256`; None sends none.
    pub signature: Option<String>,
    /// Headers beside GitHub's own, such as the older `X-Hub-Signature`.
    pub more_headers: Vec<(String, String)>,
}

impl Delivery {
    pub fn payload(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Another body under the signature of the first.
    pub fn tampered(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn signed_with(mut self, secret: &str) -> Self {
        self.signature = Some(sign(secret, &self.body));
        self
    }

    pub fn unsigned(mut self) -> Self {
        self.signature = None;
        self
    }

    /// The same facts as a delivery of its own.
    pub fn with_new_guid(mut self) -> Self {
        self.guid = guid();
        self
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("User-Agent".to_owned(), "GitHub-Hookshot/044aadd".to_owned()),
            ("Accept".to_owned(), "*/*".to_owned()),
            ("Content-Type".to_owned(), self.content_type.clone()),
            ("X-GitHub-Delivery".to_owned(), self.guid.clone()),
            ("X-GitHub-Event".to_owned(), self.event.clone()),
            ("X-GitHub-Hook-ID".to_owned(), self.hook_id.to_string()),
            ("X-GitHub-Hook-Installation-Target-ID".to_owned(), self.target_id.to_string()),
            ("X-GitHub-Hook-Installation-Target-Type".to_owned(), self.target_type.clone()),
        ];
        headers.extend(self.signature.iter().map(|signature| ("X-Hub-Signature-256".to_owned(), signature.clone())));
        headers.extend(self.more_headers.iter().cloned());
        headers
    }
}

/// `sha256=` and the HMAC of the raw body, as GitHub signs it.
pub fn sign(secret: &str, body: &[u8]) -> String {
    match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mut mac) => {
            mac.update(body);
            format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
        }
        // HMAC takes keys of any length; the type only says otherwise.
        Err(_) => String::from("sha256="),
    }
}

fn guid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// One sending of a delivery and what came back.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: u64,
    pub delivery: Delivery,
    /// Unix seconds.
    pub delivered_at: i64,
    pub duration: Duration,
    pub redelivery: bool,
    /// "OK", or what went wrong, in GitHub's words.
    pub status: String,
    /// 502 where nobody answered.
    pub status_code: u16,
    pub answer: String,
}

impl Attempt {
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status_code)
    }

    pub(super) fn shape(&self) -> Value {
        json!({
            "id": self.id,
            "guid": self.delivery.guid,
            "delivered_at": iso(self.delivered_at),
            "redelivery": self.redelivery,
            "duration": self.duration.as_secs_f64(),
            "status": self.status,
            "status_code": self.status_code,
            "event": self.delivery.event,
            "action": self.delivery.action,
            "installation_id": self.delivery.installation,
            "repository_id": self.delivery.repository,
            "throttled_at": null,
        })
    }
}

/// The one webhook: the App's, or with a plain token the repositories' own.
#[derive(Default)]
pub struct Hook {
    pub id: u64,
    pub url: Option<String>,
    /// The first one signs.
    pub secrets: Vec<String>,
    pub held: Option<Vec<Delivery>>,
    pub attempts: Vec<Attempt>,
}

impl GitHub {
    /// Where deliveries go from now on, and what signs them: the first secret does, the others are kept for
    /// [`Delivery::signed_with`]. GitHub sends a `ping` at this point; [`GitHub::ping`] does so here.
    pub fn set_webhook(&self, url: &str, secrets: &[&str]) {
        let id = self.state().next_id();
        let mut hook = self.hook();
        hook.id = id;
        hook.url = Some(url.to_owned());
        hook.secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
    }

    /// Keeps deliveries back from now on, for [`GitHub::release_deliveries`].
    pub fn hold_deliveries(&self) {
        self.hook().held.get_or_insert_default();
    }

    /// What was kept back since it was taken last, oldest first; later deliveries are kept back too.
    pub fn take_deliveries(&self) -> Vec<Delivery> {
        self.hook().held.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What was kept back, oldest first; later deliveries are sent again as they come.
    pub fn release_deliveries(&self) -> Vec<Delivery> {
        self.hook().held.take().unwrap_or_default()
    }

    /// Every sending so far, oldest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.hook().attempts.clone()
    }

    pub async fn ping(&self) -> Result<(u16, String), ControlError> {
        let event = {
            let (state, hook) = (self.state(), self.hook());
            let url = hook.url.clone().ok_or(ControlError::NoWebhook)?;
            let shapes = Shapes { state: &state, api: self.url(), html: self.url() };
            let repository = if state.app.is_some() { None } else { state.repositories.values().next() };
            let payload = payloads::ping(&shapes, hook.id, &url, &["*"], repository);
            Event { name: "ping", repository: repository.map(|found| found.id), installation: None, payload }
        };
        let delivery = self.address(&event).ok_or(ControlError::NoWebhook)?;
        self.send(&delivery).await
    }

    /// The delivery that reports a pull request as it stands now, not sent. `synchronize` has the commit before the
    /// head as `before`.
    pub fn delivery_for(&self, repository: &str, number: u64, action: &str) -> Result<Delivery, ControlError> {
        let event = self.pull_request_event(repository, number, action, json!({}))?;
        self.address(&event).ok_or(ControlError::NoWebhook)
    }

    /// A delivery of any payload: an example, say, or something GitHub has never sent.
    pub fn delivery_of(&self, event: &str, payload: &Value) -> Result<Delivery, ControlError> {
        let app = self.state().app.as_ref().map(|app| app.id);
        let hook = self.hook();
        if hook.url.is_none() {
            return Err(ControlError::NoWebhook);
        }
        let body = payload.to_string().into_bytes();
        let id = |pointer| payload.pointer(pointer).and_then(Value::as_u64);
        Ok(Delivery {
            guid: guid(),
            event: event.to_owned(),
            action: payload.get("action").and_then(Value::as_str).map(str::to_owned),
            hook_id: hook.id,
            target_type: if app.is_some() { "integration" } else { "repository" }.to_owned(),
            target_id: app.or(id("/repository/id")).unwrap_or_default(),
            repository: id("/repository/id"),
            installation: id("/installation/id"),
            content_type: "application/json".to_owned(),
            signature: hook.secrets.first().map(|secret| sign(secret, &body)),
            body,
            more_headers: Vec::new(),
        })
    }

    /// The signed delivery of an event, or None where nobody is told: no webhook, or the App is not installed there.
    pub(super) fn address(&self, event: &Event) -> Option<Delivery> {
        let installed = event.installation.is_some() || event.name == "ping";
        if self.state().app.is_some() && !installed {
            return None;
        }
        self.violation(
            examples::disagreement(event.name, &event.payload)
                .map(|reason| format!("webhook {} {}: {reason}", event.name, event.action().unwrap_or_default())),
        );
        let mut delivery = self.delivery_of(event.name, &event.payload).ok()?;
        delivery.repository = event.repository;
        delivery.installation = event.installation;
        Some(delivery)
    }

    /// Sends a delivery, whatever it holds, and says what was answered: (502, "") where nobody did.
    pub async fn send(&self, delivery: &Delivery) -> Result<(u16, String), ControlError> {
        let attempt = self.attempt(delivery, false).await?;
        Ok((attempt.status_code, attempt.answer))
    }

    /// Sends the last delivery with this GUID once more, as GitHub's own button does.
    pub async fn redeliver(&self, guid: &str) -> Result<(u16, String), ControlError> {
        let found = self.hook().attempts.iter().rfind(|attempt| attempt.delivery.guid == guid).cloned();
        let found = found.ok_or_else(|| ControlError::NoDelivery(guid.to_owned()))?;
        let attempt = self.attempt(&found.delivery, true).await?;
        Ok((attempt.status_code, attempt.answer))
    }

    pub(super) async fn attempt(&self, delivery: &Delivery, redelivery: bool) -> Result<Attempt, ControlError> {
        let url = self.hook().url.clone().ok_or(ControlError::NoWebhook)?;
        let started = Instant::now();
        let mut request = self.client().post(url).timeout(TIMEOUT).body(delivery.body.clone());
        for (name, value) in delivery.headers() {
            request = request.header(name, value);
        }
        let (status_code, status, answer) = match request.send().await {
            Ok(response) => {
                let code = response.status().as_u16();
                let status = if response.status().is_success() {
                    "OK".to_owned()
                } else {
                    format!("Invalid HTTP Response: {code}")
                };
                (code, status, response.text().await.unwrap_or_default())
            }
            Err(error) if error.is_timeout() => (504, "timed out".to_owned(), String::new()),
            Err(_) => (502, "failed to connect to host".to_owned(), String::new()),
        };
        let attempt = {
            let mut state = self.state();
            Attempt {
                id: state.next_id(),
                delivery: delivery.clone(),
                delivered_at: state.now(),
                duration: started.elapsed(),
                redelivery,
                status,
                status_code,
                answer,
            }
        };
        self.hook().attempts.push(attempt.clone());
        Ok(attempt)
    }

    /// Sends events in their order, each after the answer to the one before; a failed one is only recorded, as on
    /// GitHub.
    pub(super) async fn report(&self, events: Vec<Event>) {
        for event in events {
            let Some(delivery) = self.address(&event) else {
                continue;
            };
            let held = self.hook().held.as_mut().map(|held| held.push(delivery.clone())).is_some();
            if !held && let Err(error) = self.attempt(&delivery, false).await {
                tracing::debug!(%error, "delivery not sent");
            }
        }
    }
}
