//! Signing in, in a browser: with a token or with GitHub, for a session of the server's host, and from there into previews.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::{
    Dashboard,
    access::away,
    frame::{Frame, message, page},
};
use crate::{
    environment::{Namespace, PublicUrl},
    identity::{Action, Attempt, AuthenticationError, LoginError, Permission, may},
    request::{Client, cookie, local_path, set_cookie},
    router::ENTER,
    sessions::SignedIn,
    store::Interface,
};

/// `__Host-`: of this host alone, over TLS or on this machine.
pub(super) const COOKIE: &str = "__Host-previewd-session";
/// What a browser keeps while it is at GitHub: the try, and where it wants to go then.
const ATTEMPT_COOKIE: &str = "__Host-previewd-login";
/// How long it may stay there.
const ATTEMPT_LASTS: u64 = 600;
/// Of a place to go to afterwards; those who come from a longer one begin at its root.
const LONGEST_PATH: usize = 1_024;
const NO_ATTEMPT: HeaderValue =
    HeaderValue::from_static("__Host-previewd-login=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");

/// A form that the browser did not vouch for.
const NOT_OURS: &str = "the form is another site's, or comes without the header Origin, which browsers send\n";

/// Where somebody wants to go once they are signed in: to a preview, or to a page of the dashboard.
#[derive(Debug, Default, Serialize, Deserialize)]
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

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    preview: Option<&'a str>,
    path: Option<&'a str>,
    complaint: &'a str,
    /// Where they sign in with GitHub. Empty: they cannot.
    github: String,
}

/// What GitHub leads back with.
#[derive(Deserialize)]
pub(super) struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
}

