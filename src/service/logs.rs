//! Logs, cut to what an answer may hold.

use std::{borrow::Cow, collections::BTreeSet};

use jiff::Timestamp;

use super::answers::{ContainerLogs, EnvironmentLogs};
use crate::{
    cluster::{ContainerLog, LogLine, LogRequest, Logs, NoLog, SHOWN_OF_LINE},
    masking::Mask,
    store::KeptLog,
    text::shortened,
};

/// The containers' lines, and how many of the oldest were left out so that all of them make at most `budget` bytes of
/// JSON. The longest log gives its lines first: a chatty neighbour does not push out the one that matters.
pub(super) fn fit(containers: Vec<ContainerLog>, budget: usize) -> (Vec<ContainerLogs>, u64) {
    let mut left_out = containers.iter().map(|log| log.left_out).sum();
    let mut logs: Vec<MeasuredLog> = containers.into_iter().map(MeasuredLog::from).collect();
    let mut total: usize = logs.iter().map(|log| log.bytes).sum();
    while total > budget {
        let Some(longest) = logs.iter_mut().filter(|log| log.first < log.lines.len()).max_by_key(|log| log.bytes)
        else {
            break;
        };
        let given = json_bytes(&longest.lines[longest.first]);
        longest.first += 1;
        longest.bytes -= given;
        total -= given;
        left_out += 1;
    }
    (logs.into_iter().map(MeasuredLog::into_answer).collect(), left_out)
}

/// What was kept of a deployment, as far as the request wants it.
pub(super) fn of_kept(kept: Vec<KeptLog>, request: &LogRequest, mask: &Mask) -> Logs {
    let not_before = request.since.map(|since| Timestamp::now() - since);
    let is_wanted = |(at, text): &(&str, Cow<'_, str>)| {
        let is_new = not_before.is_none_or(|first| at.parse::<Timestamp>().is_ok_and(|at| at >= first));
        is_new && request.contains.as_ref().is_none_or(|wanted| text.contains(wanted))
    };
    let containers = kept
        .into_iter()
        .filter(|log| request.container.as_ref().is_none_or(|name| *name == log.container))
        .map(|KeptLog { pod, container, body }| {
            let lines: Vec<_> = body.lines().filter_map(|line| parts(line, mask)).filter(is_wanted).collect();
            let first = lines.len().saturating_sub(request.tail as usize);
            let line = |(at, text): &(&str, Cow<'_, str>)| LogLine {
                timestamp: request.timestamps.then(|| (*at).to_owned()),
                text: text.clone().into_owned(),
            };
            ContainerLog { pod, container, lines: lines[first..].iter().map(line).collect(), left_out: 0, no_log: None }
        })
        .collect();
    Logs { containers, omitted: 0, others: BTreeSet::new() }
}

/// Its time and its text. What was no secret when it was kept may be one now.
fn parts<'line>(line: &'line str, mask: &Mask) -> Option<(&'line str, Cow<'line, str>)> {
    line.split_once(' ').map(|(at, text)| (at, mask.hide(text)))
}

/// The lines of all containers in the order of their time, each with its container before it. Without times they stay
/// container by container.
pub fn merged(logs: &EnvironmentLogs) -> Vec<(&ContainerLogs, &str)> {
    let mut lines: Vec<_> =
        logs.containers.iter().flat_map(|log| log.lines.iter().map(move |line| (log, line.as_str()))).collect();
    let at = |line: &str| line.split(' ').next().and_then(|word| word.parse::<Timestamp>().ok());
    lines.sort_by_key(|(_, line)| at(line));
    lines
}

/// One container's lines, from `first` on, with the JSON that they make.
struct MeasuredLog {
    pod: String,
    container: String,
    lines: Vec<String>,
    no_log: Option<String>,
    first: usize,
    bytes: usize,
}

impl From<ContainerLog> for MeasuredLog {
    fn from(log: ContainerLog) -> Self {
        let lines: Vec<String> = log.lines.into_iter().map(line).collect();
        let no_log = log.no_log.map(|why| match why {
            NoLog::Waiting { reason } => format!("it has not started: {reason}"),
            NoLog::NeverRestarted => "it was never restarted".to_owned(),
            NoLog::Unavailable => "its node does not give it now".to_owned(),
        });
        let bytes = lines.iter().map(|line| json_bytes(line)).sum();
        Self { pod: log.pod, container: log.container, lines, no_log, first: 0, bytes }
    }
}

