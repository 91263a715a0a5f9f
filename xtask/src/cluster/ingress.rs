//! A loopback stand-in for an ingress controller: it serves real Ingress objects, so that an environment's address
//! opens in a browser. Only where the node is on this machine, since it goes to Services by their cluster address.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressServiceBackend};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a backend may take to begin its answer. The default of common controllers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the first reading of Ingresses and Services may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs until dropped.
pub struct IngressProxy {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

struct Shared {
    ingresses: Store<Ingress>,
    services: Store<Service>,
    http: HttpClient<HttpConnector, Body>,
}

/// Why a request ended here.
enum Refusal {
    NoIngress(String),
    NoService(String),
    NoAnswer(String),
    TooSlow(String),
}

impl IngressProxy {
    /// Serves every Ingress of the cluster on a loopback port; 0 takes a free one.
    ///
    /// # Errors
    /// If the port is taken, or the cluster cannot be read.
    pub async fn start(kubeconfig: &Path, port: u16) -> Result<IngressProxy> {
        let client = super::client(kubeconfig).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("cannot listen on loopback port {port}"))?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        let shared = Arc::new(Shared {
            ingresses: mirror(&client, &mut tasks),
            services: mirror(&client, &mut tasks),
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
        });
        // A watch that cannot begin is tried again for ever.
        let is_ready =
            futures::future::try_join(shared.ingresses.wait_until_ready(), shared.services.wait_until_ready());
        timeout(READ_TIMEOUT, is_ready).await.context("cannot read the cluster's Ingresses and Services")??;
        let router = Router::new().fallback(forward).with_state(shared);
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!("the ingress proxy ended: {error}");
            }
        });
        Ok(IngressProxy { address, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Keeps what the cluster has of a kind at hand.
fn mirror<K>(client: &Client, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
{
    let (reader, writer) = store();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff().reflect(writer);
    tasks.spawn(events.for_each(|_| std::future::ready(())));
    reader
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match shared.pass_on(request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

impl Shared {
    async fn pass_on(&self, mut request: Request) -> Result<Response, Refusal> {
        let host = host(&request).unwrap_or_default();
        let path = request.uri().path();
        let missing = || Refusal::NoIngress(format!("{host}{path}"));
        let (namespace, backend) = self.backend(&host, path).ok_or_else(missing)?;
        let name = format!("Service {} in {namespace}", backend.name);
        let authority = self.resolve(&namespace, &backend).ok_or_else(|| Refusal::NoService(name.clone()))?;
        let path_and_query = request.uri().path_and_query().map_or("/", uri::PathAndQuery::as_str);
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(path_and_query)
            .build()
            .map_err(|_| missing())?;
        prepare_headers(request.headers_mut(), &host);
        match timeout(ANSWER_TIMEOUT, self.http.request(request)).await {
            Ok(Ok(answer)) => Ok(answer.map(Body::new)),
            Ok(Err(_)) => Err(Refusal::NoAnswer(name)),
            Err(_) => Err(Refusal::TooSlow(name)),
        }
    }

    /// The namespace and backend of the longest path that matches, exact ones first.
    fn backend(&self, host: &str, path: &str) -> Option<(String, IngressServiceBackend)> {
        let ingresses = self.ingresses.state();
        let mut best: Option<((bool, usize), String, IngressServiceBackend)> = None;
        for ingress in &ingresses {
            let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
            let paths = rules
                .filter(|rule| rule.host.as_deref() == Some(host))
                .flat_map(|rule| rule.http.iter().flat_map(|http| &http.paths));
            for candidate in paths {
                let (Some(rank), Some(service)) = (rank(candidate, path), &candidate.backend.service) else { continue };
                if best.as_ref().is_none_or(|(best, ..)| rank > *best) {
                    best = Some((rank, ingress.metadata.namespace.clone().unwrap_or_default(), service.clone()));
                }
            }
        }
        best.map(|(_, namespace, service)| (namespace, service))
    }

    /// The Service's cluster address with the backend's port.
    fn resolve(&self, namespace: &str, backend: &IngressServiceBackend) -> Option<String> {
        let service = self.services.get(&ObjectRef::new(&backend.name).within(namespace))?;
        let spec = service.spec.as_ref()?;
        let address: Ipv4Addr = spec.cluster_ip.as_ref()?.parse().ok()?;
        let wanted = backend.port.as_ref()?;
        let ports = spec.ports.as_deref().unwrap_or_default();
        let port = ports.iter().find(|port| match &wanted.name {
            Some(name) => port.name.as_ref() == Some(name),
            None => Some(port.port) == wanted.number,
        })?;
        Some(format!("{address}:{}", port.port))
    }
}

/// How well a rule's path fits: exact before prefix, longer before shorter.
fn rank(rule: &HTTPIngressPath, path: &str) -> Option<(bool, usize)> {
    let wanted = rule.path.as_deref().unwrap_or("/");
    if rule.path_type == "Exact" {
        return (wanted == path).then_some((true, wanted.len()));
    }
    // Prefixes match whole elements: /shop matches /shop/cart, not /shopping.
    let prefix = wanted.trim_end_matches('/');
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some((false, prefix.len()))
}

/// The host that was asked for, without its port.
fn host(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = named.or_else(|| request.uri().host())?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    Some(host.trim_end_matches('.').to_ascii_lowercase())
}

fn prepare_headers(headers: &mut HeaderMap, host: &str) {
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    headers.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::NoIngress(asked) => (StatusCode::NOT_FOUND, format!("No Ingress serves {asked}.\n")),
            Refusal::NoService(service) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("There is no {service} with that port.\n"))
            }
            Refusal::NoAnswer(service) => (StatusCode::BAD_GATEWAY, format!("{service} has nothing that answers.\n")),
            Refusal::TooSlow(service) => {
                (StatusCode::GATEWAY_TIMEOUT, format!("{service} did not answer within {ANSWER_TIMEOUT:?}.\n"))
            }
        }
        .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_elements_and_an_exact_path_itself() {
        let rule = |kind: &str, path: &str| HTTPIngressPath {
            path: Some(path.into()),
            path_type: kind.into(),
            ..HTTPIngressPath::default()
        };
        for (kind, wanted, path, expected) in [
            ("Prefix", "/", "/", Some((false, 0))),
            ("Prefix", "/", "/cart", Some((false, 0))),
            ("Prefix", "/shop", "/shop/cart", Some((false, 5))),
            ("Prefix", "/shop/", "/shop", Some((false, 5))),
            ("Prefix", "/shop", "/shopping", None),
            ("Exact", "/shop", "/shop", Some((true, 5))),
            ("Exact", "/shop", "/shop/", None),
        ] {
            assert_eq!(rank(&rule(kind, wanted), path), expected, "{kind} {wanted} {path}");
        }
    }
}
