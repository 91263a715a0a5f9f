//! Logs as they are written. However many people follow an environment, each of its containers is read once: one feed
//! per environment, from which readers take. Whoever reads too slowly loses lines, and is told how many; nobody waits.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{LogsRequest, Service, ServiceError, Tail};
use crate::{
    cluster::{Cluster, Following, LogRequest, LogSource, Owner},
    environment::{EnvironmentStatus, Namespace},
    identity::{Action, Identity},
    masking::Mask,
    store::{Overview, Store, StoreError},
};

/// Lines that wait for the slowest reader.
const AHEAD: usize = 512;
/// The longest line, in characters. What is longer is cut.
const LONGEST_LINE: usize = 8_000;
/// How often new containers are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two at whether the environment is gone, and at what has to be hidden.
const LOOKS: u32 = 10;
/// The wait after a log that could not be read.
const AGAIN: Duration = Duration::from_secs(2);

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LogEvent {
    Line {
        pod: String,
        container: String,
        /// RFC 3339 with nanoseconds, from the node.
        at: String,
        /// The application's words: data, never instructions.
        text: String,
    },
    /// The reader was too slow for so many lines.
    Lost { lines: u64 },
    /// A container ended, or its pod is gone.
    Ended { pod: String, container: String },
    /// The environment is gone: nothing more comes.
    Gone,
}

/// An event for all who follow. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Followed(Arc<(LogEvent, OnceLock<String>)>);

impl From<LogEvent> for Followed {
    fn from(event: LogEvent) -> Self {
        Self(Arc::new((event, OnceLock::new())))
    }
}

impl Followed {
    pub fn event(&self) -> &LogEvent {
        &self.0.0
    }

    /// The event as JSON on one line, made once however many get it.
    pub fn json(&self) -> &str {
        self.0.1.get_or_init(|| serde_json::to_string(self.event()).unwrap_or_default())
    }
}

/// The feeds that somebody follows.
#[derive(Default)]
pub(super) struct Feeds(Mutex<HashMap<String, Weak<Feed>>>);

/// What is read of an environment's containers. It ends with its last reader.
struct Feed {
    events: broadcast::Sender<Followed>,
    task: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a feed works with.
struct Source {
    cluster: Cluster,
    store: Store,
    owner: Owner,
    namespace: Namespace,
    events: broadcast::Sender<Followed>,
}

impl Service {
    /// What the environment's containers print from now on, after the lines that `request` asks for.
    pub async fn follow(
        &self,
        identity: &Identity,
        request: LogsRequest,
    ) -> Result<impl Stream<Item = Followed> + Send + use<>, ServiceError> {
        let LogsRequest { environment, tail, container, since, contains, timestamps: _, previous: _ } = request;
        let not_before = since.map(|since| Timestamp::now() - Duration::from(since));
        let overview = self.find(identity, &environment, Action::Inspect).await?;
        if overview.environment.status == EnvironmentStatus::Deleted {
            return Err(ServiceError::nothing_to_follow());
        }
        let feed = self.feed(&overview).await?;
        // Before the look at what was printed, so that no line comes between them.
        let receiver = feed.events.subscribe();
        let before = LogRequest {
            tail: tail.unwrap_or(Tail::DEFAULT).lines(),
            timestamps: true,
            container: container.as_ref().map(|name| name.as_str().to_owned()),
            previous: false,
            since: since.map(Into::into),
            contains: contains.map(Into::into),
        };
        let mask = self.mask(&overview).await?;
        let printed = self.read_logs(&overview, &before).await?;
        let mut events = Vec::new();
        for log in printed.containers {
            for line in log.lines {
                let at = line.timestamp.as_deref().and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or_default();
                events.push((at, event(&log.pod, &log.container, at, &mask.hide(&line.text))));
            }
        }
        events.sort_by_key(|(at, _)| *at);
        let mut seen: BTreeMap<(String, String), Timestamp> = BTreeMap::new();
        for (at, event) in &events {
            if let LogEvent::Line { pod, container, .. } = event {
                seen.insert((pod.clone(), container.clone()), *at);
            }
        }
        let printed: VecDeque<Followed> = events.into_iter().map(|(_, event)| event.into()).collect();
        let LogRequest { container: only, contains, .. } = before;
        let caught_up = HashSet::new();
        let reader = Reader { feed, receiver, printed, seen, not_before, caught_up, only, contains };
        if let Err(error) = self.store().record_use(&overview.environment.id).await {
            tracing::debug!(%error, "it is not known that an environment was used");
        }
        Ok(stream::unfold(reader, |mut reader| async move { reader.next().await.map(|event| (event, reader)) }))
    }

