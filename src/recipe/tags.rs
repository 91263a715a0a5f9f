//! Images whose tags do not say which commit they were built from: the same tag may be another image a minute later, or
//! still the one of the commit before.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Context, FilePattern, Object, Recipe, Template, Variable, documents::read, mistakes::Findings};

/// What is to be done.
const ADVICE: &str =
    "a push may go on showing what was built before; name the commit, as in ghcr.io/acme/shop:{{ sha }}";

/// Notes images that change under their tag from commit to commit.
pub(super) fn note_tags(
    recipe: &Recipe,
    phases: &[Vec<Object>],
    own: &BTreeSet<String>,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let Some(app) = &recipe.app else { return note_tags_of_objects(phases, own, context, findings) };
    if !names_commit(&app.image) {
        findings.note(format!("app.image does not name the commit: {ADVICE}."));
    }
    for (field, _) in images_beside_the_app(recipe).filter(|(_, image)| is_pushed_anew(image)) {
        findings.note(format!("{field} does not name the commit: {ADVICE}."));
    }
}

/// The images of the recipe's services and tasks, each with its field.
fn images_beside_the_app(recipe: &Recipe) -> impl Iterator<Item = (String, &Template)> {
    let services =
        recipe.services.iter().map(|(name, service)| (format!("services.{}.image", name.as_str()), &service.image));
    let tasks = [("setup.image", &recipe.setup), ("seed.image", &recipe.seed)];
    let tasks = tasks.into_iter().filter_map(|(field, task)| Some((field.to_owned(), task.as_ref()?.image.as_ref()?)));
    services.chain(tasks)
}

/// A digest names an image for good.
fn names_commit(image: &Template) -> bool {
    image.uses_commit() || image.render(|_| "".into()).contains('@')
}

/// Whether what `image` names is pushed anew for each commit of the pull request: it names that, and no commit. What others
/// made has no commit of this repository.
pub(super) fn is_pushed_anew(image: &Template) -> bool {
    let own = [Variable::PullRequest, Variable::Branch, Variable::Namespace];
    own.into_iter().any(|variable| image.uses(variable)) && !names_commit(image)
}

/// The images that are pushed anew for each commit of the pull request, under the same name: the recipe fills them from what
/// names the pull request and not the commit, or they look like it.
pub(super) fn own_images(recipe: &Recipe, phases: &[Vec<Object>], context: &Context<'_>) -> BTreeSet<String> {
    let filled = filled(recipe, context);
    let images =
        phases.iter().flatten().flat_map(Object::containers).filter_map(|container| container["image"].as_str());
    let is_own = |image: &&str| context.builds(image) || filled.iter().any(|text| comes_of(image, text));
    images.filter(|image| !image.contains('@')).filter(is_own).map(str::to_owned).collect()
}

/// What the recipe's texts about images are, where they name the pull request and no commit.
fn filled(recipe: &Recipe, context: &Context<'_>) -> BTreeSet<String> {
    let mut filled = BTreeSet::new();
    let app = recipe.app.iter().map(|app| &app.image);
    for image in app.chain(images_beside_the_app(recipe).map(|(_, image)| image)).filter(|it| is_pushed_anew(it)) {
        filled.insert(context.fill(image));
    }
    let files: Vec<&str> = match &recipe.helm {
        Some(helm) => helm.values_files.iter().map(FilePattern::path).collect(),
        None => context.files.keys().map(String::as_str).collect(),
    };
    let mut found = |text: &str| {
        // What cannot be read is told by whoever fills it.
        let template = Template::parse_value(text).ok().filter(is_pushed_anew);
        filled.extend(template.map(|template| context.fill(&template)));
    };
    for path in files {
        let text = context.files.get(path).and_then(|content| std::str::from_utf8(content).ok());
        let Some(text) = text.filter(|text| text.contains("{{")) else { continue };
        for document in read(path, text, &mut Findings::default()) {
            texts_about_images(&document.value, false, &mut found);
        }
    }
    for values in recipe.helm.iter().map(|helm| &helm.values) {
        values.iter().for_each(|(key, value)| texts_about_images(value, is_about_images(key), &mut found));
    }
    filled
}

/// Finds the texts in `value` whose keys say that they are an image, or a part of its name.
fn texts_about_images(value: &Value, of_image: bool, found: &mut impl FnMut(&str)) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) if of_image && text.contains("{{") => found(text),
        Value::String(_) => {}
        Value::Array(items) => items.iter().for_each(|item| texts_about_images(item, of_image, found)),
        Value::Object(entries) => {
            for (key, item) in entries {
                texts_about_images(item, of_image || is_about_images(key), found);
                if let Some(tag) = item.as_str().filter(|text| is_about_tags(key) && text.contains("{{")) {
                    let names = ["repository", "name", "image"].iter().filter_map(|key| entries.get(*key)?.as_str());
                    names.for_each(|name| found(&format!("{name}:{tag}")));
                }
            }
        }
    }
}

fn is_about_images(key: &str) -> bool {
    key.to_ascii_lowercase().contains("image") || is_about_tags(key)
}

fn is_about_tags(key: &str) -> bool {
    key.to_ascii_lowercase().ends_with("tag")
}

/// Whether an image is `text`, or a chart put it together from that as its tag or the end of its name. A number alone may
/// be anybody's tag, such as that of `redis:7`.
fn comes_of(image: &str, text: &str) -> bool {
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_end =
        |whole: &str| whole.strip_suffix(text).is_some_and(|before| before.is_empty() || before.ends_with('/'));
    !text.is_empty() && (is_end(image) || is_end(name) || (tag == text && !is_number))
}

fn note_tags_of_objects(
    phases: &[Vec<Object>],
    own: &BTreeSet<String>,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let mut images = Vec::new();
    for object in phases.iter().flatten() {
        let of_containers = object.containers().filter_map(|container| container["image"].as_str());
        images.extend(of_containers.map(|image| (object, image)));
    }
    let is_fixed = |image: &str| image.contains('@') || image.contains(context.commit.short());
    for (object, image) in &images {
        if own.contains(*image) {
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
