//! Which pull requests get a preview: what a recipe says of it, over the operator's defaults and under the operator's
//! limits.

use std::{fmt, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codes;

codes! {
    /// What becomes of pull requests from forks, from the strictest on. Their recipe always comes from the base branch.
    ForkPolicy {
        /// They get no preview.
        Deny = "deny",
        /// Each commit waits until an admin has approved it.
        Approve = "approve",
        /// They are deployed as all others are: anybody's code runs.
        Allow = "allow",
    }
}

/// Which pull requests get a preview. What is left out is the operator's to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerSettings {
    /// Only pull requests with this label. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelName>,
    /// No pull request with one of these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_labels: Option<Vec<LabelName>>,
    /// Whether drafts are deployed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drafts: Option<bool>,
    /// What becomes of pull requests from forks. The operator may be stricter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forks: Option<ForkPolicy>,
    /// Only pull requests into these branches, such as `main` or `release/*`. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<BranchPattern>>,
    /// Only pull requests from these branches; `!dependabot/**` takes branches out again, and of several patterns that
    /// match a branch the last one counts. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_branches: Option<Vec<HeadPattern>>,
    /// Only pull requests of these authors, by their logins; `!*[bot]` takes all bots out, and of several patterns that
    /// match an author the last one counts. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authors: Option<Vec<AuthorPattern>>,
    /// Only pull requests that change one of these files, such as `src/**`; `!docs/**` takes files out again, and of
    /// several patterns that match a file the last one counts. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<PathPattern>>,
}

/// The same, with nothing left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Triggers {
    pub label: Option<LabelName>,
    pub exclude_labels: Vec<LabelName>,
    pub drafts: bool,
    pub forks: ForkPolicy,
    pub branches: Vec<BranchPattern>,
    pub head_branches: Vec<HeadPattern>,
    pub authors: Vec<AuthorPattern>,
    pub paths: Vec<PathPattern>,
}

impl Triggers {
    /// `recipe` over `defaults`; of forks at most what `most` lets in.
    pub fn new(recipe: &TriggerSettings, defaults: &TriggerSettings, most: ForkPolicy) -> Self {
        fn list<T: Clone>(recipe: &Option<Vec<T>>, defaults: &Option<Vec<T>>) -> Vec<T> {
            recipe.as_ref().or(defaults.as_ref()).cloned().unwrap_or_default()
        }
        let label = recipe.label.as_ref().or(defaults.label.as_ref());
        Self {
            label: label.filter(|label| !label.0.is_empty()).cloned(),
            exclude_labels: list(&recipe.exclude_labels, &defaults.exclude_labels),
            drafts: recipe.drafts.or(defaults.drafts).unwrap_or(true),
            forks: recipe.forks.or(defaults.forks).unwrap_or(ForkPolicy::Approve).min(most),
            branches: list(&recipe.branches, &defaults.branches),
            head_branches: list(&recipe.head_branches, &defaults.head_branches),
            authors: list(&recipe.authors, &defaults.authors),
            paths: list(&recipe.paths, &defaults.paths),
        }
    }

    /// Whether a pull request that changes this file is one for a preview.
    pub fn include_path(&self, path: &str) -> bool {
        let_in(self.paths.iter().map(|pattern| &pattern.0), path)
    }

    /// Whether a pull request from this branch is one for a preview.
    pub fn include_head(&self, branch: &str) -> bool {
        let_in(self.head_branches.iter().map(|pattern| &pattern.0), branch)
    }

    /// Whether a pull request of this author, a login, is one for a preview.
    pub fn include_author(&self, login: &str) -> bool {
        let_in(self.authors.iter().map(|pattern| &pattern.0), login)
    }
}

/// Whether a list lets something in: of several patterns that match the last one counts.
fn let_in<'a>(choices: impl DoubleEndedIterator<Item = &'a Choice> + Clone, text: &str) -> bool {
    let last = choices.clone().rev().find(|choice| choice.pattern.0.is_match(text));
    // Where the first takes something out, it takes it out of all.
    last.map_or_else(|| choices.clone().next().is_none_or(|first| first.excludes), |choice| !choice.excludes)
}

/// A label of GitHub's: 50 characters at most. Upper and lower case are the same to GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub struct LabelName(String);

