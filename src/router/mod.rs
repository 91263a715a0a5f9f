//! The router: previewd's own way from an environment's URL to its pods, for clusters with neither Ingress nor Gateway.
//!
//! A request for a host below the base domain is taken out before anything of the server sees it, and nothing else is.
//! Where an application can answer it is asked ([`forward`], by way of [`connector`]); elsewhere a [`page`] says how the
//! environment stands. What may be seen of an environment here is what whoever has its URL may see.

mod client;
mod connector;
mod door;
mod forward;
mod headers;
mod host;
mod lookup;
mod page;
mod settings;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

pub use client::BackendClient;
pub use door::Door;
pub(crate) use door::ENTER;
pub use settings::{Reach, RouterSettings};

use self::{
    connector::Connector,
    forward::{Forwarder, Refusal},
    host::Asked,
    lookup::{Found, Lookup},
    page::Page,
};
use crate::{
    cluster::Cluster,
    environment::{BaseDomain, EnvironmentStatus, Namespace, PROBE_HEADER, PROBER, PublicUrl, Reason},
    metrics::METRICS,
    recipe::Backend,
    request::wants_html,
    store::{Environment, Event, EventKind, Interface, Store},
};

/// Who wakes what sleeps by opening it.
const VISITOR: &str = "visitor";

/// Answers the hosts of environments. Cheap to clone.
#[derive(Clone)]
pub struct PreviewRouter {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    base_domain: BaseDomain,
    lookup: Lookup,
    connector: Connector,
    forwarder: Forwarder,
    /// None: whoever has a preview's address may see it.
    door: Option<Door>,
}

/// Why an address of previewd's own cannot be reached beside the router.
#[derive(Debug, thiserror::Error)]
#[error("{0} is below base_domain, where the router answers for previews; give previewd a host outside of it")]
pub struct HostIsAPreviews(pub String);

