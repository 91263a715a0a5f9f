//! Who calls: a user by token, the App by a signed token, an installation by a token it was given.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::answer::Answer;
use crate::github::operation::{Access, Operation};
use crate::github::state::State;

/// GitHub's bound on an App token's life, and what it forgives of a clock that runs fast.
const LONGEST_APP_TOKEN: u64 = 600;
const CLOCK_SKEW: u64 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody without credentials.
    Nobody,
    User(String),
    App,
    Installation(Grant),
}

/// What an installation's token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub installation: u64,
    /// None: every repository of the installation.
    pub repositories: Option<Vec<u64>>,
    pub permissions: BTreeMap<String, String>,
}

impl Caller {
    /// The account that what it writes is shown under.
    pub fn login(&self, state: &State) -> String {
        match self {
            Self::User(login) => login.clone(),
            Self::Nobody => String::new(),
            Self::App | Self::Installation(_) => state.app.as_ref().map(|app| app.bot()).unwrap_or_default(),
        }
    }

    /// Whose requests are counted together.
    pub fn subject(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::User(login) => format!("user {login}"),
            Self::App => "app".to_owned(),
            Self::Installation(grant) => format!("installation {}", grant.installation),
        }
    }

    pub fn is_app(&self) -> bool {
        matches!(self, Self::App | Self::Installation(_))
    }
}

struct AppKey {
    key: DecodingKey,
    /// What `iss` may be: the App's id or its client id.
    issuers: [String; 2],
}

pub struct Credentials {
    users: Vec<(String, String)>,
    app: Option<AppKey>,
    lifetime: Duration,
    issued: HashMap<String, (Grant, SystemTime)>,
}

impl Credentials {
    pub fn new(users: Vec<(String, String)>, lifetime: Duration) -> Self {
        Self { users, app: None, lifetime, issued: HashMap::new() }
    }

    pub fn trust_app(&mut self, id: u64, client_id: &str, public_key: &str) -> anyhow::Result<()> {
        let key = DecodingKey::from_rsa_pem(public_key.as_bytes()).context("the App's public key is no RSA PEM")?;
        self.app = Some(AppKey { key, issuers: [id.to_string(), client_id.to_owned()] });
        Ok(())
    }

    /// A new installation token and when it ends.
    pub fn issue(&mut self, grant: Grant) -> (String, SystemTime) {
        let token = format!("ghs_{}", hex::encode(rand::random::<[u8; 18]>()));
        let until = SystemTime::now() + self.lifetime;
        self.issued.insert(token.clone(), (grant, until));
        (token, until)
    }

    /// A new token of a user who signed in somewhere.
    pub fn issue_to(&mut self, login: &str) -> String {
        let token = format!("ghu_{}", hex::encode(rand::random::<[u8; 18]>()));
        self.users.push((token.clone(), login.to_owned()));
        token
    }

    /// Ends every installation token given so far.
    pub fn revoke_all(&mut self) {
        self.issued.clear();
    }

    pub fn identify(&self, authorization: Option<&str>, state: &State) -> Result<Caller, Answer> {
        let header = authorization.ok_or_else(|| Answer::error(401, "Requires authentication"))?;
        let (scheme, token) = header.split_once(' ').unwrap_or(("", header));
        if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("token") {
            return Err(Answer::error(401, "Bad credentials"));
        }
        let token = token.trim();
        if let Some((_, login)) = self.users.iter().find(|(known, _)| known == token) {
            return Ok(Caller::User(login.clone()));
        }
        if let Some((grant, until)) = self.issued.get(token) {
            let installation = state.installations.get(&grant.installation);
            return match installation {
                Some(_) if *until <= SystemTime::now() => Err(Answer::error(401, "Bad credentials")),
                None => Err(Answer::error(401, "Bad credentials")),
                Some(installation) if installation.suspended_at.is_some() => {
                    Err(Answer::error(403, "This installation has been suspended"))
                }
                Some(_) => Ok(Caller::Installation(grant.clone())),
            };
        }
        match &self.app {
            Some(app) if token.split('.').count() == 3 => app.verify(token).map(|()| Caller::App),
            _ => Err(Answer::error(401, "Bad credentials")),
        }
    }
}

impl AppKey {
    fn verify(&self, token: &str) -> Result<(), Answer> {
        let refuse = |message: &str| Answer::error(401, message);
        let mut rules = Validation::new(Algorithm::RS256);
        // The claims are looked at below, to refuse them in GitHub's words.
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let claims = jsonwebtoken::decode::<Value>(token, &self.key, &rules)
            .map_err(|_| refuse("A JSON web token could not be decoded"))?
            .claims;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let time = |claim: &str| claims.get(claim).and_then(Value::as_u64);
        match time("exp") {
            None => {
                return Err(refuse(
                    "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
                     the assertion expires",
                ));
            }
            Some(until) if until <= now => {
                return Err(refuse(
                    "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
                     the assertion expires",
                ));
            }
            Some(until) if until > now + LONGEST_APP_TOKEN + CLOCK_SKEW => {
                return Err(refuse("'Expiration time' claim ('exp') is too far in the future"));
            }
            Some(_) => {}
        }
        if time("iat").is_none_or(|issued| issued > now + CLOCK_SKEW) {
            return Err(refuse(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            ));
        }
        let issuer = match claims.get("iss") {
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::String(id)) => id.clone(),
            _ => return Err(refuse("Missing 'issuer' claim ('iss') in assertion")),
        };
        if self.issuers.contains(&issuer) { Ok(()) } else { Err(refuse("Integration not found")) }
    }
}

/// Whether this kind of caller may ask for this operation at all; repositories are looked at later.
pub fn permitted(caller: &Caller, operation: Operation) -> Result<(), Answer> {
    match (operation.access(), caller) {
        (Access::App, Caller::App) | (Access::Anyone | Access::Nobody, _) | (Access::User, Caller::User(_)) => Ok(()),
        (Access::App | Access::User | Access::Permission(..), Caller::Nobody) => {
            Err(Answer::error(401, "Requires authentication"))
        }
        (Access::App, Caller::User(_) | Caller::Installation(_)) => {
            Err(Answer::error(401, "A JSON web token could not be decoded"))
        }
        (Access::User, Caller::Installation(_)) => Err(not_accessible()),
        (Access::User | Access::Permission(..), Caller::App) => Err(Answer::error(401, "Bad credentials")),
        (Access::Permission(..), Caller::User(_)) => Ok(()),
        (Access::Permission(names, level), Caller::Installation(grant)) => {
            let enough = |name: &&str| match grant.permissions.get(*name).map(String::as_str) {
                Some("write" | "admin") => true,
                Some(given) => given == level,
                None => false,
            };
            if names.iter().any(enough) { Ok(()) } else { Err(not_accessible()) }
        }
    }
}

pub fn not_accessible() -> Answer {
    Answer::error(403, "Resource not accessible by integration")
}
