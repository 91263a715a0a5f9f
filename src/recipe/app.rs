//! The built-in recipe: the app behind the URL, other services and databases beside it, and tasks before it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Backend, Context, Draft, ONCE, Object, Recipe, Template, Variable,
    format::{APP, Database, DatabaseEngine, Resources, Service, Task, UserId},
    image::{is_image_reference, is_tag},
    mistakes::Findings,
    tags::is_pushed_anew,
    values::{HealthPath, ServiceName, VariableName},
    walls::OPERATORS_SECRET,
};
use crate::environment::{ATTEMPTS, Wait};

/// The name of a container's port.
const PORT: &str = "http";
/// The port of the app's Service.
const SERVICE_PORT: u32 = 80;

/// Pods get this long, in seconds, to end: long enough for open requests, short enough for a namespace to go quickly.
const TERMINATION_GRACE_SECONDS: u32 = 10;

/// Longer, in seconds, than all attempts of a round together, however patient previewd is: it decides when an application
/// was too slow, not the kubelet by restarting it half-way and not the Deployment.
const LONGER_THAN_ANY_ROUND_SECONDS: u32 = ATTEMPTS as u32 * Wait::LONGEST_SECONDS + 300;

/// The environment variables of all containers together, in bytes. Kubernetes' database takes 1.5 MiB for an object.
const LARGEST_ENVIRONMENT: usize = 256 * 1_024;

/// The group that owns volumes where the recipe names no user.
const VOLUME_GROUP: u32 = 65_532;

/// What the recipe asks for, in the order in which it starts.
pub(super) fn draft(recipe: &Recipe, app: &Service, context: &Context<'_>, findings: &mut Findings) -> Draft {
    let mut maker = Maker { recipe, context, findings };
    let mut databases = Vec::new();
    for (name, database) in &recipe.databases {
        databases.extend(maker.database(name, database));
    }
    let mut phases = vec![databases];
    if let Some(task) = &recipe.seed {
        let mut job = maker.task("seed", app, task);
        job.body["metadata"]["annotations"] = json!({ ONCE: "true" });
        phases.push(vec![job]);
    }
    if let Some(task) = &recipe.setup {
        let mut job = maker.task("setup", app, task);
        // A Job cannot be changed, and one that did its work is not to do it again: its name says what it does.
        let digest = hex::encode(Sha256::digest(job.body["spec"].to_string()));
        job.rename(format!("setup-{}", &digest[..8]));
        phases.push(vec![job]);
    }
    let mut services = maker.service(APP, "app", app);
    for (name, service) in &recipe.services {
        services.extend(maker.service(name.as_str(), &format!("services.{}", name.as_str()), service));
    }
    phases.push(services);
    let backend = Some(Backend { service: APP.to_owned(), port: SERVICE_PORT });
    Draft { phases, backend }
}

/// What objects are made from.
struct Maker<'a> {
    recipe: &'a Recipe,
    context: &'a Context<'a>,
    findings: &'a mut Findings,
}

/// What starts in a container, wherever the recipe says it.
struct Command<'a> {
    /// Where it stands in the recipe, dotted.
    field: &'a str,
    image: (&'a str, &'a Template),
    command: &'a Option<Vec<Template>>,
    args: &'a Option<Vec<Template>>,
    /// From the lowest to the one that counts.
    env: Vec<(&'a str, &'a BTreeMap<VariableName, Template>)>,
    resources: &'a Resources,
}

