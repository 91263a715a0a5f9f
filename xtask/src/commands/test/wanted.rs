//! Which tests are wanted: all of them, those of some names, or those that a change touches.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{order::Times, programs::Program};

/// How long those may take together that a change touches, in seconds: with a build before them that is three minutes.
const TIME: f32 = 60.0;
/// How many stories of the simulation a change of the engine is tried with, of those of the whole run.
pub const STORIES: (&str, &str) = ("PREVIEWD_SEEDS", "60");
/// The one test of the simulation that takes as long as there are stories.
const SIMULATION: &str = "it/simulation::every_story_";

/// What shows a fault in files that begin so, besides the unit tests: `PROGRAM/` and how the names of the tests begin.
/// The whole run is for the rest.
const TOUCHES: &[(&str, &[&str])] = &[
    ("deploy/", &["it/deploy::", "it/lifecycle::installing::the_chart_says_"]),
    ("examples/", &["it/recipes::", "it/lifecycle::examples::"]),
    ("migrations/", &["it/store::", "it/lifecycle::somebody_elses_"]),
    ("previewd.example.toml", &["it/interfaces::", "it/setup::"]),
    ("schemas/", &["it/interfaces::", "it/pairs::every_"]),
    ("src/alerts.rs", &["it/lifecycle::stuck::"]),
    ("src/cli/", &["it/cli::", "it/interfaces::", "it/setup::", "it/lifecycle::doctor::"]),
    (
        "src/cluster/",
        &["it/cluster_api::", "it/cluster_node::", "it/lifecycle::failures::", "it/lifecycle::refusals::"],
    ),
    ("src/config/", &["it/interfaces::", "it/setup::", "it/cli::"]),
    ("src/dashboard/", &["it/dashboard::", "it/streams::", "it/lifecycle::browser::"]),
    ("src/engine/", &[SIMULATION, "it/lifecycle::what_was_", "it/lifecycle::meetings::", "it/lifecycle::once::"]),
    ("src/environment/", &[SIMULATION, "it/interfaces::", "it/lifecycle::gates::"]),
    ("src/faults.rs", &[SIMULATION]),
    ("src/github/", &[SIMULATION, "it/lifecycle::reports::", "it/lifecycle::commands::"]),
    ("src/helm/", &["it/charts::", "it/lifecycle::examples::"]),
    ("src/http/", &["it/http::", "it/streams::", "it/mcp::"]),
    ("src/identity", &["it/authorization::", "it/oidc::", "it/dashboard::"]),
    ("src/lib.rs", &["it/interfaces::"]),
    ("src/main.rs", &["it/cli::", "it/interfaces::"]),
    ("src/masking.rs", &["it/lifecycle::watching::lines_"]),
    ("src/mcp/", &["it/mcp::", "it/authorization::", "it/interfaces::"]),
    ("src/metrics.rs", &["it/metrics_api::", "it/interfaces::"]),
    ("src/outbound.rs", &["it/lifecycle::images::"]),
    ("src/recipe/", &["it/recipes::", "it/hostile::", "it/charts::", "it/interfaces::", "it/lifecycle::recipes::"]),
    ("src/registry.rs", &["it/lifecycle::images::"]),
    ("src/request.rs", &["it/http::", "it/router::"]),
    ("src/router/", &["it/router::", "it/lifecycle::router::"]),
    ("src/schemas.rs", &["it/interfaces::"]),
    ("src/sealing.rs", &["it/store::", "it/setup::"]),
    ("src/service/", &["it/mcp::", "it/cli::", "it/dashboard::", "it/authorization::", "it/streams::"]),
    ("src/sessions.rs", &["it/dashboard::", "it/oidc::", "it/store::sessions::"]),
    ("src/store/", &["it/store::", "it/mcp::"]),
    ("src/telemetry.rs", &["it/cli::"]),
    ("src/text.rs", &["it/cli::", "it/dashboard::"]),
    ("src/traces.rs", &["it/lifecycle::traces::"]),
    ("src/webhook", &["it/http::", "it/lifecycle::gates::", "it/lifecycle::commands::"]),
    ("templates/", &["it/dashboard::", "it/lifecycle::browser::"]),
    ("tests/hostile/", &["it/hostile::"]),
    ("tests/it/support.rs", &["it/http::", "it/mcp::"]),
    ("xtask/cluster/", &["cluster/", "it/charts::"]),
    ("xtask/src/cluster/", &["cluster/", "it/cluster_api::"]),
    ("xtask/src/github/", &["github/"]),
];

