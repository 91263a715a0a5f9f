//! What commits say is to run, and whether that ever does.

use std::fmt::Write;

use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use super::configuration::Configuration;

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
    /// Manifests of the repository's.
    Manifests { set: Option<Image>, job: Option<Image> },
}

impl Plan {
    /// One container, as what nobody thought about has it.
    pub fn plain() -> Self {
        let beside = Beside::App { worker: None, has_database: false, seed: None, setup: None };
        Self { image: Image::Good, cpu: None, has_volume: false, beside }
    }

    pub fn draw(rng: &mut StdRng) -> Self {
        // One of its parts may be broken, or slow enough to outlast what others are kept for.
        let image = Image::draw(rng, 0.2);
        let mut part = |often: f64| rng.random_bool(often).then(|| Image::draw(rng, 0.12));
        let (one, other) = (part(0.35), part(0.35));
        let is_slow = rng.random_bool(0.06);
        let beside = if rng.random_bool(0.65) {
            Beside::App {
                worker: if rng.random_bool(0.5) { one } else { None },
                has_database: rng.random_bool(0.2),
                // What is done once is not done again, so that a broken one would fail only in some histories.
                seed: rng.random_bool(0.15).then_some(Image::Good),
                setup: other,
            }
        } else {
            Beside::Manifests { set: one, job: other }
        };
        Self {
            image: if is_slow && image == Image::Good { Image::Slower } else { image },
            cpu: [None, None, Some(60), Some(120)][rng.random_range(0..4)],
            has_volume: rng.random_bool(0.35),
            beside,
        }
    }

    fn parts(&self) -> impl Iterator<Item = Image> {
        let beside = match self.beside {
            Beside::App { worker, has_database: _, seed, setup } => [worker, seed, setup],
            Beside::Manifests { set, job } => [set, job, None],
        };
        beside.into_iter().flatten().chain([self.image])
    }

    /// Whether it ever runs, in this installation.
    pub fn runs(&self, configuration: &Configuration) -> bool {
        let is_named = matches!(self.beside, Beside::App { .. });
        self.parts().all(Image::works) && configuration.proves(is_named)
    }

    /// What makes pods that stay, by name.
    pub fn workloads(&self) -> Vec<&'static str> {
        match self.beside {
            Beside::App { worker, has_database, seed: _, setup: _ } => {
                let beside = [worker.map(|_| "worker"), has_database.then_some("db")];
                beside.into_iter().flatten().chain(["app"]).collect()
            }
            Beside::Manifests { set, job: _ } => set.map(|_| "store").into_iter().chain(["web"]).collect(),
        }
    }

    /// The claims that it keeps, by name.
    pub fn claims(&self) -> Vec<&'static str> {
        let (own, beside) = match self.beside {
            Beside::App { has_database, .. } => ("app-data", has_database.then_some("db")),
            Beside::Manifests { set, job: _ } => ("data", set.map(|_| "data-store-0")),
        };
        self.has_volume.then_some(own).into_iter().chain(beside).collect()
    }

    /// The files of a commit, by their paths.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        match &self.beside {
            Beside::App { worker, has_database, seed, setup } => {
                vec![(".preview.yaml", self.app(*worker, *has_database, *seed, *setup))]
            }
            Beside::Manifests { set, job } => {
                let recipe = "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: web, port: 80 }\n";
                vec![(".preview.yaml", recipe.to_owned()), ("k8s/all.yaml", self.manifests(*set, *job))]
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

    fn manifests(&self, set: Option<Image>, job: Option<Image>) -> String {
        let template = |name: &str, image: Image, more: Value| {
            let mut container = json!({
                "name": name, "image": image.reference(), "ports": [{ "name": "http", "containerPort": 8080 }],
            });
            let mut spec = json!({});
            if let Value::Object(more) = more {
                for (key, value) in more {
                    match key.as_str() {
                        "volumeMounts" => container[key] = value,
                        _ => spec[key] = value,
                    }
                }
            }
            if let Some(cpu) = self.cpu {
                container["resources"] = json!({ "limits": { "cpu": format!("{cpu}m"), "memory": "64Mi" } });
            }
            spec["containers"] = json!([container]);
            json!({ "metadata": { "labels": { "app": name } }, "spec": spec })
        };
        let selector = |name: &str| json!({ "matchLabels": { "app": name } });
        let claim = json!({
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "16Mi" } },
        });
        let mount = json!([{ "name": "data", "mountPath": "/data" }]);
        let mut web = json!({});
        let mut objects = Vec::new();
        if self.has_volume {
            let volumes = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
            web = json!({ "volumeMounts": mount, "volumes": volumes });
            objects.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data" }, "spec": claim,
            }));
        }
        let strategy = if self.has_volume { "Recreate" } else { "RollingUpdate" };
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": {
                "selector": selector("web"), "strategy": { "type": strategy }, "template": template("web", self.image, web),
            },
        }));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
        }));
        if let Some(set) = set {
            let templates = json!([{ "metadata": { "name": "data" }, "spec": claim }]);
            objects.push(json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "store" },
                "spec": {
                    "serviceName": "store", "selector": selector("store"), "volumeClaimTemplates": templates,
                    "template": template("store", set, json!({ "volumeMounts": mount })),
                },
            }));
        }
        if let Some(job) = job {
            objects.push(json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "prepare" },
                "spec": {
                    "backoffLimit": 0, "ttlSecondsAfterFinished": 0,
                    "template": template("prepare", job, json!({ "restartPolicy": "Never" })),
                },
            }));
        }
        json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
    }
}
