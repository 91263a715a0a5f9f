//! What pods read and mount, as far as the recipe brings it: a pod whose ConfigMap, Secret or claim does not exist never
//! starts. It is noted and not refused, because a cluster may have something that puts it there.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{Object, mistakes::Findings, pods, walls},
    Review, is_name, list,
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
    let made = phases.iter().flatten().map(|object| (object.kind.as_str(), object.name.as_str()));
    let there: BTreeSet<(&str, &str)> = made.chain(THERE).collect();
    for (number, object) in phases.iter().flatten().enumerate() {
        let Some((template, path)) = pods::template(object) else { continue };
        let mut missing: Vec<(&str, &str)> = named(&template["spec"]);
        missing.retain(|name| is_name(name.1) && !there.contains(name));
        missing.sort_unstable();
        missing.dedup();
        for (kind, name) in missing {
            let note =
                format!("{path}.spec names {kind} {name}, which the recipe does not make: no pod starts without it");
            Review::of(&object.body, number, findings).note(&note);
        }
    }
}

/// Kind and name of everything that a pod needs to start.
fn named(spec: &Value) -> Vec<(&str, &str)> {
    let containers = ["initContainers", "containers"].into_iter().flat_map(|kind| list(&spec[kind]));
    let mut references: Vec<(&str, &Value, &str)> = vec![("ServiceAccount", spec, "serviceAccountName")];
    for container in containers {
        for variable in list(&container["env"]) {
            let from = &variable["valueFrom"];
            references.push(("ConfigMap", &from["configMapKeyRef"], "name"));
            references.push(("Secret", &from["secretKeyRef"], "name"));
        }
        for source in list(&container["envFrom"]) {
            references.push(("ConfigMap", &source["configMapRef"], "name"));
            references.push(("Secret", &source["secretRef"], "name"));
        }
    }
    for volume in list(&spec["volumes"]) {
        references.push(("ConfigMap", &volume["configMap"], "name"));
        references.push(("Secret", &volume["secret"], "secretName"));
        references.push(("PersistentVolumeClaim", &volume["persistentVolumeClaim"], "claimName"));
        for source in list(&volume["projected"]["sources"]) {
            references.push(("ConfigMap", &source["configMap"], "name"));
            references.push(("Secret", &source["secret"], "name"));
        }
    }
    let needed = references.into_iter().filter(|(_, reference, _)| reference["optional"] != true);
    needed.filter_map(|(kind, reference, key)| Some((kind, reference[key].as_str()?))).collect()
}
