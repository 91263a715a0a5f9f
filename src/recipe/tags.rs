//! Images whose tags do not say which commit they were built from: the same tag may be another image a minute later, or
//! still the one of the commit before.

use super::{Context, Object, Recipe, Template, Variable, mistakes::Findings};

/// What is to be done.
const ADVICE: &str =
    "a push may go on showing what was built before; name the commit, as in ghcr.io/acme/shop:{{ sha }}";

/// Notes images that change under their tag from commit to commit.
pub(super) fn note_tags(recipe: &Recipe, phases: &[Vec<Object>], context: &Context<'_>, findings: &mut Findings) {
    let Some(app) = &recipe.app else { return note_tags_of_objects(phases, context, findings) };
    if !names_commit(&app.image) {
        findings.note(format!("app.image does not name the commit: {ADVICE}."));
    }
    let services =
        recipe.services.iter().map(|(name, service)| (format!("services.{}.image", name.as_str()), &service.image));
    let tasks = [("setup.image", &recipe.setup), ("seed.image", &recipe.seed)];
    let tasks = tasks.into_iter().filter_map(|(field, task)| Some((field.to_owned(), task.as_ref()?.image.as_ref()?)));
    for (field, image) in services.chain(tasks).filter(|(_, image)| is_of_the_pull_request(image)) {
        if !names_commit(image) {
            findings.note(format!("{field} does not name the commit: {ADVICE}."));
        }
    }
}

/// A digest names an image for good.
fn names_commit(image: &Template) -> bool {
    image.uses_commit() || image.render(|_| "".into()).contains('@')
}

/// What others made has no commit of this repository.
fn is_of_the_pull_request(image: &Template) -> bool {
    [Variable::PullRequest, Variable::Branch, Variable::Namespace].into_iter().any(|variable| image.uses(variable))
}

fn note_tags_of_objects(phases: &[Vec<Object>], context: &Context<'_>, findings: &mut Findings) {
    let mut images = Vec::new();
    for object in phases.iter().flatten() {
        let of_containers = object.containers().filter_map(|container| container["image"].as_str());
        images.extend(of_containers.map(|image| (object, image)));
    }
    let is_fixed = |image: &str| image.contains('@') || image.contains(context.commit.short());
    for (object, image) in &images {
        if context.builds(image) {
            findings.note(format!(
                "{} {}: an image's tag is the pull request's and not the commit's: {ADVICE}.",
                object.kind, object.name
            ));
        }
    }
    if !images.is_empty() && !images.iter().any(|(_, image)| is_fixed(image)) {
        findings.note(format!("No image names the commit: {ADVICE}."));
    }
}
