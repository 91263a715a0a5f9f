//! `previewd get`

use std::process::ExitCode;

use previewd::{
    environment::short_commit,
    service::{EnvironmentDetail, EnvironmentReference},
    text::{age, mebibytes},
};
use serde_json::json;

use super::{
    Global,
    client::Client,
    output::{Output, as_commands, print, print_json, table},
};

/// Show one environment with its deployments
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, its namespace, or owner/name#number
    pub environment: EnvironmentReference,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub async fn run(Args { environment, output }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&global).await?;
    let request = json!({ "environment": environment.to_string() });
    let detail: EnvironmentDetail = client.call("get_preview_environment", request).await?;
    match output {
        Output::Json => print_json(&detail)?,
        Output::Table => {
            let summary = &detail.summary;
            let line = |name: &str, value: &str| format!("{name:<13} {value}\n");
            let mut text = line("environment", &summary.environment);
            text += &line("status", summary.status.code());
            if let Some(message) = &summary.message {
                text += &line("because", message);
            }
            if let Some(next_action) = &detail.next_action {
                text += &line("next", &as_commands(next_action));
            }
            if let Some(url) = &summary.url {
                text += &line("url", url);
            }
            text += &line("commit", &summary.commit);
            text += &line("age", &age(summary.age_seconds));
            if let Some(at) = &detail.expires_at {
                text += &line("expires", &format!("{at}, unless it is used or kept"));
            }
            if let Some((cpu, memory)) = summary.cpu_millicores.zip(summary.memory_bytes) {
                text += &line("uses", &format!("{cpu}m CPU, {}", mebibytes(memory.unsigned_abs())));
            } else if let Some(why) = &detail.usage.unavailable {
                text += &line("uses", &format!("not known: {why}"));
            }
            if let Some(cost) = &detail.usage.cost {
                text += &line(
                    "costs",
                    &format!("{} {} in the last day, as far as it was measured", cost.last_day, cost.currency),
                );
            }
            for warning in &summary.warnings {
                text += &line("warning", warning);
            }
            text += &line("namespace", &summary.namespace);
            text += &line("pull request", &summary.pull_request.url);
            if let Some(proof) = detail.deployments.first().and_then(|newest| newest.readiness.as_ref()) {
                for image in &proof.images {
                    let digest = image.digest.as_deref().unwrap_or("of no known digest");
                    text += &line("runs", &format!("{} {digest}, seen {}", image.image, proof.pods_seen_at));
                }
                if let Some((status, at)) = proof.url_status.zip(proof.url_seen_at.as_ref()) {
                    text += &line("url answered", &format!("{status}, seen {at}"));
                }
            }
            let rows: Vec<[String; 3]> = detail
                .deployments
                .iter()
                .map(|row| {
                    let commit = short_commit(&row.commit).to_owned();
                    [commit, row.status.to_string(), row.message.clone().unwrap_or_default()]
                })
                .collect();
            print(&format!("{text}\n{}", table(["deployment", "status", ""], &rows)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
