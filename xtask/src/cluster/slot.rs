//! What keeps clusters apart: each holds one numbered slot, and with it a folder, a port and a range of addresses.
//!
//! The slot's lock file is held for as long as its owner's process lives, whatever ends it. Whoever gets the lock
//! therefore knows that the folder's owner is dead, and may clean it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::leftovers;

/// How many clusters can run side by side.
const SLOTS: u8 = 100;
/// Below the range from which Linux gives out ports by itself (32768), so that no outgoing connection takes one.
const FIRST_PORT: u16 = 21_000;
/// Slot N has 10.(100 + N).0.0/16.
const FIRST_NETWORK: u8 = 100;

/// A claim on one slot, given back when dropped or when the process dies; or another process' one.
pub(super) struct Slot {
    pub number: u8,
    pub directory: PathBuf,
    /// None: another process has it.
    lock: Option<File>,
}

/// What a running cluster says of itself, for other processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunningCluster {
    pub name: String,
    /// The process whose end ends the cluster.
    pub owner: u32,
    pub kubeconfig: PathBuf,
    /// The node's containerd; none where the cluster has no node.
    pub containerd: Option<PathBuf>,
}

impl Slot {
    /// Takes a free slot, and cleans what dead owners left in any of them.
    pub fn take(with_network: bool) -> Result<Slot> {
        let root = state_directory()?;
        let routes = if with_network { occupied_networks()? } else { Vec::new() };
        let mut taken = None;
        for number in 0..SLOTS {
            let directory = root.join(number.to_string());
            if taken.is_some() && !directory.exists() {
                continue;
            }
            let Some(lock) = try_lock(&root, number)? else { continue };
            if directory.exists() {
                leftovers::clean(number, &directory)?;
            }
            if taken.is_none() && port_is_free(number) && !overlaps(&routes, number) {
                DirBuilder::new().mode(0o700).create(&directory)?;
                fs::create_dir(directory.join("logs"))?;
                taken = Some(Slot { number, directory, lock: Some(lock) });
            }
        }
        taken.with_context(|| format!("all {SLOTS} slots for local clusters are taken; see {}", root.display()))
    }

    /// The slot of another process, by its folder.
    pub fn of_another(directory: &Path) -> Result<Slot> {
        let number = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
        let number = number.with_context(|| format!("{} is no cluster's folder", directory.display()))?;
        Ok(Slot { number, directory: directory.to_owned(), lock: None })
    }

    pub fn is_ours(&self) -> bool {
        self.lock.is_some()
    }

    /// The API server's port.
    pub fn port(&self) -> u16 {
        port(self.number)
    }

    /// The pods' range, as a CIDR.
    pub fn pods(&self) -> String {
        format!("{}/18", self.address(0, 0))
    }

    /// The Services' range, as a CIDR.
    pub fn services(&self) -> String {
        format!("{}/18", self.address(64, 0))
    }

    /// The first address of the Services' range, which is the API server's.
    pub fn first_service(&self) -> Ipv4Addr {
        self.address(64, 1)
    }

    /// Pods and Services together, as the machine routes them to the node.
    pub fn routed(&self) -> String {
        format!("{}/17", self.address(0, 0))
    }

    /// The node's address, on the bridge of its pods.
    pub fn node(&self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The machine's end of its link to the node.
    pub fn host(&self) -> Ipv4Addr {
        self.address(255, 1)
    }

    /// The node's end of that link.
    pub fn uplink(&self) -> Ipv4Addr {
        self.address(255, 2)
    }

    fn address(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, FIRST_NETWORK + self.number, third, fourth)
    }

    /// Tells other processes that the cluster is up.
    pub fn announce(&self, cluster: &RunningCluster) -> Result<()> {
        Ok(fs::write(self.directory.join("cluster.json"), serde_json::to_vec_pretty(cluster)?)?)
    }
}

