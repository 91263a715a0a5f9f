//! The sample application's images: one binary, and the commit that its page names. Its source is in `xtask/sample`.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::binaries::{self, SHOP};
use super::image::{ImageFile, ImageSpec, Layer, NON_ROOT};

/// The port that the sample listens on, unless `$PORT` says otherwise.
pub const SAMPLE_PORT: u16 = 8080;

/// The image's name for a commit.
pub fn sample_image_name(commit: &str) -> String {
    format!("registry.localhost/shop:{commit}")
}

/// The sample application at a commit. Images of two commits share the layer of the binary. Builds that binary first
/// where the cache lacks it, which blocks for seconds.
///
/// # Errors
/// If it cannot be built.
pub fn sample_image(commit: &str) -> Result<ImageSpec> {
    binaries::ensure(&[&SHOP])?;
    let path = SHOP.path()?;
    let binary = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file =
        |path: &str, mode, content: Arc<[u8]>| Layer { files: vec![ImageFile { path: path.into(), mode, content }] };
    Ok(ImageSpec {
        name: sample_image_name(commit),
        layers: vec![file("/shop", 0o755, binary.into()), file("/commit", 0o644, commit.as_bytes().into())],
        entrypoint: vec!["/shop".into()],
        env: Vec::new(),
        user: NON_ROOT.into(),
    })
}
