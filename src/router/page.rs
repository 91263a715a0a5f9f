//! What a visitor is told where there is no application to answer: a page for browsers, a line for everything else.

use std::{fmt::Write, sync::LazyLock};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

use crate::{
    environment::{EnvironmentStatus, Reason},
    store::Environment,
    text::escape_html,
};

/// How often a page that awaits something looks again, in seconds.
const SOON: u32 = 2;
/// How often one looks that awaits somebody.
const LATER: u32 = 10;

/// Light or dark as the visitor has it. Nothing is loaded from anywhere.
const STYLE: &str = ":root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:18vh auto 0;max-width:34rem;padding:0 1.25rem}\
h1{font-size:1.4rem;margin:0 0 .5rem}p{margin:.4rem 0}\
.what{opacity:.75;font-size:.9rem}code{overflow-wrap:anywhere}";

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = BASE64.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub status: StatusCode,
    title: &'static str,
    sentence: String,
    /// The environment's status, where there is an environment.
    shown: Option<EnvironmentStatus>,
    /// Seconds after which it looks again.
    reload: Option<u32>,
}

impl Page {
    /// What an environment says of itself, from which no application answers.
    pub fn of(environment: &Environment) -> Self {
        let said = |otherwise: &str| environment.message.clone().unwrap_or_else(|| otherwise.to_owned());
        let shown = Some(environment.status);
        match (environment.status, environment.reason) {
            // What somebody has to do something about says so.
            (EnvironmentStatus::Pending, Some(_)) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "This preview waits",
                sentence: said(""),
                shown,
                reload: Some(LATER),
            },
            (EnvironmentStatus::Pending | EnvironmentStatus::Deploying, _) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "This preview is starting",
                sentence: said("It is on its way; this page looks again by itself."),
                shown,
                reload: Some(SOON),
            },
            (EnvironmentStatus::Running, Some(Reason::Asleep)) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "This preview sleeps",
                sentence: "Nobody used it for a while. Opening it in a browser wakes it.".to_owned(),
                shown,
                reload: Some(LATER),
            },
            (EnvironmentStatus::Running, _) => Self {
                status: StatusCode::BAD_GATEWAY,
                title: "This preview does not answer",
                sentence: said("It runs, and no part of it takes the request now."),
                shown,
                reload: Some(SOON),
            },
            (EnvironmentStatus::Failed, _) => Self {
                status: StatusCode::BAD_GATEWAY,
                title: "This preview failed",
                sentence: said("Its pull request says why."),
                shown,
                reload: Some(LATER),
            },
            (EnvironmentStatus::Deleting | EnvironmentStatus::Deleted, _) => Self {
                status: StatusCode::GONE,
                title: "This preview is gone",
                sentence: said("Its pull request was closed."),
                shown,
                reload: None,
            },
        }
    }

    pub fn waking() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "This preview is waking up",
            sentence: "It slept, because nobody used it for a while; this page looks again by itself.".to_owned(),
            shown: Some(EnvironmentStatus::Pending),
            reload: Some(SOON),
        }
    }

    /// It runs, and the answer did not begin in time.
    pub fn too_slow() -> Self {
        Self {
            status: StatusCode::GATEWAY_TIMEOUT,
            title: "This preview does not answer",
            sentence: "It took the request and gave no answer in time.".to_owned(),
            shown: Some(EnvironmentStatus::Running),
            reload: None,
        }
    }

    pub fn broken_off() -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            title: "This preview does not answer",
            sentence: "It took the request and ended the connection without an answer.".to_owned(),
            shown: Some(EnvironmentStatus::Running),
            reload: None,
        }
    }

    pub fn unknown() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            title: "There is no such preview",
            sentence: "Nothing is known under this host. The comment on the pull request has the preview's address."
                .to_owned(),
            shown: None,
            reload: None,
        }
    }

    /// What is asked of a server as a whole, such as `OPTIONS *`.
    pub fn not_passed_on() -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
            title: "Not passed on",
            sentence: "Only requests for a path get to a preview.".to_owned(),
            shown: None,
            reload: None,
        }
    }

    pub fn busy() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Too many requests at once",
            sentence: "previewd passes on as many as it may; this page looks again by itself.".to_owned(),
            shown: None,
            reload: Some(SOON),
        }
    }

    /// previewd's own database is away.
    pub fn cannot_look() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "previewd cannot look now",
            sentence: "Its database cannot be reached; this page looks again by itself.".to_owned(),
            shown: None,
            reload: Some(LATER),
        }
    }

    /// As whoever asks can read it.
    pub fn answer(&self, wants_html: bool) -> Response {
        let headers = [
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")),
            (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        ];
        let (kind, text) = if wants_html {
            ("text/html; charset=utf-8", self.html())
        } else {
            ("text/plain; charset=utf-8", format!("{}: {}\n", self.title, self.sentence))
        };
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        let mut response = (self.status, headers, kind, text).into_response();
        if let (StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) = (self.status, self.reload) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn html(&self) -> String {
        let Self { status: _, title, sentence, shown, reload } = self;
        let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        html.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
        if let Some(seconds) = reload {
            let _ = write!(html, "<meta http-equiv=\"refresh\" content=\"{seconds}\">");
        }
        let _ = write!(html, "<title>{title}</title>\n<style>{STYLE}</style></head>\n<body><h1>{title}</h1><p>");
        html.push_str(&escape_html(sentence));
        html.push_str("</p>");
        if let Some(status) = shown {
            let _ = write!(html, "<p class=\"what\">Status: <code>{status}</code></p>");
        }
        html.push_str("</body></html>\n");
        html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(sentence: &str, reload: Option<u32>) -> Page {
        Page {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "A title",
            sentence: sentence.to_owned(),
            shown: Some(EnvironmentStatus::Deploying),
            reload,
        }
    }

    #[test]
    fn text_is_text() {
        let html = page("<script>alert('1')</script>\u{7}&", None).html();
        assert!(html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;</p>"), "{html}");
        assert!(!html.contains("refresh"));
    }

    #[test]
    fn a_page_that_awaits_something_looks_again() {
        let waiting = page("soon", Some(2));
        assert!(waiting.html().contains("http-equiv=\"refresh\" content=\"2\""));
        assert!(waiting.html().contains("deploying"));
        let answer = waiting.answer(true);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert_eq!(page("x", None).answer(false).headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}