/// What the cluster of a folder said of itself.
pub(super) fn announced(directory: &Path) -> Result<RunningCluster> {
    let file = directory.join("cluster.json");
    let text = fs::read(&file).with_context(|| format!("no cluster is up in {}", directory.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not of its form", file.display()))
}

/// Cleans what clusters whose owners are gone left behind, as the next start would.
///
/// # Errors
/// If something of it cannot be removed.
pub fn clean_leftovers() -> Result<()> {
    let root = state_directory()?;
    for number in 0..SLOTS {
        let directory = root.join(number.to_string());
        if directory.exists()
            && let Some(_lock) = try_lock(&root, number)?
        {
            leftovers::clean(number, &directory)?;
        }
    }
    Ok(())
}

/// The clusters of this user that are up, of every process.
pub fn running_clusters() -> Result<Vec<RunningCluster>> {
    let root = state_directory()?;
    let mut found = Vec::new();
    for number in 0..SLOTS {
        let directory = root.join(number.to_string());
        // A slot whose lock is to be had has a dead owner.
        if !directory.exists() || try_lock(&root, number)?.is_some() {
            continue;
        }
        // One that is only starting, or just ending, has not announced itself.
        if directory.join("cluster.json").exists() {
            found.push(announced(&directory)?);
        }
    }
    Ok(found)
}

/// Where all clusters of this user keep what they have: one folder per user, since the slots of root hold what others must not read.
pub fn state_directory() -> Result<PathBuf> {
    let user = Uid::effective();
    let root = PathBuf::from(format!("/var/tmp/previewd-cluster-{user}"));
    if let Err(error) = DirBuilder::new().mode(0o700).create(&root)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| format!("cannot create {}", root.display()));
    }
    // Anybody may create names in /var/tmp, and this one can be guessed.
    let found = fs::symlink_metadata(&root)?;
    ensure!(
        found.is_dir() && found.uid() == user.as_raw() && found.mode() & 0o077 == 0,
        "{} must be a folder of user {user} that nobody else can open; remove it and try again",
        root.display()
    );
    Ok(root)
}

fn try_lock(root: &Path, number: u8) -> Result<Option<File>> {
    let path = root.join(format!("{number}.lock"));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
    }
}

fn port(number: u8) -> u16 {
    FIRST_PORT + u16::from(number)
}

fn port_is_free(number: u8) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port(number))).is_ok()
}

/// First address and prefix length of every network this machine has a route to.
fn occupied_networks() -> Result<Vec<(u32, u32)>> {
    let routes = super::process::run(std::process::Command::new("ip").args(["-4", "route", "show", "table", "all"]))?;
    Ok(routes
        .lines()
        .flat_map(|line| line.split_whitespace().take(2))
        .filter_map(|word| {
            let (address, length) = word.split_once('/').unwrap_or((word, "32"));
            Some((u32::from(address.parse::<Ipv4Addr>().ok()?), length.parse().ok()?))
        })
        .collect())
}

fn overlaps(routes: &[(u32, u32)], number: u8) -> bool {
    let ours = u32::from(Ipv4Addr::new(10, FIRST_NETWORK + number, 0, 0));
    routes.iter().any(|&(network, length)| {
        // Two networks overlap where they agree on the shorter of their prefixes.
        let mask = u32::MAX.checked_shl(32 - length.min(16)).unwrap_or(0);
        length > 0 && network & mask == ours & mask
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_holds_or_lies_in_a_slots_range_overlaps() {
        let route = |text: &str, length| (u32::from(text.parse::<Ipv4Addr>().unwrap()), length);
        for (routes, expected) in [
            (route("10.103.4.0", 24), true),
            (route("10.103.255.1", 32), true),
            (route("10.0.0.0", 8), true),
            (route("10.104.0.0", 16), false),
            (route("192.168.0.0", 16), false),
            (route("0.0.0.0", 0), false),
        ] {
            assert_eq!(overlaps(&[routes], 3), expected, "{routes:?}");
        }
    }
}
