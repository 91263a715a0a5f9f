//! The cluster's programs, built from Go modules into the user's cache: minutes once per version, then nothing.
//!
//! Each module's go.mod and go.sum are part of this crate; their digest names the folder of what was built from them.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::requirements;

/// A Go module of ours: for other people's commands only its go.mod and go.sum, for our own its sources too.
struct Module {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// The module whose version names the cache folder, and is stamped into the programs.
    version_of: Option<&'static str>,
}

macro_rules! module_files {
    ($directory:literal, $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../", $directory, "/", $file)))),+]
    };
}

static KUBERNETES: Module = Module {
    name: "kubernetes",
    files: module_files!("cluster/kubernetes", "go.mod", "go.sum"),
    version_of: Some("k8s.io/kubernetes"),
};
static KUBECTL_COMMAND: Module = Module {
    name: "kubectl",
    files: module_files!("cluster/kubectl", "go.mod", "go.sum"),
    version_of: Some("k8s.io/kubernetes"),
};
static METRICS_SERVER: Module = Module {
    name: "metrics-server",
    files: module_files!("cluster/metrics-server", "go.mod", "go.sum"),
    version_of: Some("sigs.k8s.io/metrics-server"),
};
static COREDNS: Module = Module {
    name: "coredns",
    files: module_files!("cluster/coredns", "go.mod", "go.sum"),
    version_of: Some("github.com/coredns/coredns"),
};
static HELM_COMMAND: Module = Module {
    name: "helm",
    files: module_files!("cluster/helm", "go.mod", "go.sum"),
    version_of: Some("helm.sh/helm/v4"),
};
static REGISTRY_COMMAND: Module = Module {
    name: "registry",
    files: module_files!("cluster/registry", "go.mod", "go.sum"),
    version_of: Some("github.com/distribution/distribution/v3"),
};
static COMPOSE_SPEC: Module = Module {
    name: "compose",
    files: module_files!("cluster/compose", "go.mod", "go.sum"),
    version_of: Some("github.com/compose-spec/compose-go/v2"),
};
static PROMETHEUS: Module = Module {
    name: "prometheus",
    files: module_files!("cluster/prometheus", "go.mod", "go.sum", "main.go"),
    version_of: None,
};
static GATEWAY_API: Module = Module {
    name: "gateway-api",
    files: module_files!("cluster/gateway-api", "go.mod", "go.sum"),
    version_of: Some("sigs.k8s.io/gateway-api"),
};
static SAMPLE: Module = Module {
    name: "sample",
    files: module_files!("sample", "go.mod", "go.sum", "pause/main.go", "shop/main.go"),
    version_of: None,
};

/// A program of the cluster, and where it comes from.
pub struct Program {
    pub(super) name: &'static str,
    package: &'static str,
    module: &'static Module,
}

const fn program(name: &'static str, module: &'static Module, package: &'static str) -> Program {
    Program { name, package, module }
}

