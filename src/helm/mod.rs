//! Helm: the only module that runs the `helm` command. Charts are strangers' programs: they are rendered in a process
//! that knows nothing of this one, has little time and memory, and ends with everything it started.

mod process;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tokio::process::Command;

pub use process::Limits;

use crate::{
    environment::Cause,
    recipe::{ChartRequest, ChartSource},
};

/// How long rendering may take. Charts take a tenth of a second; those of a registry have to come first.
const RENDER: Limits =
    Limits { time: Duration::from_secs(20), cpu_seconds: 15, memory_bytes: 2 << 30, output_bytes: 4 << 20 };
const FETCH: Limits = Limits { time: Duration::from_secs(60), ..RENDER };
/// The oldest version that renders as the newest does.
const OLDEST: (u32, u32, u32) = (3, 18, 4);

/// The `helm` command.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    /// What charts of elsewhere must begin with.
    repositories: Vec<String>,
}

/// Why a chart was not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelmError {
    /// For operators.
    #[error("cannot run {0}: {1}")]
    NoProgram(String, String),
    #[error("helm is {found}; previewd needs 3.18.4 or newer")]
    TooOld { found: String },
    /// For whoever wrote the chart: the end of a sentence that begins with the chart. Never helm's own words, which quote
    /// values.
    #[error("{0}")]
    Refused(String),
}

impl HelmError {
    /// What a pull request is told.
    pub fn cause(self) -> Cause {
        let rule = match self {
            Self::Refused(rule) => rule,
            error @ (Self::NoProgram(..) | Self::TooOld { .. }) => {
                tracing::error!(%error, "charts cannot be rendered; see previewd doctor");
                "cannot be rendered, because previewd finds no helm that works; its operator can mend that".to_owned()
            }
        };
        Cause::ChartFailed { rule }
    }
}

impl Helm {
    /// The command `program`, looked for in PATH where it is a plain name. Charts that are not of the repository itself
    /// must begin with one of `repositories`.
    pub fn new(program: PathBuf, repositories: Vec<String>) -> Self {
        Self { program, repositories }
    }

    /// Helm's version, where it is new enough.
    pub async fn version(&self) -> Result<String, HelmError> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let home = folder()?;
        let mut command = self.command(home.path());
        command.args(["version", "--template", r#"{"version":"{{.Version}}"}"#]);
        let output = process::run(command, RENDER).await.map_err(|failure| self.explain(failure))?;
        let version: Version = serde_json::from_slice(&output)
            .map_err(|_| HelmError::NoProgram(self.program.display().to_string(), "it names no version".to_owned()))?;
        if parse_version(&version.version).is_none_or(|version| version < OLDEST) {
            return Err(HelmError::TooOld { found: version.version });
        }
        Ok(version.version)
    }

    /// What the chart makes: YAML, as `helm template` writes it.
    pub async fn render(&self, request: &ChartRequest, kube_version: Option<&str>) -> Result<String, HelmError> {
        let home = folder()?;
        let values = home.path().join("values.json");
        write(&values, request.values.to_string().as_bytes())?;

        let mut command = self.command(home.path());
        command.args(["template", RELEASE]);
        let limits = match &request.source {
            ChartSource::Files(files) => {
                let chart = home.path().join("chart");
                for (path, content) in files {
                    write(&chart.join(path), content)?;
                }
                command.arg(&chart);
                // There is nothing to be fetched: whoever tries ends up here.
                command.envs([("HTTP_PROXY", NOWHERE), ("HTTPS_PROXY", NOWHERE)]);
                RENDER
            }
            ChartSource::Elsewhere { chart, repository, version } => {
                let address = repository.as_deref().unwrap_or(chart);
                if !self.repositories.iter().any(|allowed| is_below(address, allowed)) {
                    let rule = "is of a place that the operator does not allow (helm.repositories)";
                    return Err(HelmError::Refused(rule.to_owned()));
                }
                command.arg(chart).args(["--version", version]);
                if let Some(repository) = repository {
                    command.args(["--repo", repository]);
                }
                if is_loopback(address) {
                    command.arg("--plain-http");
                }
                FETCH
            }
        };
        command.args(["--namespace", request.namespace.as_str(), "--skip-tests", "--include-crds"]);
        command.arg("--values").arg(&values);
        if let Some(version) = kube_version {
            command.args(["--kube-version", version]);
        }
        for api in &request.api_versions {
            command.args(["--api-versions", api]);
        }
        if request.is_upgrade {
            command.arg("--is-upgrade");
        }
        let output = process::run(command, limits).await.map_err(|failure| self.explain(failure))?;
        String::from_utf8(output).map_err(|_| HelmError::Refused("renders to what is not UTF-8 text".to_owned()))
    }

    /// What the chart makes, as [`Charted::outputs`](crate::recipe::Charted::outputs) wants it.
    pub async fn outputs(&self, request: &ChartRequest, kube_version: Option<&str>) -> Result<Vec<String>, HelmError> {
        let mut outputs = vec![self.render(request, kube_version).await?];
        if outputs[0].contains("kind: Secret") {
            outputs.push(self.render(request, kube_version).await?);
        }
        Ok(outputs)
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir(home).env("HOME", home);
        // Without it Go would use every core, and the limit counts memory per process, not what is used of it.
        command.envs([("GOMAXPROCS", "1"), ("GOMEMLIMIT", "512MiB")]);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    fn explain(&self, failure: process::Failure) -> HelmError {
        use process::Failure;
        let refused = |rule: &str| HelmError::Refused(rule.to_owned());
        match failure {
            Failure::NotStarted(why) => HelmError::NoProgram(self.program.display().to_string(), why),
            Failure::TooSlow(limit) => refused(&format!("takes longer than {} s to render", limit.as_secs())),
            Failure::TooLarge(limit) => refused(&format!("renders to more than {} MiB", limit >> 20)),
            Failure::Killed => refused("takes more processor time or memory to render than a chart may"),
            Failure::Ended { said } => {
                tracing::debug!(said, "helm refused a chart");
                HelmError::Refused(rule_of(&said))
            }
        }
    }
}

/// The release's name, which charts put before the names of their objects.
const RELEASE: &str = "preview";
/// An address at which nothing listens.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Whether an address is the allowed one, or below it.
fn is_below(address: &str, allowed: &str) -> bool {
    let allowed = allowed.trim_end_matches('/');
    address.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !address.contains("..")
}

fn is_loopback(address: &str) -> bool {
    let host = address.split_once("://").map_or("", |(_, rest)| rest);
    ["127.0.0.1:", "localhost:"].into_iter().any(|loopback| host.starts_with(loopback))
}

fn folder() -> Result<tempfile::TempDir, HelmError> {
    let made = tempfile::Builder::new().prefix("previewd-helm-").tempdir();
    made.map_err(|error| HelmError::NoProgram("helm".to_owned(), format!("there is no temporary folder: {error}")))
}

fn write(path: &Path, content: &[u8]) -> Result<(), HelmError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, content));
    written.map_err(|error| HelmError::NoProgram("helm".to_owned(), format!("cannot write its files: {error}")))
}

