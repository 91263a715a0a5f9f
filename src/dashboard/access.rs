//! Who asks: signed in in a browser, or with a bearer token.

use std::sync::Arc;

use axum::{
    Form, Json,
    extract::{FromRequest, FromRequestParts, Request},
    http::{Extensions, HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use subtle::ConstantTimeEq;

use super::{
    Dashboard,
    frame::{Frame, message},
    login,
};
use crate::{
    identity::{AuthenticationError, Identity},
    request::{Client, cookie, token_of},
    service::ServiceError,
    sessions::SignedIn,
    store::Interface,
};

/// Who asks for a page; whoever is not signed in is led to the login, and back.
pub(super) struct Visitor(pub SignedIn);

impl FromRequestParts<Arc<Dashboard>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        match dashboard.signed_in(&parts.headers, client(&parts.extensions)).await {
            Ok(Some(who)) => Ok(Self(who)),
            Ok(None) => {
                let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("path", path).finish();
                Err(Redirect::to(&format!("/login?{query}")).into_response())
            }
            Err(error) => Err(away(&error)),
        }
    }
}

/// A form that changes something: of whoever is signed in, and of their own session.
pub(super) struct OwnForm<Fields> {
    pub who: SignedIn,
    pub fields: Fields,
}

/// A form that says nothing but that it is sent.
#[derive(Deserialize)]
pub(super) struct NoFields {}

#[derive(Deserialize)]
struct Guarded<Fields> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    fields: Fields,
}

impl<Fields: DeserializeOwned> FromRequest<Arc<Dashboard>> for OwnForm<Fields> {
    type Rejection = Response;

    async fn from_request(request: Request, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        let refused = |text: &str| {
            let text = format!("{text} Nothing was changed.");
            message(Frame::default(), StatusCode::FORBIDDEN, "This form is not of this page", text)
        };
        if !dashboard.is_own_form(request.headers()) {
            return Err(refused("It comes from another site."));
        }
        let who = dashboard.signed_in(request.headers(), client(request.extensions())).await;
        let form = Form::<Guarded<Fields>>::from_request(request, dashboard).await;
        match (who, form) {
            (Ok(Some(who)), Ok(Form(Guarded { csrf, fields })))
                if bool::from(who.csrf.as_bytes().ct_eq(csrf.as_bytes())) =>
            {
                Ok(Self { who, fields })
            }
            (Ok(Some(_)), Ok(_)) => {
                Err(refused("It is of an earlier session: go back, load the page again, and repeat it."))
            }
            (Ok(Some(_)), Err(rejection)) => Err(rejection.into_response()),
            (Ok(None), _) => Err(Redirect::to("/login").into_response()),
            (Err(error), _) => Err(away(&error)),
        }
    }
}

/// Who asks for what programs read too: with a bearer token, or signed in.
pub(super) struct Asker(pub Identity);

impl FromRequestParts<Arc<Dashboard>> for Asker {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Arc<Dashboard>) -> Result<Self, Response> {
        dashboard.identity(&parts.headers, client(&parts.extensions)).await.map(Self)
    }
}

fn client(extensions: &Extensions) -> Client {
    extensions.get::<Client>().copied().unwrap_or(Client(None))
}

impl Dashboard {
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

    /// Who asks, or what they are answered instead.
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
    (error.code.http_status(), [(header::CACHE_CONTROL, "no-store")], Json(error)).into_response()
}

pub(super) fn away(error: &AuthenticationError) -> Response {
    tracing::error!(error = error as &dyn std::error::Error, "a session cannot be looked up");
    let text = "It cannot look up who you are. Try again in a minute.".to_owned();
    let mut response = message(Frame::default(), StatusCode::SERVICE_UNAVAILABLE, "previewd cannot look now", text);
    response.headers_mut().insert(header::RETRY_AFTER, axum::http::HeaderValue::from_static("10"));
    response
}
