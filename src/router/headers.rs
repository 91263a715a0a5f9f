//! What passes between a visitor and an application. Headers of one connection are the proxy library's matter.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::identity;

/// How the names of previewd's own cookies begin, after the prefixes that browsers know.
const OWN_COOKIE: &[u8] = b"previewd";
const COOKIE_PREFIXES: [&[u8]; 2] = [b"__Host-", b"__Secure-"];

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Credentials for proxies, RFC 9110 section 11.7: this one asks for none, and nobody else's are passed on.
const OF_PROXIES: [HeaderName; 2] = [header::PROXY_AUTHORIZATION, header::PROXY_AUTHENTICATE];

/// Leaves of a request what is the application's: nothing with which somebody could act at previewd in the visitor's
/// name. `X-Forwarded-For` and `Forwarded` grow by the visitor's address later on.
pub(super) fn prepare_request(headers: &mut HeaderMap, host: &str, scheme: &'static str) {
    for name in OF_PROXIES {
        headers.remove(name);
    }
    keep(headers, &header::AUTHORIZATION, |value| (!is_own_token(value)).then(|| value.clone()));
    keep(headers, &header::COOKIE, without_own_cookies);
    // What the visitor says of itself here, an application would believe. It asked for one host.
    match HeaderValue::from_str(host) {
        Ok(host) => {
            headers.insert(header::HOST, host.clone());
            headers.insert(FORWARDED_HOST, host);
        }
        Err(_) => drop(headers.remove(FORWARDED_HOST)),
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
}

/// Leaves of an answer what concerns this preview's host alone: no cookie of a preview reaches its siblings, or previewd,
/// and none can pass for previewd's own.
pub(super) fn prepare_answer(headers: &mut HeaderMap) {
    for name in OF_PROXIES {
        headers.remove(name);
    }
    keep(headers, &header::SET_COOKIE, of_one_host);
}

/// Puts `part` of each value of a header in its place, or nothing.
fn keep(headers: &mut HeaderMap, name: &HeaderName, part: impl Fn(&HeaderValue) -> Option<HeaderValue>) {
    if !headers.contains_key(name) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(name).iter().filter_map(part).collect();
    headers.remove(name);
    for value in kept {
        headers.append(name, value);
    }
}

fn is_own_token(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let Some(space) = value.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, token) = value.split_at(space);
    scheme.eq_ignore_ascii_case(b"bearer") && token.trim_ascii().starts_with(identity::TOKEN_PREFIX.as_bytes())
}

fn without_own_cookies(value: &HeaderValue) -> Option<HeaderValue> {
    let cookies = value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let kept: Vec<&[u8]> = cookies.filter(|cookie| !cookie.is_empty() && !is_own_cookie(cookie)).collect();
    if kept.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()
}

/// A cookie without the domain that would take it beyond its host. None for one that bears a name of previewd's.
fn of_one_host(value: &HeaderValue) -> Option<HeaderValue> {
    let mut parts = value.as_bytes().split(|byte| *byte == b';');
    let cookie = parts.next()?;
    if is_own_cookie(cookie.trim_ascii()) {
        return None;
    }
    let is_domain = |part: &[u8]| name(part).eq_ignore_ascii_case(b"domain");
    let kept: Vec<&[u8]> = std::iter::once(cookie).chain(parts.filter(|part| !is_domain(part))).collect();
    HeaderValue::from_bytes(&kept.join(&b";"[..])).ok()
}

/// Browsers take the prefixes in any case, and so do we with the rest.
fn is_own_cookie(cookie: &[u8]) -> bool {
    let starts_with =
        |text: &[u8], start: &[u8]| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    let name = name(cookie);
    let prefix = COOKIE_PREFIXES.iter().find(|prefix| starts_with(name, prefix));
    starts_with(&name[prefix.map_or(0, |prefix| prefix.len())..], OWN_COOKIE)
}

fn name(part: &[u8]) -> &[u8] {
    part.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = of.iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn request(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers(of);
        prepare_request(&mut headers, "pr-7.localhost:8787", "http");
        headers
    }

    #[test]
    fn previewds_cookies_stay_here_and_others_pass() {
        for (sent, passed) in [
            ("theme=dark", vec!["theme=dark"]),
            ("a=1; previewd_session=s; b=2=3", vec!["a=1; b=2=3"]),
            ("__Host-previewd-visit=x;a=1", vec!["a=1"]),
            ("__HOST-Previewd=x; __Secure-previewd=y; PREVIEWD=z", vec![]),
            ("my-previewd=1; __Host-shop=2", vec!["my-previewd=1; __Host-shop=2"]),
            (" ; ; ", vec![]),
        ] {
            assert_eq!(values(&request(&[("cookie", sent)]), "cookie"), passed, "{sent}");
        }
        let two = request(&[("cookie", "previewd=1"), ("cookie", "b=2")]);
        assert_eq!(values(&two, "cookie"), ["b=2"]);
    }

    #[test]
    fn previewds_tokens_stay_here_and_others_pass() {
        for own in ["Bearer pvd_abc", "bearer   pvd_abc", "BEARER pvd_"] {
            assert_eq!(values(&request(&[("authorization", own)]), "authorization"), Vec::<&str>::new(), "{own}");
        }
        for other in ["Bearer eyJhbGciOi", "Basic cHZkXw==", "pvd_abc", "Bearer xpvd_"] {
            assert_eq!(values(&request(&[("authorization", other)]), "authorization"), [other]);
        }
        assert!(request(&[("proxy-authorization", "Basic eA==")]).get("proxy-authorization").is_none());
    }

    #[test]
    fn who_was_asked_is_previewds_word() {
        let headers = request(&[("x-forwarded-host", "evil.example.com"), ("x-forwarded-proto", "gopher")]);
        assert_eq!(values(&headers, "x-forwarded-host"), ["pr-7.localhost:8787"]);
        let two = request(&[("host", "evil.example.com"), ("host", "pr-7.localhost:8787")]);
        assert_eq!(values(&two, "host"), ["pr-7.localhost:8787"]);
        assert_eq!(values(&headers, "x-forwarded-proto"), ["http"]);
    }

    #[test]
    fn cookies_of_a_preview_are_its_own_hosts() {
        for (set, passed) in [
            ("a=1; Path=/; HttpOnly", Some("a=1; Path=/; HttpOnly")),
            ("a=1; Domain=preview.example.com; Secure", Some("a=1; Secure")),
            ("a=1;domain = .example.com", Some("a=1")),
            ("a=domain=x; DOMAIN=y", Some("a=domain=x")),
            ("previewd_session=stolen; Path=/", None),
            ("__Host-previewd-visit=forged; Secure; Path=/", None),
        ] {
            let mut headers = headers(&[("set-cookie", "first=1"), ("set-cookie", set)]);
            prepare_answer(&mut headers);
            let expected: Vec<&str> = std::iter::once("first=1").chain(passed).collect();
            assert_eq!(values(&headers, "set-cookie"), expected, "{set}");
        }
    }
}
