//! Whether an image is in its registry: the only module that speaks to registries. Images are named by whoever writes a
//! recipe, so a registry that the operator did not name is asked only where its address is a public one, is not listened to
//! for long, and is followed nowhere but to the public server that it names for tokens.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_auth::{ChallengeRef, parse_challenges};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::Url;

use crate::{
    config::{RegistryHost, RegistrySettings},
    outbound::{Answer, HttpClient, Reach},
    recipe::ImageReference,
};

/// All that it takes to learn of one image.
const TIMEOUT: Duration = Duration::from_secs(8);
/// A token is a few kilobytes at most.
const LONGEST_ANSWER: usize = 64 << 10;
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
const DIGEST: &str = "docker-content-digest";
/// Every kind of manifest that names one image or one for each platform.
const MANIFESTS: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json",
);

/// What a registry says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    There,
    Missing,
    /// It does not answer, may not be asked, or does not tell previewd: the node will see.
    Unknown,
}

/// How a registry of the operator's takes previewd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers; with the operator's credentials, where there are some.
    Open,
    /// It does not take the operator's credentials, or does not say for what.
    Closed,
    /// It does not answer as a registry.
    Away,
}

/// Asks registries. Cheap to clone.
#[derive(Clone)]
pub struct Registries {
    public: HttpClient<Empty<Bytes>>,
    /// For those that the operator named.
    own: HttpClient<Empty<Bytes>>,
    settings: Arc<BTreeMap<RegistryHost, RegistrySettings>>,
}

impl Registries {
    /// `settings`: the operator's, by the registry's host. Fails where the machine has no trusted certificates.
    pub fn new(settings: BTreeMap<RegistryHost, RegistrySettings>) -> anyhow::Result<Self> {
        Ok(Self {
            public: HttpClient::new(Reach::Public)?,
            own: HttpClient::new(Reach::Anywhere)?,
            settings: Arc::new(settings),
        })
    }

    /// Those that a client that is given leads to. The operator named none of them.
    pub fn with_client(client: HttpClient<Empty<Bytes>>) -> Self {
        Self { public: client.clone(), own: client, settings: Arc::default() }
    }

    /// Whether a registry has an image now.
    pub async fn presence(&self, image: &ImageReference) -> Presence {
        match tokio::time::timeout(TIMEOUT, self.asked(image.registry()).presence(image)).await {
            Ok(presence) => presence.unwrap_or(Presence::Unknown),
            Err(_) => Presence::Unknown,
        }
    }

    /// The digest of what an image's tag means now: `sha256:` and 64 hexadecimal digits. None where its registry does not
    /// say it.
    pub async fn digest(&self, image: &ImageReference) -> Option<String> {
        let answer = tokio::time::timeout(TIMEOUT, self.asked(image.registry()).head(image)).await.ok()??;
        let digest = answer.headers().get(DIGEST).filter(|_| answer.status().is_success())?.to_str().ok()?;
        let is_digest = digest.strip_prefix("sha256:").is_some_and(|digits| {
            digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        });
        is_digest.then(|| digest.to_owned())
    }

    /// How a registry of the operator's takes previewd now, whatever images it has.
    pub async fn standing(&self, host: &RegistryHost) -> Standing {
        let host: &str = host.borrow();
        // Any image of it says where it is asked.
        let Ok(image) = format!("{host}/image").parse() else { return Standing::Away };
        match tokio::time::timeout(TIMEOUT, self.asked(host).standing(&image)).await {
            Ok(standing) => standing.unwrap_or(Standing::Away),
            Err(_) => Standing::Away,
        }
    }

    fn asked(&self, host: &str) -> Asked<'_> {
        let settings = self.settings.get(host);
        Asked {
            client: if settings.is_some() { &self.own } else { &self.public },
            scheme: if settings.is_some_and(|settings| settings.plain_http) { "http" } else { "https" },
            credentials: settings.and_then(basic),
        }
    }
}

