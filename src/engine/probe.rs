//! Asking the public URL, as whoever follows the comment's link will.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context;
use http::{Request, Response, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::TokioExecutor,
};
use rustls_platform_verifier::ConfigVerifierExt;
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::environment::{PROBER, PublicUrl};

/// An answer that takes longer is none to whoever waits for a page.
const TIMEOUT: Duration = Duration::from_secs(5);

type Resolver = BoxCloneSyncService<Name, std::vec::IntoIter<SocketAddr>, std::io::Error>;

/// Asks URLs. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
}

impl Prober {
    /// Fails where the machine has no trusted certificates.
    pub fn new() -> anyhow::Result<Self> {
        let tls = rustls::ClientConfig::with_platform_verifier().context("no trusted certificates")?;
        let mut http = HttpConnector::new_with_resolver(BoxCloneSyncService::new(tower::service_fn(resolve)));
        http.enforce_http(false);
        http.set_connect_timeout(Some(TIMEOUT));
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        // Each question goes the whole way anew, as a stranger's would.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(http));
        Ok(Self { client })
    }

    /// The status that `url` answers at `path`. None: no answer, for whatever reason.
    pub(super) async fn ask(&self, url: &PublicUrl, path: &str) -> Option<u16> {
        let address = format!("{}{path}", url.as_str().trim_end_matches('/'));
        let request = Request::get(&address).header(header::USER_AGENT, PROBER).body(Empty::new()).ok()?;
        let answered = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        let answer: Result<Response<Incoming>, _> = answered.ok()?;
        match answer {
            Ok(response) => Some(response.status().as_u16()),
            Err(error) => {
                tracing::debug!(%error, address, "the URL does not answer");
                None
            }
        }
    }
}

/// As browsers do it: `localhost` and all below it is this machine, whatever its name service says.
/// <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
async fn resolve(name: Name) -> Result<std::vec::IntoIter<SocketAddr>, std::io::Error> {
    if name.as_str() == "localhost" || name.as_str().ends_with(".localhost") {
        return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))].into_iter());
    }
    Ok(GaiResolver::new().oneshot(name).await?.collect::<Vec<_>>().into_iter())
}

#[cfg(test)]
mod tests {
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
        assert_eq!(prober.ask(&url, "/healthz").await, Some(204));
        assert_eq!(prober.ask(&url, "/broken").await, Some(502));
        server.abort();
        let _ = server.await;
        assert_eq!(prober.ask(&url, "/healthz").await, None);
    }
}