impl Maker<'_> {
    /// A Deployment, with a Service where it has a port and claims for its volumes.
    fn service(&mut self, name: &str, field: &str, service: &Service) -> Vec<Object> {
        let mut container = self.container(
            name,
            &Command {
                field,
                image: (&format!("{field}.image"), &service.image),
                command: &service.command,
                args: &service.args,
                env: vec![(field, &service.env)],
                resources: &service.resources,
            },
        );
        if let Some(port) = service.port {
            container["ports"] = json!([{ "name": PORT, "containerPort": port, "protocol": "TCP" }]);
            let health = service.health.clone().or_else(|| (name == APP).then(HealthPath::default));
            // Applications look at the host that they are asked for, and know theirs, not their pods' addresses.
            let host = json!([{ "name": "Host", "value": self.context.url.host() }]);
            let question = match health {
                Some(path) => {
                    json!({ "httpGet": { "path": path, "port": PORT, "scheme": "HTTP", "httpHeaders": host } })
                }
                None => json!({ "tcpSocket": { "port": PORT } }),
            };
            let probe = |times: Value| merged(&question, times);
            container["startupProbe"] = probe(json!({
                "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": LONGER_THAN_ANY_ROUND_SECONDS,
            }));
            container["readinessProbe"] =
                probe(json!({ "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3 }));
        }

        let mut objects = Vec::new();
        let mut volumes = Vec::new();
        for (path, size) in &service.volumes {
            let claim = format!("{name}{}", path.as_str().to_ascii_lowercase().replace(['/', '.', '_'], "-"));
            volumes.push((claim.clone(), path.as_str().to_owned()));
            objects.push(claim_of(&claim, &json!(size)));
        }
        let strategy = if volumes.is_empty() {
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } })
        } else {
            // Two pods do not write to one volume.
            json!({ "type": "Recreate" })
        };
        objects.push(deployment(name, service.replicas.get(), strategy, pod(container, service.run_as, &volumes)));
        if let Some(port) = service.port {
            let own = if name == APP { SERVICE_PORT } else { port.get() };
            objects.push(service_of(name, own));
        }
        objects
    }

    /// A Job, run once.
    fn task(&mut self, name: &str, app: &Service, task: &Task) -> Object {
        let image_field = if task.image.is_some() { format!("{name}.image") } else { "app.image".to_owned() };
        let container = self.container(
            name,
            &Command {
                field: name,
                image: (&image_field, task.image.as_ref().unwrap_or(&app.image)),
                command: &task.command,
                args: &task.args,
                env: vec![("app", &app.env), (name, &task.env)],
                resources: &task.resources,
            },
        );
        let mut spec = pod(container, task.run_as.or(app.run_as), &[]);
        spec["restartPolicy"] = json!("Never");
        Object::from_body(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name },
            // previewd has attempts of its own.
            "spec": { "backoffLimit": 0, "template": { "metadata": { "labels": selector(name) }, "spec": spec } },
        }))
    }

    /// A template of the recipe's as it is in this context. Where it breaks a rule there, that is found.
    fn text(&mut self, field: &str, template: &Template) -> String {
        let rendered = self.context.render(self.recipe, field, template);
        self.findings.take(rendered).unwrap_or_default()
    }

    fn container(&mut self, name: &str, command: &Command<'_>) -> Value {
        let (image_field, template) = command.image;
        let image = self.image(image_field, template);
        let is_own_build = self.context.builds(&image) || is_pushed_anew(template);
        let mut container = json!({
            "name": name,
            "imagePullPolicy": if is_own_build { "Always" } else { "IfNotPresent" },
            "image": image,
            "env": self.environment(command),
            "resources": resources(command.resources),
        });
        for (field, arguments) in [("command", command.command), ("args", command.args)] {
            if let Some(arguments) = arguments {
                container[field] = arguments
                    .iter()
                    .enumerate()
                    .map(|(index, argument)| {
                        let field = format!("{}.{field}[{index}]", command.field);
                        unexpanded(&self.text(&field, argument))
                    })
                    .collect();
            }
        }
        container
    }

    fn image(&mut self, field: &str, template: &Template) -> String {
        let image = self.text(field, template);
        // A fork's author names its branch: it may be in a tag, but must not choose another registry, image or digest.
        if template.uses(Variable::Branch) && !is_tag(self.context.branch) {
            let rule = "uses the branch, whose name may not stand in a tag; use {{ sha }} or {{ pull_request }}";
            self.findings.refuse(self.recipe.refuse(field, rule));
        } else if !is_image_reference(&image) {
            self.findings.refuse(self.recipe.refuse(field, "must be an image such as ghcr.io/acme/shop:{{ sha }}"));
        }
        image
    }

    /// The recipe's environment variables, and those of previewd and of the databases where it does not set them itself.
    fn environment(&mut self, command: &Command<'_>) -> Value {
        let context = self.context;
        let value = |text: String| json!({ "value": text });
        let mut variables = BTreeMap::from([
            ("PREVIEW_URL".to_owned(), value(context.url.as_str().to_owned())),
            ("PREVIEW_PULL_REQUEST".to_owned(), value(context.pull_request.to_string())),
        ]);
        // Like the label: it would restart pods that have nothing to do with the commit.
        if command.templates().any(Template::uses_commit) {
            variables.insert("PREVIEW_COMMIT".to_owned(), value(context.commit.to_string()));
        }
        for name in self.recipe.databases.keys() {
            for key in CREDENTIALS {
                let variable = format!("{}_{key}", name.as_str().to_ascii_uppercase().replace('-', "_"));
                variables.insert(variable, from_secret(name.as_str(), key));
            }
        }
        // Of a fork none: nobody else's commit gets near them.
        for name in self.recipe.secrets.iter().filter(|_| context.secrets.is_some()) {
            variables.insert(name.as_str().to_owned(), from_secret(OPERATORS_SECRET, name.as_str()));
        }
        for (field, env) in &command.env {
            for (name, template) in *env {
                let name = name.as_str();
                let text = self.text(&format!("{field}.env.{name}"), template);
                variables.insert(name.to_owned(), value(unexpanded(&text)));
            }
        }
        let size: usize = variables.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
        if size > LARGEST_ENVIRONMENT {
            let rule = format!("must be at most {} KiB with its variables filled in", LARGEST_ENVIRONMENT / 1_024);
            self.findings.refuse(self.recipe.refuse(&format!("{}.env", command.field), rule));
        }
        variables.into_iter().map(|(name, value)| merged(&json!({ "name": name }), value)).collect()
    }

    /// A database with its credentials, its volume and its Service.
    fn database(&self, name: &ServiceName, database: &Database) -> Vec<Object> {
        let name = name.as_str();
        // What is not there is refused by whoever renders; see `Context::passwords`.
        let password = self.context.passwords.get(name).map_or("", String::as_str);
        let Engine { scheme, port, account, base, user, folder, question } = engine(database.engine);
        let credentials = [
            ("URL", format!("{scheme}://{account}:{password}@{name}:{port}/{base}")),
            ("HOST", name.to_owned()),
            ("PORT", port.to_string()),
            ("USER", account.to_owned()),
            ("PASSWORD", password.to_owned()),
            ("DATABASE", base.to_owned()),
        ];
        let encoded: Map<String, Value> =
            credentials.into_iter().map(|(key, text)| (key.to_owned(), json!(BASE64.encode(text)))).collect();
        let mut objects = vec![Object::from_body(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name },
            "type": "Opaque",
            "data": encoded,
        }))];

        let images = &self.context.policy.database_images;
        let image = match database.engine {
            DatabaseEngine::Postgres => &images.postgres,
            DatabaseEngine::Redis => &images.redis,
        };
        let storage = match (database.engine, database.storage) {
            (_, Some(storage)) => Some(json!(storage)),
            (DatabaseEngine::Postgres, None) => Some(json!(DEFAULT_STORAGE)),
            (DatabaseEngine::Redis, None) => None,
        };
        let mut container = json!({
            "name": name,
            "image": format!("{image}:{}", database.version.as_str()),
            "imagePullPolicy": "IfNotPresent",
            "ports": [{ "name": "database", "containerPort": port, "protocol": "TCP" }],
            "resources": resources(&database.resources),
            "readinessProbe": merged(
                &question, json!({ "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3 }),
            ),
        });
        match database.engine {
            DatabaseEngine::Postgres => {
                container["env"] = json!([
                    { "name": "POSTGRES_USER", "value": account },
                    { "name": "POSTGRES_DB", "value": base },
                    merged(&json!({ "name": "POSTGRES_PASSWORD" }), from_secret(name, "PASSWORD")),
                    // The volume's own folder may hold `lost+found`, which initdb refuses.
                    { "name": "PGDATA", "value": format!("{folder}/pgdata") },
                ]);
            }
            DatabaseEngine::Redis => {
                container["env"] = json!([merged(&json!({ "name": "PASSWORD" }), from_secret(name, "PASSWORD"))]);
                let mut args = vec!["redis-server", "--requirepass", "$(PASSWORD)"];
                args.extend(if storage.is_some() { ["--appendonly", "yes"] } else { ["--save", ""] });
                container["args"] = json!(args);
            }
        }
        let mut volumes = Vec::new();
        if let Some(storage) = storage {
            objects.push(claim_of(name, &storage));
            volumes.push((name.to_owned(), folder.to_owned()));
        }
        let mut spec = pod(container, None, &volumes);
        spec["securityContext"] = json!({ "runAsUser": user, "runAsGroup": user, "fsGroup": user });
        objects.push(deployment(name, 1, json!({ "type": "Recreate" }), spec));
        objects.push(service_of(name, port));
        objects
    }
}