/// `v4.3.1+g…` as numbers.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.strip_prefix('v')?;
    let text = text.split(['+', '-']).next()?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?))
}

/// The end of a sentence about a chart, from what helm wrote. Only places of a strict form are taken from there, and
/// words that are known beforehand: of `text/template`, and of helm's own `pkg/engine` and `pkg/chart`.
fn rule_of(said: &str) -> String {
    let known = [
        ("execution error at", "stops itself (`fail` or `required`)"),
        ("nil pointer evaluating", "uses a value that is not there"),
        ("can't evaluate field", "uses a value that is not there"),
        ("function \"", "uses a function that helm does not have"),
        ("values don't meet the specifications of the schema", "is given values that its schema does not take"),
        ("Chart.yaml file is missing", "has no Chart.yaml"),
        ("validation: chart.metadata", "has a Chart.yaml that is not valid"),
        ("kubeVersion", "is for another version of Kubernetes"),
        ("found in Chart.yaml, but missing in charts/", "needs other charts: put them into its folder charts/"),
        ("YAML parse error", "renders to what is not valid YAML"),
        ("parse error", "has a template that is not valid"),
        ("not found", "is not there"),
        ("denied", "may not be fetched with the operator's credentials"),
    ];
    let what = known.into_iter().find(|(words, _)| said.contains(words)).map_or("cannot be rendered", |(_, rule)| rule);
    match place_of(said) {
        Some((file, line)) => format!("{what}, in {file}, line {line}"),
        None => what.to_owned(),
    }
}

/// The last `chart/templates/NAME:LINE:` of an error, which is where it happened.
fn place_of(said: &str) -> Option<(&str, &str)> {
    let is_path = |text: &str| {
        text.len() <= 200
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-'))
    };
    let mut found = None;
    for (at, _) in said.match_indices("templates/") {
        let Some((file, rest)) = said[at..].split_once(':') else { continue };
        let line = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
        if is_path(file) && (1..=6).contains(&line.len()) {
            found = Some((file, line));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(parse_version("v4.3.1+gabc"), Some((4, 3, 1)));
        assert_eq!(parse_version("v3.18.4"), Some((3, 18, 4)));
        assert_eq!(parse_version("v3.18.4-rc.1"), Some((3, 18, 4)));
        assert_eq!(parse_version("v4.3"), Some((4, 3, 0)), "as distributions build it");
        assert_eq!(parse_version("4.3.1"), None);
    }

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
    fn errors_name_a_place_and_no_value() {
        for (said, rule) in [
            (
                "Error: template: shop/templates/web.yaml:12:20: executing \"shop/templates/web.yaml\" at <.Values.a.b>: nil pointer evaluating interface {}.b",
                "uses a value that is not there, in templates/web.yaml, line 12",
            ),
            (
                "Error: execution error at (shop/templates/web.yaml:3:4): the password hunter2 is too short",
                "stops itself (`fail` or `required`), in templates/web.yaml, line 3",
            ),
            (
                "Error: parse error at (shop/templates/web.yaml:7): missing value for if",
                "has a template that is not valid, in templates/web.yaml, line 7",
            ),
            ("Error: Chart.yaml file is missing", "has no Chart.yaml"),
            ("Error: something <b>else</b> hunter2", "cannot be rendered"),
            ("templates/@everyone:1: x", "cannot be rendered"),
        ] {
            assert_eq!(rule_of(said), rule);
        }
    }
}
