//! What went wrong with a call, said so that the caller knows what to do.

use std::{error::Error as StdError, fmt, time::Duration};

use kube::core::{Status, response::reason};
use serde_json::Value;

use super::{SettingsError, client::CALL_TIMEOUT, refusal};
use crate::environment::{Cause, Namespace, Obstacle};

#[cfg(test)]
mod tests;

/// Why a call did not do what it was for. Causes are for a pull request to see; the other texts are for operators and
/// hold no value of any object.
///
/// A call that sends, reads or deletes one object of an environment ends in a cause wherever the API server looked at the
/// object, be it in [`Self::NotTaken`]: whoever sends it again and again has something to show, and to end with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The API server is out of reach or not ready (503), or does not take our credentials, or cannot answer a question
    /// now. Try again later; it counts towards no attempt.
    #[error("could not {call}: {why}")]
    Away {
        call: String,
        why: String,
        retry_after: Option<Duration>,
        /// What it is instead where the cluster answers others: the cause of [`Self::NotTaken`]. None: the call is about no
        /// one object.
        not_taken: Option<Box<Cause>>,
    },
    /// This object is not taken now, and nothing is wrong with it: the cause is always [`Cause::NotTaken`]. Try again
    /// later, as long as there is time for it.
    #[error("{cause}")]
    NotTaken { cause: Cause, retry_after: Option<Duration> },
    /// The namespace is being removed, so nothing can be made in it. Wait until it is gone.
    #[error("the namespace is being removed")]
    NamespaceTerminating,
    /// The namespace is not there (any more). Look again.
    #[error("the namespace does not exist")]
    NamespaceGone,
    /// The object breaks a rule of the cluster; the same object will be refused again.
    #[error("{0}")]
    Refused(Cause),
    /// A field of the object cannot be changed where it stands; deleted and made anew, it can.
    #[error("{0}")]
    Immutable(Cause),
    /// previewd's own account lacks a permission. The operator's matter.
    #[error("previewd's account in the cluster may not {call}; give it that permission")]
    Forbidden { call: String },
    /// An answer that makes no sense to this version of previewd.
    #[error("could not {call}: {why}")]
    Unexpected { call: String, why: String },
}

impl ClusterError {
    /// The same for people, without its period: what the cluster did, and to which call.
    pub fn trouble(&self) -> String {
        match self {
            Self::Away { call, why, retry_after: _, not_taken: _ } => {
                let status = why.strip_prefix(ANSWERED).map(|rest| rest.split([' ', ':']).next().unwrap_or_default());
                match status {
                    Some(status) => format!("the cluster answered {status} to \"{call}\""),
                    None => format!("the cluster gave no answer to \"{call}\""),
                }
            }
            Self::NotTaken { cause, retry_after: _ } | Self::Refused(cause) | Self::Immutable(cause) => {
                cause.to_string().trim_end_matches('.').to_owned()
            }
            Self::NamespaceTerminating => "the namespace is being removed".to_owned(),
            Self::NamespaceGone => "the namespace does not exist any more".to_owned(),
            Self::Forbidden { call } => format!("previewd's account in the cluster may not do this: {call}"),
            Self::Unexpected { call, why: _ } => {
                format!("the cluster's answer to \"{call}\" makes no sense to previewd")
            }
        }
    }
}

/// How the texts of answers begin.
const ANSWERED: &str = "the API server answered ";

/// What a request is for, in words: `apply Deployment web in pr-7-shop-…`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    verb: &'static str,
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a Namespace>,
    subject: Subject,
    /// Where in the object that is named what is sent stands. Empty: it is the object.
    place: &'a str,
}

/// What a call is about, and so what its failure may be about.
#[derive(Debug, Clone, Copy)]
enum Subject {
    /// The cluster, or more than one object.
    Cluster,
    /// An object that is read or deleted.
    Named,
    /// An object that is sent.
    Sent {
        /// The field by which the object means one certain object of some cluster, which any other is not.
        identity: Option<&'static str>,
    },
}

impl<'a> Call<'a> {
    pub(super) fn new(verb: &'static str, kind: &'a str, name: &'a str) -> Self {
        Self { verb, kind, name, namespace: None, subject: Subject::Cluster, place: "" }
    }

