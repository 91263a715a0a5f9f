//! `/metrics`: what this process counts, and what the database says of all.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    environment::EnvironmentStatus,
    metrics::METRICS,
    store::{Gauges, Store},
};

/// Prometheus gives up after 10 s.
const TIMEOUT: Duration = Duration::from_secs(3);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whoever asks more often is told the same of the database: anybody may ask.
const FRESH: Duration = Duration::from_secs(2);

pub(super) struct Metered {
    store: Store,
    /// What the database said last; None where it said nothing.
    last: Mutex<Option<(Instant, Arc<Option<Gauges>>)>>,
}

impl Metered {
    pub fn new(store: Store) -> Self {
        Self { store, last: Mutex::default() }
    }

    async fn gauges(&self) -> Arc<Option<Gauges>> {
        // Held while it is asked: whoever asks meanwhile takes the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, gauges)) = &*last
            && at.elapsed() < FRESH
        {
            return gauges.clone();
        }
        let gauges = match tokio::time::timeout(TIMEOUT, self.store.gauges()).await {
            Ok(Ok(gauges)) => Some(gauges),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the database says nothing for the metrics");
                None
            }
            Err(_) => None,
        };
        let gauges = Arc::new(gauges);
        *last = Some((Instant::now(), gauges.clone()));
        gauges
    }
}

/// Answers also where the database is away: with what this process counts, and `previewd_database_up 0`.
pub(super) async fn metrics(State(metered): State<Arc<Metered>>) -> Response {
    match written(metered.gauges().await.as_ref().as_ref()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn written(gauges: Option<&Gauges>) -> Result<String, fmt::Error> {
    let mut text = String::new();
    METRICS.write(&mut text)?;
    encode_registry(&mut text, &registry(gauges))?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// Every replica shows the same of these, as far as they looked at the same time.
fn registry(gauges: Option<&Gauges>) -> Registry {
    let mut registry = Registry::with_prefix("previewd");
    let one = |registry: &mut Registry, name: &str, help: &str, value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    one(&mut registry, "database_up", "Whether the database answers", i64::from(gauges.is_some()));
    let Some(gauges) = gauges else { return registry };
    let Gauges { statuses, queued, overdue, cpu_millicores, memory_bytes, chores, engines, github } = gauges;

    let status = |status: EnvironmentStatus| {
        let found = statuses.iter().find(|(code, _)| code == status.code());
        ([("status", status.code())], found.map_or(0, |(_, count)| *count))
    };
    let there =
        EnvironmentStatus::ALL.iter().copied().filter(|status| *status != EnvironmentStatus::Deleted).map(status);
    many(&mut registry, "environments", "Environments that there are, by status", None, there);
    one(&mut registry, "queued_environments", "Environments that wait for a place", *queued);
    one(&mut registry, "overdue_environments", "Environments whose next pass is owed", overdue.environments);
    let since = Gauge::<i64>::default();
    since.set(overdue.seconds);
    registry.register_with_unit("overdue", "Since when the longest of them is owed its pass", Unit::Seconds, since);
    let cores = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    cores.set(*cpu_millicores as f64 / 1_000.0);
    registry.register("used_cpu_cores", "What all environments use, as last sampled", cores);
    let memory = Gauge::<i64>::default();
    memory.set(*memory_bytes);
    registry.register_with_unit("used_memory", "What all environments use, as last sampled", Unit::Bytes, memory);
    one(&mut registry, "engines", "Processes that work on environments and are alive", *engines);
    let ages = chores.iter().map(|(name, age)| ([("chore", name.clone())], *age));
    many(
        &mut registry,
        "chore_age",
        "Since when what one process does for all was last done",
        Some(Unit::Seconds),
        ages,
    );
    let writes = github.iter().flat_map(|budget| {
        let installation = || ("installation", budget.app_installation_id.to_string());
        let window = |window: &str| ("window", window.to_owned());
        [
            ([installation(), window("minute")], budget.writes_this_minute),
            ([installation(), window("hour")], budget.writes_this_hour),
        ]
    });
    many(&mut registry, "github_writes", "Writes to GitHub in the current window, by installation", None, writes);
    let silent = github.iter().map(|budget| {
        ([("installation", budget.app_installation_id.to_string())], i64::from(budget.blocked_until.is_some()))
    });
    many(&mut registry, "github_silent", "Whether GitHub asked for silence, by installation", None, silent);
    registry
}

fn many<Labels>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: impl IntoIterator<Item = (Labels, i64)>,
) where
    Labels: EncodeLabelSet + Clone + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family),
        None => registry.register(name, help, family),
    }
}