const LONGEST_LABEL: usize = 50;

impl LabelName {
    pub fn matches(&self, label: &str) -> bool {
        self.0 == label.to_lowercase()
    }

    /// Lower-cased.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LabelName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.chars().count() > LONGEST_LABEL || text.chars().any(char::is_control) {
            return Err("must be the name of a label, of at most 50 characters");
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl From<LabelName> for String {
    fn from(label: LabelName) -> Self {
        label.0
    }
}

/// A branch, or a pattern of branches: `*` stands for anything but a slash, `**` for anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub struct BranchPattern(Pattern);

/// A pattern of names with slashes in them: `*` stands for anything but a slash, `**` for anything.
#[derive(Debug, Clone)]
struct Pattern(GlobMatcher);

impl Pattern {
    /// None for one that is malformed, empty or longer than `longest` bytes.
    fn new(text: &str, longest: usize) -> Option<Self> {
        let glob = GlobBuilder::new(text).literal_separator(true).build().ok()?;
        (1..=longest).contains(&text.len()).then(|| Self(glob.compile_matcher()))
    }

    /// The same of one in which only `*` is a pattern: bots' logins have brackets.
    fn of_login(text: &str) -> Option<Self> {
        let is_login = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '[' | ']' | '*');
        if !(1..=LONGEST_LOGIN).contains(&text.len()) || !text.chars().all(is_login) {
            return None;
        }
        let escaped: Vec<String> = text.split('*').map(globset::escape).collect();
        let glob = GlobBuilder::new(&escaped.join("*")).case_insensitive(true).build().ok()?;
        Some(Self(glob.compile_matcher()))
    }

    fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// A pattern, or with `!` before it one of what does not count.
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    pattern: Pattern,
    excludes: bool,
    /// As it was written.
    text: String,
}

/// Patterns that may have a `!` before them: how each is made of what follows it, and its rule.
macro_rules! choices {
    ($($(#[$attribute:meta])* $name:ident: $pattern:expr, $rule:literal;)*) => {$(
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", inline)]
        pub struct $name(Choice);

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, &'static str> {
                let (pattern, excludes) = text.strip_prefix('!').map_or((text, false), |pattern| (pattern, true));
                let pattern: Option<Pattern> = $pattern(pattern);
                let pattern = pattern.ok_or($rule)?;
                Ok(Self(Choice { pattern, excludes, text: text.to_owned() }))
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, &'static str> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from($name(choice): $name) -> Self {
                choice.text
            }
        }
    )*};
}

/// The longest path that Linux takes.
const LONGEST_PATH: usize = 4_096;
/// Logins have at most 39 characters, and those of bots some more.
const LONGEST_LOGIN: usize = 100;

choices! {
    /// Files, or with `!` before them files that do not count: `*` stands for anything but a slash, `**` for anything.
    PathPattern: |text| Pattern::new(text, LONGEST_PATH), "must be a path or a pattern such as src/** or !docs/**";
    /// Branches, or with `!` before them branches that do not count, in the same way.
    HeadPattern: |text| Pattern::new(text, LONGEST_BRANCH),
        "must be a branch or a pattern such as feature/* or !dependabot/**";
    /// Logins, or with `!` before them logins that do not count: `*` stands for anything, and nothing else for more than
    /// itself. Upper and lower case are the same to GitHub.
    AuthorPattern: Pattern::of_login, "must be a login or a pattern such as ann or !*[bot]";
}

/// Git's own limit on the file that a branch is.
const LONGEST_BRANCH: usize = 255;

impl BranchPattern {
    pub fn matches(&self, branch: &str) -> bool {
        self.0.0.is_match(branch)
    }
}

impl FromStr for BranchPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let pattern = Pattern::new(text, LONGEST_BRANCH);
        pattern.map(Self).ok_or("must be a branch or a pattern such as main or release/*")
    }
}

