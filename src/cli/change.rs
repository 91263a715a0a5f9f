//! `previewd create`, `retry`, `keep` and `delete`: what changes something. Each is done once it is stored; `wait` follows
//! what comes of it.

use std::process::ExitCode;

use previewd::{
    environment::{CommitSha, EnvironmentStatus},
    service::{EnvironmentReference, EnvironmentSummary, KeepDuration, Kept},
};
use serde_json::{Value, json};

use super::{
    Global,
    client::{Client, pull_request},
    output::{Output, print, print_json, say, text},
};

// What every change takes. No doc comment: it would stand before those of the commands.
#[derive(Debug, clap::Args)]
pub struct Change {
    /// Its id, its namespace, or owner/name#number
    pub environment: EnvironmentReference,
    /// Refuse unless this is the head of the pull request
    #[arg(long, value_name = "SHA")]
    pub expected_commit: Option<CommitSha>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// The pull request, as owner/name#number
    #[arg(value_parser = pull_request)]
    pub pull_request: (String, i64),
    /// Refuse unless this is the head of the pull request
    #[arg(long, value_name = "SHA")]
    pub expected_commit: Option<CommitSha>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Keep {
    #[command(flatten)]
    pub change: Change,
    /// For how long from now on, such as 48h or 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = text::<KeepDuration>, default_value = "48h")]
    pub duration: String,
}

pub async fn create(args: Create, global: Global) -> anyhow::Result<ExitCode> {
    let Create { pull_request: (repository, number), expected_commit, output } = args;
    let arguments = json!({
        "repository": repository,
        "pull_request": number,
        "expected_commit": expected_commit.as_ref().map(CommitSha::as_str),
    });
    ask("create_preview_environment", arguments, output, &global).await
}

pub async fn retry(change: Change, global: Global) -> anyhow::Result<ExitCode> {
    let arguments = change.arguments();
    ask("retry_preview_deployment", arguments, change.output, &global).await
}

pub async fn keep(Keep { change, duration }: Keep, global: Global) -> anyhow::Result<ExitCode> {
    let mut arguments = change.arguments();
    arguments["duration"] = duration.into();
    let client = Client::connect(&global).await?;
    let kept: Kept = client.call("keep_preview_environment", arguments).await?;
    match change.output {
        Output::Json => print_json(&kept)?,
        Output::Table => {
            print(&super::wait::sentence(&kept.summary))?;
            if let Some(note) = &kept.note {
                say(&format!("({note})\n"));
            }
            print(&match (kept.expires_at, kept.summary.status) {
                (Some(at), _) => format!("unused it goes at {at}\n"),
                (None, EnvironmentStatus::Running | EnvironmentStatus::Failed) => "it does not expire\n".to_owned(),
                (None, _) => "it does not expire before it is deployed\n".to_owned(),
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn delete(change: Change, global: Global) -> anyhow::Result<ExitCode> {
    let arguments = change.arguments();
    ask("delete_preview_environment", arguments, change.output, &global).await
}

impl Change {
    fn arguments(&self) -> Value {
        json!({
            "environment": self.environment.to_string(),
            "expected_commit": self.expected_commit.as_ref().map(CommitSha::as_str),
        })
    }
}

async fn ask(tool: &'static str, arguments: Value, output: Output, global: &Global) -> anyhow::Result<ExitCode> {
    let summary: EnvironmentSummary = Client::connect(global).await?.call(tool, arguments).await?;
    match output {
        Output::Json => print_json(&summary)?,
        Output::Table => print(&super::wait::sentence(&summary))?,
    }
    Ok(ExitCode::SUCCESS)
}