/// The operator's credentials as a header's value.
fn basic(settings: &RegistrySettings) -> Option<HeaderValue> {
    if settings.username.is_empty() {
        return None;
    }
    let pair = BASE64.encode(format!("{}:{}", settings.username, settings.password.expose_secret()));
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// How one registry is asked.
struct Asked<'a> {
    client: &'a HttpClient<Empty<Bytes>>,
    scheme: &'static str,
    credentials: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Asked<'_> {
    /// None where the registry cannot be understood.
    async fn presence(&self, image: &ImageReference) -> Option<Presence> {
        self.head(image).await.map(|answer| presence_of(answer.status()))
    }

    /// What the registry says of an image's manifest, without the manifest.
    async fn head(&self, image: &ImageReference) -> Option<Answer> {
        let ImageReference { repository, reference, .. } = image;
        let url = format!("{}://{}/v2/{repository}/manifests/{reference}", self.scheme, image.host());
        let url = Url::parse(&url).ok()?;
        let first = self.send(Method::HEAD, &url, None).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Some(first);
        }
        let authorization = self.authorization(first.headers(), Some(repository)).await?;
        self.send(Method::HEAD, &url, Some(authorization)).await
    }

    /// None where it does not answer. <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints>
    async fn standing(&self, image: &ImageReference) -> Option<Standing> {
        let url = Url::parse(&format!("{}://{}/v2/", self.scheme, image.host())).ok()?;
        let mut answer = self.send(Method::GET, &url, None).await?;
        if self.credentials.is_some() && answer.status() == StatusCode::UNAUTHORIZED {
            let Some(authorization) = self.authorization(answer.headers(), None).await else {
                return Some(Standing::Closed);
            };
            answer = self.send(Method::GET, &url, Some(authorization)).await?;
        }
        Some(match answer.status() {
            status if status.is_success() => Standing::Open,
            // What anybody may pull is not asked for here.
            StatusCode::UNAUTHORIZED if self.credentials.is_none() => Standing::Open,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Standing::Closed,
            _ => Standing::Away,
        })
    }

    /// What the registry's challenge asks for: the operator's credentials, or a token for them or for nobody.
    async fn authorization(&self, headers: &HeaderMap, repository: Option<&str>) -> Option<HeaderValue> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
        for challenge in challenges.filter_map(|value| value.to_str().ok()) {
            for challenge in parse_challenges(challenge).ok()? {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    return self.token(&challenge, repository).await;
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") && self.credentials.is_some() {
                    return self.credentials.clone();
                }
            }
        }
        None
    }

    /// <https://distribution.github.io/distribution/spec/auth/token/>
    async fn token(&self, challenge: &ChallengeRef<'_>, repository: Option<&str>) -> Option<HeaderValue> {
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let mut realm = Url::parse(&parameter("realm")?).ok()?;
        if realm.scheme() != "https" && realm.scheme() != self.scheme {
            return None;
        }
        if let Some(repository) = repository {
            realm.query_pairs_mut().append_pair("scope", &format!("repository:{repository}:pull"));
        }
        if let Some(service) = parameter("service") {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let answer = self.send(Method::GET, &realm, self.credentials.clone()).await?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await.ok()?.to_bytes();
        let Token { token, access_token } = serde_json::from_slice(&body).ok()?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.or(access_token)?)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    async fn send(&self, method: Method, url: &Url, authorization: Option<HeaderValue>) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(url.as_str());
        request = request.header(header::USER_AGENT, "previewd").header(header::ACCEPT, MANIFESTS);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let sent = self.client.request(request.body(Empty::new()).ok()?).await;
        sent.inspect_err(|error| tracing::debug!(%error, host = url.host_str(), "a registry does not answer")).ok()
    }
}

