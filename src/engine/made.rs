//! What is applied for the head commit: made from its recipe, or taken up again where the same was made before.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::{
    interrupted::NotApplied,
    observe::{Observed, access, recipe_place},
    pass::Pass,
};
use crate::{
    cluster::CALL_TIMEOUT,
    environment::{Cause, NamespaceFacts, PublicUrl},
    faults::Fault,
    github::{EntryKind, GitRef, RepositoryAccess},
    recipe::{Charted, Context, Files, LARGEST_FILE, LARGEST_FILES, MOST_FILES, RECIPE_FILE, Recipe, Render},
};

/// How deep folders of a chart may be in each other.
const DEEPEST: usize = 8;

/// What is to be applied.
pub(super) struct Made {
    pub render: Render,
    /// A digest of everything that it depends on.
    pub key: String,
    /// It was not made before.
    pub is_new: bool,
}

impl Pass<'_> {
    /// Renders the recipe at the head commit, unless that was done before from the same: a retry asks nobody and starts
    /// no process.
    pub(super) async fn make(&mut self, observed: &Observed) -> Result<Made, NotApplied> {
        let stored = observed.deployment.as_ref().and_then(|deployment| deployment.recipe.as_ref());
        let text = match (&observed.recipe, stored) {
            (Some(Ok(text)), _) | (None, Some(text)) => text,
            (Some(Err(cause)), _) => return Err(NotApplied::Refused(cause.clone())),
            (None, None) => return Err(NotApplied::Refused(Cause::NoRecipe)),
        };
        let (environment, pull_request) = (&observed.overview.environment, &observed.overview.pull_request.facts);
        let url = PublicUrl::of(&environment.namespace, &self.engine.base_domain);
        let recipe = Recipe::parse(RECIPE_FILE, text).map_err(|mistakes| NotApplied::Refused(mistakes.into()))?;
        let is_chart = recipe.helm.is_some();
        let kube_version = if is_chart { Some(self.kube_version().await?) } else { None };
        // Only of charts: what else runs is the same for an environment that ran before.
        let is_upgrade = is_chart && self.upgrades(observed).await?;
        let key = key(&[
            env!("CARGO_PKG_VERSION"),
            text,
            pull_request.head_sha.as_str(),
            &pull_request.head_ref,
            pull_request.repository.name.as_str(),
            url.as_str(),
            &serde_json::json!(self.engine.policy).to_string(),
            kube_version.as_deref().unwrap_or_default(),
            if is_upgrade { "upgrade" } else { "" },
            // The operator may have changed them since, and their values are in no digest.
            &if recipe.secrets.is_empty() { String::new() } else { observed.seen().round.to_string() },
        ]);
        // What was made up for a namespace that is gone went with it.
        let is_gone = observed.facts.namespace == NamespaceFacts::Absent && environment.applied_commit.is_some();
        if !is_gone
            && let Some(render) = self.engine.store.render_of(&environment.id, &pull_request.head_sha, &key).await?
        {
            return Ok(Made { render, key, is_new: false });
        }

        let secrets = if is_chart || !recipe.databases.is_empty() {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.secrets(&environment.namespace, &self.owner(&environment.id)).await?
        } else {
            BTreeMap::new()
        };
        let passwords = passwords(&recipe, &secrets);
        let given = (!pull_request.from_fork).then(|| self.engine.given.of(&pull_request.repository.name));
        let registries = self.engine.given.registries.as_ref().map(ExposeSecret::expose_secret);
        let files = self.files(observed, &recipe).await?;
        let charted = Charted { outputs: Vec::new(), secrets, is_upgrade };
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
            secrets: given.as_ref(),
            registries,
            files: &files,
            charted: &charted,
        };
        let rendered = self.keep_lease(self.engine.helm.render(&recipe, &context, kube_version.as_deref())).await?;
        let render = rendered.map_err(|mistakes| NotApplied::Refused(mistakes.into()))?;
        if let Some(secret) = render.applied().find(|object| object.kind == "Secret")
            && !self.engine.store.can_seal()
        {
            let rule = "previewd has no key to keep it with; its operator sets sealing.keys".to_owned();
            return Err(NotApplied::Refused(Cause::ObjectRefused {
                kind: secret.kind.clone(),
                name: secret.name.clone(),
                rule,
            }));
        }
        Ok(Made { render, key, is_new: true })
    }

    /// Whether a chart at the head commit is an upgrade of what is installed: of another commit's chart that ran. What
    /// ran of this very commit is made for the event that it ran with.
    async fn upgrades(&self, observed: &Observed) -> Result<bool, NotApplied> {
        let environment = &observed.overview.environment;
        let is_fresh = observed.standing.fresh || observed.facts.namespace == NamespaceFacts::Absent;
        let is_fresh = is_fresh && !self.engine.faults.has(Fault::ResetIsUpgrade);
        let Some(good) = environment.good_commit.as_ref().filter(|_| !is_fresh) else { return Ok(false) };
        if *good == observed.overview.pull_request.facts.head_sha {
            let render = self.engine.store.render(&environment.id, good).await?;
            // One of a version that did not write it down is taken for an upgrade.
            return Ok(render.and_then(|render| render.upgrades).unwrap_or(true));
        }
        let ran = self.engine.store.deployment(&environment.id, good).await?.and_then(|ran| ran.recipe);
        Ok(ran.and_then(|text| Recipe::parse(RECIPE_FILE, &text).ok()).is_some_and(|recipe| recipe.helm.is_some()))
    }

    async fn kube_version(&mut self) -> Result<String, NotApplied> {
        self.fence(CALL_TIMEOUT).await?;
        Ok(self.engine.cluster.version().await?)
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
            for entry in there.into_iter().filter(|entry| pattern.matches(&entry.path)) {
                match entry.kind {
                    EntryKind::File => drop(paths.insert(entry.path)),
                    EntryKind::Folder => {}
                    EntryKind::Other => return Err(refuse("name a link or a submodule among their files")),
                }
            }
        }
        let mut files = Files::new();
        self.read_into(&mut files, paths, &access, place, recipe).await?;
        let mut read = BTreeSet::new();
        // What a chart's files say decides which others are needed.
        while let Some(folder) = recipe.folders(&files).into_iter().find(|folder| !read.contains(folder)) {
            let paths = self.files_below(&access, &folder, place, recipe).await?;
            if paths.is_empty() {
                let what = if read.is_empty() { "names" } else { "needs a chart in" };
                return Err(refuse(&format!("{what} a folder that is not in the repository")));
            }
            self.read_into(&mut files, paths.into_iter().collect(), &access, place, recipe).await?;
            read.insert(folder);
        }
        recipe.admit_files(&files).map_err(NotApplied::Refused)?;
        Ok(files)
    }

    /// Reads the files that are not among `files` yet, and refuses more than a recipe may take before they are read.
    async fn read_into(
        &mut self,
        files: &mut Files,
        paths: BTreeSet<String>,
        access: &RepositoryAccess,
        place: GitRef<'_>,
        recipe: &Recipe,
    ) -> Result<(), NotApplied> {
        let refuse = |rule: &str| NotApplied::Refused(recipe.refuse_files(rule));
        let paths: Vec<String> = paths.into_iter().filter(|path| !files.contains_key(path)).collect();
        let count = files.len() + paths.len();
        if count > MOST_FILES {
            return Err(refuse(&format!("names {count} files, and may name {MOST_FILES}")));
        }
        let mut size: usize = files.values().map(Vec::len).sum();
        for path in paths {
            self.github_read().await?;
            let content = self.engine.github.content(access, &path, place, LARGEST_FILE).await?;
            let content = content.ok_or_else(|| refuse("names a file that is not in the repository"))?;
            size += content.len();
            // The rest is not asked for: it is too much already.
            let is_too_much = content.len() > LARGEST_FILE || size > LARGEST_FILES;
            files.insert(path, content);
            if is_too_much {
                return recipe.admit_files(files).map_err(NotApplied::Refused);
            }
        }
        Ok(())
    }

    /// The paths of all files of a folder and of those in it.
    async fn files_below(
        &mut self,
        access: &RepositoryAccess,
        folder: &str,
        place: GitRef<'_>,
        recipe: &Recipe,
    ) -> Result<Vec<String>, NotApplied> {
        let refuse = |rule: &str| Err(NotApplied::Refused(recipe.refuse_files(rule)));
        let mut paths = Vec::new();
        let mut folders = vec![(folder.to_owned(), 1)];
        while let Some((folder, depth)) = folders.pop() {
            self.github_read().await?;
            for entry in self.engine.github.folder(access, &folder, place).await? {
                match entry.kind {
                    EntryKind::File => paths.push(entry.path),
                    EntryKind::Folder if depth < DEEPEST => folders.push((entry.path, depth + 1)),
                    EntryKind::Folder => return refuse("has folders in folders in folders, too many of them"),
                    EntryKind::Other => {
                        return refuse("has a link or a submodule in it; a chart must be files and folders");
                    }
                }
                if paths.len() + folders.len() > MOST_FILES {
                    return refuse(&format!("has more than {MOST_FILES} files"));
                }
            }
        }
        Ok(paths)
    }
}

/// Each database's password: the one that it has, so that a push does not lock its application out, or a new one.
fn passwords(recipe: &Recipe, secrets: &BTreeMap<String, BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let known = |name: &str| {
        let encoded = secrets.get(name)?.get("PASSWORD")?;
        String::from_utf8(BASE64.decode(encoded).ok()?).ok()
    };
    let names = recipe.databases.keys().map(|name| name.as_str().to_owned());
    names.map(|name| (name.clone(), known(&name).unwrap_or_else(new_password))).collect()
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
