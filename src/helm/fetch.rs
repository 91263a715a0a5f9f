//! Charts that are not in the repository, and those that a chart of the repository needs: fetched before anything is
//! rendered, from where the operator allows it, by a process that renders nothing.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::process::Command;

use super::{Helm, HelmError, Limits, RENDER, folder, process, schema, write};
use crate::recipe::{ChartDependency, ChartMetadata, ChartName, ChartRepository, ChartVersion, Files};

const FETCH: Limits = Limits { time: Duration::from_secs(60), ..RENDER };
const NOT_ALLOWED: &str = "is of a place that the operator does not allow (helm.repositories)";

impl Helm {
    /// Fetches a chart into `home`. Gives its folder.
    pub(super) async fn pull(
        &self,
        chart: &str,
        repository: Option<&str>,
        version: &str,
        home: &Path,
    ) -> Result<PathBuf, HelmError> {
        let address = repository.unwrap_or(chart);
        if !self.allows(address) {
            return Err(HelmError::Refused(NOT_ALLOWED.to_owned()));
        }
        let pulled = home.join("pulled");
        let own = folder()?;
        let mut command = self.fetching(own.path())?;
        command.args(["pull", chart, "--version", version, "--untar", "--untardir"]).arg(&pulled);
        if let Some(repository) = repository {
            command.args(["--repo", repository]);
        }
        if is_loopback(address) {
            command.arg("--plain-http");
        }
        process::run(command, FETCH).await.map_err(|failure| self.explain(failure))?;
        // Helm names the folder as the chart names itself.
        let mut folders = std::fs::read_dir(&pulled).into_iter().flatten().flatten().map(|entry| entry.path());
        let chart = folders.find(|path| path.is_dir());
        chart.ok_or_else(|| HelmError::Refused("is an archive without a chart in it".to_owned()))
    }

    /// Puts a chart's files into `home`, and beside them the charts that it needs. Gives its folder.
    pub(super) async fn unpack(&self, files: &Files, home: &Path) -> Result<PathBuf, HelmError> {
        if let Some(rule) = schema::broken_rule(files) {
            return Err(HelmError::Refused(rule.to_owned()));
        }
        let chart = home.join("chart");
        for (path, content) in files {
            write(&chart.join(path), content)?;
        }
        let missing = missing(files)?;
        if !missing.is_empty() {
            self.fetch(&missing, &chart).await?;
        }
        Ok(chart)
    }

    /// Fetches what a chart needs into its folder `charts`.
    async fn fetch(&self, dependencies: &[ChartDependency], chart: &Path) -> Result<(), HelmError> {
        let mut asked = Vec::new();
        for ChartDependency { name, version, repository } in dependencies {
            let is_in_registry = repository.starts_with("oci://");
            let is_address = if is_in_registry {
                repository.parse::<ChartName>().is_ok()
            } else {
                repository.parse::<ChartRepository>().is_ok()
            };
            let has_name = !name.contains(['/', ':']) && name.parse::<ChartName>().is_ok();
            if !has_name || version.parse::<ChartVersion>().is_err() || !is_address || !self.allows(repository) {
                // Files of the machine, and names that only a user's own helm knows, among others.
                let rule = "needs other charts: put them into its folder charts/, or have the operator allow the place \
                            that they are kept at (helm.repositories)";
                return Err(HelmError::Refused(rule.to_owned()));
            }
            asked.push(serde_json::json!({ "name": name, "version": version, "repository": repository }));
        }
        // A chart of our own: helm reads more ways to write a dependency than were looked at here.
        let own = folder()?;
        let needs = own.path().join("needs");
        let metadata =
            serde_json::json!({ "apiVersion": "v2", "name": "needs", "version": "0.0.0", "dependencies": asked });
        write(&needs.join("Chart.yaml"), metadata.to_string().as_bytes())?;
        let mut command = self.fetching(own.path())?;
        command.args(["dependency", "update"]).arg(&needs);
        if dependencies.iter().any(|dependency| is_loopback(&dependency.repository)) {
            command.arg("--plain-http");
        }
        process::run(command, FETCH).await.map_err(|failure| self.explain(failure))?;
        for entry in std::fs::read_dir(needs.join("charts")).into_iter().flatten().flatten() {
            let content = std::fs::read(entry.path());
            let content = content.map_err(|error| {
                HelmError::NoProgram("helm".to_owned(), format!("cannot read what it fetched: {error}"))
            })?;
            write(&chart.join("charts").join(entry.file_name()), &content)?;
        }
        Ok(())
    }

