//! What else the demo deploys: an application with all that belongs to it, and a chart.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xtask::cluster::{POSTGRES_VERSION, SAMPLE_PORT, sample_image_name};

/// The sample application with a worker, a database that is seeded once, and a setup before each commit that changes it.
/// `mode`: how it behaves.
pub fn with_database(mode: &str) -> String {
    let image = sample_image_name("{{ sha }}");
    format!(
        "version: 1
app:
  image: {image}
  port: {SAMPLE_PORT}
  health: /healthz
  env: {{ COMMIT: '{{{{ sha }}}}', MODE: {mode} }}
services:
  worker: {{ image: '{image}', port: {SAMPLE_PORT} }}
databases:
  db: {{ engine: postgres, version: {POSTGRES_VERSION}, storage: 128Mi }}
seed: {{ command: [/shop, seed] }}
setup: {{ command: [/shop, migrate] }}
"
    )
}

/// The files of the example of a chart, with the sample application's image.
///
/// # Errors
/// If the example cannot be read.
pub fn with_chart() -> Result<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/helm-chart");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for path in paths_in(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root)?.display().to_string();
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push((name, text.replace("ghcr.io/acme/shop:{{ sha }}", &sample_image_name("{{ sha }}"))));
        }
    }
    Ok(files)
}

fn paths_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}
