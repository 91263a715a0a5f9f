//! What owners do on GitHub, as methods: repositories, collaborators, forks and the App's installations.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::GitHub;
use super::error::ControlError;
use super::payloads;
use super::shapes::Shapes;
use super::state::{Installation, Repository, Role, State, UserKind, WorkflowRun};
use super::webhooks::Event;

impl GitHub {
    /// A public repository with one commit on `main`. The users of the configured tokens may write to it; where there
    /// is an App, it is installed. Nothing is reported. Says the repository's id.
    pub fn create_repository(&self, owner: &str, name: &str) -> Result<u64, ControlError> {
        let mut state = self.state();
        if state.current(&format!("{owner}/{name}")).is_some() {
            return Err(ControlError::Refused(format!("{owner}/{name} exists")));
        }
        state.ensure_user(owner, UserKind::User);
        let (id, now) = (state.next_id(), state.now());
        let installation = state.app.is_some().then(|| installation_of(&mut state, owner));
        let users = self.users().iter().map(|login| (login.to_lowercase(), Role::Write));
        let repository = Repository {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            default_branch: "main".to_owned(),
            private: false,
            fork_of: None,
            installation,
            created_at: now,
            pushed_at: now,
            updated_at: now,
            branches: BTreeMap::new(),
            collaborators: users.collect(),
            labels: BTreeMap::new(),
            pulls: BTreeMap::new(),
            comments: BTreeMap::new(),
            review_comments: BTreeMap::new(),
            deployments: BTreeMap::new(),
            workflow_runs: BTreeMap::new(),
            next_number: 1,
        };
        state.repositories.insert(id, repository);
        // A new repository takes the name over: GitHub ends the redirect.
        state.former_names.remove(&format!("{owner}/{name}").to_lowercase());
        let readme = BTreeMap::from([("README.md".to_owned(), Some(format!("# {name}\n").into_bytes()))]);
        state.commit(id, "main", &readme, "Initial commit", owner, None)?;
        Ok(id)
    }

    /// Makes an account known as an organization: payloads of its repositories then carry `organization`.
    pub fn create_organization(&self, login: &str) {
        self.state().ensure_user(login, UserKind::Organization);
    }

    pub fn set_private(&self, repository: &str, private: bool) -> Result<(), ControlError> {
        self.state().repository_mut(repository)?.private = private;
        Ok(())
    }

    /// GitHub reports no changed role to webhooks previews listen to; nothing is sent.
    pub fn set_role(&self, repository: &str, login: &str, role: Role) -> Result<(), ControlError> {
        let mut state = self.state();
        state.ensure_user(login, UserKind::User);
        state.repository_mut(repository)?.collaborators.insert(login.to_lowercase(), role);
        Ok(())
    }

    /// A workflow of GitHub Actions for a commit, from now on in this status: `in_progress`, or `completed` and well.
    pub fn set_workflow(&self, repository: &str, commit: &str, status: &str) -> Result<(), ControlError> {
        let conclusion = (status == "completed").then(|| "success".to_owned());
        self.set_workflow_run(repository, commit, WorkflowRun { status: status.to_owned(), conclusion })
    }

    /// The workflow of a commit has ended so: `failure`, `timed_out`.
    pub fn end_workflow(&self, repository: &str, commit: &str, conclusion: &str) -> Result<(), ControlError> {
        let (status, conclusion) = ("completed".to_owned(), Some(conclusion.to_owned()));
        self.set_workflow_run(repository, commit, WorkflowRun { status, conclusion })
    }

    fn set_workflow_run(&self, repository: &str, commit: &str, run: WorkflowRun) -> Result<(), ControlError> {
        self.state().repository_mut(repository)?.workflow_runs.insert(commit.to_owned(), run);
        Ok(())
    }

