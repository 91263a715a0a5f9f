//! Charts that are not in the repository, and those that a chart of the repository needs: fetched before anything is
//! rendered, from where the operator allows it, by a process that renders nothing.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Helm, HelmError, Limits, RENDER, folder, process, schema, write};
use crate::recipe::{ChartDependency, ChartMetadata, ChartName, ChartRepository, ChartVersion, Files, files_in};

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
        for Missing { folder, charts } in missing(files)? {
            self.fetch(&charts, &chart.join(folder)).await?;
        }
        Ok(chart)
    }

    /// Fetches what a chart needs into its folder `charts`.
    async fn fetch(&self, dependencies: &[ChartDependency], chart: &Path) -> Result<(), HelmError> {
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
        }
        let own = folder()?;
        let needs = own.path().join("needs");
        write(&needs.join("Chart.yaml"), needing(dependencies).to_string().as_bytes())?;
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

/// The `Chart.yaml` of a chart of our own that needs these: helm reads more ways to write a dependency than were looked at
/// here. It takes no two of one name, whatever their versions, unless they are called otherwise.
fn needing(dependencies: &[ChartDependency]) -> Value {
    let asked = dependencies.iter().enumerate().map(|(index, ChartDependency { name, version, repository })| {
        json!({ "name": name, "version": version, "repository": repository, "alias": format!("needed-{index}") })
    });
    let asked: Vec<Value> = asked.collect();
    json!({ "apiVersion": "v2", "name": "needs", "version": "0.0.0", "dependencies": asked })
}

/// What a chart needs and does not have in its folder `charts`.
#[derive(Debug)]
struct Missing {
    /// The chart's folder, within that of the chart which is rendered.
    folder: PathBuf,
    charts: Vec<ChartDependency>,
}

/// What a chart, and those that came with it from beside it, name in their `Chart.yaml` and do not have in `charts/`, in
/// the versions of their `Chart.lock`.
fn missing(files: &Files) -> Result<Vec<Missing>, HelmError> {
    let mut found = Vec::new();
    let mut charts = vec![(PathBuf::new(), Cow::Borrowed(files))];
    while let Some((folder, files)) = charts.pop() {
        let mut needed = needed(&files)?;
        let beside = needed.iter().filter(|needed| needed.is_beside());
        let beside: BTreeSet<&str> = beside.filter_map(|needed| needed.folder_among(&files)).collect();
        charts.extend(beside.into_iter().map(|inner| (folder.join(inner), Cow::Owned(files_in(&files, inner)))));
        // Of what a chart within a chart needs helm lets everything be missing: one that is to be had from nowhere stays so.
        let is_top = folder.as_os_str().is_empty();
        let is_elsewhere = |needed: &ChartDependency| !needed.is_beside() && needed.repository.contains("://");
        needed.retain(|needed| !needed.is_among(&files) && (is_top || is_elsewhere(needed)));
        // One chart may be there twice under two names.
        let mut known = BTreeSet::new();
        needed.retain(|needed| known.insert(needed.clone()));
        if !needed.is_empty() {
            found.push(Missing { folder, charts: needed });
        }
    }
    Ok(found)
}

/// What a chart names in its `Chart.yaml`, in the versions of its `Chart.lock`.
fn needed(files: &Files) -> Result<Vec<ChartDependency>, HelmError> {
    let named_in = |path: &str| {
        let metadata = ChartMetadata::of(files, path).map(|metadata| metadata.dependencies);
        metadata.ok_or_else(|| HelmError::Refused(format!("has a {path} that is not valid")))
    };
    let mut all = Vec::new();
    for (file, lock) in [("Chart.yaml", "Chart.lock"), ("requirements.yaml", "requirements.lock")] {
        let (locked, needed) = (named_in(lock)?, named_in(file)?);
        let versions: Vec<Option<&str>> =
            (0..needed.len()).map(|index| locked_version(index, &needed, &locked)).collect();
        let in_version = |(needed, version): (&ChartDependency, Option<&str>)| ChartDependency {
            version: version.unwrap_or(&needed.version).to_owned(),
            ..needed.clone()
        };
        all.extend(needed.iter().zip(versions).map(in_version));
    }
    Ok(all)
}

