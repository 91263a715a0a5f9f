//! A Kubernetes API without a socket, as far as previewd uses it, under the clock of the runtime. Behind it are controllers
//! and a kubelet that do what those of a real cluster do (`controllers.rs`).

mod admission;
mod controllers;
mod pod;
mod query;
mod shapes;
mod state;
mod story;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

pub use self::admission::Trouble;
use self::{
    admission::{policy_denies, refuses_change, refuses_mounts, refuses_size, refuses_uid},
    query::Query,
    shapes::{answer, conflict, meta, not_found, refuse, terminating},
    state::{Claim, Namespace, State},
    workload::{Kind, Workload},
};

/// What a request is for, as far as the network has to know.
#[derive(Debug, Clone)]
pub struct CallSeen {
    pub process: usize,
    pub is_write: bool,
    /// Method and path.
    pub what: String,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answer,
    /// 503 before anything was done.
    RefuseUnseen,
    /// It is done, and the connection breaks.
    LoseAnswer,
    /// It is done, and nobody is there any more to hear of it.
    NeverReturns,
    /// It was never sent.
    NeverArrives,
}

#[derive(Debug, Clone, Copy)]
pub struct Fate {
    /// On the way there.
    pub before: Duration,
    /// On the way back.
    pub after: Duration,
    pub outcome: Outcome,
}

/// Says what becomes of each call.
pub type Network = Arc<dyn Fn(&CallSeen) -> Fate + Send + Sync>;

/// A write that took effect.
#[derive(Debug, Clone)]
pub struct Write {
    pub process: usize,
    pub began: Instant,
    /// None: whoever sent it did not hear of its end.
    pub ended: Option<Instant>,
    pub namespace: String,
    /// Such as `apply deployments/app`.
    pub what: String,
    /// Of the pods that it makes.
    pub commit: Option<String>,
}

/// A namespace as it stands.
#[derive(Debug, Clone)]
pub struct FoundNamespace {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub terminating: bool,
}

/// When the images of commits are in their registries. Those that nobody speaks of are there.
#[derive(Clone)]
pub struct Images {
    began: Instant,
    /// By commit, which is the tag.
    pushed: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Images {
    pub fn new() -> Self {
        Self { began: Instant::now(), pushed: Arc::default() }
    }

    /// The build of `commit` pushes its images then.
    pub fn push(&self, commit: &str, at: Instant) {
        self.pushed.lock().expect("no story goes on after a panic").insert(commit.to_owned(), at);
    }

    /// When an image is there; None: never.
    pub fn there_at(&self, image: &str) -> Option<Instant> {
        let name = image.split('@').next().unwrap_or(image);
        let (name, tag) = name.rsplit_once(':').unwrap_or((name, ""));
        let pushed = self.pushed.lock().expect("no story goes on after a panic");
        (!name.ends_with("/nopull")).then(|| pushed.get(tag).copied().unwrap_or(self.began))
    }
}

#[derive(Clone)]
pub struct Kubernetes {
    state: Arc<Mutex<State>>,
    network: Network,
    images: Images,
    /// Not a watch channel: that one wakes who waits in a random order.
    changed: Arc<Notify>,
    began: Instant,
}

/// When the clock of the cluster begins. Unix seconds, those of the database.
const BEGINNING: i64 = 1_800_000_000;

impl Kubernetes {
    pub fn new(network: Network, images: Images) -> Self {
        let kubernetes =
            Self { state: Arc::default(), network, images, changed: Arc::default(), began: Instant::now() };
        tokio::spawn(kubernetes.clone().go_on());
        kubernetes
    }

    /// Has happen what happens by itself, at the moment in which it does.
    async fn go_on(self) {
        loop {
            let changed = self.changed.notified();
            let next = self.state().next;
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(next.unwrap_or_else(|| Instant::now() + Duration::from_secs(600))) => {}
            }
        }
    }

