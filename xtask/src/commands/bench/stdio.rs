//! An MCP client over stdio by hand: lines of JSON on two pipes, and nothing that takes time of its own.

use std::{path::Path, process::Stdio, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};
use xtask::previewd;

/// A running `previewd mcp`.
pub struct Session {
    child: Child,
    /// When the process was asked for.
    pub began: Instant,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Session {
    pub fn start(config: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = previewd::command(config)?;
        command.arg("mcp").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().context("cannot start previewd")?;
        let requests = child.stdin.take().context("previewd has no input")?;
        let answers = BufReader::new(child.stdout.take().context("previewd has no output")?).lines();
        Ok(Self { child, began, requests, answers })
    }

    pub async fn initialize(&mut self) -> Result<()> {
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "bench", "version": "1" } });
        self.ask("initialize", params).await?;
        Ok(())
    }

    /// The answer to `tools/list`, as it came. Tells first that initialization is over.
    pub async fn list_tools(&mut self) -> Result<String> {
        self.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        self.ask("tools/list", json!({})).await
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<String> {
        self.write(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await?;
        let answer = self.answers.next_line().await?.with_context(|| format!("previewd ended before {method}"))?;
        ensure!(answer.contains("\"result\":"), "{method} was answered with {answer}");
        Ok(answer)
    }

    async fn write(&mut self, message: &Value) -> Result<()> {
        self.requests.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.requests.flush().await?)
    }

    /// The process, while it runs.
    pub fn id(&self) -> Result<u32> {
        self.child.id().context("previewd ended")
    }

    /// Hangs up, and waits for the process to end.
    pub async fn end(self) -> Result<()> {
        let Self { mut child, began: _, requests, answers: _ } = self;
        drop(requests);
        child.wait().await?;
        Ok(())
    }
}
