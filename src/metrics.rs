//! What `/metrics` counts, in Prometheus' text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counters of one kind, told apart by one label whose values are all known.
pub struct Counters<const N: usize> {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: [&'static str; N],
    counts: [AtomicU64; N],
}

pub static DELIVERIES: Counters<5> = Counters::new(
    "previewd_deliveries_total",
    "Webhook deliveries by what became of them.",
    "outcome",
    ["recorded", "ignored", "duplicate", "refused", "failed"],
);

pub static TOOL_CALLS: Counters<2> = Counters::new(
    "previewd_tool_calls_total",
    "Calls of MCP tools by what became of them.",
    "outcome",
    ["answered", "refused"],
);

pub static PASSES: Counters<4> = Counters::new(
    "previewd_passes_total",
    "Passes of the engine by how they ended.",
    "outcome",
    ["done", "lost", "postponed", "failed"],
);

pub static REQUESTS: Counters<5> = Counters::new(
    "previewd_http_requests_total",
    "HTTP requests by the class of their answer.",
    "status",
    ["1xx", "2xx", "3xx", "4xx", "5xx"],
);

pub static PREVIEW_REQUESTS: Counters<9> = Counters::new(
    "previewd_preview_requests_total",
    "Requests for previews, by what the router did with them.",
    "outcome",
    ["forwarded", "page", "woken", "unreachable", "too_slow", "busy", "unknown", "login", "failed"],
);

pub static ALERTS: Counters<3> = Counters::new(
    "previewd_alerts_total",
    "What operators had to be told, by what it was.",
    "condition",
    ["namespace_stuck", "orphans", "repository_not_shown"],
);

impl<const N: usize> Counters<N> {
    const fn new(name: &'static str, help: &'static str, label: &'static str, values: [&'static str; N]) -> Self {
        Self { name, help, label, values, counts: [const { AtomicU64::new(0) }; N] }
    }

    /// Counts one more of `value`.
    pub fn count(&self, value: &str) {
        let position = self.values.iter().position(|known| *known == value);
        debug_assert!(position.is_some(), "{} has no {}={value}", self.name, self.label);
        if let Some(position) = position {
            self.counts[position].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&self, text: &mut String) {
        let Self { name, help, label, values, counts } = self;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (value, count) in values.iter().zip(counts) {
            let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {}", count.load(Ordering::Relaxed));
        }
    }
}

/// All counters, as Prometheus reads them.
pub fn render() -> String {
    let mut text = String::new();
    DELIVERIES.write(&mut text);
    TOOL_CALLS.write(&mut text);
    PASSES.write(&mut text);
    REQUESTS.write(&mut text);
    PREVIEW_REQUESTS.write(&mut text);
    ALERTS.write(&mut text);
    text
}
