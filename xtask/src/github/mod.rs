//! A loopback GitHub: the REST operations, webhooks and failures that previewd meets, on 127.0.0.1, kept honest by
//! GitHub's published descriptions.

mod branches;
mod browser;
mod control;
mod control_http;
mod conversation;
mod error;
mod examples;
mod extract;
mod faults;
mod key;
mod line;
mod log;
mod model;
mod openapi;
mod opening;
mod operation;
mod page;
mod payloads;
mod repositories;
mod rest;
mod shapes;
mod state;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::http::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::error::ControlError;
pub use self::examples::{disagreement, webhook_examples};
pub use self::extract::{extract_description, extract_examples};
pub use self::faults::{Fault, Scope};
pub use self::key::AppKey;
pub use self::log::{CommentWrites, LoggedRequest, Write};
pub use self::opening::{NewPullRequest, link_to};
pub use self::operation::Operation;
pub use self::state::{Comment, Commit, Deployment, DeploymentStatus, PullRequest, PullState, Repository, Role};
pub use self::webhooks::{Attempt, Delivery, sign};

use self::browser::Browser;
use self::faults::Faults;
use self::line::{Cut, Port};
use self::log::WriteHook;
use self::openapi::Description;
use self::rest::answer::Answer;
use self::rest::auth::Credentials;
use self::rest::limits::Limits;
use self::state::{App, State, UserKind};
use self::webhooks::Hook;

/// How a GitHub App is registered.
#[derive(Clone, Debug)]
pub struct AppOptions {
    pub id: u64,
    pub slug: String,
    /// RSA, PEM.
    pub public_key: String,
    pub permissions: BTreeMap<String, String>,
    pub events: Vec<String>,
}

impl AppOptions {
    /// With the permissions and events previewd asks for.
    pub fn new(id: u64, slug: &str, public_key: &str) -> Self {
        let permissions = [
            ("actions", "read"),
            ("contents", "read"),
            ("deployments", "write"),
            ("issues", "write"),
            ("metadata", "read"),
            ("pull_requests", "write"),
        ];
        Self {
            id,
            slug: slug.to_owned(),
            public_key: public_key.to_owned(),
            permissions: permissions.map(|(name, level)| (name.to_owned(), level.to_owned())).into(),
            events: [
                "issue_comment",
                "pull_request",
                "pull_request_review",
                "pull_request_review_comment",
                "repository",
                "workflow_run",
            ]
            .map(str::to_owned)
            .into(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// 0: any free one.
    pub port: u16,
    /// (token, login) of users.
    pub tokens: Vec<(String, String)>,
    pub app: Option<AppOptions>,
    /// Requests an hour for each caller.
    pub rate_limit: u32,
    /// How long installation tokens live; an hour on GitHub.
    pub installation_token_lifetime: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            tokens: vec![(GitHub::TOKEN.to_owned(), GitHub::LOGIN.to_owned())],
            app: None,
            rate_limit: 5000,
            installation_token_lifetime: Duration::from_secs(3600),
        }
    }
}

/// A running loopback GitHub. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct GitHub {
    inner: Arc<Inner>,
    /// The server's own handle has none, or it would keep itself alive.
    _guard: Option<Arc<DropGuard>>,
}

struct Inner {
    url: String,
    users: Vec<String>,
    client: reqwest::Client,
    description: Arc<Description>,
    state: Mutex<State>,
    credentials: Mutex<Credentials>,
    limits: Mutex<Limits>,
    hook: Mutex<Hook>,
    faults: Faults,
    log: Mutex<Vec<LoggedRequest>>,
    violations: Mutex<Vec<String>>,
    on_write: Mutex<Option<WriteHook>>,
    browser: Mutex<Browser>,
    away: watch::Sender<bool>,
    is_away: watch::Receiver<bool>,
}