impl Destination {
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("preview", &self.preview), ("path", &self.path)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// A session began; the login leads on to where its browser wants to go.
fn begun(secret: &SecretString, to: &Destination) -> Response {
    let mut response = (no_store(), Redirect::to(&format!("/login?{}", to.query()))).into_response();
    if let Some(cookie) = set_cookie(COOKIE, secret) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

impl Dashboard {
    /// On to where they want to go. Into a preview only where they may see it.
    async fn lead_on(&self, who: &SignedIn, to: &Destination) -> Result<Response, AuthenticationError> {
        let Some(preview) = &to.preview else {
            return Ok((no_store(), Redirect::to(&local_path(to.path.as_deref()))).into_response());
        };
        let found = match preview.parse::<Namespace>() {
            Ok(namespace) => self.store.find_environment(namespace.as_str()).await?,
            Err(_) => None,
        };
        let visible = found.filter(|overview| {
            let facts = &overview.pull_request.facts;
            may(&who.identity, Action::Inspect, &facts.repository.name, facts.number) == Permission::Allowed
        });
        let Some(overview) = visible else {
            let text = format!("Not for {}, at least. Somebody of its team can see it.", who.identity.subject);
            return Ok(message(Frame::of(who, ""), StatusCode::NOT_FOUND, "There is no such preview", text));
        };
        let code = self.sessions.code(who, &overview.environment.id).await?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("code", code.expose_secret()).append_pair("path", &local_path(to.path.as_deref()));
        let url = PublicUrl::of(&overview.environment.namespace, &self.base_domain);
        let address = format!("{}{ENTER}?{}", url.as_str(), query.finish());
        Ok((no_store(), Redirect::to(&address)).into_response())
    }

    fn login_page(&self, status: StatusCode, to: &Destination, complaint: &str) -> Response {
        let (preview, path) = (to.preview.as_deref(), to.path.as_deref());
        let scheme = if self.base_domain.is_local() { "http" } else { "https" };
        let form_action = format!(" {scheme}://*.{}", self.base_domain);
        let github = match &self.github_login {
            Some(_) => format!("/login/github?{}", to.query()),
            None => String::new(),
        };
        page(status, &LoginPage { frame: Frame::default(), preview, path, complaint, github }, &form_action)
    }
}

fn no_store() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Query(to): Query<Destination>,
    headers: HeaderMap,
) -> Response {
    match dashboard.signed_in(&headers, client).await {
        Ok(Some(who)) => dashboard.lead_on(&who, &to).await.unwrap_or_else(|error| away(&error)),
        Ok(None) => dashboard.login_page(StatusCode::OK, &to, ""),
        Err(error) => away(&error),
    }
}

pub(super) async fn sign_in(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Form(Credentials { token, destination: to }): Form<Credentials>,
) -> Response {
    if !dashboard.is_own_form(&headers) {
        return (StatusCode::FORBIDDEN, NOT_OURS).into_response();
    }
    if dashboard.failures.are_too_many(client) {
        return dashboard.login_page(StatusCode::TOO_MANY_REQUESTS, &to, "Too many tries; wait a minute.");
    }
    match dashboard.sessions.sign_in(token.trim(), client.origin(Interface::Dashboard)).await {
        Ok(secret) => begun(&secret, &to),
        Err(AuthenticationError::InvalidToken) => {
            dashboard.failures.add(client);
            dashboard.login_page(StatusCode::UNAUTHORIZED, &to, "That token is not valid.")
        }
        Err(error) => away(&error),
    }
}

/// Leads to GitHub, and remembers where they want to go afterwards.
pub(super) async fn to_github(State(dashboard): State<Arc<Dashboard>>, Query(mut to): Query<Destination>) -> Response {
    let Some(github) = &dashboard.github_login else { return StatusCode::NOT_FOUND.into_response() };
    // Browsers drop a cookie of more than 4096 bytes.
    to.path = to.path.filter(|path| path.len() <= LONGEST_PATH);
    let attempt = Attempt::begin();
    let kept = URL_SAFE_NO_PAD.encode(json!([attempt.state, attempt.verifier, to]).to_string());
    // Lax: the browser comes back from another site.
    let cookie = format!("{ATTEMPT_COOKIE}={kept}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={ATTEMPT_LASTS}");
    let mut response = (no_store(), Redirect::to(&github.address(&attempt))).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Back from GitHub.
pub(super) async fn from_github(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Query(Returned { code, state }): Query<Returned>,
    headers: HeaderMap,
) -> Response {
    let Some(github) = &dashboard.github_login else { return StatusCode::NOT_FOUND.into_response() };
    let kept = cookie(&headers, ATTEMPT_COOKIE).and_then(|kept| URL_SAFE_NO_PAD.decode(kept).ok());
    let kept = kept.and_then(|kept| serde_json::from_slice::<(String, String, Destination)>(&kept).ok());
    let Some((expected, verifier, to)) = kept else {
        let complaint = "That took too long, or began in another browser. Try again.";
        return dashboard.login_page(StatusCode::BAD_REQUEST, &Destination::default(), complaint);
    };
    if dashboard.failures.are_too_many(client) {
        return dashboard.login_page(StatusCode::TOO_MANY_REQUESTS, &to, "Too many tries; wait a minute.");
    }
    let refused = |status: StatusCode, complaint: &str| {
        dashboard.failures.add(client);
        dashboard.login_page(status, &to, complaint)
    };
    if !bool::from(expected.as_bytes().ct_eq(state.as_bytes())) || code.is_empty() {
        return refused(StatusCode::BAD_REQUEST, "GitHub did not say who you are. Try again.");
    }
    let grant = match github.sign_in(&code, &verifier).await {
        Ok(grant) => grant,
        Err(LoginError::Refused) => {
            return refused(StatusCode::UNAUTHORIZED, "GitHub did not confirm who you are. Try again.");
        }
        Err(LoginError::Away(error)) => {
            tracing::warn!(error = format!("{error:#}"), "somebody cannot sign in with GitHub");
            let complaint = "GitHub cannot be asked who you are. Try again in a minute, or tell an operator.";
            return dashboard.login_page(StatusCode::BAD_GATEWAY, &to, complaint);
        }
    };
    match dashboard.sessions.sign_in_as(&grant, client.origin(Interface::Dashboard)).await {
        Ok(secret) => {
            let mut response = begun(&secret, &to);
            response.headers_mut().append(header::SET_COOKIE, NO_ATTEMPT);
            response
        }
        Err(AuthenticationError::InvalidToken) => {
            let complaint = "No team here has you. Ask an operator to add you to one.";
            dashboard.login_page(StatusCode::FORBIDDEN, &to, complaint)
        }
        Err(error) => away(&error),
    }
}

pub(super) async fn sign_out(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    // It ends what the cookie is for and does no harm, so that the origin is enough.
    if !dashboard.is_own_form(&headers) {
        return (StatusCode::FORBIDDEN, NOT_OURS).into_response();
    }
    let ended = match dashboard.signed_in(&headers, client).await {
        Ok(Some(who)) => dashboard.sessions.sign_out(&who).await,
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
