//! What an environment's containers print.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    api::{ListParams, LogParams, Resource, ResourceExt},
    core::Request as Build,
};
use tokio::time::Instant;

use super::{
    Cluster, ClusterError, LogLine, Owner,
    client::{Built, CALL_TIMEOUT, open},
    error::{Call, Failure},
    log_text::{self, LineSplitter},
};
use crate::{environment::Namespace, masking::Mask};

/// What to read. Edges check the figures; here they are taken as they are.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// How many lines of each container, from the end.
    pub tail: u32,
    /// Whether each line comes with its time.
    pub timestamps: bool,
    /// Only containers of this name.
    pub container: Option<String>,
    /// The run before the last restart instead of the present one.
    pub previous: bool,
    /// Only lines that are not older.
    pub since: Option<Duration>,
    /// Only lines with this text, of the last [`SEARCHED_LINES`].
    pub contains: Option<String>,
}

/// So many lines of a container are searched for a text, from the end.
pub const SEARCHED_LINES: u32 = 20_000;

/// What an environment's containers printed, those of the newest pod first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    pub containers: Vec<ContainerLog>,
    /// How many containers were left out, because there are more than [`CONTAINERS_AT_MOST`].
    pub omitted: usize,
    /// The names of all others, where none has the name that was asked for.
    pub others: BTreeSet<String>,
}

/// One container's log, oldest line first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLog {
    pub pod: String,
    pub container: String,
    pub lines: Vec<LogLine>,
    /// How many of the lines that were asked for, the oldest, were left out: all of them are too long together.
    pub left_out: u64,
    /// Why there are no lines, where that has a reason.
    pub no_log: Option<NoLog>,
}

/// Why a container has no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoLog {
    /// It has not started yet. The kubelet's word for what it waits for, such as `ContainerCreating`.
    Waiting { reason: String },
    /// The run before the last restart was asked for, and it was never restarted.
    NeverRestarted,
    /// Its node does not give it now, or the container went while its log was asked for.
    Unavailable,
}

/// So many containers are read in one call.
pub const CONTAINERS_AT_MOST: usize = 20;
/// Logs that are on their way at once.
const READS_AT_ONCE: usize = 4;
/// What is kept of one container's log: its end.
const KEPT_BYTES: usize = 256 * 1024;

impl Cluster {
    /// Reads the end of the containers' logs: one list, then one request per container that has started. Pods that do
    /// not carry both of the owner's labels are not read. Lines are as the mask leaves them, also where a text is looked for:
    /// who asks for a secret piece by piece must not learn which pieces it has.
    pub async fn logs(
        &self,
        namespace: &Namespace,
        owner: &Owner,
        request: &LogRequest,
        mask: &Mask,
    ) -> Result<Logs, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let path = Build::new(Pod::url_path(&(), Some(namespace.as_str())));
        let pods: Vec<Pod> = self.list(namespace, path.list(&selected), "Pods").await?;

