//! The door before previews: who may see one, where the operator asks for a login.

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use url::Url;

use super::lookup::Found;
use crate::{
    environment::Namespace,
    identity::AuthenticationError,
    request::{cookie, local_path, set_cookie, wants_html},
    sessions::Sessions,
};

/// Where a preview's host takes a code. Applications have no such path while there is a door.
pub const ENTER: &str = "/.previewd/enter";
/// `__Host-`: of this host alone, over TLS or on this machine.
const COOKIE: &str = "__Host-previewd-preview";

/// Asks visitors to sign in. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    pub sessions: Sessions,
    /// Where they do.
    pub login: Url,
}

impl Door {
    /// What is answered instead of the application; None: they may see it.
    pub(super) async fn answer(
        &self,
        namespace: &Namespace,
        found: &Found,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
    ) -> Result<Option<Response>, AuthenticationError> {
        let id = &found.environment.id;
        if uri.path() == ENTER {
            let (code, path) = (parameter(uri, "code"), parameter(uri, "path"));
            let entered = self.sessions.enter(&code.unwrap_or_default(), id).await?;
            let path = local_path(path.as_deref());
            return Ok(Some(match entered {
                Some(secret) => see_other(&path, Some(&secret)),
                // It was used before, by going back in the browser for one.
                None => see_other(&self.address(namespace, &path), None),
            }));
        }
        let secret = cookie(headers, COOKIE);
        let admitted = match &secret {
            Some(secret) => self.sessions.admits(secret, id, &found.repository, found.number).await?,
            None => false,
        };
        if admitted {
            return Ok(None);
        }
        if wants_html(headers) && method.is_safe() {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return Ok(Some(see_other(&self.address(namespace, path), None)));
        }
        let said = "previewd asks for a login before it shows this preview; open it in a browser\n";
        Ok(Some((StatusCode::UNAUTHORIZED, [(header::CACHE_CONTROL, "no-store")], said).into_response()))
    }

    fn address(&self, namespace: &Namespace, path: &str) -> String {
        let mut url = self.login.clone();
        url.query_pairs_mut().append_pair("preview", namespace.as_str()).append_pair("path", path);
        url.into()
    }
}

fn see_other(address: &str, secret: Option<&SecretString>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(address) = HeaderValue::from_str(address) {
        headers.insert(header::LOCATION, address);
    }
    if let Some(cookie) = secret.and_then(|secret| set_cookie(COOKIE, secret)) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
