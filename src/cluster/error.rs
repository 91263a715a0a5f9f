//! What went wrong with a call, said so that the caller knows what to do.

use std::{error::Error as StdError, fmt, time::Duration};

use kube::core::{Status, response::reason};

use super::{SettingsError, client::CALL_TIMEOUT, refusal};
use crate::environment::{Cause, Namespace};

#[cfg(test)]
mod tests;

/// Why a call did not do what it was for. Only [`Self::Refused`] holds something for a pull request to see; the other
/// texts are for operators and hold no value of any object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The API server is out of reach, overloaded, or does not take our credentials, or something that it is still
    /// setting up is not there yet. Try again later; it counts towards no attempt.
    #[error("could not {call}: {why}")]
    Away { call: String, why: String, retry_after: Option<Duration> },
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

/// What a request is for, in words: `apply Deployment web in pr-7-shop-…`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    verb: &'static str,
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a Namespace>,
    sends_object: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(verb: &'static str, kind: &'a str, name: &'a str) -> Self {
        Self { verb, kind, name, namespace: None, sends_object: false }
    }

    pub(super) fn in_namespace(self, namespace: &'a Namespace) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// The request carries an object of the recipe: what is wrong with it is the recipe's matter, and error texts may
    /// quote its values.
    pub(super) fn with_object(self) -> Self {
        Self { sends_object: true, ..self }
    }

    pub(super) fn away(&self, why: impl Into<String>) -> ClusterError {
        ClusterError::Away { call: self.to_string(), why: why.into(), retry_after: None }
    }

    pub(super) fn unexpected(&self, why: &dyn fmt::Display) -> ClusterError {
        ClusterError::Unexpected { call: self.to_string(), why: why.to_string() }
    }

    fn refused(&self, rule: impl Into<String>) -> ClusterError {
        let Self { kind, name, .. } = self;
        let (kind, name, rule) = ((*kind).to_owned(), (*name).to_owned(), rule.into());
        ClusterError::Refused(Cause::ObjectRefused { kind, name, rule })
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, kind, name, namespace, sends_object: _ } = self;
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
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Status(status) if status.code == 401)
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
            Self::Settings(_) | Self::Transport(_) | Self::TimedOut => call.away(self.explain(call)),
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
    let mut text = format!("the API server answered {code}");
    if !reason.is_empty() {
        text.push_str(&format!(" {reason}"));
    }
    if !call.sends_object && !message.is_empty() {
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
    let details = status.details.as_ref();
    let causes = details.map(|details| details.causes.as_slice()).unwrap_or_default();
    let unexpected = || call.unexpected(&explain_status(call, status));
    match status.code {
        401 => call.away("the API server does not accept the credentials"),
        403 if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => ClusterError::NamespaceTerminating,
        403 if refusal::is_missing_permission(&status.message) => ClusterError::Forbidden { call: call.to_string() },
        403 if call.sends_object => match refusal::of_admission(call.kind, call.name, &status.message) {
            refusal::Verdict::Wait(why) => call.away(why),
            refusal::Verdict::Refused(cause) => ClusterError::Refused(cause),
        },
        403 => ClusterError::Forbidden { call: call.to_string() },
        404 if details.is_some_and(|details| details.kind == "namespaces") => ClusterError::NamespaceGone,
        404 if call.sends_object => call.refused("the cluster has no such kind of object"),
        // Two writers met, for instance on the status of a quota.
        409 if status.reason == reason::CONFLICT => call.away("another write came between"),
        413 if call.sends_object => call.refused("it is too large"),
        422 if call.sends_object && refusal::is_immutable(&status.message) => {
            ClusterError::Immutable(refusal::of_validation(call.kind, call.name, &status.message, causes))
        }
        422 if call.sends_object => {
            ClusterError::Refused(refusal::of_validation(call.kind, call.name, &status.message, causes))
        }
        400 | 500 if call.sends_object && refusal::is_schema_violation(&status.message) => {
            call.refused(refusal::schema_rule(&status.message))
        }
        400 if call.sends_object => call.refused("the cluster cannot read it"),
        408 | 410 | 429 | 500..=599 => {
            let seconds = details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
            ClusterError::Away {
                call: call.to_string(),
                why: explain_status(call, status),
                retry_after: seconds.map(|seconds| Duration::from_secs(seconds.into())),
            }
        }
        _ => unexpected(),
    }
}
