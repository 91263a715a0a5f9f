//! What changes in the environments' namespaces, as it happens.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{Namespace as ApiNamespace, Pod},
};
use kube::{
    Api, Resource,
    api::PartialObjectMeta,
    runtime::watcher::{self, Event, ListSemantic, watcher},
};

use super::{
    Cluster,
    error::{Call, Failure},
};
use crate::environment::{INSTALLATION_LABEL, Namespace};

/// After this the API server ends a watch and it is opened again where it stopped. A connection that died without a
/// word is noticed 5 s later: kube's watcher waits that much longer for an event.
pub(super) const WATCH_SECONDS: u32 = 285;

const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The waits between attempts at a watch that cannot be had. A few processes with five watches each need no jitter.
const RETRY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(LONGEST_WAIT)
    .without_max_times();

/// Whether the watches stand. Clones look at the same ones.
#[derive(Debug, Clone)]
pub struct WatchHealth {
    live: Arc<[(&'static str, AtomicBool); 5]>,
}

impl WatchHealth {
    /// The kinds whose watch does not stand now, or not yet. None of them: every change is seen.
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = self.live.iter().filter(|(_, live)| !live.load(Ordering::Relaxed));
        missing.map(|(kind, _)| *kind).collect()
    }
}

impl Cluster {
    /// The names of namespaces of this installation in which a Namespace, a Pod or what makes pods changed, with those that
    /// are there already at first and after each gap. Names come as often as things change: whoever reads them keeps
    /// only that there is something to look at.
    ///
    /// The stream never ends; it connects again by itself. Nothing happens while it is not read.
    pub fn watch(&self, installation_id: &str) -> (impl Stream<Item = Namespace> + Send + use<>, WatchHealth) {
        let config = watcher::Config {
            timeout: Some(WATCH_SECONDS),
            // A wake is only a reason to look, and looking reads the newest state.
            list_semantic: ListSemantic::Any,
            ..watcher::Config::default().labels(&format!("{INSTALLATION_LABEL}={installation_id}"))
        };
        let kinds = ["Namespace", "Deployment", "Pod", "StatefulSet", "Job"];
        let health = WatchHealth { live: Arc::new(kinds.map(|kind| (kind, AtomicBool::new(false)))) };
        let touched = stream::select_all([
            self.watch_kind::<ApiNamespace>(config.clone(), health.clone(), 0).boxed(),
            self.watch_kind::<Deployment>(config.clone(), health.clone(), 1).boxed(),
            self.watch_kind::<Pod>(config.clone(), health.clone(), 2).boxed(),
            self.watch_kind::<StatefulSet>(config.clone(), health.clone(), 3).boxed(),
            self.watch_kind::<Job>(config, health.clone(), 4).boxed(),
        ]);
        (touched, health)
    }

    fn watch_kind<K>(
        &self,
        config: watcher::Config,
        health: WatchHealth,
        index: usize,
    ) -> impl Stream<Item = Namespace> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + serde::de::DeserializeOwned + 'static,
    {
        let kind_watch =
            KindWatch::<K> { cluster: self.clone(), config, health, index, events: None, waits: RETRY.build() };
        stream::unfold(kind_watch, |mut watch| async move {
            let namespace = watch.next().await;
            Some((namespace, watch))
        })
    }
}

type Events<K> = BoxStream<'static, watcher::Result<Event<PartialObjectMeta<K>>>>;

/// One kind's watch. After each failure it is begun anew with a list, so that what happened in the gap is not lost and
/// the end of the list shows that it stands again.
struct KindWatch<K: Clone + Debug> {
    cluster: Cluster,
    config: watcher::Config,
    health: WatchHealth,
    index: usize,
    events: Option<Events<K>>,
    waits: ExponentialBackoff,
}

impl<K> KindWatch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + serde::de::DeserializeOwned + 'static,
{
    async fn next(&mut self) -> Namespace {
        loop {
            let Some(events) = &mut self.events else {
                self.begin().await;
                continue;
            };
            match events.next().await {
                Some(Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object))) => {
                    // A Namespace is in none.
                    let name = object.metadata.namespace.or(object.metadata.name);
                    if let Some(namespace) = name.and_then(|name| name.parse().ok()) {
                        return namespace;
                    }
                }
                Some(Ok(Event::Init)) => {}
                Some(Ok(Event::InitDone)) => {
                    self.set_live(true);
                    self.waits = RETRY.build();
                }
                Some(Err(error)) => self.lose(failure_of(error)).await,
                // kube's watcher does not end.
                None => self.events = None,
            }
        }
    }

    async fn begin(&mut self) {
        match self.cluster.client().await {
            Ok(client) => {
                let events = watcher(Api::<PartialObjectMeta<K>>::all(client), self.config.clone());
                self.events = Some(events.boxed());
            }
            Err(failure) => self.lose(failure).await,
        }
    }

    async fn lose(&mut self, failure: Failure) {
        self.events = None;
        self.set_live(false);
        let kind = K::plural(&());
        let call = Call::new("watch", &kind, "");
        self.cluster.forget_refused_credentials(&failure).await;
        let wait = self.waits.next().unwrap_or(LONGEST_WAIT);
        tracing::warn!(why = failure.explain(&call), wait_seconds = wait.as_secs_f32(), "cannot {call}; trying again");
        tokio::time::sleep(wait).await;
    }

    fn set_live(&self, live: bool) {
        self.health.live[self.index].1.store(live, Ordering::Relaxed);
    }
}

fn failure_of(error: watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Failure::Status(status),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Failure::Transport(error),
        watcher::Error::NoResourceVersion => {
            Failure::Transport(kube::Error::Service("the API server gave an object without a resource version".into()))
        }
    }
}