pub static ETCD: Program = program("etcd", &KUBERNETES, "go.etcd.io/etcd/server/v3");
pub static API_SERVER: Program = program("kube-apiserver", &KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver");
pub static CONTROLLER_MANAGER: Program =
    program("kube-controller-manager", &KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager");
pub static SCHEDULER: Program = program("kube-scheduler", &KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler");
pub static KUBELET: Program = program("kubelet", &KUBERNETES, "k8s.io/kubernetes/cmd/kubelet");
pub static KUBE_PROXY: Program = program("kube-proxy", &KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy");
pub static KUBECTL: Program = program("kubectl", &KUBECTL_COMMAND, "k8s.io/kubernetes/cmd/kubectl");
pub static METRICS: Program =
    program("metrics-server", &METRICS_SERVER, "sigs.k8s.io/metrics-server/cmd/metrics-server");
pub static DNS: Program = program("coredns", &COREDNS, "github.com/coredns/coredns");
pub static HELM: Program = program("helm", &HELM_COMMAND, "helm.sh/helm/v4/cmd/helm");
pub static REGISTRY: Program =
    program("registry", &REGISTRY_COMMAND, "github.com/distribution/distribution/v3/cmd/registry");
pub static COMPOSE: Program = program("compose-spec", &COMPOSE_SPEC, "github.com/compose-spec/compose-go/v2/cmd");
pub static RULES: Program = program("prometheus-rules", &PROMETHEUS, ".");
pub static PAUSE: Program = program("pause", &SAMPLE, "./pause");
pub static SHOP: Program = program("shop", &SAMPLE, "./shop");

/// What a cluster of API server and controllers runs.
pub static FOR_AN_API: &[&Program] = &[&ETCD, &API_SERVER, &CONTROLLER_MANAGER, &SCHEDULER];
/// What a node runs in addition.
pub static FOR_A_NODE: &[&Program] = &[&KUBELET, &KUBE_PROXY, &METRICS, &DNS, &PAUSE, &SHOP];
/// What tests run beside a cluster.
pub static FOR_TESTS: &[&Program] = &[&KUBECTL, &HELM, &REGISTRY, &COMPOSE, &RULES];

impl Program {
    /// Where its binary is once [`ensure`] has built it.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(cache_directory()?.join(self.module.cache_key()).join(self.name))
    }
}

/// Builds those of the programs that the cache does not have. Blocks, for minutes where there is much to build.
///
/// # Errors
/// If Go is missing, or a build fails; the error carries the end of what Go wrote.
pub fn ensure(programs: &[&Program]) -> Result<()> {
    let missing = || -> Result<Vec<&Program>> {
        let mut missing = Vec::new();
        for program in programs {
            if !program.path()?.exists() {
                missing.push(*program);
            }
        }
        Ok(missing)
    };
    if missing()?.is_empty() {
        return Ok(());
    }
    let go = requirements::find_go()?;
    let _lock = lock_cache()?;
    // Another process may have built them meanwhile.
    let missing = missing()?;
    let progress = Progress::new(missing.len());
    for program in missing {
        progress.begin(program.name);
        program.build(&go)?;
        progress.end(program.name);
    }
    Ok(())
}

/// The definitions of the Gateway API's kinds in its standard channel, as YAML. Blocks while they are fetched, once per
/// version.
///
/// # Errors
/// If Go is missing, or the module cannot be fetched.
pub fn gateway_definitions() -> Result<Vec<String>> {
    let kept = cache_directory()?.join(GATEWAY_API.cache_key()).join("standard");
    if !kept.exists() {
        let go = requirements::find_go()?;
        let lock = lock_cache()?;
        if !kept.exists() {
            GATEWAY_API.fetch(&go, "config/crd/standard", &kept)?;
        }
        drop(lock);
    }
    let mut definitions = Vec::new();
    for entry in fs::read_dir(&kept).with_context(|| format!("cannot read {}", kept.display()))? {
        definitions.push(fs::read_to_string(entry?.path())?);
    }
    Ok(definitions)
}

/// Held by whoever puts something into the cache.
fn lock_cache() -> Result<File> {
    let cache = cache_directory()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("build.lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another process that builds the local cluster's programs");
        lock.lock().context("cannot lock the cache of the local cluster's programs")?;
    }
    Ok(lock)
}

impl Program {
    fn build(&self, go: &Path) -> Result<()> {
        let path = self.path()?;
        let directory = path.parent().context("a cached program has a folder")?;
        let source = self.module.write_source(directory)?;
        // Not by the program's name, which a folder of sources may have.
        let unfinished = source.join("unfinished");
        let mut flags = String::from("-s -w");
        if let Some((_, version)) = self.module.version() {
            // Without it clients cannot tell what they talk to.
            flags.push_str(&format!(" -X k8s.io/component-base/version.gitVersion={version}"));
        }
        // Minutes of compiling would otherwise go on after whoever wanted them was killed.
        let built = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(go)
            .current_dir(&source)
            .args(["build", "-trimpath", "-mod=readonly", "-ldflags", &flags, "-o"])
            .arg(&unfinished)
            .arg(self.package)
            .envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GOFLAGS", "")])
            .output()
            .with_context(|| format!("cannot run {}", go.display()))?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            let lines: Vec<&str> = said.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            bail!("cannot build {} ({}):\n{end}", self.name, built.status);
        }
        // The rename is what makes it exist, so an interrupted build leaves none that looks complete.
        fs::rename(&unfinished, &path).with_context(|| format!("cannot put {} in place", path.display()))?;
        Ok(fs::remove_dir_all(&source)?)
    }
}

impl Module {
    /// A copy in the cache's folder of the module: go must not write to the checkout, and may not be able to. One place
    /// for all builds, which the lock keeps apart, so that an interrupted one leaves nothing behind for good.
    fn write_source(&self, directory: &Path) -> Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let source = directory.join("source");
        let _ = fs::remove_dir_all(&source);
        for (name, text) in self.files {
            let file = source.join(name);
            fs::create_dir_all(file.parent().context("a source file has a folder")?)?;
            fs::write(file, text)?;
        }
        Ok(source)
    }

    /// Keeps the files of a folder of the module whose version counts, as go.sum knows it.
    fn fetch(&self, go: &Path, folder: &str, kept: &Path) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Fetched {
            #[serde(rename = "Dir")]
            directory: PathBuf,
        }
        let (wanted, _) = self.version().context("the module requires nothing")?;
        let source = self.write_source(kept.parent().context("a cached folder has a parent")?)?;
        let fetched = Command::new(go)
            .current_dir(&source)
            .args(["mod", "download", "-json", wanted])
            .envs([("GOWORK", "off"), ("GOFLAGS", "-mod=readonly")])
            .output()
            .with_context(|| format!("cannot run {}", go.display()))?;
        if !fetched.status.success() {
            bail!("cannot fetch {wanted}:\n{}", String::from_utf8_lossy(&fetched.stdout));
        }
        let Fetched { directory } = serde_json::from_slice(&fetched.stdout)?;
        let unfinished = source.join("unfinished");
        fs::create_dir_all(&unfinished)?;
        for entry in fs::read_dir(directory.join(folder))? {
            let entry = entry?;
            fs::write(unfinished.join(entry.file_name()), fs::read(entry.path())?)?;
        }
        fs::rename(&unfinished, kept).with_context(|| format!("cannot put {} in place", kept.display()))?;
        Ok(fs::remove_dir_all(&source)?)
    }

    fn cache_key(&self) -> String {
        let mut digest = Sha256::new();
        for (name, text) in self.files {
            digest.update(name);
            digest.update([0]);
            digest.update(text);
            digest.update([0]);
        }
        let digest = hex::encode(&digest.finalize()[..6]);
        match self.version() {
            Some((_, version)) => format!("{}-{version}-{digest}", self.name),
            None => format!("{}-{digest}", self.name),
        }
    }

    /// The required module whose version counts, with that version from go.mod.
    fn version(&self) -> Option<(&'static str, &'static str)> {
        let wanted = self.version_of?;
        let (_, go_mod) = self.files.iter().find(|(name, _)| *name == "go.mod")?;
        go_mod.lines().find_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split_whitespace();
            (words.next()? == wanted).then_some((wanted, words.next()?)).filter(|(_, version)| version.starts_with('v'))
        })
    }
}

