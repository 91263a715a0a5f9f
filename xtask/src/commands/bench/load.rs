//! Load over a few keep-alive connections, in blocks that end by count and by time.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::figure::{Figure, median, quantile};

pub const CONNECTIONS: usize = 8;

pub type Call = Request<Full<Bytes>>;

/// Keep-alive connections to one server.
pub struct Connections(Vec<SendRequest<Full<Bytes>>>);

/// When a block ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub requests: usize,
    pub time: Duration,
}

impl Connections {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let connections = (0..CONNECTIONS).map(|_| async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            // An error of it shows in the request.
            tokio::spawn(connection);
            anyhow::Ok(sender)
        });
        Ok(Self(try_join_all(connections).await?))
    }

    /// Sends the requests that `call` gives for 0, 1, 2 …, each connection one at a time. `accepts`: whether a 200's
    /// body is the answer that was asked for; anything else ends the run.
    pub async fn run(
        &mut self,
        limits: Limits,
        call: impl Fn(usize) -> Result<Call>,
        accepts: impl Fn(&str) -> bool,
    ) -> Result<Block> {
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let (next, call, accepts) = (&next, &call, &accepts);
        let workers = self.0.iter_mut().map(|sender| async move {
            let mut latencies = Vec::new();
            while began.elapsed() < limits.time {
                let number = next.fetch_add(1, Relaxed);
                if number >= limits.requests {
                    break;
                }
                let request = call(number)?;
                let asked = Instant::now();
                sender.ready().await?;
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                latencies.push(asked.elapsed().as_secs_f64() * 1e3);
                let body = str::from_utf8(&body)?;
                ensure!(head.status == 200 && accepts(body), "answered with {}: {body}", head.status);
            }
            anyhow::Ok(latencies)
        });
        let latencies = try_join_all(workers).await?.concat();
        Ok(Block { seconds: began.elapsed().as_secs_f64(), latencies })
    }
}

/// What one block took.
#[derive(Debug)]
pub struct Block {
    pub seconds: f64,
    /// Milliseconds of each request.
    pub latencies: Vec<f64>,
}

/// Blocks of the same load.
#[derive(Debug, Default)]
pub struct Blocks(pub Vec<Block>);

impl Blocks {
    pub fn seconds(&self) -> f64 {
        self.0.iter().map(|block| block.seconds).sum()
    }

    /// Requests a second in each block.
    pub fn rates(&self) -> Vec<f64> {
        self.0.iter().map(|block| block.latencies.len() as f64 / block.seconds).collect()
    }

    /// The median of the blocks' rates, and p50 and p99 over all requests, each p99 of a block being a sample.
    pub fn figures(&self, name: &str) -> [Figure; 3] {
        let rates = self.rates();
        let all: Vec<f64> = self.0.iter().flat_map(|block| block.latencies.iter().copied()).collect();
        let of_blocks = |share| -> Vec<f64> { self.0.iter().map(|block| quantile(&block.latencies, share)).collect() };
        let latency = |what: &str, share| {
            Figure::new(format!("{name}, {what}"), quantile(&all, share), "ms").samples(&of_blocks(share))
        };
        let note = format!("{} in {} blocks, {CONNECTIONS} connections", all.len(), self.0.len());
        let rate = Figure::new(name, median(&rates), "1/s").samples(&rates).note(note);
        [rate, latency("p50", 0.5), latency("p99", 0.99)]
    }
}