    pub async fn rename_repository(&self, repository: &str, name: &str) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let found = state.repository_mut(repository)?;
            let (id, former) = (found.id, found.full_name());
            let from = std::mem::replace(&mut found.name, name.to_owned());
            state.former_names.insert(former.to_lowercase(), id);
            let changes = json!({ "repository": { "name": { "from": from } } });
            self.repository_event(&state, id, "renamed", changes)?
        };
        self.report(vec![event]).await;
        Ok(())
    }

    pub async fn transfer_repository(&self, repository: &str, owner: &str) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            state.ensure_user(owner, UserKind::User);
            let found = state.repository_mut(repository)?;
            let (id, former) = (found.id, found.full_name());
            let from = std::mem::replace(&mut found.owner, owner.to_owned());
            state.former_names.insert(former.to_lowercase(), id);
            let shapes = Shapes { state: &state, api: self.url(), html: self.url() };
            let kind = match state.user(&from).map(|user| user.kind) {
                Some(UserKind::Organization) => "organization",
                Some(UserKind::User | UserKind::Bot) | None => "user",
            };
            let changes = json!({ "owner": { "from": { kind: shapes.user(&from) } } });
            self.repository_event(&state, id, "transferred", changes)?
        };
        self.report(vec![event]).await;
        Ok(())
    }

    /// Deletes a repository without a word: GitHub tells the App nothing of it that names pull requests.
    pub fn delete_repository(&self, repository: &str) -> Result<(), ControlError> {
        let mut state = self.state();
        let id = state.repository(repository)?.id;
        remove(&mut state, id);
        Ok(())
    }

    /// Deletes the fork a pull request comes from: its `head.repo` becomes null, its commits stay readable.
    pub fn delete_fork(&self, repository: &str, number: u64) -> Result<(), ControlError> {
        let mut state = self.state();
        let base = state.repository(repository)?.id;
        let head = state.pull(repository, number)?.head.repository.filter(|id| *id != base);
        let head = head.ok_or_else(|| ControlError::Refused("it comes from no fork".to_owned()))?;
        remove(&mut state, head);
        Ok(())
    }

    /// Installs the App on an account, with the repositories it has. Says the installation's id.
    pub async fn install(&self, account: &str) -> Result<u64, ControlError> {
        let (id, event) = {
            let mut state = self.state();
            state.ensure_user(account, UserKind::User);
            let id = installation_of(&mut state, account);
            for repository in state.repositories.values_mut() {
                if repository.owner.eq_ignore_ascii_case(account) && repository.fork_of.is_none() {
                    repository.installation = Some(id);
                }
            }
            (id, self.installation_event(&state, id, "created")?)
        };
        self.report(vec![event]).await;
        Ok(id)
    }

    /// Takes the App off an account.
    pub async fn uninstall(&self, account: &str) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let id = installed(&state, account)?;
            let event = self.installation_event(&state, id, "deleted")?;
            state.installations.remove(&id);
            for repository in state.repositories.values_mut() {
                repository.installation = repository.installation.filter(|other| *other != id);
            }
            event
        };
        self.report(vec![event]).await;
        Ok(())
    }

    pub async fn suspend(&self, account: &str) -> Result<(), ControlError> {
        self.set_suspended(account, true).await
    }

    pub async fn unsuspend(&self, account: &str) -> Result<(), ControlError> {
        self.set_suspended(account, false).await
    }

    async fn set_suspended(&self, account: &str, suspended: bool) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let (id, now) = (installed(&state, account)?, state.now());
            if let Some(installation) = state.installations.get_mut(&id) {
                installation.suspended_at = suspended.then_some(now);
            }
            self.installation_event(&state, id, if suspended { "suspend" } else { "unsuspend" })?
        };
        self.report(vec![event]).await;
        Ok(())
    }

    /// Adds a repository to its owner's installation.
    pub async fn add_to_installation(&self, repository: &str) -> Result<(), ControlError> {
        self.set_installed(repository, true).await
    }

    /// Takes a repository out of its owner's installation.
    pub async fn remove_from_installation(&self, repository: &str) -> Result<(), ControlError> {
        self.set_installed(repository, false).await
    }

    async fn set_installed(&self, repository: &str, added: bool) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let owner = state.repository(repository)?.owner.clone();
            let id = installed(&state, &owner)?;
            state.repository_mut(repository)?.installation = added.then_some(id);
            let installation = state.installations.get(&id);
            let installation = installation.ok_or_else(|| not_installed(&owner))?;
            let found = [state.repository(repository)?];
            let shapes = Shapes { state: &state, api: self.url(), html: self.url() };
            let (more, less) = if added { (&found[..], &[][..]) } else { (&[][..], &found[..]) };
            let payload = payloads::installation_repositories(&shapes, installation, more, less);
            Event { name: "installation_repositories", repository: None, installation: Some(id), payload }
        };
        self.report(vec![event]).await;
        Ok(())
    }

    fn repository_event(&self, state: &State, id: u64, action: &str, changes: Value) -> Result<Event, ControlError> {
        let found = state.repositories.get(&id).ok_or_else(|| ControlError::NoRepository(id.to_string()))?;
        let shapes = Shapes { state, api: self.url(), html: self.url() };
        let payload = payloads::repository(&shapes, found, action, &found.owner, changes);
        Ok(Event { name: "repository", repository: Some(id), installation: found.installation, payload })
    }

    fn installation_event(&self, state: &State, id: u64, action: &str) -> Result<Event, ControlError> {
        let installation = state.installations.get(&id).ok_or_else(|| not_installed(&id.to_string()))?;
        let repositories: Vec<_> =
            state.repositories.values().filter(|repository| repository.installation == Some(id)).collect();
        let shapes = Shapes { state, api: self.url(), html: self.url() };
        let payload = payloads::installation(&shapes, installation, &repositories, action);
        Ok(Event { name: "installation", repository: None, installation: Some(id), payload })
    }
}

fn not_installed(account: &str) -> ControlError {
    ControlError::Refused(format!("the App is not installed on {account}"))
}

fn installed(state: &State, account: &str) -> Result<u64, ControlError> {
    let found = state.installations.values().find(|other| other.account.eq_ignore_ascii_case(account));
    found.map(|installation| installation.id).ok_or_else(|| not_installed(account))
}

fn installation_of(state: &mut State, account: &str) -> u64 {
    installed(state, account).unwrap_or_else(|_| {
        let (id, created_at) = (state.next_id(), state.now());
        let account = account.to_owned();
        state.installations.insert(id, Installation { id, account, suspended_at: None, created_at });
        id
    })
}

fn remove(state: &mut State, id: u64) {
    state.repositories.remove(&id);
    state.former_names.retain(|_, other| *other != id);
    for repository in state.repositories.values_mut() {
        for pull in repository.pulls.values_mut() {
            pull.head.repository = pull.head.repository.filter(|head| *head != id);
        }
    }
}
