//! Commands in comments: `/preview` and what follows on its line, in whatever case.

use std::time::Duration;

use super::{CommitSha, parse_duration};

/// What a comment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Deploy,
    Retry,
    Delete,
    /// Begin anew, with empty volumes.
    Reset,
    /// For this long.
    Keep(Duration),
    /// A stranger's commit, by its first digits.
    Approve(CommitPrefix),
    Status,
}

/// How everything begins that previewd writes on pull requests.
pub const OWN_COMMENTS: &str = "<!-- previewd:";

/// How long `keep` keeps where nobody says it.
const KEPT: Duration = Duration::from_secs(48 * 3_600);

impl Command {
    /// Reads a line that begins with `/preview`.
    ///
    /// # Errors
    ///
    /// A sentence that says what to write instead.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.to_lowercase();
        let mut words = line.split_whitespace().skip(1);
        let (verb, argument, more) = (words.next().unwrap_or_default(), words.next(), words.next());
        let plain = |command: Self| match argument {
            None => Ok(command),
            Some(_) => Err(format!("/preview {verb} takes nothing after it.")),
        };
        match (verb, argument, more) {
            ("deploy", ..) => plain(Self::Deploy),
            ("retry", ..) => plain(Self::Retry),
            ("delete", ..) => plain(Self::Delete),
            ("reset", ..) => plain(Self::Reset),
            ("status", ..) => plain(Self::Status),
            ("keep", None, _) => Ok(Self::Keep(KEPT)),
            ("keep", Some(text), None) => {
                parse_duration(text).map(Self::Keep).map_err(|rule| format!("The time after /preview keep {rule}."))
            }
            ("approve", Some(text), None) => {
                let prefix = CommitPrefix::new(text).ok_or_else(|| {
                    "What follows /preview approve must be at least the first 7 digits of the commit.".to_owned()
                })?;
                Ok(Self::Approve(prefix))
            }
            ("approve", None, _) => {
                Err("Say which commit: /preview approve, and its first 7 digits or more.".to_owned())
            }
            ("keep" | "approve", Some(_), Some(_)) => Err(format!("/preview {verb} takes one word after it.")),
            _ => {
                Err("There are /preview deploy, retry, reset, delete, keep 48h, approve COMMIT and status.".to_owned())
            }
        }
    }

    /// The word that asks for it.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Retry => "retry",
            Self::Delete => "delete",
            Self::Reset => "reset",
            Self::Keep(_) => "keep",
            Self::Approve(_) => "approve",
            Self::Status => "status",
        }
    }
}

/// The first 7 to 40 digits of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPrefix(String);

impl CommitPrefix {
    fn new(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && (7..=40).contains(&text.len())).then(|| Self(text.to_ascii_lowercase()))
    }

    pub fn matches(&self, commit: &CommitSha) -> bool {
        commit.as_str().starts_with(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_or_explained() {
        let parse = |rest: &str| Command::parse(&format!("/preview {rest}"));
        assert_eq!(parse("deploy"), Ok(Command::Deploy));
        assert_eq!(parse("Deploy"), Ok(Command::Deploy));
        assert_eq!(parse("  status "), Ok(Command::Status));
        assert_eq!(parse("keep"), Ok(Command::Keep(KEPT)));
        assert_eq!(parse("keep 7d"), Ok(Command::Keep(Duration::from_secs(7 * 86_400))));
        let commit: CommitSha = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        for digits in ["0123456", "0123456789ABCDEF", commit.as_str()] {
            let Ok(Command::Approve(prefix)) = parse(&format!("approve {digits}")) else { panic!("{digits}") };
            assert!(prefix.matches(&commit), "{digits}");
        }
        for (wrong, part) in [
            ("", "There are"),
            ("dance", "There are"),
            ("deploy now", "takes nothing"),
            ("keep soon", "must be a duration"),
            ("keep 1h 2h", "takes one word"),
            ("approve", "Say which commit"),
            ("approve 012345", "first 7 digits"),
            ("approve main-branch", "first 7 digits"),
        ] {
            assert!(parse(wrong).is_err_and(|sentence| sentence.contains(part)), "{wrong:?}");
        }
    }
}
