//! Asking the public URL, as whoever follows the comment's link will.

use std::time::Duration;

use http::{Request, header};
use http_body_util::Empty;
use hyper::body::Bytes;

use crate::{
    environment::{PROBE_HEADER, PROBER, PublicUrl},
    outbound::{HttpClient, Reach},
};

/// An answer that takes longer is none to whoever waits for a page.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks URLs. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    client: HttpClient<Empty<Bytes>>,
}

impl Prober {
    /// Fails where the machine has no trusted certificates.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { client: HttpClient::new(Reach::Anywhere)? })
    }

    /// The status that `url` answers at `path`. None: no answer, for whatever reason. `lease`: the token of the pass's.
    pub(super) async fn ask(&self, url: &PublicUrl, path: &str, lease: &str) -> Option<u16> {
        let address = format!("{}{path}", url.as_str().trim_end_matches('/'));
        let request = Request::get(&address).header(header::USER_AGENT, PROBER).header(PROBE_HEADER, lease);
        let request = request.body(Empty::new()).ok()?;
        let answered = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        match answered.ok()? {
            Ok(response) => Some(response.status().as_u16()),
            Err(error) => {
                tracing::debug!(%error, address, "the URL does not answer");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Router, http::StatusCode, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use crate::environment::BaseDomain;

    #[tokio::test]
    async fn what_a_url_answers() {
        let application = Router::new()
            .route("/healthz", get(async || StatusCode::NO_CONTENT))
            .route("/broken", get(async || StatusCode::BAD_GATEWAY));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async { axum::serve(listener, application).await });
        let prober = Prober::new().unwrap();
        let namespace = "preview-shop-1".parse().unwrap();
        let domain: BaseDomain = format!("localhost:{port}").parse().unwrap();
        let url = PublicUrl::of(&namespace, &domain);
        assert_eq!(prober.ask(&url, "/healthz", "token").await, Some(204));
        assert_eq!(prober.ask(&url, "/broken", "token").await, Some(502));
        server.abort();
        let _ = server.await;
        assert_eq!(prober.ask(&url, "/healthz", "token").await, None);
    }
}
