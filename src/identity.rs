//! Who calls, and what they may do: every call carries an identity, and one function decides.

mod authenticator;
mod github;
mod oidc;
mod tokens;

use std::collections::BTreeMap;

pub use authenticator::{AuthenticationError, Authenticator, Grant, TeamsInForce};
pub use github::{Attempt, GitHubLogin, LoginError, LoginSettings, login_callback};
pub use oidc::{Issuer, OidcSettings};
pub use tokens::{IssuedToken, Scope, Subject, TokenGrant, issue_token};
pub(crate) use tokens::{TOKEN_PREFIX, hash as secret_hash, new_secret};

use crate::{
    config::{Login, RepositoryPattern, Team},
    environment::{RepositoryName, codes},
    store::{Event, EventKind, Interface, Origin},
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
    /// The repositories in which they are an admin where their role is less.
    pub admin_of: Vec<RepositoryPattern>,
    /// The only pull request that exists for it, in each of them. None: all.
    pub pull_request: Option<i64>,
    /// From where they ask. None: nobody has said.
    pub origin: Option<Origin>,
}

impl Identity {
    /// Whoever starts previewd on this machine: they have the database and the cluster's credentials anyway.
    pub fn local_operator() -> Self {
        Self {
            subject: "local operator".to_owned(),
            role: Role::Operator,
            teams: Vec::new(),
            visible: None,
            admin_of: Vec::new(),
            pull_request: None,
            origin: Some(Interface::CommandLine.into()),
        }
    }

    /// The author of a comment, with the role that they have on the comment's repository.
    pub fn of_github(login: &str, role: Role) -> Self {
        let origin = Some(Interface::Comment.into());
        Self {
            subject: login.to_owned(),
            role,
            teams: Vec::new(),
            visible: None,
            admin_of: Vec::new(),
            pull_request: None,
            origin,
        }
    }

    /// Somebody whom GitHub knows, as what the teams make of them. None: they are in no team.
    fn of_login(login: &str, configured: &Teams) -> Option<Self> {
        let is = |logins: &[Login]| logins.iter().any(|member| member.as_str() == login);
        let own = configured.iter().filter(|(_, team)| is(&team.members) || is(&team.admins));
        let teams: Vec<String> = own.clone().map(|(name, _)| name.clone()).collect();
        if teams.is_empty() {
            return None;
        }
        let operates = own.clone().any(|(_, team)| team.operate);
        let role = if operates { Role::Operator } else { Role::Member };
        let governed = own.filter(|(_, team)| is(&team.admins));
        let admin_of = governed.flat_map(|(_, team)| team.repositories.iter().cloned()).collect();
        Some(Self { admin_of, ..Self::of_team_members(login.to_owned(), role, teams, configured) })
    }

    /// The same, asking from there.
    pub fn from_origin(self, origin: impl Into<Origin>) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }

    /// What the history says of something that they ask for.
    pub fn event(&self, kind: EventKind, detail: impl Into<String>) -> Event {
        Event { kind, actor: self.subject.clone(), origin: self.origin, detail: Some(detail.into()) }
    }

    /// The patterns of the repositories that exist for them, as the store takes them.
    pub fn visible_patterns(&self) -> Option<Vec<String>> {
        self.visible.as_ref().map(|patterns| patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect())
    }

    fn role_on(&self, repository: &RepositoryName) -> Role {
        let is_admin = self.admin_of.iter().any(|pattern| pattern.covers(repository));
        if is_admin { self.role.max(Role::Admin) } else { self.role }
    }

    fn of_team_members(subject: String, role: Role, teams: Vec<String>, configured: &Teams) -> Self {
        // A team that is configured no longer has no repositories.
        let configured = teams.iter().filter_map(|team| configured.get(team));
        let patterns = || configured.flat_map(|team| team.repositories.iter().cloned()).collect();
        let visible = match role {
            Role::Operator => None,
            Role::Viewer | Role::Member | Role::Admin => Some(patterns()),
        };
        Self { subject, role, teams, visible, admin_of: Vec::new(), pull_request: None, origin: None }
    }

    /// The same with nothing but one repository, or one of its pull requests.
    fn within(mut self, Scope { repository, pull_request }: &Scope) -> Self {
        let pattern = RepositoryPattern::from(repository);
        let sees = self.visible.as_ref().is_none_or(|patterns| patterns.iter().any(|own| own.covers(repository)));
        self.visible = Some(if sees { vec![pattern] } else { Vec::new() });
        self.pull_request = *pull_request;
        self
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

/// Decides whether `identity` may do `action` to the environment of pull request `number` of `repository`.
pub fn may(identity: &Identity, action: Action, repository: &RepositoryName, number: i64) -> Permission {
    let sees_repository =
        identity.visible.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.covers(repository)));
    if !sees_repository || identity.pull_request.is_some_and(|only| only != number) {
        Permission::Invisible
    } else if identity.role_on(repository) < action.needs() {
        Permission::Denied
    } else {
        Permission::Allowed
    }
}

