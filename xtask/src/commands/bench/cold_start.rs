//! From starting `previewd mcp` to its first answers.

use std::{fs, path::Path};

use anyhow::Result;

use super::{
    figure::{Figure, median, quantile},
    ground::Ground,
    stdio::Session,
};

const RUNS: usize = 24;

/// Milliseconds to the answers to `initialize` and to `tools/list`, one of each a run.
#[derive(Default)]
struct Samples {
    initialize: Vec<f64>,
    tools: Vec<f64>,
}

impl Samples {
    async fn take(&mut self, config: &Path) -> Result<()> {
        let mut session = Session::start(config, &["--no-engine"])?;
        session.initialize().await?;
        self.initialize.push(session.began.elapsed().as_secs_f64() * 1e3);
        session.list_tools().await?;
        self.tools.push(session.began.elapsed().as_secs_f64() * 1e3);
        session.end().await
    }

    fn figures(&self, database: &str) -> Vec<Figure> {
        let figure = |what: &str, samples: &[f64]| {
            let p90 = quantile(samples, 0.9);
            Figure::new(format!("cold start to {what}, {database}"), median(samples), "ms")
                .samples(samples)
                .at_most(20.0)
                .note(format!("p90 {p90:.1}; {RUNS} runs over stdio"))
        };
        let tools = figure("tools/list", &self.tools);
        let note = format!("{}; kubernetes-mcp-server 0.0.67 (npm): 57 to its first answer", tools.note);
        vec![figure("initialize", &self.initialize), tools.note(note)]
    }
}

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let existing = ground.configure("existing", &ground.sqlite("existing.db"), 0)?;
    let fresh = ground.configure("fresh", &ground.sqlite("fresh.db"), 0)?;
    // Makes the database, and brings the program into memory.
    Samples::default().take(&existing).await?;
    let (mut with_existing, mut with_fresh) = (Samples::default(), Samples::default());
    for _ in 0..RUNS {
        with_existing.take(&existing).await?;
        for file in ["fresh.db", "fresh.db-wal", "fresh.db-shm"] {
            let removed = fs::remove_file(ground.path(file));
            removed.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
        with_fresh.take(&fresh).await?;
    }
    Ok([with_existing.figures("existing SQLite"), with_fresh.figures("fresh SQLite")].concat())
}
