//! Charts: what helm is given, and what is made of what it renders.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Context, Draft, Files, Helm, Object, Recipe,
    documents::{self, fill, read},
    pods,
};
use crate::environment::{Cause, HOOK, Namespace};

/// What helm is to render.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartRequest {
    pub source: ChartSource,
    pub namespace: Namespace,
    pub values: Value,
    /// What the chart may find in the cluster, as `group/version` and `group/version/Kind`: what an environment may hold.
    pub api_versions: Vec<String>,
    /// A commit of the environment ran before.
    pub is_upgrade: bool,
}

/// Where a chart comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ChartSource {
    /// Its files, by their path in the chart's folder.
    Files(Files),
    Elsewhere {
        /// `oci://…`, or its name in `repository`.
        chart: String,
        repository: Option<String>,
        version: String,
    },
}

/// What of a chart's rendering is not in the recipe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Charted {
    /// What helm rendered; twice where there are Secrets, so that what differs shows what the chart makes up.
    pub outputs: Vec<String>,
    /// The values of the Secrets that are in the namespace, as they stand there, by name and key.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// A commit of the environment ran before.
    pub is_upgrade: bool,
}

impl Recipe {
    /// What helm is to render, where the recipe is a chart. The context has the files that [`Self::files`] asks for.
    pub fn chart(&self, context: &Context<'_>) -> Result<Option<ChartRequest>, Cause> {
        let Some(helm) = &self.helm else { return Ok(None) };
        let source = match (helm.folder(), &helm.version) {
            (Some(folder), _) => {
                let inside = |(path, content): (&String, &Vec<u8>)| {
                    Some((path.strip_prefix(&format!("{folder}/"))?.to_owned(), content.clone()))
                };
                ChartSource::Files(context.files.iter().filter_map(inside).collect())
            }
            (None, Some(version)) => ChartSource::Elsewhere {
                chart: helm.chart.as_str().to_owned(),
                repository: helm.repository.as_ref().map(|address| address.as_str().to_owned()),
                version: version.as_str().to_owned(),
            },
            (None, None) => return Err(self.source.refuse("helm.version", "must be set")),
        };
        let mut values = json!({});
        for path in &helm.values_files {
            let path = path.path();
            let text = context.files.get(path).and_then(|content| std::str::from_utf8(content).ok());
            let text = text.ok_or_else(|| self.source.refuse("helm.values_files", "names a file that is not text"))?;
            for documents::Document { mut value, source } in read(path, text)? {
                fill(&mut value, "", &source, context)?;
                overlay(&mut values, value);
            }
        }
        let mut own = Value::Object(helm.values.clone());
        fill(&mut own, "helm.values", &self.source, context)?;
        overlay(&mut values, own);
        Ok(Some(ChartRequest {
            source,
            namespace: context.namespace.clone(),
            values,
            api_versions: super::admission::api_versions(context),
            is_upgrade: context.charted.is_upgrade,
        }))
    }
}

/// As helm lays values over each other: mappings are merged, and null takes a value away.
fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// The objects that helm rendered, hooks in phases of their own.
pub(super) fn draft(recipe: &Recipe, context: &Context<'_>) -> Result<Draft, Cause> {
    let mut renders = Vec::new();
    for output in &context.charted.outputs {
        renders.push(read("the chart", output)?.into_iter().map(|document| document.value).collect::<Vec<_>>());
    }
    let mut renders = renders.into_iter();
    let mut objects = renders.next().unwrap_or_default();
    super::admission::admit_shapes(objects.iter())?;
    if let Some(again) = renders.next() {
        keep_what_is_made_up(&mut objects, &again, context);
    }
    if objects.is_empty() {
        return Err(Cause::ChartFailed { rule: "renders to nothing".to_owned() });
    }
    let current = if context.charted.is_upgrade { "upgrade" } else { "install" };
    let mut before = Vec::new();
    let mut after = Vec::new();
    let mut main = Vec::new();
    for object in objects.into_iter().map(Object::from_body) {
        match Hook::of(&object) {
            None => main.push(object),
            Some(hook) if hook.runs(&format!("pre-{current}")) => before.push((hook, object)),
            Some(hook) if hook.runs(&format!("post-{current}")) => after.push((hook, object)),
            // It is for another moment in a release's life, which environments do not have.
            Some(_) => {}
        }
    }
    let mut phases = phases_of(before, context);
    phases.push(main);
    phases.extend(phases_of(after, context));
    Ok(Draft { phases, backend: recipe.backend(context)? })
}

