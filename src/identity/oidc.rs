//! Tokens of an OpenID Connect issuer: JWTs that it signs for previewd.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, ensure};
use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::{AuthenticationError, Identity, Role, Teams};
use crate::outbound::{HttpClient, Reach};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A discovery document, or a set of keys.
const LONGEST_ANSWER: usize = 256 << 10;
/// How long keys are believed before they are asked for again.
const KEYS_FRESH: Duration = Duration::from_secs(3_600);
/// How long they are used where the issuer does not answer.
const KEYS_USABLE: Duration = Duration::from_secs(24 * 3_600);
/// How often the issuer is asked at most: anybody may send a token with a key that nobody knows.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// What an issuer may sign with: never a secret that both share, and never nothing.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Whose tokens are taken besides previewd's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OidcSettings {
    /// The issuer, as its tokens name it: `https://login.example.com/realms/acme`.
    #[schemars(with = "Option<String>", url)]
    pub issuer: Option<Url>,
    /// The audience that its tokens must name. The address of `/mcp` where it is left out, which needs `public_url`.
    pub audience: Option<String>,
    /// The claim that says who somebody is, as histories show them.
    pub subject_claim: String,
    /// The claim with the groups that somebody is in.
    pub groups_claim: String,
    /// The team of each group. A group that is not named here is the team of its own name, where there is one.
    pub teams: BTreeMap<String, String>,
    /// The role of each group; of several the highest counts.
    pub roles: BTreeMap<String, Role>,
    /// The role of those whose groups have none.
    pub default_role: Role,
}

impl Default for OidcSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            subject_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
            teams: BTreeMap::new(),
            roles: BTreeMap::new(),
            default_role: Role::Viewer,
        }
    }
}

/// An issuer of tokens. Cheap to clone; clones share its keys.
#[derive(Clone)]
pub struct Issuer {
    shared: Arc<Shared>,
}