        let mut found = sources(&pods, request);
        let others = match &request.container {
            Some(_) if found.is_empty() => {
                let all = sources(&pods, &LogRequest { container: None, ..request.clone() });
                all.into_iter().map(|source| source.container).collect()
            }
            _ => BTreeSet::new(),
        };
        let omitted = found.len().saturating_sub(CONTAINERS_AT_MOST);
        found.truncate(CONTAINERS_AT_MOST);
        // One for all: a node that hangs costs its time once, not once for each container.
        let deadline = Instant::now() + CALL_TIMEOUT;
        let reads =
            stream::iter(found).map(|source| self.container_log(namespace, &path, source, request, mask, deadline));
        let containers: Vec<ContainerLog> = reads.buffered(READS_AT_ONCE).collect().await;
        Ok(Logs { containers, omitted, others })
    }

    async fn container_log(
        &self,
        namespace: &Namespace,
        path: &Build,
        Source { pod, container, no_log }: Source,
        request: &LogRequest,
        mask: &Mask,
        deadline: Instant,
    ) -> ContainerLog {
        let mut log = ContainerLog { pod, container, lines: Vec::new(), left_out: 0, no_log };
        if log.no_log.is_some() {
            return log;
        }
        let parameters = LogParams {
            container: Some(log.container.clone()),
            tail_lines: Some(if request.contains.is_some() { SEARCHED_LINES } else { request.tail }.into()),
            since_seconds: request.since.and_then(|since| i64::try_from(since.as_secs().max(1)).ok()),
            timestamps: request.timestamps,
            previous: request.previous,
            // Without a limit of bytes: the node would cut the newest lines off.
            ..LogParams::default()
        };
        let call = Call::new("read the log of", "Pod", &log.pod).in_namespace(namespace);
        let is_wanted = |wanted| move |line: &[u8]| shows(line, request.timestamps, mask, wanted);
        let filter = request.contains.as_deref().map(is_wanted);
        match self.read_end(path.logs(&log.pod, &parameters), filter, deadline).await {
            Ok((bytes, _)) if is_kubelets_apology(&bytes) => log.no_log = Some(NoLog::Unavailable),
            Ok((bytes, dropped)) => {
                log.lines = log_text::lines(&bytes, request.timestamps);
                let wanted = request.tail as usize;
                log.left_out = dropped.min(wanted.saturating_sub(log.lines.len()) as u64);
                log.lines.drain(..log.lines.len().saturating_sub(wanted));
                for line in &mut log.lines {
                    if let Cow::Owned(hidden) = mask.hide(&line.text) {
                        line.text = hidden;
                    }
                }
            }
            // One container that cannot be read must not hide the others.
            Err(failure) => {
                tracing::debug!(%call, failure = failure.explain(&call), "a container's log cannot be read");
                log.no_log = Some(NoLog::Unavailable);
            }
        }
        log
    }

    /// Reads an answer to its end, of which the last [`KEPT_BYTES`] are kept, and of each line what a splitter keeps; with a
    /// filter, of the lines it lets through. Gives them, and how many lines were dropped.
    async fn read_end(
        &self,
        request: Built,
        filter: Option<impl Fn(&[u8]) -> bool + Send>,
        deadline: Instant,
    ) -> Result<(Vec<u8>, u64), Failure> {
        let request = request.map_err(Failure::Build)?;
        let read = async {
            let client = self.client().await?;
            let mut body = open(&client, request).await?.into_body();
            let mut end = End::default();
            let mut lines = LineSplitter::default();
            let is_wanted = |line: &[u8]| filter.as_ref().is_none_or(|is_wanted| is_wanted(line));
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(Failure::Transport)?.into_data() else { continue };
                lines.push(&data, |line| {
                    if is_wanted(line) {
                        end.push(line);
                        end.push(b"\n");
                    }
                });
            }
            if let Some(line) = lines.finish()
                && is_wanted(&line)
            {
                end.push(&line);
            }
            Ok(end.finish())
        };
        tokio::time::timeout_at(deadline, read).await.unwrap_or(Err(Failure::TimedOut))
    }
}

/// Whether a line, as it is shown, has the text.
fn shows(line: &[u8], with_timestamps: bool, mask: &Mask, wanted: &str) -> bool {
    log_text::lines(line, with_timestamps).iter().any(|line| mask.hide(&line.text).contains(wanted))
}

/// Whether this is what the kubelet sends, as if it were the log, where the container was removed while it was looked up.
pub(super) fn is_kubelets_apology(log: &[u8]) -> bool {
    let apology: &[u8] = b"unable to retrieve container logs for ";
    log.starts_with(apology) && log[apology.len()..].iter().all(|byte| !byte.is_ascii_whitespace())
}

/// The end of a text whose length is not known.
#[derive(Default)]
struct End {
    kept: Vec<u8>,
    received: usize,
    /// Lines of which something was dropped.
    dropped: u64,
}

