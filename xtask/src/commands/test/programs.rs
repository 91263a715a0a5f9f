//! The programs that cargo makes of the tests: built in one go, and asked what tests they have.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;
use xtask::cargo::cargo;

/// A program of tests.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// `it`, `cluster`; of unit tests the crate's name.
    pub name: String,
    pub path: PathBuf,
    /// The folder of its package, where its tests expect to be started.
    pub folder: PathBuf,
    /// Its tests take milliseconds, and are run in one process.
    pub has_unit_tests: bool,
}

/// A line of `cargo --message-format json`, as far as it counts here.
/// Source: <https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Compiles every test. Ends the process with cargo's exit code where it cannot.
pub async fn build(root: &Path) -> Result<Vec<Program>> {
    let mut command = Command::from(cargo());
    command.args(["test", "--workspace", "--locked", "--lib", "--bins", "--tests", "--no-run"]);
    command.args(["--message-format", "json-render-diagnostics"]).current_dir(root);
    // Not `output`, which would keep what people are to read while it compiles.
    let cargo = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let built = cargo.wait_with_output().await.context("cannot run cargo")?;
    if !built.status.success() {
        std::process::exit(built.status.code().unwrap_or(1));
    }
    // What the linker wrote, gigabytes of it, goes to the disk now: databases would wait for it at each commit, and a
    // slow disk has let them wait for a minute.
    let written = Command::new("sync").status().await.context("cannot run sync")?;
    ensure!(written.success(), "sync ended with {written}");
    String::from_utf8(built.stdout)?.lines().filter_map(|line| Program::read(line).transpose()).collect()
}

impl Program {
    /// None for a line that is about something else.
    fn read(line: &str) -> Result<Option<Self>> {
        let message: Message = serde_json::from_str(line).with_context(|| format!("cargo said {line:?}"))?;
        let Message { reason, manifest_path, target, profile, executable } = message;
        let (Some(manifest), Some(target), Some(profile), Some(path)) = (manifest_path, target, profile, executable)
        else {
            return Ok(None);
        };
        if reason != "compiler-artifact" || !profile.test {
            return Ok(None);
        }
        let folder = manifest.parent().context("a manifest is in a folder")?.to_owned();
        let has_unit_tests = !target.kind.iter().any(|kind| kind == "test");
        Ok(Some(Self { name: target.name, path, folder, has_unit_tests }))
    }

    /// The names of its tests, without those that are `#[ignore]`d.
    pub async fn tests(&self) -> Result<Vec<String>> {
        let ignored: BTreeSet<String> = self.list(&["--ignored"]).await?.into_iter().collect();
        let mut tests = self.list(&[]).await?;
        tests.retain(|test| !ignored.contains(test));
        Ok(tests)
    }

    async fn list(&self, options: &[&str]) -> Result<Vec<String>> {
        let mut command = Command::new(&self.path);
        command.args(["--list", "--format", "terse"]).args(options).current_dir(&self.folder);
        let listed = command.output().await.with_context(|| format!("cannot run {}", self.path.display()))?;
        ensure!(listed.status.success(), "{} does not list its tests: {}", self.path.display(), listed.status);
        Ok(read_list(&String::from_utf8(listed.stdout)?))
    }
}

/// The tests of a list whose lines are `NAME: test`.
fn read_list(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_the_programs_are() {
        let artifact = |kind: &str, name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"p","manifest_path":"/w/Cargo.toml","target":{{"kind":
                ["{kind}"],"name":"{name}"}},"profile":{{"test":{test}}},"executable":{executable},"fresh":true}}"#
            )
            .replace('\n', "")
        };
        let lines = [
            artifact("lib", "serde", false, "null"),
            artifact("bin", "previewd", false, r#""/w/target/debug/previewd""#),
            artifact("lib", "previewd", true, r#""/w/target/debug/deps/previewd-1""#),
            artifact("test", "it", true, r#""/w/target/debug/deps/it-2""#),
            r#"{"reason":"build-script-executed","package_id":"p","out_dir":"/w/out"}"#.to_owned(),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found: Vec<Program> = lines.iter().filter_map(|line| Program::read(line).unwrap()).collect();
        let program = |name: &str, path: &str, has_unit_tests| Program {
            name: name.to_owned(),
            path: path.into(),
            folder: "/w".into(),
            has_unit_tests,
        };
        let expected = [
            program("previewd", "/w/target/debug/deps/previewd-1", true),
            program("it", "/w/target/debug/deps/it-2", false),
        ];
        assert_eq!(found, expected);
        assert!(Program::read("warning: something else").is_err());
    }

    #[test]
    fn a_list_names_its_tests() {
        assert_eq!(
            read_list("a::one: test\na::two: test\nb::fast: benchmark\n\n2 tests, 1 benchmark\n"),
            ["a::one", "a::two"]
        );
    }
}