    pub fn client(&self, process: usize) -> kube::Client {
        let kubernetes = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let kubernetes = kubernetes.clone();
            async move { kubernetes.call(process, request).await }
        });
        kube::Client::new(service, "default")
    }

    /// As it is now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no story goes on after a panic");
        if state.next.is_some_and(|at| at <= Instant::now()) {
            self.advance(&mut state);
        }
        state
    }

    /// Has controllers do what follows from what was done.
    fn advance(&self, state: &mut State) {
        state.advance(&self.images, Instant::now());
        let news = (state.changes.len(), state.next);
        if std::mem::replace(&mut state.told, news) != news {
            self.changed.notify_waiters();
        }
    }

    async fn call(&self, process: usize, request: Request<kube::client::Body>) -> std::io::Result<Response<Body>> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let is_write = parts.method != Method::GET;
        let what = format!("{} {}", parts.method, parts.uri.path());
        let fate = (self.network)(&CallSeen { process, is_write, what });
        sleep(fate.before).await;
        match fate.outcome {
            Outcome::NeverArrives => return std::future::pending().await,
            Outcome::RefuseUnseen => return Ok(refuse(503, "ServiceUnavailable", "the API server is starting")),
            Outcome::Answer | Outcome::LoseAnswer | Outcome::NeverReturns => {}
        }
        let (answer, write) = self.carry_out(&parts, &body, process, began);
        sleep(fate.after).await;
        match fate.outcome {
            Outcome::NeverReturns => return std::future::pending().await,
            Outcome::LoseAnswer => return Err(std::io::Error::other("the connection was reset")),
            Outcome::Answer | Outcome::RefuseUnseen | Outcome::NeverArrives => {}
        }
        if let Some(write) = write {
            self.state().writes[write].ended = Some(Instant::now());
        }
        Ok(answer)
    }

    /// Does what a request asks for; gives the answer and, of a write, its place in the log.
    fn carry_out(
        &self,
        parts: &http::request::Parts,
        body: &Bytes,
        process: usize,
        began: Instant,
    ) -> (Response<Body>, Option<usize>) {
        let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let resource = match path.as_slice() {
            ["readyz"] => return (Response::new(Body::from("ok")), None),
            ["version"] => return (answer(&json!({ "gitVersion": "v1.34.0" })), None),
            // Nobody measures here.
            ["apis", "metrics.k8s.io", ..] => return (not_found("path", parts.uri.path()), None),
            ["api", "v1", rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => return (not_found("path", parts.uri.path()), None),
        };
        let query = Query::of(parts.uri.query().unwrap_or_default());
        if query.watch {
            return (self.watch(resource.last().copied().unwrap_or_default(), query), None);
        }
        let mut state = self.state();
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        let (answer, what, namespace) = match (&parts.method, resource) {
            (&Method::GET, _) => return (self.read(&state, resource, &query, parts), None),
            (&Method::POST, ["namespaces"]) => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                (self.create_namespace(&mut state, &name, &object), "create namespace".to_owned(), name)
            }
            // What is only tried is not made.
            (&Method::POST, ["namespaces", _, plural]) => {
                let tried = policy_denies(&object, if *plural == "pods" { "/spec" } else { "/spec/template/spec" })
                    .or_else(|| refuses_mounts(&object))
                    .or_else(|| Some(state.trouble()?.answer(plural, "tried")));
                return (tried.unwrap_or_else(|| answer(&meta(json!({ "name": "tried", "uid": "tried" })))), None);
            }
            (&Method::DELETE, ["namespaces", name]) => {
                let uid = object["preconditions"]["uid"].as_str();
                let deleted = self.delete_namespace(&mut state, name, uid);
                (deleted, "delete namespace".to_owned(), (*name).to_owned())
            }
            (&Method::PATCH, ["namespaces", _, plural, name]) if query.dry_run => {
                let trouble = state.trouble().map(|trouble| trouble.answer(plural, name));
                return (trouble.unwrap_or_else(|| answer(&meta(json!({ "name": name, "uid": "tried" })))), None);
            }
            (&Method::PATCH, ["namespaces", namespace, plural, name]) => {
                let applied = self.apply(&mut state, namespace, plural, name, object.clone());
                (applied, format!("apply {plural}/{name}"), (*namespace).to_owned())
            }
            (&Method::DELETE, ["namespaces", namespace, plural, name]) => {
                let uid = object["preconditions"]["uid"].as_str();
                let deleted = self.delete(&mut state, namespace, plural, name, uid);
                (deleted, format!("delete {plural}/{name}"), (*namespace).to_owned())
            }
            (method, _) => panic!("previewd sent what nothing here answers: {method} {}", parts.uri),
        };
        if !answer.status().is_success() {
            return (answer, None);
        }
        self.advance(&mut state);
        let commit = object.pointer("/spec/template/metadata/labels/previewd.dev~1commit");
        let commit = commit.and_then(Value::as_str).map(str::to_owned);
        state.writes.push(Write { process, began, ended: None, namespace, what, commit });
        (answer, Some(state.writes.len() - 1))
    }

    fn read(&self, state: &State, resource: &[&str], query: &Query, parts: &http::request::Parts) -> Response<Body> {
        match resource {
            ["namespaces", "kube-system"] => {
                answer(&meta(json!({ "name": "kube-system", "uid": "00000000-0000-4000-9000-000000000000" })))
            }
            [plural] => self.list_all(state, plural, query),
            ["namespaces", name] => match state.namespaces.get(*name) {
                Some(found) => answer(&self.namespace(name, found)),
                None => not_found("namespaces", name),
            },
            ["namespaces", namespace, plural] => self.list(state, plural, namespace, query),
            ["namespaces", _, "pods", _, "log"] => Response::new(Body::from("2026-11-23T18:06:48Z it begins\n")),
            ["namespaces", namespace, plural, name] => {
                let found = state.namespaces.get(*namespace).and_then(|found| found.object(plural, name));
                found.map_or_else(|| not_found(plural, name), |found| answer(&found))
            }
            _ => panic!("previewd asked what nothing here answers: {}", parts.uri),
        }
    }

    fn create_namespace(&self, state: &mut State, name: &str, object: &Value) -> Response<Body> {
        if state.namespaces.contains_key(name) {
            return refuse(409, "AlreadyExists", &format!("namespaces \"{name}\" already exists"));
        }
        let made = Namespace {
            uid: state.uid(),
            labels: serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default(),
            deleted_at: None,
            holds_for: Duration::ZERO,
            objects: BTreeMap::new(),
            workloads: BTreeMap::new(),
            claims: BTreeMap::new(),
            pods: BTreeMap::new(),
        };
        let answered = answer(&self.namespace(name, &made));
        state.change("namespaces", "ADDED", made.metadata_of_itself(name));
        state.namespaces.insert(name.to_owned(), made);
        answered
    }

    fn delete_namespace(&self, state: &mut State, name: &str, uid: Option<&str>) -> Response<Body> {
        let Some(found) = state.namespaces.get_mut(name) else { return not_found("namespaces", name) };
        if let Some(uid) = uid.filter(|uid| *uid != found.uid) {
            return conflict(uid, &found.uid);
        }
        found.deleted_at.get_or_insert_with(Instant::now);
        let metadata = found.metadata_of_itself(name);
        state.change("namespaces", "MODIFIED", metadata);
        answer(&self.namespace(name, &state.namespaces[name]))
    }

    fn apply(&self, state: &mut State, namespace: &str, plural: &str, name: &str, body: Value) -> Response<Body> {
        let (trouble, uid, revision_uid) = (state.trouble(), state.uid(), state.uid());
        let Some(found) = state.namespaces.get_mut(namespace) else { return not_found("namespaces", namespace) };
        if found.deleted_at.is_some() {
            return terminating(namespace, name);
        }
        if let Some(refused) = trouble.map(|it| it.answer(plural, name)).or_else(|| refuses_uid(plural, name, &body)) {
            return refused;
        }
        if plural == "persistentvolumeclaims" {
            if let Some(refused) = found.claims.get(name).and_then(|known| refuses_size(name, &known.body, &body)) {
                return refused;
            }
            let claim = found.claims.entry(name.to_owned()).or_insert_with(|| Claim {
                uid,
                body,
                goes: false,
                data: BTreeSet::new(),
            });
            let mut metadata = json!({ "name": name, "uid": claim.uid });
            if claim.goes {
                metadata["deletionTimestamp"] = json!(self.time(Instant::now()));
            }
            return answer(&meta(metadata));
        }
        let Some(kind) = Kind::of_plural(plural) else {
            found.objects.insert((plural.to_owned(), name.to_owned()), body);
            return answer(&meta(json!({ "name": name, "uid": uid })));
        };
        if let Some(refused) = policy_denies(&body, "/spec/template/spec") {
            return refused;
        }
        let key = (kind, name.to_owned());
        if let Some(refused) = found.workloads.get(&key).and_then(|known| refuses_change(plural, name, known, &body)) {
            return refused;
        }
        let workload = found.workloads.entry(key).or_insert_with(|| Workload::new(uid));
        let metadata = json!({ "name": name, "uid": workload.uid });
        if workload.apply(body, revision_uid) {
            let changed = found.metadata(namespace, name);
            state.change(kind.plural(), "MODIFIED", changed);
        }
        answer(&meta(metadata))
    }

    fn delete(
        &self,
        state: &mut State,
        namespace: &str,
        plural: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Response<Body> {
        let now = Instant::now();
        let Some(found) = state.namespaces.get_mut(namespace) else { return not_found(plural, name) };
        let is_there = match (plural, Kind::of_plural(plural)) {
            (_, Some(kind)) => found.remove_workload(kind, name, now).is_some(),
            ("pods", _) => {
                if let (Some(uid), Some(pod)) = (uid, found.pods.get(name))
                    && uid != pod.uid
                {
                    return conflict(uid, &pod.uid);
                }
                found.end_pod(name, now);
                found.pods.contains_key(name)
            }
            ("persistentvolumeclaims", _) => found.claims.get_mut(name).map(|claim| claim.goes = true).is_some(),
            _ => found.objects.remove(&(plural.to_owned(), name.to_owned())).is_some(),
        };
        if !is_there {
            return not_found(plural, name);
        }
        if let Some(kind) = Kind::of_plural(plural) {
            let gone = found.metadata(namespace, name);
            state.change(kind.plural(), "DELETED", gone);
        }
        answer(&json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
    }

    fn watch(&self, plural: &str, query: Query) -> Response<Body> {
        let (kubernetes, plural) = (self.clone(), plural.to_owned());
        let ends_at = Instant::now() + Duration::from_secs(query.timeout_seconds);
        let from = query.resource_version;
        let stream = futures::stream::unfold(from, move |seen| {
            let (kubernetes, plural, query) = (kubernetes.clone(), plural.clone(), query.clone());
            async move {
                loop {
                    let changed = kubernetes.changed.notified();
                    let (lines, version) = {
                        let state = kubernetes.state();
                        let new = state.changes[seen.min(state.changes.len())..].iter();
                        let new = new.filter(|change| change.plural == plural);
                        let lines: Vec<String> = new
                            .filter(|change| query.selects(&change.metadata["labels"]))
                            .map(|change| {
                                let event = json!({ "type": change.type_, "object": meta(change.metadata.clone()) });
                                format!("{event}\n")
                            })
                            .collect();
                        (lines.concat(), state.changes.len())
                    };
                    if !lines.is_empty() {
                        return Some((Ok::<_, std::io::Error>(Bytes::from(lines)), version));
                    }
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = sleep_until(ends_at) => return None,
                    }
                }
            }
        });
        Response::new(Body::from_stream(stream.boxed()))
    }

    /// Of all namespaces, as those who watch and those who count want it: metadata alone.
    fn list_all(&self, state: &State, plural: &str, query: &Query) -> Response<Body> {
        let kind = Kind::of_plural(plural);
        let mut items = Vec::new();
        for (namespace, found) in &state.namespaces {
            match plural {
                "namespaces" => items.push(self.namespace(namespace, found)),
                "pods" => items.extend(found.pods.keys().map(|name| meta(found.metadata(namespace, name)))),
                _ => {
                    let named = found.workloads.keys().filter(|(known, _)| Some(*known) == kind);
                    items.extend(named.map(|(_, name)| meta(found.metadata(namespace, name))));
                }
            }
        }
        list_of(state, items, query)
    }

    fn list(&self, state: &State, plural: &str, namespace: &str, query: &Query) -> Response<Body> {
        let mut items = Vec::new();
        if let Some(found) = state.namespaces.get(namespace) {
            let workloads = |kind: Option<Kind>| {
                found.workloads.iter().filter(move |((known, _), _)| kind.is_none_or(|kind| kind == *known))
            };
            match plural {
                "pods" => items.extend(found.pods.values().map(|pod| self.pod(namespace, pod, &self.images))),
                "replicasets" => items.extend(
                    workloads(Some(Kind::Deployment))
                        .flat_map(|((_, name), workload)| self.replica_sets(namespace, name, workload)),
                ),
                "events" => items.extend(
                    workloads(None)
                        .filter_map(|((kind, name), workload)| self.event(namespace, (*kind, name), workload)),
                ),
                "endpointslices" => {
                    items.extend(query.service().and_then(|service| self.endpoint_slice(namespace, service, found)));
                }
                "persistentvolumeclaims" => {
                    items.extend(found.claims.iter().map(|(name, claim)| claim.object(name)));
                }
                "secrets" => {
                    let secrets = found.objects.iter().filter(|((plural, _), _)| plural == "secrets");
                    items.extend(secrets.map(|(_, body)| body.clone()));
                }
                _ => items.extend(
                    workloads(Kind::of_plural(plural))
                        .map(|((kind, name), _)| self.workload(namespace, (*kind, name), found, &self.images)),
                ),
            }
        }
        list_of(state, items, query)
    }
}

fn list_of(state: &State, mut items: Vec<Value>, query: &Query) -> Response<Body> {
    if query.service().is_none() {
        items.retain(|item| item["kind"] == "Event" || query.selects(&item["metadata"]["labels"]));
    }
    let version = state.changes.len().to_string();
    answer(&json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }))
}
