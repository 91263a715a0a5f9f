//! Whose request it is, by the host that it asks for.

use axum::http::{HeaderMap, Uri, header, uri::Authority};

use crate::environment::{BaseDomain, Namespace};

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A host that is not below the base domain: previewd's own.
    Server,
    /// A host below it that can be no environment's.
    Nobody,
    Environment(Namespace),
}

/// Whom a request is for. Its port counts for nothing: whoever stands before previewd may have another.
pub(super) fn asked(uri: &Uri, headers: &HeaderMap, base_domain: &BaseDomain) -> Asked {
    let Some(host) = host(uri, headers) else { return Asked::Server };
    let Some(label) = host.strip_suffix(base_domain.host()).and_then(|rest| rest.strip_suffix('.')) else {
        return Asked::Server;
    };
    label.parse().map_or(Asked::Nobody, Asked::Environment)
}

/// Whether a host, with or without a port, is one of those that the router answers for.
pub(super) fn is_below(host: &str, base_domain: &BaseDomain) -> bool {
    let host = host.parse::<Authority>().map_or_else(|_| host.to_owned(), |authority| authority.host().to_owned());
    host.to_ascii_lowercase().strip_suffix(base_domain.host()).is_some_and(|rest| rest.ends_with('.'))
}

/// The host that is asked for, lower-cased.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    Some(named(uri, headers)?.host().trim_end_matches('.').to_ascii_lowercase())
}

/// The host that is asked for, as it was named. The request line counts before the header, RFC 9112 section 3.2.2.
pub(super) fn named(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => headers.get(header::HOST)?.to_str().ok()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked_of(uri: &str, host: Option<&'static str>, base_domain: &str) -> Asked {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, HeaderValue::from_static(host));
        }
        asked(&uri.parse().unwrap(), &headers, &base_domain.parse().unwrap())
    }

    #[test]
    fn hosts_below_the_base_domain_are_environments() {
        let environment = Asked::Environment("pr-7-shop-abc".parse().unwrap());
        for (host, base_domain) in [
            ("pr-7-shop-abc.preview.example.com", "preview.example.com"),
            ("PR-7-Shop-ABC.Preview.Example.Com:443", "preview.example.com"),
            ("pr-7-shop-abc.preview.example.com.", "preview.example.com:8443"),
            ("pr-7-shop-abc.localhost:8787", "localhost:1"),
        ] {
            assert_eq!(asked_of("/", Some(host), base_domain), environment, "{host}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        let base_domain = "preview.example.com";
        for host in [
            Some("preview.example.com"),
            Some("previewd.example.com"),
            Some("pr-7.notpreview.example.com"),
            Some("pr-7-preview.example.com"),
            Some("127.0.0.1:8787"),
            Some("[::1]:8787"),
            Some("a b"),
            None,
        ] {
            assert_eq!(asked_of("/", host, base_domain), Asked::Server, "{host:?}");
        }
        for host in
            ["a.b.preview.example.com", ".preview.example.com", "-a.preview.example.com", "a_b.preview.example.com"]
        {
            assert_eq!(asked_of("/", Some(host), base_domain), Asked::Nobody, "{host}");
        }
    }

    /// Whoever names one host in the request line and another in the header is answered for the one that counts.
    #[test]
    fn the_request_line_counts_before_the_header() {
        let previews = asked_of("http://pr-7.preview.example.com/mcp", Some("127.0.0.1"), "preview.example.com");
        assert_eq!(previews, Asked::Environment("pr-7".parse().unwrap()));
        let servers = asked_of("http://127.0.0.1/mcp", Some("pr-7.preview.example.com"), "preview.example.com");
        assert_eq!(servers, Asked::Server);
    }
}
