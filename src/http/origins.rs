//! Which browsers' pages may call `/mcp`.

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use url::{Position, Url};

/// Pages of this machine, which is where agents' own tools run. They need a token like everybody.
const LOOPBACK: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// Origins, each with its port or `:*` for any.
#[derive(Debug, Clone)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    pub(super) fn new(configured: &[String], public_url: Option<&Url>) -> Self {
        let public = public_url.map(|url| url[..Position::BeforePath].to_owned());
        let named = configured.iter().cloned().chain(public).filter_map(|origin| with_port(&origin));
        Self(LOOPBACK.into_iter().map(str::to_owned).chain(named).collect())
    }

    /// As rmcp takes them. An entry without a port would mean any port to it.
    pub(super) fn patterns(&self) -> Vec<String> {
        self.0.clone()
    }

    pub(super) fn cors(self) -> CorsLayer {
        let allowed = AllowOrigin::predicate(move |origin, _| self.allows(origin));
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::WWW_AUTHENTICATE, HeaderName::from_static("x-request-id")])
            .max_age(std::time::Duration::from_secs(3600))
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Some(origin) = origin.to_str().ok().and_then(with_port) else { return false };
        self.0.iter().any(|allowed| match allowed.strip_suffix(":*") {
            Some(allowed) => origin.rsplit_once(':').is_some_and(|(host, _)| host == allowed),
            None => *allowed == origin,
        })
    }
}

/// `https://example.com` as `https://example.com:443`. None for what is no origin.
fn with_port(origin: &str) -> Option<String> {
    let (bare, any_port) = origin.strip_suffix(":*").map_or((origin, false), |bare| (bare, true));
    let url = Url::parse(bare).ok()?;
    let (scheme, host) = (url.scheme(), url.host_str()?);
    let port = if any_port { "*".to_owned() } else { url.port_or_known_default()?.to_string() };
    Some(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_with_their_ports() {
        let configured = ["https://inspector.example.com".to_owned(), "https://any.example.com:*".to_owned()];
        let public = Url::parse("https://previewd.example.com:8443/").unwrap();
        let origins = Origins::new(&configured, Some(&public));
        let allows = |origin: &'static str| origins.allows(&HeaderValue::from_static(origin));
        for origin in [
            "http://localhost:6274",
            "http://127.0.0.1",
            "http://[::1]:3000",
            "https://inspector.example.com",
            "https://inspector.example.com:443",
            "https://any.example.com:8443",
            "https://previewd.example.com:8443",
        ] {
            assert!(allows(origin), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example.com",
            "https://inspector.example.com:8443",
            "http://inspector.example.com",
            "https://previewd.example.com",
            "http://localhost.evil.example.com",
        ] {
            assert!(!allows(origin), "{origin}");
        }
    }
}