impl PreviewRouter {
    /// The router for hosts below `base_domain`. `own_hosts` are those under which previewd itself is reached.
    pub fn new(
        store: Store,
        cluster: Cluster,
        base_domain: BaseDomain,
        reach: Reach,
        own_hosts: &[String],
        door: Option<Door>,
    ) -> Result<Self, HostIsAPreviews> {
        if let Some(host) = own_hosts.iter().find(|host| host::is_below(host, &base_domain)) {
            return Err(HostIsAPreviews(host.clone()));
        }
        let connector = Connector::new(cluster, reach);
        let shared = Shared {
            lookup: Lookup::new(store.clone()),
            forwarder: Forwarder::new(connector.clone()),
            store,
            base_domain,
            connector,
            door,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// Takes requests for hosts of environments out of what the server answers.
pub(crate) async fn dispatch(State(router): State<PreviewRouter>, request: Request, next: Next) -> Response {
    match host::asked(request.uri(), request.headers(), &router.shared.base_domain) {
        Asked::Server => next.run(request).await,
        Asked::Nobody => {
            METRICS.preview_requests.count("unknown");
            Page::unknown().answer(wants_html(request.headers()))
        }
        // A future of its own on the heap, because that of a request to the server would be as large.
        Asked::Environment(namespace) => Box::pin(router.shared.answer(&namespace, request)).await,
    }
}

/// Whose answer it is.
enum Answered {
    Application(Response),
    Door(Response),
}

impl Shared {
    async fn answer(&self, namespace: &Namespace, request: Request) -> Response {
        let is_read = wants_html(request.headers());
        let (outcome, response) = match self.pass_on(namespace, request).await {
            Ok(Answered::Application(response)) => ("forwarded", response),
            Ok(Answered::Door(response)) => ("login", response),
            Err((outcome, page)) => (outcome, page.answer(is_read)),
        };
        METRICS.preview_requests.count(outcome);
        response
    }

    /// The application's answer, or what is said instead of it, with the word that it is counted under.
    async fn pass_on(&self, namespace: &Namespace, request: Request) -> Result<Answered, (&'static str, Page)> {
        let found = match self.lookup.find(namespace).await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(("unknown", Page::unknown())),
            Err(error) => return Err(cannot_look(&error)),
        };
        if let Some(door) = &self.door {
            // Before anything of the environment shows.
            match door.answer(namespace, &found, (request.method(), request.uri(), request.headers())).await {
                Ok(None) => {}
                Ok(Some(_)) if self.is_of_a_pass(&found, request.method(), request.headers()).await => {
                    return Ok(Answered::Application(self.status_alone(namespace, &found, request).await));
                }
                Ok(Some(response)) => return Ok(Answered::Door(response)),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the router cannot look up a session");
                    return Err(("failed", Page::cannot_look()));
                }
            }
        }
        self.of_application(namespace, &found, request).await.map(Answered::Application)
    }

    /// Whether the environment's pass asks, in whichever process, whether the URL answers: only it knows its lease.
    async fn is_of_a_pass(&self, found: &Found, method: &Method, headers: &HeaderMap) -> bool {
        let Some(token) = headers.get(PROBE_HEADER).and_then(|token| token.to_str().ok()) else { return false };
        method.is_safe()
            && self.store.is_held_with(&found.environment.id, token).await.unwrap_or_else(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "the router cannot look up a lease");
                false
            })
    }

    /// What is answered, without a word of it.
    async fn status_alone(&self, namespace: &Namespace, found: &Found, request: Request) -> Response {
        let answered = self.of_application(namespace, found, request).await;
        answered.unwrap_or_else(|(_, page)| page.answer(false)).status().into_response()
    }

    async fn of_application(
        &self,
        namespace: &Namespace,
        found: &Found,
        mut request: Request,
    ) -> Result<Response, (&'static str, Page)> {
        let is_probe = is_probe(request.headers());
        request.headers_mut().remove(PROBE_HEADER);
        let environment = &found.environment;
        if !request.uri().path().starts_with('/') {
            return Err(("page", Page::not_passed_on()));
        }
        if is_asleep(environment) {
            return Err(self.wake(environment, is_visit(request.method(), request.headers())).await);
        }
        if !may_serve(environment) {
            return Err(("page", Page::of(environment)));
        }
        let to = match self.destination(found, request.uri().path()).await {
            Ok(Some(to)) => to,
            Ok(None) => return Err(("page", Page::of(environment))),
            Err(error) => return Err(cannot_look(&error)),
        };
        let url = PublicUrl::of(namespace, &self.base_domain);
        let scheme = if url.as_str().starts_with("https://") { "https" } else { "http" };
        let host =
            host::named(request.uri(), request.headers()).map_or_else(|| url.host().to_owned(), |it| it.to_string());
        match self.forwarder.forward(request, &to, &found.places, &host, scheme).await {
            Ok(response) => {
                // A page that looks again by itself is nobody's use.
                if !is_probe {
                    self.lookup.note_use(found);
                }
                Ok(response)
            }
            Err(Refusal::Busy) => Err(("busy", Page::busy())),
            Err(Refusal::TooSlow) => Err(("too_slow", Page::too_slow())),
            Err(Refusal::BrokenOff) => Err(("unreachable", Page::broken_off())),
            // It may just have changed, and what it says now says why.
            Err(Refusal::Unreachable) => match self.lookup.find_now(namespace).await {
                Ok(Some(found)) => Err(("unreachable", Page::of(&found.environment))),
                Ok(None) => Err(("unknown", Page::unknown())),
                Err(error) => Err(cannot_look(&error)),
            },
        }
    }

    /// What the path leads to: as the commit has it that serves, unless nothing is ready there and the one that is on its
    /// way has it otherwise.
    async fn destination(&self, found: &Found, path: &str) -> Result<Option<Uri>, crate::store::StoreError> {
        let environment = &found.environment;
        let commit = environment.serving_commit.as_ref().or(environment.applied_commit.as_ref());
        let commit = commit.map_or("none", |commit| commit.short());
        let uri = |backend: &Backend| connector::uri_of(&environment.namespace, backend, commit);
        let mut ways = self.lookup.backends(found, path).await?.iter().filter_map(uri).collect::<Vec<_>>().into_iter();
        let Some(first) = ways.next() else { return Ok(None) };
        let Some(other) = ways.next() else { return Ok(Some(first)) };
        Ok(Some(if self.connector.is_ready(&first).await { first } else { other }))
    }

    /// Has what sleeps wake, where somebody opens it in a browser.
    async fn wake(&self, environment: &Environment, is_visit: bool) -> (&'static str, Page) {
        if !is_visit {
            return ("page", Page::of(environment));
        }
        let detail = environment.serving_commit.as_ref().map(ToString::to_string);
        let event = Event {
            kind: EventKind::RetryRequested,
            actor: VISITOR.to_owned(),
            origin: Some(Interface::Visit.into()),
            detail,
        };
        match self.store.request_waking(&environment.id, event.into()).await {
            Ok(true) => {
                tracing::info!(environment = %environment.namespace, actor = VISITOR, "woken by a visit");
                ("woken", Page::waking())
            }
            // Somebody else was faster, or it is not asleep any more.
            Ok(false) => ("page", Page::waking()),
            Err(error) => cannot_look(&error),
        }
    }
}

