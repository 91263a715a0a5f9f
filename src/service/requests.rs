//! What can be asked for. Every value is parsed here, at the edge: nothing deeper checks again.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::ServiceError;
use crate::environment::{
    CommitSha, EnvironmentStatus, InvalidName, Namespace, RepositoryName, codes, is_dns_label, parse_duration,
};

/// Implements `Deserialize` by way of the only constructor, so that a refusal says which rule is broken.
macro_rules! deserialized_from_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, &'static str> {
                text.parse().map_err(|InvalidName { field: _, rule }| rule)
            }
        }
    )*};
}

deserialized_from_text!(
    EnvironmentReference,
    Repository,
    ExpectedCommit,
    Cursor,
    ContainerName,
    IdempotencyKey,
    KeepDuration,
    Since,
    SearchText
);

/// Reads a request's fields, and names the one that is wrong. One that is null is one that is left out.
pub fn parse_request<Request: DeserializeOwned>(fields: Map<String, Value>) -> Result<Request, ServiceError> {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let rule = error.inner().to_string();
        // serde has the name of a field that is too few or too many in its text only.
        let named = |prefix: &str| {
            rule.strip_prefix(prefix).and_then(|rest| rest.split_once('`')).map(|(field, _)| sent_back(field))
        };
        match (named("missing field `"), named("unknown field `"), error.path().to_string()) {
            (Some(field), _, _) => ServiceError::invalid(&field, "is missing"),
            (_, Some(field), _) => {
                let known =
                    rule.split_once("expected ").map_or("", |(_, known)| known).replacen("` or `", "` and `", 1);
                ServiceError::invalid(&field, format!("is not an argument of this tool; it takes {known}"))
            }
            (None, None, path) => ServiceError::invalid(&sent_back(&path), sent_back(&rule)),
        }
    })
}

/// What a caller sent, short enough to be sent back.
fn sent_back(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// How a caller names an environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum EnvironmentReference {
    PullRequest {
        repository: RepositoryName,
        number: i64,
    },
    /// Ids are DNS labels too, so only the rows can tell the two apart.
    IdOrNamespace(Namespace),
}

impl FromStr for EnvironmentReference {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| InvalidName { field: "environment", rule };
        match text.split_once('#') {
            Some((repository, number)) => {
                let number = number.parse().ok().filter(|number| *number > 0);
                match (repository.parse(), number) {
                    (Ok(repository), Some(number)) => Ok(Self::PullRequest { repository, number }),
                    (Err(_), _) => Err(invalid("must be owner/name#number, with the repository as GitHub spells it")),
                    (Ok(_), None) => Err(invalid("must be owner/name#number, with a number from 1 on")),
                }
            }
            None => text
                .parse()
                .map(Self::IdOrNamespace)
                .map_err(|_| invalid("must be owner/name#number, a namespace, or an environment's id")),
        }
    }
}

impl fmt::Display for EnvironmentReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullRequest { repository, number } => write!(f, "{repository}#{number}"),
            Self::IdOrNamespace(name) => write!(f, "{name}"),
        }
    }
}

/// `owner/name`, from a caller.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Repository(pub RepositoryName);

impl FromStr for Repository {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self)
    }
}

/// The commit that a caller takes for the head.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ExpectedCommit(pub CommitSha);

impl FromStr for ExpectedCommit {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = |InvalidName { field: _, rule }| InvalidName { field: "expected_commit", rule };
        text.parse().map(Self).map_err(refused)
    }
}

/// Where a list goes on: the id of the last environment that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor(String);

impl Cursor {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cursor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id.to_string())),
            _ => Err(InvalidName { field: "cursor", rule: "must be next_cursor of an earlier answer" }),
        }
    }
}

/// A container's name, as Kubernetes allows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ContainerName(String);

impl ContainerName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_dns_label(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { field: "container", rule: "must be a container's name: at most 63 of a-z, 0-9 and -" })
    }
}

/// How many lines of each container to read, from the end: 1 to 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Tail(u16);

impl Tail {
    pub const DEFAULT: Self = Self(100);

    pub fn lines(self) -> u32 {
        self.0.into()
    }
}

impl TryFrom<i64> for Tail {
    type Error = &'static str;

    fn try_from(lines: i64) -> Result<Self, &'static str> {
        match u16::try_from(lines) {
            Ok(lines @ 1..=1000) => Ok(Self(lines)),
            _ => Err("must be a whole number from 1 to 1000"),
        }
    }
}

/// Which environments to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListRequest {
    /// Only these; all but deleted by default
    pub status: Vec<EnvironmentStatus>,
    /// owner/name
    #[schemars(with = "String")]
    pub repository: Option<Repository>,
    /// next_cursor of the page before
    #[schemars(with = "String")]
    pub cursor: Option<Cursor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRequest {
    /// owner/name#number, namespace or id
    #[schemars(with = "String")]
    pub environment: EnvironmentReference,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsRequest {
    /// owner/name#number, namespace or id
    #[schemars(with = "String")]
    pub environment: EnvironmentReference,
    /// Last lines of each container
    #[serde(default)]
    #[schemars(with = "u16", range(min = 1, max = 1000), extend("default" = 100))]
    pub tail: Option<Tail>,
    /// Show the time of each line
    #[serde(default)]
    pub timestamps: bool,
    /// Only this one
    #[serde(default)]
    #[schemars(with = "String")]
    pub container: Option<ContainerName>,
    /// The run before the last restart
    #[serde(default)]
    pub previous: bool,
    /// Only lines of the last so long, such as 10m
    #[serde(default)]
    #[schemars(with = "String")]
    pub since: Option<Since>,
    /// Only lines with this text
    #[serde(default)]
    #[schemars(with = "String")]
    pub contains: Option<SearchText>,
}

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Since(Duration);

impl From<Since> for Duration {
    fn from(since: Since) -> Self {
        since.0
    }
}

impl FromStr for Since {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        parse_duration(text).map(Self).map_err(|rule| InvalidName { field: "since", rule })
    }
}

