//! The command line: arguments, telemetry, dispatch, exit codes.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let outcome = match command {
        Command::Serve(args) => cli::serve::run(args, global).await,
        Command::Mcp(args) => cli::mcp::run(args, global).await,
        Command::List(args) => cli::list::run(args, global).await,
        Command::Get(args) => cli::get::run(args, global).await,
        Command::Logs(args) => cli::logs::run(args, global).await,
        Command::Explain(args) => cli::explain::run(args, global).await,
        Command::Wait(args) => cli::wait::run(args, global).await,
        Command::Create(args) => cli::change::create(args, global).await,
        Command::Retry(args) => cli::change::retry(args, global).await,
        Command::Keep(args) => cli::change::keep(args, global).await,
        Command::Delete(args) => cli::change::delete(args, global).await,
        Command::Events(args) => cli::events::run(args, global).await,
        Command::Token(args) => cli::token::run(args, global).await,
        Command::GitHub(args) => cli::github::run(args, global).await,
        Command::Migrate(args) => cli::migrate::run(args, global).await,
        Command::Doctor(args) => cli::doctor::run(args, global).await,
        Command::Repair(args) => cli::repair::run(args, global).await,
        Command::Backup(args) => cli::backup::backup(args, global).await,
        Command::Restore(args) => cli::backup::restore(args, global).await,
        Command::Recipe(args) => cli::recipe::run(args, global).await,
        Command::Schema(args) => cli::schema::run(args),
        Command::Completions(args) => cli::completions::run(args),
    };
    let code = outcome.unwrap_or_else(|error| cli::report(&error));
    // Err: it panicked, and there is nothing left to send.
    let _ = tokio::task::spawn_blocking(previewd::traces::flush).await;
    code
}
