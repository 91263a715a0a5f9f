//! Signed deliveries, each on disk before it is answered.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use diesel::{Connection, RunQueryDsl, dsl::sql, sql_types::BigInt, sqlite::SqliteConnection};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use xtask::postgres::Postgres;

use super::{
    figure::Figure,
    ground::Ground,
    load::{Blocks, Connections, Limits},
    memory::megabytes,
    pull_requests::{PullRequests, Signed, is_recorded},
    receiver::Receiver,
};

const PULL_REQUESTS: u64 = 200;
/// A block: each pull request is pushed to so often.
const PUSHES: u64 = 2;
const BLOCKS: u64 = 25;
/// No further block after this much time in blocks, for each database.
const ENOUGH: Duration = Duration::from_secs(5);
/// Short enough for a dozen blocks, however slow the machine is.
const BLOCK_TIME: Duration = Duration::from_millis(400);
/// Every pull request has to be opened before it is pushed to.
const WARM_UP_TIME: Duration = Duration::from_secs(120);
const ROWS: &str = "(SELECT count(*) FROM deliveries)";

/// A server, and what was sent to it.
struct Database {
    name: &'static str,
    url: String,
    server: Receiver,
    connections: Connections,
    host: String,
    /// Every 200, those of the warm-up too.
    answered: usize,
    blocks: Blocks,
}

impl Database {
    async fn start(ground: &Ground, name: &'static str, url: String) -> Result<Self> {
        let server = Receiver::start(ground, &format!("webhooks-{name}"), &url).await?;
        let connections = Connections::open(server.address).await?;
        let host = server.host();
        Ok(Self { name, url, server, connections, host, answered: 0, blocks: Blocks::default() })
    }

    async fn send(&mut self, deliveries: &[Signed], is_warm_up: bool) -> Result<()> {
        let limits = Limits { requests: deliveries.len(), time: if is_warm_up { WARM_UP_TIME } else { BLOCK_TIME } };
        let run = self.connections.run(limits, |number| deliveries[number].request(&self.host), is_recorded);
        let block = run.await.with_context(|| format!("webhooks to {}", self.name))?;
        self.answered += block.latencies.len();
        if !is_warm_up {
            self.blocks.0.push(block);
        }
        Ok(())
    }

    /// Counts what was answered against what was stored.
    async fn count_rows(&self) -> Result<()> {
        let rows = match self.url.strip_prefix("sqlite:") {
            Some(path) => {
                diesel::select(sql::<BigInt>(ROWS)).get_result::<i64>(&mut SqliteConnection::establish(path)?)?
            }
            None => {
                let mut connection = AsyncPgConnection::establish(&self.url).await?;
                let query = diesel::select(sql::<BigInt>(ROWS));
                diesel_async::RunQueryDsl::get_result::<i64>(query, &mut connection).await?
            }
        };
        let answered = i64::try_from(self.answered)?;
        ensure!(
            rows == answered,
            "{}: {answered} deliveries were answered with 200, and {rows} rows are there",
            self.name
        );
        Ok(())
    }
}

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let examples = PullRequests::new()?;
    let opened: Vec<Signed> = (1..=PULL_REQUESTS).map(|number| examples.signed(number, 0)).collect();
    let size = opened.first().map_or(0, Signed::size);
    let flushes = flushes_a_second(ground)?;

    let mut databases = vec![Database::start(ground, "SQLite", ground.sqlite("webhooks.db")).await?];
    // Started on this thread: it ends with the thread that started it.
    let postgres = Postgres::start();
    let mut missing = String::new();
    match &postgres {
        Ok(server) => {
            databases.push(Database::start(ground, "PostgreSQL", format!("{}/postgres", server.url())).await?);
        }
        Err(error) => missing = format!("; PostgreSQL was not measured: {error:#}"),
    }

    for database in &mut databases {
        database.send(&opened, true).await?;
    }
    for block in 0..BLOCKS {
        let pushes = (1 + block * PUSHES)..=((block + 1) * PUSHES);
        let wants_more = |database: &Database| database.blocks.seconds() < ENOUGH.as_secs_f64();
        if !databases.iter().any(wants_more) {
            break;
        }
        let numbers = |push| (1..=PULL_REQUESTS).map(move |number| (number, push));
        let deliveries: Vec<Signed> =
            pushes.flat_map(numbers).map(|(number, push)| examples.signed(number, push)).collect();
        for database in databases.iter_mut().filter(|database| wants_more(database)) {
            database.send(&deliveries, false).await?;
        }
    }

    let mut figures = Vec::new();
    for database in databases {
        database.count_rows().await?;
        let resident = megabytes(database.server.id()?, "VmRSS")?;
        let [rate, p50, p99] = database.blocks.figures(&format!("durable webhooks, {}", database.name));
        let note = format!("{}; {size} bytes; every 200 has its row; {resident:.0} MB resident after", rate.note);
        if database.name == "SQLite" {
            let note =
                format!("{note}; the disk: {flushes:.0} fdatasync/s; Probot (npm), nothing stored: 670-1240{missing}");
            figures.push(rate.at_least(1500.0).note(note));
            figures.extend([p50, p99.note("Probot (npm): 63-171")]);
        } else {
            figures.push(rate.note(format!("{note}; the server runs with fsync off")));
            figures.extend([p50, p99]);
        }
        database.server.stop().await?;
    }
    Ok(figures)
}

/// How often this disk takes 4 KiB for good, one write after the other.
fn flushes_a_second(ground: &Ground) -> Result<f64> {
    const FOR: Duration = Duration::from_millis(500);
    let mut file = File::create(ground.path("flushes"))?;
    let (began, mut flushes) = (Instant::now(), 0);
    while began.elapsed() < FOR {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        flushes += 1;
    }
    Ok(f64::from(flushes) / began.elapsed().as_secs_f64())
}
