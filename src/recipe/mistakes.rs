//! What is wrong with a recipe, all of it at once, and what of it was made safe without asking.

use std::fmt;

use crate::environment::Cause;

/// So many are named: whoever has more mends these first.
const MOST_NAMED: usize = 20;
/// A note is a sentence; more of them nobody reads.
const MOST_NOTES: usize = 20;

/// What is wrong with a recipe: one thing at least, in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    first: Cause,
    more: Vec<Cause>,
    /// Beside those that are named.
    unnamed: usize,
}

impl Mistakes {
    pub fn first(&self) -> &Cause {
        &self.first
    }

    /// These, and then those.
    pub fn and(mut self, others: Self) -> Self {
        self.unnamed += others.unnamed;
        for cause in std::iter::once(others.first).chain(others.more) {
            match self.more.len() + 1 < MOST_NAMED {
                true => self.more.push(cause),
                false => self.unnamed += 1,
            }
        }
        self
    }

    /// Those that are named, from the first.
    pub fn causes(&self) -> impl Iterator<Item = &Cause> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// One a line.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        for cause in &self.more {
            write!(f, "\n{cause}")?;
        }
        match self.unnamed {
            0 => Ok(()),
            unnamed => write!(f, "\nThere are {unnamed} more mistakes."),
        }
    }
}

impl From<Cause> for Mistakes {
    fn from(first: Cause) -> Self {
        Self { first, more: Vec::new(), unnamed: 0 }
    }
}

/// As a pull request is told: the first, and how many more there are.
impl From<Mistakes> for Cause {
    fn from(mistakes: Mistakes) -> Self {
        let more = mistakes.more.len() + mistakes.unnamed;
        let mut first = mistakes.first;
        if more > 0
            && let Self::InvalidRecipe { rule, .. } | Self::ObjectRefused { rule, .. } | Self::ChartFailed { rule } =
                &mut first
        {
            let noun = if more == 1 { "mistake" } else { "mistakes" };
            rule.push_str(&format!(" (and {more} more {noun}; `previewd recipe check` names them)"));
        }
        first
    }
}

/// What is found while a recipe is read and rendered.
#[derive(Debug, Default)]
pub(super) struct Findings {
    mistakes: Vec<Cause>,
    unnamed: usize,
    notes: Vec<String>,
}

impl Findings {
    pub(super) fn refuse(&mut self, cause: Cause) {
        if self.mistakes.contains(&cause) {
            return;
        }
        match self.mistakes.len() < MOST_NAMED {
            true => self.mistakes.push(cause),
            false => self.unnamed += 1,
        }
    }

    /// A sentence about what was made safe, or may not be as it is meant.
    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What there is of it; what is wrong otherwise is kept.
    pub(super) fn take<T>(&mut self, result: Result<T, Cause>) -> Option<T> {
        result.map_err(|cause| self.refuse(cause)).ok()
    }

    /// These, and then those.
    pub(super) fn append(&mut self, others: Self) {
        others.mistakes.into_iter().for_each(|cause| self.refuse(cause));
        self.unnamed += others.unnamed;
        others.notes.into_iter().for_each(|note| self.note(note));
    }

    pub(super) fn are_mistakes(&self) -> bool {
        !self.mistakes.is_empty()
    }

    /// The notes, where nothing is wrong.
    pub(super) fn into_notes(self) -> Result<Vec<String>, Mistakes> {
        let mut mistakes = self.mistakes.into_iter();
        match mistakes.next() {
            None => Ok(self.notes),
            Some(first) => Err(Mistakes { first, more: mistakes.collect(), unnamed: self.unnamed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(number: usize) -> Cause {
        Cause::ObjectRefused { kind: "ConfigMap".to_owned(), name: format!("a{number}"), rule: "no".to_owned() }
    }

    fn mistakes(count: usize) -> Mistakes {
        let mut findings = Findings::default();
        (0..count).for_each(|number| findings.refuse(cause(number)));
        findings.into_notes().expect_err("mistakes")
    }

    #[test]
    fn all_are_named_up_to_a_limit_and_the_pull_request_is_told_how_many() {
        assert_eq!(Cause::from(mistakes(1)), cause(0));
        let told = Cause::from(mistakes(2)).to_string();
        assert_eq!(told, "ConfigMap a0 was refused: no (and 1 more mistake; `previewd recipe check` names them).");
        assert_eq!(mistakes(3).to_string().lines().count(), 3);
        let many = mistakes(1_000);
        assert_eq!(many.causes().count(), MOST_NAMED);
        assert!(many.to_string().ends_with("\nThere are 980 more mistakes."), "{many}");
        assert!(Cause::from(many).to_string().contains("(and 999 more mistakes"));
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut findings = Findings::default();
        findings.refuse(cause(1));
        findings.refuse(cause(1));
        findings.note("a".to_owned());
        findings.note("a".to_owned());
        assert_eq!(findings.notes, ["a"]);
        assert_eq!(findings.into_notes(), Err(cause(1).into()));
    }
}
