//! `previewd explain`

use std::process::ExitCode;

use previewd::service::Explanation;
use serde_json::json;

use super::{
    Global,
    client::{Client, pull_request},
    output::{Output, as_commands, print, print_json, table},
};

/// Say why a pull request's preview is as it is, or why there is none
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pull request, as owner/name#number
    #[arg(value_parser = pull_request)]
    pub pull_request: (String, i64),
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub async fn run(
    Args { pull_request: (repository, number), output }: Args,
    global: Global,
) -> anyhow::Result<ExitCode> {
    let request = json!({ "repository": repository, "pull_request": number });
    let client = Client::connect(&global).await?;
    let explanation: Explanation = client.call("explain_preview_environment", request).await?;
    match output {
        Output::Json => print_json(&explanation)?,
        Output::Table => print(&text(&explanation))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(explanation: &Explanation) -> String {
    let Explanation { explanation: said, next_action, findings, expires_at, events, deliveries, .. } = explanation;
    let mut text = format!("{said}\n{}\n", as_commands(next_action));
    for finding in findings {
        text += &format!("{finding}\n");
    }
    if let Some(at) = expires_at {
        text += &format!("Unused it goes at {at}.\n");
    }
    if !events.is_empty() {
        let rows: Vec<[String; 4]> = events
            .iter()
            .map(|event| {
                let refused = event.refusal.as_ref().map(|code| format!(" refused: {code}")).unwrap_or_default();
                let detail = event.detail.clone().unwrap_or_default();
                [event.at.clone(), format!("{}{refused}", event.kind), event.actor.clone(), detail]
            })
            .collect();
        text += &format!("\n{}", table(["at", "event", "by", ""], &rows));
    }
    if !deliveries.is_empty() {
        let rows: Vec<[String; 3]> = deliveries
            .iter()
            .map(|delivery| [delivery.at.clone(), delivery.event.clone(), delivery.outcome.clone()])
            .collect();
        text += &format!("\n{}", table(["at", "webhook", "outcome"], &rows));
    }
    text
}
