//! An image of PostgreSQL that behaves as the official one does, from Debian's packages: no registry is to be had.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::image::{ImageFile, ImageSpec, Layer, architecture, file, libraries_of};
use crate::postgres;

/// The image's name without its tag, for `database_images.postgres`.
pub const POSTGRES_IMAGE: &str = "registry.localhost/postgres";
/// The tag of what Debian has.
pub const POSTGRES_VERSION: &str = "15";

/// Source of its behaviour: <https://github.com/docker-library/docs/tree/master/postgres#environment-variables>.
const ENTRYPOINT: &str = r#"#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    echo "$POSTGRES_PASSWORD" | initdb --username="$POSTGRES_USER" --pwfile=/dev/stdin --auth-local=trust \
        --auth-host=scram-sha-256 --locale=C --encoding=UTF8 -D "$PGDATA"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories="$PGDATA"
"#;

/// What the entry point and initdb run.
const SHELL_COMMANDS: [&str; 2] = ["sh", "mkdir"];
const BUSYBOX: &str = "/bin/busybox";
const PASSWD: &str = "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\n";

/// The image. Blocks while Debian's package is installed, where that is missing.
///
/// # Errors
/// If a file of the packages cannot be read.
pub fn postgres_image() -> Result<ImageSpec> {
    let programs = postgres::find_programs()?;
    let home = programs.parent().context("PostgreSQL's programs are in a folder")?;
    let share = Path::new("/usr/share/postgresql").join(home.file_name().unwrap_or_default());
    let mut paths = BTreeSet::new();
    for name in ["postgres", "initdb", "pg_isready", "psql"] {
        paths.insert(programs.join(name));
    }
    add_files(&home.join("lib"), &mut paths)?;
    add_files(&share, &mut paths)?;
    add_files(Path::new("/usr/share/zoneinfo/Etc"), &mut paths)?;
    // What clients ask for by this name.
    paths.insert(PathBuf::from("/usr/share/zoneinfo/UTC"));
    // Without just-in-time compilation, whose library is as large as all the rest.
    paths.retain(|path| !path.to_string_lossy().contains("llvmjit") && !path.to_string_lossy().contains("/bitcode/"));
    let is_linked = |path: &&PathBuf| {
        path.parent().is_some_and(|parent| parent.ends_with("bin")) || path.extension().is_some_and(|end| end == "so")
    };
    let libraries = libraries_of(&paths.iter().filter(is_linked).cloned().collect())?;
    paths.extend(libraries);

    let mut files = Vec::new();
    for path in paths {
        files.push(file(&path, &path)?);
    }
    for name in SHELL_COMMANDS {
        files.push(file(Path::new(BUSYBOX), &Path::new("/bin").join(name))?);
    }
    let text = |path: &str, mode: u32, content: &str| ImageFile {
        path: path.to_owned(),
        mode,
        content: content.as_bytes().into(),
    };
    files.push(text("/entrypoint", 0o755, ENTRYPOINT));
    files.push(text("/etc/passwd", 0o644, PASSWD));
    files.push(text("/etc/group", 0o644, "postgres:x:999:\n"));
    Ok(ImageSpec {
        name: format!("{POSTGRES_IMAGE}:{POSTGRES_VERSION}"),
        layers: vec![Layer { files }],
        entrypoint: vec!["/entrypoint".into()],
        env: vec![format!("PATH={}:/bin", programs.display()), "LANG=C".into()],
        user: "999:999".into(),
        architecture: architecture().into(),
    })
}

fn add_files(folder: &Path, paths: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            add_files(&path, paths)?;
        } else if path.exists() {
            paths.insert(path);
        }
    }
    Ok(())
}
