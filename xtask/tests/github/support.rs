use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use octocrab::Octocrab;
use octocrab::service::middleware::retry::RetryConfig;
use xtask::github::{GitHub, NewPullRequest, Options, http_client};

pub const REPOSITORY: &str = "acme/shop";

/// A GitHub with one repository and one pull request.
pub async fn github() -> (GitHub, u64) {
    let github = GitHub::start(Options::default()).await.unwrap();
    github.create_repository("acme", "shop").unwrap();
    let new = NewPullRequest::new("Add a cart", "cart").file(".preview.yaml", "version: 1\n");
    let number = github.open_pull_request(REPOSITORY, new).await.unwrap();
    (github, number)
}

/// Without octocrab's own retries, which would hide what was answered.
pub fn client(github: &GitHub, token: &str) -> Octocrab {
    let builder = Octocrab::builder().base_uri(github.url()).unwrap();
    builder.add_retry_config(RetryConfig::None).personal_token(token.to_owned()).build().unwrap()
}

pub fn bot(github: &GitHub) -> Octocrab {
    client(github, GitHub::TOKEN)
}

pub fn plain() -> reqwest::Client {
    http_client().unwrap()
}

/// The status GitHub answered an octocrab call with, where it failed.
pub fn status<T>(result: octocrab::Result<T>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(octocrab::Error::GitHub { source, .. }) => source.status_code.as_u16(),
        Err(other) => panic!("no answer of GitHub's: {other:?}"),
    }
}

pub fn no_violations(github: &GitHub) {
    assert_eq!(github.violations(), Vec::<String>::new());
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A webhook receiver that keeps what it got and answers as it is told.
#[derive(Clone, Default)]
pub struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    status: Arc<Mutex<Option<StatusCode>>>,
}

impl Receiver {
    pub async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/github", listener.local_addr().unwrap());
        let router = Router::new().fallback(Self::receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    async fn receive(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
        receiver.got.lock().unwrap().push((headers, body));
        (receiver.status.lock().unwrap().unwrap_or(StatusCode::OK), "recorded")
    }

    pub fn answer(&self, status: StatusCode) {
        *self.status.lock().unwrap() = Some(status);
    }

    pub fn got(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.lock().unwrap().clone()
    }

    /// (event, action) of everything received.
    pub fn names(&self) -> Vec<(String, String)> {
        let name = |(headers, body): &(HeaderMap, Bytes)| {
            let event = headers["x-github-event"].to_str().unwrap().to_owned();
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            (event, body["action"].as_str().unwrap_or_default().to_owned())
        };
        self.got().iter().map(name).collect()
    }
}
