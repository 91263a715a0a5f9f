//! A container's log as it is written.

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    api::{ListParams, LogParams, Resource, ResourceExt},
    core::Request as Build,
};

use super::{
    Cluster, ClusterError, LogLine, Owner,
    client::open,
    error::Call,
    log_text::{self, LineSplitter},
    logs::{SEARCHED_LINES, is_kubelets_apology},
};
use crate::environment::Namespace;

/// How much longer ago that is: the node counts from when it is asked, which is later by as much as a call may take, in
/// whole seconds.
const EARLIER: Duration = Duration::from_secs(super::CALL_TIMEOUT.as_secs() + 2);

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogSource {
    pub pod: String,
    pub container: String,
    /// How often it was started again: each run has a log of its own.
    pub restarts: i32,
}

/// From where a log is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// What came since, and some before it.
    FromMoment(Instant),
    /// All that there is.
    FromBeginning,
    /// What came after, some before it again.
    Since(Timestamp),
}

/// How a log ended that was followed, other than with a whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEnd {
    /// In the middle of a line, which is this far: the container ended there, or its node went away.
    InLine(LogLine),
    /// The connection went away, or the container was removed.
    BrokenOff,
}

impl Cluster {
    /// The present runs of an environment's containers, in the order of their names, each with whether it goes on.
    pub async fn log_sources(
        &self,
        namespace: &Namespace,
        owner: &Owner,
    ) -> Result<Vec<(LogSource, bool)>, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let path = Build::new(Pod::url_path(&(), Some(namespace.as_str())));
        let pods: Vec<Pod> = self.list(namespace, path.list(&selected), "Pods").await?;
        let mut found: Vec<(LogSource, bool)> = pods.iter().flat_map(runs).collect();
        found.sort();
        found.truncate(super::CONTAINERS_AT_MOST);
        Ok(found)
    }

    /// Follows a container's log, line by line with their times, until it ends. Where that is not with a
    /// whole line, how it ended is the last item.
    pub async fn follow(
        &self,
        namespace: &Namespace,
        source: &LogSource,
        from: Following,
    ) -> Result<impl Stream<Item = Result<LogLine, LogEnd>> + Send + use<>, ClusterError> {
        let mut parameters = LogParams {
            container: Some(source.container.clone()),
            follow: true,
            timestamps: true,
            ..LogParams::default()
        };
        match from {
            // By the node's clock, whatever ours says.
            Following::FromMoment(moment) => {
                parameters.since_seconds = Some((moment.elapsed() + EARLIER).as_secs().cast_signed());
                // Without it a node goes through all.
                parameters.tail_lines = Some(SEARCHED_LINES.into());
            }
            Following::FromBeginning => {}
            // The API server takes whole seconds, and kube rounds them up too.
            Following::Since(at) => parameters.since_time = Timestamp::from_second(at.as_second() - 1).ok(),
        }
        let call = Call::new("follow the log of", "Pod", &source.pod).in_namespace(namespace);
        let request = Build::new(Pod::url_path(&(), Some(namespace.as_str()))).logs(&source.pod, &parameters);
        let request = request.map_err(|error| call.unexpected(&error))?;
        let opened = tokio::time::timeout(super::CALL_TIMEOUT, async { open(&self.client().await?, request).await });
        let opened = opened.await.unwrap_or(Err(super::error::Failure::TimedOut));
        let body = opened.map_err(|failure| failure.into_error(&call))?.into_body();
        let lines = stream::unfold(Some((body, LineSplitter::default())), |reading| async move {
            let (mut body, mut splitter) = reading?;
            let mut lines = Vec::new();
            let goes_on = match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        splitter.push(&data, |line| lines.extend(log_text::lines(line, true).into_iter().map(Ok)));
                    }
                    Some((body, splitter))
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a log that is followed broke off");
                    lines.push(Err(LogEnd::BrokenOff));
                    None
                }
                None => {
                    let begun = splitter.finish().unwrap_or_default();
                    if is_kubelets_apology(&begun) {
                        lines.push(Err(LogEnd::BrokenOff));
                    } else {
                        lines.extend(log_text::lines(&begun, true).into_iter().map(LogEnd::InLine).map(Err));
                    }
                    None
                }
            };
            Some((stream::iter(lines), goes_on))
        });
        Ok(lines.flatten())
    }
}

fn runs(pod: &Pod) -> Vec<(LogSource, bool)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .filter_map(|container| {
            let state = container.state.as_ref()?;
            let source =
                LogSource { pod: pod.name_any(), container: container.name.clone(), restarts: container.restart_count };
            (state.running.is_some() || state.terminated.is_some()).then_some((source, state.running.is_some()))
        })
        .collect()
}
