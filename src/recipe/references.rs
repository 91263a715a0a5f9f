//! What a pod's spec names of other objects, and what its containers do not hear of by themselves when it changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Object, list, pods};

/// The annotation of a pod template whose containers read ConfigMaps or Secrets: hex SHA-256 of what these hold.
const CONFIGURATION: &str = "previewd.dev/configuration";

/// An object that a pod's spec names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub kind: &'static str,
    pub name: &'a str,
    /// The pod starts without it too.
    pub is_optional: bool,
}

/// Everything that a pod's spec names, in the order of the spec.
pub(super) fn references(spec: &Value) -> Vec<Reference<'_>> {
    let mut references: Vec<(&'static str, &Value, &str)> = vec![("ServiceAccount", spec, "serviceAccountName")];
    for container in ["initContainers", "containers"].into_iter().flat_map(|kind| list(&spec[kind])) {
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
    let named = references.into_iter().filter_map(|(kind, reference, key)| {
        Some(Reference { kind, name: reference[key].as_str()?, is_optional: reference["optional"] == true })
    });
    named.collect()
}

/// Has the pods of what serves made anew where a ConfigMap or a Secret that they read is another than before: a container
/// reads its environment once, and most programs their files too.
pub(super) fn stamp_configuration(phases: &mut [Vec<Object>]) {
    let mut contents: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    for object in phases.iter().flatten().filter(|object| matches!(object.kind.as_str(), "ConfigMap" | "Secret")) {
        let content = ["data", "binaryData", "stringData"].map(|key| &object.body[key]);
        let of_this_name = contents.entry((object.kind.clone(), object.name.clone())).or_default();
        of_this_name.extend(json!(content).to_string().into_bytes());
    }
    for object in phases.iter_mut().flatten().filter(|object| object.has_replicas()) {
        let Some(template) = pods::template_mut(object) else { continue };
        let mut read: Vec<(String, String)> =
            references(&template["spec"]).iter().map(|found| (found.kind.to_owned(), found.name.to_owned())).collect();
        read.sort_unstable();
        read.dedup();
        let mut hash = Sha256::new();
        let mut reads_some = false;
        for ((_, name), content) in read.iter().filter_map(|key| Some((key, contents.get(key)?))) {
            reads_some = true;
            hash.update(json!([name, content.len()]).to_string());
            hash.update(content);
        }
        if reads_some {
            template["metadata"]["annotations"][CONFIGURATION] = json!(hex::encode(hash.finalize()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a Deployment with this pod spec is stamped with, beside a ConfigMap and a Secret with these values.
    fn stamp(kind: &str, spec: &Value, in_map: &str, in_secret: &str) -> Option<String> {
        let workload = json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": "web" }, "spec": { "template": { "spec": spec } },
        });
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "MODE": in_map },
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" }, "stringData": { "KEY": in_secret },
        });
        let mut phases =
            vec![vec![Object::from_body(secret)], vec![Object::from_body(workload), Object::from_body(map)]];
        stamp_configuration(&mut phases);
        let template = &phases[1][0].body["spec"]["template"];
        template["metadata"]["annotations"][CONFIGURATION].as_str().map(str::to_owned)
    }

    #[test]
    fn pods_are_made_anew_where_what_they_read_changes() {
        let map = [
            json!({ "containers": [{ "envFrom": [{ "configMapRef": { "name": "settings" } }] }] }),
            json!({ "containers": [{ "env": [{ "name": "MODE", "valueFrom": {
                "configMapKeyRef": { "name": "settings", "key": "MODE", "optional": true } } }] }] }),
            json!({ "initContainers": [{ "envFrom": [{ "configMapRef": { "name": "settings" } }] }] }),
            json!({ "volumes": [{ "name": "settings", "configMap": { "name": "settings" } }] }),
            json!({ "volumes": [{ "name": "all", "projected": { "sources": [{ "configMap": { "name": "settings" } }] } }] }),
        ];
        for (spec, kind) in map.iter().zip(["Deployment", "StatefulSet"].into_iter().cycle()) {
            let stamped = stamp(kind, spec, "one", "one");
            assert!(stamped.is_some(), "{spec}");
            assert_eq!(stamped, stamp(kind, spec, "one", "two"), "what it does not read does not matter: {spec}");
            assert_ne!(stamped, stamp(kind, spec, "two", "one"), "{spec}");
        }
        let secret = json!({ "containers": [{ "envFrom": [{ "secretRef": { "name": "keys" } }] }] });
        assert_ne!(stamp("Deployment", &secret, "one", "one"), stamp("Deployment", &secret, "one", "two"));
    }

    #[test]
    fn what_reads_nothing_of_the_recipes_has_no_stamp() {
        let nothing = json!({ "containers": [{ "name": "web", "image": "nginx" }] });
        assert_eq!(stamp("Deployment", &nothing, "one", "one"), None);
        let another = json!({ "containers": [{ "envFrom": [{ "configMapRef": { "name": "elsewhere" } }] }] });
        assert_eq!(stamp("Deployment", &another, "one", "one"), None);
        // A Job has run, and its template cannot be changed.
        let reads = json!({ "containers": [{ "envFrom": [{ "configMapRef": { "name": "settings" } }] }] });
        assert_eq!(stamp("Job", &reads, "one", "one"), None);
    }
}