/// The keys of a database's Secret, and the ends of its variables' names.
const CREDENTIALS: [&str; 6] = ["URL", "HOST", "PORT", "USER", "PASSWORD", "DATABASE"];
/// A database without a size of its own.
const DEFAULT_STORAGE: super::Bytes = super::Bytes::mebibytes(256);

/// What is known of an engine's official image.
struct Engine {
    scheme: &'static str,
    port: u32,
    /// Whose password it has, and the database that is theirs.
    account: &'static str,
    base: &'static str,
    /// Its user and group in the container, by number.
    user: u32,
    /// Where its volume is mounted.
    folder: &'static str,
    /// The probe's question.
    question: Value,
}

/// Source: the Dockerfiles of <https://github.com/docker-library/postgres> and <https://github.com/redis/docker-library-redis>.
fn engine(engine: DatabaseEngine) -> Engine {
    match engine {
        DatabaseEngine::Postgres => Engine {
            // What every library reads; SQLAlchemy takes no other since 1.4.
            scheme: "postgresql",
            port: 5432,
            account: "preview",
            base: "preview",
            user: 999,
            folder: "/var/lib/postgresql/data",
            // Over TCP: while the image sets it up, PostgreSQL listens on its socket only.
            question: json!({ "exec": { "command": ["pg_isready", "-h", "127.0.0.1"] } }),
        },
        DatabaseEngine::Redis => Engine {
            scheme: "redis",
            port: 6379,
            account: "default",
            base: "0",
            user: 999,
            folder: "/data",
            question: json!({ "tcpSocket": { "port": "database" } }),
        },
    }
}

