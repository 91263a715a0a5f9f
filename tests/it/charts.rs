//! Charts of elsewhere, for real: pushed to a registry, and served by a chart repository, on this machine; rendered by
//! previewd as its operator configured it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use axum::{Router, extract::State, http::StatusCode, http::Uri};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use xtask::cluster::{REGISTRY_PASSWORD, REGISTRY_USER, Registry, helm};

use super::recipes::WEB;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Two charts in two versions, one of which needs the other, packed; and a helm that made them.
struct Charts {
    folder: TempDir,
    helm: PathBuf,
}

/// A chart whose one object says which version of it was rendered.
fn write_chart(folder: &Path, name: &str, version: &str, more: &str, data: &str) {
    fs::create_dir_all(folder.join("templates")).unwrap();
    fs::write(folder.join("Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: {version}\n{more}")).unwrap();
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}\ndata:\n  version: {{{{ .Chart.Version }}}}\n{data}"
    );
    fs::write(folder.join("templates/map.yaml"), map).unwrap();
    if name == "base" {
        fs::write(folder.join("templates/led-to.yaml"), WEB).unwrap();
    }
}

impl Charts {
    async fn make() -> Self {
        let helm = tokio::task::spawn_blocking(helm).await.unwrap().unwrap();
        let charts = Self { folder: tempfile::tempdir().unwrap(), helm };
        let folder = charts.folder.path();
        for version in ["1.0.0", "1.1.0"] {
            write_chart(&folder.join("base"), "base", version, "", "");
            charts.helm(&["package", "base", "--destination", "packed"]).await;
        }
        let needs = "dependencies: [{ name: base, version: 1.0.0, repository: '' }]\n";
        write_chart(&folder.join("web"), "web", "2.0.0", needs, "  commit: {{ .Values.commit }}\n");
        fs::create_dir(folder.join("web/charts")).unwrap();
        fs::copy(folder.join("packed/base-1.0.0.tgz"), folder.join("web/charts/base-1.0.0.tgz")).unwrap();
        charts.helm(&["package", "web", "--destination", "packed"]).await;
        charts
    }

