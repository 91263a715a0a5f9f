//! `previewd doctor`: checks each piece of the setup, and says how to mend what is wrong.
//!
//! A check is a function from what it needs to a [`Check`]: of the configuration itself (`settings`), of the cluster, and
//! of other servers. [`check_all`] calls them.

mod cluster;
mod servers;
mod settings;

use std::{borrow::Cow, process::ExitCode};

use previewd::config::{Config, Unnamed};
use serde::Serialize;

use super::{
    Global, describe,
    output::{Output, print, print_json},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What one look at one piece of the setup gave.
#[derive(Debug, Serialize)]
pub struct Check {
    name: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    Ok {
        detail: String,
    },
    /// Works, but not for everything or not as it should.
    Warn {
        problem: String,
        mend: Cow<'static, str>,
    },
    Fail {
        problem: String,
        mend: Cow<'static, str>,
    },
}

impl Check {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok { detail: detail.into() } }
    }

    pub fn warn(name: &'static str, problem: impl Into<String>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { name, outcome: Outcome::Warn { problem: problem.into(), mend: mend.into() } }
    }

    pub fn fail(name: &'static str, problem: impl Into<String>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { name, outcome: Outcome::Fail { problem: problem.into(), mend: mend.into() } }
    }
}

pub async fn run(Args { output }: Args, global: Global) -> anyhow::Result<ExitCode> {
    global.stay_here()?;
    let checks = match global.load(Unnamed::OfTheUser) {
        Ok(config) => {
            let from = match global.file(Unnamed::OfTheUser) {
                Some(path) => format!(" in {}", path.display()),
                None => "; no previewd.toml was named (--config), so that defaults count".to_owned(),
            };
            check_all(&config, &from).await
        }
        Err(error) => {
            let lines = describe(&error.into());
            let problem = lines.iter().map(|line| line.trim_start().trim_start_matches("error: "));
            let problem = problem.collect::<Vec<_>>().join("\n");
            vec![Check::fail("configuration", problem, "correct it; previewd.example.toml has every key")]
        }
    };
    match output {
        Output::Table => print(&shown(&checks))?,
        Output::Json => print_json(&checks)?,
    }
    let has_failed = checks.iter().any(|check| matches!(check.outcome, Outcome::Fail { .. }));
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn check_all(config: &Config, from: &str) -> Vec<Check> {
    let mut checks = vec![
        Check::ok("configuration", format!("every key is known and valid{from}")),
        settings::database_file(config),
        servers::database(config).await,
    ];
    checks.extend(cluster::checks(config).await);
    checks.extend([
        servers::helm(config).await,
        servers::registries(config).await,
        servers::github(config).await,
        settings::webhook_secrets(config),
        settings::sealing(config),
        settings::teams(config),
        servers::issuer(config).await,
        settings::github_login(config),
        servers::base_domain(config).await,
        settings::public_url(config),
        servers::traces(config).await,
        servers::alerts(config).await,
    ]);
    checks
}

/// One line a check, and one for how to mend it.
fn shown(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, outcome } in checks {
        let (result, said, mend) = match outcome {
            Outcome::Ok { detail } => ("ok", detail, None),
            Outcome::Warn { problem, mend } => ("warn", problem, Some(mend)),
            Outcome::Fail { problem, mend } => ("fail", problem, Some(mend)),
        };
        let indent = format!("\n{:1$}", "", width + 8);
        text.push_str(&format!("{result:4}  {name:width$}  {}\n", said.replace('\n', &indent)));
        if let Some(mend) = mend {
            text.push_str(&format!("{:1$}mend: {mend}\n", "", width + 8));
        }
    }
    text
}

/// An error with its causes, in one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config(toml: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, toml).unwrap();
        Config::load(Some(file.path()), Unnamed::OfTheUser, std::iter::empty()).unwrap()
    }

    pub(super) fn result(check: &Check) -> String {
        serde_json::to_value(check).unwrap()["result"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_wrong_is_shown_with_how_to_mend_it() {
        let checks = [
            Check::ok("configuration", "valid"),
            Check::warn("helm", "is not on PATH", "install it"),
            Check::fail("database", "a\nb", "c"),
        ];
        let expected = "\
ok    configuration  valid
warn  helm           is not on PATH
                     mend: install it
fail  database       a
                     b
                     mend: c
";
        assert_eq!(shown(&checks), expected);
        assert_eq!(
            serde_json::to_value(&checks[1]).unwrap(),
            serde_json::json!({ "name": "helm", "result": "warn", "problem": "is not on PATH", "mend": "install it" })
        );
    }
}
