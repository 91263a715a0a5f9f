//! `previewd list`

use std::process::ExitCode;

use previewd::{
    environment::{EnvironmentStatus, RepositoryName},
    identity::Identity,
    service::{ListRequest, Repository},
};

use super::{
    Global, app,
    output::{Output, print, print_json, table},
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
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub async fn run(args: Args, global: Global) -> anyhow::Result<ExitCode> {
    let Args { status, repository, cursor, output } = args;
    let config = global.start()?;
    let store = app::open_store(&config).await?;
    let cursor = cursor.map(|cursor| cursor.parse()).transpose()?;
    let request = ListRequest { status, repository: repository.map(Repository), cursor };
    let list = app::service(&config, &store, None, None).list(&Identity::local_operator(), request).await?;
    match output {
        Output::Json => print_json(&list)?,
        Output::Table => {
            let rows: Vec<[String; 4]> = list
                .environments
                .iter()
                .map(|environment| {
                    let said = environment.url.clone().or_else(|| environment.message.clone()).unwrap_or_default();
                    let commit = environment.commit.chars().take(7).collect();
                    [environment.environment.clone(), environment.status.to_string(), commit, said]
                })
                .collect();
            print(&table(["environment", "status", "commit", ""], &rows))?;
            if let Some(cursor) = &list.next_cursor {
                print(&format!("{} more: previewd list --cursor {cursor}\n", list.left_out))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
