//! Asking an application directly, on the way that the router takes.

use anyhow::Context;
use http::response::Parts;
use http_body_util::Empty;
use hyper::{Request, body::Bytes, header};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::{
    Reach,
    connector::{Connector, uri_of},
};
use crate::{
    cluster::Cluster,
    environment::{CommitSha, Namespace, PROBER, PublicUrl},
    recipe::Backend,
};

/// Asks applications as the router does, without a name and without a visitor's session. Cheap to clone.
#[derive(Clone)]
pub struct BackendClient {
    client: Client<Connector, Empty<Bytes>>,
}

impl BackendClient {
    pub fn new(cluster: Cluster, reach: Reach) -> Self {
        let connector = Connector::new(cluster, reach);
        // Which pods are ready is looked at for each question.
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector) }
    }

    /// What is behind `backend` answers this at `path`, asked under the host of `url`. Its body is not read.
    ///
    /// # Errors
    /// If no ready pod takes the connection, or it ends before an answer.
    pub async fn ask(
        &self,
        namespace: &Namespace,
        backend: &Backend,
        commit: &CommitSha,
        url: &PublicUrl,
        path: &str,
    ) -> anyhow::Result<Parts> {
        let to = uri_of(namespace, backend, commit.short()).context("the Service has no name of one")?;
        let scheme = if url.as_str().starts_with("https://") { "https" } else { "http" };
        let request = Request::get(format!("{}{path}", to.to_string().trim_end_matches('/')))
            .header(header::HOST, url.host())
            .header(header::USER_AGENT, PROBER)
            .header("x-forwarded-host", url.host())
            .header("x-forwarded-proto", scheme);
        Ok(self.client.request(request.body(Empty::new())?).await?.into_parts().0)
    }
}