impl<'a> Command<'a> {
    fn templates(&self) -> impl Iterator<Item = &'a Template> {
        let arguments = self.command.iter().chain(self.args).flatten();
        let env: Vec<_> = self.env.iter().flat_map(|(_, env)| env.values()).collect();
        [self.image.1].into_iter().chain(env).chain(arguments)
    }
}

fn selector(name: &str) -> Value {
    json!({ "app.kubernetes.io/name": name })
}

fn pod(container: Value, user: Option<UserId>, volumes: &[(String, String)]) -> Value {
    let mut security = json!({});
    if let Some(user) = user {
        security["runAsUser"] = json!(user);
        security["runAsGroup"] = json!(user);
    }
    let mut container = container;
    let mut spec = json!({
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
    });
    if !volumes.is_empty() {
        security["fsGroup"] = user.map_or(json!(VOLUME_GROUP), |user| json!(user));
        let volume =
            |(claim, _): &(String, String)| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } });
        let mount = |(claim, path): &(String, String)| json!({ "name": claim, "mountPath": path });
        spec["volumes"] = volumes.iter().map(volume).collect();
        container["volumeMounts"] = volumes.iter().map(mount).collect();
    }
    spec["securityContext"] = security;
    spec["containers"] = json!([container]);
    spec
}

fn deployment(name: &str, replicas: u32, strategy: Value, spec: Value) -> Object {
    Object::from_body(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "labels": selector(name) },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": LONGER_THAN_ANY_ROUND_SECONDS,
            "strategy": strategy,
            "selector": { "matchLabels": selector(name) },
            "template": { "metadata": { "labels": selector(name) }, "spec": spec },
        },
    }))
}

fn service_of(name: &str, port: u32) -> Object {
    let target = if port == SERVICE_PORT { json!(PORT) } else { json!(port) };
    Object::from_body(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "labels": selector(name) },
        "spec": {
            "type": "ClusterIP",
            "selector": selector(name),
            "ports": [{ "name": PORT, "protocol": "TCP", "port": port, "targetPort": target }],
        },
    }))
}

fn claim_of(name: &str, size: &Value) -> Object {
    Object::from_body(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
    }))
}

fn resources(resources: &Resources) -> Value {
    let mut amounts = json!({});
    if let Some(cpu) = resources.cpu {
        amounts["cpu"] = json!(cpu);
    }
    if let Some(memory) = resources.memory {
        amounts["memory"] = json!(memory);
    }
    json!({ "requests": amounts, "limits": amounts })
}

fn from_secret(name: &str, key: &str) -> Value {
    json!({ "valueFrom": { "secretKeyRef": { "name": name, "key": key } } })
}

fn merged(one: &Value, other: Value) -> Value {
    let mut merged = one.clone();
    if let (Value::Object(merged), Value::Object(other)) = (&mut merged, other) {
        merged.extend(other);
    }
    merged
}

/// `text` so that Kubernetes passes it on as it is. It would take `$(NAME)` for the value of another variable and `$$`
/// for `$`: a branch named `$(TOKEN)` would be shown as the token.
fn unexpanded(text: &str) -> String {
    text.replace('$', "$$")
}