    pub(super) fn in_namespace(self, namespace: &'a Namespace) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// The request reads or deletes the one object of an environment that it names. Nothing that an answer says of it is
    /// the recipe's matter.
    pub(super) fn by_name(self) -> Self {
        Self { subject: Subject::Named, ..self }
    }

    /// The request carries an object of the recipe: what is wrong with it is the recipe's matter, and error texts may
    /// quote its values.
    pub(super) fn with_object(self, body: &Value) -> Self {
        let has = |field: &str| !body["metadata"][field].is_null();
        let identity = match () {
            () if has("uid") => Some("metadata.uid"),
            () if has("resourceVersion") => Some("metadata.resourceVersion"),
            () => None,
        };
        Self { subject: Subject::Sent { identity }, ..self }
    }

    /// What is sent is what the object has at `place`, such as `spec.template`.
    pub(super) fn at(self, place: &'a str) -> Self {
        Self { place, ..self }
    }

    pub(super) fn away(&self, why: impl Into<String>) -> ClusterError {
        ClusterError::Away { call: self.to_string(), why: why.into(), retry_after: None, not_taken: None }
    }

    /// Nobody answered, or somebody who is not ready: the cluster is away, or, where it answers others, this object is what
    /// it does not take, because of `instead`.
    fn unanswered(&self, why: String, instead: Obstacle, retry_after: Option<Duration>) -> ClusterError {
        let not_taken = match self.subject {
            Subject::Cluster => None,
            Subject::Named | Subject::Sent { .. } => Some(Box::new(self.cause(instead))),
        };
        ClusterError::Away { call: self.to_string(), why, retry_after, not_taken }
    }

    pub(super) fn unexpected(&self, why: &dyn fmt::Display) -> ClusterError {
        ClusterError::Unexpected { call: self.to_string(), why: why.to_string() }
    }

    fn refused(&self, rule: impl Into<String>) -> ClusterError {
        let Self { kind, name, .. } = self;
        let (kind, name, rule) = ((*kind).to_owned(), (*name).to_owned(), rule.into());
        ClusterError::Refused(Cause::ObjectRefused { kind, name, rule })
    }

    fn not_taken(&self, why: Obstacle, retry_after: Option<Duration>) -> ClusterError {
        ClusterError::NotTaken { cause: self.cause(why), retry_after }
    }

    fn cause(&self, why: Obstacle) -> Cause {
        Cause::NotTaken { kind: self.kind.to_owned(), name: self.name.to_owned(), why }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, kind, name, namespace, subject: _, place: _ } = self;
        write!(f, "{verb} {kind}")?;
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        match namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// A call that did not succeed, before it is decided what that means.
#[derive(Debug)]
pub(super) enum Failure {
    Build(kube::core::request::Error),
    Settings(SettingsError),
    Transport(kube::Error),
    TimedOut,
    Status(Box<Status>),
}

impl Failure {
    /// Whether the API server does not accept the credentials. A webhook may deny an object with the same code.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.status().is_some_and(|status| status.code == 401 && refusal::denying_policy(&status.message).is_none())
    }

    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            Self::Build(_) | Self::Settings(_) | Self::Transport(_) | Self::TimedOut => None,
        }
    }

    pub(super) fn into_error(self, call: &Call<'_>) -> ClusterError {
        match &self {
            Self::Build(error) => call.unexpected(error),
            Self::TimedOut => {
                let no_answer = Obstacle::NoAnswer { seconds: CALL_TIMEOUT.as_secs() };
                match call.subject {
                    // Whoever is not reached at all does not take a connection either.
                    Subject::Sent { .. } => call.not_taken(no_answer, None),
                    Subject::Cluster | Subject::Named => call.unanswered(self.explain(call), no_answer, None),
                }
            }
            Self::Settings(_) | Self::Transport(kube::Error::Auth(_)) => call.away(self.explain(call)),
            Self::Transport(_) => call.unanswered(self.explain(call), Obstacle::ConnectionBroke, None),
            Self::Status(status) => classify(call, status),
        }
    }

    /// What an operator may read about it.
    pub(super) fn explain(&self, call: &Call<'_>) -> String {
        match self {
            Self::Build(error) => error.to_string(),
            Self::Settings(error) => error.to_string(),
            // What a credential program printed is in kube's text.
            Self::Transport(kube::Error::Auth(_)) => {
                "the credentials that the kubeconfig names cannot be had".to_owned()
            }
            Self::Transport(error) => chain(error),
            Self::TimedOut => format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
            Self::Status(status) => explain_status(call, status),
        }
    }
}

fn explain_status(call: &Call<'_>, status: &Status) -> String {
    let Status { code, reason, message, .. } = status;
    let mut text = format!("{ANSWERED}{code}");
    if !reason.is_empty() {
        text.push_str(&format!(" {reason}"));
    }
    if matches!(call.subject, Subject::Cluster) && !message.is_empty() {
        text.push_str(": ");
        text.extend(message.chars().filter(|c| !c.is_control()).take(300));
    }
    text
}