impl TryFrom<String> for BranchPattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<BranchPattern> for String {
    fn from(pattern: BranchPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for BranchPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> TriggerSettings {
        toml::from_str(text).expect("settings")
    }

    #[test]
    fn a_recipe_goes_over_the_defaults_and_under_the_limit() {
        let defaults = settings("label = 'Preview'\ndrafts = false\nforks = 'allow'\nbranches = ['main']");
        let none = Triggers::new(&TriggerSettings::default(), &TriggerSettings::default(), ForkPolicy::Allow);
        assert_eq!((none.label, none.drafts, none.forks, none.branches.len()), (None, true, ForkPolicy::Approve, 0));
        let by_default = Triggers::new(&TriggerSettings::default(), &defaults, ForkPolicy::Approve);
        assert!(by_default.label.as_ref().is_some_and(|label| label.matches("PREVIEW")));
        assert_eq!((by_default.drafts, by_default.forks), (false, ForkPolicy::Approve));
        let own = settings("label = ''\ndrafts = true\nforks = 'deny'\nbranches = []");
        let own = Triggers::new(&own, &defaults, ForkPolicy::Allow);
        assert_eq!((own.label, own.drafts, own.forks, own.branches.len()), (None, true, ForkPolicy::Deny, 0));
    }

    #[test]
    fn the_last_pattern_that_matches_a_path_counts() {
        let none: &[&str] = &[];
        for (patterns, path, expected) in [
            (none, "docs/a.md", true),
            (&["src/**"], "src/a/b.rs", true),
            (&["src/**"], "docs/a.md", false),
            (&["src/*"], "src/a/b.rs", false),
            (&["**/*.rs"], "src/a/b.rs", true),
            (&["!docs/**"], "docs/a.md", false),
            (&["!docs/**"], "README.md", true),
            (&["src/**", "!src/gen/**"], "src/gen/x.rs", false),
            (&["src/**", "!src/gen/**"], "src/x.rs", true),
            (&["src/**", "!src/gen/**", "src/gen/keep.rs"], "src/gen/keep.rs", true),
        ] {
            let paths = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
            let triggers = Triggers { paths, ..all() };
            assert_eq!(triggers.include_path(path), expected, "{patterns:?} {path}");
        }
        assert_eq!(String::from("!a/**".parse::<PathPattern>().unwrap()), "!a/**");
        for wrong in ["", "!", "a["] {
            assert!(wrong.parse::<PathPattern>().is_err(), "{wrong}");
        }
    }

    fn all() -> Triggers {
        Triggers::new(&TriggerSettings::default(), &TriggerSettings::default(), ForkPolicy::Allow)
    }

    #[test]
    fn bots_have_brackets_in_their_logins() {
        let none: &[&str] = &[];
        for (patterns, login, expected) in [
            (none, "dependabot[bot]", true),
            (&["!*[bot]"], "dependabot[bot]", false),
            (&["!*[bot]"], "Renovate[Bot]", false),
            (&["!*[bot]"], "robot", true),
            (&["!*[bot]", "renovate[bot]"], "renovate[bot]", true),
            (&["!dependabot[bot]"], "dependabot[bot]", false),
            (&["!dependabot[bot]"], "renovate[bot]", true),
            (&["ann", "bob"], "Ann", true),
            (&["ann", "bob"], "eve", false),
            (&["*"], "eve", true),
        ] {
            let authors = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
            let triggers = Triggers { authors, ..all() };
            assert_eq!(triggers.include_author(login), expected, "{patterns:?} {login}");
        }
        assert_eq!(String::from("!*[bot]".parse::<AuthorPattern>().unwrap()), "!*[bot]");
        for wrong in ["", "!", "a b", "a/b", "{a,b}"] {
            assert!(wrong.parse::<AuthorPattern>().is_err(), "{wrong}");
        }
        let head_branches = vec!["!dependabot/**".parse().unwrap()];
        let triggers = Triggers { head_branches, ..all() };
        assert!(!triggers.include_head("dependabot/cargo/serde-1.0.1") && triggers.include_head("change"));
    }

    #[test]
    fn patterns_match_whole_branches() {
        for (pattern, branch, expected) in [
            ("main", "main", true),
            ("main", "main2", false),
            ("release/*", "release/1.2", true),
            ("release/*", "release/1/2", false),
            ("release/**", "release/1/2", true),
            ("*", "feature/x", false),
        ] {
            assert_eq!(pattern.parse::<BranchPattern>().unwrap().matches(branch), expected, "{pattern} {branch}");
        }
        for wrong in ["", "a[", "{a"] {
            assert!(wrong.parse::<BranchPattern>().is_err(), "{wrong}");
        }
    }
}
