//! Signing in, in a browser: with a token, for a session of the server's host, and from there into previews.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{
    Dashboard,
    access::away,
    frame::{Frame, message, page},
};
use crate::{
    environment::{Namespace, PublicUrl},
    http::Client,
    identity::{Action, AuthenticationError, Permission, may},
    router::{ENTER, local_path, set_cookie},
    sessions::SignedIn,
    store::Interface,
};

/// `__Host-`: of this host alone, over TLS or on this machine.
pub(super) const COOKIE: &str = "__Host-previewd-session";

/// A form that the browser did not vouch for.
const NOT_OURS: &str = "the form is another site's, or comes without the header Origin, which browsers send\n";

/// Where somebody wants to go once they are signed in: to a preview, or to a page of the dashboard.
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

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    preview: Option<&'a str>,
    path: Option<&'a str>,
    complaint: &'a str,
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
        page(status, &LoginPage { frame: Frame::default(), preview, path, complaint }, &form_action)
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
            dashboard.failures.add(client);
            dashboard.login_page(StatusCode::UNAUTHORIZED, &to, "That token is not valid.")
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