struct Shared {
    issuer: Url,
    audience: String,
    /// What its claims mean, as the configuration has it now.
    claims: RwLock<OidcSettings>,
    client: HttpClient<Empty<Bytes>>,
    keys: Mutex<Keys>,
    /// Held while the issuer is asked: whoever comes meanwhile for a key that nobody knows takes the same answer.
    asks: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Keys {
    set: Option<(JwkSet, Instant)>,
    asked_at: Option<Instant>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

impl Issuer {
    /// None where none is configured. `resource`: the address of `/mcp`, which is the audience where none is named.
    pub fn new(settings: &OidcSettings, resource: Option<String>) -> anyhow::Result<Option<Self>> {
        let Some(issuer) = settings.issuer.clone() else { return Ok(None) };
        let is_local = matches!(issuer.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        ensure!(issuer.scheme() == "https" || is_local, "oidc.issuer: must begin with https://");
        let audience = settings.audience.clone().or(resource);
        let audience =
            audience.context("oidc.audience: must be set, or public_url, whose /mcp is the audience then")?;
        let client = HttpClient::new(Reach::Anywhere)?;
        let (claims, keys, asks) = (RwLock::new(settings.clone()), Mutex::default(), tokio::sync::Mutex::default());
        Ok(Some(Self { shared: Arc::new(Shared { issuer, audience, claims, client, keys, asks }) }))
    }

    /// As tokens and clients name it.
    pub fn url(&self) -> &str {
        self.shared.issuer.as_str().trim_end_matches('/')
    }

    /// Takes claims as these settings have them from now on; issuer and audience stay. Whether that changes anything.
    pub fn read_claims_by(&self, settings: OidcSettings) -> bool {
        let mut claims = self.shared.claims.write().unwrap_or_else(PoisonError::into_inner);
        let changes = *claims != settings;
        *claims = settings;
        changes
    }

    /// Asks the issuer for its keys, past those that are remembered. Gives how many there are.
    ///
    /// # Errors
    /// Where it does not answer, or not as an issuer does.
    pub async fn check(&self) -> anyhow::Result<usize> {
        Ok(self.ask().await?.keys.len())
    }

    /// Who a token of the issuer speaks for, and until when it is taken, in seconds since 1970.
    pub(super) async fn identity(&self, token: &str, teams: &Teams) -> Result<(Identity, i64), AuthenticationError> {
        let invalid = |why: &str| {
            tracing::debug!(why, "a token of the issuer is not taken");
            AuthenticationError::InvalidToken
        };
        let header = decode_header(token).map_err(|_| invalid("it is no JWT"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid("its algorithm is none that an issuer may use"));
        }
        let key = self.key(header.kid.as_deref()).await?.ok_or_else(|| invalid("nobody knows its key"))?;
        // The key says what it is for: a token cannot choose another algorithm for it.
        if !fits(&key, header.alg) {
            return Err(invalid("its key is for another algorithm"));
        }
        let decoding = DecodingKey::from_jwk(&key).map_err(|_| invalid("its key cannot be used"))?;
        let mut rules = Validation::new(header.alg);
        rules.set_audience(&[&self.shared.audience]);
        // Issuers are told apart with and without a slash at their end.
        rules.set_issuer(&[self.url(), &format!("{}/", self.url())]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules.validate_nbf = true;
        let claims = decode::<Value>(token, &decoding, &rules).map_err(|error| invalid(&error.to_string()))?.claims;
        let identity = self.identity_of(&claims, teams).ok_or_else(|| invalid("it does not say who it is for"))?;
        // A number that is in the future, as was seen above; perhaps with a fraction.
        let until = claims["exp"].as_f64().unwrap_or_default() as i64;
        Ok((identity, until.saturating_add(rules.leeway.cast_signed())))
    }

    fn identity_of(&self, claims: &Value, teams: &Teams) -> Option<Identity> {
        let OidcSettings { subject_claim: subject, groups_claim: groups, teams: names, roles, default_role, .. } =
            &*self.shared.claims.read().unwrap_or_else(PoisonError::into_inner);
        let subject = claims[subject.as_str()].as_str()?;
        let subject = subject.parse::<super::Subject>().ok()?.into_text();
        let groups: Vec<&str> = match &claims[groups.as_str()] {
            Value::Array(groups) => groups.iter().filter_map(Value::as_str).collect(),
            Value::String(groups) => groups.split_whitespace().collect(),
            _ => Vec::new(),
        };
        let team_of = |group: &&str| names.get(*group).cloned().unwrap_or_else(|| (*group).to_owned());
        let own: Vec<String> = groups.iter().map(team_of).filter(|team| teams.contains_key(team)).collect();
        let role = groups.iter().filter_map(|group| roles.get(*group)).max().copied();
        let role = role.unwrap_or(*default_role);
        Some(Identity::of_team_members(subject, role, own, teams))
    }

    /// The issuer's key of this name; its only one where a token names none.
    async fn key(&self, name: Option<&str>) -> Result<Option<Jwk>, AuthenticationError> {
        // Nobody waits for an issuer that may be away, where what is known is good.
        if let Some((key, is_fresh)) = self.known(name) {
            if !is_fresh && self.may_ask() {
                let issuer = self.clone();
                tokio::spawn(async move { issuer.refresh().await });
            }
            return Ok(Some(key));
        }
        let turn = self.shared.asks.lock().await;
        if self.known(name).is_none() && self.may_ask() {
            self.refresh().await;
        }
        drop(turn);
        let has_keys = self.keys().set.as_ref().is_some_and(|(_, at)| at.elapsed() < KEYS_USABLE);
        if has_keys { Ok(self.known(name).map(|(key, _)| key)) } else { Err(AuthenticationError::IssuerAway) }
    }

    /// The key of this name among those that may be used, and whether they are fresh.
    fn known(&self, name: Option<&str>) -> Option<(Jwk, bool)> {
        let keys = self.keys();
        let (set, at) = keys.set.as_ref().filter(|(_, at)| at.elapsed() < KEYS_USABLE)?;
        Some((find(set, name)?, at.elapsed() < KEYS_FRESH))
    }

    /// Whether the issuer may be asked now; whoever hears so asks it.
    fn may_ask(&self) -> bool {
        let mut keys = self.keys();
        let may = keys.asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN);
        if may {
            keys.asked_at = Some(Instant::now());
        }
        may
    }

    async fn refresh(&self) {
        if let Some(set) = self.read_keys().await {
            self.keys().set = Some(set);
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of now. None where they cannot be read, which the log says.
    async fn read_keys(&self) -> Option<(JwkSet, Instant)> {
        match self.ask().await {
            Ok(set) => Some((set, Instant::now())),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the issuer's keys cannot be read");
                None
            }
        }
    }

    /// <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig>
    async fn ask(&self) -> anyhow::Result<JwkSet> {
        let Discovery { issuer, jwks_uri } =
            self.get(&format!("{}/.well-known/openid-configuration", self.url())).await?;
        ensure!(issuer.trim_end_matches('/') == self.url(), "its discovery document is another issuer's");
        self.get(jwks_uri.as_str()).await
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        let request = Request::get(url).body(Empty::new())?;
        let asked = self.shared.client.json(request, TIMEOUT, LONGEST_ANSWER).await;
        asked.with_context(|| format!("{url} cannot be read"))
    }
}

fn find(set: &JwkSet, name: Option<&str>) -> Option<Jwk> {
    match name {
        Some(name) => set.find(name).cloned(),
        None => set.keys.first().filter(|_| set.keys.len() == 1).cloned(),
    }
}

/// Whether a key is of the kind that an algorithm signs with, and says no other.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_for = key.common.key_algorithm.is_none_or(|named| format!("{named:?}") == format!("{algorithm:?}"));
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let kind_fits = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, ES256 | ES384),
        AlgorithmParameters::OctetKeyPair(_) => algorithm == EdDSA,
        // A secret that both share, and kinds of a later version.
        _ => false,
    };
    is_for && kind_fits
}

#[cfg(test)]
mod tests;
