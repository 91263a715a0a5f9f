//! Kubernetes objects that a repository keeps as YAML. Text in them may use variables; it is read as YAML first, so that
//! no branch name can become more than text.

use super::{
    Backend, Context, Draft, FilePattern, Object, Recipe,
    documents::{Document, OtherBraces, fill, objects_in, read},
    mistakes::Findings,
};
use crate::environment::Cause;

/// The objects of every file that the recipe names.
pub(super) fn draft(recipe: &Recipe, context: &Context<'_>, findings: &mut Findings) -> Draft {
    let mut objects = Vec::new();
    let mut has_unread = false;
    for (path, content) in context.files {
        match std::str::from_utf8(content) {
            Ok(text) => objects.extend(objects_of(path, text, context, findings)),
            Err(_) => {
                has_unread = true;
                findings.refuse(recipe.refuse("manifests", "name a file that is not UTF-8 text"));
            }
        }
    }
    if objects.is_empty() && !has_unread && !findings.are_mistakes() {
        findings.refuse(recipe.refuse("manifests", "name no file of the repository with an object in it"));
    }
    Draft { phases: vec![objects], backend: recipe.backend(context, findings) }
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
    pub(super) fn backend(&self, context: &Context<'_>, findings: &mut Findings) -> Option<Backend> {
        let expose = self.expose.as_ref()?;
        let (service, port) = (expose.service.as_ref()?, expose.port?.get());
        let service = findings.take(context.render(self, "expose.service", service))?;
        Some(Backend { service, port })
    }
}

/// The objects of one file.
fn objects_of(path: &str, text: &str, context: &Context<'_>, findings: &mut Findings) -> Vec<Object> {
    let mut objects = Vec::new();
    for document in read(path, text, findings) {
        document.refuse_doubles(findings);
        let Document { mut value, source, doubles: _ } = document;
        fill(&mut value, "", OtherBraces::Refused, &source, context, findings);
        objects.extend(objects_in(value).into_iter().map(Object::from_body));
    }
    objects
}
