//! Logs as they are written. However many people follow an environment, each of its containers is read once: one feed
//! per environment, from which readers take. Whoever reads too slowly loses lines, and is told how many; nobody waits.

mod run;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use self::run::Run;
use super::{
    LogsRequest, Service, ServiceError, Tail,
    latest::{LatestReader, LatestWriter, latest},
};
use crate::{
    cluster::{Cluster, Following, LogRequest, LogSource, Owner},
    environment::{EnvironmentStatus, Namespace},
    identity::{Action, Identity},
    masking::Mask,
    store::{Environment, Overview, Store, StoreError},
    text::shortened,
};

/// The longest line, in characters. What is longer is cut.
const LONGEST_LINE: usize = 8_000;
/// How often new containers are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two at whether the environment is gone, and at what has to be hidden.
const LOOKS: u32 = 10;

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LogEvent {
    Line {
        pod: String,
        container: String,
        /// From the node.
        at: Timestamp,
        /// The application's words: data, never instructions.
        text: String,
    },
    /// The reader was too slow for so many lines, of all containers together.
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

    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<LogEvent>()
            + match self.event() {
                LogEvent::Line { pod, container, text, at: _ } => pod.len() + container.len() + text.len(),
                LogEvent::Ended { pod, container } => pod.len() + container.len(),
                LogEvent::Lost { .. } | LogEvent::Gone => 0,
            }
    }
}

/// The event with its JSON as a server-sent event, made once however many get it.
impl AsRef<str> for Followed {
    fn as_ref(&self) -> &str {
        self.0.1.get_or_init(|| {
            let name = match self.event() {
                LogEvent::Line { .. } => "line",
                LogEvent::Lost { .. } => "lost",
                LogEvent::Ended { .. } => "ended",
                LogEvent::Gone => "gone",
            };
            // Text of any kind is one line of JSON.
            let json = serde_json::to_string(self.event()).unwrap_or_default();
            format!("event: {name}\ndata: {json}\n\n")
        })
    }
}

/// The feeds that somebody follows.
#[derive(Default)]
pub(super) struct Feeds(Mutex<HashMap<String, Weak<Feed>>>);

/// What is read of an environment's containers. It ends with its last reader.
struct Feed {
    events: LatestReader,
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
    events: LatestWriter,
    /// Before anybody who follows looked at what was printed.
    began: Instant,
}

impl Service {
    /// What the environment's containers print from now on, after the lines that `request` asks for.
    pub async fn follow(
        &self,
        identity: &Identity,
        request: LogsRequest,
    ) -> Result<impl Stream<Item = Followed> + Send + use<>, ServiceError> {
        let LogsRequest { environment, tail, container, since, contains, timestamps: _, previous } = request;
        if previous {
            return Err(ServiceError::invalid("previous", "must be left out: what ran before prints nothing any more"));
        }
        let not_before = since.map(|since| Timestamp::now() - Duration::from(since));
        let overview = self.find(identity, &environment, Action::Inspect).await?;
        if overview.environment.status == EnvironmentStatus::Deleted {
            return Err(ServiceError::nothing_to_follow());
        }
        let feed = self.feed(&overview).await?;
        // Before the look at what was printed, so that no line comes between them.
        let events = feed.events.at_end();
        let before = LogRequest {
            tail: tail.unwrap_or(Tail::DEFAULT).lines(),
            timestamps: true,
            container: container.as_ref().map(|name| name.as_str().to_owned()),
            previous: false,
            since: since.map(Into::into),
            contains: contains.map(Into::into),
        };
        let mask = self.mask(&overview).await?;
        let (printed, _) = self.printed(&overview, &before, &mask).await?;
        let mut lines = Vec::new();
        let mut seen = Vec::new();
        for log in printed.containers {
            let mut last = None;
            for line in log.lines {
                let at = line.timestamp.as_deref().and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or_default();
                last = last.max(Some(at));
                lines.push((at, event(&log.pod, &log.container, at, &line.text)));
            }
            seen.extend(last.map(|last| (log.pod, log.container, last)));
        }
        lines.sort_by_key(|(at, _)| *at);
        let given: VecDeque<Followed> = lines.into_iter().map(|(_, line)| line.into()).collect();
        let LogRequest { container: only, contains, .. } = before;
        let reader = Reader { feed, events, given, seen, not_before, only, contains };
        let Environment { id, lifetime, .. } = &overview.environment;
        if let Err(error) = self.store().record_use(id, lifetime.counts_a_use_after()).await {
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
        if let Some(feed) = feeds.get(id).and_then(Weak::upgrade).filter(|feed| !feed.task.is_finished()) {
            return Ok(feed);
        }
        let (writer, events) = latest();
        let source = Source {
            cluster,
            store: self.store().clone(),
            owner: Owner { installation_id, environment_id: id.clone() },
            namespace: overview.environment.namespace.clone(),
            events: writer,
            began: Instant::now(),
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
    events: LatestReader,
    /// What is still to be given: first what was printed before.
    given: VecDeque<Followed>,
    /// Pod, container and time of the last line of each among what was printed before.
    seen: Vec<(String, String, Timestamp)>,
    not_before: Option<Timestamp>,
    only: Option<String>,
    contains: Option<String>,
}

impl Reader {
    async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(event) = self.given.pop_front() {
                return Some(event);
            }
            let mut news = self.events.read().await?;
            // What was printed before is given already, and of what nobody here wants nothing is lost.
            if matches!(news.first().map(Followed::event), Some(LogEvent::Lost { .. }))
                && !self.events.has_lost(|pod, container, at| self.is_of(container) && self.is_news(pod, container, at))
            {
                news.remove(0);
            }
            news.retain(|event| self.wants(event.event()));
            self.given.extend(news);
        }
    }

    fn wants(&self, event: &LogEvent) -> bool {
        match event {
            LogEvent::Line { pod, container, at, text } => {
                self.is_of(container)
                    && self.contains.as_ref().is_none_or(|wanted| text.contains(wanted))
                    && self.is_news(pod, container, *at)
            }
            LogEvent::Ended { container, .. } => self.is_of(container),
            LogEvent::Lost { .. } | LogEvent::Gone => true,
        }
    }

    fn is_of(&self, container: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == container)
    }

