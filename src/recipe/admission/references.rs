//! What pods read and mount, as far as the recipe brings it: a pod whose ConfigMap, Secret or claim does not exist never
//! starts. It is noted and not refused, because a cluster may have something that puts it there.

use std::collections::BTreeSet;

use super::{
    super::{Object, Render, mistakes::Findings, pods, references::references, walls},
    Review, is_name,
};

/// What previewd and Kubernetes put into every namespace.
const THERE: [(&str, &str); 5] = [
    ("ConfigMap", super::ROOT_CERTIFICATE),
    ("Secret", walls::OPERATORS_SECRET),
    ("Secret", walls::REGISTRY_SECRET),
    ("ServiceAccount", walls::SERVICE_ACCOUNT),
    ("ServiceAccount", "default"),
];

pub(in super::super) fn note_what_is_missing(phases: &[Vec<Object>], findings: &mut Findings) {
    for (number, object, path, missing) in missing(phases.iter().flatten()) {
        for (kind, name) in missing {
            let note =
                format!("{path}.spec names {kind} {name}, which the recipe does not make: no pod starts without it");
            Review::of(&object.body, number, findings).note(&note);
        }
    }
}

impl Render {
    /// What no pod of an object starts without, as kind and name, and these objects do not make.
    pub fn missing(&self) -> impl Iterator<Item = (&Object, (&str, &str))> {
        missing(self.objects.iter())
            .flat_map(|(_, object, _, missing)| missing.into_iter().map(move |missing| (object, missing)))
    }
}

/// The objects whose pods need something that none of them makes: the number of each, the path of its pods' template,
/// and what is missing as kind and name.
fn missing<'a>(
    objects: impl Iterator<Item = &'a Object> + Clone,
) -> impl Iterator<Item = (usize, &'a Object, String, Vec<(&'a str, &'a str)>)> {
    let made = objects.clone().map(|object| (object.kind.as_str(), object.name.as_str()));
    let there: BTreeSet<(&str, &str)> = made.chain(THERE).collect();
    objects.enumerate().filter_map(move |(number, object)| {
        let (template, path) = pods::template(object)?;
        let needed = references(&template["spec"]).into_iter().filter(|reference| !reference.is_optional);
        let mut missing: Vec<(&str, &str)> = needed.map(|reference| (reference.kind, reference.name)).collect();
        missing.retain(|name| is_name(name.1) && !there.contains(name));
        missing.sort_unstable();
        missing.dedup();
        (!missing.is_empty()).then_some((number, object, path, missing))
    })
}
