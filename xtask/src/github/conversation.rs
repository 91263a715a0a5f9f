//! What people say on pull requests, as methods.

use serde_json::{Value, json};

use super::GitHub;
use super::error::ControlError;
use super::payloads;
use super::shapes::Shapes;
use super::state::{Comment, State, UserKind};
use super::webhooks::{Delivery, Event};

impl GitHub {
    /// Writes a comment as somebody; they need no role. Says the comment's id.
    pub async fn comment(&self, repository: &str, number: u64, author: &str, body: &str) -> Result<u64, ControlError> {
        let (id, event) = {
            let mut state = self.state();
            state.ensure_user(author, UserKind::User);
            let id = add_comment(&mut state, repository, number, author, body, false)?;
            (id, comment_event(self, &state, repository, id, "created", author, json!({}))?)
        };
        self.report(vec![event]).await;
        Ok(id)
    }

    /// Submits a review with these words as somebody; they need no role. Says the review's id.
    pub async fn review(&self, repository: &str, number: u64, author: &str, body: &str) -> Result<u64, ControlError> {
        self.say_in_review(repository, number, author, body, "pull_request_review").await
    }

    /// Writes on a line of the changes as somebody; they need no role. Says the comment's id.
    pub async fn review_comment(
        &self,
        repository: &str,
        number: u64,
        author: &str,
        body: &str,
    ) -> Result<u64, ControlError> {
        self.say_in_review(repository, number, author, body, "pull_request_review_comment").await
    }

    async fn say_in_review(
        &self,
        repository: &str,
        number: u64,
        author: &str,
        body: &str,
        name: &'static str,
    ) -> Result<u64, ControlError> {
        let (id, event) = {
            let mut state = self.state();
            state.ensure_user(author, UserKind::User);
            let comment = new_comment(&mut state, number, author, body, false);
            let id = comment.id;
            if name == "pull_request_review_comment" {
                state.repository_mut(repository)?.review_comments.insert(id, comment.clone());
            }
            let (found, pull) = (state.repository(repository)?, state.pull(repository, number)?);
            let shapes = Shapes { state: &state, api: self.url(), html: self.url() };
            let payload = payloads::in_review(&shapes, found, pull, &comment, name);
            (id, Event { name, repository: Some(found.id), installation: found.installation, payload })
        };
        self.report(vec![event]).await;
        Ok(id)
    }

    /// The reactions to a comment on a line of the changes: (login, content).
    pub fn review_reactions(&self, repository: &str, id: u64) -> Vec<(String, String)> {
        let state = self.state();
        let found = state.find(repository).and_then(|found| found.review_comments.get(&id));
        found.map(|comment| comment.reactions.clone()).unwrap_or_default()
    }

    /// Gives a comment other words, as its author.
    pub async fn edit_comment(&self, repository: &str, id: u64, body: &str) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let comments = &mut state.repository_mut(repository)?.comments;
            let comment = comments.get_mut(&id).ok_or(ControlError::NoComment(id))?;
            let (author, from) = (comment.author.clone(), std::mem::replace(&mut comment.body, body.to_owned()));
            let more = json!({ "changes": { "body": { "from": from } } });
            comment_event(self, &state, repository, id, "edited", &author, more)?
        };
        self.report(vec![event]).await;
        Ok(())
    }

    /// A delivery of its own that says once more that a comment was written.
    pub fn delivery_for_comment(&self, repository: &str, id: u64) -> Result<Delivery, ControlError> {
        let event = {
            let state = self.state();
            let found = state.repository(repository)?.comments.get(&id).ok_or(ControlError::NoComment(id))?;
            comment_event(self, &state, repository, id, "created", &found.author, json!({}))?
        };
        self.address(&event).ok_or(ControlError::NoWebhook)
    }

    /// Removes a comment as the repository's owner.
    pub async fn delete_comment(&self, repository: &str, id: u64) -> Result<(), ControlError> {
        let event = {
            let mut state = self.state();
            let owner = state.repository(repository)?.owner.clone();
            let event = comment_event(self, &state, repository, id, "deleted", &owner, json!({}))?;
            state.repository_mut(repository)?.comments.remove(&id);
            event
        };
        self.report(vec![event]).await;
        Ok(())
    }

    /// A pull request's comments, oldest first.
    pub fn comments(&self, repository: &str, number: u64) -> Vec<Comment> {
        let state = self.state();
        let comments = state.find(repository).map(|found| found.comments.values());
        comments.into_iter().flatten().filter(|comment| comment.number == number).cloned().collect()
    }
}

pub(super) fn comment_event(
    github: &GitHub,
    state: &State,
    repository: &str,
    comment: u64,
    action: &str,
    sender: &str,
    more: Value,
) -> Result<Event, ControlError> {
    let found = state.repository(repository)?;
    let comment = found.comments.get(&comment).ok_or(ControlError::NoComment(comment))?;
    let pull = state.pull(repository, comment.number)?;
    let shapes = Shapes { state, api: github.url(), html: github.url() };
    let payload = payloads::issue_comment(&shapes, found, pull, comment, action, sender, more);
    Ok(Event { name: "issue_comment", repository: Some(found.id), installation: found.installation, payload })
}

pub(super) fn add_comment(
    state: &mut State,
    repository: &str,
    number: u64,
    author: &str,
    body: &str,
    via_app: bool,
) -> Result<u64, ControlError> {
    let comment = new_comment(state, number, author, body, via_app);
    let id = comment.id;
    state.pull_mut(repository, number)?.updated_at = comment.created_at;
    state.repository_mut(repository)?.comments.insert(id, comment);
    Ok(id)
}

fn new_comment(state: &mut State, number: u64, author: &str, body: &str, via_app: bool) -> Comment {
    let (id, now) = (state.next_id(), state.now());
    Comment {
        id,
        number,
        author: author.to_owned(),
        body: body.to_owned(),
        created_at: now,
        updated_at: now,
        via_app,
        reactions: Vec::new(),
    }
}
