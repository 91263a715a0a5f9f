//! The latest of what a feed said, from which each reader takes at its own pace.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};

use super::follow::{Followed, LogEvent};

/// What is kept for the slowest reader, in bytes.
const KEPT_BYTES: usize = 2 << 20;
/// What a reader takes at once, in bytes, and at least one event: what it has still to give is kept for it alone.
const TAKEN_BYTES: usize = 64 << 10;

/// How long a reader that has read everything waits once something came: what a container prints in one go is sent in
/// one piece.
const GATHERED: Duration = Duration::from_millis(5);

/// Begins with nothing. The reader's clones read from where it is.
pub(super) fn latest() -> (LatestWriter, LatestReader) {
    let kept = Arc::<Mutex<Kept>>::default();
    let (told, tells) = watch::channel(());
    (LatestWriter { kept: kept.clone(), told }, LatestReader { kept, next: 0, lost_from: 0, tells })
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Followed>,
    bytes: usize,
    /// How many came before the first that is kept.
    dropped: u64,
    /// Of each container, the last line among them.
    last_dropped: Vec<DroppedLine>,
}

/// Where a line came from, and its place among all events.
struct DroppedLine {
    pod: String,
    container: String,
    at: Timestamp,
    /// From 0.
    number: u64,
}

impl Kept {
    fn drop_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        let number = self.dropped;
        self.bytes -= oldest.bytes();
        self.dropped += 1;
        let LogEvent::Line { pod, container, at, .. } = oldest.event() else { return };
        match self.last_dropped.iter_mut().find(|line| line.container == *container && line.pod == *pod) {
            Some(last) => (last.at, last.number) = (*at, number),
            None => {
                let (pod, container) = (pod.clone(), container.clone());
                self.last_dropped.push(DroppedLine { pod, container, at: *at, number });
            }
        }
    }
}

/// With it ends what readers wait for.
pub(super) struct LatestWriter {
    kept: Arc<Mutex<Kept>>,
    told: watch::Sender<()>,
}

impl LatestWriter {
    pub fn write(&self, events: impl IntoIterator<Item = Followed>) {
        let mut kept = lock(&self.kept);
        for event in events {
            kept.bytes += event.bytes();
            kept.events.push_back(event);
        }
        while kept.bytes > KEPT_BYTES {
            kept.drop_oldest();
        }
        drop(kept);
        self.told.send_replace(());
    }
}

#[derive(Clone)]
pub(super) struct LatestReader {
    kept: Arc<Mutex<Kept>>,
    /// The number of the event that it reads next, from 0.
    next: u64,
    /// What it would have read before it lost something, the last time.
    lost_from: u64,
    tells: watch::Receiver<()>,
}

impl LatestReader {
    /// Another, behind everything: it reads what comes from now on.
    pub fn at_end(&self) -> Self {
        let kept = lock(&self.kept);
        let next = kept.dropped + kept.events.len() as u64;
        drop(kept);
        Self { next, ..self.clone() }
    }

    /// Waits for what is new. What was dropped before it was read is one [`LogEvent::Lost`]. None at the end.
    pub async fn read(&mut self) -> Option<Vec<Followed>> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return Some(taken);
            }
            // It says once more that something came before it says that nothing comes any more.
            self.tells.changed().await.ok()?;
            sleep(GATHERED).await;
        }
    }

    /// Whether it lost a line that `is_wanted`, the last time that it lost something: by pod, container and the time of the
    /// last of each.
    pub fn has_lost(&self, is_wanted: impl Fn(&str, &str, Timestamp) -> bool) -> bool {
        let kept = lock(&self.kept);
        let mut lost = kept.last_dropped.iter().filter(|line| line.number >= self.lost_from);
        lost.any(|line| is_wanted(&line.pod, &line.container, line.at))
    }

    fn take(&mut self) -> Vec<Followed> {
        let kept = lock(&self.kept);
        let mut taken = Vec::new();
        let lost = kept.dropped.saturating_sub(self.next);
        if lost > 0 {
            taken.push(LogEvent::Lost { lines: lost }.into());
            self.lost_from = self.next;
            self.next = kept.dropped;
        }
        let mut bytes = 0;
        for event in kept.events.iter().skip((self.next - kept.dropped) as usize) {
            bytes += event.bytes();
            if bytes > TAKEN_BYTES && !taken.is_empty() {
                break;
            }
            taken.push(event.clone());
            self.next += 1;
        }
        taken
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Followed {
        let name = || "web".to_owned();
        LogEvent::Line { pod: name(), container: name(), at: Timestamp::UNIX_EPOCH, text: text.to_owned() }.into()
    }

    fn texts(events: Option<Vec<Followed>>) -> Vec<String> {
        let text = |followed: &Followed| match followed.event() {
            LogEvent::Line { text, .. } => text.chars().take(8).collect(),
            LogEvent::Lost { lines } => format!("{lines} lost"),
            other => format!("{other:?}"),
        };
        events.unwrap_or_default().iter().map(text).collect()
    }

    #[tokio::test]
    async fn each_reader_gets_everything_from_when_it_came() {
        let (writer, first) = latest();
        let mut early = first.at_end();
        writer.write([line("one"), line("two")]);
        let mut late = first.at_end();
        writer.write([line("three")]);
        assert_eq!(texts(early.read().await), ["one", "two", "three"]);
        assert_eq!(texts(late.read().await), ["three"]);
        writer.write([line("four")]);
        drop(writer);
        assert_eq!(texts(early.read().await), ["four"]);
        assert!(early.read().await.is_none());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let (writer, first) = latest();
        let mut reader = first.at_end();
        let reads = tokio::spawn(async move { texts(reader.read().await) });
        tokio::task::yield_now().await;
        writer.write([line("one")]);
        assert_eq!(reads.await.unwrap(), ["one"]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_lost_and_goes_on() {
        let (writer, first) = latest();
        let mut reader = first.at_end();
        let long = "x".repeat(8_000);
        let count = 3 * KEPT_BYTES / long.len();
        for number in 0..count {
            writer.write([line(&format!("{number:<8}{long}"))]);
        }
        assert!(lock(&writer.kept).bytes <= KEPT_BYTES);
        let mut read = Vec::new();
        while read.last().is_none_or(|last: &String| last.trim() != (count - 1).to_string()) {
            let some = texts(reader.read().await);
            assert!(some.len() <= 1 + TAKEN_BYTES / long.len());
            read.extend(some);
        }
        let lost = count - (read.len() - 1);
        assert_eq!(read[0], format!("{lost} lost"));
        assert_eq!(read[1].trim(), lost.to_string(), "then the oldest that is kept");
    }
}
