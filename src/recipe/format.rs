//! What `.preview.yaml` may say. Every value is of a type that only takes valid ones, so that a rule is written once, and
//! the JSON schema comes from the same types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    Bytes, Millicores, Template,
    outline::Source,
    values::{
        Bounded, ChartName, ChartRepository, ChartVersion, FilePattern, FolderPath, HealthPath, ImageTag, ServiceName,
        VariableName,
    },
};
use crate::environment::{Cause, Lifespan, ReportTo, TriggerSettings, sleep_after};

/// What to run for every pull request of a repository: the file `.preview.yaml` at its root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = ".preview.yaml")]
pub struct Recipe {
    /// The version of this format. There is only 1.
    pub version: Bounded<1, 1>,
    /// Which pull requests get a preview. What is left out is the operator's to say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub triggers: TriggerSettings,
    /// How long after its last commit or use an environment goes, such as `72h`, or `never`. The operator may set a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Lifespan>,
    /// How long after its last use an environment sleeps, such as `8h`, a minute at least, or `never`. A retry wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "sleep_after")]
    pub sleep_after: Option<Lifespan>,
    /// How the pull request is told of its preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportTo>,
    /// Names of secrets that the operator gives this repository. Each is a variable of every container, and a key of the
    /// Secret `preview-secrets`. Commits of forks get none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<VariableName>,
    /// What the URL leads to: one container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("required" = ["port"], "properties" = { "port": { "type": "integer" } }))]
    pub app: Option<Service>,
    /// Other containers beside the app, which reaches them by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, Service>,
    /// Databases beside the app. Their rows stay from commit to commit. Each gives every container `<NAME>_URL`,
    /// `<NAME>_HOST`, `<NAME>_PORT`, `<NAME>_USER`, `<NAME>_PASSWORD` and `<NAME>_DATABASE`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<ServiceName, Database>,
    /// Runs to its end once the databases are there, before anything else of a commit starts: migrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Task>,
    /// Runs to its end once in the life of an environment, before `setup`: data to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Task>,
    /// Kubernetes objects instead of `app`: YAML files of the repository, such as `k8s/*.yaml`. Text in them may use
    /// variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<FilePattern>>,
    /// A Helm chart instead of `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<Helm>,
    /// The Service of a chart or of manifests that the URL leads to. Without it they must bring a route for `{{ host }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,
    /// Where the values stand in the file, for what only shows when they are rendered.
    #[serde(skip)]
    pub(super) source: Source,
}

/// What a recipe deploys. There is one of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    App(&'a Service),
    Manifests,
    Helm,
}

