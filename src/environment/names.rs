//! Names that cross previewd's edges, each parsed once by its only constructor: nothing deeper checks again.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

/// Why a name was refused: the field, and the rule that it breaks. Never the refused value itself, which may be
/// anything at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidName {
    pub field: &'static str,
    pub rule: &'static str,
}

/// Implements the traits that every name of this module shares: it shows and serializes as its text.
macro_rules! shown_as_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

shown_as_text!(CommitSha, Namespace, RepositoryName, PublicUrl, BaseDomain);

/// A Git commit: 40 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitSha(String);

impl CommitSha {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first digits, as GitHub shows them.
    pub fn short(&self) -> &str {
        short_commit(&self.0)
    }
}

/// The first seven digits of a commit.
pub fn short_commit(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

impl FromStr for CommitSha {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 40 && text.bytes().all(hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { field: "commit", rule: "must be 40 lower-case hexadecimal digits" })
    }
}

/// `owner/name` on GitHub, lower-cased: GitHub's own names do not differ by case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName {
    full: String,
    owner_length: usize,
}

impl RepositoryName {
    pub fn as_str(&self) -> &str {
        &self.full
    }

    pub fn owner(&self) -> &str {
        &self.full[..self.owner_length]
    }

    pub fn name(&self) -> &str {
        &self.full[self.owner_length + 1..]
    }

    /// Whether `pattern`, a repository or `owner/*`, covers this repository.
    pub fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_suffix("/*") {
            Some(owner) => owner.eq_ignore_ascii_case(self.owner()),
            None => pattern.eq_ignore_ascii_case(&self.full),
        }
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // GitHub: an owner has at most 39 characters, a repository at most 100.
        let part = |part: &str, longest: usize| {
            !part.is_empty()
                && part.len() <= longest
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner, 39) && part(name, 100) => {
                Ok(Self { full: text.to_ascii_lowercase(), owner_length: owner.len() })
            }
            _ => Err(InvalidName { field: "repository", rule: "must be owner/name as GitHub spells it" }),
        }
    }
}

/// The namespace of one pull request's environment: a DNS-1123 label, `pr-{number}-{name}-{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

/// The longest DNS-1123 label, RFC 1123.
const LABEL_LENGTH: usize = 63;
/// 50 bits of the repository's identity: two repositories of one name keep apart.
const HASH_LENGTH: usize = 10;

impl Namespace {
    /// The namespace of pull request `number` in the repository that GitHub knows as `repository_id`. The name is only
    /// there for people and is shortened to fit; the hash tells repositories apart and never is.
    pub fn of_pull_request(repository_id: i64, repository: &RepositoryName, number: i64) -> Self {
        let digest = Sha256::digest(repository_id.to_be_bytes());
        let hash = &BASE32_NOPAD.encode(&digest).to_ascii_lowercase()[..HASH_LENGTH];
        let prefix = format!("pr-{number}-");
        let room = LABEL_LENGTH - prefix.len() - HASH_LENGTH - 1;

        let mut name = String::new();
        for character in repository.name().chars() {
            if character.is_ascii_alphanumeric() {
                name.push(character);
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        name.truncate(room);
        let name = name.trim_end_matches('-');
        Self(if name.is_empty() { format!("{prefix}{hash}") } else { format!("{prefix}{name}-{hash}") })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_dns_label(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName {
            field: "namespace",
            rule: "must be a DNS-1123 label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
        })
    }
}

/// Whether `text` is a DNS-1123 label.
pub fn is_dns_label(text: &str) -> bool {
    (1..=LABEL_LENGTH).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The domain under which every environment has its host, with a port where it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseDomain(String);

impl BaseDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn host(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(host, _)| host)
    }

    /// Browsers trust `localhost` without a certificate; everything else is served over https.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.ends_with(".localhost")
    }
}

