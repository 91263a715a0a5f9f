//! What commits say is to run, and whether that ever does.

use std::fmt::Write;

use previewd::recipe::{ChartRequest, ChartSource};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use super::configuration::{Configuration, Taste};

/// An image, by what its containers do (`kubernetes/pod.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    Good,
    Slow,
    Slower,
    Hang,
    Crash,
    NoPull,
    /// A webhook of the cluster's does not let it in.
    Denied,
}

impl Image {
    fn draw(rng: &mut StdRng, broken: f64) -> Self {
        if rng.random_bool(broken) {
            return [Self::Hang, Self::Crash, Self::NoPull, Self::Denied][rng.random_range(0..4)];
        }
        if rng.random_bool(0.15) { Self::Slow } else { Self::Good }
    }

    /// What the recipe of a commit says.
    fn reference(self) -> String {
        let name = match self {
            Self::Good => "good",
            Self::Slow => "slow",
            Self::Slower => "slower",
            Self::Hang => "hang",
            Self::Crash => "crash",
            Self::NoPull => "nopull",
            Self::Denied => "denied",
        };
        format!("registry.invalid/{name}:{{{{ sha }}}}")
    }

    fn works(self) -> bool {
        match self {
            Self::Good | Self::Slow | Self::Slower => true,
            Self::Hang | Self::Crash | Self::NoPull | Self::Denied => false,
        }
    }
}

/// What a commit says is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Of what the URL leads to.
    image: Image,
    /// In thousandths of a core. None: a share of the quota.
    cpu: Option<u64>,
    has_volume: bool,
    beside: Beside,
}

/// What there is besides.
#[derive(Debug, Clone, PartialEq)]
enum Beside {
    /// A recipe with an app.
    App { worker: Option<Image>, has_database: bool, seed: Option<Image>, setup: Option<Image> },
    /// A chart of the repository's, with hooks that come at its installation, at upgrades, and at both, before or after
    /// what it is made of.
    Chart { before: Option<Image>, after: Option<Image> },
    /// A recipe that nobody can read.
    Unreadable,
    /// Manifests of the repository's.
    Manifests { set: Option<Image>, job: Option<Image>, settings: Settings },
}

/// A ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settings {
    None,
    /// The manifests have it, and the application reads it.
    There,
    /// The application reads it all the same.
    LeftOut,
    /// The manifests have it as it was copied out of a cluster, with what that one called it.
    Copied,
}

impl Plan {
    /// One container, as what nobody thought about has it.
    pub fn plain() -> Self {
        let beside = Beside::App { worker: None, has_database: false, seed: None, setup: None };
        Self { image: Image::Good, cpu: None, has_volume: false, beside }
    }

    pub fn unreadable() -> Self {
        Self { beside: Beside::Unreadable, ..Self::plain() }
    }

    pub fn draw(rng: &mut StdRng, taste: Taste) -> Self {
        // One of its parts may be broken, or slow enough to outlast what others are kept for.
        let image = Image::draw(rng, if taste == Taste::Volumes { 0.4 } else { 0.2 });
        let mut part = |often: f64| rng.random_bool(often).then(|| Image::draw(rng, 0.12));
        let (one, other) = (part(0.35), part(0.35));
        let is_slow = rng.random_bool(0.06);
        let is_set = taste == Taste::Sets && rng.random_bool(0.8);
        let beside = if rng.random_bool(0.04) {
            Beside::Unreadable
        } else if taste == Taste::Settings {
            let settings = [Settings::There, Settings::There, Settings::LeftOut][rng.random_range(0..3)];
            Beside::Manifests { set: None, job: other, settings }
        } else if is_set {
            Beside::Manifests { set: Some(Image::draw(rng, 0.4)), job: None, settings: Settings::None }
        } else if rng.random_bool(if taste == Taste::Charts { 0.8 } else { 0.2 }) {
            Beside::Chart { before: one, after: other }
        } else if rng.random_bool(0.65) {
            Beside::App {
                worker: if rng.random_bool(0.5) { one } else { None },
                has_database: rng.random_bool(0.2),
                // What is done once is not done again, so that a broken one would fail only in some histories.
                seed: rng.random_bool(0.15).then_some(Image::Good),
                setup: other,
            }
        } else {
            let settings = match rng.random_range(0..12) {
                0..6 => Settings::None,
                6..10 => Settings::There,
                10 => Settings::LeftOut,
                _ => Settings::Copied,
            };
            Beside::Manifests { set: one, job: other, settings }
        };
        Self {
            image: if is_slow && image == Image::Good { Image::Slower } else { image },
            cpu: [None, None, Some(60), Some(120)][rng.random_range(0..4)],
            has_volume: rng.random_bool(if taste == Taste::Volumes { 0.6 } else { 0.35 }),
            beside,
        }
    }

    /// The same, with all its parts in order.
    pub fn mended(&self) -> Self {
        let mut plan = self.clone();
        match &mut plan.beside {
            Beside::Unreadable => return Self::plain(),
            Beside::Manifests { settings: left_out @ Settings::LeftOut, .. } => *left_out = Settings::There,
            Beside::App { .. } | Beside::Chart { .. } | Beside::Manifests { .. } => {}
        }
        plan.parts_mut().filter(|image| !image.works()).for_each(|image| *image = Image::Good);
        plan
    }

