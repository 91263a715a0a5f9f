//! What the machine itself must have, said in one error with the commands that get it. As root on Debian and its kin
//! the packages are installed instead.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::process::{run, search_path};
use super::slot::state_directory;

/// A file or command that is needed, and the Debian package that has it.
struct Tool {
    needs: &'static str,
    package: &'static str,
}

const fn tool(needs: &'static str, package: &'static str) -> Tool {
    Tool { needs, package }
}

const FOR_ANY_CLUSTER: &[Tool] = &[tool("setpriv", "util-linux")];

const FOR_A_NODE: &[Tool] = &[
    tool("unshare", "util-linux"),
    tool("nsenter", "util-linux"),
    tool("mount", "mount"),
    tool("ip", "iproute2"),
    tool("nft", "nftables"),
    tool("containerd", "containerd"),
    tool("runc", "runc"),
    tool("/bin/busybox", "busybox-static"),
    tool("/usr/lib/cni/bridge", "containernetworking-plugins"),
];

/// What loads pages as people do.
const BROWSER: &[Tool] = &[tool("chromium", "chromium"), tool("chromedriver", "chromium-driver"), tool("npm", "npm")];

/// Where the official archive of Go is unpacked to, often without being in PATH.
const GO_OUTSIDE_PATH: &str = "/usr/local/go/bin/go";

/// Makes sure that a cluster, with or without a node, can run here. Blocks while packages are installed.
///
/// # Errors
/// One that names everything missing, and what to run for it.
pub(crate) fn ensure_machine(node: bool) -> Result<()> {
    let mut problems = Vec::new();
    if std::env::consts::OS != "linux" {
        bail!("the local cluster needs Linux; elsewhere give a context of any other cluster, such as one of kind");
    }
    let is_root = Uid::effective().is_root();
    if node && !is_root {
        problems.push("root, for the node's containers: run it again through `sudo -E`".to_string());
    }
    let for_a_node = if node { FOR_A_NODE } else { &[] };
    if let Err(missing) = ensure_tools(&[FOR_ANY_CLUSTER, for_a_node])? {
        problems.push(missing);
    }
    if !problems.is_empty() {
        bail!("the local cluster needs\n  - {}", problems.join("\n  - "));
    }
    Ok(())
}

/// The command of a browser, installed where it is missing and can be. Blocks meanwhile.
///
/// # Errors
/// One that says what to run for it.
pub(crate) fn ensure_browser() -> Result<PathBuf> {
    if let Err(missing) = ensure_tools(&[BROWSER])? {
        bail!("a browser is needed: {missing}");
    }
    find(BROWSER[0].needs).context("chromium is installed, and is not in PATH")
}

/// Installs the packages of what is missing where that can be done. What then still is missing is said, with the commands
/// that get it.
fn ensure_tools(tools: &[&'static [Tool]]) -> Result<std::result::Result<(), String>> {
    let mut packages = missing_packages(tools);
    if !packages.is_empty() && Uid::effective().is_root() && find("apt-get").is_some() {
        // apt-get fails where another one is at work.
        let lock = File::create(state_directory()?.join("install.lock"))?;
        lock.lock().context("cannot lock the installation of packages")?;
        packages = missing_packages(tools);
        if !packages.is_empty() {
            install(&packages)?;
            packages = missing_packages(tools);
        }
    }
    if packages.is_empty() {
        return Ok(Ok(()));
    }
    let names = packages.join(" ");
    Ok(Err(format!("the packages {names}: `apt-get update && apt-get install {names}`")))
}

/// The Go command, for building the cluster's programs.
pub(super) fn find_go() -> Result<PathBuf> {
    let installed = Path::new(GO_OUTSIDE_PATH);
    if let Some(go) = find("go").or_else(|| installed.exists().then(|| installed.to_path_buf())) {
        return Ok(go);
    }
    bail!(
        "the local cluster's programs are built with Go, and there is none in PATH or /usr/local/go: \
         `apt-get install golang-go` where that is 1.21 or newer (it fetches the version it needs), \
         else unpack Go's official archive into /usr/local"
    )
}

fn missing_packages(tools: &[&'static [Tool]]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        tools.iter().copied().flatten().filter(|tool| find(tool.needs).is_none()).map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

pub(crate) fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(" "));
    // A package's questions would wait for ever where nobody sees them.
    let apt = |args: &[&str]| run(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "--quiet"])?;
    let mut args = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    args.extend(packages);
    apt(&args).map(drop)
}

/// The file of a command in PATH or the system's own directories, or of an absolute path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    // Joining an absolute path gives that path.
    search_path().split(':').map(|directory| Path::new(directory).join(name)).find(|file| file.is_file())
}
