//! One file per subcommand.

mod bench;
mod cluster;
mod demo;
mod image;
mod simulate;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The developer's helper.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    /// A real Kubernetes cluster on this machine.
    Cluster(cluster::ClusterArgs),
    Demo(demo::DemoArgs),
    Image(image::ImageArgs),
    /// Random stories of the engine, each told by its seed.
    Simulate(simulate::SimulateArgs),
    /// Run every test, with a PostgreSQL beside them.
    Test(test::TestArgs),
}

impl Cli {
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Bench(args) => args.run().await,
            Command::Cluster(args) => args.run().await,
            Command::Demo(args) => args.run().await,
            Command::Image(args) => args.run().await,
            Command::Simulate(args) => args.run(),
            Command::Test(args) => args.run().await,
        }
    }
}