    /// A helm that may use the network, and the operator's credentials.
    fn fetching(&self, home: &Path) -> Result<Command, HelmError> {
        let mut command = self.command(home);
        if let Some(registries) = &self.registries {
            let path = home.join("registries.json");
            let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = open.and_then(|mut file| file.write_all(registries.expose_secret().as_bytes()));
            written.map_err(|error| {
                HelmError::NoProgram("helm".to_owned(), format!("cannot write its credentials: {error}"))
            })?;
            command.arg("--registry-config").arg(path);
        }
        Ok(command)
    }

    fn allows(&self, address: &str) -> bool {
        self.repositories.iter().any(|allowed| is_below(address, allowed))
    }
}

/// What a chart names in its `Chart.yaml` and does not have in `charts/`, in the versions of its `Chart.lock`.
fn missing(files: &Files) -> Result<Vec<ChartDependency>, HelmError> {
    let refused = |path: &str| HelmError::Refused(format!("has a {path} that is not valid"));
    let mut locked = BTreeMap::new();
    for path in ["requirements.lock", "Chart.lock"] {
        let lock = ChartMetadata::of(files, path).ok_or_else(|| refused(path))?;
        locked.extend(lock.dependencies.into_iter().map(|locked| (locked.name, locked.version)));
    }
    let needed = ChartMetadata::needed(files, "").ok_or_else(|| refused("Chart.yaml"))?;
    let needed = needed.into_iter().filter(|needed| !needed.is_among(files));
    let in_version = |needed: ChartDependency| ChartDependency {
        version: locked.get(&needed.name).cloned().unwrap_or(needed.version),
        ..needed
    };
    Ok(needed.map(in_version).collect())
}

/// Whether an address is the allowed one, or below it.
fn is_below(address: &str, allowed: &str) -> bool {
    let allowed = allowed.trim_end_matches('/');
    address.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !address.contains("..")
}

/// Whether an address is of this machine, where nothing is encrypted.
fn is_loopback(address: &str) -> bool {
    let host = address.split_once("://").map_or("", |(_, rest)| rest);
    ["127.0.0.1:", "localhost:"].into_iter().any(|loopback| host.starts_with(loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_below_what_is_allowed() {
        for (address, allowed, is_it) in [
            ("oci://ghcr.io/acme/chart", "oci://ghcr.io/acme", true),
            ("oci://ghcr.io/acme/chart", "oci://ghcr.io/acme/", true),
            ("oci://ghcr.io/acmeevil/chart", "oci://ghcr.io/acme", false),
            ("https://charts.example.com", "https://charts.example.com", true),
            ("https://charts.example.com.evil.org", "https://charts.example.com", false),
            ("oci://ghcr.io/acme/../evil", "oci://ghcr.io/acme", false),
        ] {
            assert_eq!(is_below(address, allowed), is_it, "{address} below {allowed}");
        }
    }

    #[test]
    fn only_what_is_missing_is_fetched_in_the_version_that_was_locked() {
        let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        let files = Files::from([
            file(
                "Chart.yaml",
                "name: web\ndependencies:\n- { name: redis, version: ^1.0 }\n- { name: packed, version: 1.0.0 }\n\
                 - { name: there, version: 1.0.0 }\n- { name: other, version: 2.x }\n",
            ),
            file("Chart.lock", "dependencies: [{ name: redis, version: 1.4.2 }]\ndigest: x\n"),
            file("charts/packed-1.0.0.tgz", "x"),
            file("charts/folder/Chart.yaml", "name: there\n"),
        ]);
        let missing: Vec<(String, String)> =
            missing(&files).expect("metadata").into_iter().map(|missing| (missing.name, missing.version)).collect();
        let expected =
            [("redis", "1.4.2"), ("other", "2.x")].map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(missing, expected);
    }
}