const HOOK_WEIGHT: &str = "helm.sh/hook-weight";

/// When an object is a hook.
struct Hook {
    moments: Vec<String>,
    weight: i64,
}

impl Hook {
    fn of(object: &Object) -> Option<Self> {
        let annotations = &object.body["metadata"]["annotations"];
        let moments = annotations[HOOK].as_str()?.split(',').map(|moment| moment.trim().to_owned()).collect();
        let weight = annotations[HOOK_WEIGHT].as_str().and_then(|weight| weight.parse().ok()).unwrap_or(0);
        Some(Self { moments, weight })
    }

    fn runs(&self, moment: &str) -> bool {
        self.moments.iter().any(|named| named == moment)
    }
}

/// One after the other, by weight and then by name: a phase ends with each Job.
fn phases_of(mut hooks: Vec<(Hook, Object)>, context: &Context<'_>) -> Vec<Vec<Object>> {
    // What a Job uses comes before it.
    hooks.sort_by(|(one, first), (other, second)| {
        let key = |hook: &Hook, object: &Object| (hook.weight, object.kind == "Job", object.name.clone());
        key(one, first).cmp(&key(other, second))
    });
    let mut phases = vec![Vec::new()];
    for (_, mut object) in hooks {
        let is_job = object.kind == "Job";
        if is_job {
            object.run_anew_for(context.commit.as_str());
        }
        if let Some(phase) = phases.last_mut() {
            phase.push(object);
        }
        if is_job {
            phases.push(Vec::new());
        }
    }
    phases
}

/// What a chart makes up anew each time, such as a password, keeps the value that it has in the cluster: it would
/// otherwise change under the database that it opens. Annotations of pods that follow from it are made to follow from
/// what was kept.
fn keep_what_is_made_up(objects: &mut [Value], again: &[Value], context: &Context<'_>) {
    let key = |object: &Value| (object["kind"].clone(), object["metadata"]["name"].clone());
    let mut kept = Sha256::new();
    for object in objects.iter_mut().filter(|object| object["kind"] == "Secret") {
        let Some(other) = again.iter().find(|other| key(other) == key(object)) else { continue };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let there = context.charted.secrets.get(&name);
        for list in ["data", "stringData"] {
            let made_up: Vec<String> = differing(&object[list], &other[list]);
            for key in made_up {
                let value = there.and_then(|values| values.get(&key));
                if let (Some(value), Some(data)) = (value, object[list].as_object_mut()) {
                    data.remove(&key);
                    object["data"][&key] = json!(value);
                }
                kept.update(object[list][&key].to_string());
                kept.update(object["data"][&key].to_string());
            }
        }
    }
    let digest = hex::encode(kept.finalize());
    for object in objects.iter_mut() {
        let Some(other) = again.iter().find(|other| key(other) == key(object)) else { continue };
        let (mut mine, theirs) = (Object::from_body(object.clone()), Object::from_body(other.clone()));
        let Some((theirs, _)) = pods::template(&theirs) else { continue };
        let Some(template) = pods::template_mut(&mut mine) else { continue };
        let annotations = &mut template["metadata"]["annotations"];
        for key in differing(annotations, &theirs["metadata"]["annotations"]) {
            annotations[&key] = json!(digest);
        }
        *object = mine.body;
    }
}

/// The keys whose values differ.
fn differing(one: &Value, other: &Value) -> Vec<String> {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_else(Map::new);
    let other = entries(other);
    entries(one).into_iter().filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key).collect()
}

impl Helm {
    /// The chart's folder in the repository; None for charts of elsewhere.
    pub fn folder(&self) -> Option<&str> {
        if self.repository.is_some() {
            return None;
        }
        self.chart.as_str().strip_prefix("./").map(|folder| folder.trim_end_matches('/'))
    }
}
