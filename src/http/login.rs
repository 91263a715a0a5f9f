//! Signing in, in a browser: with a token, for a session of the server's host, and from there into previews.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::{Position, Url};

use crate::{
    environment::{BaseDomain, Namespace, PublicUrl},
    identity::{Action, AuthenticationError, Permission, may},
    router::{ENTER, cookie, local_path, set_cookie},
    sessions::{Sessions, SignedIn},
    store::Store,
    text::escape_html,
};

/// `__Host-`: of this host alone, over TLS or on this machine.
const COOKIE: &str = "__Host-previewd-session";
/// Tokens cannot be guessed; whoever tries makes work and noise.
const FAILURES_A_MINUTE: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);

const STYLE: &str = "<style>:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:18vh auto 0;max-width:26rem;padding:0 1.25rem}\
h1{font-size:1.4rem}label,input,button{display:block;width:100%;box-sizing:border-box;font:inherit}\
input,button{padding:.5rem;margin:.4rem 0 1rem}[role=alert]{color:light-dark(#b00020,#ff8a80)}</style>";

/// What signing in works with.
pub(super) struct Login {
    pub sessions: Sessions,
    pub store: Store,
    pub base_domain: BaseDomain,
    pub public_url: Option<Url>,
    failures: Mutex<(Option<Instant>, u32)>,
}

/// Where somebody wants to go once they are signed in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Destination {
    preview: Option<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    token: String,
    #[serde(flatten)]
    destination: Destination,
}

impl Login {
    pub fn new(sessions: Sessions, store: Store, base_domain: BaseDomain, public_url: Option<Url>) -> Self {
        Self { sessions, store, base_domain, public_url, failures: Mutex::default() }
    }

    async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, AuthenticationError> {
        match cookie(headers, COOKIE) {
            Some(secret) => self.sessions.signed_in(&secret).await,
            None => Ok(None),
        }
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

    fn is_tried_too_often(&self) -> bool {
        let (since, failures) = *self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures >= FAILURES_A_MINUTE && since.is_some_and(|since| since.elapsed() < MINUTE)
    }

    fn note_failure(&self) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.0.is_none_or(|since| since.elapsed() >= MINUTE) {
            *failures = (Some(Instant::now()), 0);
        }
        failures.1 += 1;
    }

    /// Into the preview, where they may see it.
    async fn on_to_preview(&self, who: &SignedIn, to: &Destination) -> Result<Response, AuthenticationError> {
        let Some(namespace) = to.preview.as_deref().and_then(|name| name.parse::<Namespace>().ok()) else {
            return Ok(Redirect::to("/").into_response());
        };
        let found = self.store.find_environment(namespace.as_str()).await?;
        let visible = found.filter(|overview| {
            let facts = &overview.pull_request.facts;
            may(&who.identity, Action::Inspect, &facts.repository.name, facts.number) == Permission::Allowed
        });
        let Some(overview) = visible else {
            return Ok(self.page(
                StatusCode::NOT_FOUND,
                &format!(
                    "<h1>There is no such preview</h1><p>Not for {}, at least. {SIGN_OUT}",
                    escape_html(&who.identity.subject)
                ),
            ));
        };
        let code = self.sessions.code(who, &overview.environment.id).await?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("code", code.expose_secret()).append_pair("path", &local_path(to.path.as_deref()));
        let url = PublicUrl::of(&overview.environment.namespace, &self.base_domain);
        let address = format!("{}{ENTER}?{}", url.as_str(), query.finish());
        Ok((no_store(), Redirect::to(&address)).into_response())
    }

    fn page(&self, status: StatusCode, body: &str) -> Response {
        // A form's answer may lead on to a preview.
        let scheme = if self.base_domain.is_local() { "http" } else { "https" };
        let policy = format!(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; \
             form-action 'self' {scheme}://*.{}",
            self.base_domain
        );
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>Sign in to previewd</title>{STYLE}</head>\n\
             <body>{body}</body></html>\n"
        );
        let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        (status, no_store(), [(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
    }

    fn form(&self, status: StatusCode, to: &Destination, complaint: &str) -> Response {
        let hidden = |name: &str, value: &Option<String>| {
            let value = value.as_deref().map(escape_html);
            value.map(|value| format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")).unwrap_or_default()
        };
        let complaint = match complaint {
            "" => String::new(),
            complaint => format!("<p role=\"alert\">{}</p>", escape_html(complaint)),
        };
        self.page(
            status,
            &format!(
                "<h1>Sign in to previewd</h1>{complaint}<form method=\"post\" action=\"/login\">{}{}\
             <label for=\"token\">Your token</label>\
             <input id=\"token\" name=\"token\" type=\"password\" required autofocus autocomplete=\"current-password\">\
             <button>Sign in</button></form><p>Operators make tokens with <code>previewd token create</code>.</p>",
                hidden("preview", &to.preview),
                hidden("path", &to.path),
            ),
        )
    }
}

const SIGN_OUT: &str = "<form method=\"post\" action=\"/logout\"><button>Sign out</button></form>";

fn no_store() -> [(header::HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

fn away(error: &AuthenticationError) -> Response {
    tracing::error!(error = error as &dyn std::error::Error, "a session cannot be looked up");
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], "previewd cannot look now; try again soon\n")
        .into_response()
}

pub(super) async fn show(
    State(login): State<Arc<Login>>,
    Query(to): Query<Destination>,
    headers: HeaderMap,
) -> Response {
    match login.signed_in(&headers).await {
        Ok(Some(who)) => login.on_to_preview(&who, &to).await.unwrap_or_else(|error| away(&error)),
        Ok(None) => login.form(StatusCode::OK, &to, ""),
        Err(error) => away(&error),
    }
}

pub(super) async fn sign_in(
    State(login): State<Arc<Login>>,
    headers: HeaderMap,
    Form(Credentials { token, destination: to }): Form<Credentials>,
) -> Response {
    if !login.is_own_form(&headers) {
        return (StatusCode::FORBIDDEN, "the form is another site's\n").into_response();
    }
    if login.is_tried_too_often() {
        return login.form(StatusCode::TOO_MANY_REQUESTS, &to, "Too many tries; wait a minute.");
    }
    match login.sessions.sign_in(token.trim()).await {
        Ok(secret) => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in [("preview", &to.preview), ("path", &to.path)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            let mut response = (no_store(), Redirect::to(&format!("/login?{}", query.finish()))).into_response();
            if let Some(cookie) = set_cookie(COOKIE, &secret) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(AuthenticationError::InvalidToken) => {
            login.note_failure();
            login.form(StatusCode::UNAUTHORIZED, &to, "That token is not valid.")
        }
        Err(error) => away(&error),
    }
}

pub(super) async fn sign_out(State(login): State<Arc<Login>>, headers: HeaderMap) -> Response {
    if !login.is_own_form(&headers) {
        return (StatusCode::FORBIDDEN, "the form is another site's\n").into_response();
    }
    let ended = match login.signed_in(&headers).await {
        Ok(Some(who)) => login.sessions.sign_out(&who).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => {
            let gone = HeaderValue::from_static("__Host-previewd-session=; Path=/; Secure; HttpOnly; Max-Age=0");
            ([(header::SET_COOKIE, gone)], Redirect::to("/login")).into_response()
        }
        Err(error) => away(&error),
    }
}
