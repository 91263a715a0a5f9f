//! Signed deliveries about pull requests, made from an example that GitHub publishes.

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{Request, body::Bytes};
use serde_json::{Value, json};
use xtask::github::{sign, webhook_examples};

use super::{ground::WEBHOOK_SECRET, load::Call};

/// The repository of the example.
pub const REPOSITORY: &str = "Codertocat/Hello-World";
/// The size of body that peers were measured with. Most published examples are a little larger already.
const BODY: usize = 20 * 1024;

/// GitHub's example of an opened pull request, to be made into others.
pub struct PullRequests {
    example: Value,
}

/// A body with its signature. The GUID comes when it is sent.
pub struct Signed {
    body: Bytes,
    signature: String,
}

impl PullRequests {
    pub fn new() -> Result<Self> {
        let mut opened = webhook_examples("pull_request").into_iter().filter(|example| example["action"] == "opened");
        let mut example = opened.next().context("no example of an opened pull request")?;
        let missing = BODY.saturating_sub(example.to_string().len());
        let text = example["pull_request"]["body"].as_str().unwrap_or_default();
        example["pull_request"]["body"] = json!(format!("{text}{}", "x".repeat(missing)));
        Ok(Self { example })
    }

    /// Pull request `number` as opened, or at its `push`th push, counted from 1.
    pub fn signed(&self, number: u64, push: u64) -> Signed {
        let mut event = self.example.clone();
        let head = |push: u64| format!("{number:020x}{push:020x}");
        if push > 0 {
            event["action"] = json!("synchronize");
            event["before"] = json!(head(push - 1));
            event["after"] = json!(head(push));
        }
        event["number"] = json!(number);
        let pull_request = &mut event["pull_request"];
        pull_request["id"] = json!(279_000_000 + number);
        pull_request["number"] = json!(number);
        pull_request["head"]["sha"] = json!(head(push));
        let (hour, minute, second) = (push / 3600 % 24, push / 60 % 60, push % 60);
        pull_request["updated_at"] = json!(format!("2026-11-23T{hour:02}:{minute:02}:{second:02}Z"));
        let body = event.to_string().into_bytes();
        Signed { signature: sign(WEBHOOK_SECRET, &body), body: body.into() }
    }
}

impl Signed {
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// As GitHub sends it, as a delivery of its own.
    pub fn request(&self, host: &str) -> Result<Call> {
        let guid = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let request = Request::post("/webhooks/github")
            .header("Host", host)
            .header("User-Agent", "GitHub-Hookshot/044aadd")
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", "pull_request")
            .header("X-GitHub-Delivery", guid)
            .header("X-Hub-Signature-256", &self.signature);
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// Whether a delivery was answered as recorded.
pub fn is_recorded(answer: &str) -> bool {
    answer.contains("\"recorded\"")
}
