//! Signing in with GitHub, in a browser: OAuth's authorization code with PKCE. The token that comes of it says who
//! somebody is, and is thrown away.
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app>

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Grant, new_secret};
use crate::{
    config::Login,
    outbound::{HttpClient, Reach},
};

const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 64 << 10;

/// Lets people sign in to the dashboard with GitHub. Those who are in no team are turned away. Needs `public_url`; the
/// App's callback URL is `{public_url}/login/github/callback`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginSettings {
    /// The client id of the GitHub App, or of an OAuth app.
    pub client_id: String,
    /// Its client secret.
    #[schemars(with = "String")]
    pub client_secret: SecretString,
}

/// GitHub as somebody who says who people are. Cheap to clone.
#[derive(Clone)]
pub struct GitHubLogin {
    shared: Arc<Shared>,
}

struct Shared {
    settings: LoginSettings,
    /// GitHub as browsers see it, and its API, without a slash at the end.
    web: String,
    api: String,
    /// Where GitHub leads back to.
    callback: String,
    client: HttpClient<Full<Bytes>>,
}

/// One try to sign in, which its browser keeps until it comes back.
pub struct Attempt {
    /// What GitHub gives back: an answer to another try is none.
    pub state: String,
    /// What shows that whoever brings the code began the try.
    pub verifier: String,
}

impl Attempt {
    pub fn begin() -> Self {
        let random = || new_secret().expose_secret().to_owned();
        Self { state: random(), verifier: random() }
    }
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The code is used, old, or not for this try.
    #[error("GitHub does not confirm it")]
    Refused,
    #[error("GitHub cannot be asked")]
    Away(#[from] anyhow::Error),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Exchanged {
    Token { access_token: SecretString },
    Refused { error: String },
}

#[derive(Deserialize)]
struct User {
    login: String,
}

/// Where GitHub leads back to, under previewd's own address.
pub fn login_callback(public_url: &Url) -> String {
    format!("{}/login/github/callback", public_url.as_str().trim_end_matches('/'))
}

impl GitHubLogin {
    /// `web` and `api`: GitHub's own addresses; `public_url`: this server's.
    pub fn new(settings: LoginSettings, web: &Url, api: &Url, public_url: &Url) -> anyhow::Result<Self> {
        let bare = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        let callback = login_callback(public_url);
        let client = HttpClient::new(Reach::Anywhere)?;
        Ok(Self { shared: Arc::new(Shared { settings, web: bare(web), api: bare(api), callback, client }) })
    }

    /// Where a browser goes to sign in.
    pub fn address(&self, attempt: &Attempt) -> String {
        let Shared { settings, web, callback, .. } = &*self.shared;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&attempt.verifier));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", callback)
            .append_pair("state", &attempt.state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        format!("{web}/login/oauth/authorize?{query}")
    }

    /// Who came back with this code.
    pub async fn sign_in(&self, code: &str, verifier: &str) -> Result<Grant, LoginError> {
        let Shared { settings, web, api, callback, .. } = &*self.shared;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &settings.client_id)
            .append_pair("client_secret", settings.client_secret.expose_secret())
            .append_pair("code", code)
            .append_pair("redirect_uri", callback)
            .append_pair("code_verifier", verifier)
            .finish();
        let request = Request::post(format!("{web}/login/oauth/access_token"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form));
        let token = match self.ask(request).await? {
            Exchanged::Token { access_token } => access_token,
            Exchanged::Refused { error } if error == "bad_verification_code" => return Err(LoginError::Refused),
            // The operator's settings are not GitHub's.
            Exchanged::Refused { error } => return Err(anyhow::anyhow!("GitHub refuses it: {error}").into()),
        };
        let request = Request::get(format!("{api}/user"))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
            .body(Full::default());
        let User { login } = self.ask(request).await?;
        let login = login.parse::<Login>().ok().context("GitHub names somebody who cannot be")?;
        Ok(Grant::GitHub { login: login.as_str().to_owned() })
    }

    async fn ask<T: DeserializeOwned>(&self, request: http::Result<Request<Full<Bytes>>>) -> anyhow::Result<T> {
        self.shared.client.json(request?, TIMEOUT, LONGEST_ANSWER).await
    }
}
