//! A GitHub App made from a manifest: GitHub shows what is asked for, somebody clicks once, and GitHub gives the App's
//! credentials for a code. <https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest>

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::{
    identity::login_callback,
    outbound::{HttpClient, Reach},
};

const TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_ANSWER: usize = 256 << 10;

/// What the App has to be told of. Of installations GitHub tells every App.
pub const EVENTS: [&str; 5] =
    ["pull_request", "issue_comment", "pull_request_review", "pull_request_review_comment", "repository"];
/// What tells besides that an image may be there.
const BUILT: &str = "workflow_run";

/// What GitHub gives of an App, this one time.
#[derive(Debug, Deserialize)]
pub struct NewApp {
    pub id: u64,
    pub slug: String,
    /// The App's page.
    pub html_url: Url,
    pub client_id: String,
    pub client_secret: SecretString,
    pub webhook_secret: SecretString,
    /// The private key.
    pub pem: SecretString,
}

/// What the App is to be: `name` is one that no other App has; `public_url` is previewd's address, and `redirect_url`
/// where GitHub leads to with the code.
pub fn manifest(name: &str, public_url: &Url, redirect_url: &str) -> Value {
    let callback = login_callback(public_url);
    let events = [&EVENTS[..], &[BUILT]].concat();
    let public_url = public_url.as_str().trim_end_matches('/');
    json!({
        "name": name,
        "url": public_url,
        "description": "A preview environment for every pull request",
        "public": false,
        "hook_attributes": { "url": format!("{public_url}/webhooks/github"), "active": true },
        "redirect_url": redirect_url,
        "callback_urls": [callback],
        "default_permissions": {
            "metadata": "read",
            "contents": "read",
            "pull_requests": "write",
            "issues": "write",
            "deployments": "write",
            "actions": "read",
        },
        "default_events": events,
    })
}

/// Where a browser takes a manifest to. `organization`: whose App it is to be; None: of whoever clicks.
pub fn address(web: &Url, organization: Option<&str>, state: &str) -> String {
    let web = web.as_str().trim_end_matches('/');
    let owner = organization.map(|name| format!("organizations/{name}/")).unwrap_or_default();
    format!("{web}/{owner}settings/apps/new?state={state}")
}

/// Takes the code that GitHub led back with for the App. Good once, for an hour.
///
/// # Errors
/// Where GitHub cannot be asked, or does not know the code.
pub async fn convert(api: &Url, code: &str) -> anyhow::Result<NewApp> {
    // It is a part of a path, and of GitHub's own making.
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("that is no code of GitHub's");
    }
    let api = api.as_str().trim_end_matches('/');
    let request = Request::post(format!("{api}/app-manifests/{code}/conversions"))
        .header(header::ACCEPT, "application/vnd.github+json")
        .body(Full::<Bytes>::default())?;
    let asked = HttpClient::new(Reach::Anywhere)?.json(request, TIMEOUT, LONGEST_ANSWER).await;
    asked.context("GitHub does not give the App; begin again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_whoever_is_to_have_it() {
        let web = Url::parse("https://github.com").unwrap();
        assert_eq!(address(&web, None, "x"), "https://github.com/settings/apps/new?state=x");
        let of_acme = address(&web, Some("acme"), "x");
        assert_eq!(of_acme, "https://github.com/organizations/acme/settings/apps/new?state=x");
        let asked = manifest("previewd", &Url::parse("https://previewd.example.com/").unwrap(), "http://127.0.0.1:1/");
        assert_eq!(asked["hook_attributes"]["url"], "https://previewd.example.com/webhooks/github");
    }

    #[tokio::test]
    async fn what_is_no_code_is_not_sent() {
        let api = Url::parse("http://127.0.0.1:1").unwrap();
        for code in ["", "../app", "a/b", "a?b"] {
            assert!(convert(&api, code).await.unwrap_err().to_string().contains("no code"), "{code}");
        }
    }
}
