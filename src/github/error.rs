//! What can go wrong with GitHub, sorted by what the caller does about it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

/// Why a call to GitHub came to nothing. `tried` says what was asked for; no message holds a token or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitHubError {
    /// Not reached, 5xx, no answer in time, or an answer that is not GitHub's. Whether a write took effect is not
    /// known. To be tried again.
    #[error("{tried}: GitHub did not answer ({how})")]
    Away { tried: String, how: String },

    /// The primary or a secondary rate limit: nothing may be sent for so long.
    #[error("{tried}: GitHub's rate limit is used up for {} s", retry_after.as_secs())]
    RateLimited { tried: String, retry_after: Duration },

    /// 404 and 410: it is not there, or previewd may not know that it is.
    #[error("{tried}: GitHub knows nothing there; check that previewd was given access")]
    NotFound { tried: String },

    /// 403 that is no rate limit: a permission is missing, or the conversation is locked. To be recorded, not retried.
    #[error("{tried}: GitHub forbids it; check the permissions of the App or token, and that nothing is locked")]
    Forbidden { tried: String },

    /// 401: the credentials are wrong, expired or revoked.
    #[error("{tried}: GitHub refuses previewd's credentials; check github.app or github.token")]
    Unauthorized { tried: String },

    /// Anything else, such as 422. Trying the same again does not help.
    #[error("{tried}: GitHub answered with {what}")]
    Other { tried: String, what: String },
}

/// "Wait for at least one minute", where GitHub names no time:
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);
/// The window of the primary rate limit. A clock that is wrong must not make previewd wait for longer.
const RATE_LIMIT_WINDOW: Duration = Duration::from_secs(3600);

impl GitHubError {
    /// Sorts an answer that is no success. The body is only read for what no header says.
    pub(super) fn of_answer(tried: &str, status: StatusCode, headers: &HeaderMap, body: &str) -> Self {
        let tried = tried.to_owned();
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized { tried },
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited { tried, retry_after: retry_after(headers) },
            StatusCode::FORBIDDEN if is_rate_limit(headers, body) => {
                Self::RateLimited { tried, retry_after: retry_after(headers) }
            }
            StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => Self::Forbidden { tried },
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::NotFound { tried },
            StatusCode::REQUEST_TIMEOUT => Self::away(&tried, "status 408"),
            status if status.is_server_error() => Self::away(&tried, format_args!("status {}", status.as_u16())),
            status => Self::Other { tried, what: format!("status {}", status.as_u16()) },
        }
    }

    /// Sorts what octocrab says where there is no answer to look at.
    pub(super) fn of_octocrab(tried: &str, error: &octocrab::Error) -> Self {
        match error {
            // The only answer that octocrab reads by itself is the one with an installation's token.
            octocrab::Error::GitHub { source, .. } => {
                let none = HeaderMap::new();
                Self::of_answer(tried, source.status_code, source.headers.as_ref().unwrap_or(&none), &source.message)
            }
            octocrab::Error::Json { .. } => Self::away(tried, NOT_GITHUB),
            octocrab::Error::Service { .. } | octocrab::Error::Hyper { .. } => Self::away(tried, root_cause(error)),
            _ => Self::Other { tried: tried.to_owned(), what: "nothing: the request could not be sent".to_owned() },
        }
    }

    /// The same for people, without its period: what GitHub did, and to which question.
    pub fn trouble(&self) -> String {
        match self {
            Self::Away { tried, how } => match how.strip_prefix(STATUS) {
                Some(status) => format!("GitHub answered {status} to {tried}"),
                None if how == NOT_GITHUB => format!("something else than GitHub answered to {tried}"),
                None => format!("GitHub gave no answer to {tried}"),
            },
            Self::RateLimited { tried, retry_after } => {
                format!("GitHub's rate limit is used up for {} s, which it answered to {tried}", retry_after.as_secs())
            }
            Self::NotFound { tried } => format!("GitHub answered 404 to {tried}; previewd may lack access"),
            Self::Forbidden { tried } => format!("GitHub answered 403 to {tried}; a permission may be missing"),
            Self::Unauthorized { tried } => {
                format!("GitHub answered 401 to {tried}; previewd's credentials are refused")
            }
            Self::Other { tried, what } => match what.strip_prefix(STATUS) {
                Some(status) => format!("GitHub answered {status} to {tried}"),
                None => format!("GitHub's answer to {tried} makes no sense to previewd"),
            },
        }
    }

    pub(super) fn away(tried: &str, how: impl ToString) -> Self {
        Self::Away { tried: tried.to_owned(), how: how.to_string() }
    }
}

