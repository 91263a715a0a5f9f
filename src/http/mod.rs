//! The HTTP server: MCP, the webhook, and what operators look at. Every request has an id, which its log lines carry and
//! its answer returns.

mod bearer;
mod connections;
mod health;
mod metrics;
mod origins;

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use axum::{
    Router,
    extract::Request,
    http::{HeaderName, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use secrecy::SecretString;
use tower::ServiceBuilder;
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use url::Url;

use crate::{
    cluster::Cluster,
    config::Config,
    dashboard::Dashboard,
    environment::BaseDomain,
    github::GitHub,
    identity::GitHubLogin,
    mcp,
    metrics::METRICS,
    recipe::Cidr,
    request,
    router::{self, PreviewRouter},
    service::Service,
    sessions::Sessions,
    store::Store,
    webhook,
};
pub use connections::serve;
use origins::Origins;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// No answer takes longer: the slowest, a log of many containers, gives up sooner by itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What the server works with.
pub struct HttpState {
    pub service: Service,
    pub store: Store,
    /// None: not configured, which `/readyz` says.
    pub cluster: Option<Cluster>,
    /// None: not configured, which `/readyz` says.
    pub github: Option<GitHub>,
    pub sessions: Sessions,
    /// None: people sign in with tokens alone.
    pub github_login: Option<GitHubLogin>,
    pub webhook_secrets: Vec<SecretString>,
    /// Hosts that a request to `/mcp` may name.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may call `/mcp`, beside those of this machine and of `public_url`.
    pub allowed_origins: Vec<String>,
    /// The server's address as others reach it. None: whatever host a request names.
    pub public_url: Option<Url>,
    pub base_domain: BaseDomain,
    /// Who is believed about whom they ask for.
    pub trusted_proxies: Vec<Cidr>,
    /// What answers the hosts of previews. None: nobody here does.
    pub previews: Option<PreviewRouter>,
    /// How many may watch a page or a log at once.
    pub watchers: usize,
}

impl HttpState {
    /// What `config` says about the server.
    pub fn of(
        config: &Config,
        service: Service,
        store: Store,
        cluster: Option<Cluster>,
        github: Option<GitHub>,
        sessions: Sessions,
        previews: Option<PreviewRouter>,
    ) -> anyhow::Result<Self> {
        let github_login = match (&config.github.login, &config.public_url) {
            (None, _) => None,
            (Some(settings), Some(public_url)) => {
                let (web, api) = (config.github.web_url(), &config.github.api_url);
                Some(GitHubLogin::new(settings.clone(), &web, api, public_url)?)
            }
            (Some(_), None) => bail!("github.login: needs public_url, to which GitHub leads back"),
        };
        Ok(Self {
            service,
            store,
            cluster,
            github,
            sessions,
            github_login,
            webhook_secrets: config.github.webhook_secrets.clone(),
            allowed_hosts: config.allowed_hosts(),
            allowed_origins: config.mcp.allowed_origins.clone(),
            public_url: config.public_url.clone(),
            base_domain: config.base_domain.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            previews,
            // They must not take the places of webhooks and probes.
            watchers: connections::at_once() / 2,
        })
    }
}

/// Everything that the server answers.
pub fn router(state: HttpState) -> Router {
    let HttpState {
        service,
        store,
        cluster,
        github,
        sessions,
        github_login,
        webhook_secrets,
        allowed_hosts,
        allowed_origins,
        public_url,
        base_domain,
        trusted_proxies,
        previews,
        watchers,
    } = state;
    let origins = Origins::new(&allowed_origins, public_url.as_ref());
    let mcp = mcp::http_service(service.clone(), allowed_hosts, origins.patterns());
    let authenticator = sessions.authenticator().clone();
    let dashboard =
        Dashboard::new(sessions, service, store.clone(), base_domain, public_url.clone(), github_login, watchers)
            .router();
    let bearer = Arc::new(bearer::Bearer { authenticator, public_url });
    let webhook = Arc::new(webhook::Receiver { store: store.clone(), secrets: webhook_secrets });
    let metered = Router::new()
        .route("/metrics", get(metrics::metrics))
        .with_state(Arc::new(metrics::Metered::new(store.clone())));
    let health = Arc::new(health::Health::new(store, cluster, github));

    let mcp = Router::new()
        .route_service("/mcp", mcp)
        .layer(middleware::from_fn_with_state(bearer.clone(), bearer::authenticate))
        // Outermost: a browser sends its preflight without the token.
        .layer(origins.cors());
    let metadata = Router::new()
        .route("/.well-known/oauth-protected-resource", get(bearer::resource_metadata))
        // RFC 9728, section 3.1: the resource's path comes after the well-known part.
        .route("/.well-known/oauth-protected-resource/mcp", get(bearer::resource_metadata))
        .with_state(bearer);
    let receiver = Router::new().route("/webhooks/github", post(webhook::receive)).with_state(webhook);
    let operation = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(health::ready))
        .with_state(health)
        .merge(metered);

    let server = Router::new().merge(mcp).merge(metadata).merge(receiver).merge(dashboard).merge(operation).layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn_with_state(Arc::from(trusted_proxies), request::note))
            .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
            .layer(TraceLayer::new_for_http().make_span_with(span).on_request(()).on_failure(()))
            .layer(PropagateRequestIdLayer::new(REQUEST_ID))
            .layer(middleware::from_fn(bound)),
    );
    match previews {
        // Outermost: nothing of the server's is under the host of a preview, and none of its limits are for applications.
        Some(previews) => server.layer(middleware::from_fn_with_state(previews, router::dispatch)),
        None => server,
    }
}

/// The query stays out: it may hold what somebody should not have put there.
fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let id = id.get(..id.len().min(64)).unwrap_or_default();
    tracing::info_span!("http", request = id, method = %request.method(), path = request.uri().path())
}

/// Bounds the time of a request, and counts its answer.
async fn bound(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let response = answered.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response());
    METRICS.requests.count(match response.status().as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    });
    response
}
