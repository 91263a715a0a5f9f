//! What must not be shown of an application's own words: the secrets that it was given, and tokens whose form is known.

use std::{borrow::Cow, collections::BTreeSet, sync::LazyLock};

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use regex::Regex;
use serde_json::Value;

use crate::{
    environment::CommitSha,
    recipe::{OPERATORS_SECRET, Render},
    store::{Environment, Store, StoreError},
};

/// What stands for a secret.
const MASK: &str = "***";
/// A shorter value is found in too many words that are none.
const SHORTEST: usize = 8;
/// What a Secret also holds and is none, by the ends of its keys. What the operator calls a secret is one, whatever its name.
const HARMLESS: [&str; 6] = ["user", "username", "host", "port", "database", "name"];

/// previewd's tokens and GitHub's, <https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/>.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?:pvd|gh[pousr])_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}").expect("a valid expression")
});

/// Hides secrets. Without any it still hides tokens.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    values: Option<AhoCorasick>,
}

impl Mask {
    /// Hides the secrets of an environment: of what was applied last, of what serves, and of what it goes back to.
    ///
    /// # Errors
    /// Also where they are sealed with a key that is not there any more: whoever cannot hide a log must not show it.
    pub async fn of_environment(store: &Store, environment: &Environment) -> Result<Self, StoreError> {
        let commits = [&environment.applied_commit, &environment.serving_commit, &environment.good_commit];
        let commits: BTreeSet<&CommitSha> = commits.into_iter().filter_map(Option::as_ref).collect();
        let mut renders = Vec::new();
        for commit in commits {
            renders.extend(store.unsealed_renders(&environment.id, commit).await?);
        }
        Ok(Self::of(&renders))
    }

    fn of(renders: &[Render]) -> Self {
        let objects = renders.iter().flat_map(|render| &render.objects);
        let secrets = objects.filter(|object| object.kind == "Secret");
        Self::hiding(secrets.flat_map(|object| values_of(&object.body)))
    }

    fn hiding(values: impl Iterator<Item = String>) -> Self {
        // A value of several lines is printed line by line.
        let mut lines: Vec<String> = Vec::new();
        for value in values {
            lines.extend(value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST).map(str::to_owned));
        }
        // The longest first, so that none leaves its end behind.
        lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
        let built = AhoCorasick::builder().match_kind(aho_corasick::MatchKind::LeftmostLongest).build(&lines);
        // It holds some 4 GiB of values; an environment's objects are 4 MiB at most.
        let values = built.expect("an environment's secrets are few");
        Self { values: Some(values).filter(|_| !lines.is_empty()) }
    }

    /// The text without secrets.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = match &self.values {
            Some(values) if values.is_match(text) => {
                Cow::Owned(values.replace_all(text, &vec![MASK; values.patterns_len()]))
            }
            Some(_) | None => Cow::Borrowed(text),
        };
        match TOKENS.replace_all(&text, MASK) {
            Cow::Owned(hidden) => Cow::Owned(hidden),
            Cow::Borrowed(_) => text,
        }
    }
}

fn values_of(secret: &Value) -> Vec<String> {
    let is_operators = secret["metadata"]["name"] == OPERATORS_SECRET;
    let is_secret = |(key, _): &(&String, &Value)| is_operators || !is_harmless(key);
    let fields = |list: &str| secret[list].as_object().into_iter().flatten().filter(is_secret);
    let plain = fields("stringData").filter_map(|(_, value)| value.as_str().map(str::to_owned));
    let encoded = fields("data").filter_map(|(_, value)| {
        let bytes = BASE64.decode(value.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    });
    plain.chain(encoded).collect()
}

/// Whether the last word of a key says that it is no secret: `POSTGRES_USER`, `dbHost`.
fn is_harmless(key: &str) -> bool {
    let mut words = key.rsplit(|character: char| !character.is_ascii_alphanumeric());
    let last = words.next().unwrap_or_default().to_ascii_lowercase();
    HARMLESS.iter().any(|word| last.ends_with(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(secret: &Value) -> Mask {
        Mask::hiding(values_of(secret).into_iter())
    }

    #[test]
    fn secrets_are_hidden_and_what_is_none_is_not() {
        let secret = json!({
            "stringData": { "PASSWORD": "correct-horse", "PGUSER": "postgres", "PGDATABASE": "application", "PIN": "1234" },
            "data": { "URL": BASE64.encode("postgres://app:correct-horse-battery@db/app"), "key": BASE64.encode("line one of it\nline two of it") },
        });
        let hidden = mask(&secret);
        for (text, shown) in [
            ("the password is correct-horse.", "the password is ***."),
            ("at postgres://app:correct-horse-battery@db/app", "at ***"),
            ("user postgres of application 1234", "user postgres of application 1234"),
            ("line two of it", "***"),
            ("Bearer pvd_abcdefghijklmnopqrstuvwxyz234567", "Bearer ***"),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345 leaked", "*** leaked"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(hidden.hide(text), shown, "{text}");
        }
        assert_eq!(Mask::default().hide("correct-horse"), "correct-horse");

        // Keys that end as harmless ones do.
        let values = json!({ "SUPPORT": BASE64.encode("correct-horse"), "LDAP_USER": BASE64.encode("previews") });
        let named = |name: &str| mask(&json!({ "metadata": { "name": name }, "data": values }));
        assert_eq!(named(OPERATORS_SECRET).hide("previews: correct-horse"), "***: ***");
        assert_eq!(named("another").hide("previews: correct-horse"), "previews: correct-horse");
    }
}
