//! Recipes, looked at before they are pushed: what would become of them here, without a cluster and without GitHub.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Service, ServiceError};
use crate::{
    environment::{BaseDomain, Cause, CommitSha, Namespace, PublicUrl, RepositoryName},
    helm::Helm,
    recipe::{Charted, Context, Files, Mistakes, Policy, RECIPE_FILE, Recipe, Render, Secrets},
};

/// Recipes that are looked at for somebody at once: helm's other places are the deployments'.
pub(super) const CHECKS_AT_ONCE: usize = 2;
/// How long somebody waits for one of them.
const TURN: Duration = Duration::from_secs(10);

/// The commit that a recipe is looked at for, where nobody names one: text to YAML too, in full and in short.
pub const SAMPLE_COMMIT: &str = "c0ffee0123456789abcdef0123456789abcdef01";

/// What this installation would make of recipes.
#[derive(Debug, Clone)]
pub struct RecipeRenderer {
    pub policy: Policy,
    pub base_domain: BaseDomain,
    pub helm: Helm,
}

/// The pull request that a recipe is rendered for.
#[derive(Debug, Clone)]
pub struct RenderTarget {
    pub repository: RepositoryName,
    pub pull_request: i64,
    pub branch: String,
    pub commit: CommitSha,
}

impl RecipeRenderer {
    /// What would be applied for `text`, a `.preview.yaml`, with the files of the repository that it names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn render(&self, text: &str, files: &Files, target: &RenderTarget) -> Result<Render, Mistakes> {
        match Recipe::read(RECIPE_FILE, text) {
            (None, None) => Err(Cause::NoRecipe.into()),
            (None, Some(mistakes)) => Err(mistakes),
            (Some(recipe), None) => self.render_recipe(&recipe, files, target).await,
            // What is left may be wrong as well.
            (Some(recipe), Some(mistakes)) => match self.render_recipe(&recipe, files, target).await {
                Ok(_) => Err(mistakes),
                Err(more) => Err(mistakes.and(more)),
            },
        }
    }

    async fn render_recipe(&self, recipe: &Recipe, files: &Files, target: &RenderTarget) -> Result<Render, Mistakes> {
        let namespace = Namespace::of_pull_request(0, &target.repository, target.pull_request);
        let url = PublicUrl::of(&namespace, &self.base_domain);
        let folders = recipe.folders(files);
        let named = |path: &&String| {
            recipe.files().iter().any(|pattern| pattern.matches(path))
                || folders.iter().any(|folder| path.starts_with(&format!("{folder}/")))
        };
        let files: Files = files.iter().filter(|(path, _)| named(path)).map(|(p, c)| (p.clone(), c.clone())).collect();
        recipe.admit_files(&files)?;
        // Nobody logs in with it: it only stands where one will be made up.
        let passwords: BTreeMap<String, String> = recipe
            .databases
            .keys()
            .map(|name| (name.as_str().to_owned(), "made-up-when-deployed".to_owned()))
            .collect();
        let secrets: Secrets =
            recipe.secrets.iter().map(|name| (name.as_str().to_owned(), "given-by-the-operator".into())).collect();
        let context = Context {
            repository: &target.repository,
            pull_request: target.pull_request,
            commit: &target.commit,
            branch: &target.branch,
            namespace: &namespace,
            url: &url,
            environment_id: "environment",
            installation_id: "installation",
            policy: &self.policy,
            passwords: &passwords,
            secrets: Some(&secrets),
            registries: None,
            files: &files,
            charted: &Charted::default(),
        };
        self.helm.render(recipe, &context, None).await
    }
}

/// A recipe to be checked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRecipeRequest {
    /// The text of `.preview.yaml`.
    #[schemars(length(max = 65_536))]
    pub recipe: String,
    /// Files that it names (manifests, a chart's), by path; 4 MiB at most
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Whether a recipe would be taken.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RecipeVerdict {
    pub valid: bool,
    /// What is wrong, a line each, with its place and what to do; or what would run.
    pub message: String,
    /// What was made safe, and what may not be as it is meant.
    pub notes: Vec<String>,
    /// What would be in the namespace, as kind/name, in the order in which it starts.
    pub objects: Vec<String>,
}

impl RecipeVerdict {
    pub fn of(rendered: &Result<Render, Mistakes>) -> Self {
        match rendered {
            Ok(render) => {
                let objects: Vec<String> =
                    render.objects.iter().map(|object| format!("{}/{}", object.kind, object.name)).collect();
                let message = format!("It is valid, and makes {} objects.", objects.len());
                Self { valid: true, message, notes: render.notes.clone(), objects }
            }
            Err(mistakes) => {
                Self { valid: false, message: mistakes.to_string(), notes: Vec::new(), objects: Vec::new() }
            }
        }
    }
}

impl Service {
    /// What would become of a recipe here.
    ///
    /// # Errors
    /// Where others have theirs checked for longer than this one can wait.
    pub async fn check_recipe(&self, request: CheckRecipeRequest) -> Result<RecipeVerdict, ServiceError> {
        let Ok(Ok(_turn)) = timeout(TURN, self.shared.checks.acquire()).await else {
            return Err(ServiceError::others_check());
        };
        let CheckRecipeRequest { recipe, files } = request;
        let files: Files = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
        let target = RenderTarget {
            repository: "owner/name".parse().expect("a repository"),
            pull_request: 1,
            branch: "branch".to_owned(),
            commit: SAMPLE_COMMIT.parse().expect("a commit"),
        };
        Ok(RecipeVerdict::of(&self.shared.parts.renderer.render(&recipe, &files, &target).await))
    }
}
