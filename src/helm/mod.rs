//! Helm: the only module that runs the `helm` command. Charts are strangers' programs: they are rendered in a process
//! that knows nothing of this one, has little time and memory, and ends with everything it started.

mod fetch;
mod process;
mod said;
mod schema;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;
use tokio::{process::Command, sync::Semaphore};

pub use process::Limits;

use crate::{
    environment::Cause,
    recipe::{self, ChartRequest, ChartSource, Charted, Context, Mistakes, Recipe, Render},
};

/// How long rendering may take. Charts take a tenth of a second.
const RENDER: Limits =
    Limits { time: Duration::from_secs(20), cpu_seconds: 15, memory_bytes: 2 << 30, output_bytes: 4 << 20 };
/// The oldest version that renders as the newest does.
const OLDEST: (u32, u32, u32) = (3, 18, 4);

/// The `helm` command, or what renders charts in its place.
#[derive(Debug, Clone)]
pub struct Helm {
    program: Program,
    /// What charts of elsewhere must begin with.
    repositories: Vec<String>,
    /// The credentials of registries, as `.dockerconfigjson`, for charts that are kept there.
    registries: Option<SecretString>,
}

#[derive(Clone)]
enum Program {
    /// Its path, or its name in PATH.
    Command(PathBuf),
    Played(Arc<Play>),
}

/// What a chart renders to.
type Play = dyn Fn(&ChartRequest) -> String + Send + Sync;

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(f)
    }
}

impl Program {
    fn path(&self) -> &Path {
        match self {
            Self::Command(path) => path,
            Self::Played(_) => Path::new("helm"),
        }
    }
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
        Self { program: Program::Command(program), repositories, registries: None }
    }

    /// What renders charts in this process, under whatever clock that has. For tests.
    pub fn played(render: impl Fn(&ChartRequest) -> String + Send + Sync + 'static) -> Self {
        Self { program: Program::Played(Arc::new(render)), repositories: Vec::new(), registries: None }
    }

    /// The same with credentials of registries, as `.dockerconfigjson`.
    pub fn with_registries(self, registries: Option<SecretString>) -> Self {
        Self { registries, ..self }
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
        let version: Version = serde_json::from_slice(&output).map_err(|_| {
            HelmError::NoProgram(self.program.path().display().to_string(), "it names no version".to_owned())
        })?;
        if parse_version(&version.version).is_none_or(|version| version < OLDEST) {
            return Err(HelmError::TooOld { found: version.version });
        }
        Ok(version.version)
    }

    /// What a recipe makes; of one that is a chart, what helm renders first. `context.charted` has no outputs yet.
    pub async fn render(
        &self,
        recipe: &Recipe,
        context: &Context<'_>,
        kube_version: Option<&str>,
    ) -> Result<Render, Mistakes> {
        let outputs = match recipe.chart(context)? {
            Some(request) => self.outputs(&request, kube_version).await.map_err(|error| error.cause())?,
            None => Vec::new(),
        };
        let charted = Charted { outputs, ..context.charted.clone() };
        recipe::render(recipe, &Context { charted: &charted, ..*context })
    }

    /// What the chart makes: YAML, as `helm template` writes it. Once, or where there are Secrets twice, as
    /// [`Charted::outputs`] wants it.
    async fn outputs(&self, request: &ChartRequest, kube_version: Option<&str>) -> Result<Vec<String>, HelmError> {
        if let Program::Played(play) = &self.program {
            return Ok(vec![play(request)]);
        }
        // Never closed.
        let _turn = AT_ONCE.acquire().await;
        let home = folder()?;
        let chart = match &request.source {
            ChartSource::Files(files) => self.unpack(files, home.path()).await?,
            ChartSource::Elsewhere { chart, repository, version } => {
                self.pull(chart, repository.as_deref(), version, home.path()).await?
            }
        };
        write(&home.path().join(VALUES), request.values.to_string().as_bytes())?;
        let mut kube_version = kube_version;
        let first = match (self.template(&chart, home.path(), request, kube_version).await, kube_version) {
            // Before 4.1 helm took what a provider adds to its version (`v1.32.1-gke.100`) for a release before 1.32.1.
            (Err(HelmError::Refused(rule)), Some(whole)) if rule == said::ANOTHER_KUBERNETES && whole.contains('-') => {
                kube_version = whole.split('-').next();
                self.template(&chart, home.path(), request, kube_version).await
            }
            (first, _) => first,
        };
        let mut outputs = vec![first?];
        if outputs[0].lines().any(|line| line.contains("kind") && line.contains("Secret")) {
            outputs.push(self.template(&chart, home.path(), request, kube_version).await?);
        }
        Ok(outputs)
    }

    async fn template(
        &self,
        chart: &Path,
        home: &Path,
        request: &ChartRequest,
        kube_version: Option<&str>,
    ) -> Result<String, HelmError> {
        let ChartRequest { source, namespace, values: _, api_versions, is_upgrade } = request;
        let mut command = self.command(home);
        command.args(["template", RELEASE]).arg(chart).arg("--values").arg(home.join(VALUES));
        // What a chart has in `crds/` is left out: it is for the whole cluster, whose operators install it.
        command.args(["--namespace", namespace.as_str()]);
        // Everything is there: whoever tries to get more ends up here.
        command.envs([("HTTP_PROXY", NOWHERE), ("HTTPS_PROXY", NOWHERE)]);
        if let ChartSource::Files(files) = source
            && schema::is_hidden(files)
        {
            command.arg("--skip-schema-validation");
        }
        if let Some(version) = kube_version {
            command.args(["--kube-version", version]);
        }
        for api in api_versions {
            command.args(["--api-versions", api]);
        }
        if *is_upgrade {
            command.arg("--is-upgrade");
        }
        let output = process::run(command, RENDER).await.map_err(|failure| self.explain(failure))?;
        String::from_utf8(output).map_err(|_| HelmError::Refused("renders to what is not UTF-8 text".to_owned()))
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(self.program.path());
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
            Failure::NotStarted(why) => HelmError::NoProgram(self.program.path().display().to_string(), why),
            Failure::TooSlow(limit) => refused(&format!("takes longer than {} s to render", limit.as_secs())),
            Failure::TooLarge(limit) => refused(&format!("renders to more than {} MiB", limit >> 20)),
            Failure::Killed => refused("takes more processor time or memory to render than a chart may"),
            Failure::Ended { said } => {
                tracing::debug!(said, "helm refused a chart");
                HelmError::Refused(said::rule_of(&said))
            }
        }
    }
}

