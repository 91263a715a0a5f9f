//! Logs of previewd itself: text for people, or one JSON object a line. Always on stderr, because stdout belongs to
//! MCP's protocol and to what commands print.
//!
//! The program logs no secret: secrets are `SecretString`, which shows nothing of itself.

use std::{fmt, io, io::IsTerminal};

use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::{LookupSpan, Scope},
    util::SubscriberInitExt,
};

use crate::{
    config::{LogFormat, LogSettings},
    traces::{self, TraceSettings},
};

/// What is said by libraries and would drown what previewd says. A target named in the settings wins over these. The
/// clients of Kubernetes and GitHub, and the proxy, log every error that they also return, and quote answers in it.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,kube_client=warn,kube_client::client=off,kube_runtime=warn,\
    axum_reverse_proxy=off,octocrab=off,rmcp=warn,rustls=warn,tower=warn,tower_http=warn";

/// Starts logging, and tracing where the operator wants it, for the rest of the process's life. Within a runtime. Fails
/// where that was done before, and where traces cannot be sent at all.
pub fn init(settings: &LogSettings, traces: &TraceSettings) -> anyhow::Result<()> {
    subscriber(settings, io::stderr, io::stderr().is_terminal()).with(traces::layer(traces)?).try_init()?;
    Ok(())
}

/// What [`init`] installs, with a writer of the caller's choice.
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    colours: bool,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(format!("{QUIET},{}", settings.filter));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        LogFormat::Text => layer.with_ansi(colours && std::env::var_os("NO_COLOR").is_none()).boxed(),
        LogFormat::Json => layer.with_ansi(false).fmt_fields(JsonFields::new()).event_format(FlatJson).boxed(),
    };
    Registry::default().with(layer.with_filter(filter))
}

/// One flat object an event: `timestamp` (RFC 3339, UTC), `level`, `target`, `message`, and the fields of the event and
/// of all spans around it, so that a line can be found by environment, delivery or request. Of equal names the
/// innermost counts, and the four above always do.
struct FlatJson;

impl<S> FormatEvent<S, JsonFields> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(recorded) = span.extensions().get::<FormattedFields<JsonFields>>() {
                fields.extend(parse(&recorded.fields));
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        fields.extend(parse(&own));

        let line = self.line(event, fields).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

impl FlatJson {
    fn line(&self, event: &Event<'_>, mut fields: Map<String, Value>) -> anyhow::Result<String> {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;

        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", &timestamp)?;
        object.serialize_entry("level", event.metadata().level().as_str())?;
        object.serialize_entry("target", event.metadata().target())?;
        object.serialize_entry("message", &fields.remove("message").unwrap_or_default())?;
        for (name, value) in
            fields.iter().filter(|(name, _)| !["timestamp", "level", "target"].contains(&name.as_str()))
        {
            object.serialize_entry(name, value)?;
        }
        object.end()?;
        Ok(String::from_utf8(line)?)
    }
}

/// Fields as [`JsonFields`] wrote them.
fn parse(fields: &str) -> Map<String, Value> {
    serde_json::from_str(fields).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged by `log` under these settings.
    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { format, filter: filter.parse().unwrap() };
        tracing::subscriber::with_default(subscriber(&settings, move || writer.clone(), false), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_flat_and_carry_the_fields_of_their_spans() {
        let text = logged(LogFormat::Json, "info", || {
            let delivery = tracing::info_span!("delivery", delivery = "72d3162e", environment = tracing::field::Empty);
            let _delivery = delivery.enter();
            delivery.record("environment", "outer");
            let _pass = tracing::info_span!("pass", environment = "env_1", attempt = 2).entered();
            tracing::info!(status = "running", level = "mine", "environment is\nrunning");
        });
        let mut line: Map<String, Value> = serde_json::from_str(text.trim_end()).unwrap();
        let timestamp = line.remove("timestamp").unwrap();
        let timestamp: jiff::Timestamp = timestamp.as_str().unwrap().parse().unwrap();
        assert!(timestamp <= jiff::Timestamp::now());
        let expected = serde_json::json!({
            "level": "INFO", "target": "previewd::telemetry::tests", "message": "environment is\nrunning",
            "delivery": "72d3162e", "environment": "env_1", "attempt": 2, "status": "running",
        });
        assert_eq!(Value::from(line), expected);
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn text_lines_name_their_spans() {
        let text = logged(LogFormat::Text, "info", || {
            let _pass = tracing::info_span!("pass", environment = "env_1").entered();
            tracing::info!("deployed");
        });
        assert!(text.contains(r#" INFO pass{environment="env_1"}: previewd::telemetry::tests: deployed"#), "{text}");
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        let log = || {
            tracing::debug!(target: "hyper_util::client", "connecting");
            tracing::warn!(target: "kube_client", "slow");
            tracing::debug!("ours");
        };
        let quiet = logged(LogFormat::Text, "debug", log);
        assert!(!quiet.contains("connecting") && quiet.contains("slow") && quiet.contains("ours"), "{quiet}");
        assert!(logged(LogFormat::Text, "info,hyper_util=debug", log).contains("connecting"));
    }
}
