//! Commands in comments: run under their author's role on GitHub, one after the other, and answered by a reaction to
//! their comment and, where there is something to say, by one reply. What a command or its answer waits for holds nothing
//! else up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{interrupted::Interrupted, observe::access, pass::Pass};
use crate::{
    environment::{
        Command, CommandKey, CommentKind, CommitPrefix, EnvironmentStatus, Millis, PublicUrl, RepositoryState, Urgency,
    },
    github::{self, GitHubError},
    identity::{Action, Identity, Permission, Role, may},
    store::{self, Confirmed, Event, EventKind, Interface, Overview, Refusal, Request},
};

/// How long GitHub's word on somebody's role is believed.
const BELIEVED: Duration = Duration::from_secs(300);
/// People whose role is remembered at once.
const REMEMBERED: usize = 10_000;

/// What people may do on repositories, as GitHub said minutes ago.
#[derive(Clone, Default)]
pub struct Roles(Arc<Mutex<HashMap<(i64, String), Heard>>>);

/// When GitHub said it, and what. None: they may do nothing at all.
type Heard = (Instant, Option<Role>);

impl Roles {
    fn get(&self, repository_id: i64, login: &str) -> Option<Option<Role>> {
        let roles = self.0.lock().expect("never poisoned");
        let (at, role) = roles.get(&(repository_id, login.to_owned()))?;
        (at.elapsed() < BELIEVED).then_some(*role)
    }

    fn put(&self, repository_id: i64, login: &str, role: Option<Role>) {
        let mut roles = self.0.lock().expect("never poisoned");
        if roles.len() >= REMEMBERED {
            roles.clear();
        }
        roles.insert((repository_id, login.to_owned()), (Instant::now(), role));
    }
}

/// What became of a command.
enum Outcome {
    /// It is stored what was asked for, with the command's answer in the same transaction: the pass is over.
    Granted,
    /// There was nothing to change.
    Settled(Option<String>),
    /// Its author is told why.
    Refused(Refusal, String),
}

fn invalid(sentence: impl Into<String>) -> Outcome {
    Outcome::Refused(Refusal::InvalidInput, sentence.into())
}

fn unauthorized(sentence: impl Into<String>) -> Outcome {
    Outcome::Refused(Refusal::Unauthorized, sentence.into())
}

