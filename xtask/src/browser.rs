//! A real browser that does what people do: Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>), with
//! what it complains about.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{stand::free_port, web};

/// How the standard names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const START: Duration = Duration::from_secs(30);
/// How long a page may take to show what is looked for.
const FIND: Duration = Duration::from_secs(20);
/// How often an element may be replaced while it is clicked.
const REPLACED: usize = 10;
/// Rules of accessibility, run in the page: <https://www.npmjs.com/package/axe-core>, under the MPL 2.0.
const AXE: &str = "axe-core@4.14.1";

/// A browser with an empty profile. It ends with this.
pub struct Browser {
    driver: Child,
    _profile: TempDir,
    http: Client,
    session: String,
}

/// What a page does with colours, and how large it is.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is chromedriver's child, and would outlive it.
        if let Some(id) = self.driver.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

impl Browser {
    /// Starts `chromedriver` and the browser.
    pub async fn start(look: Look) -> Result<Self> {
        let chromium = crate::cluster::requirements::ensure_browser()?;
        let port = free_port()?;
        let profile = tempfile::tempdir()?;
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start chromedriver")?;
        let http = web::plain_client();
        let base = format!("http://127.0.0.1:{port}");
        let began = Instant::now();
        while !is_ready(&http, &base).await {
            if began.elapsed() > START {
                bail!("chromedriver does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let Look { width, height, dark } = look;
        let mut arguments = vec![
            "--headless=new".to_owned(),
            // As root it has no sandbox; it loads nothing here but the pages of this machine.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = call(&http, reqwest::Method::POST, &format!("{base}/session"), Some(wanted)).await?;
        let id = made["sessionId"].as_str().context("chromedriver began no session")?;
        let session = format!("{base}/session/{id}");
        let browser = Self { driver, _profile: profile, http, session };
        // The window's frame takes some of it; a phone's width is the page's.
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await?;
        Ok(browser)
    }

    async fn command(&self, path: &str, body: Value) -> Result<Value> {
        call(&self.http, reqwest::Method::POST, &format!("{}{path}", self.session), Some(body)).await
    }

    async fn read(&self, path: &str) -> Result<Value> {
        call(&self.http, reqwest::Method::GET, &format!("{}{path}", self.session), None).await
    }

    async fn devtools(&self, name: &str, parameters: Value) -> Result<Value> {
        self.command("/goog/cdp/execute", json!({ "cmd": name, "params": parameters })).await
    }

    pub async fn open(&self, url: &str) -> Result<()> {
        self.command("/url", json!({ "url": url })).await.map(drop)
    }

    pub async fn address(&self) -> Result<String> {
        Ok(self.read("/url").await?.as_str().unwrap_or_default().to_owned())
    }

    /// The element of a CSS selector, once it is there.
    async fn element(&self, selector: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            let wanted = json!({ "using": "css selector", "value": selector });
            match self.command("/element", wanted).await {
                Ok(found) => return Ok(found[ELEMENT].as_str().context("no element's id")?.to_owned()),
                Err(error) if began.elapsed() > FIND => {
                    let page = self.text("body").await.unwrap_or_default();
                    return Err(error.context(format!("there is no {selector} on {}:\n{page}", self.address().await?)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The text of an element as people see it.
    pub async fn text(&self, selector: &str) -> Result<String> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.command("/element", wanted).await?;
        let id = found[ELEMENT].as_str().context("no element's id")?;
        Ok(self.read(&format!("/element/{id}/text")).await?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an element's text has something in it, and gives it.
    pub async fn until_text(&self, selector: &str, wanted: &str, deadline: Duration) -> Result<String> {
        let began = Instant::now();
        loop {
            let text = self.text(selector).await.unwrap_or_default();
            if text.contains(wanted) {
                return Ok(text);
            }
            if began.elapsed() > deadline {
                bail!("{selector} does not show {wanted:?} within {} s, but\n{text}", deadline.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Clicks an element. Where a page that is live replaced it under the hand, the one that took its place.
    pub async fn click(&self, selector: &str) -> Result<()> {
        for _ in 0..REPLACED {
            let id = self.element(selector).await?;
            match self.command(&format!("/element/{id}/click"), json!({})).await {
                Err(error) if error.to_string().contains("stale element reference") => {}
                clicked => return clicked.map(drop),
            }
        }
        bail!("{selector} is replaced faster than anybody can click")
    }

    /// Types into an element, after what is there.
    pub async fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let id = self.element(selector).await?;
        self.command(&format!("/element/{id}/value"), json!({ "text": text })).await.map(drop)
    }

    /// Types on the keyboard, wherever the focus is. Keys without a letter have their own: Tab is U+E004, Enter U+E007.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        let source = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.command("/actions", source).await.map(drop)
    }

    /// Runs the body of a function in the page, and gives what it returns.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// A picture of what is in the window, as a PNG file.
    pub async fn photograph(&self, file: &Path) -> Result<()> {
        let picture = self.read("/screenshot").await?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let bytes = BASE64.decode(picture.as_str().context("no picture")?)?;
        fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }

    /// What the browser complained about since the last time: errors of scripts, what a policy refused, what could not be
    /// loaded.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.command("/se/log", json!({ "type": "browser" })).await?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        Ok(severe.filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect())
    }

    /// What the page breaks of the rules of accessibility, where that is serious: the rule and the elements.
    pub async fn barriers(&self) -> Result<Vec<String>> {
        let axe = fs::read_to_string(axe()?)?;
        self.run(&axe).await?;
        let script = "const done = arguments[arguments.length - 1]; axe.run().then((found) => done(found.violations\
                      .filter((rule) => ['serious', 'critical'].includes(rule.impact))\
                      .map((rule) => rule.id + ': ' + rule.nodes.map((node) => node.html).join(' '))));";
        let found = self.command("/execute/async", json!({ "script": script, "args": [] })).await?;
        let found = found.as_array().cloned().unwrap_or_default();
        Ok(found.iter().filter_map(|barrier| barrier.as_str().map(str::to_owned)).collect())
    }
}

async fn is_ready(http: &Client, base: &str) -> bool {
    let status = call(http, reqwest::Method::GET, &format!("{base}/status"), None).await;
    status.is_ok_and(|status| status["ready"] == true)
}

async fn call(http: &Client, method: reqwest::Method, url: &str, body: Option<Value>) -> Result<Value> {
    let mut request = http.request(method, url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.context("chromedriver is gone")?;
    let is_done = answer.status().is_success();
    let answer: Value = answer.json().await.context("chromedriver answers no JSON")?;
    let value = answer["value"].clone();
    if !is_done {
        bail!("{}: {}", value["error"].as_str().unwrap_or_default(), value["message"].as_str().unwrap_or_default());
    }
    Ok(value)
}

/// The file of the rules, fetched with `npm` where it is not there yet.
fn axe() -> Result<PathBuf> {
    let folder = crate::cluster::cache_directory()?.join(AXE.replace('@', "-"));
    let file = folder.join("package/axe.min.js");
    if file.exists() {
        return Ok(file);
    }
    fs::create_dir_all(&folder)?;
    let fetch = |program: &str, arguments: &[&str]| {
        let ended = std::process::Command::new(program).args(arguments).current_dir(&folder).output();
        let ended = ended.with_context(|| format!("cannot start {program}, which fetches {AXE}"))?;
        if !ended.status.success() {
            bail!("cannot fetch {AXE}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned())
    };
    let archive = fetch("npm", &["pack", "--silent", AXE])?;
    let archive = archive.lines().last().unwrap_or_default().to_owned();
    fetch("tar", &["--extract", "--gzip", "--file", &archive, "package/axe.min.js"])?;
    Ok(file)
}