impl Recipe {
    /// None: it was not parsed.
    pub(super) fn content(&self) -> Option<Content<'_>> {
        match (&self.app, &self.manifests, &self.helm) {
            (Some(app), _, _) => Some(Content::App(app)),
            (None, Some(_), _) => Some(Content::Manifests),
            (None, None, Some(_)) => Some(Content::Helm),
            (None, None, None) => None,
        }
    }

    /// The path that says whether what the URL leads to is ready. None where the recipe names none.
    pub fn health(&self) -> Option<&str> {
        match (&self.app, &self.expose) {
            (Some(app), _) => Some(app.health.as_ref().map_or("/", HealthPath::as_str)),
            (None, expose) => expose.as_ref()?.health.as_ref().map(HealthPath::as_str),
        }
    }

    /// What the types alone cannot say: the fields that break a rule, each with the rule.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let mut broken = Vec::new();
        let mut refuse = |field: &str, rule: &str| broken.push((field.to_owned(), rule.to_owned()));
        let kinds = [self.app.is_some(), self.manifests.is_some(), self.helm.is_some()];
        match kinds.into_iter().filter(|is_there| *is_there).count() {
            0 => refuse("app", "must be set, or manifests, or helm"),
            1 => {}
            _ => refuse("the recipe", "must have one of app, manifests and helm, not several"),
        }
        if let Some(app) = &self.app {
            if app.port.is_none() {
                refuse("app.port", "must be set");
            }
            if self.expose.is_some() {
                refuse("expose", "is for manifests and helm; the URL leads to the app");
            }
        } else {
            let beside = [
                ("services", !self.services.is_empty()),
                ("databases", !self.databases.is_empty()),
                ("setup", self.setup.is_some()),
                ("seed", self.seed.is_some()),
            ];
            for (field, _) in beside.into_iter().filter(|(_, is_there)| *is_there) {
                refuse(field, "is only there beside app");
            }
        }
        if let Some(expose) = &self.expose
            && expose.service.is_some() != expose.port.is_some()
        {
            refuse(if expose.port.is_some() { "expose.service" } else { "expose.port" }, "must be set");
        }
        if let Some(helm) = &self.helm {
            let is_elsewhere = helm.folder().is_none();
            if is_elsewhere && helm.version.is_none() {
                refuse("helm.version", "must be set for a chart that is not of this repository");
            }
            if is_elsewhere && helm.repository.is_none() && !helm.chart.as_str().starts_with("oci://") {
                refuse("helm.chart", "must begin with ./ where it is a folder of this repository");
            }
            if helm.repository.is_some() && helm.chart.as_str().contains('/') {
                refuse("helm.chart", "must be a chart's name where there is a repository");
            }
        }
        for (kind, names) in
            [("services", self.services.keys().collect::<Vec<_>>()), ("databases", self.databases.keys().collect())]
        {
            for name in names {
                let field = format!("{kind}.{}", name.as_str());
                if name.as_str() == APP {
                    refuse(&field, "must have another name: app is the app's");
                }
                if kind == "databases" && self.services.contains_key(name) {
                    refuse(&field, "must have another name: a service has this one");
                }
            }
        }
        broken
    }

    /// The cause that a field breaks a rule.
    pub(super) fn refuse(&self, field: &str, rule: impl Into<String>) -> Cause {
        self.source.refuse(field, rule)
    }
}

/// The name of the app's container and of its objects.
pub(super) const APP: &str = "app";

fn is_default(settings: &TriggerSettings) -> bool {
    *settings == TriggerSettings::default()
}

/// One container, in as many pods as it is to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The image to run, such as `ghcr.io/acme/shop:{{ sha }}`.
    pub image: Template,
    /// The port on which it answers: HTTP, for the app. Others reach it at this port, and at 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Bounded<1, 65_535>>,
    /// The path that answers 200 to 399 once it is ready; the app's is `/` where it is left out. A service without one
    /// is ready once its port takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_some")]
    pub health: Option<HealthPath>,
    /// Environment variables. Their values are passed on as they are: Kubernetes' `$(NAME)` is not expanded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<VariableName, Template>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Template>>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Template>>,
    /// How many pods run it.
    #[serde(default)]
    pub replicas: Bounded<1, 10>,
    /// What each pod may use. What is left out is a share of the environment's quota.
    #[serde(default)]
    pub resources: Resources,
    /// The numeric user that runs it, where the image does not name one other than root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<UserId>,
    /// Folders that outlive its pods, each with its size. They go with the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<FolderPath, Bytes>,
}

/// The numeric id of a user that is not root.
pub type UserId = Bounded<1, 2_147_483_647>;

/// A database, made by previewd, with a user and a password of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub engine: DatabaseEngine,
    /// The tag of the engine's official image, such as `16`.
    pub version: ImageTag,
    /// How large its volume is. The default is 256Mi for PostgreSQL; Redis keeps everything in memory without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Bytes>,
    /// What it may use. What is left out is a share of the environment's quota.
    #[serde(default)]
    pub resources: Resources,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseEngine {
    Postgres,
    Redis,
}

/// One container that runs to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The app's image where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Template>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Template>>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Template>>,
    /// Environment variables, besides those of the app.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<VariableName, Template>,
    /// What its pod may use. What is left out is a share of the environment's quota.
    #[serde(default)]
    pub resources: Resources,
    /// The numeric user that runs it; the app's where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<UserId>,
}