    /// Runs helm as a person would.
    async fn helm(&self, arguments: &[&str]) {
        let folder = self.folder.path();
        let mut command = Command::new(&self.helm);
        command.args(arguments).current_dir(folder).env_clear().env("HOME", folder);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn push_to(&self, registry: &Registry) {
        let place = format!("oci://{}/charts", registry.host());
        let auths =
            json!({ "auths": { registry.host(): { "username": REGISTRY_USER, "password": REGISTRY_PASSWORD } } });
        fs::write(self.folder.path().join("registries.json"), auths.to_string()).unwrap();
        for chart in ["base-1.0.0", "base-1.1.0", "web-2.0.0"] {
            let packed = format!("packed/{chart}.tgz");
            self.helm(&["push", &packed, &place, "--plain-http", "--registry-config", "registries.json"]).await;
        }
    }

    /// Serves them as a chart repository. Gives its address.
    async fn serve(&self) -> String {
        async fn file(State(folder): State<Arc<PathBuf>>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
            fs::read(folder.join(uri.path().trim_start_matches('/'))).map_err(|_| StatusCode::NOT_FOUND)
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        self.helm(&["repo", "index", "packed", "--url", &address]).await;
        let router = Router::new().fallback(file).with_state(Arc::new(self.folder.path().join("packed")));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// `previewd recipe render` of these files, under an operator's configuration. The objects, or what it said.
    async fn render(&self, files: &[(&str, &str)], config: &str) -> Result<Vec<Value>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let settings = folder.path().join("previewd.toml");
        fs::write(&settings, format!("helm.path = {:?}\n{config}", self.helm)).unwrap();
        let mut command = Command::new(xtask::previewd::binary().unwrap());
        command.arg("--config").arg(settings).args(["recipe", "render"]).arg(folder.path());
        command.args(["--commit", COMMIT, "--output", "json"]).env_clear();
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!said.contains(REGISTRY_PASSWORD), "the password got out: {said}");
        if output.status.success() { Ok(serde_json::from_slice(&output.stdout).unwrap()) } else { Err(said) }
    }
}

/// The versions of the charts `base` and `web` that are among the objects, and the commit of the latter.
fn versions(objects: &[Value]) -> [Option<&str>; 3] {
    let map = |name: &str| objects.iter().find(|o| o["kind"] == "ConfigMap" && o["metadata"]["name"] == name);
    let data = |name: &str, key: &str| map(name).and_then(|map| map["data"][key].as_str());
    [data("base", "version"), data("web", "version"), data("web", "commit")]
}

/// A recipe of a chart of elsewhere.
fn elsewhere(chart: &str) -> String {
    format!(
        "version: 1\nhelm: {{ {chart}, values: {{ commit: '{{{{ sha }}}}' }} }}\nexpose: {{ service: web, port: 80 }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_of_a_registry_comes_with_what_it_needs() {
    let charts = Charts::make().await;
    let registry = Registry::start(Ipv4Addr::LOCALHOST, false).await.unwrap();
    charts.push_to(&registry).await;
    let place = format!("oci://{}/charts", registry.host());
    let allowed = format!("helm.repositories = [{place:?}]\n");
    let recipe = |chart: &str, version: &str| elsewhere(&format!("chart: '{place}/{chart}', version: '{version}'"));
    for version in ["2.0.0", "^2.0"] {
        let objects = charts.render(&[(".preview.yaml", &recipe("web", version))], &allowed).await.unwrap();
        assert_eq!(versions(&objects), [Some("1.0.0"), Some("2.0.0"), Some(COMMIT)]);
    }
    for (chart, version, config, sentence) in [
        ("web", "2.0.0", "", "The chart is of a place that the operator does not allow (helm.repositories)."),
        ("web", "9.0.0", allowed.as_str(), "The chart is not there."),
        ("other", "2.0.0", allowed.as_str(), "The chart is not there."),
    ] {
        let said = charts.render(&[(".preview.yaml", &recipe(chart, version))], config).await.expect_err(chart);
        assert!(said.contains(sentence), "{chart} {version}: {said}");
    }
    drop(registry);
    let said = charts.render(&[(".preview.yaml", &recipe("web", "2.0.0"))], &allowed).await.expect_err("nobody");
    assert!(said.contains("cannot be fetched, because the place that it is kept at does not answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_registry_is_asked_with_the_operators_credentials() {
    let charts = Charts::make().await;
    let registry = Registry::start(Ipv4Addr::LOCALHOST, true).await.unwrap();
    charts.push_to(&registry).await;
    let host = registry.host();
    let allowed = format!("helm.repositories = [\"oci://{host}/charts\"]\n");
    let with = |password: &str| {
        format!("{allowed}[registries.\"{host}\"]\nusername = \"{REGISTRY_USER}\"\npassword = \"{password}\"\n")
    };
    let recipe = elsewhere(&format!("chart: 'oci://{host}/charts/web', version: 2.0.0"));
    let files = [(".preview.yaml", recipe.as_str())];
    let objects = charts.render(&files, &with(REGISTRY_PASSWORD)).await.unwrap();
    assert_eq!(versions(&objects), [Some("1.0.0"), Some("2.0.0"), Some(COMMIT)]);
    let said = charts.render(&files, &allowed).await.expect_err("nobody's");
    assert!(said.contains("The chart may not be fetched without the registry's credentials (registries)."), "{said}");
    let said = charts.render(&files, &with("another-password")).await.expect_err("somebody's");
    assert!(said.contains("The chart may not be fetched with the operator's credentials."), "{said}");

    // What a chart of the repository's own needs is fetched with them as well.
    let needs = format!(
        "apiVersion: v2\nname: web\nversion: 3.0.0\ndependencies: [{{ name: base, version: 1.1.0, repository: 'oci://{host}/charts' }}]\n"
    );
    let own = [
        (".preview.yaml", "version: 1\nhelm: { chart: ./chart }\nexpose: { service: web, port: 80 }\n"),
        ("chart/Chart.yaml", needs.as_str()),
    ];
    let objects = charts.render(&own, &with(REGISTRY_PASSWORD)).await.unwrap();
    assert_eq!(versions(&objects)[0], Some("1.1.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_repository_serves_charts_and_what_they_need() {
    let charts = Charts::make().await;
    let place = charts.serve().await;
    let allowed = format!("helm.repositories = [{place:?}]\n");
    let recipe = elsewhere(&format!("chart: web, version: ^2.0, repository: '{place}'"));
    let objects = charts.render(&[(".preview.yaml", &recipe)], &allowed).await.unwrap();
    assert_eq!(versions(&objects), [Some("1.0.0"), Some("2.0.0"), Some(COMMIT)]);

    // A chart of the repository's own, which needs one of theirs.
    let needs = format!(
        "apiVersion: v2\nname: web\nversion: 3.0.0\ndependencies: [{{ name: base, version: ^1.0.0, repository: '{place}' }}]\n"
    );
    let own = [
        (".preview.yaml", "version: 1\nhelm: { chart: ./chart }\nexpose: { service: web, port: 80 }\n"),
        ("chart/Chart.yaml", needs.as_str()),
    ];
    let objects = charts.render(&own, &allowed).await.unwrap();
    assert_eq!(versions(&objects)[0], Some("1.1.0"), "the newest of what it takes");
    let lock = "dependencies: [{ name: base, version: 1.0.0, repository: x }]\ndigest: x\n";
    let locked = [own[0], own[1], ("chart/Chart.lock", lock)];
    let objects = charts.render(&locked, &allowed).await.unwrap();
    assert_eq!(versions(&objects)[0], Some("1.0.0"), "the one that it was tried with");

    let said = charts.render(&own, "").await.expect_err("not allowed");
    assert!(
        said.contains("The chart needs other charts: put them into its folder charts/, or have the operator"),
        "{said}"
    );
    let missing = recipe.replace("chart: web", "chart: other");
    let said = charts.render(&[(".preview.yaml", &missing)], &allowed).await.expect_err("other");
    assert!(said.contains("The chart is not there"), "{said}");
}
