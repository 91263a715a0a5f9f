//! What this process counts, for `/metrics`. What all processes know together is read from the database when it is asked
//! for: `http/metrics.rs`.

use std::{fmt, sync::LazyLock, time::Duration};

use prometheus_client::{
    encoding::text::encode_registry,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// A label and its value.
type Label = [(&'static str, &'static str); 1];
/// A tool and what became of its call.
type Call = [(&'static str, &'static str); 2];

/// From a hundredth of a second to a minute.
const SHORT: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// From a second to an hour.
const LONG: [f64; 12] = [1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 3_600.0];

/// Counters of one kind, told apart by one label. Those whose values are known beforehand are shown from the start, so
/// that a first one is an increase.
pub struct Counters {
    label: &'static str,
    values: &'static [&'static str],
    family: Family<Label, Counter>,
}

/// Durations of one kind, told apart by one label.
pub struct Durations {
    label: &'static str,
    family: Family<Label, Histogram, fn() -> Histogram>,
}

/// Everything that this process counts.
pub struct Metrics {
    registry: Registry,
    /// Webhook deliveries, by what became of them.
    pub deliveries: Counters,
    /// Passes of the engine, by how they ended.
    pub passes: Counters,
    pub pass_duration: Durations,
    /// What a step of a pass takes, by the step.
    pub steps: Durations,
    /// Deployments that ended, by how.
    pub deployments: Counters,
    /// What those that succeeded took, by stage.
    pub stages: Durations,
    /// Sweeps of repair, by how they ended.
    pub sweeps: Counters,
    /// HTTP requests, by the class of their answer.
    pub requests: Counters,
    /// Requests for previews, by what the router did with them.
    pub preview_requests: Counters,
    /// What operators had to be told, by what it was.
    pub alerts: Counters,
    calls: Family<Call, Counter>,
    call_bytes: Family<Label, Counter>,
    call_duration: Durations,
}

/// This process's.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Counters {
    fn new(
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &'static [&'static str],
    ) -> Self {
        let family = Family::<Label, Counter>::default();
        for value in values {
            drop(family.get_or_create(&[(label, *value)]));
        }
        registry.register(name, help, family.clone());
        Self { label, values, family }
    }

    /// Counts one more of `value`.
    pub fn count(&self, value: &'static str) {
        debug_assert!(self.values.contains(&value), "there is no {}={value}", self.label);
        self.family.get_or_create(&[(self.label, value)]).inc();
    }
}

impl Durations {
    fn new(
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        histogram: fn() -> Histogram,
    ) -> Self {
        let family = Family::new_with_constructor(histogram);
        registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        Self { label, family }
    }

    /// One of `value` took so long.
    pub fn observe(&self, value: &'static str, took: Duration) {
        self.family.get_or_create(&[(self.label, value)]).observe(took.as_secs_f64());
    }
}

impl Metrics {
    fn new() -> Self {
        let short: fn() -> Histogram = || Histogram::new(SHORT);
        let long: fn() -> Histogram = || Histogram::new(LONG);
        let mut registry = Registry::with_prefix("previewd");
        let r = &mut registry;
        let calls = Family::<Call, Counter>::default();
        r.register("tool_calls", "Calls of MCP tools, by the tool and what became of them", calls.clone());
        let call_bytes = Family::<Label, Counter>::default();
        r.register("tool_answer_bytes", "What MCP tools answered, in bytes of JSON, by the tool", call_bytes.clone());
        Self {
            deliveries: Counters::new(
                r,
                "deliveries",
                "Webhook deliveries, by what became of them",
                "outcome",
                &["recorded", "ignored", "duplicate", "refused", "failed"],
            ),
            passes: Counters::new(
                r,
                "passes",
                "Passes of the engine, by how they ended",
                "outcome",
                &["done", "lost", "postponed", "failed"],
            ),
            pass_duration: Durations::new(r, "pass_duration", "What a pass took, by how it ended", "outcome", short),
            steps: Durations::new(r, "step_duration", "What a step of a pass took, by the step", "step", short),
            deployments: Counters::new(
                r,
                "deployments",
                "Deployments that ended, by how",
                "outcome",
                &["succeeded", "failed"],
            ),
            stages: Durations::new(
                r,
                "deployment_duration",
                "What deployments that succeeded took, by stage: waiting until they began, deploying until they ran",
                "stage",
                long,
            ),
            sweeps: Counters::new(
                r,
                "sweeps",
                "Sweeps of repair, by how they ended",
                "outcome",
                &["done", "unfinished"],
            ),
            requests: Counters::new(
                r,
                "http_requests",
                "HTTP requests, by the class of their answer",
                "status",
                &["1xx", "2xx", "3xx", "4xx", "5xx"],
            ),
            preview_requests: Counters::new(
                r,
                "preview_requests",
                "Requests for previews, by what the router did with them",
                "outcome",
                &["forwarded", "page", "woken", "unreachable", "too_slow", "busy", "unknown", "login", "failed"],
            ),
            alerts: Counters::new(
                r,
                "alerts",
                "What operators had to be told, by what it was",
                "condition",
                &["namespace_stuck", "orphans", "repository_not_shown"],
            ),
            call_duration: Durations::new(
                r,
                "tool_call_duration",
                "What calls of MCP tools took, by the tool",
                "tool",
                short,
            ),
            calls,
            call_bytes,
            registry,
        }
    }

    /// A call of a tool ended: `outcome` is `answered`, `refused`, `failed` or `too_slow`, `bytes` what it answered, as JSON.
    pub fn called(&self, tool: &'static str, outcome: &'static str, bytes: usize, took: Duration) {
        self.calls.get_or_create(&[("tool", tool), ("outcome", outcome)]).inc();
        self.call_bytes.get_or_create(&[("tool", tool)]).inc_by(bytes as u64);
        self.call_duration.observe(tool, took);
    }

    /// Adds all to `text`, in the OpenMetrics format: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    pub fn write(&self, text: &mut String) -> fmt::Result {
        encode_registry(text, &self.registry)
    }
}