    /// The same, with one of its parts broken or, of what it reads, left out. Its volume may be left out as well.
    pub fn broken(&self, rng: &mut StdRng) -> Self {
        let mut plan = self.clone();
        plan.has_volume &= rng.random_bool(0.6);
        if let Beside::Manifests { settings: there @ Settings::There, .. } = &mut plan.beside
            && rng.random_bool(0.5)
        {
            *there = Settings::LeftOut;
            return plan;
        }
        let choice = rng.random_range(0..plan.parts_mut().count());
        let breaks = [Image::Hang, Image::Crash, Image::NoPull, Image::Denied][rng.random_range(0..4)];
        plan.parts_mut().skip(choice).take(1).for_each(|image| *image = breaks);
        plan
    }

    /// All but what is done once, and is not done again with what comes after.
    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Image> {
        let beside = match &mut self.beside {
            Beside::App { worker: one, setup: other, has_database: _, seed: _ }
            | Beside::Manifests { set: one, job: other, settings: _ }
            | Beside::Chart { before: one, after: other } => [one.as_mut(), other.as_mut()],
            Beside::Unreadable => [None, None],
        };
        beside.into_iter().flatten().chain([&mut self.image])
    }

    fn parts(&self) -> impl Iterator<Item = Image> {
        let beside = match self.beside {
            Beside::App { worker, has_database: _, seed, setup } => [worker, seed, setup],
            Beside::Manifests { set, job, settings: _ } => [set, job, None],
            Beside::Chart { before, after } => [before, after, None],
            Beside::Unreadable => [None; 3],
        };
        beside.into_iter().flatten().chain([self.image])
    }

    /// Whether it ever runs, in this installation.
    pub fn runs(&self, configuration: &Configuration) -> bool {
        let is_named = matches!(self.beside, Beside::App { .. });
        let is_whole = match self.beside {
            Beside::Manifests { settings, .. } => settings != Settings::LeftOut,
            Beside::Unreadable => false,
            Beside::App { .. } | Beside::Chart { .. } => true,
        };
        is_whole && self.parts().all(Image::works) && configuration.proves(is_named)
    }