impl MeasuredLog {
    fn into_answer(mut self) -> ContainerLogs {
        self.lines.drain(..self.first);
        let Self { pod, container, lines, no_log, first: _, bytes: _ } = self;
        ContainerLogs { pod, container, lines, no_log }
    }
}

fn line(LogLine { timestamp, text }: LogLine) -> String {
    let text = shortened(&text, SHOWN_OF_LINE);
    match timestamp {
        Some(timestamp) => format!("{timestamp} {text}"),
        None => text.into_owned(),
    }
}

/// The line as JSON, with the comma after it.
fn json_bytes(line: &str) -> usize {
    serde_json::to_string(line).map_or(0, |json| json.len()) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(container: &str, lines: impl IntoIterator<Item = String>) -> ContainerLog {
        let lines = lines.into_iter().map(|text| LogLine { timestamp: None, text }).collect();
        ContainerLog { pod: "web-1".to_owned(), container: container.to_owned(), lines, left_out: 0, no_log: None }
    }

    #[test]
    fn what_fits_stays_whole() {
        let (containers, left_out) = fit(vec![log("web", ["a".to_owned(), "b".to_owned()])], 100);
        assert_eq!((containers[0].lines.len(), left_out), (2, 0));
    }

    #[test]
    fn the_oldest_lines_of_the_longest_log_go_first() {
        let chatty = (0..1000).map(|number| format!("line {number}"));
        let (containers, left_out) = fit(vec![log("chatty", chatty), log("quiet", ["the reason".to_owned()])], 500);
        assert_eq!(containers[1].lines, ["the reason"]);
        assert_eq!(containers[0].lines.last().unwrap(), "line 999");
        assert_eq!(containers[0].lines.len() as u64 + left_out, 1000);
        let bytes: usize = containers.iter().flat_map(|log| &log.lines).map(|line| json_bytes(line)).sum();
        assert!((400..=500).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_was_kept_is_read_like_what_runs() {
        let body = "2026-11-26T05:00:00.1Z one\n2026-11-26T05:00:00.25Z two\n2026-11-26T05:00:01Z two and a half";
        let kept = || vec![KeptLog { pod: "web-1".to_owned(), container: "web".to_owned(), body: body.to_owned() }];
        let request = |tail, contains: Option<&str>, container: Option<&str>| LogRequest {
            tail,
            timestamps: false,
            container: container.map(str::to_owned),
            previous: false,
            since: None,
            contains: contains.map(str::to_owned),
        };
        let texts = |request: &LogRequest| -> Vec<String> {
            let logs = of_kept(kept(), request, &Mask::default());
            logs.containers.into_iter().flat_map(|log| log.lines).map(|line| line.text).collect()
        };
        assert_eq!(texts(&request(2, None, None)), ["two", "two and a half"]);
        assert_eq!(texts(&request(9, Some("one"), None)), ["one"]);
        assert!(texts(&request(9, None, Some("db"))).is_empty());
        let since = LogRequest { since: Some(std::time::Duration::from_secs(60)), ..request(9, None, None) };
        assert!(texts(&since).is_empty());
    }

    #[test]
    fn lines_of_several_containers_are_merged_by_time() {
        let container = |name: &str, lines: &[&str]| ContainerLogs {
            pod: "web-1".to_owned(),
            container: name.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            no_log: None,
        };
        let logs = EnvironmentLogs {
            environment: "acme/shop#7".to_owned(),
            namespace: "pr-7".to_owned(),
            status: crate::environment::EnvironmentStatus::Running,
            note: None,
            containers: vec![
                container("web", &["2026-11-26T05:00:00.1Z a", "2026-11-26T05:00:00.12Z c"]),
                container("db", &["2026-11-26T05:00:00.11Z b", "2026-11-26T05:00:01Z d"]),
            ],
            kept_of: None,
            lines_left_out: 0,
            containers_left_out: 0,
        };
        let order: Vec<_> = merged(&logs).iter().map(|(_, line)| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn one_endless_line_is_cut() {
        let (containers, left_out) = fit(vec![log("web", ["ä".repeat(10_000)])], 48_000);
        assert_eq!(containers[0].lines[0], format!("{}…", "ä".repeat(SHOWN_OF_LINE)));
        assert_eq!(left_out, 0);
    }
}
