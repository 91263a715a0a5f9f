//! The sample application's images: one binary, and the commit that its page names. Its source is in `xtask/sample`.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::binaries::{self, SHOP};
use super::image::{ImageFile, ImageSpec, Layer, NON_ROOT, architecture};

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
    let mut image = sample_image_of_any_commit(&sample_image_name(commit))?;
    image.layers.push(layer("/commit", 0o644, commit.as_bytes().into()));
    Ok(image)
}

/// The sample application under a name of the caller's; its page names the commit in `$COMMIT`. Blocks as
/// [`sample_image`] does.
///
/// # Errors
/// If it cannot be built.
pub fn sample_image_of_any_commit(name: &str) -> Result<ImageSpec> {
    binaries::ensure(&[&SHOP])?;
    let path = SHOP.path()?;
    let binary = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ImageSpec {
        name: name.to_owned(),
        layers: vec![layer("/shop", 0o755, binary.into())],
        entrypoint: vec!["/shop".into()],
        env: Vec::new(),
        user: NON_ROOT.into(),
        architecture: architecture().into(),
    })
}

fn layer(path: &str, mode: u32, content: Arc<[u8]>) -> Layer {
    Layer { files: vec![ImageFile { path: path.into(), mode, content }] }
}
