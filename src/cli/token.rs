//! `previewd token`

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use previewd::{
    config::Config,
    environment::{Millis, parse_duration},
    identity::{Identity, Role, Scope, Subject, TokenGrant, issue_token},
    service::rfc3339,
    store::{self, EventKind, Store},
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    Global, app,
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
    match command {
        Command::Create(create) => create.run(&config, &store).await,
        Command::List(list) => list.run(&store).await,
        Command::Revoke(revoke) => revoke.run(&store).await,
    }
}

impl Create {
    async fn run(self, config: &Config, store: &Store) -> anyhow::Result<ExitCode> {
        let Self { subject, role, team: teams, only: scope, expires, output } = self;
        if let Some(unknown) = teams.iter().find(|team| !config.teams.contains_key(*team)) {
            bail!("there is no team {unknown:?} in the configuration; add [teams.{unknown}] with its repositories");
        }
        if teams.is_empty() && role != Role::Operator {
            bail!("a {role} without a team sees nothing; name one with --team, or take --role operator");
        }
        let expires_at = match expires {
            None => None,
            Some(expires) => Some(store.clock().await? + Millis::try_from(expires.as_millis())?),
        };
        let by = Identity::local_operator();
        let issued = issue_token(store, TokenGrant { subject, role, teams, scope, expires_at }, &by).await?;
        let (id, token) = (issued.id, issued.token.expose_secret().to_owned());
        match output {
            Output::Table => print(&format!("{token}\n"))?,
            Output::Json => print_json(&json!({ "id": id, "token": token }))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self, store: &Store) -> anyhow::Result<ExitCode> {
        let tokens = store.list_tokens().await?;
        let now = store.clock().await?;
        let state = |token: &store::Token| match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(expires_at)) if expires_at <= now => "expired",
            (None, _) => "valid",
        };
        let used = |token: &store::Token| token.last_used_at.map(rfc3339);
        let scope = |token: &store::Token| {
            let repository = token.repository.clone()?;
            Some(token.pull_request.map_or(repository.clone(), |number| format!("{repository}#{number}")))
        };
        match self.output {
            Output::Table => {
                let rows: Vec<[String; 7]> = tokens
                    .iter()
                    .map(|token| {
                        let (subject, role, teams) =
                            (token.subject.clone(), token.role.clone(), token.teams.join(", "));
                        let used = used(token).unwrap_or_else(|| "never".to_owned());
                        let only = scope(token).unwrap_or_default();
                        [token.id.clone(), subject, role, teams, only, state(token).to_owned(), used]
                    })
                    .collect();
                print(&table(["id", "subject", "role", "teams", "only", "state", "last used"], &rows))?;
            }
            Output::Json => {
                let rows: Vec<_> = tokens
                    .iter()
                    .map(|token| {
                        let store::Token { id, subject, role, teams, .. } = token;
                        let (state, used) = (state(token), used(token));
                        json!({
                            "id": id, "subject": subject, "role": role, "teams": teams, "only": scope(token), "state": state,
                            "last_used_at": used,
                        })
                    })
                    .collect();
                print_json(&rows)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Revoke {
    async fn run(self, store: &Store) -> anyhow::Result<ExitCode> {
        let event = Identity::local_operator().event(EventKind::TokenRevoked, self.id.clone());
        if !store.revoke_token(&self.id, event).await? {
            bail!("no valid token has the id {:?}; `previewd token list` shows them", self.id);
        }
        print(&format!("revoked {}\n", self.id))?;
        Ok(ExitCode::SUCCESS)
    }
}
