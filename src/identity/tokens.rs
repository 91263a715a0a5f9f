//! Bearer tokens of previewd's own: shown once, kept as hashes.

use data_encoding::BASE32_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Identity, Role};
use crate::{
    environment::{InvalidName, Millis, RepositoryName},
    store::{EventKind, NewToken, Store, StoreError},
};

/// What every bearer token begins with, so that scanners of leaked secrets know it.
pub(crate) const TOKEN_PREFIX: &str = "pvd_";
const TOKEN_BYTES: usize = 32;

/// Who a new token is for.
#[derive(Debug, Clone)]
pub struct TokenGrant {
    pub subject: Subject,
    pub role: Role,
    pub teams: Vec<String>,
    /// None: everything that its teams have.
    pub scope: Option<Scope>,
    /// None: it is valid until it is revoked.
    pub expires_at: Option<Millis>,
}

/// What a token is for and nothing else. It ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub repository: RepositoryName,
    /// None: all pull requests of the repository.
    pub pull_request: Option<i64>,
}

impl std::str::FromStr for Scope {
    type Err = InvalidName;

    /// `owner/name`, or `owner/name#7`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (repository, number) = text.split_once('#').map_or((text, None), |(name, number)| (name, Some(number)));
        let number = number.map(|number| number.parse().ok().filter(|number| *number > 0));
        match (repository.parse(), number) {
            (Ok(repository), None) => Ok(Self { repository, pull_request: None }),
            (Ok(repository), Some(Some(number))) => Ok(Self { repository, pull_request: Some(number) }),
            _ => Err(InvalidName { field: "scope", rule: "must be owner/name, or owner/name#7 for one pull request" }),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pull_request {
            Some(number) => write!(f, "{}#{number}", self.repository),
            None => write!(f, "{}", self.repository),
        }
    }
}

/// Whom a token speaks for, as the history of environments names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(String);

impl Subject {
    pub fn into_text(self) -> String {
        self.0
    }
}

impl std::str::FromStr for Subject {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_plain = !text.chars().any(char::is_control) && text.trim() == text;
        if is_plain && (1..=100).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { field: "subject", rule: "must be 1 to 100 characters, without control characters" })
    }
}

/// A token as it was just made. Nothing can show its text again.
pub struct IssuedToken {
    pub id: String,
    pub token: SecretString,
}

/// Makes a token, and stores its hash. `by`: who makes it.
pub async fn issue_token(store: &Store, grant: TokenGrant, by: &Identity) -> Result<IssuedToken, StoreError> {
    let token = format!("{TOKEN_PREFIX}{}", new_secret().expose_secret());
    let TokenGrant { subject: Subject(subject), role, teams, scope, expires_at } = grant;
    let only = scope.as_ref().map(|scope| format!(", only {scope}")).unwrap_or_default();
    let event = by.event(EventKind::TokenCreated, format!("{role} for {subject}{only}"));
    let (repository, pull_request) = scope.map(|scope| (scope.repository.to_string(), scope.pull_request)).unzip();
    let row = NewToken {
        subject,
        hash: hash(&token),
        role: role.code().to_owned(),
        teams,
        repository,
        pull_request: pull_request.flatten(),
        expires_at,
    };
    Ok(IssuedToken { id: store.create_token(row, event).await?, token: token.into() })
}

/// 256 random bits, in letters and digits.
pub(crate) fn new_secret() -> SecretString {
    let mut random = [0u8; TOKEN_BYTES];
    rand::fill(&mut random);
    BASE32_NOPAD.encode(&random).to_ascii_lowercase().into()
}

/// Hex SHA-256. The 256 random bits of a token need neither salt nor stretching, and looking a hash up tells nothing
/// by its time.
pub(crate) fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_repository_or_one_of_its_pull_requests() {
        for text in ["acme/shop", "acme/shop#7"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for wrong in ["", "acme", "acme/shop#", "acme/shop#0", "acme/shop#-1", "acme/shop#x", "acme/*"] {
            assert_eq!(wrong.parse::<Scope>().unwrap_err().field, "scope", "{wrong}");
        }
    }

    #[test]
    fn subjects_are_short_and_plain() {
        assert!("ann@example.com".parse::<Subject>().is_ok());
        for wrong in ["", " ann", "a\nb", &"x".repeat(101)] {
            assert_eq!(wrong.parse::<Subject>().unwrap_err().field, "subject");
        }
    }
}