impl End {
    fn push(&mut self, data: &[u8]) {
        self.received += data.len();
        self.kept.extend_from_slice(data);
        // Not at every push: each moves what is kept.
        if self.kept.len() > 2 * KEPT_BYTES {
            self.drop_first(self.kept.len() - KEPT_BYTES);
        }
    }

    /// What is kept, and how many lines before it were dropped. It begins with a whole line, if it has one.
    fn finish(mut self) -> (Vec<u8>, u64) {
        if self.received > KEPT_BYTES {
            self.drop_first(self.kept.len().saturating_sub(KEPT_BYTES));
            self.drop_first(self.kept.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        }
        (self.kept, self.dropped)
    }

    fn drop_first(&mut self, bytes: usize) {
        self.dropped += self.kept.drain(..bytes).filter(|byte| *byte == b'\n').count() as u64;
    }
}

/// One container whose log is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub pod: String,
    pub container: String,
    pub no_log: Option<NoLog>,
}

/// The containers that the request means: those of the newest pod first, each pod's in the order in which they start.
pub(super) fn sources(pods: &[Pod], request: &LogRequest) -> Vec<Source> {
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), pod.name_any())
    });
    let mut sources = Vec::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let status = pod.status.as_ref();
        let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
        let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let containers = spec.init_containers.iter().flatten().map(|container| (container, init));
        let containers = containers.chain(spec.containers.iter().map(|container| (container, main)));
        for (container, statuses) in containers {
            if request.container.as_ref().is_some_and(|wanted| *wanted != container.name) {
                continue;
            }
            let status = statuses.iter().find(|status| status.name == container.name);
            let no_log = no_log(status, request.previous);
            sources.push(Source { pod: pod.name_any(), container: container.name.clone(), no_log });
        }
    }
    sources
}

fn no_log(status: Option<&ContainerStatus>, previous: bool) -> Option<NoLog> {
    let waiting = |reason: &str| Some(NoLog::Waiting { reason: reason.to_owned() });
    let Some(status) = status else { return waiting("Pending") };
    let ran_before = status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    if previous {
        return (!ran_before).then_some(NoLog::NeverRestarted);
    }
    let state = status.state.as_ref()?;
    let Some(now) = &state.waiting else { return None };
    if ran_before {
        return None;
    }
    let reason = now.reason.as_deref().unwrap_or_default();
    let is_word = !reason.is_empty() && reason.len() <= 60 && reason.bytes().all(|b| b.is_ascii_alphanumeric());
    waiting(if is_word { reason } else { "Waiting" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_sends_instead_of_a_log_is_no_log() {
        assert!(is_kubelets_apology(b"unable to retrieve container logs for containerd://e4438c02628e4b84"));
        assert!(!is_kubelets_apology(b"unable to retrieve container logs for containerd://e4438c02628e4b84\n"));
        assert!(!is_kubelets_apology(b"listening"));
    }

    fn end_of(text: &str, piece: usize) -> (String, u64) {
        let mut end = End::default();
        text.as_bytes().chunks(piece).for_each(|data| end.push(data));
        let (kept, dropped) = end.finish();
        (String::from_utf8(kept).unwrap(), dropped)
    }

    #[test]
    fn a_long_log_keeps_its_newest_lines() {
        let lines: Vec<String> = (0..100_000).map(|number| format!("line {number}\n")).collect();
        let whole = lines.concat();
        for piece in [1_000, 16_384, 700_001, whole.len()] {
            let (kept, dropped) = end_of(&whole, piece);
            assert!(whole.ends_with(&kept));
            assert_eq!(kept.lines().count() as u64 + dropped, 100_000);
            assert!(kept.starts_with("line ") && kept.len() > KEPT_BYTES - 20 && kept.len() <= KEPT_BYTES);
        }
        let one_line = "x".repeat(3 * KEPT_BYTES);
        assert_eq!(end_of(&one_line, 4_096), ("x".repeat(KEPT_BYTES), 0));
        assert_eq!(end_of("short\n", 2), ("short\n".to_owned(), 0));
    }
}
