//! `previewd wait`

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use previewd::{
    environment::{CommitSha, parse_duration, short_commit},
    service::{EnvironmentReference, EnvironmentSummary, WaitUntil, Waited},
};
use serde_json::json;

use super::{
    Global,
    client::Client,
    output::{Output, as_commands, print, print_json, say},
};

/// It will not get there by itself.
const STOPPED: u8 = 5;
/// It was still on its way when the time was over.
const UNDER_WAY: u8 = 6;

/// Wait until an environment has settled, runs or is gone. Exits with 5 where it will not get there by itself, with 6
/// where the time was over before
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, its namespace, or owner/name#number
    pub environment: EnvironmentReference,
    /// First wait for this commit to be the head
    #[arg(long, value_name = "SHA")]
    pub commit: Option<CommitSha>,
    /// How far
    #[arg(long, value_enum, default_value = "running")]
    pub until: WaitUntil,
    /// For how long at most
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "15m")]
    pub timeout: Duration,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub async fn run(args: Args, global: Global) -> anyhow::Result<ExitCode> {
    let Args { environment, commit, until, timeout, output } = args;
    let client = Client::connect(&global).await?;
    let request = json!({
        "environment": environment.to_string(),
        "commit": commit.as_ref().map(CommitSha::as_str),
        "until": until,
    });
    let began = Instant::now();
    let (waited, is_over) = loop {
        let left = timeout.saturating_sub(began.elapsed());
        let call = client.call::<Waited>("wait_for_preview_environment", request.clone());
        match tokio::time::timeout(left, call).await {
            // An answer before its time, and not done: it will not get there.
            Ok(waited) => {
                let waited = waited?;
                if waited.done || waited.is_stopped() {
                    break (waited, false);
                }
            }
            Err(_) => {
                let summary = client.call("get_preview_environment", json!({ "environment": environment.to_string() }));
                let waited_seconds = began.elapsed().as_secs();
                break (Waited { summary: summary.await?, done: false, waited_seconds, next_action: None }, true);
            }
        }
    };
    match output {
        Output::Json => print_json(&waited)?,
        Output::Table => {
            print(&sentence(&waited.summary))?;
            match &waited.next_action {
                _ if is_over => say("(the time is over before it got there)\n"),
                Some(next_action) if !waited.done => {
                    say(&format!("(it does not get there by itself. {})\n", as_commands(next_action)))
                }
                _ => {}
            }
        }
    }
    Ok(match (waited.done, is_over) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(STOPPED),
        (false, true) => ExitCode::from(UNDER_WAY),
    })
}

/// Where an environment stands, in a line.
pub fn sentence(summary: &EnvironmentSummary) -> String {
    let EnvironmentSummary { environment, status, commit, message, url, .. } = summary;
    let commit = short_commit(commit);
    let said = match (message, url) {
        (Some(message), _) => format!(": {message}"),
        (None, Some(url)) => format!(": {url}"),
        (None, None) => String::new(),
    };
    format!("{environment} at {commit} is {status}{said}\n")
}
