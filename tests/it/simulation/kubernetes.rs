//! A Kubernetes API without a socket, as far as previewd uses it, under the clock of the runtime. Its controllers are
//! functions of the time: what a Deployment's pods are follows from when it was applied.

mod shapes;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use self::shapes::{answer, conflict, endpoint_slice, meta, not_found, pod_name, refuse, replica_set, terminating};

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

type Network = Arc<dyn Fn(&CallSeen) -> Fate + Send + Sync>;

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

struct Namespace {
    uid: String,
    labels: BTreeMap<String, String>,
    deleted_at: Option<Instant>,
    /// By plural and name.
    objects: BTreeMap<(String, String), Value>,
    deployments: BTreeMap<String, Deployment>,
}

struct Deployment {
    uid: String,
    body: Value,
    generation: u64,
    /// The newest last. An older one is there while its pods serve in the place of the newest.
    revisions: Vec<Revision>,
}

/// A template with its pods.
struct Revision {
    uid: String,
    number: u64,
    template: Value,
    replicas: u64,
    /// When its pods were made.
    since: Instant,
    pods_uid: String,
}

/// What changed, for those who watch: plural, and the object's metadata.
struct Change {
    version: u64,
    plural: &'static str,
    type_: &'static str,
    metadata: Value,
}

#[derive(Default)]
struct State {
    serial: u64,
    /// Of what changed last.
    version: u64,
    namespaces: BTreeMap<String, Namespace>,
    changes: Vec<Change>,
    writes: Vec<Write>,
}

#[derive(Clone)]
pub struct Kubernetes {
    state: Arc<Mutex<State>>,
    network: Network,
    /// Not a watch channel: that one wakes who waits in a random order.
    changed: Arc<Notify>,
    began: Instant,
}

/// From a pod's beginning to its being available.
const READY_AFTER: Duration = Duration::from_secs(4);
/// From the deletion of a namespace to its end.
const NAMESPACE_TAKES: Duration = Duration::from_secs(6);
const CRASHES_EVERY: Duration = Duration::from_secs(12);
/// When the clock of the cluster begins. Unix seconds, those of the database.
const BEGINNING: i64 = 1_800_000_000;

impl Revision {
    fn image(&self) -> &str {
        self.template["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
    }

    fn commit(&self) -> Option<&str> {
        self.template["metadata"]["labels"]["previewd.dev/commit"].as_str()
    }

    fn is_ready(&self, now: Instant) -> bool {
        let never = ["never-ready", "crash", "nopull"].iter().any(|kind| self.image().contains(kind));
        self.replicas > 0 && !never && now >= self.since + READY_AFTER
    }
}

impl Deployment {
    /// The newest revision, and the one that serves in its place.
    fn living(&self, now: Instant) -> Vec<&Revision> {
        let Some(newest) = self.revisions.last() else { return Vec::new() };
        if newest.replicas == 0 || newest.is_ready(now) {
            return vec![newest];
        }
        let older = self.revisions.iter().rev().skip(1).find(|revision| revision.is_ready(now));
        older.into_iter().chain([newest]).collect()
    }
}

impl State {
    fn uid(&mut self) -> String {
        self.serial += 1;
        format!("00000000-0000-4000-8000-{:012}", self.serial)
    }

    /// Takes away what is gone by now.
    fn sweep(&mut self, now: Instant) {
        self.namespaces.retain(|_, found| found.deleted_at.is_none_or(|at| now < at + NAMESPACE_TAKES));
    }
}

impl Kubernetes {
    pub fn new(network: Network) -> Self {
        Self { state: Arc::default(), network, changed: Arc::default(), began: Instant::now() }
    }

