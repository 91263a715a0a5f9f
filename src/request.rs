//! What a request says of whoever sends it: from where it comes, as the history keeps it and as tries are counted; its
//! token; its cookies; whether somebody reads the answer.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    recipe::Cidr,
    sessions::LASTS,
    store::{Interface, Origin},
};

/// What proxies say of whom they asked for, the nearest last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of whoever asks. None: the server does not see any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub Option<IpAddr>);

impl Client {
    pub(crate) fn origin(self, interface: Interface) -> Origin {
        Origin { interface, address: self.0 }
    }
}

/// Notes the client among the request's extensions.
pub(crate) async fn note(State(proxies): State<Arc<[Cidr]>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let client = Client(peer.map(|peer| address(peer, request.headers(), &proxies)));
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// Proxies of the operator's are believed about whom they ask for, and nobody else.
fn address(peer: IpAddr, headers: &HeaderMap, proxies: &[Cidr]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|range| range.contains(address));
    let said = headers.get_all(FORWARDED_FOR).into_iter().filter_map(|value| value.to_str().ok());
    let said: Vec<&str> = said.flat_map(|value| value.split(',')).collect();
    let mut nearest = peer;
    for address in said.iter().rev() {
        let (true, Ok(address)) = (is_proxy(nearest), address.trim().parse::<IpAddr>()) else { break };
        nearest = address.to_canonical();
    }
    nearest
}

/// Whether the answer is for somebody's eyes.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
}

/// The token after `Bearer`.
pub(crate) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A path of the same host: what could lead elsewhere is the root.
pub(crate) fn local_path(path: Option<&str>) -> String {
    let is_local = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.contains('\\')
            && !path.chars().any(|character| character.is_control() || character == ' ')
    };
    path.filter(is_local).unwrap_or("/").to_owned()
}

/// The value of a cookie.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
}

/// A cookie that ends with the session, and that no script and no other site's form uses.
pub(crate) fn set_cookie(name: &str, secret: &SecretString) -> Option<HeaderValue> {
    let seconds = LASTS.as_secs();
    let value = format!("{name}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}", secret.expose_secret());
    HeaderValue::from_str(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_of_the_operator_are_believed() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "192.0.2.0/24".parse().unwrap()];
        let table = [
            ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
            ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
            ("10.1.2.3", "1.1.1.1, 198.51.100.1, 192.0.2.9", "198.51.100.1"),
            ("10.1.2.3", "", "10.1.2.3"),
            ("10.1.2.3", "198.51.100.1, nonsense", "10.1.2.3"),
            ("10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ];
        for (peer, said, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_str(said).unwrap());
            let found = address(peer.parse().unwrap(), &headers, &proxies);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {said}");
        }
    }

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
        assert_eq!(cookie(&headers, "__Host-previewd-preview").as_deref(), Some("secret"));
        assert_eq!(cookie(&headers, "b").as_deref(), Some("2"));
        assert_eq!(cookie(&headers, "c"), None);
    }

    #[test]
    fn browsers_want_html_and_programs_do_not() {
        let wants = |accept: Option<&'static str>| {
            let accept = accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept)));
            wants_html(&accept.into_iter().collect())
        };
        assert!(wants(Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")));
        assert!(wants(Some("application/json, TEXT/HTML;q=0.5")));
        for other in [None, Some("*/*"), Some("application/json"), Some("image/avif,image/webp,*/*;q=0.8")] {
            assert!(!wants(other), "{other:?}");
        }
    }
}
