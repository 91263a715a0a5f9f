//! `previewd list`

use std::process::ExitCode;

use previewd::{
    environment::{EnvironmentStatus, RepositoryName, short_commit},
    service::{EnvironmentList, EnvironmentSummary},
    text::{age, mebibytes},
};
use serde_json::json;

use super::{
    Global,
    client::Client,
    output::{Output, print, print_json, say, table},
};

/// List environments; deleted ones only where they are asked for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this status; may be repeated
    #[arg(long, value_name = "STATUS")]
    pub status: Vec<EnvironmentStatus>,
    /// Only those of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub repository: Option<RepositoryName>,
    /// Go on where an earlier list ended
    #[arg(long)]
    pub cursor: Option<String>,
    /// The form of the answer: json is one page, table all of them
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub async fn run(args: Args, global: Global) -> anyhow::Result<ExitCode> {
    let Args { status, repository, mut cursor, output } = args;
    let client = Client::connect(&global).await?;
    let mut environments = Vec::new();
    let unmeasured = loop {
        let repository = repository.as_ref().map(ToString::to_string);
        let request = json!({ "status": status, "repository": repository, "cursor": cursor });
        let page: EnvironmentList = client.call("list_preview_environments", request).await?;
        if output == Output::Json {
            print_json(&page)?;
            return Ok(ExitCode::SUCCESS);
        }
        environments.extend(page.environments);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break page.usage_unavailable;
        }
    };
    if environments.is_empty() {
        say("(no environments)\n");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = unmeasured {
        say(&format!("(no usage: {why})\n"));
    }
    let rows: Vec<[String; 7]> = environments.iter().map(row).collect();
    print(&table(["environment", "status", "commit", "age", "cpu", "memory", ""], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn row(environment: &EnvironmentSummary) -> [String; 7] {
    let EnvironmentSummary { url, message, cpu_millicores, memory_bytes, warnings, .. } = environment;
    let said = url.iter().chain(if url.is_none() { message.as_ref() } else { None }).chain(warnings);
    [
        environment.environment.clone(),
        environment.status.to_string(),
        short_commit(&environment.commit).to_owned(),
        age(environment.age_seconds),
        cpu_millicores.map(|amount| format!("{amount}m")).unwrap_or_default(),
        memory_bytes.map(|bytes| mebibytes(bytes.unsigned_abs())).unwrap_or_default(),
        said.cloned().collect::<Vec<_>>().join("; "),
    ]
}
