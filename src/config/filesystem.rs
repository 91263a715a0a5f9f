//! Whether a path is on a disk of this machine. SQLite's locks and its shared memory need that: on a network
//! filesystem two writers corrupt the file (<https://sqlite.org/wal.html>, "all processes must be on the same host").

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Filesystems of other machines, as `/proc/self/mountinfo` names them; FUSE ones without `fuse.`.
const NETWORK_FILESYSTEMS: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "gcsfuse",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "rclone",
    "s3fs",
    "smb2",
    "smb3",
    "smbfs",
    "sshfs",
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is on a network filesystem ({filesystem}), where SQLite loses data; keep it on a local disk or use PostgreSQL",
    path.display()
)]
pub struct NetworkFilesystem {
    pub path: PathBuf,
    pub filesystem: String,
}

/// Refuses a database file on a network filesystem. The file need not exist yet. Where the kernel does not list its
/// mounts (not Linux), everything passes.
pub fn refuse_network_filesystem(path: &Path) -> Result<(), NetworkFilesystem> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok()).unwrap_or(absolute);
    match filesystem_of(&real, &mounts) {
        Some(filesystem) if is_network(&filesystem) => Err(NetworkFilesystem { path: path.to_owned(), filesystem }),
        _ => Ok(()),
    }
}

fn is_network(filesystem: &str) -> bool {
    NETWORK_FILESYSTEMS.contains(&filesystem.strip_prefix("fuse.").unwrap_or(filesystem))
}

/// The type of the filesystem that holds `path`, from the text of mountinfo (proc(5)): of the mounts above the path
/// the longest, and of several at one place the last, which covers the others.
fn filesystem_of(path: &Path, mountinfo: &str) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let place = PathBuf::from(unescape(mount.split(' ').nth(4)?));
        path.starts_with(&place).then(|| (place, filesystem.split(' ').next().unwrap_or_default()))
    });
    mounts.max_by_key(|(place, _)| place.components().count()).map(|(_, filesystem)| filesystem.to_owned())
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    text.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", r"\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_refused() {
        let mounts = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 21 0:40 / /home rw - nfs4 server:/home rw
41 40 254:1 / /home/local rw - xfs /dev/vdb rw
42 21 0:42 / /mnt/my\\040share rw shared:7 - cifs //server/share rw
43 21 0:43 / /mnt/ssh rw - fuse.sshfs me@host: rw
44 21 0:44 / /twice rw - nfs server:/x rw
45 44 254:2 / /twice rw - ext4 /dev/vdc rw
";
        let refused = |path: &str| is_network(&filesystem_of(Path::new(path), mounts).unwrap());
        for path in ["/home/me/previewd.db", "/mnt/my share/previewd.db", "/mnt/ssh"] {
            assert!(refused(path), "{path}");
        }
        for path in ["/var/lib/previewd.db", "/home/local/previewd.db", "/homework/previewd.db", "/twice/previewd.db"] {
            assert!(!refused(path), "{path}");
        }
    }

    #[test]
    fn a_local_file_that_does_not_exist_yet_passes() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(refuse_network_filesystem(&directory.path().join("new/previewd.db")), Ok(()));
    }
}
