//! `previewd github setup`: a GitHub App for previewd, with one page and one click.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, ensure};
use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use previewd::{
    config::Unnamed,
    github::{NewApp, address, convert, manifest},
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use toml_edit::{Array, DocumentMut, value};
use url::Url;

use super::{Global, output::print};

const KEY_FILE: &str = "previewd-app.pem";

/// Make a GitHub App for previewd
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve one page on this machine that makes the App with one click, and write its credentials into the configuration
    Setup(Setup),
}

#[derive(Debug, clap::Args)]
pub struct Setup {
    /// The organization that the App is to belong to [default: whoever clicks]
    #[arg(long, value_name = "NAME", value_parser = organization)]
    pub organization: Option<String>,
    /// The App's name, which no other App on GitHub has
    #[arg(long, value_name = "NAME", default_value = "previewd")]
    pub name: String,
    /// The port of this machine's loopback that the page is at
    #[arg(long, default_value_t = 8790)]
    pub port: u16,
}

fn organization(text: &str) -> Result<String, &'static str> {
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_name { Ok(text.to_owned()) } else { Err("must be an organization's name, such as acme") }
}

#[derive(Template)]
#[template(path = "setup.html")]
struct Page<'a> {
    /// Where the form goes. Empty: it is done.
    address: &'a str,
    manifest: &'a str,
    /// Where the App is installed, once there is one.
    install: &'a str,
    complaint: &'a str,
}

/// What the page is made with, and what it gives.
struct Setting {
    api: Url,
    address: String,
    manifest: String,
    state: String,
    /// The configuration, and the file of the App's key.
    path: PathBuf,
    key: PathBuf,
    /// Where the page is.
    own: String,
    made: mpsc::Sender<anyhow::Result<String>>,
}

#[derive(Deserialize)]
struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
}

pub async fn run(Args { command: Command::Setup(setup) }: Args, global: Global) -> anyhow::Result<ExitCode> {
    global.stay_here()?;
    let config = global.start(Unnamed::InTheWorkingDirectory)?;
    let path = global.path();
    let public_url = config.public_url.clone().context("set public_url first: GitHub sends its webhooks there")?;
    let is_set = config.github.app.is_some()
        || config.github.token.is_some()
        || config.github.login.is_some()
        || !config.github.webhook_secrets.is_empty();
    ensure!(
        !is_set,
        "{} has credentials for GitHub already; take github.app, github.token, github.login and github.webhook_secrets out \
         first",
        path.display()
    );
    let key = path.with_file_name(KEY_FILE);
    ensure!(!key.exists(), "{} is there already; move it away first", key.display());

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, setup.port)).await;
    let listener =
        listener.with_context(|| format!("cannot listen on 127.0.0.1:{}; try another --port", setup.port))?;
    let own = listener.local_addr()?.to_string();
    let state = hex::encode(rand::random::<[u8; 16]>());
    let (made, mut making) = mpsc::channel(1);
    let setting = Setting {
        api: config.github.api_url.clone(),
        address: address(&config.github.web_url(), setup.organization.as_deref(), &state),
        manifest: manifest(&setup.name, &public_url, &format!("http://{own}/created")).to_string(),
        state,
        path,
        key,
        own: own.clone(),
        made,
    };
    let router = Router::new().route("/", get(show)).route("/created", get(created)).with_state(Arc::new(setting));
    print(&format!("Open http://{own}/ in a browser that is signed in at GitHub. Ctrl-C gives it up.\n"))?;
    let stop = CancellationToken::new();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());
    let made = tokio::select! {
        made = making.recv() => made,
        _ = tokio::signal::ctrl_c() => None,
    };
    // The last page is on its way.
    stop.cancel();
    serving.await??;
    print(&made.context("nothing was made")??)?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps what GitHub gave, and says where.
fn keep(setting: &Setting, app: &NewApp) -> anyhow::Result<String> {
    let Setting { path, key, .. } = setting;
    write_new(key, app.pem.expose_secret())?;
    if let Err(error) = add_to(path, app) {
        fs::remove_file(key).context("cannot take the key back")?;
        return Err(error);
    }
    Ok(format!(
        "The App {} is made; its credentials are in {} and {}.\nInstall it on your repositories: {}/installations/new\n",
        app.slug,
        path.display(),
        key.display(),
        app.html_url,
    ))
}