/// How the texts of answers begin.
const STATUS: &str = "status ";
/// A proxy's page, or a body that was cut short.
pub(super) const NOT_GITHUB: &str = "the answer is not GitHub's JSON";

/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>. Some
/// answers to a secondary limit have no header of it, only the message.
fn is_rate_limit(headers: &HeaderMap, body: &str) -> bool {
    headers.contains_key("retry-after")
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || body.contains("secondary rate limit")
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let until_reset = || {
        let reset = SystemTime::UNIX_EPOCH + Duration::from_secs(number(headers, "x-ratelimit-reset")?);
        // GitHub's seconds are whole: one more makes sure that the window is over.
        Some(reset.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_secs(1))
    };
    number(headers, "retry-after")
        .map(Duration::from_secs)
        .or_else(|| if number(headers, "x-ratelimit-remaining") == Some(0) { until_reset() } else { None })
        .unwrap_or(RATE_LIMIT_WAIT)
        .clamp(Duration::from_secs(1), RATE_LIMIT_WINDOW)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The innermost error: "Connection refused", an unknown certificate. octocrab's own texts hold backtraces.
fn root_cause(error: &octocrab::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, headers: &[(&'static str, &str)], body: &str) -> GitHubError {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        GitHubError::of_answer("reading", StatusCode::from_u16(status).unwrap(), &headers, body)
    }

    #[test]
    fn answers_are_sorted_by_what_to_do() {
        let tried = || "reading".to_owned();
        for (status, expected) in [
            (401, GitHubError::Unauthorized { tried: tried() }),
            (403, GitHubError::Forbidden { tried: tried() }),
            (404, GitHubError::NotFound { tried: tried() }),
            (408, GitHubError::Away { tried: tried(), how: "status 408".to_owned() }),
            (410, GitHubError::NotFound { tried: tried() }),
            (422, GitHubError::Other { tried: tried(), what: "status 422".to_owned() }),
            (451, GitHubError::Forbidden { tried: tried() }),
            (502, GitHubError::Away { tried: tried(), how: "status 502".to_owned() }),
        ] {
            assert_eq!(sorted(status, &[], "secret"), expected);
            assert!(!expected.to_string().contains("secret"));
        }
    }

    #[test]
    fn people_hear_what_github_did_and_to_what() {
        let tried = || "reading acme/shop#7".to_owned();
        for (error, expected) in [
            (sorted(502, &[], "secret"), "GitHub answered 502 to reading"),
            (sorted(422, &[], "secret"), "GitHub answered 422 to reading"),
            (sorted(404, &[], ""), "GitHub answered 404 to reading; previewd may lack access"),
            (
                GitHubError::away(&tried(), "error trying to connect: s3cret.example: Connection refused"),
                "GitHub gave no answer to reading acme/shop#7",
            ),
            (GitHubError::away(&tried(), NOT_GITHUB), "something else than GitHub answered to reading acme/shop#7"),
        ] {
            assert_eq!(error.trouble(), expected);
        }
    }

    #[test]
    fn rate_limits_are_obeyed_as_github_asks() {
        let wait = |status, headers: &[(&'static str, &str)], body: &str| match sorted(status, headers, body) {
            GitHubError::RateLimited { retry_after, .. } => retry_after.as_secs(),
            other => panic!("{other}"),
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let reset = (now + 100).to_string();
        let long_ago = (now - 100).to_string();

        assert_eq!(wait(403, &[("retry-after", "7")], ""), 7);
        assert_eq!(wait(429, &[("retry-after", "7"), ("x-ratelimit-remaining", "0")], ""), 7);
        assert_eq!(wait(429, &[], ""), 60);
        assert_eq!(wait(403, &[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], ""), 60);
        assert_eq!(wait(403, &[], "You have exceeded a secondary rate limit."), 60);
        assert!((99..=101).contains(&wait(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)], "")));
        assert_eq!(wait(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &long_ago)], ""), 1);
        assert_eq!(wait(429, &[("retry-after", "999999999999")], ""), 3600);
        // What is left of a limit says nothing about a 403.
        let forbidden = sorted(403, &[("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", &reset)], "");
        assert_eq!(forbidden, GitHubError::Forbidden { tried: "reading".to_owned() });
    }
}