impl FromStr for BaseDomain {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let port_is_valid = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        // A namespace and a dot come before it, and a DNS name has at most 253 characters.
        let longest = 253 - LABEL_LENGTH - 1;
        if host.len() <= longest && host.split('.').all(is_dns_label) && port_is_valid {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName {
            field: "base_domain",
            rule: "must be a DNS name such as preview.example.com, with a port where needed, and no scheme",
        })
    }
}

/// Where an environment answers: `https://{namespace}.{base domain}`, and `http://` on localhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    full: String,
    host_start: usize,
}

impl PublicUrl {
    pub fn of(namespace: &Namespace, base_domain: &BaseDomain) -> Self {
        let scheme = if base_domain.is_local() { "http://" } else { "https://" };
        Self { full: format!("{scheme}{namespace}.{base_domain}"), host_start: scheme.len() }
    }

    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// The host without its port, as an Ingress names it.
    pub fn host(&self) -> &str {
        let authority = &self.full[self.host_start..];
        authority.split_once(':').map_or(authority, |(host, _)| host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repository(text: &str) -> RepositoryName {
        text.parse().expect("a repository name")
    }

    proptest! {
        #[test]
        fn namespaces_are_dns_labels(id in 1i64.., owner in "[A-Za-z0-9-]{1,39}", name in "[A-Za-z0-9._-]{1,100}", number in 1i64..) {
            prop_assume!(name != "." && name != "..");
            let namespace = Namespace::of_pull_request(id, &repository(&format!("{owner}/{name}")), number);
            prop_assert!(is_dns_label(namespace.as_str()), "{namespace}");
            let hash = namespace.as_str().rsplit('-').next().unwrap();
            prop_assert_eq!(hash.len(), HASH_LENGTH);
            let other = Namespace::of_pull_request(id ^ 1, &repository(&format!("{owner}/{name}")), number);
            prop_assert_ne!(namespace, other);
        }

        #[test]
        fn names_never_panic(text in ".{0,120}") {
            let _ = text.parse::<CommitSha>();
            let _ = text.parse::<RepositoryName>();
            let _ = text.parse::<Namespace>();
            let _ = text.parse::<BaseDomain>();
        }
    }

    #[test]
    fn namespaces_read_like_their_pull_request() {
        let namespace = |name: &str| Namespace::of_pull_request(42, &repository(name), 7).to_string();
        assert!(namespace("Acme/Shop").starts_with("pr-7-shop-"));
        assert!(namespace("acme/shop.web_app").starts_with("pr-7-shop-web-app-"));
        assert_eq!(namespace("acme/---").len(), "pr-7-".len() + HASH_LENGTH);
        assert_eq!(namespace(&format!("acme/{}", "x".repeat(100))).len(), LABEL_LENGTH);
    }

    #[test]
    fn commits_are_forty_lower_case_hex_digits() {
        assert!("0123456789abcdef0123456789abcdef01234567".parse::<CommitSha>().is_ok());
        for wrong in ["", "main", "0123456789ABCDEF0123456789abcdef01234567", "0123456789abcdef", &"g".repeat(40)] {
            assert_eq!(wrong.parse::<CommitSha>().unwrap_err().field, "commit");
        }
    }

    #[test]
    fn urls_are_https_except_on_localhost() {
        let namespace: Namespace = "pr-7-shop-abcdefghij".parse().unwrap();
        let url = |domain: &str| PublicUrl::of(&namespace, &domain.parse().unwrap());
        assert_eq!(url("preview.example.com").as_str(), "https://pr-7-shop-abcdefghij.preview.example.com");
        assert_eq!(url("localhost:8080").as_str(), "http://pr-7-shop-abcdefghij.localhost:8080");
        assert_eq!(url("localhost:8080").host(), "pr-7-shop-abcdefghij.localhost");
        for wrong in ["", "https://example.com", "example.com/x", "example.com:0", "a b", "-a.com", "Example.com"] {
            assert_eq!(wrong.parse::<BaseDomain>().unwrap_err().field, "base_domain");
        }
    }
}