impl Inner {
    fn new(
        options: Options,
        url: String,
        mut state: State,
        away: watch::Sender<bool>,
        is_away: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let mut credentials = Credentials::new(options.tokens.clone(), options.installation_token_lifetime);
        for (_, login) in &options.tokens {
            state.ensure_user(login, UserKind::User);
        }
        if let Some(app) = options.app {
            let client_id = format!("Iv23li{:014}", app.id);
            credentials.trust_app(app.id, &client_id, &app.public_key)?;
            let owner = "previewd".to_owned();
            state.ensure_user(&owner, UserKind::Organization);
            let AppOptions { id, slug, public_key: _, permissions, events } = app;
            let app = App { id, slug, client_id, owner, permissions, events, created_at: state.now() };
            state.ensure_user(&app.bot(), UserKind::Bot);
            state.app = Some(app);
        }
        Ok(Self {
            url,
            users: options.tokens.into_iter().map(|(_, login)| login).collect(),
            client: http_client()?,
            description: Description::shared()?,
            state: Mutex::new(state),
            credentials: Mutex::new(credentials),
            limits: Mutex::new(Limits::new(options.rate_limit)),
            hook: Mutex::new(Hook::default()),
            faults: Faults::default(),
            log: Mutex::default(),
            violations: Mutex::default(),
            on_write: Mutex::default(),
            browser: Mutex::default(),
            away,
            is_away,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client for loopback addresses: no proxy from the environment.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    crate::web::client().user_agent("previewd-xtask").build().context("no HTTP client")
}

impl GitHub {
    /// The token and login of [`Options::default`].
    pub const TOKEN: &str = "ghp_loopback";
    pub const LOGIN: &str = "preview-bot";

    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let (away, asked_away) = watch::channel(false);
        let (went_away, is_away) = watch::channel(false);
        let port = Port::bind(options.port, asked_away, went_away).await;
        let port = port.with_context(|| format!("cannot listen on 127.0.0.1:{}", options.port))?;
        let url = format!("http://{}", port.address());
        let inner = Arc::new(Inner::new(options, url, State::default(), away, is_away)?);
        let served = Self { inner: Arc::clone(&inner), _guard: None };
        let router = Router::new()
            .nest("/_control", control_http::router())
            .merge(browser::router())
            .fallback(rest::serve)
            .with_state(served);
        let service = router.into_make_service_with_connect_info::<Cut>();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                ended = axum::serve(port, service) => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "loopback GitHub ended");
                    }
                }
                () = stopped => {}
            }
        });
        Ok(Self { inner, _guard: Some(Arc::new(stop.drop_guard())) })
    }

    /// Without a socket, under `clock`, which gives Unix seconds: requests come through [`GitHub::exchange`], and
    /// deliveries are kept back for [`GitHub::take_deliveries`].
    pub fn in_process(options: Options, clock: impl Fn() -> i64 + Send + Sync + 'static) -> anyhow::Result<Self> {
        let (away, is_away) = watch::channel(false);
        let inner = Inner::new(options, "http://github.invalid".to_owned(), State::with_clock(clock), away, is_away)?;
        let github = Self { inner: Arc::new(inner), _guard: None };
        github.hold_deliveries();
        Ok(github)
    }

    /// Answers one request to the API. None: the connection was reset.
    pub async fn exchange(&self, request: Request<Bytes>) -> Option<Response> {
        rest::exchange(self, request).await
    }

    /// Root of the API and of the pages: `http://127.0.0.1:port`. The API is under `/api/v3` too.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }

    fn credentials(&self) -> MutexGuard<'_, Credentials> {
        lock(&self.inner.credentials)
    }

    fn browser(&self) -> MutexGuard<'_, Browser> {
        lock(&self.inner.browser)
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        lock(&self.inner.limits)
    }

    fn hook(&self) -> MutexGuard<'_, Hook> {
        lock(&self.inner.hook)
    }

    fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    fn client(&self) -> &reqwest::Client {
        &self.inner.client
    }

    fn users(&self) -> &[String] {
        &self.inner.users
    }

    fn description(&self) -> &Description {
        &self.inner.description
    }

    fn log(&self, request: LoggedRequest) {
        lock(&self.inner.log).push(request);
    }

    fn violation(&self, reason: Option<String>) {
        lock(&self.inner.violations).extend(reason);
    }

    fn violated(&self, operation: Operation, what: &str, reason: &str) -> Answer {
        let reason = format!("{} {}: {what}: {reason}", operation.method(), operation.template());
        self.violation(Some(reason.clone()));
        Answer::error(500, format!("violates the published description: {reason}"))
    }

    async fn after_write(&self, write: Write) {
        let hook = lock(&self.inner.on_write).clone();
        if let Some(hook) = hook {
            hook(write).await;
        }
    }

    /// Stops the clock at these Unix seconds, or with None lets it run: pull requests and comments then carry that
    /// time. Tokens expire by the real clock.
    pub fn freeze_clock(&self, at: Option<i64>) {
        self.state().freeze(at);
    }

    /// Makes requests of a scope fail until [`GitHub::clear_faults`].
    pub fn fault(&self, scope: impl Into<Scope>, fault: Fault) {
        self.faults().add(scope.into(), fault, None);
    }

    /// Makes the next so many requests of a scope fail.
    pub fn fault_times(&self, scope: impl Into<Scope>, fault: Fault, times: u32) {
        self.faults().add(scope.into(), fault, Some(times));
    }

    pub fn clear_faults(&self) {
        self.faults().clear();
    }

    /// Refuses connections, and resets those that are open, until [`GitHub::come_back`].
    pub async fn go_away(&self) {
        self.set_away(true).await;
    }

    pub async fn come_back(&self) {
        self.set_away(false).await;
    }

    async fn set_away(&self, away: bool) {
        self.inner.away.send_replace(away);
        let mut is_away = self.inner.is_away.clone();
        // Err: the server ended, and is away for good.
        let _ = is_away.wait_for(|is| *is == away).await;
    }

    /// Another hourly limit from now on, for every caller.
    pub fn set_rate_limit(&self, requests: u32) {
        self.limits().set(requests);
    }

    /// Ends every installation token given so far, as GitHub does now and then.
    pub fn revoke_installation_tokens(&self) {
        self.credentials().revoke_all();
    }

    /// Calls this after each write took effect and before it is answered; the answer waits for it.
    pub fn on_write(&self, hook: impl Fn(Write) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        *lock(&self.inner.on_write) = Some(Arc::new(hook));
    }

    pub fn clear_on_write(&self) {
        *lock(&self.inner.on_write) = None;
    }

    /// Every request to the API so far, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        lock(&self.inner.log).clone()
    }

    pub fn clear_requests(&self) {
        lock(&self.inner.log).clear();
    }

    /// Writes to comments so far, over all repositories.
    pub fn comment_writes(&self) -> CommentWrites {
        CommentWrites::of(lock(&self.inner.log).iter())
    }

    /// Where a client or this stand-in disagreed with GitHub's published descriptions. Tests assert that there is
    /// nothing.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.inner.violations).clone()
    }

    pub fn deployments(&self, repository: &str) -> Vec<Deployment> {
        let state = self.state();
        state.find(repository).map(|found| found.deployments.values().cloned().collect()).unwrap_or_default()
    }
}
