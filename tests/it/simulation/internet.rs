//! What is asked over HTTP: the URLs of previews, and registries.

use std::{io, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use previewd::outbound::{HttpClient, Reach};
use tokio::time::{Instant, sleep};

use super::{
    configuration::{Front, Registry},
    kubernetes::{Images, Kubernetes},
};

/// Until an answer comes.
const NEAR: Duration = Duration::from_millis(20);

/// A client that asks the URLs of previews.
pub fn urls(kubernetes: Kubernetes, front: Front) -> HttpClient<Empty<Bytes>> {
    client(move |request| {
        let namespace = request.uri().host().and_then(|host| host.split('.').next()).unwrap_or_default();
        let since = kubernetes.answers_since(namespace);
        match front {
            Front::Unasked | Front::Prompt => Some(if since.is_some() { 200 } else { 503 }),
            Front::Late(by) => Some(if since.is_some_and(|at| at + by <= Instant::now()) { 200 } else { 503 }),
            Front::Never(status) => status,
        }
    })
}

/// A client that asks registries.
pub fn registries(images: Images, registry: Registry) -> HttpClient<Empty<Bytes>> {
    client(move |request| {
        let path = request.uri().path().trim_start_matches("/v2/");
        let image = path.replacen("/manifests/", ":", 1);
        let is_there = images.there_at(&format!("registry.invalid/{image}")).is_some_and(|at| at <= Instant::now());
        match registry {
            Registry::Unasked | Registry::Honest => Some(if is_there { 200 } else { 404 }),
            Registry::Answers(status) => Some(status),
            Registry::Silent => None,
        }
    })
}

/// None: no answer ever comes.
fn client(answer: impl Fn(&Request<Empty<Bytes>>) -> Option<u16> + Send + Sync + 'static) -> HttpClient<Empty<Bytes>> {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Empty<Bytes>>| {
        let answer = Arc::clone(&answer);
        async move {
            sleep(NEAR).await;
            let Some(status) = answer(&request) else { return std::future::pending().await };
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            Response::builder().status(status).body(body).map_err(io::Error::other)
        }
    });
    HttpClient::over(service, Reach::Anywhere)
}
