//! `previewd token`

use std::{process::ExitCode, time::Duration};

use previewd::{
    environment::parse_duration,
    identity::{Identity, Role, Scope, Subject},
    service::{NewTokenRequest, Service, TokenSummary},
    store::Interface,
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    Global, app, client,
    output::{Output, print, print_json, table},
};

/// Make, list and revoke the bearer tokens of agents
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a token and print it, this one time
    Create(Create),
    /// List tokens: whose they are, never the tokens themselves
    List(List),
    /// End a token's validity
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// Whose token it is, as the history shows it
    #[arg(long)]
    pub subject: Subject,
    /// What it may do
    #[arg(long)]
    pub role: Role,
    /// A team whose repositories it may see; may be repeated
    #[arg(long, value_name = "NAME")]
    pub team: Vec<String>,
    /// The only repository that it is for, or pull request as owner/name#7; it ends with it
    #[arg(long, value_name = "SCOPE")]
    pub only: Option<Scope>,
    /// For how long it is valid, such as 30d or 72h [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The token's id, from `previewd token list`
    pub id: String,
}

pub async fn run(Args { command }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let config = global.start_here()?;
    let store = app::open_store(&config).await?;
    let service = app::service(&config, &store, None, None, app::teams(&config));
    let identity = client::identity(&config, &store, Interface::CommandLine).await?;
    match command {
        Command::Create(create) => create.run(&service, &identity).await,
        Command::List(list) => list.run(&service, &identity).await,
        Command::Revoke(revoke) => revoke.run(&service, &identity).await,
    }
}

impl Create {
    async fn run(self, service: &Service, identity: &Identity) -> anyhow::Result<ExitCode> {
        let Self { subject, role, team: teams, only, expires, output } = self;
        let request = NewTokenRequest { subject, role, teams, only, expires };
        let issued = service.create_token(identity, request).await?;
        let (id, token) = (issued.id, issued.token.expose_secret().to_owned());
        match output {
            Output::Table => print(&format!("{token}\n"))?,
            Output::Json => print_json(&json!({ "id": id, "token": token }))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self, service: &Service, identity: &Identity) -> anyhow::Result<ExitCode> {
        let tokens = service.tokens(identity).await?;
        match self.output {
            Output::Table => {
                let row = |token: TokenSummary| {
                    let TokenSummary { id, subject, role, teams, only, state, expires_at, last_used_at } = token;
                    let (only, expires) = (only.unwrap_or_default(), expires_at.unwrap_or_default());
                    let used = last_used_at.unwrap_or_else(|| "never".to_owned());
                    [id, subject, role, teams.join(", "), only, state, expires, used]
                };
                let rows: Vec<[String; 8]> = tokens.into_iter().map(row).collect();
                print(&table(["id", "subject", "role", "teams", "only", "state", "expires", "last used"], &rows))?;
            }
            Output::Json => print_json(&tokens)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Revoke {
    async fn run(self, service: &Service, identity: &Identity) -> anyhow::Result<ExitCode> {
        service.revoke_token(identity, &self.id).await?;
        print(&format!("revoked {}\n", self.id))?;
        Ok(ExitCode::SUCCESS)
    }
}
