//! `previewd schema`

use std::process::ExitCode;

use previewd::{cluster::cluster_role, schemas};

use super::output::print_json;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose schema
    #[arg(value_enum, default_value_t)]
    of: Of,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Of {
    /// previewd.toml
    #[default]
    Config,
    /// .preview.yaml
    Recipe,
    /// The MCP tools, with their inputs and outputs
    Tools,
    /// Not a schema: the ClusterRole of previewd's account in the cluster
    ClusterRole,
}

pub fn run(Args { of }: Args) -> anyhow::Result<ExitCode> {
    print_json(&match of {
        Of::Config => schemas::config(),
        Of::Recipe => schemas::recipe(),
        Of::Tools => schemas::tools(),
        Of::ClusterRole => cluster_role(),
    })?;
    Ok(ExitCode::SUCCESS)
}