/// A Helm chart, and what it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Helm {
    /// A folder of the repository such as `./chart`, or `oci://registry/chart`, or a chart's name in `repository`.
    pub chart: ChartName,
    /// The chart repository that a chart's name is looked up in, such as `https://charts.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<ChartRepository>,
    /// The version of a chart that is not of this repository, or a range of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ChartVersion>,
    /// Values files of the repository, later ones over earlier ones. They may use variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<FilePattern>,
    /// Values, over those of the files. Text in them may use variables.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub values: serde_json::Map<String, serde_json::Value>,
}

/// What the URL leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = { "service": ["port"], "port": ["service"] }))]
pub struct Expose {
    /// The name of a Service; it may use variables. Left out where an Ingress or HTTPRoute leads to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Template>,
    /// The Service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Bounded<1, 65_535>>,
    /// The path that answers 200 to 399 once it runs. Left out, it is `/`, or else the first path that a route has.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_some")]
    pub health: Option<HealthPath>,
}

/// What one pod may use, as its requests and its limits at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU, such as 250m or 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_usable_cpu")]
    pub cpu: Option<Millicores>,
    /// Memory, such as 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_usable_memory")]
    pub memory: Option<Bytes>,
}

/// A field that may be left out, and says something where it is there.
fn deserialize_some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// No process starts in less, and `128m`, a tenth of a byte, is a common slip for `128Mi`.
const LEAST_MEMORY: Bytes = Bytes::mebibytes(4);

fn deserialize_usable_cpu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millicores>, D::Error> {
    match Millicores::deserialize(deserializer)? {
        Millicores(0) => Err(de::Error::custom("must be more than 0")),
        cpu => Ok(Some(cpu)),
    }
}

fn deserialize_usable_memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let memory = Bytes::deserialize(deserializer)?;
    if memory < LEAST_MEMORY {
        return Err(de::Error::custom(format_args!("must be at least {LEAST_MEMORY}")));
    }
    Ok(Some(memory))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Editors check a recipe by the schema before previewd sees it: the two must not disagree.
    #[test]
    fn the_schema_takes_what_the_parser_takes() {
        let schema = schemars::schema_for!(Recipe).to_value();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let example: Value = serde_saphyr::from_str(include_str!("../../examples/app.preview.yaml")).expect("YAML");
        assert!(validator.is_valid(&example));

        for (field, values) in [
            ("image", vec![json!("shop"), json!([]), json!(null), json!("a".repeat(5_000))]),
            ("port", vec![json!(1), json!(65_535), json!(0), json!(65_536), json!("80"), json!(1.5), json!(null)]),
            ("health", vec![json!("/a"), json!("a"), json!("/a b"), json!(1)]),
            (
                "env",
                vec![json!({ "A_1": "x" }), json!({ "1A": "x" }), json!({ "A-B": "x" }), json!({ "A": [] }), json!([])],
            ),
            ("command", vec![json!(["a"]), json!("a")]),
            ("args", vec![json!([]), json!([[]])]),
            ("replicas", vec![json!(10), json!(0), json!(11)]),
            (
                "resources",
                vec![json!({}), json!({ "cpu": 1, "memory": "1Gi" }), json!({ "cpu": "1 core" }), json!({ "disk": 1 })],
            ),
            ("run_as", vec![json!(1_000), json!(0)]),
            (
                "volumes",
                vec![json!([]), json!({ "/data": "1Gi" }), json!({ "data": "1Gi" }), json!({ "/a/../b": "1Gi" })],
            ),
        ] {
            for value in values {
                let mut recipe = json!({ "version": 1, "app": { "image": "shop", "port": 80 } });
                recipe["app"][field] = value;
                let is_taken = Recipe::parse(".preview.yaml", &recipe.to_string()).is_ok();
                assert_eq!(validator.is_valid(&recipe), is_taken, "{recipe}");
            }
        }
    }
}
