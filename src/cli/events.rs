//! `previewd events`

use std::{pin::pin, process::ExitCode};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use previewd::{
    environment::RepositoryName,
    service::{EnvironmentReference, EventSummary, EventsRequest, parse_request},
    store::EventKind,
};
use serde_json::Value;

use super::{
    Global,
    client::{Client, lines},
    output::{print, print_on, say, table},
};

/// The form of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Form {
    #[default]
    Table,
    /// A line of JSON for each event
    Jsonl,
}

/// Say who did what, from where, and what was refused; newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this environment: its id, its namespace, or owner/name#number
    #[arg(long)]
    pub environment: Option<EnvironmentReference>,
    /// Only those of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub repository: Option<RepositoryName>,
    /// Only what this one did
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Only those of this kind
    #[arg(long)]
    pub kind: Option<EventKind>,
    /// Only what was asked for and not done
    #[arg(long)]
    pub refused: bool,
    /// How many at most; 0 is all of them
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Form,
}

pub async fn run(args: Args, global: Global) -> anyhow::Result<ExitCode> {
    let Args { environment, repository, actor, kind, refused, limit, output } = args;
    let mut query = serde_json::Map::new();
    let mut ask = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            query.insert(name.to_owned(), value.into());
        }
    };
    ask("environment", environment.map(|reference| reference.to_string()));
    ask("repository", repository.map(|name| name.to_string()));
    ask("actor", actor);
    ask("kind", kind.map(|kind| kind.to_string()));
    let limit = if limit == 0 { usize::MAX } else { limit };
    let client = Client::connect(&global).await?;
    let mut rows: Vec<[String; 6]> = Vec::new();
    let mut events = pin!(read(&client, query, refused).await?.take(limit));
    while let Some(event) = events.try_next().await? {
        match output {
            Form::Jsonl if print_on(&format!("{}\n", serde_json::to_string(&event)?))?.is_break() => break,
            Form::Jsonl => {}
            Form::Table => rows.push(row(event)),
        }
    }
    if output == Form::Table {
        if rows.is_empty() {
            say("(no events)\n");
        }
        print(&table(["at", "event", "environment", "by", "from", ""], &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn read<'a>(
    client: &'a Client,
    mut query: serde_json::Map<String, Value>,
    refused: bool,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<EventSummary>> + use<'a>> {
    Ok(match client {
        Client::Here { service, identity, .. } => {
            query.insert("refused".to_owned(), refused.into());
            let request: EventsRequest = parse_request(query)?;
            service.all_events(identity, request).map_err(anyhow::Error::from).left_stream()
        }
        Client::Server { url, token, .. } => {
            let mut address = url.join("events.jsonl")?;
            for (name, value) in &query {
                address.query_pairs_mut().append_pair(name, value.as_str().unwrap_or_default());
            }
            if refused {
                address.query_pairs_mut().append_pair("refused", "true");
            }
            let lines = lines(address, token).await?;
            stream::try_unfold(lines, async |mut lines| {
                let Some(line) = lines.next_line().await? else { return Ok(None) };
                Ok(Some((serde_json::from_str(&line)?, lines)))
            })
            .right_stream()
        }
    })
}

fn row(event: EventSummary) -> [String; 6] {
    let EventSummary { at, kind, actor, environment, interface, address, refusal, detail } = event;
    let from = [interface, address].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let kind = match refusal {
        Some(code) => format!("{kind}: {code}"),
        None => kind,
    };
    [at, kind, environment.unwrap_or_default(), actor, from, detail.unwrap_or_default()]
}