#[derive(Debug)]
pub enum Wanted {
    All,
    /// Those that have one of these in their names, or these names; all if there are none of these.
    Named {
        names: Vec<String>,
        exact: bool,
        skip: Vec<String>,
    },
    /// Those of units, and what was chosen of what is touched.
    Touched {
        touches: Vec<Touch>,
        chosen: BTreeSet<String>,
    },
}

/// Some tests that a changed file touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touch {
    /// `PROGRAM/` and how their names begin.
    tests: String,
    /// The file has the tests themselves.
    is_their_own: bool,
}

impl Wanted {
    /// What the files touch that differ from the last commit; where none do, those of the last commit.
    pub async fn changed(root: &Path) -> Result<Self> {
        let mut files = git(root, &["diff", "--name-only", "HEAD"]).await?;
        files.extend(git(root, &["ls-files", "--others", "--exclude-standard"]).await?);
        let what = if files.is_empty() { "in the last commit" } else { "since the last commit" };
        if files.is_empty() {
            files = git(root, &["show", "--name-only", "--format=", "HEAD"]).await?;
        }
        let touched = touched(&files);
        println!("{} files changed {what}; besides the unit tests these touch", files.len());
        touched.iter().for_each(|touch| println!("  {}", touch.tests));
        Ok(Self::Touched { touches: touched, chosen: BTreeSet::new() })
    }

    /// Chooses as much of what a change touches as there is time for with so many at once: the changed files' own tests, and
    /// then those that take least. Gives the names of the others.
    pub fn choose(&mut self, listed: &[(Program, Vec<String>)], times: &Times, at_once: f32) -> Vec<String> {
        let Self::Touched { touches, chosen } = self else { return Vec::new() };
        let mut touched = Vec::new();
        for (program, tests) in listed.iter().filter(|(program, _)| !program.has_unit_tests) {
            for test in tests {
                let full = format!("{}/{test}", program.name);
                let by = touches.iter().filter(|touch| full.starts_with(&touch.tests));
                let Some(is_own) = by.map(|touch| touch.is_their_own).reduce(|one, other| one || other) else {
                    continue;
                };
                // It tells fewer stories.
                let seconds = if full.starts_with(SIMULATION) { 0.0 } else { times.of(test) };
                touched.push((!is_own, seconds, full));
            }
        }
        touched.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let (mut all, mut left) = (0.0, Vec::new());
        for (is_others, seconds, full) in touched {
            all += seconds;
            if is_others && (seconds > TIME || all > TIME * at_once) {
                left.push(full);
            } else {
                chosen.insert(full);
            }
        }
        left
    }

    pub fn has(&self, program: &Program, test: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named { names, exact, skip } => {
                let is_named = |name: &String| if *exact { test == name } else { test.contains(name.as_str()) };
                (names.is_empty() || names.iter().any(is_named))
                    && !skip.iter().any(|name| test.contains(name.as_str()))
            }
            Self::Touched { touches: _, chosen } => {
                program.has_unit_tests || chosen.contains(&format!("{}/{test}", program.name))
            }
        }
    }

    /// What a program of unit tests is told, so that it runs these.
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::All | Self::Touched { .. } => Vec::new(),
            Self::Named { names, exact, skip } => {
                let exact = exact.then(|| "--exact".to_owned());
                let skip = skip.iter().flat_map(|name| ["--skip".to_owned(), name.clone()]);
                names.iter().cloned().chain(exact).chain(skip).collect()
            }
        }
    }
}

/// Sorted, each once.
fn touched(files: &[String]) -> Vec<Touch> {
    let by_table = files.iter().flat_map(|file| TOUCHES.iter().filter(|(prefix, _)| file.starts_with(prefix)));
    let by_table = by_table.flat_map(|(_, tests)| *tests);
    let by_table = by_table.map(|tests| Touch { tests: (*tests).to_owned(), is_their_own: false });
    let own = files.iter().filter_map(|file| own_tests(file)).map(|tests| Touch { tests, is_their_own: true });
    let mut touched: Vec<Touch> = by_table.chain(own).collect();
    touched.sort();
    touched.dedup();
    touched
}

/// The tests of a file of tests.
fn own_tests(file: &str) -> Option<String> {
    if let Some(program) = file.strip_prefix("xtask/tests/") {
        return Some(format!("{}/", program.split(['/', '.']).next()?));
    }
    let module = file.strip_prefix("tests/it/")?.strip_suffix(".rs")?;
    // What all tests of a folder stand on is tried by those that are in its own file.
    let module = match module.strip_suffix("/mod").or_else(|| module.strip_suffix("/life")) {
        Some("lifecycle") => return Some("it/lifecycle::what_was_".to_owned()),
        Some(folder) => folder,
        None => module,
    };
    if module.starts_with("simulation") {
        return Some(SIMULATION.to_owned());
    }
    (!matches!(module, "main" | "support")).then(|| format!("it/{}::", module.replace('/', "::")))
}