    /// What makes pods that stay, by name.
    pub fn workloads(&self) -> Vec<&'static str> {
        match self.beside {
            Beside::App { worker, has_database, seed: _, setup: _ } => {
                let beside = [worker.map(|_| "worker"), has_database.then_some("db")];
                beside.into_iter().flatten().chain(["app"]).collect()
            }
            Beside::Manifests { set, .. } => set.map(|_| "store").into_iter().chain(["web"]).collect(),
            Beside::Chart { .. } => vec!["web"],
            Beside::Unreadable => Vec::new(),
        }
    }

    /// Whether its hooks say what came before it.
    pub fn is_chart(&self) -> bool {
        matches!(self.beside, Beside::Chart { .. })
    }

    /// The claims that it keeps, by name.
    pub fn claims(&self) -> Vec<&'static str> {
        let (own, beside) = match self.beside {
            Beside::App { has_database, .. } => ("app-data", has_database.then_some("db")),
            Beside::Manifests { set, .. } => ("data", set.map(|_| "data-store-0")),
            Beside::Chart { .. } => ("data", None),
            Beside::Unreadable => return Vec::new(),
        };
        self.has_volume.then_some(own).into_iter().chain(beside).collect()
    }

    /// The files of a commit, by their paths.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        match &self.beside {
            Beside::Unreadable => vec![(".preview.yaml", "version: [".to_owned())],
            Beside::Chart { before, after } => {
                let recipe = "version: 1\nhelm: { chart: ./chart, values: { tag: '{{ sha }}' } }\n\
                              expose: { service: web, port: 80 }\n";
                vec![
                    (".preview.yaml", recipe.to_owned()),
                    ("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n".to_owned()),
                    (TEMPLATE, self.chart(*before, *after)),
                ]
            }
            Beside::App { worker, has_database, seed, setup } => {
                vec![(".preview.yaml", self.app(*worker, *has_database, *seed, *setup))]
            }
            Beside::Manifests { set, job, settings } => {
                let recipe = "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: web, port: 80 }\n";
                vec![(".preview.yaml", recipe.to_owned()), ("k8s/all.yaml", self.manifests(*set, *job, *settings))]
            }
        }
    }

    fn app(&self, worker: Option<Image>, has_database: bool, seed: Option<Image>, setup: Option<Image>) -> String {
        let mut text = format!("version: 1\napp:\n  image: {}\n  port: 8080\n", self.image.reference());
        let mut add = |line: String| writeln!(text, "{line}").expect("texts take what they get");
        if let Some(cpu) = self.cpu {
            add(format!("  resources: {{ cpu: {cpu}m, memory: 64Mi }}"));
        }
        if self.has_volume {
            add("  volumes: { /data: 16Mi }".to_owned());
        }
        if let Some(worker) = worker {
            add(format!("services:\n  worker:\n    image: {}", worker.reference()));
        }
        if has_database {
            add("databases:\n  db: { engine: postgres, version: '17' }".to_owned());
        }
        for (name, task) in [("seed", seed), ("setup", setup)] {
            if let Some(task) = task {
                add(format!("{name}:\n  image: {}\n  command: [prepare]", task.reference()));
            }
        }
        text
    }

    fn manifests(&self, set: Option<Image>, job: Option<Image>, settings: Settings) -> String {
        let mut objects = self.web(settings);
        if matches!(settings, Settings::There | Settings::Copied) {
            let value = if self.has_volume { "kept" } else { "lost" };
            let mut map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "MODE": value },
            });
            if settings == Settings::Copied {
                map["metadata"]["uid"] = json!("5f4c3a80-0000-4000-8000-000000000000");
            }
            objects.push(map);
        }
        if let Some(set) = set {
            let templates = json!([{ "metadata": { "name": "data" }, "spec": claim() }]);
            objects.push(json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "store" },
                "spec": {
                    "serviceName": "store", "selector": selector("store"), "volumeClaimTemplates": templates,
                    "template": self.template("store", set, json!({ "volumeMounts": mount() })),
                },
            }));
        }
        if let Some(job) = job {
            let mut job = self.job("prepare", job);
            job["spec"]["ttlSecondsAfterFinished"] = json!(0);
            objects.push(job);
        }
        json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
    }

    /// What the one template of a chart says.
    fn chart(&self, before: Option<Image>, after: Option<Image>) -> String {
        let hook = |name: &str, image: Image, events: &str| {
            let mut job = self.job(name, image);
            job["metadata"]["annotations"] = json!({ "helm.sh/hook": events });
            job
        };
        let mut objects = self.web(Settings::None);
        objects.push(hook(INSTALLS, Image::Good, "pre-install"));
        objects.push(hook("upgrades", Image::Good, "pre-upgrade"));
        objects.extend(before.map(|image| hook("before", image, "pre-install,pre-upgrade")));
        objects.extend(after.map(|image| hook("after", image, "post-install,post-upgrade")));
        // What never runs for a pull request.
        objects.push(hook("removes", Image::Crash, "pre-delete"));
        objects.push(hook("tests", Image::Crash, "test"));
        let documents = objects.iter().map(|object| format!("---\n{object}\n"));
        documents.collect()
    }

    fn job(&self, name: &str, image: Image) -> Value {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
            "spec": { "backoffLimit": 0, "template": self.template(name, image, json!({ "restartPolicy": "Never" })) },
        })
    }

    fn template(&self, name: &str, image: Image, more: Value) -> Value {
        let mut container = json!({
            "name": name, "image": image.reference(), "ports": [{ "name": "http", "containerPort": 8080 }],
        });
        let mut spec = json!({});
        if let Value::Object(more) = more {
            for (key, value) in more {
                match key.as_str() {
                    "envFrom" | "volumeMounts" => container[key] = value,
                    _ => spec[key] = value,
                }
            }
        }
        if let Some(cpu) = self.cpu {
            container["resources"] = json!({ "limits": { "cpu": format!("{cpu}m"), "memory": "64Mi" } });
        }
        spec["containers"] = json!([container]);
        json!({ "metadata": { "labels": { "app": name } }, "spec": spec })
    }

    /// What the URL leads to, and its volume.
    fn web(&self, settings: Settings) -> Vec<Value> {
        let mut web = json!({});
        let mut objects = Vec::new();
        if settings != Settings::None {
            web["envFrom"] = json!([{ "configMapRef": { "name": "settings" } }]);
        }
        if self.has_volume {
            web["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
            web["volumeMounts"] = mount();
            objects.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data" }, "spec": claim(),
            }));
        }
        let strategy = if self.has_volume { "Recreate" } else { "RollingUpdate" };
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": {
                "selector": selector("web"), "strategy": { "type": strategy }, "template": self.template("web", self.image, web),
            },
        }));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
        }));
        objects
    }
}

fn selector(name: &str) -> Value {
    json!({ "matchLabels": { "app": name } })
}

fn claim() -> Value {
    json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "16Mi" } } })
}

fn mount() -> Value {
    json!([{ "name": "data", "mountPath": "/data" }])
}

/// The one template of a chart.
const TEMPLATE: &str = "chart/templates/all.yaml";
/// The hook that comes once in each namespace, before anything else of its charts.
pub const INSTALLS: &str = "installs";

/// What helm renders of a story's charts, which have one template and one value.
pub fn chart(request: &ChartRequest) -> String {
    let ChartSource::Files(files) = &request.source else { panic!("no story has charts of elsewhere") };
    let path = TEMPLATE.trim_start_matches("chart/");
    let template = files.get(path).unwrap_or_else(|| panic!("{path} is not among {:?}", files.keys()));
    let tag = request.values["tag"].as_str().expect("the recipe says which");
    String::from_utf8_lossy(template).replace("{{ sha }}", tag)
}