impl Pass<'_> {
    /// Runs what was not run yet. What was granted is a newer request than the one that this pass works on, and ends it:
    /// the command after it is run on what that one left. What keeps one from being run, such as GitHub that is away, keeps
    /// nothing else from being done.
    pub(super) async fn run_commands(&mut self) -> Result<(), Interrupted> {
        let store = &self.engine.store;
        let overview = store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over)?;
        let facts = &overview.pull_request.facts;
        if overview.pull_request.repository_state != RepositoryState::Active {
            return Ok(());
        }
        let open = store.open_commands(facts.repository.github_id, facts.number).await?;
        self.has_commands = !open.is_empty();
        self.app_installation_id = facts.repository.app_installation_id;
        for command in open.iter().filter(|command| command.accepted.is_none()) {
            match self.run_command(&overview, command).await {
                Ok(Outcome::Granted) => return Err(Interrupted::Over),
                Ok(Outcome::Settled(answer)) => store.settle_command(command.key, answer).await?,
                Ok(Outcome::Refused(refusal, sentence)) => {
                    let event = event_of(command);
                    let refused = event.map(|event| (overview.environment.id.clone(), event, refusal));
                    store.refuse_command(command.key, sentence, refused).await?;
                }
                Err(Interrupted::Over) => return Err(Interrupted::Over),
                Err(later) => {
                    self.put_off(later);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Tells the authors of the comments whose commands were all run.
    pub(super) async fn answer_commands(&mut self) -> Result<(), Interrupted> {
        if !self.has_commands {
            return Ok(());
        }
        let store = &self.engine.store;
        let overview = store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over)?;
        let facts = &overview.pull_request.facts;
        let open = store.open_commands(facts.repository.github_id, facts.number).await?;
        let is_of_one = |one: &store::Command, other: &store::Command| {
            (one.key.kind, one.key.comment_id) == (other.key.kind, other.key.comment_id)
        };
        for comment in open.chunk_by(is_of_one) {
            if comment.iter().all(|command| command.accepted.is_some()) {
                self.answer(&overview, comment).await?;
            }
        }
        Ok(())
    }

    async fn run_command(&mut self, overview: &Overview, stored: &store::Command) -> Result<Outcome, Interrupted> {
        match stored.key.place {
            CommandKey::EDITED_IN => return Ok(invalid("What is edited into a comment is not done; write a new one.")),
            CommandKey::AT_MOST => {
                let most = CommandKey::AT_MOST;
                return Ok(invalid(format!(
                    "This and what follows it is not done: a comment has {most} commands at most."
                )));
            }
            _ => {}
        }
        let command = match Command::parse(&stored.line) {
            Ok(command) => command,
            Err(sentence) => return Ok(invalid(sentence)),
        };
        let Some(role) = self.role_of(overview, &stored.author).await? else {
            return Ok(unauthorized("This is for people who have access to the repository."));
        };
        let action = match command {
            Command::Deploy => Action::Create,
            // It takes nothing away for good but what a preview was fed with.
            Command::Retry | Command::Reset => Action::Retry,
            Command::Delete => Action::Delete,
            Command::Keep(_) => Action::Keep,
            Command::Approve(_) => Action::Approve,
            Command::Status => Action::Inspect,
        };
        let author = Identity::of_github(&stored.author, role);
        let facts = &overview.pull_request.facts;
        match may(&author, action, &facts.repository.name, facts.number) {
            Permission::Allowed => {}
            Permission::Denied | Permission::Invisible => {
                return Ok(unauthorized(format!("This needs the role {}; yours here is {role}.", action.needs())));
            }
        }
        let by = |kind, detail: String| Request {
            event: author.event(kind, detail),
            command: Some(stored.key),
            answer: None,
            keyed: None,
            expected: None,
        };
        self.carry_out(overview, &command, by).await
    }

    async fn carry_out(
        &mut self,
        overview: &Overview,
        command: &Command,
        by: impl Fn(EventKind, String) -> Request,
    ) -> Result<Outcome, Interrupted> {
        let Overview { environment, pull_request } = overview;
        let engine = self.engine;
        let (store, id, head) = (&engine.store, &environment.id, &pull_request.facts.head_sha);
        let status = environment.status;
        let granted = |asked: bool, otherwise: Outcome| if asked { Outcome::Granted } else { otherwise };
        Ok(match command {
            Command::Deploy => {
                let asked = store.request_deployment(id, by(EventKind::DeploymentRequested, head.to_string())).await?;
                granted(asked, invalid("The pull request is closed; reopen it first."))
            }
            Command::Retry => {
                let asked = store.request_retry(id, by(EventKind::RetryRequested, head.to_string())).await?;
                let why = environment.message.as_ref().map(|why| format!(" {why}")).unwrap_or_default();
                let sentence = format!("It is {status}; only what failed or sleeps is retried.{why}");
                granted(asked, invalid(sentence))
            }
            Command::Reset => {
                let asked = store.request_reset(id, by(EventKind::ResetRequested, head.to_string())).await?;
                granted(asked, invalid("The pull request is closed; reopen it first."))
            }
            Command::Delete => {
                let request = by(EventKind::DeletionRequested, head.to_string());
                granted(store.request_deletion(id, request).await?, Outcome::Settled(None))
            }
            Command::Keep(duration) => {
                let until = self.engine.limits.kept_until(self.lease.now(), *duration);
                let answer = self.engine.limits.shortfall(*duration);
                let request = Request { answer, ..by(EventKind::KeepingRequested, time(until)) };
                let asked = store.request_keeping(id, until, request).await?;
                granted(asked, invalid(format!("It is {status}; there is nothing to keep.")))
            }
            Command::Approve(prefix) => self.approve(overview, prefix, by).await?,
            Command::Status => Outcome::Settled(Some(self.status_sentence(overview))),
        })
    }

    async fn approve(
        &mut self,
        overview: &Overview,
        prefix: &CommitPrefix,
        by: impl Fn(EventKind, String) -> Request,
    ) -> Result<Outcome, Interrupted> {
        let facts = &overview.pull_request.facts;
        let head = &facts.head_sha;
        if !facts.from_fork {
            return Ok(invalid("Only commits of forks need an approval."));
        }
        let not_head = || {
            let sentence = format!("That is not the newest commit, which is {}.", head.short());
            Outcome::Refused(Refusal::StaleTarget, sentence)
        };
        if !prefix.matches(head) {
            // Whoever writes it may have seen a push that nobody told of yet.
            let newest = self.ask_for_pull_request(overview).await?;
            return match self.engine.store.confirm_pull_request(&self.lease, newest).await?? {
                Confirmed::News => Err(Interrupted::Over),
                Confirmed::AsStored => Ok(not_head()),
            };
        }
        let approved =
            self.engine.store.approve(&overview.environment.id, head, by(EventKind::Approved, head.to_string()));
        Ok(if approved.await? { Outcome::Granted } else { not_head() })
    }

    fn status_sentence(&self, overview: &Overview) -> String {
        let environment = &overview.environment;
        let commit = overview.pull_request.facts.head_sha.short();
        match (environment.status, &environment.message) {
            (EnvironmentStatus::Running, None) => {
                let url = PublicUrl::of(&environment.namespace, &self.engine.base_domain);
                format!("Commit {commit} is running at {}", url.as_str())
            }
            (status, Some(message)) => format!("Commit {commit} is {status}. {message}"),
            (status, None) => format!("Commit {commit} is {status}."),
        }
    }

    /// Tells the author of a comment what became of its commands. A reaction is there once however often it is sent, and
    /// a reply is looked for before.
    async fn answer(&mut self, overview: &Overview, commands: &[store::Command]) -> Result<(), Interrupted> {
        let Some(first) = commands.first() else { return Ok(()) };
        match self.send_answer(overview, first.key, commands).await? {
            // Somebody deleted the comment, or the conversation is locked: nobody waits for an answer. What GitHub does not
            // take it never will.
            Ok(()) | Err(GitHubError::NotFound { .. } | GitHubError::Forbidden { .. } | GitHubError::Other { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.engine.store.record_answered(first.key.kind, first.key.comment_id).await?)
    }

    async fn send_answer(
        &mut self,
        overview: &Overview,
        key: CommandKey,
        commands: &[store::Command],
    ) -> Result<Result<(), GitHubError>, Interrupted> {
        let (github, access) = (&self.engine.github, &access(overview));
        let any_done = commands.iter().any(|command| command.accepted == Some(true));
        let all_done = commands.iter().all(|command| command.accepted == Some(true));
        // Whoever may do nothing does not use up what others are told with.
        let urgency = if any_done { Urgency::High } else { Urgency::Normal };
        let can_react = key.kind != CommentKind::Review;
        if can_react {
            self.github_write(urgency).await?;
            let reaction = if all_done { "+1" } else { "confused" };
            if let Err(error) = github.react(access, key.kind, key.comment_id, reaction).await {
                return Ok(Err(error));
            }
        }
        // A reaction to one command says that it is done.
        if let ([command], true) = (commands, can_react)
            && command.answer.is_none()
        {
            return Ok(Ok(()));
        }
        let marker = github::reply_marker(&self.installation.id, key);
        let number = overview.pull_request.facts.number;
        match self.find_comments(access, number, &marker).await? {
            Ok(found) if found.is_empty() => {}
            Ok(_) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
        let answers = commands.iter().map(|command| {
            let verb = Command::parse(&command.line).map_or("", |command| command.verb());
            (verb, command.answer.as_deref().unwrap_or("Accepted."))
        });
        let text = github::reply(&marker, answers);
        self.github_write(urgency).await?;
        Ok(github.create_comment(access, number, &text).await.map(drop))
    }

    /// What GitHub says that somebody may do on the repository.
    async fn role_of(&mut self, overview: &Overview, login: &str) -> Result<Option<Role>, Interrupted> {
        let repository_id = overview.pull_request.facts.repository.github_id;
        if let Some(known) = self.engine.roles.get(repository_id, login) {
            return Ok(known);
        }
        self.github_read().await?;
        let role = Role::of_github(&self.engine.github.role_of(&access(overview), login).await?);
        self.engine.roles.put(repository_id, login, role);
        Ok(role)
    }
}

/// What the history says of a command that was refused. None: it changes nothing, or is none.
fn event_of(stored: &store::Command) -> Option<Event> {
    let kind = match Command::parse(&stored.line).ok()? {
        Command::Deploy => EventKind::DeploymentRequested,
        Command::Retry => EventKind::RetryRequested,
        Command::Reset => EventKind::ResetRequested,
        Command::Delete => EventKind::DeletionRequested,
        Command::Keep(_) => EventKind::KeepingRequested,
        Command::Approve(_) => EventKind::Approved,
        Command::Status => return None,
    };
    let origin = Some(Interface::Comment.into());
    Some(Event { kind, actor: stored.author.clone(), origin, detail: None })
}

fn time(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
