//! Kubernetes objects that a repository keeps as YAML. Text in them may use variables; it is read as YAML first, so that
//! no branch name can become more than text.

use serde_json::Value;

use super::{
    Backend, Context, Draft, FilePattern, Object, Recipe,
    documents::{Document, fill, read},
};
use crate::environment::Cause;

/// The objects of every file that the recipe names.
pub(super) fn draft(recipe: &Recipe, context: &Context<'_>) -> Result<Draft, Cause> {
    let mut objects = Vec::new();
    for (path, content) in context.files {
        let text = std::str::from_utf8(content);
        let text = text.map_err(|_| recipe.source.refuse("manifests", "name a file that is not UTF-8 text"))?;
        objects.extend(objects_of(path, text, context)?);
    }
    if objects.is_empty() {
        return Err(recipe.source.refuse("manifests", "name no file of the repository with an object in it"));
    }
    Ok(Draft { phases: vec![objects], backend: recipe.backend(context)? })
}

impl Recipe {
    /// The files of the repository that it needs, besides itself.
    pub fn files(&self) -> Vec<&FilePattern> {
        let of_manifests = self.manifests.iter().flatten();
        of_manifests.chain(self.helm.iter().flat_map(|helm| &helm.values_files)).collect()
    }

    /// The cause that the files it names break `rule`.
    pub fn refuse_files(&self, rule: &str) -> Cause {
        self.source.refuse(if self.helm.is_some() { "helm.chart" } else { "manifests" }, rule)
    }

    /// What the URL leads to, where the recipe says it.
    pub(super) fn backend(&self, context: &Context<'_>) -> Result<Option<Backend>, Cause> {
        let Some(expose) = &self.expose else { return Ok(None) };
        let service = context.render(self, "expose.service", &expose.service)?;
        Ok(Some(Backend { service, port: expose.port.get() }))
    }
}

/// The objects of one file.
fn objects_of(path: &str, text: &str, context: &Context<'_>) -> Result<Vec<Object>, Cause> {
    let mut objects = Vec::new();
    for Document { mut value, source } in read(path, text)? {
        fill(&mut value, "", &source, context)?;
        match value {
            // As `kubectl get -o yaml` writes them. One whose items are no list is refused for its kind.
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.get_mut("items") {
                    Some(Value::Array(items)) => objects.extend(items.drain(..).map(Object::from_body)),
                    _ => objects.push(Object::from_body(Value::Object(list))),
                }
            }
            document => objects.push(Object::from_body(document)),
        }
    }
    Ok(objects)
}