fn presence_of(status: StatusCode) -> Presence {
    match status {
        StatusCode::NOT_FOUND => Presence::Missing,
        status if status.is_success() => Presence::There,
        _ => Presence::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Mutex};

    use axum::{Json, Router, extract::State, http::Uri, response::IntoResponse, routing::get};
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    /// A registry that gives tokens, as the large ones do. It has `acme/shop:there`, for `bot` alone.
    async fn registry_with_tokens() -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        async fn manifest(State(host): State<String>, uri: Uri, headers: HeaderMap) -> impl IntoResponse {
            let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let status = match (authorization, uri.path()) {
                (Some("Bearer good"), "/v2/" | "/v2/acme/shop/manifests/there") => StatusCode::OK,
                (Some("Bearer good"), _) => StatusCode::NOT_FOUND,
                (Some(_), _) => StatusCode::FORBIDDEN,
                (None, _) => StatusCode::UNAUTHORIZED,
            };
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"registry\"");
            let digest = format!("sha256:{}", "0a".repeat(32));
            (status, [(header::WWW_AUTHENTICATE.as_str(), challenge), (DIGEST, digest)])
        }
        async fn token(uri: Uri, headers: HeaderMap) -> impl IntoResponse {
            let of_image = "scope=repository%3Aacme%2Fshop%3Apull&service=registry";
            assert!(matches!(uri.query(), Some(query) if query == of_image || query == "service=registry"), "{uri}");
            let is_bot = headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Basic Ym90OnNlY3JldA==");
            Json(json!({ "token": if is_bot { "good" } else { "nobody's" } }))
        }
        let router = Router::new().route("/token", get(token)).fallback(manifest).with_state(host.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        host
    }

    fn own_host(host: &str) -> RegistryHost {
        host.parse().expect("a host")
    }

    fn settings(username: &str) -> RegistrySettings {
        RegistrySettings { username: username.to_owned(), password: "secret".into(), plain_http: true }
    }

    async fn presence(registries: &Registries, image: &str) -> Presence {
        registries.presence(&image.parse().expect("an image")).await
    }

    #[tokio::test]
    async fn a_registry_gives_a_token_for_the_operators_credentials() {
        let host = registry_with_tokens().await;
        let own = Registries::new(BTreeMap::from([(own_host(&host), settings("bot"))])).unwrap();
        assert_eq!(presence(&own, &format!("{host}/acme/shop:there")).await, Presence::There);
        assert_eq!(presence(&own, &format!("{host}/acme/shop:not-yet")).await, Presence::Missing);
        let digest = async |image: &str| own.digest(&format!("{host}/acme/shop:{image}").parse().unwrap()).await;
        assert_eq!(digest("there").await, Some(format!("sha256:{}", "0a".repeat(32))));
        assert_eq!(digest("not-yet").await, None);
        let nobody = Registries::new(BTreeMap::from([(own_host(&host), settings(""))])).unwrap();
        assert_eq!(presence(&nobody, &format!("{host}/acme/shop:there")).await, Presence::Unknown);
    }

    #[tokio::test]
    async fn a_registry_is_open_with_the_operators_credentials() {
        let host = registry_with_tokens().await;
        let away = "127.0.0.1:1".to_owned();
        for (host, username, standing) in [
            (&host, "bot", Standing::Open),
            (&host, "stranger", Standing::Closed),
            (&host, "", Standing::Open),
            (&away, "bot", Standing::Away),
        ] {
            let own = Registries::new(BTreeMap::from([(own_host(host), settings(username))])).unwrap();
            assert_eq!(own.standing(&own_host(host)).await, standing, "{username} at {host}");
        }
    }

    /// Whoever writes a recipe names hosts: those near previewd are not asked in its name.
    #[tokio::test]
    async fn what_is_near_is_not_asked_unless_the_operator_names_it() {
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let router = Router::new().fallback(async move || {
            *count.lock().unwrap() += 1;
            StatusCode::OK
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async { axum::serve(listener, router).await });
        let strangers = Registries::new(BTreeMap::new()).unwrap();
        let port = host.rsplit_once(':').unwrap().1;
        for near in [host.as_str(), &format!("localhost:{port}"), &format!("shop.localhost:{port}")] {
            assert_eq!(presence(&strangers, &format!("{near}/acme/shop:1")).await, Presence::Unknown, "{near}");
        }
        assert_eq!(*asked.lock().unwrap(), 0);
        let own = Registries::new(BTreeMap::from([(own_host(&host), settings(""))])).unwrap();
        assert_eq!(presence(&own, &format!("{host}/acme/shop:1")).await, Presence::There);
    }
}
