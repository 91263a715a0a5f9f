//! What is applied for the head commit: made from its recipe, or taken up again where the same was made before.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::{
    interrupted::{Interrupted, NotApplied},
    observe::{Observed, access, recipe_place},
    pass::Pass,
};
use crate::{
    cluster::CALL_TIMEOUT,
    environment::{Cause, PublicUrl},
    github::{RECIPE_LIMIT, RepositoryFile},
    recipe::{self, Context, Files, RECIPE_FILE, Recipe, Render},
};

/// Each file is a call to GitHub.
const MOST_FILES: usize = 50;

/// What is to be applied.
pub(super) struct Made {
    pub render: Render,
    /// A digest of everything that it depends on.
    pub key: String,
    /// It was not made before.
    pub is_new: bool,
}

impl Pass<'_> {
    /// Renders the recipe at the head commit, unless that was done before from the same: a retry asks nobody.
    pub(super) async fn make(&mut self, observed: &Observed) -> Result<Made, NotApplied> {
        let stored = observed.deployment.as_ref().and_then(|deployment| deployment.recipe.as_ref());
        let text = match (&observed.recipe, stored) {
            (Some(Ok(text)), _) | (None, Some(text)) => text,
            (Some(Err(cause)), _) => return Err(NotApplied::Refused(cause.clone())),
            (None, None) => return Err(NotApplied::Refused(Cause::NoRecipe)),
        };
        let (environment, pull_request) = (&observed.overview.environment, &observed.overview.pull_request.facts);
        let url = PublicUrl::of(&environment.namespace, &self.engine.base_domain);
        let key = key(&[
            env!("CARGO_PKG_VERSION"),
            text,
            pull_request.head_sha.as_str(),
            &pull_request.head_ref,
            pull_request.repository.name.as_str(),
            url.as_str(),
            &serde_json::json!(self.engine.policy).to_string(),
        ]);
        if let Some(render) = self.engine.store.render_of(&environment.id, &pull_request.head_sha, &key).await? {
            return Ok(Made { render, key, is_new: false });
        }

        let recipe = Recipe::parse(RECIPE_FILE, text).map_err(NotApplied::Refused)?;
        let passwords = self.passwords(observed, &recipe).await?;
        let files = self.files(observed, &recipe).await?;
        let context = Context {
            repository: &pull_request.repository.name,
            pull_request: pull_request.number,
            commit: &pull_request.head_sha,
            branch: &pull_request.head_ref,
            namespace: &environment.namespace,
            url: &url,
            environment_id: &environment.id,
            installation_id: &self.installation.id,
            policy: &self.engine.policy,
            passwords: &passwords,
            files: &files,
        };
        let render = recipe::render(&recipe, &context).map_err(NotApplied::Refused)?;
        Ok(Made { render, key, is_new: true })
    }

    /// Each database's password: the one that it has, so that a push does not lock its application out, or a new one.
    async fn passwords(
        &mut self,
        observed: &Observed,
        recipe: &Recipe,
    ) -> Result<BTreeMap<String, String>, Interrupted> {
        let namespace = &observed.overview.environment.namespace;
        let mut passwords = BTreeMap::new();
        for name in recipe.databases.keys() {
            self.fence(CALL_TIMEOUT).await?;
            let there = self.engine.cluster.secret_value(namespace, name.as_str(), "PASSWORD").await?;
            passwords.insert(name.as_str().to_owned(), there.unwrap_or_else(new_password));
        }
        Ok(passwords)
    }

    /// The files of the repository that the recipe names, from where the recipe itself is from.
    async fn files(&mut self, observed: &Observed, recipe: &Recipe) -> Result<Files, NotApplied> {
        let place = recipe_place(&observed.overview.pull_request.facts);
        let access = access(&observed.overview);
        let refuse = |rule: &str| NotApplied::Refused(recipe.refuse_files(rule));
        let mut paths = BTreeSet::new();
        for pattern in recipe.files() {
            if !pattern.has_star() {
                paths.insert(pattern.path().to_owned());
                continue;
            }
            self.github_read().await?;
            let there = self.engine.github.folder(&access, pattern.folder(), place).await?;
            paths.extend(there.into_iter().filter(|path| pattern.matches(path)));
        }
        if paths.len() > MOST_FILES {
            return Err(refuse(&format!("name {} files, and may name {MOST_FILES}", paths.len())));
        }
        let mut files = Files::new();
        for path in paths {
            self.github_read().await?;
            match self.engine.github.file(&access, &path, place).await? {
                RepositoryFile::Text(text) => drop(files.insert(path, text)),
                RepositoryFile::Missing => return Err(refuse("name a file that is not in the repository")),
                RepositoryFile::TooLong => {
                    return Err(refuse(&format!("name a file of more than {} KiB", RECIPE_LIMIT / 1024)));
                }
                RepositoryFile::NotText => return Err(refuse("name a file that is not UTF-8 text")),
            }
        }
        Ok(files)
    }
}

/// Hex SHA-256 over texts, none of which can pass for the end of another.
fn key(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

/// 122 random bits, in characters that need no escaping in a URL.
fn new_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
