//! The Model Context Protocol: ten tools over stdio and streamable HTTP, from one handler, for clients of every
//! revision up to 2026-07-28. Nothing is kept between two requests, so any replica answers any of them.

mod check_recipe;
mod create;
mod delete;
mod explain;
mod get;
mod keep;
mod list;
mod logs;
mod retry;
mod schema;
mod server;
mod tool;
mod wait;

use rmcp::{
    ServiceExt,
    model::{JsonObject, Tool},
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    identity::Identity,
    recipe::LARGEST_FILES,
    service::{
        EnvironmentDetail, EnvironmentList, EnvironmentLogs, EnvironmentSummary, Explanation, RecipeVerdict, Service,
        ServiceError, Waited,
    },
};
pub use server::Server;

/// The tools as `tools/list` shows them, in its order.
pub fn tools() -> Vec<Tool> {
    server::router().list_all()
}

/// The whole schema of each tool's answer, by the tool's name, and of the error that all of them share (`error`).
/// `--output json` of the command line is the same.
pub fn answer_schemas() -> [(&'static str, JsonObject); 11] {
    [
        (list::NAME, schema::answer::<EnvironmentList>()),
        (get::NAME, schema::answer::<EnvironmentDetail>()),
        (logs::NAME, schema::answer::<EnvironmentLogs>()),
        (delete::NAME, schema::answer::<EnvironmentSummary>()),
        (retry::NAME, schema::answer::<EnvironmentSummary>()),
        (create::NAME, schema::answer::<EnvironmentSummary>()),
        (keep::NAME, schema::answer::<EnvironmentSummary>()),
        (explain::NAME, schema::answer::<Explanation>()),
        (wait::NAME, schema::answer::<Waited>()),
        (check_recipe::NAME, schema::answer::<RecipeVerdict>()),
        ("error", schema::answer::<ServiceError>()),
    ]
}

/// Serves one client on this process's stdin and stdout, as `identity`, until it goes away. Nothing else may write to
/// stdout meanwhile.
pub async fn serve_stdio(service: Service, identity: Identity) -> anyhow::Result<()> {
    serve(service, identity, rmcp::transport::stdio()).await
}

/// Serves one client on any pair of byte streams, as `identity`, until it goes away.
pub async fn serve<R, W>(service: Service, identity: Identity, streams: (R, W)) -> anyhow::Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    use anyhow::Context;
    let server = Server::of(service, identity);
    let running = match server.serve(streams).await {
        Ok(running) => running,
        // A client that goes away before its first request has asked for nothing.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error).context("cannot begin to serve MCP"),
    };
    running.waiting().await.context("cannot go on serving MCP")?;
    Ok(())
}

/// The files that a recipe may name, as JSON has them; every other call is short. Whoever is unknown is turned away before
/// a byte of it is read.
const LONGEST_REQUEST: usize = LARGEST_FILES + LARGEST_FILES / 2;

/// The HTTP service for `/mcp`. Whoever calls is the [`Identity`] among the request's extensions. `allowed_hosts` as in
/// the `Host` header, `allowed_origins` with scheme and port (`:*` for any).
///
/// There are no sessions: rmcp does not bind them to an identity, and no tool needs one.
pub fn http_service(
    service: Service,
    allowed_hosts: Vec<String>,
    allowed_origins: Vec<String>,
) -> StreamableHttpService<Server, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(allowed_hosts)
        .with_allowed_origins(allowed_origins)
        .enforce_origin_validation()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(LONGEST_REQUEST);
    let server = Server::of_requests(service);
    StreamableHttpService::new(move || Ok(server.clone()), NeverSessionManager::default().into(), config)
}
