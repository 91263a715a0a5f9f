//! How commands ask: as an MCP client, of a server, or of the same tools over this machine's database. So a command can
//! what an agent can, and is refused what it is refused.

use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use futures::TryStreamExt;
use previewd::{
    cluster::Cluster,
    config::{Config, DatabaseUrl, LogFilter, Unnamed},
    github::GitHub,
    identity::Identity,
    mcp,
    service::{EnvironmentReference, ErrorCode, Service, ServiceError},
    store::{Interface, Store},
    telemetry,
    traces::TraceSettings,
};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{CallToolRequestParams, ProgressNotificationParam},
    service::{NotificationContext, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio_util::io::StreamReader;
use url::Url;

use super::{Global, app, output::say};

/// Whom the calls are for, where it is not whoever started previewd.
pub const TOKEN_VARIABLE: &str = "PREVIEWD_TOKEN";
/// What this machine's server and its client have room for between them.
const PIPE: usize = 256 * 1024;

/// What answers.
pub enum Client {
    Here { service: Service, identity: Identity, tools: Tools },
    Server { url: Url, token: SecretString, tools: Tools },
}

/// A connected MCP client. It says on stderr how far a call has come.
type Tools = RunningService<RoleClient, Progress>;

pub struct Progress;

impl ClientHandler for Progress {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        if let Some(message) = progress.message {
            say(&format!("{message}\n"));
        }
    }
}

impl Client {
    pub async fn connect(global: &Global) -> anyhow::Result<Self> {
        let Some(url) = global.server.clone() else { return Self::here(global).await };
        let Ok(token) = std::env::var(TOKEN_VARIABLE) else {
            bail!("--server needs a token in {TOKEN_VARIABLE}; operators make one with `previewd token create`");
        };
        let endpoint = url.join("mcp").with_context(|| format!("--server: {url} leads to no {url}/mcp"))?;
        // What is wrong shows better here than in the protocol's words: without a body it is refused either way.
        let asked = web_client().get(endpoint.clone()).bearer_auth(&token).send().await;
        let answer = asked.map_err(root_cause).with_context(|| format!("nobody answers at {url}"))?;
        if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
            return Err(ServiceError::token_not_taken().into());
        }
        if answer.status().is_server_error() {
            bail!("{url} cannot answer now: {}; try again", answer.status());
        }
        let config = StreamableHttpClientTransportConfig::with_uri(endpoint.as_str()).auth_header(token.as_str());
        let tools = Progress.serve(StreamableHttpClientTransport::with_client(web_client(), config)).await;
        // What the protocol's library says of it is of its own parts.
        let tools = tools.inspect_err(|error| tracing::debug!(%error, "no MCP"));
        let tools = tools.map_err(|_| anyhow!("{endpoint} does not answer as a previewd does; correct --server"))?;
        Ok(Self::Server { url, token: token.into(), tools })
    }

    async fn here(global: &Global) -> anyhow::Result<Self> {
        let mut config = global.load(Unnamed::OfTheUser)?;
        if let DatabaseUrl::Sqlite(path) = &config.database
            && !path.exists()
        {
            bail!(
                "there is no database at {}; say where the configuration is (--config, or PREVIEWD_CONFIG), or which \
                 server to ask (--server, or PREVIEWD_SERVER)",
                path.display()
            );
        }
        // Steps that a log notes are this command's own, and its answer says them.
        if config.log.filter == LogFilter::default() {
            config.log.filter = "warn".parse()?;
        }
        telemetry::init(&config.log, &TraceSettings::default())?;
        let config = &config;
        let store = app::open_store(config).await?;
        let identity = identity(config, &store, Interface::CommandLine).await?;
        // Most of what is asked needs neither; what does says so.
        let cluster = Cluster::new(config.kubernetes.clone()).await.ok();
        let service = app::service(config, &store, cluster, GitHub::new(&config.github).ok(), app::teams(config));
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (of_server, of_caller) = (service.clone(), identity.clone());
        tokio::spawn(async move { mcp::serve(of_server, of_caller, tokio::io::split(theirs)).await });
        let tools = Progress.serve(ours).await.context("cannot begin to ask")?;
        Ok(Self::Here { service, identity, tools })
    }

    /// Calls a tool. Arguments that are null are left out.
    pub async fn call<Answer: DeserializeOwned>(&self, tool: &'static str, arguments: Value) -> anyhow::Result<Answer> {
        let (Self::Here { tools, .. } | Self::Server { tools, .. }) = self;
        let Value::Object(arguments) = arguments else { bail!("arguments are an object") };
        let arguments: Map<String, Value> = arguments.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let called = tools.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await;
        let result = called.with_context(|| format!("{tool} was not answered"))?;
        let content = result.structured_content.with_context(|| format!("{tool} gave no structured content"))?;
        if result.is_error == Some(true) {
            return Err(serde_json::from_value::<ServiceError>(content)?.into());
        }
        serde_json::from_value(content).with_context(|| format!("{tool} answered in another version's words"))
    }
}

/// The innermost cause: what the others say is where it happened.
fn root_cause(error: reqwest::Error) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    anyhow::Error::msg(error.root_cause().to_string())
}

/// A client of servers.
fn web_client() -> reqwest::Client {
    // It takes the process's cryptography, and there is none before somebody says which.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The lines of what a server streams at an address.
pub async fn lines(
    address: Url,
    token: &SecretString,
) -> anyhow::Result<tokio::io::Lines<impl AsyncBufRead + Unpin + use<>>> {
    let server = address.origin().ascii_serialization();
    let answer = web_client().get(address).bearer_auth(token.expose_secret()).send().await;
    let answer = answer.map_err(root_cause).with_context(|| format!("nobody answers at {server}"))?;
    if !answer.status().is_success() {
        match answer.json::<ServiceError>().await {
            Ok(error) => return Err(error.into()),
            Err(_) => bail!("{server} did not answer as a previewd does"),
        }
    }
    let bytes = Box::pin(answer.bytes_stream().map_err(std::io::Error::other));
    Ok(BufReader::new(StreamReader::new(bytes)).lines())
}

/// Whom this process speaks for: the token in `PREVIEWD_TOKEN`, else whoever started it.
pub async fn identity(config: &Config, store: &Store, interface: Interface) -> anyhow::Result<Identity> {
    let identity = match std::env::var(TOKEN_VARIABLE) {
        Ok(token) => {
            let token = SecretString::from(token);
            let authenticated =
                app::authenticator(config, store, app::teams(config))?.authenticate(token.expose_secret()).await;
            authenticated.with_context(|| format!("cannot speak for the token in {TOKEN_VARIABLE}"))?
        }
        Err(_) => Identity::local_operator(),
    };
    Ok(identity.from_origin(interface))
}

/// A repository and a number, of an environment that is named by its pull request.
pub fn pull_request(text: &str) -> Result<(String, i64), String> {
    match text.parse() {
        Ok(EnvironmentReference::PullRequest { repository, number }) => Ok((repository.to_string(), number)),
        Ok(EnvironmentReference::IdOrNamespace(_)) | Err(_) => Err("must be owner/name#number".to_owned()),
    }
}

/// What scripts can tell apart: 1 is everything else, 2 wrong arguments.
pub fn exit_code(error: &ServiceError) -> ExitCode {
    ExitCode::from(match error.code {
        ErrorCode::Unauthorized | ErrorCode::InvalidInput | ErrorCode::StaleTarget => 3,
        ErrorCode::NotFound => 4,
        ErrorCode::ServerError => 1,
    })
}
