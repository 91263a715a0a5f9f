//! Who calls, and what they may do: every call carries an identity, and one function decides.

use std::collections::BTreeMap;

use data_encoding::BASE32_NOPAD;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::{
    config::{RepositoryPattern, Team},
    environment::{InvalidName, Millis, RepositoryName, codes},
    store::{NewToken, Store, StoreError},
};

codes! {
    /// What an identity may do at most. Each role may what the ones before it may.
    Role {
        /// List, inspect and read logs.
        Viewer = "viewer",
        /// Also create, retry and keep.
        Member = "member",
        /// Also delete, and approve strangers' commits.
        Admin = "admin",
        /// Everything, for every repository.
        Operator = "operator",
    }
}

impl Role {
    /// What somebody with this role on GitHub may do to the previews of the repository. None: nothing.
    pub fn of_github(role: &str) -> Option<Self> {
        match role {
            "admin" | "maintain" => Some(Self::Admin),
            "write" | "triage" => Some(Self::Member),
            "read" => Some(Self::Viewer),
            _ => None,
        }
    }
}

/// The configured teams, by name.
pub type Teams = BTreeMap<String, Team>;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whom the history names: a token's subject.
    pub subject: String,
    pub role: Role,
    pub teams: Vec<String>,
    /// The repositories that exist for this identity. None: all.
    pub visible: Option<Vec<RepositoryPattern>>,
}

impl Identity {
    /// Whoever starts previewd on this machine: they have the database and the cluster's credentials anyway.
    pub fn local_operator() -> Self {
        Self { subject: "local operator".to_owned(), role: Role::Operator, teams: Vec::new(), visible: None }
    }

    /// The author of a comment, with the role that they have on the comment's repository.
    pub fn of_github(login: &str, role: Role) -> Self {
        Self { subject: login.to_owned(), role, teams: Vec::new(), visible: None }
    }

    fn of_team_members(subject: String, role: Role, teams: Vec<String>, configured: &Teams) -> Self {
        // A team that is configured no longer has no repositories.
        let configured = teams.iter().filter_map(|team| configured.get(team));
        let patterns = || configured.flat_map(|team| team.repositories.iter().cloned()).collect();
        let visible = match role {
            Role::Operator => None,
            Role::Viewer | Role::Member | Role::Admin => Some(patterns()),
        };
        Self { subject, role, teams, visible }
    }
}

/// What somebody wants to do with an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// List it, inspect it, read its logs.
    Inspect,
    /// Ask for it, whatever its recipe leaves out.
    Create,
    Retry,
    Keep,
    Delete,
    /// Let a stranger's commit run.
    Approve,
}