/// The innermost error says what happened; the outer ones only through which layer it came.
fn chain(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What an answer of the API server means to whoever asked.
pub(super) fn classify(call: &Call<'_>, status: &Status) -> ClusterError {
    if let Some(told) = told_by_others(call, status) {
        return told;
    }
    let away = || {
        let instead = Obstacle::ServerError { code: status.code };
        call.unanswered(explain_status(call, status), instead, retry_after(status))
    };
    match (call.subject, status.code) {
        (_, 401) => call.away("the API server does not accept the credentials"),
        (_, 503) => away(),
        (_, 403) if has_cause(status, "NamespaceTerminating") => ClusterError::NamespaceTerminating,
        (_, 404) if status.details.as_ref().is_some_and(|details| details.kind == "namespaces") => {
            ClusterError::NamespaceGone
        }
        (Subject::Sent { identity }, _) => classify_write(call, identity, status),
        (Subject::Named, _) => call.not_taken(what_keeps_it(status), retry_after(status)),
        (Subject::Cluster, 403) => ClusterError::Forbidden { call: call.to_string() },
        (Subject::Cluster, 409) if status.reason != reason::CONFLICT => call.unexpected(&explain_status(call, status)),
        (Subject::Cluster, 408 | 409 | 410 | 429 | 500..=599) => away(),
        (Subject::Cluster, _) => call.unexpected(&explain_status(call, status)),
    }
}

/// What those whom the API server asks about an object say of it. They choose the code of the answer, so their words count
/// before it.
fn told_by_others(call: &Call<'_>, status: &Status) -> Option<ClusterError> {
    if matches!(call.subject, Subject::Cluster) {
        return None;
    }
    let Some(policy) = refusal::denying_policy(&status.message) else {
        let obstacle = refusal::obstacle(&status.message)?;
        return Some(call.not_taken(obstacle, retry_after(status)));
    };
    Some(match (call.subject, status.code) {
        // The webhook answered that it broke.
        (_, 408 | 429 | 500..=599) => call.not_taken(Obstacle::Webhook { name: Some(policy.to_owned()) }, None),
        (Subject::Sent { .. }, _) => call.refused(format!("the cluster's policy {policy} denies it")),
        (Subject::Cluster | Subject::Named, _) => {
            call.not_taken(Obstacle::RemovalDenied { policy: policy.to_owned() }, None)
        }
    })
}

/// Why an object cannot be read or deleted now.
fn what_keeps_it(status: &Status) -> Obstacle {
    match status.code {
        403 if refusal::is_missing_permission(&status.message) => Obstacle::Forbidden,
        409 => Obstacle::Conflict,
        429 => Obstacle::Throttled,
        code => Obstacle::ServerError { code },
    }
}

/// What an answer means for the object that was sent: a rule that it breaks, which it breaks again and again, or
/// something of the cluster's, which passes.
fn classify_write(call: &Call<'_>, identity: Option<&str>, status: &Status) -> ClusterError {
    let Status { code, message, .. } = status;
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let server_error = || call.not_taken(Obstacle::ServerError { code: *code }, retry_after(status));
    match code {
        403 if refusal::is_missing_permission(message) => call.not_taken(Obstacle::Forbidden, None),
        403 => match refusal::of_admission(call.kind, call.name, message) {
            refusal::Verdict::Wait(obstacle) => call.not_taken(obstacle, None),
            refusal::Verdict::Refused(cause) => ClusterError::Refused(cause),
            refusal::Verdict::Immutable(cause) => ClusterError::Immutable(cause),
        },
        404 => call.refused("the cluster has no such kind of object"),
        409 => match identity {
            Some(field) if !message.contains("resourcequotas \"") => call
                .refused(format!("{field} means one certain object of a cluster, which is not this one; leave it out")),
            Some(_) | None => call.not_taken(Obstacle::Conflict, None),
        },
        413 => call.refused("it is too large"),
        422 => match refusal::of_validation(call.kind, call.name, call.place, message, causes) {
            refusal::Verdict::Wait(obstacle) => call.not_taken(obstacle, None),
            refusal::Verdict::Refused(cause) => ClusterError::Refused(cause),
            refusal::Verdict::Immutable(cause) => ClusterError::Immutable(cause),
        },
        400 | 500 if let Some(rule) = refusal::of_form(call.place, message) => call.refused(rule),
        500 if refusal::is_too_large(message) => call.refused("it is too large"),
        400 => call.refused("the cluster cannot read it"),
        429 => call.not_taken(Obstacle::Throttled, retry_after(status)),
        _ => server_error(),
    }
}

fn has_cause(status: &Status, reason: &str) -> bool {
    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == reason)
}

/// When the API server wants to be asked again, where it says so.
fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}
