//! Images whose tags do not say which commit they were built from: the same tag may be another image a minute later, or
//! still the one of the commit before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Context, FilePattern, ImageReference, Object, Recipe, Template, Variable, documents::read, mistakes::Findings,
};

/// What is to be done.
const ADVICE: &str =
    "a push may go on showing what was built before; name the commit, as in ghcr.io/acme/shop:{{ sha }}";

/// The same for what may be somebody else's.
const ADVICE_FOR_ANY: &str =
    "what it means changes; name the commit, as in ghcr.io/acme/shop:{{ sha }}, or the version of what others made";
/// So many images are noted by their names.
const NOTED_AT_MOST: usize = 5;
/// Tags that everybody moves.
const FLOATING: [&str; 5] = ["latest", "main", "master", "edge", "nightly"];

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
    let (own, others): (Vec<_>, Vec<_>) = images_beside_the_app(recipe).partition(|(_, image)| is_pushed_anew(image));
    for (field, _) in own {
        findings.note(format!("{field} does not name the commit: {ADVICE}."));
    }
    // Several of them may run one image.
    let mut floating = BTreeMap::new();
    for (field, image) in others {
        floating.entry(context.fill(image)).or_insert(field);
    }
    floating.retain(|image, _| is_floating(image));
    note_floating(floating.into_iter().map(|(image, field)| format!("{field} ({image})")).collect(), findings);
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
    // Each with the first object that runs it.
    let mut images: BTreeMap<&str, &Object> = BTreeMap::new();
    for object in phases.iter().flatten() {
        for container in object.containers() {
            let Some(image) = container["image"].as_str() else { continue };
            if own.contains(image) && container["imagePullPolicy"] == "Never" {
                findings.note(format!(
                    "{} {}: imagePullPolicy is Never, and {image} is pushed anew for each commit: a node that has the one of \
                     another commit runs that.",
                    object.kind, object.name
                ));
            }
            images.entry(image).or_insert(object);
        }
    }
    let mut floating = Vec::new();
    for (image, object) in &images {
        let (kind, name) = (&object.kind, &object.name);
        if own.contains(*image) {
            findings
                .note(format!("{kind} {name}: the tag of {image} is the pull request's and no commit's: {ADVICE}."));
        } else if is_floating(image) {
            floating.push(format!("{kind} {name}: the image {image}"));
        }
    }
    note_floating(floating, findings);
    // What others made is fixed by a version or a digest, which says nothing of the repository's own.
    let names_commit = |image: &&str| image.contains(context.commit.short());
    let is_noted = |image: &&str| own.contains(*image) || is_floating(image);
    if !images.keys().any(names_commit) && !images.keys().all(is_noted) {
        findings.note(format!("No image names the commit: {ADVICE}."));
    }
}

/// Whether an image's tag is one that everybody moves, or it has none.
fn is_floating(image: &str) -> bool {
    image.parse::<ImageReference>().is_ok_and(|image| FLOATING.contains(&image.reference.to_ascii_lowercase().as_str()))
}

/// `images`: each with where it stands.
fn note_floating(images: Vec<String>, findings: &mut Findings) {
    let more = images.len().saturating_sub(NOTED_AT_MOST);
    for image in images.into_iter().take(NOTED_AT_MOST) {
        findings.note(format!("{image} names no version: {ADVICE_FOR_ANY}."));
    }
    if more > 0 {
        findings.note(format!("Of the images beside these, {more} name no version."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_everybody_moves_are_known() {
        let digest = format!("shop:latest@sha256:{}", "0a".repeat(32));
        for (image, expected) in [
            ("shop", true),
            ("registry:5000/shop", true),
            ("shop:latest", true),
            ("ghcr.io/acme/shop:Main", true),
            ("shop:nightly", true),
            ("shop:1", false),
            ("shop:latest-alpine", false),
            ("shop:pr-7", false),
            (&digest, false),
            ("not an image", false),
        ] {
            assert_eq!(is_floating(image), expected, "{image}");
        }
    }

    #[test]
    fn a_few_images_are_noted_by_name() {
        let notes = |count: usize| {
            let mut findings = Findings::default();
            note_floating((0..count).map(|n| format!("Deployment web: the image a{n}")).collect(), &mut findings);
            findings.into_notes().expect("no mistakes")
        };
        assert_eq!(notes(0), Vec::<String>::new());
        assert_eq!(notes(NOTED_AT_MOST).len(), NOTED_AT_MOST);
        let many = notes(NOTED_AT_MOST + 2);
        assert_eq!(many.last().map(String::as_str), Some("Of the images beside these, 2 name no version."));
    }
}