impl Action {
    /// The least role that may do it.
    pub fn needs(self) -> Role {
        match self {
            Self::Inspect => Role::Viewer,
            Self::Create | Self::Retry | Self::Keep => Role::Member,
            Self::Delete | Self::Approve => Role::Admin,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Allowed,
    /// The identity may see the repository, but not do this.
    Denied,
    /// For this identity the repository does not exist.
    Invisible,
}

/// Decides whether `identity` may do `action` to an environment of `repository`.
pub fn may(identity: &Identity, action: Action, repository: &RepositoryName) -> Permission {
    let visible = identity.visible.as_ref();
    if visible.is_some_and(|patterns| !patterns.iter().any(|pattern| pattern.covers(repository))) {
        Permission::Invisible
    } else if identity.role < action.needs() {
        Permission::Denied
    } else {
        Permission::Allowed
    }
}

/// What every bearer token begins with, so that scanners of leaked secrets know it.
pub(crate) const TOKEN_PREFIX: &str = "pvd_";
const TOKEN_BYTES: usize = 32;

/// Who a new token is for.
#[derive(Debug, Clone)]
pub struct TokenGrant {
    pub subject: Subject,
    pub role: Role,
    pub teams: Vec<String>,
    /// None: it is valid until it is revoked.
    pub expires_at: Option<Millis>,
}

/// Whom a token speaks for, as the history of environments names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(String);

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

/// Makes a token, and stores its hash.
pub async fn issue_token(store: &Store, grant: TokenGrant) -> Result<IssuedToken, StoreError> {
    let mut random = [0u8; TOKEN_BYTES];
    rand::fill(&mut random);
    let token = format!("{TOKEN_PREFIX}{}", BASE32_NOPAD.encode(&random).to_ascii_lowercase());
    let TokenGrant { subject: Subject(subject), role, teams, expires_at } = grant;
    let row = NewToken { subject, hash: hash(&token), role: role.code().to_owned(), teams, expires_at };
    Ok(IssuedToken { id: store.create_token(row).await?, token: token.into() })
}

/// Why a token did not lead to an identity.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// Unknown, expired, revoked or garbled: nobody is told which.
    #[error("the token is not valid; ask an operator for a new one (previewd token create)")]
    InvalidToken,
    #[error("the token cannot be checked now")]
    Store(#[from] StoreError),
}

/// Finds out who a bearer token speaks for.
pub async fn authenticate(store: &Store, teams: &Teams, token: &str) -> Result<Identity, AuthenticationError> {
    if !token.starts_with(TOKEN_PREFIX) {
        return Err(AuthenticationError::InvalidToken);
    }
    let row = store.valid_token(&hash(token)).await?.ok_or(AuthenticationError::InvalidToken)?;
    // A role of a newer version may mean less than any of ours.
    let role = Role::from_code(&row.role).ok_or(AuthenticationError::InvalidToken)?;
    if let Err(error) = store.record_token_use(&row).await {
        tracing::debug!(%error, "it is not known that a token was used");
    }
    Ok(Identity::of_team_members(row.subject, role, row.teams, teams))
}

/// Hex SHA-256. The 256 random bits of a token need neither salt nor stretching, and looking a hash up tells nothing
/// by its time.
fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_may_what_the_table_says() {
        use Permission::{Allowed, Denied};
        let ours: RepositoryName = "acme/shop".parse().unwrap();
        let theirs: RepositoryName = "globex/site".parse().unwrap();
        let team = Team { repositories: vec!["Acme/*".parse().unwrap()], ..Team::default() };
        let teams = Teams::from([("shop".to_owned(), team)]);
        let table = [
            (Role::Viewer, [Allowed, Denied, Denied, Denied, Denied, Denied]),
            (Role::Member, [Allowed, Allowed, Allowed, Allowed, Denied, Denied]),
            (Role::Admin, [Allowed; 6]),
            (Role::Operator, [Allowed; 6]),
        ];
        for (role, permissions) in table {
            let identity = Identity::of_team_members("ann".to_owned(), role, vec!["shop".to_owned()], &teams);
            let stranger = Identity::of_team_members("bob".to_owned(), role, vec!["gone".to_owned()], &teams);
            let actions =
                [Action::Inspect, Action::Create, Action::Retry, Action::Keep, Action::Delete, Action::Approve];
            for (action, permission) in actions.into_iter().zip(permissions) {
                assert_eq!(may(&identity, action, &ours), permission, "{role} {action:?}");
                let elsewhere = if role == Role::Operator { Allowed } else { Permission::Invisible };
                assert_eq!(may(&identity, action, &theirs), elsewhere, "{role} {action:?}");
                assert_eq!(may(&stranger, action, &ours), elsewhere, "{role} {action:?}");
            }
        }
    }

    #[test]
    fn roles_on_github_are_roles_here() {
        let table = [("admin", Some(Role::Admin)), ("maintain", Some(Role::Admin)), ("write", Some(Role::Member))];
        let rest = [("triage", Some(Role::Member)), ("read", Some(Role::Viewer)), ("none", None), ("", None)];
        for (theirs, ours) in table.into_iter().chain(rest) {
            assert_eq!(Role::of_github(theirs), ours, "{theirs}");
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