async fn git(root: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("git").args(arguments).current_dir(root).output().await.context("cannot run git")?;
    ensure!(output.status.success(), "git {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests_of(files: &[&str]) -> Vec<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        touched(&files).into_iter().map(|touch| touch.tests).collect()
    }

    #[test]
    fn a_file_touches_what_shows_its_faults() {
        for (file, expected) in [
            ("src/registry.rs", vec!["it/lifecycle::images::"]),
            ("src/sessions.rs", vec!["it/dashboard::", "it/oidc::", "it/store::sessions::"]),
            ("tests/it/mcp.rs", vec!["it/mcp::"]),
            ("tests/it/store/backup.rs", vec!["it/store::backup::"]),
            ("tests/it/lifecycle/crashes.rs", vec!["it/lifecycle::crashes::"]),
            ("tests/it/lifecycle/life.rs", vec!["it/lifecycle::what_was_"]),
            ("tests/it/simulation/kubernetes/shapes.rs", vec![SIMULATION]),
            ("xtask/tests/github/rest.rs", vec!["github/"]),
            ("xtask/src/github/log.rs", vec!["github/"]),
            ("README.md", vec![]),
        ] {
            assert_eq!(tests_of(&[file]), expected, "{file}");
        }
        assert_eq!(tests_of(&["src/registry.rs", "src/outbound.rs"]), ["it/lifecycle::images::"]);
    }

    #[test]
    fn what_has_no_time_is_left_to_the_whole_run() {
        let touch = |tests: &str, is_their_own| Touch { tests: tests.to_owned(), is_their_own };
        let touches = vec![touch("it/lifecycle::a", true), touch("it/lifecycle::", false), touch(SIMULATION, false)];
        let mut wanted = Wanted::Touched { touches, chosen: BTreeSet::new() };
        let program = |name: &str, has_unit_tests| Program {
            name: name.to_owned(),
            path: "/p".into(),
            folder: "/".into(),
            has_unit_tests,
        };
        let tests =
            ["lifecycle::a", "lifecycle::b", "lifecycle::c", "lifecycle::d", "http::e", "simulation::every_story_"];
        let tests = tests.map(str::to_owned).to_vec();
        let listed = [(program("it", false), tests), (program("previewd", true), vec!["f".to_owned()])];
        let times = Times::of_these(&[
            ("lifecycle::a", 100.0),
            ("lifecycle::b", 15.0),
            ("lifecycle::c", 10.0),
            ("lifecycle::d", 61.0),
        ]);
        assert_eq!(wanted.choose(&listed, &times, 2.0), ["it/lifecycle::b", "it/lifecycle::d"]);
        let has = |test: &str| wanted.has(&listed[0].0, test);
        assert!(has("lifecycle::a") && has("lifecycle::c") && has("simulation::every_story_"));
        assert!(!has("lifecycle::b") && !has("http::e") && wanted.has(&listed[1].0, "f"));
    }

    #[test]
    fn every_file_of_the_program_touches_something_that_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for entry in std::fs::read_dir(root.join("src")).unwrap() {
            let file = format!("src/{}/", entry.unwrap().file_name().to_str().unwrap());
            let file = file.replace(".rs/", ".rs");
            assert!(TOUCHES.iter().any(|(prefix, _)| file.starts_with(prefix)), "{file} touches nothing");
        }
        for (prefix, tests) in TOUCHES {
            let (folder, begin) = prefix.rsplit_once('/').unwrap_or(("", prefix));
            let mut names = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(names.any(|name| name.to_str().unwrap().starts_with(begin)), "{prefix} is not there");
            for tests in *tests {
                let (program, name) = tests.split_once('/').unwrap();
                let folder = if program == "it" { "tests/it" } else { "xtask/tests" };
                // The modules; what is left of the name is how functions begin.
                let (modules, function) = name.rsplit_once("::").unwrap_or(("", name));
                let place = if program == "it" { modules.replace("::", "/") } else { program.to_owned() };
                let place = root.join(folder).join(place);
                let files = [place.with_extension("rs"), place.join("mod.rs"), place.join("main.rs")];
                let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
                let text = text.unwrap_or_else(|| panic!("{prefix}: {tests} is nowhere"));
                assert!(
                    function.is_empty() || text.contains(&format!("fn {function}")),
                    "{prefix}: no test begins with {tests}"
                );
            }
        }
    }
}
