//! Asking the public URL, as whoever follows the comment's link will.

use std::time::Duration;

use anyhow::Context;
use http::{Request, header, response::Parts};
use http_body_util::Empty;
use hyper::body::Bytes;
use url::Url;

use crate::{
    environment::{CommitSha, Namespace, PROBE_HEADER, PROBER, PublicUrl},
    outbound::{HttpClient, Reach},
    recipe::Backend,
    router::BackendClient,
};

/// An answer that takes longer is none to whoever waits for a page.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks URLs. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    way: Way,
}

#[derive(Clone)]
enum Way {
    /// The URL itself, through DNS and whatever is in front of the application.
    Url(HttpClient<Empty<Bytes>>),
    /// What the URL leads to, as previewd's own router reaches it.
    Router(Box<BackendClient>),
}

/// What is asked: a page of an environment.
pub(super) struct Question<'a> {
    pub namespace: &'a Namespace,
    pub url: &'a PublicUrl,
    pub path: &'a str,
    /// Where the path leads. None: only what is in front of the application knows that.
    pub backend: Option<&'a Backend>,
    pub commit: &'a CommitSha,
    /// The token of the pass's lease.
    pub lease: &'a str,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    /// It sends whoever asks to the very page that was asked for.
    pub leads_back: bool,
}

/// Why nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It would have taken longer than [`TIMEOUT`].
    TooSlow,
    /// No connection, or one that ended, for whatever reason.
    Broken,
}

impl Prober {
    /// One that asks the URLs. Fails where the machine has no trusted certificates.
    pub fn of_urls() -> anyhow::Result<Self> {
        Ok(Self::with_client(HttpClient::new(Reach::Anywhere)?))
    }

    /// One that asks the URLs with a client that is given.
    pub fn with_client(client: HttpClient<Empty<Bytes>>) -> Self {
        Self { way: Way::Url(client) }
    }

    /// One that asks what the router leads to: no name has to be found, and nobody signs in.
    pub fn of_the_router(client: BackendClient) -> Self {
        Self { way: Way::Router(Box::new(client)) }
    }

    /// Whether nothing but the application can have answered.
    pub(super) fn asks_the_application(&self) -> bool {
        matches!(self.way, Way::Router(_))
    }

    /// What is answered.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Silence> {
        let Question { namespace, url, path, backend, commit, lease } = question;
        let address = format!("{}{path}", url.as_str().trim_end_matches('/'));
        let answered = async {
            match &self.way {
                Way::Router(client) => {
                    let backend = backend.context("the router knows of no way to it")?;
                    client.ask(namespace, backend, commit, url, path).await
                }
                Way::Url(client) => {
                    let request =
                        Request::get(&address).header(header::USER_AGENT, PROBER).header(PROBE_HEADER, *lease);
                    Ok(client.request(request.body(Empty::new())?).await?.into_parts().0)
                }
            }
        };
        match tokio::time::timeout(TIMEOUT, answered).await.map_err(|_| Silence::TooSlow)? {
            Ok(parts) => Ok(Answer { status: parts.status.as_u16(), leads_back: leads_back(&address, &parts) }),
            Err(error) => {
                tracing::debug!(%error, url = url.as_str(), path, "the URL does not answer");
                Err(Silence::Broken)
            }
        }
    }
}

/// Whether an answer sends whoever asked for `address` there once more. With a cookie that is another question.
fn leads_back(address: &str, answer: &Parts) -> bool {
    if !answer.status.is_redirection() || answer.headers.contains_key(header::SET_COOKIE) {
        return false;
    }
    let Ok(asked) = Url::parse(address) else { return false };
    let to = answer.headers.get(header::LOCATION).and_then(|to| asked.join(to.to_str().ok()?).ok());
    to.is_some_and(|mut to| {
        to.set_fragment(None);
        to == asked
    })
}

#[cfg(test)]
mod tests {
    use std::{future::pending, io, net::Ipv4Addr};

    use axum::{Router, http::StatusCode, response::Redirect, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{environment::BaseDomain, outbound};

    #[test]
    fn only_what_leads_to_the_very_same_page_leads_back() {
        let parts = |status: u16, headers: &[(&str, &str)]| {
            let answer = http::Response::builder().status(status);
            let answer = headers.iter().fold(answer, |answer, (name, value)| answer.header(*name, *value));
            answer.body(()).expect("an answer").into_parts().0
        };
        let asked = "https://pr-7.preview.example.com/shop/?a=b";
        for (status, to, is_back) in [
            (301, "https://pr-7.preview.example.com/shop/?a=b", true),
            (308, "https://PR-7.preview.example.com:443/shop/?a=b#top", true),
            (302, "/shop/?a=b", true),
            (302, "?a=b", true),
            (200, "/shop/?a=b", false),
            (301, "http://pr-7.preview.example.com/shop/?a=b", false),
            (301, "https://pr-7.preview.example.com/shop?a=b", false),
            (301, "https://pr-7.preview.example.com/shop/", false),
            (302, "https://login.example.com/shop/?a=b", false),
            (302, "/login?a=b", false),
        ] {
            assert_eq!(leads_back(asked, &parts(status, &[("location", to)])), is_back, "{status} {to}");
        }
        assert!(!leads_back(asked, &parts(304, &[])));
        assert!(!leads_back(asked, &parts(302, &[("location", asked), ("set-cookie", "seen=1")])));
    }

    async fn ask(prober: &Prober, domain: &str, path: &str) -> Result<Answer, Silence> {
        let namespace: Namespace = "preview-shop-1".parse().unwrap();
        let domain: BaseDomain = domain.parse().unwrap();
        let url = PublicUrl::of(&namespace, &domain);
        let backend = Backend { service: "app".to_owned(), port: 80 };
        let commit: CommitSha = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let (namespace, url, backend, commit) = (&namespace, &url, Some(&backend), &commit);
        prober.ask(&Question { namespace, url, path, backend, commit, lease: "token" }).await
    }

    #[tokio::test]
    async fn what_a_url_answers() {
        let application = Router::new()
            .route("/healthz", get(async || StatusCode::NO_CONTENT))
            .route("/broken", get(async || StatusCode::BAD_GATEWAY))
            .route("/again", get(async || Redirect::permanent("/again")));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let domain = format!("localhost:{}", listener.local_addr().unwrap().port());
        let server = tokio::spawn(async { axum::serve(listener, application).await });
        let prober = Prober::of_urls().unwrap();
        let ask = async |path: &str| ask(&prober, &domain, path).await;
        assert_eq!(ask("/healthz").await, Ok(Answer { status: 204, leads_back: false }));
        assert_eq!(ask("/broken").await, Ok(Answer { status: 502, leads_back: false }));
        assert_eq!(ask("/again").await, Ok(Answer { status: 308, leads_back: true }));
        server.abort();
        let _ = server.await;
        assert_eq!(ask("/healthz").await, Err(Silence::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_in_time_is_told_apart() {
        let never = tower::service_fn(|_: Request<Empty<Bytes>>| pending::<io::Result<outbound::Answer>>());
        let prober = Prober::with_client(HttpClient::over(never, Reach::Anywhere));
        assert_eq!(ask(&prober, "preview.example.com", "/").await, Err(Silence::TooSlow));
    }
}