/// How many charts are rendered at once in this process, for pull requests and for whoever checks a recipe: each may use
/// a processor and gigabytes.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// The release's name, which charts put before the names of their objects.
const RELEASE: &str = "preview";
/// The file with the values, in helm's home.
const VALUES: &str = "values.json";
/// An address at which nothing listens.
const NOWHERE: &str = "http://127.0.0.1:9";

fn folder() -> Result<tempfile::TempDir, HelmError> {
    let made = tempfile::Builder::new().prefix("previewd-helm-").tempdir();
    made.map_err(|error| HelmError::NoProgram("helm".to_owned(), format!("there is no temporary folder: {error}")))
}

/// Writes a file whose path was admitted (`Recipe::admit_files`), or is our own.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a helm of before 4.1 makes of providers' versions of Kubernetes.
    #[tokio::test]
    async fn a_version_with_something_of_a_provider_is_a_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("helm");
        let script = "#!/bin/sh\ncase \"$*\" in *-gke.100*) echo 'Error: chart requires kubeVersion: >=1.26 which is \
                      incompatible with Kubernetes v1.32.1-gke.100' >&2; exit 1;; esac\nprintf 'args: %s' \"$*\"\n";
        std::fs::write(&program, script).expect("a script");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        let request = ChartRequest {
            source: ChartSource::Files(recipe::Files::new()),
            namespace: "pr-7".parse().expect("a namespace"),
            values: serde_json::json!({}),
            api_versions: Vec::new(),
            is_upgrade: false,
        };
        let helm = Helm::new(program, Vec::new());
        let outputs = helm.outputs(&request, Some("v1.32.1-gke.100")).await.expect("an output");
        assert!(outputs[0].contains("--kube-version v1.32.1 ") || outputs[0].ends_with("--kube-version v1.32.1"));
        let whole = helm.outputs(&request, Some("v1.32.1-eks-0")).await.expect("an output");
        assert!(whole[0].contains("v1.32.1-eks-0"), "charts may look at it");
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(parse_version("v4.3.1+gabc"), Some((4, 3, 1)));
        assert_eq!(parse_version("v3.18.4"), Some((3, 18, 4)));
        assert_eq!(parse_version("v3.18.4-rc.1"), Some((3, 18, 4)));
        assert_eq!(parse_version("v4.3"), Some((4, 3, 0)), "as distributions build it");
        assert_eq!(parse_version("4.3.1"), None);
    }
}