    pub fn client(&self, process: usize) -> kube::Client {
        let kubernetes = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let kubernetes = kubernetes.clone();
            async move { kubernetes.call(process, request).await }
        });
        kube::Client::new(service, "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no story goes on after a panic");
        state.sweep(Instant::now());
        state
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
            // Nobody measures here.
            ["apis", "metrics.k8s.io", ..] => return (not_found("path", parts.uri.path()), None),
            ["api", "v1", rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => return (not_found("path", parts.uri.path()), None),
        };
        let query = Query::of(parts.uri.query().unwrap_or_default());
        let metadata_only = parts
            .headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("PartialObjectMetadata"));
        if query.watch {
            return (self.watch(resource.last().copied().unwrap_or_default(), query), None);
        }
        let mut state = self.state();
        let written = |state: &mut State, namespace: &str, what: String, commit: Option<String>| {
            let namespace = namespace.to_owned();
            state.writes.push(Write { process, began, ended: None, namespace, what, commit });
            Some(state.writes.len() - 1)
        };
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        match (&parts.method, resource) {
            (&Method::GET, ["namespaces", "kube-system"]) => {
                let metadata = json!({ "name": "kube-system", "uid": "00000000-0000-4000-9000-000000000000" });
                (answer(&meta(metadata)), None)
            }
            (&Method::GET, [plural]) => (self.list(&state, plural, None, &query), None),
            (&Method::GET, ["namespaces", name]) => match state.namespaces.get(*name) {
                Some(found) => (answer(&self.namespace(name, found)), None),
                None => (not_found("namespaces", name), None),
            },
            (&Method::GET, ["namespaces", namespace, plural]) => {
                (self.list(&state, plural, Some(namespace), &query), None)
            }
            (&Method::POST, ["namespaces"]) => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                if state.namespaces.contains_key(&name) {
                    return (refuse(409, "AlreadyExists", &format!("namespaces \"{name}\" already exists")), None);
                }
                let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
                let uid = state.uid();
                let made =
                    Namespace { uid, labels, deleted_at: None, objects: BTreeMap::new(), deployments: BTreeMap::new() };
                let found = self.namespace(&name, &made);
                self.change(&mut state, "namespaces", "ADDED", &found["metadata"]);
                state.namespaces.insert(name.clone(), made);
                let write = written(&mut state, &name, "create namespace".to_owned(), None);
                (answer(&found), write)
            }
            (&Method::GET, ["namespaces", namespace, "services", name]) => {
                let key = ("services".to_owned(), (*name).to_owned());
                match state.namespaces.get(*namespace).and_then(|found| found.objects.get(&key)) {
                    Some(found) => (answer(found), None),
                    None => (not_found("services", name), None),
                }
            }
            (&Method::GET, ["namespaces", _, "pods", _, "log"]) => {
                (Response::new(Body::from("2026-11-23T18:06:48Z it begins\n")), None)
            }
            // What is only tried is not made.
            (&Method::POST, ["namespaces", _, "pods"]) => {
                (answer(&meta(json!({ "name": "tried", "uid": "tried" }))), None)
            }
            (&Method::DELETE, ["namespaces", name]) => {
                let Some(found) = state.namespaces.get(*name) else { return (not_found("namespaces", name), None) };
                if let Some(uid) = object["preconditions"]["uid"].as_str()
                    && uid != found.uid
                {
                    return (conflict(uid, &found.uid), None);
                }
                let answered = self.begin_deletion(&mut state, name);
                let write = written(&mut state, name, "delete namespace".to_owned(), None);
                (answer(&answered), write)
            }
            (&Method::PATCH, ["namespaces", namespace, plural, name]) => {
                let Some(found) = state.namespaces.get(*namespace) else {
                    return (not_found("namespaces", namespace), None);
                };
                if found.deleted_at.is_some() {
                    return (terminating(namespace, name), None);
                }
                let metadata = self.apply(&mut state, namespace, plural, name, object.clone());
                let commit = object.pointer("/spec/template/metadata/labels/previewd.dev~1commit");
                let commit = commit.and_then(Value::as_str).map(str::to_owned);
                let write = written(&mut state, namespace, format!("apply {plural}/{name}"), commit);
                (answer(&if metadata_only { meta(metadata) } else { object }), write)
            }
            (&Method::DELETE, ["namespaces", namespace, plural, name]) => {
                let uid = object["preconditions"]["uid"].as_str().map(str::to_owned);
                let Some(result) = self.delete(&mut state, namespace, plural, name, uid.as_deref()) else {
                    return (not_found(plural, name), None);
                };
                match result {
                    Ok(()) => {
                        let write = written(&mut state, namespace, format!("delete {plural}/{name}"), None);
                        (answer(&json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })), write)
                    }
                    Err(found) => (conflict(&uid.unwrap_or_default(), &found), None),
                }
            }
            (method, _) => panic!("previewd sent what nothing here answers: {method} {}", parts.uri),
        }
    }

    fn apply(&self, state: &mut State, namespace: &str, plural: &str, name: &str, body: Value) -> Value {
        let now = Instant::now();
        let (uid, revision_uid, pods_uid) = (state.uid(), state.uid(), state.uid());
        let found = state.namespaces.get_mut(namespace).expect("looked for before");
        if plural != "deployments" {
            let known = found.objects.get(&(plural.to_owned(), name.to_owned()));
            let uid = known.and_then(|known| known["metadata"]["uid"].as_str().map(str::to_owned)).unwrap_or(uid);
            let mut body = body;
            body["metadata"]["uid"] = json!(uid);
            let metadata = body["metadata"].clone();
            found.objects.insert((plural.to_owned(), name.to_owned()), body);
            return metadata;
        }
        let template = body["spec"]["template"].clone();
        let replicas = body["spec"]["replicas"].as_u64().unwrap_or(1);
        let deployment = found.deployments.entry(name.to_owned()).or_insert_with(|| Deployment {
            uid,
            body: Value::Null,
            generation: 0,
            revisions: Vec::new(),
        });
        if deployment.body == body {
            return json!({ "name": name, "uid": deployment.uid });
        }
        deployment.body = body;
        deployment.generation += 1;
        // Only what serves, or comes, has pods that are worth keeping.
        let living: Vec<u64> = deployment.living(now).iter().map(|revision| revision.number).collect();
        deployment.revisions.retain(|revision| living.contains(&revision.number));
        let number = deployment.revisions.iter().map(|revision| revision.number).max().unwrap_or(0) + 1;
        match deployment.revisions.iter().position(|revision| revision.template == template) {
            Some(known) => {
                let mut revision = deployment.revisions.remove(known);
                if revision.replicas != replicas {
                    (revision.since, revision.pods_uid, revision.replicas) = (now, pods_uid, replicas);
                }
                revision.number = number;
                deployment.revisions.push(revision);
            }
            None => {
                let uid = revision_uid;
                deployment.revisions.push(Revision { uid, number, template, replicas, since: now, pods_uid });
            }
        }
        let metadata = json!({ "name": name, "uid": deployment.uid });
        self.touch(state, namespace, name);
        metadata
    }

    /// Tells of a Deployment now, and once its pods may have become ready.
    fn touch(&self, state: &mut State, namespace: &str, name: &str) {
        let Some(deployment) = state.namespaces.get(namespace).and_then(|found| found.deployments.get(name)) else {
            return;
        };
        let mut metadata = deployment.body["metadata"].clone();
        metadata["namespace"] = json!(namespace);
        self.change(state, "deployments", "MODIFIED", &metadata);
        let kubernetes = self.clone();
        tokio::spawn(async move {
            sleep(READY_AFTER).await;
            kubernetes.change(&mut kubernetes.state(), "pods", "MODIFIED", &metadata);
        });
    }

    /// None: it is not there. Err: another one is, with this UID.
    fn delete(
        &self,
        state: &mut State,
        namespace: &str,
        plural: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Option<Result<(), String>> {
        let new_uid = state.uid();
        let found = state.namespaces.get_mut(namespace)?;
        match plural {
            "deployments" => found.deployments.remove(name).map(|_| Ok(())),
            "pods" => {
                let (deployment, revision) = found.deployments.iter_mut().find_map(|(deployment, found)| {
                    let revision =
                        found.revisions.iter_mut().find(|revision| pod_name(deployment, revision) == name)?;
                    Some((deployment.clone(), revision))
                })?;
                if uid.is_some_and(|uid| uid != revision.pods_uid) {
                    return Some(Err(revision.pods_uid.clone()));
                }
                (revision.since, revision.pods_uid) = (Instant::now(), new_uid);
                self.touch(state, namespace, &deployment);
                Some(Ok(()))
            }
            _ => found.objects.remove(&(plural.to_owned(), name.to_owned())).map(|_| Ok(())),
        }
    }

    fn begin_deletion(&self, state: &mut State, name: &str) -> Value {
        let found = state.namespaces.get_mut(name).expect("looked for before");
        found.deleted_at.get_or_insert_with(Instant::now);
        let found = self.namespace(name, &state.namespaces[name]);
        self.change(state, "namespaces", "MODIFIED", &found["metadata"]);
        let (kubernetes, metadata) = (self.clone(), found["metadata"].clone());
        tokio::spawn(async move {
            sleep(NAMESPACE_TAKES).await;
            kubernetes.change(&mut kubernetes.state(), "namespaces", "DELETED", &metadata);
        });
        found
    }

    fn change(&self, state: &mut State, plural: &'static str, type_: &'static str, metadata: &Value) {
        state.version += 1;
        let version = state.version;
        let mut metadata = metadata.clone();
        metadata["resourceVersion"] = json!(version.to_string());
        state.changes.push(Change { version, plural, type_, metadata });
        self.changed.notify_waiters();
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
                        let new =
                            state.changes.iter().filter(|change| change.version > seen && change.plural == plural);
                        let lines: Vec<String> = new
                            .filter(|change| query.selects(&change.metadata["labels"]))
                            .map(|change| {
                                let event = json!({ "type": change.type_, "object": meta(change.metadata.clone()) });
                                format!("{event}\n")
                            })
                            .collect();
                        (lines.concat(), state.version)
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

    fn list(&self, state: &State, plural: &str, namespace: Option<&str>, query: &Query) -> Response<Body> {
        let mut items: Vec<Value> = Vec::new();
        if plural == "namespaces" {
            items.extend(state.namespaces.iter().map(|(name, found)| self.namespace(name, found)));
        }
        let within = state.namespaces.iter().filter(|(name, _)| namespace.is_none_or(|wanted| wanted == name.as_str()));
        for (name, found) in within.filter(|(_, found)| found.deleted_at.is_none()) {
            for (deployment_name, deployment) in &found.deployments {
                match plural {
                    "deployments" => items.push(self.deployment(name, deployment_name, deployment)),
                    "replicasets" => items
                        .extend(deployment.revisions.iter().map(|r| replica_set(name, deployment_name, deployment, r))),
                    "pods" => items.extend(
                        deployment
                            .living(Instant::now())
                            .into_iter()
                            .filter(|revision| revision.replicas > 0)
                            .map(|revision| self.pod(name, deployment_name, revision)),
                    ),
                    "endpointslices" => {
                        let ready =
                            deployment.living(Instant::now()).into_iter().filter(|it| it.is_ready(Instant::now()));
                        items.extend(ready.map(|revision| endpoint_slice(name, deployment_name, revision, found)));
                    }
                    _ => {}
                }
            }
        }
        items.retain(|item| query.selects(&item["metadata"]["labels"]));
        let version = state.version.to_string();
        answer(
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    pub fn namespaces(&self) -> Vec<FoundNamespace> {
        let found = |(name, found): (&String, &Namespace)| FoundNamespace {
            name: name.clone(),
            labels: found.labels.clone(),
            terminating: found.deleted_at.is_some(),
        };
        self.state().namespaces.iter().map(found).collect()
    }

    /// The commit of the pods that answer.
    pub fn serving(&self, namespace: &str) -> Option<String> {
        let state = self.state();
        let now = Instant::now();
        let deployment = state.namespaces.get(namespace)?.deployments.values().next()?;
        let ready = deployment.living(now).into_iter().find(|revision| revision.is_ready(now))?;
        ready.commit().map(str::to_owned)
    }

    pub fn remove_namespace_by_hand(&self, name: &str) {
        let mut state = self.state();
        if state.namespaces.contains_key(name) {
            self.begin_deletion(&mut state, name);
        }
    }
}

/// What of a query counts.
#[derive(Debug, Clone)]
struct Query {
    watch: bool,
    labels: Vec<(String, String)>,
    resource_version: u64,
    timeout_seconds: u64,
}

impl Query {
    fn of(text: &str) -> Self {
        let mut query = Self { watch: false, labels: Vec::new(), resource_version: 0, timeout_seconds: 285 };
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "watch" => query.watch = value == "true" || value == "1",
                "labelSelector" => {
                    let labels = value.split(',').filter_map(|label| label.split_once('='));
                    query.labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                }
                "resourceVersion" => query.resource_version = value.parse().unwrap_or(0),
                "timeoutSeconds" => query.timeout_seconds = value.parse().unwrap_or(285),
                _ => {}
            }
        }
        query
    }

    fn selects(&self, labels: &Value) -> bool {
        self.labels.iter().all(|(name, value)| labels[name] == value.as_str())
    }
}