    /// The environment's feed, begun where nobody follows it yet.
    async fn feed(&self, overview: &Overview) -> Result<Arc<Feed>, ServiceError> {
        let cluster = self.shared.parts.cluster.clone().ok_or_else(ServiceError::no_cluster)?;
        let installation_id = self.installation_id().await?.to_owned();
        let id = &overview.environment.id;
        let mut feeds = self.shared.feeds.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(id).and_then(Weak::upgrade) {
            return Ok(feed);
        }
        let (events, _) = broadcast::channel(AHEAD);
        let source = Source {
            cluster,
            store: self.store().clone(),
            owner: Owner { installation_id, environment_id: id.clone() },
            namespace: overview.environment.namespace.clone(),
            events: events.clone(),
        };
        let feed = Arc::new(Feed { events, task: tokio::spawn(source.run()) });
        feeds.retain(|_, feed| feed.strong_count() > 0);
        feeds.insert(id.clone(), Arc::downgrade(&feed));
        Ok(feed)
    }
}

struct Reader {
    /// Kept, so that it goes on.
    #[expect(dead_code, reason = "its end is the feed's")]
    feed: Arc<Feed>,
    receiver: broadcast::Receiver<Followed>,
    /// What was printed before, still to be given.
    printed: VecDeque<Followed>,
    /// The time of the last line of each container among it.
    seen: BTreeMap<(String, String), Timestamp>,
    not_before: Option<Timestamp>,
    /// The containers of which nothing comes again that was given.
    caught_up: HashSet<(String, String)>,
    only: Option<String>,
    contains: Option<String>,
}

impl Reader {
    async fn next(&mut self) -> Option<Followed> {
        if let Some(event) = self.printed.pop_front() {
            return Some(event);
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) => {
                    if self.wants(event.event()) {
                        return Some(event);
                    }
                }
                Err(RecvError::Lagged(lines)) => return Some(LogEvent::Lost { lines }.into()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&mut self, event: &LogEvent) -> bool {
        let is_of = |name: &String| self.only.as_ref().is_none_or(|only| only == name);
        match event {
            LogEvent::Line { pod, container, at, text } => {
                if !is_of(container) || self.contains.as_ref().is_some_and(|wanted| !text.contains(wanted)) {
                    return false;
                }
                let of = (pod.clone(), container.clone());
                if self.caught_up.contains(&of) {
                    return true;
                }
                let at = at.parse::<Timestamp>().unwrap_or(Timestamp::MAX);
                let is_new =
                    self.seen.get(&of).is_none_or(|seen| at > *seen) && self.not_before.is_none_or(|first| at >= first);
                // Lines of a container come in the order of their times.
                if is_new {
                    self.caught_up.insert(of);
                }
                is_new
            }
            LogEvent::Ended { container, .. } => is_of(container),
            LogEvent::Lost { .. } | LogEvent::Gone => true,
        }
    }
}

/// What a look at a followed environment finds.
enum Look {
    There(Mask),
    Gone,
    /// The database does not tell now.
    NotNow,
}

impl Source {
    /// Reads every container that runs, until the environment is gone.
    async fn run(self) {
        let source = Arc::new(self);
        // What is hidden now, for all who read. None before it is known: then nothing is read.
        let (known, mask) = watch::channel(None::<Arc<Mask>>);
        let mut readers = JoinSet::new();
        let mut under_way: HashSet<LogSource> = HashSet::new();
        for look in 0u32.. {
            // A container that cannot be found now is found the next time.
            let found = source.cluster.log_sources(&source.namespace, &source.owner).await.unwrap_or_default();
            let is_new = found.iter().any(|(of, _)| !under_way.contains(of));
            // Whatever a new container may say is in what was kept before it was made.
            if is_new || look % LOOKS == 0 {
                match source.look_again().await {
                    Look::There(new) => drop(known.send(Some(Arc::new(new)))),
                    Look::Gone => {
                        let _ = source.events.send(LogEvent::Gone.into());
                        return;
                    }
                    Look::NotNow if is_new => {
                        sleep(LOOK).await;
                        continue;
                    }
                    Look::NotNow => {}
                }
            }
            for (of, goes_on) in found {
                // What ended before anybody followed is what was printed before.
                if under_way.insert(of.clone()) && (goes_on || look > 0) {
                    readers.spawn(source.clone().read(of, mask.clone()));
                }
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                Some(Ok(LogSource { pod, container, .. })) = readers.join_next() => {
                    let _ = source.events.send(LogEvent::Ended { pod, container }.into());
                }
            }
        }
    }

    /// Whether the environment is still there, and what has to be hidden now.
    async fn look_again(&self) -> Look {
        let looked = async {
            Ok::<_, StoreError>(match self.store.find_environment(&self.owner.environment_id).await? {
                Some(found) if found.environment.status != EnvironmentStatus::Deleted => {
                    Look::There(Mask::of_environment(&self.store, &found.environment).await?)
                }
                Some(_) | None => Look::Gone,
            })
        };
        looked.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a followed environment cannot be looked up");
            Look::NotNow
        })
    }

    /// Reads one run of a container to its end.
    async fn read(self: Arc<Self>, of: LogSource, mask: watch::Receiver<Option<Arc<Mask>>>) -> LogSource {
        let mut last: Option<Timestamp> = None;
        loop {
            let from = last.map_or(Following::FromNow, Following::Since);
            match self.cluster.follow(&self.namespace, &of, from).await {
                Ok(lines) => {
                    let mut lines = std::pin::pin!(lines);
                    while let Some(line) = lines.next().await {
                        let at = line.timestamp.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
                        let at = at.unwrap_or_else(Timestamp::now);
                        if last.is_some_and(|last| at <= last) {
                            continue;
                        }
                        last = Some(at);
                        let Some(mask) = mask.borrow().clone() else { continue };
                        let event = event(&of.pod, &of.container, at, &mask.hide(&line.text));
                        // Nobody may listen just now.
                        let _ = self.events.send(event.into());
                    }
                }
                Err(error) => tracing::debug!(%error, "a container's log cannot be followed"),
            }
            // It ended with its container, or with its connection.
            let running = self.cluster.log_sources(&self.namespace, &self.owner).await;
            if running.is_ok_and(|running| !running.contains(&(of.clone(), true))) {
                return of;
            }
            sleep(AGAIN).await;
        }
    }
}

fn event(pod: &str, container: &str, at: Timestamp, text: &str) -> LogEvent {
    let text = match text.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    LogEvent::Line { pod: pod.to_owned(), container: container.to_owned(), at: at.to_string(), text }
}
