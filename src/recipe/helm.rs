//! Charts: what helm is given, and what is made of what it renders.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Context, Draft, Files, Helm, Object, Recipe,
    documents::{self, OtherBraces, fill, objects_in, read},
    hooks::{self, Sorted},
    mistakes::{Findings, Mistakes},
    pods,
};
use crate::environment::{Cause, Namespace};

/// What helm is to render.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartRequest {
    pub source: ChartSource,
    pub namespace: Namespace,
    pub values: Value,
    /// What the chart may find in the cluster, as `group/version` and `group/version/Kind`: what an environment may hold.
    pub api_versions: Vec<String>,
    /// A chart of another commit ran before.
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
    /// A chart of another commit ran before.
    pub is_upgrade: bool,
}

impl Recipe {
    /// What helm is to render, where the recipe is a chart. The context has the files that [`Self::files`] and
    /// [`Self::folders`] ask for.
    ///
    /// # Errors
    /// What is wrong with its values.
    pub fn chart(&self, context: &Context<'_>) -> Result<Option<ChartRequest>, Mistakes> {
        let Some(helm) = &self.helm else { return Ok(None) };
        let mut findings = Findings::default();
        let source = match (helm.folder(), &helm.version) {
            (Some(folder), _) => ChartSource::Files(self.chart_files(context.files, folder)?),
            (None, Some(version)) => ChartSource::Elsewhere {
                chart: helm.chart.as_str().to_owned(),
                repository: helm.repository.as_ref().map(|address| address.as_str().to_owned()),
                version: version.as_str().to_owned(),
            },
            (None, None) => return Err(self.source.refuse("helm.version", "must be set").into()),
        };
        let mut values = json!({});
        for path in &helm.values_files {
            let path = path.path();
            let text = context.files.get(path).and_then(|content| std::str::from_utf8(content).ok());
            let Some(text) = text else {
                findings.refuse(self.source.refuse("helm.values_files", "names a file that is not text"));
                continue;
            };
            // Of keys that are there twice the last counts, as with helm.
            for documents::Document { mut value, source, doubles: _ } in read(path, text, &mut findings) {
                fill(&mut value, "", OtherBraces::Text, &source, context, &mut findings);
                overlay(&mut values, value);
            }
        }
        let mut own = Value::Object(helm.values.clone());
        fill(&mut own, "helm.values", OtherBraces::Text, &self.source, context, &mut findings);
        overlay(&mut values, own);
        findings.into_notes()?;
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
pub(super) fn draft(recipe: &Recipe, context: &Context<'_>, findings: &mut Findings) -> Draft {
    let mut renders = Vec::new();
    for output in &context.charted.outputs {
        let documents = read("the chart", output, findings).into_iter();
        renders.push(documents.flat_map(|document| objects_in(document.value)).collect::<Vec<_>>());
    }
    let mut renders = renders.into_iter();
    let mut objects = renders.next().unwrap_or_default();
    let are_shaped = super::admission::admit_shapes(objects.iter(), findings);
    if let Some(again) = renders.next().filter(|_| are_shaped) {
        keep_what_is_made_up(&mut objects, &again, context);
    }
    let folder = recipe.helm.as_ref().and_then(Helm::folder);
    let files = folder.and_then(|folder| recipe.chart_files(context.files, folder).ok()).unwrap_or_default();
    if has_definitions(&files) {
        findings.note(LEFT_OUT.to_owned());
    }
    if objects.is_empty() && !findings.are_mistakes() {
        findings.refuse(Cause::ChartFailed { rule: "renders to nothing".to_owned() });
    }
    let current = if context.charted.is_upgrade { "upgrade" } else { "install" };
    let objects = objects.into_iter().map(Object::from_body).collect();
    let Sorted { before, main, after } = hooks::sort(objects, current);
    let commit = context.commit.as_str();
    let mut phases = hooks::phases_of(before, commit);
    phases.push(main);
    phases.extend(hooks::phases_of(after, commit));
    Draft { phases, backend: recipe.backend(context, findings) }
}

const LEFT_OUT: &str = "The chart's crds/ is left out: custom resource definitions are for the whole cluster, whose operators \
                        install them.";

/// Whether a chart with these files, or one in it, has something in the folder that helm installs for the whole cluster.
fn has_definitions(files: &Files) -> bool {
    files.keys().any(|path| {
        let mut inside = path.as_str();
        while let Some((_chart, rest)) = inside.strip_prefix("charts/").and_then(|inner| inner.split_once('/')) {
            inside = rest;
        }
        inside.starts_with("crds/")
    })
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
            // What is made up by itself has its pods made anew with each commit.
            if key.contains("checksum") || annotations[&key].as_str().is_some_and(is_digest) {
                annotations[&key] = json!(digest);
            }
        }
        *object = mine.body;
    }
}

