//! Which pull requests get a preview: what a recipe says of it, over the operator's defaults and under the operator's
//! limits.

use std::{fmt, str::FromStr};

use globset::{Glob, GlobBuilder};
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
    /// Whether drafts are deployed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drafts: Option<bool>,
    /// What becomes of pull requests from forks. The operator may be stricter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forks: Option<ForkPolicy>,
    /// Only pull requests into these branches, such as `main` or `release/*`. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<BranchPattern>>,
}

/// The same, with nothing left open.
#[derive(Debug, Clone, PartialEq)]
pub struct Triggers {
    pub label: Option<LabelName>,
    pub drafts: bool,
    pub forks: ForkPolicy,
    pub branches: Vec<BranchPattern>,
}

impl Triggers {
    /// `recipe` over `defaults`; of forks at most what `most` lets in.
    pub fn new(recipe: &TriggerSettings, defaults: &TriggerSettings, most: ForkPolicy) -> Self {
        let label = recipe.label.as_ref().or(defaults.label.as_ref());
        let branches = recipe.branches.as_ref().or(defaults.branches.as_ref());
        Self {
            label: label.filter(|label| !label.0.is_empty()).cloned(),
            drafts: recipe.drafts.or(defaults.drafts).unwrap_or(true),
            forks: recipe.forks.or(defaults.forks).unwrap_or(ForkPolicy::Approve).min(most),
            branches: branches.cloned().unwrap_or_default(),
        }
    }
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
pub struct BranchPattern(Glob);

/// Git's own limit on the file that a branch is.
const LONGEST_BRANCH: usize = 255;

impl BranchPattern {
    pub fn matches(&self, branch: &str) -> bool {
        self.0.compile_matcher().is_match(branch)
    }
}

impl FromStr for BranchPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        match glob {
            Ok(glob) if !text.is_empty() && text.len() <= LONGEST_BRANCH => Ok(Self(glob)),
            _ => Err("must be a branch or a pattern such as main or release/*"),
        }
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
        f.write_str(self.0.glob())
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
