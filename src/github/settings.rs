//! The `[github]` section of the configuration.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::{environment::ReportTo, identity::LoginSettings};

/// How previewd reaches GitHub, and as whom: a GitHub App (`app`) or a personal access token (`token`), one of the two.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitHubSettings {
    /// GitHub's REST API. For GitHub Enterprise Server: `https://{host}/api/v3`; with data residency:
    /// `https://api.{name}.ghe.com`.
    #[serde(default = "GitHubSettings::default_api_url")]
    #[schemars(with = "String", url)]
    pub api_url: Url,

    /// The GitHub App that previewd acts as.
    #[serde(default)]
    pub app: Option<AppSettings>,

    /// A personal access token, fine-grained or classic, instead of an App. Needs to read contents and write pull
    /// requests.
    #[serde(default, deserialize_with = "optional_secret")]
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretString>,

    /// Lets people sign in to the dashboard with GitHub.
    #[serde(default)]
    pub login: Option<LoginSettings>,

    /// How pull requests are told of their previews, where the recipe does not say it: by a comment, by GitHub's
    /// deployments (which need the permission to write deployments), by both or not at all.
    #[serde(default = "GitHubSettings::default_report")]
    pub report: ReportTo,

    /// The secrets that webhooks may be signed with. Several while one is being replaced by another.
    #[serde(default, deserialize_with = "secrets")]
    #[schemars(with = "Vec<String>")]
    pub webhook_secrets: Vec<SecretString>,
}

/// A GitHub App: its id, and its private key as text or as a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// The number that the App's settings page calls App ID.
    pub id: u64,

    /// The private key as GitHub gives it: PEM, beginning with `-----BEGIN RSA PRIVATE KEY-----`.
    #[serde(default, deserialize_with = "optional_secret")]
    #[schemars(with = "Option<String>")]
    pub private_key: Option<SecretString>,

    /// The file that holds the private key, instead of `private_key`.
    #[serde(default)]
    pub private_key_path: Option<PathBuf>,
}

/// A setting that previewd cannot work with: its key, and what to do about it. Never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidGitHubSettings {
    pub key: &'static str,
    pub problem: String,
}

impl InvalidGitHubSettings {
    pub(super) fn new(key: &'static str, problem: impl fmt::Display) -> Self {
        Self { key, problem: problem.to_string() }
    }
}

/// As whom previewd acts on GitHub.
pub(super) enum Credentials {
    App { id: u64, key: octocrab::auth::EncodingKey },
    Token(SecretString),
}

impl Default for GitHubSettings {
    fn default() -> Self {
        Self {
            api_url: Self::default_api_url(),
            app: None,
            token: None,
            login: None,
            report: Self::default_report(),
            webhook_secrets: Vec::new(),
        }
    }
}

impl GitHubSettings {
    fn default_api_url() -> Url {
        Url::parse("https://api.github.com").expect("a constant URL")
    }

    fn default_report() -> ReportTo {
        ReportTo::Comment
    }

    /// GitHub as browsers see it: `https://github.com`, `https://{name}.ghe.com`, or the host of a GitHub Enterprise
    /// Server.
    pub fn web_url(&self) -> Url {
        let mut web = self.api_url.clone();
        web.set_path("");
        let host = web.host_str().and_then(|host| host.strip_prefix("api."));
        // A server of the operator's own may be called anything, and has its API below the host of its pages.
        let host = host.filter(|host| *host == "github.com" || host.ends_with(".ghe.com")).map(str::to_owned);
        if host.is_some() && web.set_host(host.as_deref()).is_err() {
            return self.api_url.clone();
        }
        web
    }

    /// The secrets to check webhooks with: at least one, and none of them empty, because anybody can sign with an empty
    /// secret.
    pub fn webhook_secrets(&self) -> Result<&[SecretString], InvalidGitHubSettings> {
        const KEY: &str = "github.webhook_secrets";
        if self.webhook_secrets.is_empty() {
            return Err(InvalidGitHubSettings::new(KEY, "set the secret that GitHub signs its webhooks with"));
        }
        if self.webhook_secrets.iter().any(|secret| secret.expose_secret().trim().is_empty()) {
            return Err(InvalidGitHubSettings::new(KEY, "a secret is empty, so anybody could sign with it"));
        }
        Ok(&self.webhook_secrets)
    }

