//! Images made on the spot: an archive from files, imported into a node's containerd.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant, sleep};

use super::binaries::PAUSE;
use super::process::run;

/// The image of every pod's sandbox.
pub(super) const PAUSE_IMAGE: &str = "registry.localhost/pause:1";

/// Kubernetes' own namespace in containerd.
const CONTAINERD_NAMESPACE: &str = "k8s.io";

/// The user of the sample images: not root, as Pod Security `restricted` wants it.
pub const NON_ROOT: &str = "65532:65532";

/// An image to be made: its name, its layers from the lowest, and how its containers start.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// With registry and tag, as manifests name it.
    pub name: String,
    pub layers: Vec<Layer>,
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `uid:gid`.
    pub user: String,
    /// Whose programs are in it, in the words of images: `amd64`, `arm64`.
    pub architecture: String,
}

/// The files of one layer. Their folders come by themselves, readable by all.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub files: Vec<ImageFile>,
}

#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Absolute, in the container.
    pub path: String,
    pub mode: u32,
    pub content: Arc<[u8]>,
}

impl ImageSpec {
    /// The image as an archive that `docker load` and `ctr images import` read.
    ///
    /// # Errors
    /// If a file's path is not absolute.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let Content { layers, config } = self.content()?;
        let names: Vec<_> = (0..layers.len()).map(|number| format!("layer-{number}.tar")).collect();
        let manifest = json!([{ "Config": "config.json", "RepoTags": [self.name], "Layers": names }]);
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "manifest.json", 0o644, manifest.to_string().as_bytes())?;
        append(&mut archive, "config.json", 0o644, &config)?;
        for (name, layer) in names.iter().zip(&layers) {
            append(&mut archive, name, 0o644, layer)?;
        }
        Ok(archive.into_inner()?)
    }

    /// What a registry keeps of it.
    pub(super) fn content(&self) -> Result<Content> {
        let layers = self.layers.iter().map(Layer::archive).collect::<Result<Vec<_>>>()?;
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "Env": self.env, "User": self.user, "WorkingDir": "/" },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>(),
            },
        });
        Ok(Content { layers, config: config.to_string().into_bytes() })
    }
}

/// Layers from the lowest, and the configuration that names them.
pub(super) struct Content {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
}

impl Layer {
    fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for directory in self.directories()? {
            let mut header = header(tar::EntryType::Directory, 0o755, 0);
            archive.append_data(&mut header, &directory, std::io::empty())?;
        }
        for file in &self.files {
            append(&mut archive, file.path.trim_start_matches('/'), file.mode, &file.content)?;
        }
        Ok(archive.into_inner()?)
    }

    /// Every folder above a file, parents first.
    fn directories(&self) -> Result<BTreeSet<PathBuf>> {
        let mut directories = BTreeSet::new();
        for file in &self.files {
            let path = file.path.strip_prefix('/').with_context(|| format!("{} is not absolute", file.path))?;
            let parents = Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            directories.extend(parents.map(Path::to_path_buf));
        }
        Ok(directories)
    }
}

/// The image of a pod's sandbox.
pub(super) fn pause_image() -> Result<ImageSpec> {
    let content = std::fs::read(PAUSE.path()?)?.into();
    let file = ImageFile { path: "/pause".into(), mode: 0o755, content };
    Ok(ImageSpec {
        name: PAUSE_IMAGE.into(),
        layers: vec![Layer { files: vec![file] }],
        entrypoint: vec!["/pause".into()],
        env: Vec::new(),
        user: NON_ROOT.into(),
        architecture: architecture().into(),
    })
}

/// Makes the image and imports it into the containerd at `socket`. When this returns, pods can start from it.
///
/// # Errors
/// If containerd refuses the archive, or does not offer the image to Kubernetes within 20 s.
pub async fn import(socket: &Path, image: &ImageSpec) -> Result<()> {
    let archive = tempfile::Builder::new().suffix(".tar").tempfile()?;
    tokio::fs::write(archive.path(), image.archive()?).await?;
    import_archive(socket, archive.path()).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_offered(socket, &image.name).await? {
        ensure!(Instant::now() < deadline, "containerd did not offer {} to Kubernetes within 20 s", image.name);
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Imports an archive of `docker save` or of the OCI layout.
///
/// # Errors
/// If containerd refuses it.
pub async fn import_archive(socket: &Path, archive: &Path) -> Result<()> {
    let mut command = ctr(socket);
    command.args(["images", "import"]).arg(archive);
    tokio::task::spawn_blocking(move || run(&mut command).map(drop)).await?
}

/// Kubernetes' view of containerd's images follows a moment later; this label says that it has.
async fn is_offered(socket: &Path, name: &str) -> Result<bool> {
    let mut command = ctr(socket);
    command.args(["images", "list", &format!("name=={name}")]);
    let listed = tokio::task::spawn_blocking(move || run(&mut command)).await??;
    Ok(listed.contains("io.cri-containerd.image=managed"))
}

fn ctr(socket: &Path) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(socket).args(["--namespace", CONTAINERD_NAMESPACE]);
    command
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// No times and no owner, so that the same files are the same layer.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

/// What the loader needs for these programs and libraries.
///
/// # Errors
/// If one of them cannot be read.
pub(super) fn libraries_of(paths: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut command = Command::new("ldd");
    command.args(paths);
    let listed = run(&mut command)?;
    let libraries: BTreeSet<PathBuf> = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect();
    ensure!(!libraries.is_empty(), "ldd named no library");
    Ok(libraries)
}

/// A file of this machine, to be there in the image.
///
/// # Errors
/// If it cannot be read.
pub(super) fn file(from: &Path, to: &Path) -> Result<ImageFile> {
    let read = || -> std::io::Result<ImageFile> {
        let mode = std::fs::metadata(from)?.permissions().mode() & 0o777;
        Ok(ImageFile { path: to.display().to_string(), mode, content: std::fs::read(from)?.into() })
    };
    read().with_context(|| format!("cannot read {}", from.display()))
}

fn digest(layer: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(layer)))
}

/// This machine's architecture in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
