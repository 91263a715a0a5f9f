//! One run of a container, read to its end for all who follow its environment.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};

use super::{Source, event};
use crate::{
    cluster::{Following, LogEnd, LogLine, LogSource},
    masking::Mask,
};

/// Lines of a container that are told at once, where so many are there.
const AT_ONCE: usize = 256;
/// The wait after a log that could not be read.
const AGAIN: Duration = Duration::from_secs(2);
/// So often what has ended is not read in vain.
const TRIES: u32 = 5;

/// A run, as far as it is read.
pub(super) struct Run {
    pub source: Arc<Source>,
    pub of: LogSource,
    pub goes_on: bool,
    pub from: Following,
    /// What is hidden now. Nothing is told before it is known.
    pub mask: watch::Receiver<Option<Arc<Mask>>>,
    /// The time of the last line.
    pub last: Option<Timestamp>,
    /// The line after it, as far as it was written when the log ended in its middle.
    pub begun: Option<LogLine>,
}

impl Run {
    /// Reads it to its end, and gives it back where that is news: not of a run that had ended before anybody followed, and
    /// of which nothing came.
    pub async fn read(mut self) -> Option<LogSource> {
        let is_followed = self.goes_on || self.from == Following::FromBeginning;
        let mut tries = 0..TRIES;
        loop {
            let before = self.last;
            let is_read = self.read_on().await;
            // A node that goes away ends a log as its end does: what has ended is read until nothing more comes.
            let is_over = !self.goes_on && self.last == before && (is_read || tries.next().is_none());
            if is_over || self.is_gone(is_read).await {
                break;
            }
        }
        if let Some(line) = self.begun.take()
            && at(&line).is_none_or(|at| self.last.is_none_or(|last| at > last))
        {
            self.tell([line]);
        }
        (is_followed || self.last.is_some()).then_some(self.of)
    }

    /// Reads on for as long as one request lasts. Whether it could be read.
    async fn read_on(&mut self) -> bool {
        let from = self.last.map_or(self.from, Following::Since);
        let lines = match self.source.cluster.follow(&self.source.namespace, &self.of, from).await {
            Ok(lines) => lines,
            Err(error) => {
                tracing::debug!(%error, "a container's log cannot be followed");
                return false;
            }
        };
        // Within one connection lines of the two outputs need not come in the order of their times.
        let read_until = self.last;
        let is_new = move |line: &LogLine| at(line).is_none_or(|at| read_until.is_none_or(|until| at > until));
        let mut lines = std::pin::pin!(lines.ready_chunks(AT_ONCE));
        let mut ended = None;
        while let Some(chunk) = lines.next().await {
            let mut news = Vec::with_capacity(chunk.len());
            for line in chunk {
                match line {
                    Ok(line) if is_new(&line) => news.push(line),
                    Ok(_) => {}
                    Err(end) => ended = Some(end),
                }
            }
            self.tell(news);
        }
        match ended {
            Some(LogEnd::BrokenOff) => false,
            // The next time it comes again, from its beginning.
            Some(LogEnd::InLine(line)) => {
                self.begun = Some(line).filter(is_new);
                true
            }
            None => {
                self.begun = None;
                true
            }
        }
    }

    /// Waits until it can be read on, and looks whether it goes on: right before it is read, because the log is that of the
    /// run which is there then. True where it is there no more.
    async fn is_gone(&mut self, is_read: bool) -> bool {
        let mut waited = false;
        loop {
            if let Ok(present) = self.source.cluster.log_sources(&self.source.namespace, &self.source.owner).await {
                match present.into_iter().find(|(run, _)| *run == self.of) {
                    None => return true,
                    // It ended with its container, or with its connection.
                    Some((_, goes_on)) if waited || (is_read && !goes_on) => {
                        self.goes_on = goes_on;
                        return false;
                    }
                    Some(_) => {}
                }
            }
            sleep(AGAIN).await;
            waited = true;
        }
    }

    fn tell(&mut self, lines: impl IntoIterator<Item = LogLine>) {
        let mask = self.mask.borrow().clone();
        let mut events = Vec::new();
        for line in lines {
            let at = at(&line);
            self.last = self.last.max(at);
            if let Some(mask) = &mask {
                let at = at.or(self.last).unwrap_or_else(Timestamp::now);
                events.push(event(&self.of.pod, &self.of.container, at, &mask.hide(&line.text)).into());
            }
        }
        self.source.events.write(events);
    }
}

fn at(line: &LogLine) -> Option<Timestamp> {
    line.timestamp.as_deref().and_then(|at| at.parse().ok())
}
