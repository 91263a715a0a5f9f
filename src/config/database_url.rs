//! Where the state is kept.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

pub(super) const DEFAULT: &str = "sqlite:previewd.db";

/// The database, and how to reach it. Shows itself without its password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub enum DatabaseUrl {
    /// One file on a local disk.
    Sqlite(PathBuf),
    /// A connection URL as libpq has it, which may hold a password.
    Postgres(SecretString),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    #[error("must be sqlite:PATH or postgres://USER@HOST/NAME")]
    Form,
    /// Every connection would have a database of its own.
    #[error("must be a file: a SQLite database in memory is not shared between connections")]
    InMemory,
}

impl DatabaseUrl {
    /// The whole URL, as the store opens it. It may hold a password.
    pub fn expose_url(&self) -> Cow<'_, str> {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()).into(),
            Self::Postgres(url) => url.expose_secret().into(),
        }
    }

    /// Takes a relative path from `folder`.
    pub(super) fn anchor(&mut self, folder: &Path) {
        match self {
            Self::Sqlite(path) => *path = folder.join(&*path),
            Self::Postgres(_) => {}
        }
    }
}

impl Default for DatabaseUrl {
    fn default() -> Self {
        DEFAULT.parse().expect("the default is valid")
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(InvalidDatabaseUrl::Form),
                ":memory:" => Err(InvalidDatabaseUrl::InMemory),
                path => Ok(Self::Sqlite(path.into())),
            };
        }
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") && !url.cannot_be_a_base() => {
                Ok(Self::Postgres(text.into()))
            }
            _ => Err(InvalidDatabaseUrl::Form),
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = InvalidDatabaseUrl;

    fn try_from(text: String) -> Result<Self, InvalidDatabaseUrl> {
        text.parse()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                // Only what is known to hold no secret: a password may also stand in the query.
                let url = Url::parse(url.expose_secret()).map_err(|_| fmt::Error)?;
                write!(f, "postgres://{}{}", url.host_str().unwrap_or_default(), url.path())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_files_or_postgres_and_never_show_a_password() {
        let shown = |text: &str| text.parse::<DatabaseUrl>().map(|url| format!("{url} {url:?}"));
        for text in ["postgres://u:hunter2@db/previewd", "postgresql://db/previewd?user=u&password=hunter2"] {
            let shown = shown(text).unwrap();
            assert!(shown.starts_with("postgres://db/previewd ") && !shown.contains("hunter2"), "{shown}");
        }
        assert!(shown("sqlite:/var/lib/previewd.db").unwrap().starts_with("sqlite:/var/lib/previewd.db "));
        assert!(shown("sqlite:///var/lib/previewd.db").unwrap().starts_with("sqlite:/var/lib/previewd.db "));
        assert_eq!(shown("sqlite::memory:"), Err(InvalidDatabaseUrl::InMemory));
        for wrong in ["", "previewd.db", "sqlite:", "mysql://db/x", "postgres:x"] {
            assert_eq!(shown(wrong), Err(InvalidDatabaseUrl::Form), "{wrong}");
        }
    }
}
