//! Removing what a cluster leaves on the machine: after its end, and at the next start for owners that were killed.
//!
//! There is little to remove. A node lives in namespaces of its own, so the kernel itself ends its containers, shims,
//! mounts, bridge, firewall rules and pod networks with the node's first process.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, umount2};

use super::process::{end_recorded_processes, kill_process, run};

/// How long killed processes may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// The machine's end of the link to the node of a slot.
pub(super) fn link_name(slot: u8) -> String {
    format!("previewd{slot}")
}

/// The control group of everything in the pods of a slot's node, below each hierarchy's root.
pub(super) fn cgroup_name(slot: u8) -> String {
    format!("previewd-{slot}")
}

/// Ends and removes everything of a slot whose owner is gone, its folder last.
///
/// # Errors
/// If processes or control groups are still there after 20 s, or the folder cannot be removed.
pub(super) fn clean(slot: u8, directory: &Path) -> Result<()> {
    end_recorded_processes(directory);
    remove_cgroups(slot)?;
    if Path::new("/sys/class/net").join(link_name(slot)).exists() {
        // The kernel may be removing it just now, with the node's network.
        let _ = run(Command::new("ip").args(["link", "delete", &link_name(slot)]));
    }
    unmount_below(directory)?;
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))
}

/// The mount points of the control group hierarchies: one with version 2, one per controller with version 1.
pub(super) fn cgroup_hierarchies() -> Result<Vec<PathBuf>> {
    Ok(mounts()?
        .into_iter()
        .filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2")
        .map(|m| m.point)
        .collect())
}

fn remove_cgroups(slot: u8) -> Result<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    for hierarchy in cgroup_hierarchies()? {
        let top = hierarchy.join(cgroup_name(slot));
        while !remove_cgroup_tree(&top) {
            ensure!(Instant::now() < deadline, "control group {} still has processes after 20 s", top.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// False while something in it is still ending.
fn remove_cgroup_tree(top: &Path) -> bool {
    let mut found = Vec::new();
    let mut unread = VecDeque::from([top.to_path_buf()]);
    while let Some(group) = unread.pop_front() {
        let Ok(entries) = fs::read_dir(&group) else { continue };
        unread.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        found.push(group);
    }
    // Parents come before their children.
    for group in found.iter().rev() {
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        members.lines().filter_map(|pid| pid.parse().ok()).for_each(kill_process);
        let _ = fs::remove_dir(group);
    }
    !top.exists()
}

fn unmount_below(directory: &Path) -> Result<()> {
    // The latest mount first, since it may lie on an earlier one.
    for mount in mounts()?.iter().rev().filter(|mount| mount.point.starts_with(directory)) {
        umount2(&mount.point, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", mount.point.display()))?;
    }
    Ok(())
}

struct Mount {
    point: PathBuf,
    kind: String,
}

fn mounts() -> Result<Vec<Mount>> {
    let table = fs::read_to_string("/proc/self/mounts").context("cannot read the table of mounts")?;
    Ok(table
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
            Some(Mount { point: PathBuf::from(point), kind: kind.to_string() })
        })
        .collect())
}
