//! Bearer tokens on `/mcp`, and the metadata that leads a client without one to them (RFC 6750, RFC 9728).

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;
use url::Url;

use crate::{
    identity::{AuthenticationError, Authenticator, Issuer},
    request::{Client, token_of},
    store::Interface,
};

pub(super) struct Bearer {
    pub authenticator: Authenticator,
    pub public_url: Option<Url>,
}

/// Lets a request with a valid token through, its [`Identity`](identity::Identity) among the extensions.
pub(super) async fn authenticate(State(bearer): State<Arc<Bearer>>, mut request: Request, next: Next) -> Response {
    let Some(token) = token_of(request.headers()) else {
        return unauthorized(&bearer.base_url(request.headers()), None);
    };
    match bearer.authenticator.authenticate(token).await {
        Ok(identity) => {
            let client = request.extensions().get::<Client>().copied().unwrap_or(Client(None));
            let identity = identity.from_origin(client.origin(Interface::Mcp));
            request.extensions_mut().insert(identity);
            // The handler runs in a task of its own; this carries the request's id there.
            request.extensions_mut().insert(tracing::Span::current());
            next.run(request).await
        }
        Err(error @ AuthenticationError::InvalidToken) => {
            unauthorized(&bearer.base_url(request.headers()), Some(&error))
        }
        Err(AuthenticationError::Store(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a token cannot be checked");
            unavailable("the database cannot be reached\n")
        }
        Err(error @ AuthenticationError::IssuerAway) => unavailable(&format!("{error}\n")),
    }
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], why.to_owned()).into_response()
}

fn unauthorized(base_url: &str, error: Option<&AuthenticationError>) -> Response {
    let metadata = format!("resource_metadata=\"{base_url}/.well-known/oauth-protected-resource/mcp\"");
    let challenge = match error {
        None => format!("Bearer {metadata}"),
        Some(_) => format!("Bearer error=\"invalid_token\", {metadata}"),
    };
    let body = match error {
        None => json!({ "error": "invalid_request", "error_description": "send a token: Authorization: Bearer pvd_…" }),
        Some(error) => json!({ "error": "invalid_token", "error_description": error.to_string() }),
    };
    let mut response = (StatusCode::UNAUTHORIZED, Json(body)).into_response();
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What a client has to know about `/mcp`, RFC 9728: with an issuer it signs in there by itself. Without one there is no
/// authorization server, and tokens come from `previewd token create`.
pub(super) async fn resource_metadata(State(bearer): State<Arc<Bearer>>, headers: HeaderMap) -> impl IntoResponse {
    let mut metadata = json!({
        "resource": format!("{}/mcp", bearer.base_url(&headers)),
        "resource_name": "previewd",
        "bearer_methods_supported": ["header"],
    });
    if let Some(issuer) = bearer.authenticator.issuer().map(Issuer::url) {
        metadata["authorization_servers"] = json!([issuer]);
    }
    Json(metadata)
}

impl Bearer {
    /// The server's address, without a slash at its end.
    fn base_url(&self, headers: &HeaderMap) -> String {
        let host = || {
            let host = headers.get(header::HOST)?.to_str().ok()?;
            host.parse::<Authority>().ok()
        };
        match (&self.public_url, host()) {
            (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
            (None, Some(host)) => format!("http://{host}"),
            (None, None) => "http://localhost".to_owned(),
        }
    }
}