/// A file that only this user reads.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let created = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Adds an App to the configuration, which keeps all else as it is, its comments too.
fn add_to(path: &Path, app: &NewApp) -> anyhow::Result<()> {
    let NewApp { id, client_id, client_secret, webhook_secret, .. } = app;
    let text =
        if path.exists() { fs::read_to_string(path).context("cannot read the configuration")? } else { String::new() };
    let mut document: DocumentMut = text.parse().context("the configuration is not TOML")?;
    let github = document.entry("github").or_insert(toml_edit::table());
    github["webhook_secrets"] = value(Array::from_iter([webhook_secret.expose_secret()]));
    github["app"]["id"] = value(i64::try_from(*id)?);
    github["app"]["private_key_path"] = value(KEY_FILE);
    github["login"]["client_id"] = value(client_id);
    github["login"]["client_secret"] = value(client_secret.expose_secret());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whole or not at all; the new one holds secrets, and is readable by this user only.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(document.to_string().as_bytes())?;
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

impl Setting {
    /// Whether a request is for this page by its own address: another site's name may lead here as well.
    fn is_own(&self, headers: &HeaderMap) -> bool {
        headers.get(header::HOST).is_some_and(|host| host.as_bytes() == self.own.as_bytes())
    }

    fn form<'a>(&'a self, complaint: &'a str) -> Page<'a> {
        Page { address: &self.address, manifest: &self.manifest, install: "", complaint }
    }
}

async fn show(State(setting): State<Arc<Setting>>, headers: HeaderMap) -> Response {
    if !setting.is_own(&headers) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    page(StatusCode::OK, &setting.form(""))
}

async fn created(
    State(setting): State<Arc<Setting>>,
    Query(Returned { code, state }): Query<Returned>,
    headers: HeaderMap,
) -> Response {
    if !setting.is_own(&headers) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    if !bool::from(state.as_bytes().ct_eq(setting.state.as_bytes())) {
        return page(StatusCode::BAD_REQUEST, &setting.form("GitHub's answer is to another page. Begin again."));
    }
    let app = match convert(&setting.api, &code).await {
        Ok(app) => app,
        Err(error) => {
            return page(StatusCode::BAD_GATEWAY, &setting.form(&format!("It was not made: {error:#}.")));
        }
    };
    let kept =
        keep(&setting, &app).context("the App is made, but not its configuration; delete it on GitHub and begin again");
    let answer = match &kept {
        Ok(_) => {
            let install = format!("{}/installations/new", app.html_url);
            page(StatusCode::OK, &Page { address: "", manifest: "", install: &install, complaint: "" })
        }
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, &setting.form(&format!("{error:#}."))),
    };
    // Err: one was made a moment ago, and the page is about to end.
    let _ = setting.made.try_send(kept);
    answer
}

fn page(status: StatusCode, page: &Page<'_>) -> Response {
    // The form leads to GitHub, and nothing else leads anywhere.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    match page.render() {
        Ok(html) => (status, headers, Html(html)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Global {
    /// Where the configuration is, or is to be.
    fn path(&self) -> PathBuf {
        self.file(Unnamed::InTheWorkingDirectory).unwrap_or_else(|| PathBuf::from("previewd.toml"))
    }
}

#[cfg(test)]
mod tests {
    use previewd::config::Config;

    use super::*;

    #[test]
    fn what_is_written_is_a_configuration() {
        let json = serde_json::json!({
            "id": 7, "slug": "previewd", "html_url": "https://github.com/apps/previewd", "client_id": "Iv1",
            "client_secret": "s\"3", "webhook_secret": "a-long-secret-of-webhooks", "pem": "-----BEGIN",
        });
        let app: NewApp = serde_json::from_value(json).unwrap();
        let teams = "# ours\n[teams.shop]\nrepositories = ['acme/*']\n";
        for before in [
            "",
            "public_url = 'https://p.example.com' # here\n",
            "[github]\nreport = 'both'\n",
            "github.report = 'both'\n",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("previewd.toml");
            write_new(&path, &format!("{before}{teams}")).unwrap();
            add_to(&path, &app).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(before) && text.contains("# ours"), "{text}");
            let config = Config::load(Some(&path), Unnamed::OfTheUser, std::iter::empty())
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let app = config.github.app.unwrap();
            assert_eq!((app.id, app.private_key_path), (7, Some(folder.path().join(KEY_FILE))));
            assert_eq!((config.github.webhook_secrets.len(), config.teams.len()), (1, 1));
            assert_eq!(config.github.login.unwrap().client_secret.expose_secret(), "s\"3");
        }
    }
}
