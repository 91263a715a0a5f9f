//! `previewd completions`

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, output::print};

/// Print a shell's completions
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose; `previewd completions bash > /etc/bash_completion.d/previewd` installs them
    pub shell: Shell,
}

pub fn run(Args { shell }: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "previewd", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