pub(crate) fn cache_directory() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir().context("there is neither XDG_CACHE_HOME nor a home folder")?.join(".cache"),
    };
    Ok(base.join("previewd").join("cluster"))
}

/// One line per program: live in a terminal, plain in a log.
struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    total: usize,
}

impl Progress {
    fn new(total: usize) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} building {msg}  {pos}/{len}  {elapsed_precise}");
            let bar = ProgressBar::new(total as u64).with_style(style.expect("the template is valid"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress { bar, started: Instant::now(), total }
    }

    fn begin(&self, name: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{name} (the local cluster, once per version)")),
            None => eprintln!("building {name} for the local cluster (once per version)"),
        }
    }

    fn end(&self, name: &str) {
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                if bar.position() == self.total as u64 {
                    bar.finish_and_clear();
                }
            }
            None => eprintln!("built {name} ({} s so far)", self.started.elapsed().as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_of_other_peoples_commands_has_a_version() {
        let kubernetes = [&KUBERNETES, &KUBECTL_COMMAND, &METRICS_SERVER, &COREDNS];
        for module in kubernetes.into_iter().chain([&HELM_COMMAND, &REGISTRY_COMMAND, &GATEWAY_API]) {
            assert!(module.version().is_some(), "{}", module.name);
        }
    }
}
