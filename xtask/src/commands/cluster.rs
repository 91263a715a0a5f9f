//! `cargo xtask cluster`: a local cluster for people.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use xtask::cluster::{self, LocalCluster, Options, RunningCluster, running_clusters};

/// How long a cluster may take to end before its owner is killed.
const DOWN_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Start a cluster, and end it with Ctrl-C.
    Up {
        #[command(flatten)]
        named: Named,
        /// Only API server and controllers: no root needed, and no pods run.
        #[arg(long)]
        no_node: bool,
        /// Leave it running in the background once it is up.
        #[arg(long)]
        detach: bool,
    },
    /// Build the programs that clusters and tests need, where the cache lacks them.
    Build,
    /// End a running cluster.
    Down(Named),
    /// Print the path of a running cluster's kubeconfig.
    Kubeconfig(Named),
    /// Give an image to a running cluster's node.
    Import {
        #[command(flatten)]
        named: Named,
        /// An archive of `docker save` or of the OCI layout.
        #[arg(required_unless_present = "sample", conflicts_with = "sample")]
        archive: Option<PathBuf>,
        /// The sample application's image for this commit.
        #[arg(long, value_name = "COMMIT")]
        sample: Option<String>,
    },
}

#[derive(Args)]
struct Named {
    /// The cluster's name.
    #[arg(long, default_value = "dev")]
    name: String,
}

impl ClusterArgs {
    pub async fn run(self) -> Result<()> {
        match self.command {
            ClusterCommand::Up { named, no_node, detach: false } => up(named.name, !no_node).await,
            ClusterCommand::Up { named, no_node, detach: true } => up_detached(&named.name, no_node).await,
            ClusterCommand::Build => tokio::task::spawn_blocking(cluster::build_programs).await?,
            ClusterCommand::Down(named) => down(&named.name).await,
            ClusterCommand::Kubeconfig(named) => {
                println!("{}", running(&named.name)?.kubeconfig.display());
                Ok(())
            }
            ClusterCommand::Import { named, archive, sample } => import(&named.name, archive.as_deref(), sample).await,
        }
    }
}

async fn up(name: String, node: bool) -> Result<()> {
    ensure!(find(&name)?.is_none(), "there is a cluster named {name} already; `cargo xtask cluster down` ends it");
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let started = Instant::now();
    let options = if node { Options::with_node(&name) } else { Options::api_only(&name) };
    let start = async {
        tokio::select! {
            cluster = LocalCluster::start(options) => Some(cluster),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        }
    };
    // By here an interrupted start was dropped, which removes what there was of it. Only a build may still run, and
    // leaving as usual would wait for its end.
    let Some(cluster) = start.await else { std::process::exit(130) };
    let cluster = cluster?;
    eprintln!("cluster {name} is up after {:.1} s", started.elapsed().as_secs_f32());
    eprintln!("export KUBECONFIG={}", cluster.kubeconfig().display());
    let failed = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            () = sleep(Duration::from_secs(1)) => if let Err(error) = cluster.check() { break Err(error) },
        }
    };
    cluster.shutdown().await?;
    failed
}

async fn up_detached(name: &str, no_node: bool) -> Result<()> {
    ensure!(find(name)?.is_none(), "there is a cluster named {name} already; `cargo xtask cluster down` ends it");
    let log = cluster::state_directory()?.join(format!("{name}.log"));
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    // A session of its own, so that closing the terminal does not end it.
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).args(["cluster", "up", "--name", name]);
    if no_node {
        command.arg("--no-node");
    }
    let mut owner = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start the cluster in the background")?;
    loop {
        if let Some(cluster) = find(name)? {
            println!("{}", cluster.kubeconfig.display());
            return Ok(());
        }
        if let Some(status) = owner.try_wait()? {
            bail!("the cluster did not start ({status}):\n{}", std::fs::read_to_string(&log)?);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn down(name: &str) -> Result<()> {
    let cluster = running(name)?;
    let owner = Pid::from_raw(i32::try_from(cluster.owner)?);
    kill(owner, Signal::SIGTERM).with_context(|| format!("cannot end process {owner}, which runs {name}"))?;
    let deadline = Instant::now() + DOWN_TIMEOUT;
    while find(name)?.is_some_and(|found| found.owner == cluster.owner) {
        if Instant::now() > deadline {
            // The next start removes what is left then.
            kill(owner, Signal::SIGKILL)?;
            bail!("{name} did not end within {} s and was killed", DOWN_TIMEOUT.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn import(name: &str, archive: Option<&Path>, sample: Option<String>) -> Result<()> {
    let cluster = running(name)?;
    let containerd = cluster.containerd.with_context(|| format!("{name} has no node to import into"))?;
    if let Some(archive) = archive {
        return cluster::import_archive(&containerd, archive).await;
    }
    let commit = sample.context("give an archive or --sample COMMIT")?;
    let image = tokio::task::spawn_blocking(move || cluster::sample_image(&commit)).await??;
    cluster::import(&containerd, &image).await?;
    println!("{}", image.name);
    Ok(())
}

fn find(name: &str) -> Result<Option<RunningCluster>> {
    Ok(running_clusters()?.into_iter().find(|cluster| cluster.name == name))
}

fn running(name: &str) -> Result<RunningCluster> {
    find(name)?.with_context(|| format!("no cluster named {name} is running; `cargo xtask cluster up` starts one"))
}