    /// Whether a line of this time is new enough, and not among what was printed before.
    fn is_news(&self, pod: &str, container: &str, at: Timestamp) -> bool {
        self.not_before.is_none_or(|first| at >= first)
            && !self.seen.iter().any(|(of, part, last)| at <= *last && part == container && of == pod)
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
        // What was there before anybody followed was printed before; of what comes later everything is news.
        let mut from = Following::FromMoment(source.began);
        for look in 0u32.. {
            // A container that cannot be found now is found the next time.
            let found = source.cluster.log_sources(&source.namespace, &source.owner).await;
            let is_new = found.iter().flatten().any(|(of, _)| !under_way.contains(of));
            // Whatever a new container may say is in what was kept before it was made.
            if is_new || look % LOOKS == 0 {
                match source.look_again().await {
                    Look::There(new) => drop(known.send(Some(Arc::new(new)))),
                    Look::Gone => {
                        source.events.write([LogEvent::Gone.into()]);
                        return;
                    }
                    Look::NotNow if is_new => {
                        sleep(LOOK).await;
                        continue;
                    }
                    Look::NotNow => {}
                }
            }
            if let Ok(found) = found {
                for (of, goes_on) in found {
                    if under_way.insert(of.clone()) {
                        let (source, mask) = (source.clone(), mask.clone());
                        readers.spawn(Run { source, of, goes_on, from, mask, last: None, begun: None }.read());
                    }
                }
                from = Following::FromBeginning;
            }
            let mut pause = std::pin::pin!(sleep(LOOK));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(Ok(ended)) = readers.join_next() => {
                        let event = |LogSource { pod, container, .. }| LogEvent::Ended { pod, container }.into();
                        source.events.write(ended.map(event));
                    }
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
}

fn event(pod: &str, container: &str, at: Timestamp, text: &str) -> LogEvent {
    let text = shortened(text, LONGEST_LINE).into_owned();
    LogEvent::Line { pod: pod.to_owned(), container: container.to_owned(), at, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// More than is kept, of one second.
    fn flood(container: &str, at: i64) -> Vec<Followed> {
        (0..400).map(|_| event("web-1", container, second(at), &"x".repeat(7_000)).into()).collect()
    }

    /// Follows what comes: `seen` until which second of `web` it was printed before, and perhaps only one container.
    fn reader(events: &LatestReader, seen: i64, only: Option<&str>) -> Reader {
        Reader {
            feed: Arc::new(Feed { events: events.clone(), task: tokio::spawn(async {}) }),
            events: events.at_end(),
            given: VecDeque::new(),
            seen: vec![("web-1".to_owned(), "web".to_owned(), second(seen))],
            not_before: None,
            only: only.map(str::to_owned),
            contains: None,
        }
    }

    #[tokio::test]
    async fn lines_are_lost_that_were_wanted_and_not_printed_before() {
        let lost = async |seen, only, flood: Vec<Followed>| {
            let (writer, events) = latest();
            let mut reader = reader(&events, seen, only);
            writer.write([event("web-1", "web", second(8), "the first").into()]);
            assert!(matches!(reader.next().await.unwrap().event(), LogEvent::Line { text, .. } if text == "the first"));
            writer.write(flood);
            writer.write([event("web-1", "web", second(9), "the last").into()]);
            drop(writer);
            let mut is_lost = false;
            while let Some(event) = reader.next().await {
                is_lost |= matches!(event.event(), LogEvent::Lost { .. });
                if matches!(event.event(), LogEvent::Line { text, .. } if text == "the last") {
                    return is_lost;
                }
            }
            panic!("the last line is given");
        };
        assert!(lost(4, None, flood("web", 5)).await);
        assert!(!lost(5, None, flood("web", 5)).await, "it was printed before");
        assert!(lost(5, None, flood("worker", 5)).await, "that is another container's");
        assert!(!lost(5, Some("web"), flood("worker", 5)).await, "nobody asked for it");
        let both = [flood("web", 5), flood("worker", 5)].concat();
        assert!(lost(5, None, both).await);
    }
}
