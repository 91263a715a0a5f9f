//! previewd's own image, as `deploy/Dockerfile` makes it: the program, helm and the trusted certificates, and nothing
//! else. Here the program is one that was built anyway, with the libraries that it is linked with.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::binaries::{self, HELM};
use super::image::{ImageSpec, Layer, NON_ROOT, architecture, file, libraries_of};

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The image of the program at a path. Blocks while helm is built, once per version.
///
/// # Errors
/// If a file cannot be read.
pub fn previewd_image(name: &str, program: &Path) -> Result<ImageSpec> {
    binaries::ensure(&[&HELM])?;
    let libraries = libraries_of(&BTreeSet::from([program.to_owned()])).context("what previewd is linked with")?;
    let mut system = Layer::default();
    for path in libraries.iter().map(AsRef::as_ref).chain([Path::new(CERTIFICATES)]) {
        system.files.push(file(path, path)?);
    }
    let at = |from: &Path, to: &str| Ok::<_, anyhow::Error>(Layer { files: vec![file(from, Path::new(to))?] });
    Ok(ImageSpec {
        name: name.to_owned(),
        layers: vec![system, at(&HELM.path()?, "/usr/bin/helm")?, at(program, "/usr/bin/previewd")?],
        entrypoint: vec!["/usr/bin/previewd".into()],
        env: vec!["PATH=/usr/bin".into()],
        user: NON_ROOT.into(),
        architecture: architecture().into(),
    })
}
