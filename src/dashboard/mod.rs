//! The dashboard: pages rendered here, with a little JavaScript beside them that they do without. What people do goes
//! through the same functions as what agents ask for.

mod access;
mod actions;
mod assets;
mod changes;
mod chart;
mod environment;
mod environments;
mod events;
mod failures;
mod frame;
mod login;
mod logs;
mod operation;
mod stream;
mod tokens;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode, header},
    middleware,
    routing::{get, post},
};
use tokio::sync::Semaphore;
use url::{Position, Url};

use self::{changes::Changes, failures::Failures};
use crate::{environment::BaseDomain, identity::GitHubLogin, service::Service, sessions::Sessions, store::Store};

/// A token of an issuer is the longest thing in a form.
const LONGEST_FORM: usize = 32 * 1024;

/// What pages are made with.
pub struct Dashboard {
    sessions: Sessions,
    service: Service,
    store: Store,
    base_domain: BaseDomain,
    public_url: Option<Url>,
    /// None: people sign in with tokens alone.
    github_login: Option<GitHubLogin>,
    failures: Failures,
    changes: Changes,
    /// A place for each who watches.
    watchers: Arc<Semaphore>,
}

impl Dashboard {
    /// `watchers`: how many may watch at once.
    pub fn new(
        sessions: Sessions,
        service: Service,
        store: Store,
        base_domain: BaseDomain,
        public_url: Option<Url>,
        github_login: Option<GitHubLogin>,
        watchers: usize,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(watchers));
        let changes = Changes::new(store.clone());
        let failures = Failures::default();
        Self { sessions, service, store, base_domain, public_url, github_login, failures, changes, watchers }
    }

    /// Everything under the server's own host that is for browsers.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(environments::show))
            .route("/login", get(login::show).post(login::sign_in))
            .route("/login/github", get(login::to_github))
            .route("/login/github/callback", get(login::from_github))
            .route("/logout", post(login::sign_out))
            .route("/environments/{environment}", get(environment::show))
            .route("/environments/{environment}/retry", post(actions::retry))
            .route("/environments/{environment}/create", post(actions::create))
            .route("/environments/{environment}/keep", post(actions::keep))
            .route("/environments/{environment}/approve", get(actions::confirm_approval).post(actions::approve))
            .route("/environments/{environment}/delete", get(actions::confirm_deletion).post(actions::delete))
            .route("/environments/{environment}/logs", get(logs::follow))
            .route("/environments/{environment}/logs.txt", get(logs::download))
            .route("/events", get(events::show))
            .route("/events.jsonl", get(events::export))
            .route("/operation", get(operation::show))
            .route("/tokens", get(tokens::show).post(tokens::create))
            .route("/tokens/{id}/revoke", post(tokens::revoke))
            .route("/changes", get(changes::follow))
            .route("/assets/{name}", get(assets::show))
            .fallback(async || (StatusCode::NOT_FOUND, "There is no page at this address."))
            .layer(middleware::from_fn(frame::refused_on_a_page))
            .layer(DefaultBodyLimit::max(LONGEST_FORM))
            .with_state(Arc::new(self))
    }

    /// Forms of other sites are refused; browsers say whose a form is.
    fn is_own_form(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) else { return false };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let is_asked = origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
        match &self.public_url {
            Some(url) => origin == &url[..Position::BeforePath] || is_asked,
            None => is_asked,
        }
    }
}