/// Whether a text is what a chart writes to follow something else: a digest of it.
fn is_digest(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
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

#[cfg(test)]
mod tests {
    use super::super::{Policy, Render, render};
    use super::*;
    use crate::environment::{PublicUrl, RepositoryName};

    /// What becomes of a chart that renders to these outputs. `is_upgrade`: a commit ran before.
    fn rendered(outputs: &[&str], secrets: &[(&str, &str, &str)], is_upgrade: bool) -> Result<Render, Cause> {
        rendered_with("", &Files::new(), outputs, secrets, is_upgrade)
    }

    /// The same with this of the recipe beside the chart's folder, and these files.
    fn rendered_with(
        more: &str,
        files: &Files,
        outputs: &[&str],
        secrets: &[(&str, &str, &str)],
        is_upgrade: bool,
    ) -> Result<Render, Cause> {
        let recipe = format!("version: 1\nhelm: {{ chart: ./chart{more} }}\nexpose: {{ service: led-to, port: 80 }}\n");
        let recipe = Recipe::parse(".preview.yaml", &recipe)?;
        let repository: RepositoryName = "acme/shop".parse().expect("a repository");
        let namespace = Namespace::of_pull_request(42, &repository, 7);
        let secret = |(name, key, value): &(&str, &str, &str)| {
            ((*name).to_owned(), BTreeMap::from([((*key).to_owned(), (*value).to_owned())]))
        };
        let outputs = outputs.iter().map(|output| format!("{output}\n---\n{LED_TO}")).collect();
        let charted = Charted { outputs, secrets: secrets.iter().map(secret).collect(), is_upgrade };
        let context = Context {
            repository: &repository,
            pull_request: 7,
            commit: &"0123456789abcdef0123456789abcdef01234567".parse().expect("a commit"),
            branch: "main",
            namespace: &namespace,
            url: &PublicUrl::of(&namespace, &"preview.example.com".parse().expect("a domain")),
            environment_id: "0198c0de-0000-7000-8000-000000000007",
            installation_id: "0198c0de-0000-7000-8000-000000000001",
            policy: &Policy { has_router: true, ..Policy::default() },
            passwords: &BTreeMap::new(),
            secrets: None,
            registries: None,
            files,
            charted: &charted,
        };
        let mut render = render(&recipe, &context).map_err(|mistakes| mistakes.first().clone())?;
        // What a test is about is left.
        let is_led_to = |object: &Object| object.name == "led-to";
        let left = |phase: &&[Object]| phase.iter().filter(|object| !is_led_to(object)).count();
        let mut end = 0;
        render.phase_ends = render
            .phases()
            .iter()
            .map(|phase| {
                end += left(phase);
                end
            })
            .collect();
        render.objects.retain(|object| !is_led_to(object));
        Ok(render)
    }

    const LED_TO: &str = "{ apiVersion: v1, kind: Service, metadata: { name: led-to }, spec: { selector: { led: to }, ports: [{ port: 80 }] } }\n---\n\
         { apiVersion: apps/v1, kind: Deployment, metadata: { name: led-to }, spec: { selector: { matchLabels: { led: to } }, \
         template: { metadata: { labels: { led: to } }, spec: { containers: [{ name: a, image: a }] } } } }\n";

    #[test]
    fn what_is_for_the_whole_cluster_is_found_in_every_chart() {
        for (path, is_found) in [
            ("crds/table.yaml", true),
            ("charts/queue/crds/table.yaml", true),
            ("charts/queue/charts/base/crds/table.yaml", true),
            ("templates/crds/table.yaml", false),
            ("charts/crds/templates/table.yaml", false),
            ("crds.yaml", false),
        ] {
            assert_eq!(has_definitions(&Files::from([(path.to_owned(), Vec::new())])), is_found, "{path}");
        }
    }

    /// A chart puts names together from its values: those that are about images say which are the pull request's.
    #[test]
    fn images_of_the_pull_request_are_known_by_the_values_that_they_come_of() {
        let values = "web: { image: { name: acme/shop, tag: '{{ pull_request }}' } }\nhost: 'side.{{ namespace }}'\n\
                      tasks: { image: 'tasks:{{ pull_request }}-{{ sha }}' }\nqueueTag: 'q{{ pull_request }}'\n";
        let more = ", values_files: [values.yaml], values: { imageOfSide: '{{ branch }}/side', number: '{{ pull_request }}9' }";
        let files = Files::from([("values.yaml".to_owned(), values.as_bytes().to_vec())]);
        let images =
            ["ghcr.io/acme/shop:7", "ghcr.io/main/side:1", "queue:q7", "tasks:7-01234567", "redis:7", "redis:79"];
        let pods = images.map(|image| {
            let name = image.replace(['/', ':', '.'], "-");
            hook("Job", &name, "").replace("image: shop", &format!("image: '{image}'"))
        });
        let render = rendered_with(more, &files, &[&pods.concat()], &[], false).expect("a render");
        let own: Vec<&str> = render.own_images.iter().map(String::as_str).collect();
        assert_eq!(own, ["ghcr.io/acme/shop:7", "ghcr.io/main/side:1", "queue:q7"]);
    }

    fn names(objects: &[Object]) -> Vec<&str> {
        objects.iter().map(|object| object.name.as_str()).collect()
    }

    const KEY: &str = "{ apiVersion: v1, kind: Secret, metadata: { name: key }, stringData: { key: %1% } }\n---\n\
        { apiVersion: apps/v1, kind: Deployment, metadata: { name: web }, spec: { selector: { matchLabels: { a: b } }, \
        template: { metadata: { labels: { a: b }, annotations: { checksum/key: %2%, sum: %3%, rollme: %1% } }, \
        spec: { containers: [{ name: web, image: shop }] } } } }\n";

    #[test]
    fn what_is_made_up_stays_and_what_follows_from_it_follows() {
        let output = |word: &str, digit: &str| {
            KEY.replace("%1%", word).replace("%2%", word).replace("%3%", &format!("\"{}\"", digit.repeat(64)))
        };
        let rendered = |first: &str, again: &str, kept: &[(&str, &str, &str)]| {
            let outputs = [output(first, "a"), output(again, "b")];
            let render = rendered(&[&outputs[0], &outputs[1]], kept, true).expect("a render");
            let annotations = render.objects[1].body["spec"]["template"]["metadata"]["annotations"].clone();
            (render.objects[0].body.clone(), annotations)
        };
        let kept = [("key", "key", "a2VwdA==")];
        let (secret, annotations) = rendered("one", "two", &kept);
        assert_eq!((&secret["data"]["key"], &secret["stringData"]["key"]), (&json!("a2VwdA=="), &Value::Null));
        let (_, later) = rendered("three", "four", &kept);
        assert_eq!((&annotations["checksum/key"], &annotations["sum"]), (&later["checksum/key"], &later["sum"]));
        assert_eq!((&annotations["rollme"], &later["rollme"]), (&json!("one"), &json!("three")), "new pods each time");
        let (_, changed) = rendered("three", "four", &[("key", "key", "b3RoZXI=")]);
        assert_ne!(annotations["sum"], changed["sum"]);
    }

    fn hook(kind: &str, name: &str, annotations: &str) -> String {
        let (version, spec) = match kind {
            "Job" => (
                "batch/v1",
                "spec: { template: { spec: { restartPolicy: Never, containers: [{ name: a, image: shop }] } } }",
            ),
            _ => ("v1", "automountServiceAccountToken: false"),
        };
        format!(
            "{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: {name}, annotations: {{ {annotations} }} }}, {spec} }}\n---\n"
        )
    }

    #[test]
    fn hooks_have_phases_of_their_own() {
        let output = [
            hook("ServiceAccount", "shared", "helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: hook-succeeded"),
            hook("ServiceAccount", "shared", ""),
            hook("Job", "before", "helm.sh/hook: 'pre-upgrade,pre-install'"),
            hook("Job", "after", "helm.sh/hook: post-upgrade, helm.sh/hook-delete-policy: hook-succeeded"),
            hook("Job", "first", "helm.sh/hook: post-install"),
            hook("Job", "test", "helm.sh/hook: test"),
        ];
        let upgrade = rendered(&[&output.concat()], &[], true).expect("a render");
        let phases: Vec<Vec<&str>> = upgrade.phases().into_iter().map(names).collect();
        let expected: [&[&str]; 4] = [&["shared", "before"], &["shared"], &["after"], &[]];
        assert_eq!(phases, expected, "in the last one what was there for the hooks goes");
        let install = rendered(&[&output.concat()], &[], false).expect("a render");
        let phases: Vec<Vec<&str>> = install.phases().into_iter().map(names).collect();
        assert_eq!(phases, [vec!["before"], vec!["shared"], vec!["first"]]);
    }

    #[test]
    fn a_list_is_what_it_lists() {
        let list = |annotations: &str, name: &str| {
            format!(
                "{{ apiVersion: v1, kind: List, metadata: {{ annotations: {{ {annotations} }} }}, items: [{{ apiVersion: v1, \
                 kind: ServiceAccount, metadata: {{ name: {name} }} }}] }}\n---\n"
            )
        };
        let output = [list("", "web"), list("helm.sh/hook: pre-install", "first")].concat();
        let render = rendered(&[&output], &[], false).expect("a render");
        let phases: Vec<Vec<&str>> = render.phases().into_iter().map(names).collect();
        assert_eq!(phases, [vec!["first"], vec!["web"]]);
        let secrets = |word: &str| {
            format!(
                "{{ apiVersion: v1, kind: SecretList, items: [{{ metadata: {{ name: key }}, stringData: {{ key: {word} }} }}] }}"
            )
        };
        let kept = [("key", "key", "a2VwdA==")];
        let render = rendered(&[&secrets("one"), &secrets("two")], &kept, true).expect("a render");
        assert_eq!(render.objects[0].body["data"]["key"], "a2VwdA==", "what it makes up is kept");
    }

    #[test]
    fn what_is_waited_for_is_there_once() {
        let twice = [hook("Job", "work", "helm.sh/hook: pre-install"), hook("Job", "work", "")].concat();
        let refused = rendered(&[&twice], &[], false).expect_err("two Jobs");
        assert_eq!(refused.to_string(), "Job work was refused: there are two of this kind and name.");
        let same = hook("ServiceAccount", "account", "helm.sh/hook: pre-install").repeat(2);
        assert!(rendered(&[&same], &[], false).is_err(), "of one event");
    }
}
