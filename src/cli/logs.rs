//! `previewd logs`

use std::{pin::pin, process::ExitCode};

use anyhow::bail;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use previewd::{
    environment::short_commit,
    service::{
        ContainerName, EnvironmentDetail, EnvironmentLogs, EnvironmentReference, LogEvent, LogsRequest, SearchText,
        Since, Tail, merged, parse_request,
    },
};
use serde_json::{Value, json};

use super::{
    Global,
    client::{Client, lines},
    output::{Output, print, print_json, print_on, say, text},
};

/// Read what an environment's containers print, merged by time
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, its namespace, or owner/name#number
    pub environment: EnvironmentReference,
    /// Go on with what they print from now on; with json, an event a line
    #[arg(short, long, conflicts_with = "previous")]
    pub follow: bool,
    /// How many lines of each container, 1 to 1000
    #[arg(long, default_value_t = 100, value_name = "LINES", value_parser = lines_of)]
    pub tail: i64,
    /// Only lines of the last so long, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = text::<Since>)]
    pub since: Option<String>,
    /// Only this container
    #[arg(long, value_name = "NAME", value_parser = text::<ContainerName>)]
    pub container: Option<String>,
    /// Only lines with this text
    #[arg(long, value_name = "TEXT", value_parser = text::<SearchText>)]
    pub contains: Option<String>,
    /// The run before the last restart
    #[arg(long)]
    pub previous: bool,
    /// Show the time of each line
    #[arg(long)]
    pub timestamps: bool,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub async fn run(args: Args, global: Global) -> anyhow::Result<ExitCode> {
    let Args { environment, follow, tail, since, container, contains, previous, timestamps, output } = args;
    let client = Client::connect(&global).await?;
    // Times put the lines of several containers in order, whether they are shown or not.
    let wanted = json!({
        "environment": environment.to_string(),
        "tail": tail,
        "since": since,
        "container": container,
        "contains": contains,
        "previous": previous,
        "timestamps": timestamps || output == Output::Table,
    });
    if follow {
        return follow_them(&client, wanted, timestamps, output).await;
    }
    let logs: EnvironmentLogs = client.call("get_preview_logs", wanted).await?;
    if output == Output::Json {
        print_json(&logs)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (log, line) in merged(&logs) {
        let (at, text) = line.split_once(' ').unwrap_or((line, ""));
        print(&shown(&log.pod, &log.container, timestamps.then_some(at), text))?;
    }
    let note = |count: u64, what: &str| if count == 0 { String::new() } else { format!("({count} {what})\n") };
    let less =
        if logs.containers.len() > 1 { "ask for one container" } else { "look for a text, or at a shorter time" };
    let mut notes = note(logs.lines_left_out, &format!("older lines left out, too long for one answer; {less}"));
    notes += &note(logs.containers_left_out, "containers left out; name one");
    for log in &logs.containers {
        if let Some(why) = &log.no_log {
            notes += &format!("({}/{}: {why})\n", log.pod, log.container);
        }
    }
    if logs.containers.iter().all(|log| log.lines.is_empty() && log.no_log.is_none()) {
        let why = logs.note.as_ref().map(|note| format!(". {note}")).unwrap_or_default();
        notes += &format!("(no lines; it is {}{why})\n", logs.status);
    }
    if let Some(commit) = &logs.kept_of {
        notes += &format!("(kept of commit {}, which failed)\n", short_commit(commit));
    }
    say(&notes);
    Ok(ExitCode::SUCCESS)
}

fn lines_of(text: &str) -> Result<i64, String> {
    let lines: i64 = text.parse().unwrap_or_default();
    Tail::try_from(lines).map(|_| lines).map_err(str::to_owned)
}

async fn follow_them(client: &Client, wanted: Value, timestamps: bool, output: Output) -> anyhow::Result<ExitCode> {
    let mut events = pin!(follow(client, wanted).await?);
    while let Some(event) = events.try_next().await? {
        let line = match event {
            event if output == Output::Json => format!("{}\n", serde_json::to_string(&event)?),
            LogEvent::Line { pod, container, at, text } => {
                shown(&pod, &container, timestamps.then(|| at.to_string()).as_deref(), &text)
            }
            LogEvent::Lost { lines } => {
                say(&format!("({lines} lines lost: this reader was too slow)\n"));
                continue;
            }
            LogEvent::Ended { pod, container } => {
                say(&format!("({pod}/{container} ended)\n"));
                continue;
            }
            LogEvent::Gone => {
                say("(the environment is gone)\n");
                continue;
            }
        };
        if print_on(&line)?.is_break() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow<'a>(
    client: &'a Client,
    wanted: Value,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<LogEvent>> + use<'a>> {
    Ok(match client {
        Client::Here { service, identity, .. } => {
            let Value::Object(wanted) = wanted else { bail!("arguments are an object") };
            let request: LogsRequest = parse_request(wanted)?;
            service.follow(identity, request).await?.map(|followed| Ok(followed.event().clone())).left_stream()
        }
        Client::Server { url, token, .. } => {
            // In an address an environment goes by its id.
            let named = json!({ "environment": wanted["environment"] });
            let EnvironmentDetail { id, .. } = client.call("get_preview_environment", named).await?;
            let mut address = url.join(&format!("environments/{id}/logs"))?;
            for name in ["tail", "since", "container", "contains"] {
                match &wanted[name] {
                    Value::String(text) => drop(address.query_pairs_mut().append_pair(name, text)),
                    Value::Number(number) => drop(address.query_pairs_mut().append_pair(name, &number.to_string())),
                    _ => {}
                }
            }
            let lines = lines(address, token).await?;
            stream::try_unfold(lines, async |mut lines| {
                // Each event is one line of data; what else there is says nothing more.
                while let Some(line) = lines.next_line().await? {
                    if let Some(data) = line.strip_prefix("data: ") {
                        return Ok(Some((serde_json::from_str(data)?, lines)));
                    }
                }
                Ok(None)
            })
            .right_stream()
        }
    })
}

/// One line, with the end of its pod's name: the rest is the same for all.
fn shown(pod: &str, container: &str, at: Option<&str>, text: &str) -> String {
    let pod = pod.rsplit('-').next().unwrap_or(pod);
    let at = at.map(|at| format!("{at} ")).unwrap_or_default();
    format!("{at}{container}/{pod} | {text}\n")
}
