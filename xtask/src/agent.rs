//! An agent: the official MCP client, over HTTP or over stdio.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rmcp::{
    RoleClient, ServiceExt,
    model::CallToolRequestParams,
    service::RunningService,
    transport::{
        StreamableHttpClientTransport, TokioChildProcess, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::Value;

/// A connected MCP client.
pub struct Agent {
    client: RunningService<RoleClient, ()>,
}

/// What a tool answered: its structured content.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Done(Value),
    /// A result with `isError`: code, message, retryable, next_action.
    Refused(Value),
}

impl Answer {
    /// The result, where it is none of the refusals.
    pub fn done(self) -> Result<Value> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused(error) => bail!("the tool refused: {error}"),
        }
    }

    /// The code of the refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Done(_) => None,
            Self::Refused(error) => error["code"].as_str(),
        }
    }
}

impl Agent {
    /// Connects to `url` (`http://…/mcp`) with a bearer token.
    pub async fn over_http(url: &str, token: &str) -> Result<Self> {
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
        let client = ().serve(StreamableHttpClientTransport::with_client(crate::web::plain_client(), config)).await;
        Ok(Self { client: client.with_context(|| format!("cannot speak MCP to {url}"))? })
    }

    /// Starts `previewd mcp` and connects to it. `token`: whom it speaks for; None, the local operator.
    pub async fn over_stdio(config: &Path, token: Option<&str>) -> Result<Self> {
        let mut command = crate::previewd::command(config)?;
        command.arg("mcp").env("PREVIEWD_LOG__FILTER", "warn");
        if let Some(token) = token {
            command.env("PREVIEWD_TOKEN", token);
        }
        let client = ().serve(TokioChildProcess::new(command)?).await;
        Ok(Self { client: client.context("cannot speak MCP to `previewd mcp`")? })
    }

    /// Calls a tool with `arguments`, a JSON object.
    pub async fn call(&self, tool: &'static str, arguments: Value) -> Result<Answer> {
        let Value::Object(arguments) = arguments else { bail!("arguments are an object") };
        let result = self.client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        let content = result.structured_content.with_context(|| format!("{tool} gave no structured content"))?;
        Ok(if result.is_error == Some(true) { Answer::Refused(content) } else { Answer::Done(content) })
    }

    /// The names of the tools, in the server's order.
    pub async fn tools(&self) -> Result<Vec<String>> {
        Ok(self.client.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    pub async fn close(self) -> Result<()> {
        self.client.cancel().await?;
        Ok(())
    }
}
