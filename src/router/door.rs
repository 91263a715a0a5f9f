//! The door before previews: who may see one, where the operator asks for a login.

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{lookup::Found, page};
use crate::{
    environment::Namespace,
    identity::AuthenticationError,
    sessions::{LASTS, Sessions},
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
        if page::wants_html(headers) && method.is_safe() {
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

/// A path of the same host: what could lead elsewhere is the root.
pub fn local_path(path: Option<&str>) -> String {
    let is_local = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.contains('\\')
            && !path.chars().any(|character| character.is_control() || character == ' ')
    };
    path.filter(is_local).unwrap_or("/").to_owned()
}

/// The value of a cookie.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
}

/// A cookie that ends with the session, and that no script and no other site's form uses.
pub fn set_cookie(name: &str, secret: &SecretString) -> Option<HeaderValue> {
    let seconds = LASTS.as_secs();
    let value = format!("{name}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}", secret.expose_secret());
    HeaderValue::from_str(&value).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for (path, expected) in [
            (Some("/cart?item=1"), "/cart?item=1"),
            (Some("//evil.example.com/"), "/"),
            (Some("https://evil.example.com/"), "/"),
            (Some("/\\evil.example.com"), "/"),
            (Some("/a\r\nset-cookie: x"), "/"),
            (Some(""), "/"),
            (None, "/"),
        ] {
            assert_eq!(local_path(path), expected, "{path:?}");
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; __Host-previewd-preview=secret"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(cookie(&headers, COOKIE).as_deref(), Some("secret"));
        assert_eq!(cookie(&headers, "b").as_deref(), Some("2"));
        assert_eq!(cookie(&headers, "c"), None);
    }
}