/// The version that a lock has for one of what is needed. Helm writes it in the same order, as a chart may be there twice
/// in two versions. Where it was written for something else, what it says of that chart counts, if it is one thing.
fn locked_version<'a>(index: usize, needed: &[ChartDependency], locked: &'a [ChartDependency]) -> Option<&'a str> {
    let own = needed.get(index)?;
    let at_its_place = locked.get(index).filter(|it| it.name == own.name && needed.len() == locked.len());
    if let Some(it) = at_its_place {
        return Some(it.version.as_str());
    }
    let of_name: Vec<&ChartDependency> = locked.iter().filter(|it| it.name == own.name).collect();
    let of_place: Vec<&ChartDependency> =
        of_name.iter().copied().filter(|it| it.repository == own.repository).collect();
    let candidates = if of_place.is_empty() { of_name } else { of_place };
    let (first, others) = candidates.split_first()?;
    others.iter().all(|other| other.version == first.version).then_some(first.version.as_str())
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
        assert_eq!(fetched(&files), [": redis 1.4.2, other 2.x"]);
    }

    /// What is fetched into which folder.
    fn fetched(files: &Files) -> Vec<String> {
        let of_folder = |Missing { folder, charts }: Missing| {
            let charts: Vec<String> = charts.iter().map(|chart| format!("{} {}", chart.name, chart.version)).collect();
            format!("{}: {}", folder.display(), charts.join(", "))
        };
        missing(files).expect("metadata").into_iter().map(of_folder).collect()
    }

    #[test]
    fn a_chart_may_be_there_under_several_names_and_in_several_versions() {
        let redis = |alias: &str, version: &str| {
            format!("{{ name: redis, alias: {alias}, version: '{version}', repository: 'https://example.com' }}")
        };
        let locked = |versions: &[&str]| {
            let locked = versions.iter().map(|version| redis("none", version));
            format!("dependencies: [{}]\n", locked.collect::<Vec<_>>().join(", "))
        };
        let needs = format!(
            "name: web\ndependencies: [{}, {}, {}]\n",
            redis("cache", "17.x"),
            redis("queue", "18.x"),
            redis("more", "17.x")
        );
        for (lock, expected) in [
            (locked(&["17.1.0", "18.2.0", "17.1.0"]), ": redis 17.1.0, redis 18.2.0"),
            (locked(&["17.1.0", "17.1.0"]), ": redis 17.1.0"),
            // Which of them is meant it does not say any more.
            (locked(&["17.1.0", "18.2.0"]), ": redis 17.x, redis 18.x"),
            ("digest: x\n".to_owned(), ": redis 17.x, redis 18.x"),
        ] {
            let files = [("Chart.yaml", needs.as_str()), ("Chart.lock", lock.as_str())];
            let files: Files =
                files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
            assert_eq!(fetched(&files), [expected], "{lock}");
            let charts = missing(&files).expect("metadata").remove(0).charts;
            let asked = needing(&charts)["dependencies"].as_array().cloned().unwrap_or_default();
            let aliases: BTreeSet<String> = asked.iter().map(|needed| needed["alias"].to_string()).collect();
            assert_eq!((asked.len(), aliases.len()), (charts.len(), charts.len()));
        }
    }

    #[test]
    fn what_charts_from_beside_a_chart_need_is_fetched_for_them() {
        let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        let files = Files::from([
            file(
                "Chart.yaml",
                "name: web\ndependencies:\n- { name: api, version: 1.0.0, repository: 'file://../api' }\n\
                 - { name: api, alias: second, version: 1.0.0, repository: 'file://../api' }\n\
                 - { name: vendored, version: 1.0.0 }\n",
            ),
            file(
                "charts/api/Chart.yaml",
                "name: api\ndependencies:\n- { name: redis, version: 1.x, repository: 'https://example.com' }\n\
                 - { name: base, version: 1.0.0, repository: 'file://../base' }\n\
                 - { name: web, version: 1.0.0, repository: 'file://../web' }\n- { name: optional, version: 1.0.0 }\n",
            ),
            file("charts/api/Chart.lock", "dependencies: [{ name: redis, version: 1.4.2 }]\n"),
            file(
                "charts/api/charts/base/requirements.yaml",
                "dependencies: [{ name: mail, version: 2.0.0, repository: 'oci://example.com/charts' }]\n",
            ),
            file("charts/api/charts/base/Chart.yaml", "name: base\n"),
            file(
                "charts/vendored/Chart.yaml",
                "name: vendored\ndependencies: [{ name: redis, version: 1.x, repository: 'https://example.com' }]\n",
            ),
        ]);
        assert_eq!(fetched(&files), ["charts/api: redis 1.4.2", "charts/api/charts/base: mail 2.0.0"]);
    }
}