/// What lines are searched for, letter by letter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SearchText(String);

impl From<SearchText> for String {
    fn from(text: SearchText) -> Self {
        text.0
    }
}

impl FromStr for SearchText {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { field: "contains", rule: "must be 1 to 200 characters, on one line" })
    }
}

/// What a caller gives a request, so that sending it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IdempotencyKey(String);

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName {
            field: "idempotency_key",
            rule: "must be 1 to 100 printable ASCII characters, without spaces",
        })
    }
}

/// The number of a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Number(i64);

impl Number {
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Number {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, &'static str> {
        if number > 0 { Ok(Self(number)) } else { Err("must be a whole number from 1 on") }
    }
}

/// How long to keep an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeepDuration(Duration);

impl KeepDuration {
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

impl Default for KeepDuration {
    fn default() -> Self {
        Self(Duration::from_secs(48 * 3_600))
    }
}

impl From<KeepDuration> for Duration {
    fn from(duration: KeepDuration) -> Self {
        duration.0
    }
}

impl FromStr for KeepDuration {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        parse_duration(text).map(Self).map_err(|rule| InvalidName { field: "duration", rule })
    }
}

codes! {
    /// How far to wait.
    WaitUntil {
        /// Nothing more happens by itself: running, failed, deleted, or waiting for somebody.
        Settled = "settled",
        Running = "running",
        Deleted = "deleted",
    }
}

/// A retry or a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// owner/name#number, namespace or id
    #[schemars(with = "String")]
    pub environment: EnvironmentReference,
    /// Refuse unless this is the head
    #[serde(default)]
    #[schemars(with = "String")]
    pub expected_commit: Option<ExpectedCommit>,
    /// Done once for a key
    #[serde(default)]
    #[schemars(with = "String")]
    pub idempotency_key: Option<IdempotencyKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// owner/name
    #[schemars(with = "String")]
    pub repository: Repository,
    #[schemars(with = "i64", range(min = 1))]
    pub pull_request: Number,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// owner/name
    #[schemars(with = "String")]
    pub repository: Repository,
    #[schemars(with = "i64", range(min = 1))]
    pub pull_request: Number,
    /// Refuse unless this is the head
    #[serde(default)]
    #[schemars(with = "String")]
    pub expected_commit: Option<ExpectedCommit>,
    /// Done once for a key
    #[serde(default)]
    #[schemars(with = "String")]
    pub idempotency_key: Option<IdempotencyKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepRequest {
    /// owner/name#number, namespace or id
    #[schemars(with = "String")]
    pub environment: EnvironmentReference,
    /// From now on, such as 48h or 7d
    #[serde(default)]
    #[schemars(with = "String", extend("default" = "48h"))]
    pub duration: Option<KeepDuration>,
    /// Refuse unless this is the head
    #[serde(default)]
    #[schemars(with = "String")]
    pub expected_commit: Option<ExpectedCommit>,
    /// Done once for a key
    #[serde(default)]
    #[schemars(with = "String")]
    pub idempotency_key: Option<IdempotencyKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// owner/name#number, namespace or id
    #[schemars(with = "String")]
    pub environment: EnvironmentReference,
    /// First wait for this 40-hex commit to be the head
    #[serde(default)]
    #[schemars(with = "String")]
    pub commit: Option<ExpectedCommit>,
    #[serde(default = "settled")]
    pub until: WaitUntil,
}

fn settled() -> WaitUntil {
    WaitUntil::Settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_go_by_three_names() {
        let parse = |text: &str| text.parse::<EnvironmentReference>();
        assert_eq!(parse("Acme/Shop#7").unwrap().to_string(), "acme/shop#7");
        assert!(matches!(parse("pr-7-shop-abcdefghij"), Ok(EnvironmentReference::IdOrNamespace(_))));
        assert!(matches!(parse(&uuid::Uuid::now_v7().to_string()), Ok(EnvironmentReference::IdOrNamespace(_))));
        for wrong in ["", "#7", "acme/shop#0", "acme/shop#-1", "acme/shop#x", "acme/shop", "Upper", "a b", "shop#7"] {
            assert_eq!(parse(wrong).unwrap_err().field, "environment", "{wrong:?}");
        }
    }

    #[test]
    fn tails_are_from_1_to_1000() {
        assert_eq!(Tail::try_from(1000).unwrap().lines(), 1000);
        for wrong in [0, -5, 1001, i64::MAX] {
            assert!(Tail::try_from(wrong).is_err(), "{wrong}");
        }
    }
}
