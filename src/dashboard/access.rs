//! Who asks: signed in in a browser, or with a bearer token.

use axum::{
    Json,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use subtle::ConstantTimeEq;

use super::{
    Dashboard,
    frame::{Frame, message},
    login,
};
use crate::{
    http::{Client, token_of},
    identity::{AuthenticationError, Identity},
    router::cookie,
    service::{ErrorCode, ServiceError},
    sessions::SignedIn,
    store::Interface,
};

impl Dashboard {
    /// Who is signed in; whoever is not is led to the login, and back.
    pub(super) async fn visitor(&self, uri: &Uri, headers: &HeaderMap, client: Client) -> Result<SignedIn, Response> {
        match self.signed_in(headers, client).await {
            Ok(Some(who)) => Ok(who),
            Ok(None) => {
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("path", path).finish();
                Err(Redirect::to(&format!("/login?{query}")).into_response())
            }
            Err(error) => Err(away(&error)),
        }
    }

    /// The same for what changes something: the form must be one of their own session. `csrf`: what it carries.
    pub(super) async fn author(&self, headers: &HeaderMap, client: Client, csrf: &str) -> Result<SignedIn, Response> {
        let refused = |text: &str| {
            let text = format!("{text} Nothing was changed.");
            message(Frame::default(), StatusCode::FORBIDDEN, "This form is not of this page", text)
        };
        if !self.is_own_form(headers) {
            return Err(refused("It comes from another site."));
        }
        match self.signed_in(headers, client).await {
            Ok(Some(who)) if bool::from(who.csrf.as_bytes().ct_eq(csrf.as_bytes())) => Ok(who),
            Ok(Some(_)) => Err(refused("It is of an earlier session: go back, load the page again, and repeat it.")),
            Ok(None) => Err(Redirect::to("/login").into_response()),
            Err(error) => Err(away(&error)),
        }
    }

    pub(super) async fn signed_in(
        &self,
        headers: &HeaderMap,
        client: Client,
    ) -> Result<Option<SignedIn>, AuthenticationError> {
        match cookie(headers, login::COOKIE) {
            Some(secret) => self.sessions.signed_in(&secret, client.origin(Interface::Dashboard)).await,
            None => Ok(None),
        }
    }

    /// Who asks for what programs read too, or what they are answered instead.
    pub(super) async fn identity(&self, headers: &HeaderMap, client: Client) -> Result<Identity, Response> {
        let found = match token_of(headers) {
            Some(token) => match self.sessions.authenticator().authenticate(token).await {
                Ok(identity) => Ok(Some(identity.from_origin(client.origin(Interface::Dashboard)))),
                Err(AuthenticationError::InvalidToken) => Ok(None),
                Err(error) => Err(error),
            },
            None => self.signed_in(headers, client).await.map(|who| who.map(|who| who.identity)),
        };
        match found {
            Ok(Some(identity)) => Ok(identity),
            Ok(None) => Err((StatusCode::UNAUTHORIZED, Json(ServiceError::unidentified())).into_response()),
            Err(error) => Err(away(&error)),
        }
    }
}

/// A failure as programs get it.
pub(super) fn failure(error: ServiceError) -> Response {
    let status = match error.code {
        ErrorCode::Unauthorized => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorCode::StaleTarget => StatusCode::CONFLICT,
        ErrorCode::ServerError => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(error)).into_response()
}

pub(super) fn away(error: &AuthenticationError) -> Response {
    tracing::error!(error = error as &dyn std::error::Error, "a session cannot be looked up");
    let text = "It cannot look up who you are. Try again in a minute.".to_owned();
    let mut response = message(Frame::default(), StatusCode::SERVICE_UNAVAILABLE, "previewd cannot look now", text);
    response.headers_mut().insert(header::RETRY_AFTER, axum::http::HeaderValue::from_static("10"));
    response
}