    /// The API's address, checked as far as that goes without the network.
    pub(super) fn checked_api_url(&self) -> Result<&Url, InvalidGitHubSettings> {
        const KEY: &str = "github.api_url";
        let url = &self.api_url;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(InvalidGitHubSettings::new(KEY, "must begin with https:// (or http://) and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidGitHubSettings::new(KEY, "must not hold credentials, a query or a fragment"));
        }
        Ok(url)
    }

    /// Reads the private key's file where there is one.
    pub(super) fn credentials(&self) -> Result<Credentials, InvalidGitHubSettings> {
        match (&self.app, &self.token) {
            (None, None) => Err(InvalidGitHubSettings::new(
                "github",
                "set github.app (a GitHub App) or github.token (a personal access token)",
            )),
            (Some(_), Some(_)) => {
                Err(InvalidGitHubSettings::new("github", "github.app and github.token are both set; remove one"))
            }
            (None, Some(token)) => checked_token(token).map(Credentials::Token),
            (Some(app), None) => Ok(Credentials::App { id: app.id, key: app.key()? }),
        }
    }
}

/// A token goes into a header, so that a stray line break or blank is found here and not in every call.
fn checked_token(token: &SecretString) -> Result<SecretString, InvalidGitHubSettings> {
    let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible(token.expose_secret()) {
        return Ok(token.clone());
    }
    Err(InvalidGitHubSettings::new("github.token", "is empty or holds blanks, line breaks or other than ASCII"))
}

impl AppSettings {
    fn key(&self) -> Result<octocrab::auth::EncodingKey, InvalidGitHubSettings> {
        const KEY: &str = "github.app.private_key";
        const PATH: &str = "github.app.private_key_path";
        let (setting, pem) = match (&self.private_key, &self.private_key_path) {
            (Some(pem), None) => (KEY, pem.clone()),
            (None, Some(path)) => {
                let pem = std::fs::read_to_string(path).map_err(|error| {
                    InvalidGitHubSettings::new(PATH, format_args!("cannot read {}: {error}", path.display()))
                })?;
                (PATH, SecretString::from(pem))
            }
            (None, None) => {
                return Err(InvalidGitHubSettings::new("github.app", "set private_key or private_key_path"));
            }
            (Some(_), Some(_)) => {
                return Err(InvalidGitHubSettings::new(
                    "github.app",
                    "private_key and private_key_path are both set; remove one",
                ));
            }
        };
        let unusable =
            || InvalidGitHubSettings::new(setting, "is not an RSA private key in PEM, as GitHub generates it");
        let key = octocrab::auth::EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes()).map_err(|_| unusable())?;
        // Decoding only looks at the wrapping; signing reads the key.
        octocrab::auth::create_jwt(self.id.into(), &key).map_err(|_| unusable())?;
        Ok(key)
    }
}

fn optional_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// A list of texts that are not to be shown.
pub(crate) fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.into_iter().map(SecretString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> GitHubSettings {
        toml::from_str(toml).expect("settings")
    }

    fn refused(toml: &str) -> String {
        let settings = settings(toml);
        let refused = settings.checked_api_url().map(drop).and_then(|()| settings.credentials().map(drop));
        refused.expect_err(toml).to_string()
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (toml, key) in [
            ("", "github: set github.app (a GitHub App) or github.token"),
            ("token = 't'\napp = { id = 1, private_key = 'x' }", "github: github.app and github.token are both set"),
            ("token = ''", "github.token: is empty"),
            ("token = \"ghp_canary\\n\"", "github.token: is empty or holds blanks"),
            ("app = { id = 1 }", "github.app: set private_key or private_key_path"),
            ("app = { id = 1, private_key = 'canary', private_key_path = 'p' }", "github.app: private_key and"),
            ("app = { id = 1, private_key = 'canary' }", "github.app.private_key: is not an RSA private key"),
            ("app = { id = 1, private_key_path = '/none/key.pem' }", "github.app.private_key_path: cannot read /none"),
            ("api_url = 'ftp://github.example'\ntoken = 't'", "github.api_url: must begin with https://"),
            ("api_url = 'https://canary@github.example'\ntoken = 't'", "github.api_url: must not hold credentials"),
        ] {
            let message = refused(toml);
            assert!(message.starts_with(key), "{toml}: {message}");
            assert!(!message.contains("canary"), "{message}");
        }
    }

    /// PEM's wrapping is right, and nothing in it is.
    #[test]
    fn a_key_that_cannot_sign_is_refused() {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nAAAAAAAAAAAAAAAA\n-----END RSA PRIVATE KEY-----\n";
        let app = AppSettings { id: 1, private_key: Some(SecretString::from(pem)), private_key_path: None };
        let settings = GitHubSettings { app: Some(app), ..GitHubSettings::default() };
        assert_eq!(settings.credentials().err().map(|error| error.key), Some("github.app.private_key"));
    }

    #[test]
    fn pages_are_where_browsers_find_them() {
        for (api, web) in [
            ("https://api.github.com", "https://github.com/"),
            ("https://api.acme.ghe.com", "https://acme.ghe.com/"),
            ("https://api.acme.ghe.com/", "https://acme.ghe.com/"),
            ("https://github.acme.com/api/v3", "https://github.acme.com/"),
            ("https://api.acme.com/api/v3", "https://api.acme.com/"),
            ("http://127.0.0.1:8080/api/v3", "http://127.0.0.1:8080/"),
        ] {
            assert_eq!(settings(&format!("api_url = '{api}'")).web_url().as_str(), web);
        }
    }

    #[test]
    fn webhooks_need_a_secret() {
        let refused = |toml: &str| settings(toml).webhook_secrets().map(<[_]>::len).map_err(|error| error.to_string());
        assert_eq!(refused("webhook_secrets = ['one', 'two']"), Ok(2));
        assert!(refused("").unwrap_err().starts_with("github.webhook_secrets: set the secret"));
        assert!(refused("webhook_secrets = ['one', ' ']").unwrap_err().contains("is empty"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings =
            settings("token = 'canary'\nwebhook_secrets = ['canary']\napp = { id = 1, private_key = 'canary' }");
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn keys_with_a_typo_are_refused() {
        for toml in ["tokens = 't'", "app = { id = 1, key = 'x' }"] {
            let error = toml::from_str::<GitHubSettings>(toml).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
