//! `tests/requirements.toml`: what shows each row of the task list, checked against the tests that ran.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The rows are T001 to T091.
const ROWS: usize = 91;

#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Requirements(BTreeMap<String, Row>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// The row in a few words.
    #[serde(rename = "what")]
    _what: String,
    status: Status,
    /// Names of tests, as the runner prints them.
    #[serde(default)]
    shown_by: Vec<String>,
    /// A heading of a document: `ARCHITECTURE.md#invariants`.
    document: Option<String>,
    /// A command that `.ci/run` has on a line of its own.
    check: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Done,
    Open,
}

/// What became of the tests, by name.
#[derive(Debug, Default)]
pub struct Ran {
    pub passed: BTreeSet<String>,
    pub failed: BTreeSet<String>,
    /// With a word on why.
    pub skipped: BTreeSet<String>,
}

impl Requirements {
    /// Reads the file at the root of the repository.
    ///
    /// # Errors
    /// Where it is missing or is not of its form.
    pub fn read(root: &Path) -> Result<Self> {
        let file = root.join("tests/requirements.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not of its form", file.display()))
    }

    /// How many rows are done, of how many.
    pub fn done(&self) -> (usize, usize) {
        (self.0.values().filter(|row| row.status == Status::Done).count(), self.0.len())
    }

    /// What is wrong: rows that are missing, and rows marked done that nothing shows. A test that says that it cannot
    /// run here is no fault of its row: `--require-node` makes it fail instead.
    pub fn problems(&self, ran: &Ran, root: &Path) -> Vec<String> {
        let expected: BTreeSet<String> = (1..=ROWS).map(|number| format!("T{number:03}")).collect();
        let missing = expected.iter().filter(|row| !self.0.contains_key(*row)).map(|row| format!("{row} is missing"));
        let unknown = self.0.keys().filter(|row| !expected.contains(*row)).map(|row| format!("{row} is no row"));
        let mut problems: Vec<String> = missing.chain(unknown).collect();
        for (name, row) in self.0.iter().filter(|(_, row)| row.status == Status::Done) {
            problems.extend(row.problems(ran, root).into_iter().map(|problem| format!("{name} {problem}")));
        }
        problems
    }
}

impl Row {
    fn problems(&self, ran: &Ran, root: &Path) -> Vec<String> {
        let Self { _what: _, status: _, shown_by, document, check } = self;
        let mut problems = Vec::new();
        if shown_by.is_empty() && document.is_none() && check.is_none() {
            problems.push("is done, and names nothing that shows it".to_owned());
        }
        for test in shown_by {
            if ran.failed.contains(test) {
                problems.push(format!("is shown by {test}, which failed"));
            } else if !ran.passed.contains(test) && !ran.skipped.contains(test) {
                problems.push(format!("is shown by {test}, which did not run"));
            }
        }
        if let Some(document) = document
            && !has_heading(root, document)
        {
            problems.push(format!("is shown by {document}, which is not there"));
        }
        if let Some(check) = check
            && !fs::read_to_string(root.join(".ci/run")).is_ok_and(|text| text.lines().any(|line| line.trim() == check))
        {
            problems.push(format!("is shown by `{check}`, which .ci/run does not run"));
        }
        problems
    }
}

/// Whether `FILE#heading` is there; the heading as GitHub makes an anchor of it.
fn has_heading(root: &Path, reference: &str) -> bool {
    let (file, anchor) = reference.split_once('#').unwrap_or((reference, ""));
    let Ok(text) = fs::read_to_string(root.join(file)) else { return false };
    let anchor_of = |heading: &str| -> String {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let mut headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    anchor.is_empty() || headings.any(|heading| anchor_of(heading) == anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_done_row_needs_what_shows_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".ci")).unwrap();
        fs::write(root.path().join(".ci/run"), "set -e\ncargo fmt --check\n").unwrap();
        fs::write(root.path().join("MAP.md"), "# Map\n\n## What is not here, and why\n").unwrap();
        let ran = Ran { passed: names(&["a::ok"]), failed: names(&["a::bad"]), skipped: names(&["a::away"]) };
        let problems = |row: &str| {
            let row: Row = toml::from_str(&format!("what = 'x'\nstatus = 'done'\n{row}")).unwrap();
            row.problems(&ran, root.path()).join(", ")
        };
        assert_eq!(problems("shown_by = ['a::ok', 'a::away']"), "");
        assert_eq!(problems("shown_by = ['a::bad']"), "is shown by a::bad, which failed");
        assert_eq!(problems("shown_by = ['a::gone']"), "is shown by a::gone, which did not run");
        assert_eq!(problems(""), "is done, and names nothing that shows it");
        assert_eq!(problems("document = 'MAP.md#what-is-not-here-and-why'"), "");
        assert_eq!(problems("document = 'MAP.md#more'"), "is shown by MAP.md#more, which is not there");
        assert_eq!(problems("check = 'cargo fmt --check'"), "");
        assert!(problems("check = 'cargo fmt'").ends_with("which .ci/run does not run"));
    }

    #[test]
    fn the_file_names_every_row() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut requirements = Requirements::read(root).unwrap();
        for row in requirements.0.values_mut() {
            row.status = Status::Open;
        }
        assert_eq!(requirements.problems(&Ran::default(), root), Vec::<String>::new());
        assert_eq!(requirements.done(), (0, ROWS));
    }
}