fn cannot_look(error: &crate::store::StoreError) -> (&'static str, Page) {
    tracing::warn!(error = error as &dyn std::error::Error, "the router cannot look up a preview");
    ("failed", Page::cannot_look())
}

fn is_asleep(environment: &Environment) -> bool {
    environment.status == EnvironmentStatus::Running && environment.reason == Some(Reason::Asleep)
}

/// Whether something of the environment may answer. Whether it does, only its pods can tell; what is on its way, or is
/// put back, is asked as well, because it is said to serve only once its URL answers, where that is asked for.
fn may_serve(environment: &Environment) -> bool {
    match environment.status {
        EnvironmentStatus::Running | EnvironmentStatus::Deploying => true,
        EnvironmentStatus::Pending | EnvironmentStatus::Failed => {
            let is_put_back =
                environment.good_commit.is_some() && environment.good_commit == environment.applied_commit;
            environment.serving_commit.is_some() || is_put_back
        }
        EnvironmentStatus::Deleting | EnvironmentStatus::Deleted => false,
    }
}

/// Whether somebody opens a page: what fetches images, previews of links, feeds or whole sites wakes nothing.
fn is_visit(method: &Method, headers: &HeaderMap) -> bool {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let is_ahead = ["purpose", "sec-purpose", "x-moz"].iter().any(|name| text(name).contains("prefetch"));
    let agent = text("user-agent");
    let is_robot = agent == PROBER || ["bot", "crawl", "spider"].iter().any(|word| agent.contains(word));
    method == Method::GET && wants_html(headers) && !is_ahead && !is_robot
}

/// Whether it says that it is nobody's use. Whoever says so without reason lets the environment sleep.
fn is_probe(headers: &HeaderMap) -> bool {
    headers.get(header::USER_AGENT).is_some_and(|agent| agent == PROBER)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_somebody_who_opens_a_page_is_a_visit() {
        let visit = |method: Method, of: &[(&'static str, &'static str)]| {
            let pairs = of.iter();
            let headers =
                pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
            is_visit(&method, &headers)
        };
        let html = ("accept", "text/html,*/*;q=0.8");
        let browser = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0");
        assert!(visit(Method::GET, &[html, browser]));
        assert!(visit(Method::GET, &[html]));
        for (method, headers) in [
            (Method::HEAD, vec![html, browser]),
            (Method::POST, vec![html, browser]),
            (Method::GET, vec![browser]),
            (Method::GET, vec![("accept", "image/avif,image/webp,*/*;q=0.8"), browser]),
            (Method::GET, vec![html, ("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")]),
            (Method::GET, vec![html, ("user-agent", PROBER)]),
            (Method::GET, vec![html, browser, ("sec-purpose", "prefetch;prerender")]),
        ] {
            assert!(!visit(method.clone(), &headers), "{method} {headers:?}");
        }
    }
}
