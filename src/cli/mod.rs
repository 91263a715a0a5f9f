//! The command line, one file a command. Only this module prints to stdout.

mod app;
pub mod backup;
pub mod change;
mod client;
pub mod completions;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod get;
pub mod github;
pub mod list;
pub mod logs;
pub mod mcp;
pub mod migrate;
mod output;
pub mod recipe;
pub mod repair;
pub mod schema;
pub mod serve;
#[cfg(test)]
mod tests;
pub mod token;
pub mod wait;

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use previewd::{
    config::{Config, ConfigError, LogFormat, Unnamed, process_environment},
    service::ServiceError,
    telemetry,
};
use url::Url;

/// A preview environment for every pull request, with the controls in the hands of AI agents.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration [default: PREVIEWD_CONFIG, else ~/.config/previewd/previewd.toml; `serve` and `github setup`
    /// read previewd.toml in the working directory first]
    #[arg(long, global = true, value_name = "PATH", display_order = 100)]
    config: Option<PathBuf>,
    /// How logs are written to stderr [default: log.format of the configuration]
    #[arg(long, global = true, value_name = "FORMAT", display_order = 101)]
    log_format: Option<LogFormat>,
    /// Ask this server instead of the configuration's database, with the token in PREVIEWD_TOKEN
    /// [default: PREVIEWD_SERVER, where it is set]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "PREVIEWD_SERVER",
        hide_env = true,
        value_parser = web_address,
        display_order = 102
    )]
    server: Option<Url>,
}

fn web_address(text: &str) -> Result<Url, &'static str> {
    let rule = "must begin with http:// or https://, such as https://previewd.example.com";
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or(rule)
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve MCP and webhooks over HTTP, and run the engine
    Serve(serve::Args),
    /// Speak MCP over stdio
    Mcp(mcp::Args),
    /// List environments; deleted ones only where they are asked for
    List(list::Args),
    /// Show one environment with its deployments
    Get(get::Args),
    /// Read what an environment's containers print, merged by time
    Logs(logs::Args),
    /// Say why a pull request's preview is as it is, or why there is none
    Explain(explain::Args),
    /// Wait until an environment has settled, runs or is gone
    Wait(wait::Args),
    /// Ask for a preview of an open pull request that has none
    Create(change::Create),
    /// Try a failed deployment again, or wake what sleeps
    Retry(change::Change),
    /// Keep an environment for longer
    Keep(change::Keep),
    /// Remove an environment and everything in it
    Delete(change::Change),
    /// Say who did what, from where, and what was refused
    Events(events::Args),
    /// Make, list and revoke the bearer tokens of agents
    Token(token::Args),
    /// Make a GitHub App for previewd
    #[command(name = "github")]
    GitHub(github::Args),
    /// Bring the database to this version's tables
    Migrate(migrate::Args),
    /// Check each piece of the setup, and say how to mend what is wrong
    Doctor(doctor::Args),
    /// Look for what webhooks and crashes left undone, and mend it; `serve` does the same every five minutes
    Repair(repair::Args),
    /// Write the whole database to a file, while previewd goes on working
    Backup(backup::Args),
    /// Put a backup into an empty database, of either kind
    Restore(backup::Args),
    /// Look at a .preview.yaml before it is pushed: without a cluster, GitHub or a database
    Recipe(recipe::Args),
    /// Print a JSON schema
    Schema(schema::Args),
    /// Print a shell's completions
    Completions(completions::Args),
}

impl Global {
    /// Reads the configuration and lays the flags over it. Says where one is that is not read.
    pub fn load(&self, unnamed: Unnamed) -> Result<Config, ConfigError> {
        if let (None, Some(path)) = (self.file(unnamed), Unnamed::in_the_working_directory()) {
            let path = path.display();
            output::say(&format!("{path} in this folder is not read; name it with --config or PREVIEWD_CONFIG\n"));
        }
        let mut config = Config::load(self.config.as_deref(), unnamed, process_environment())?;
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        Ok(config)
    }

    /// The configuration's file: the one that is named, or that is read where none is.
    pub fn file(&self, unnamed: Unnamed) -> Option<PathBuf> {
        let named = || std::env::var_os("PREVIEWD_CONFIG").map(PathBuf::from);
        self.config.clone().or_else(named).or_else(|| unnamed.find())
    }

    /// Reads the configuration and starts logging as it says.
    pub fn start(&self, unnamed: Unnamed) -> anyhow::Result<Config> {
        let config = self.load(unnamed)?;
        telemetry::init(&config.log, &config.traces)?;
        Ok(config)
    }

    /// The same for what no server does for others.
    pub fn start_here(&self) -> anyhow::Result<Config> {
        self.stay_here()?;
        self.start(Unnamed::OfTheUser)
    }

    /// Refuses to be sent to a server.
    pub fn stay_here(&self) -> anyhow::Result<()> {
        if let Some(server) = &self.server {
            bail!(
                "this works with the configuration, where that is, and not through {server}; leave --server and \
                 PREVIEWD_SERVER out"
            );
        }
        Ok(())
    }
}

/// Exit code for wrong arguments, as clap has it, and for a wrong configuration.
const USAGE: u8 = 2;

/// Says on stderr what went wrong and why, a line each, and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    for line in describe(error) {
        output::say(&format!("{line}\n"));
    }
    match error.downcast_ref::<ServiceError>() {
        Some(refused) => client::exit_code(refused),
        None if error.is::<ConfigError>() => ExitCode::from(USAGE),
        None => ExitCode::FAILURE,
    }
}

fn describe(error: &anyhow::Error) -> Vec<String> {
    let problems = error.to_string();
    let problems = problems.lines().map(|problem| format!("error: {problem}"));
    let advice =
        error.downcast_ref::<ServiceError>().map(|refused| format!("  {}", output::as_commands(&refused.next_action)));
    let causes = error.chain().skip(1).map(|cause| format!("  because: {}", cause.to_string().replace('\n', " ")));
    problems.chain(causes).chain(advice).collect()
}
