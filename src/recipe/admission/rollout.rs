//! What would keep a preview from showing its commit, or throw its data away: it is made safe, and that is said.

use serde_json::{Value, json};

use super::{super::Object, Review, is_set};

/// Leaves to previewd what a preview asks of every workload: that each commit is rolled out whole, at once, and keeps the
/// volumes of the one before.
pub(super) fn settle(object: &mut Object, review: &mut Review<'_>) {
    let Some(spec) = object.body.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    match object.kind.as_str() {
        "StatefulSet" => {
            keep_claims(spec, review);
            roll_out(spec, review);
        }
        "Deployment" if spec["paused"] == true => {
            set(spec, "paused", None);
            review.note("spec.paused was left out: a preview shows the commit");
        }
        "Job" if spec["suspend"] == true => {
            set(spec, "suspend", None);
            review.note("spec.suspend was left out: what comes after it would wait for ever");
        }
        _ => {}
    }
}

fn set(spec: &mut Value, key: &str, value: Option<Value>) {
    let Some(spec) = spec.as_object_mut() else { return };
    match value {
        Some(value) => spec.insert(key.to_owned(), value),
        None => spec.remove(key),
    };
}

/// A set is made anew where a field of it cannot be changed, and has no pods while it sleeps: neither is a reason to throw
/// volumes away. They go with the environment.
fn keep_claims(spec: &mut Value, review: &mut Review<'_>) {
    let policy = &spec["persistentVolumeClaimRetentionPolicy"];
    if ["whenDeleted", "whenScaled"].iter().any(|when| policy[when] == "Delete") {
        set(
            spec,
            "persistentVolumeClaimRetentionPolicy",
            Some(json!({ "whenDeleted": "Retain", "whenScaled": "Retain" })),
        );
        review.note("spec.persistentVolumeClaimRetentionPolicy is Retain in a preview: its volumes go with the environment, and not before");
    }
}

fn roll_out(spec: &mut Value, review: &mut Review<'_>) {
    let strategy = &spec["updateStrategy"];
    let waits = strategy["type"] == "OnDelete";
    let is_partial = is_set(&strategy["rollingUpdate"]["partition"]) && strategy["rollingUpdate"]["partition"] != 0;
    if waits || is_partial {
        set(spec, "updateStrategy", Some(json!({ "type": "RollingUpdate" })));
        let field = if waits { "type" } else { "rollingUpdate.partition" };
        review.note(&format!(
            "spec.updateStrategy.{field} was left out, so that every pod is updated: a preview shows the commit"
        ));
    }
}
