//! MCP calls over HTTP, with 100 environments in the database.

use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use xtask::previewd::create_token;

use super::{
    figure::{Figure, median},
    ground::{Ground, TEAM},
    load::{Blocks, Call, Connections, Limits},
    pull_requests::{PullRequests, REPOSITORY, Signed, is_recorded},
    receiver::Receiver,
};

const ENVIRONMENTS: u64 = 100;
const BLOCKS: usize = 12;
/// About five seconds of each kind in all.
const BLOCK: Limits = Limits { requests: 10_000, time: Duration::from_millis(400) };
const WARM_UP: Limits = Limits { requests: 200, time: Duration::from_secs(2) };

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// What HTTP alone costs here.
    Health,
    Ping,
    List,
    Get,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Health, Self::Ping, Self::List, Self::Get];

    fn name(self) -> &'static str {
        match self {
            Self::Health => "GET /healthz",
            Self::Ping => "ping",
            Self::List => "list_preview_environments",
            Self::Get => "get_preview_environment",
        }
    }

    fn call(self, caller: &Caller, number: usize) -> Result<Call> {
        match self {
            Self::Health => Ok(Request::get("/healthz").header("Host", &caller.host).body(Full::default())?),
            // Revision 2026-07-28 has no ping.
            Self::Ping => caller.post("2025-11-25", "ping", None, &json!({})),
            Self::List => caller.tool(self.name(), json!({})),
            Self::Get => {
                let environment = format!("{REPOSITORY}#{}", number as u64 % ENVIRONMENTS + 1);
                caller.tool(self.name(), json!({ "environment": environment }))
            }
        }
    }

    fn accepts(self, answer: &str) -> bool {
        self == Self::Health || (answer.contains("\"result\":") && !answer.contains("\"isError\":true"))
    }
}

struct Caller {
    host: String,
    authorization: String,
}

impl Caller {
    /// A call of a tool in one request, as revision 2026-07-28 has it.
    fn tool(&self, name: &str, arguments: Value) -> Result<Call> {
        const REVISION: &str = "2026-07-28";
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "name": name, "arguments": arguments, "_meta": meta });
        self.post(REVISION, "tools/call", Some(name), &params)
    }

    fn post(&self, revision: &str, method: &str, name: Option<&str>, params: &Value) -> Result<Call> {
        let mut request = Request::post("/mcp")
            .header("Host", &self.host)
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", revision);
        if let Some(name) = name {
            request = request.header("Mcp-Method", method).header("Mcp-Name", name);
        }
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        Ok(request.body(Full::new(message.to_string().into()))?)
    }
}

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let server = Receiver::start(ground, "calls", &ground.sqlite("calls.db")).await?;
    let mut connections = Connections::open(server.address).await?;
    let host = server.host();
    let examples = PullRequests::new()?;
    let opened: Vec<Signed> = (1..=ENVIRONMENTS).map(|number| examples.signed(number, 0)).collect();
    let all = Limits { requests: opened.len(), time: Duration::MAX };
    connections.run(all, |number| opened[number].request(&host), is_recorded).await?;
    let token = create_token(&server.config, "bench", "viewer", &[TEAM]).await?;
    let caller = Caller { host, authorization: format!("Bearer {token}") };

    let mut measured = Kind::ALL.map(|kind| (kind, Blocks::default()));
    for block in 0..=BLOCKS {
        for (kind, blocks) in &mut measured {
            let limits = if block == 0 { WARM_UP } else { BLOCK };
            let run = connections.run(limits, |number| kind.call(&caller, number), |answer| kind.accepts(answer));
            let done = run.await.with_context(|| kind.name())?;
            if block > 0 {
                blocks.0.push(done);
            }
        }
    }
    server.stop().await?;

    let floor = measured[0].1.rates();
    let mut figures = Vec::new();
    for (kind, blocks) in measured {
        let [rate, p50, p99] = blocks.figures(&format!("HTTP {}", kind.name()));
        let ratios: Vec<f64> = blocks.rates().iter().zip(&floor).map(|(rate, floor)| rate / floor).collect();
        let note = format!("{}; {:.2} of /healthz", rate.note, median(&ratios));
        figures.push(match kind {
            Kind::Health => rate,
            Kind::Ping => {
                let peers = "kubernetes-mcp-server 0.0.67 (npm): 4700-7100";
                rate.at_least(5000.0).note(format!("{note}; {peers}"))
            }
            Kind::List => rate.note(format!("{note}; kubernetes-mcp-server's pods list: 280-316")),
            Kind::Get => rate.note(note),
        });
        figures.extend([p50, p99]);
    }
    Ok(figures)
}
