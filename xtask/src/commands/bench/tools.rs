//! How much of an agent's context the tools take.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{figure::Figure, ground::Ground, stdio::Session};

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let config = ground.configure("tools", &ground.sqlite("tools.db"), 0)?;
    let mut session = Session::start(&config, &["--no-engine"])?;
    session.initialize().await?;
    let answer = session.list_tools().await?;
    session.end().await?;

    let parsed: Value = serde_json::from_str(&answer)?;
    let tools = &parsed["result"]["tools"];
    let note = format!("the whole answer: {}; kubernetes-mcp-server 0.0.67 (npm): 24.4 KB", answer.len());
    let mut figures = vec![Figure::new("tools/list", bytes(tools), "bytes").at_most(8192.0).note(note)];
    for tool in tools.as_array().context("tools/list answered with no tools")? {
        let name = tool["name"].as_str().context("a tool has no name")?;
        figures.push(Figure::new(format!("tool {name}"), bytes(tool), "bytes").at_most(1228.0));
    }
    Ok(figures)
}

fn bytes(value: &Value) -> f64 {
    value.to_string().len() as f64
}
