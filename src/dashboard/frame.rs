//! What every page has around it: who is signed in, the headers that keep it from harm, and pages for what goes wrong.

use askama::Template;
use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};

use crate::{
    identity::{Identity, Permission, Role, may_operate},
    request::wants_html,
    service::{ErrorCode, ServiceError},
    sessions::SignedIn,
};

/// Scripts and styles are files of ours, and nothing else is let in. Where a form leads on to a preview, its answer
/// does: `form-action` is for redirects too.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// The words of a refusal, in bytes.
const LONGEST_REFUSAL: usize = 4 << 10;

/// What the frame shows.
#[derive(Default)]
pub(super) struct Frame {
    person: Option<Person>,
}

/// Who is signed in.
pub(super) struct Person {
    pub subject: String,
    pub role: Role,
    /// Whether they look after previewd itself.
    pub operates: bool,
    /// Which page of the navigation it is.
    pub place: &'static str,
    pub csrf: String,
}

impl Frame {
    pub fn of(who: &SignedIn, place: &'static str) -> Self {
        let Identity { subject, role, .. } = &who.identity;
        let operates = may_operate(&who.identity) == Permission::Allowed;
        Self { person: Some(Person { subject: subject.clone(), role: *role, operates, place, csrf: who.csrf.clone() }) }
    }

    pub fn signed_in(&self) -> Option<&Person> {
        self.person.as_ref()
    }
}

/// A page with its headers. `form_action`: what else forms may lead to than this server.
pub(super) fn page(status: StatusCode, template: &impl Template, form_action: &str) -> Response {
    let html = match template.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            return (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be shown\n").into_response();
        }
    };
    let policy = format!("{POLICY}; form-action 'self'{form_action}");
    let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    (status, headers, Html(html)).into_response()
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    frame: Frame,
    title: &'a str,
    text: String,
}

/// A page that says one thing.
pub(super) fn message(frame: Frame, status: StatusCode, title: &str, text: String) -> Response {
    page(status, &Message { frame, title, text }, "")
}

/// What is refused before a page of ours is asked, with a few words of text, is said on a page to whoever reads pages: an
/// address that leads nowhere, a form that is not complete.
pub(super) async fn refused_on_a_page(request: Request, next: Next) -> Response {
    let reads_pages = wants_html(request.headers());
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    if !reads_pages || !response.status().is_client_error() || !kind.starts_with("text/plain") {
        return response;
    }
    let status = response.status();
    let title = if status == StatusCode::NOT_FOUND { "There is nothing here" } else { "That does not work" };
    let text = to_bytes(response.into_body(), LONGEST_REFUSAL).await.unwrap_or_default();
    message(Frame::default(), status, title, String::from_utf8_lossy(&text).into_owned())
}

/// What was asked for cannot be shown or done.
pub(super) fn failed(frame: Frame, error: ServiceError) -> Response {
    let ServiceError { code, message: said, retryable: _, next_action } = error;
    let title = match code {
        ErrorCode::Unauthorized => "You may not do that",
        ErrorCode::NotFound => "There is nothing here",
        ErrorCode::InvalidInput => "That does not work",
        ErrorCode::StaleTarget => "It has moved on",
        ErrorCode::ServerError => "previewd cannot do that now",
    };
    message(frame, code.http_status(), title, format!("{}. {next_action}", capitalised(&said)))
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().collect::<String>() + characters.as_str()).unwrap_or_default()
}

/// How templates write figures.
pub(super) mod filters {
    use askama::Values;

    use crate::environment::short_commit;

    /// The first seven digits of a commit.
    #[askama::filter_fn]
    pub fn short(commit: impl std::fmt::Display, _: &dyn Values) -> askama::Result<String> {
        Ok(short_commit(&commit.to_string()).to_owned())
    }

    /// `3 d`, or hours, minutes, seconds where it is less.
    #[askama::filter_fn]
    pub fn age(seconds: &i64, _: &dyn Values) -> askama::Result<String> {
        Ok(crate::text::age(*seconds))
    }

    #[askama::filter_fn]
    pub fn millicores(amount: &Option<i64>, _: &dyn Values) -> askama::Result<String> {
        Ok(amount.map_or_else(|| "–".to_owned(), |amount| format!("{amount} m")))
    }

    #[askama::filter_fn]
    pub fn bytes(amount: &Option<i64>, _: &dyn Values) -> askama::Result<String> {
        Ok(amount.map_or_else(|| "–".to_owned(), |amount| crate::text::mebibytes(amount.unsigned_abs())))
    }

    #[askama::filter_fn]
    pub fn plain_bytes(amount: &u64, _: &dyn Values) -> askama::Result<String> {
        Ok(crate::text::mebibytes(*amount))
    }

    #[askama::filter_fn]
    pub fn mebibytes(amount: &i64, _: &dyn Values) -> askama::Result<String> {
        Ok(crate::text::mebibytes(amount.unsigned_abs()))
    }
}