/// Decides whether `identity` may look after previewd itself: see all of it, repair it, make tokens. Whoever sees only a
/// part of it may not, whatever their role.
pub fn may_operate(identity: &Identity) -> Permission {
    if identity.role == Role::Operator && identity.visible.is_none() && identity.pull_request.is_none() {
        Permission::Allowed
    } else {
        Permission::Denied
    }
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
                assert_eq!(may(&identity, action, &ours, 7), permission, "{role} {action:?}");
                let elsewhere = if role == Role::Operator { Allowed } else { Permission::Invisible };
                assert_eq!(may(&identity, action, &theirs, 7), elsewhere, "{role} {action:?}");
                assert_eq!(may(&stranger, action, &ours, 7), elsewhere, "{role} {action:?}");
            }
        }
    }

    #[test]
    fn logins_are_what_their_teams_make_of_them() {
        let text = "[shop]\nrepositories = ['acme/*']\nmembers = ['Ann', 'ben']\nadmins = ['cat']\n\
            [site]\nrepositories = ['globex/site']\nmembers = ['cat']\n[platform]\nmembers = ['dan']\noperate = true\n";
        let teams: Teams = toml::from_str(text).unwrap();
        let of = |login: &str| Identity::of_login(login, &teams);
        let (ours, theirs) = ("acme/shop".parse().unwrap(), "globex/site".parse().unwrap());
        let may_delete = |login: &str, repository| may(&of(login).unwrap(), Action::Delete, repository, 7);
        assert_eq!(of("ann").map(|ann| (ann.role, ann.teams)), Some((Role::Member, vec!["shop".to_owned()])));
        assert_eq!(may_delete("ann", &ours), Permission::Denied);
        assert_eq!(may_delete("ann", &theirs), Permission::Invisible);
        assert_eq!(may_delete("cat", &ours), Permission::Allowed, "an admin of this team");
        assert_eq!(may_delete("cat", &theirs), Permission::Denied, "and a member of that");
        assert_eq!(may_operate(&of("cat").unwrap()), Permission::Denied);
        assert_eq!(may_operate(&of("dan").unwrap()), Permission::Allowed);
        assert_eq!(of("eve"), None);
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
    fn a_token_of_one_pull_request_sees_nothing_else() {
        let ours: RepositoryName = "acme/shop".parse().unwrap();
        let other: RepositoryName = "acme/site".parse().unwrap();
        let team = Team { repositories: vec!["acme/*".parse().unwrap()], ..Team::default() };
        let teams = Teams::from([("shop".to_owned(), team)]);
        let admin = || Identity::of_team_members("bot".to_owned(), Role::Admin, vec!["shop".to_owned()], &teams);
        let scope = |pull_request| Scope { repository: ours.clone(), pull_request };
        let of_repository = admin().within(&scope(None));
        let of_pull_request = admin().within(&scope(Some(7)));
        for (identity, repository, number, expected) in [
            (&of_repository, &ours, 7, Permission::Allowed),
            (&of_repository, &ours, 8, Permission::Allowed),
            (&of_repository, &other, 7, Permission::Invisible),
            (&of_pull_request, &ours, 7, Permission::Allowed),
            (&of_pull_request, &ours, 8, Permission::Invisible),
            (&of_pull_request, &other, 7, Permission::Invisible),
        ] {
            assert_eq!(may(identity, Action::Delete, repository, number), expected, "{repository}#{number}");
        }
        let theirs: RepositoryName = "globex/site".parse().unwrap();
        let beyond = admin().within(&Scope { repository: theirs.clone(), pull_request: None });
        assert_eq!(may(&beyond, Action::Inspect, &theirs, 7), Permission::Invisible, "a scope widens nothing");
    }
}
