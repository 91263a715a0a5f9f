//! The built-in recipe: one container behind one URL, as a Deployment, a Service and an Ingress.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    App, Bytes, Context, Millicores, Object, Quota, Recipe, Template, Variable,
    image::{is_image_reference, is_tag},
    walls,
};
use crate::environment::Cause;

/// The name of the container and of every object of the recipe: there is one of each kind in the namespace.
const NAME: &str = "app";

/// The name of the container's port.
const PORT: &str = "http";

/// kube-proxy writes its rules once a second at most, ingress controllers are as quick:
/// <https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/> (`minSyncPeriod`).
const DRAIN_SECONDS: i64 = 2;

/// Pods get this long, in seconds, to end: long enough for open requests, short enough for a namespace to go quickly.
const TERMINATION_GRACE_SECONDS: u32 = 10;

/// How long a pod must stay ready before it counts: one that answers its first probe and then runs out of memory or ends
/// would otherwise be called running, in whichever instant somebody looks.
const STAYS_READY_SECONDS: u32 = 3;
/// Longer, in seconds, than all attempts of a round together: previewd decides when an application was too slow, not the
/// kubelet by restarting it half-way and not the Deployment.
const LONGER_THAN_ANY_ROUND_SECONDS: u32 = 900;

/// The environment variables of all containers together, in bytes. Kubernetes' database takes 1.5 MiB for an object.
const LARGEST_ENVIRONMENT: usize = 256 * 1_024;

/// A Deployment needs its resources twice to put a new commit beside the old one.
const TIMES_FOR_SURGE: u32 = 2;

/// The objects, and the dry-run Pod of their only template.
pub(super) fn render(recipe: &Recipe, context: &Context<'_>) -> Result<(Vec<Object>, Vec<Object>), Cause> {
    let app = &recipe.app;
    let replicas = app.replicas.get();
    let quota = &context.policy.quota;
    let share = PodResources::of(app, quota);
    share.refuse_beyond(quota, replicas)?;

    let template = pod_template(recipe, context, &share)?;
    let objects = vec![
        deployment(context, replicas, share.fits(quota, replicas * TIMES_FOR_SURGE), &template),
        service(context),
        ingress(context),
    ];
    Ok((objects, vec![dry_run_pod(&template)]))
}

/// What one pod may use, as its requests and its limits at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PodResources {
    cpu: Millicores,
    memory: Bytes,
}

impl PodResources {
    /// What the recipe says; what it leaves out is an equal share of half of the quota, so that it fits twice. Never
    /// nothing: Kubernetes takes a limit of 0 for no limit.
    fn of(app: &App, quota: &Quota) -> Self {
        let shares = u64::from(app.replicas.get() * TIMES_FOR_SURGE);
        // Whole MiB are what people can read.
        let share_of_memory = Bytes::mebibytes(((quota.memory.0 / shares) >> 20).max(1));
        Self {
            cpu: app.resources.cpu.unwrap_or(Millicores((quota.cpu.0 / shares).max(1))),
            memory: app.resources.memory.unwrap_or(share_of_memory),
        }
    }

    fn refuse_beyond(self, quota: &Quota, pods: u32) -> Result<(), Cause> {
        let exceeded = |resource: &str, needed: String, allowed: String| {
            Err(Cause::QuotaExceeded { resource: resource.to_owned(), needed, allowed })
        };
        let (cpu, memory) = (self.cpu.times(pods), self.memory.times(pods));
        if cpu > quota.cpu {
            return exceeded("CPU", cpu.to_string(), quota.cpu.to_string());
        }
        if memory > quota.memory {
            return exceeded("memory", memory.to_string(), quota.memory.to_string());
        }
        if pods > quota.pods {
            return exceeded("pods", pods.to_string(), quota.pods.to_string());
        }
        Ok(())
    }

    fn fits(self, quota: &Quota, pods: u32) -> bool {
        self.refuse_beyond(quota, pods).is_ok()
    }

    fn to_json(self) -> Value {
        let amounts = json!({ "cpu": self.cpu, "memory": self.memory });
        json!({ "requests": amounts, "limits": amounts })
    }
}

fn labels(context: &Context<'_>) -> Value {
    let mut labels = walls::labels(context);
    labels["app.kubernetes.io/name"] = json!(NAME);
    labels
}

fn selector() -> Value {
    json!({ "app.kubernetes.io/name": NAME })
}

fn metadata(context: &Context<'_>) -> Value {
    json!({ "name": NAME, "labels": labels(context) })
}

fn deployment(context: &Context<'_>, replicas: u32, fits_twice: bool, template: &Value) -> Object {
    let strategy = if fits_twice {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } })
    } else {
        json!({ "type": "Recreate" })
    };
    Object::from_body(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(context),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "minReadySeconds": STAYS_READY_SECONDS,
            "progressDeadlineSeconds": LONGER_THAN_ANY_ROUND_SECONDS,
            "strategy": strategy,
            "selector": { "matchLabels": selector() },
            "template": template,
        },
    }))
}

fn service(context: &Context<'_>) -> Object {
    Object::from_body(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(context),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(),
            "ports": [{ "name": PORT, "protocol": "TCP", "port": 80, "targetPort": PORT }],
        },
    }))
}

fn ingress(context: &Context<'_>) -> Object {
    let policy = &context.policy.ingress;
    let host = context.url.host();
    let backend = json!({ "service": { "name": NAME, "port": { "name": PORT } } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": backend });

    let mut spec = json!({ "rules": [{ "host": host, "http": { "paths": [path] } }] });
    if let Some(class) = &policy.class {
        spec["ingressClassName"] = json!(class);
    }
    if context.url.as_str().starts_with("https://") {
        let mut tls = json!({ "hosts": [host] });
        if let Some(secret) = &policy.tls_secret {
            tls["secretName"] = json!(secret);
        }
        spec["tls"] = json!([tls]);
    }
    let mut metadata = metadata(context);
    if !policy.annotations.is_empty() {
        metadata["annotations"] = json!(policy.annotations);
    }
    Object::from_body(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": spec,
    }))
}

fn dry_run_pod(template: &Value) -> Object {
    let mut metadata = template["metadata"].clone();
    metadata["name"] = json!(NAME);
    Object::from_body(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] }))
}

fn pod_template(recipe: &Recipe, context: &Context<'_>, resources: &PodResources) -> Result<Value, Cause> {
    let app = &recipe.app;
    let mut labels = labels(context);
    // Stamped only where the commit is used: otherwise the pods survive a push that does not concern them.
    if templates(app).any(Template::uses_commit) {
        labels["previewd.dev/commit"] = json!(context.commit);
    }
    // Pod Security's standard `restricted` asks for all of this.
    let mut security = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    if let Some(user) = app.run_as {
        security["runAsUser"] = json!(user);
        security["runAsGroup"] = json!(user);
    }
    Ok(json!({
        "metadata": { "labels": labels },
        "spec": {
            "serviceAccountName": walls::SERVICE_ACCOUNT,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
            "securityContext": security,
            "containers": [container(recipe, context, resources)?],
        },
    }))
}

fn container(recipe: &Recipe, context: &Context<'_>, resources: &PodResources) -> Result<Value, Cause> {
    let app = &recipe.app;
    let health = json!({ "path": app.health, "port": PORT, "scheme": "HTTP" });
    let mut container = json!({
        "name": NAME,
        "image": image(recipe, context)?,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{ "name": PORT, "containerPort": app.port, "protocol": "TCP" }],
        "env": environment(recipe, context)?,
        "resources": resources.to_json(),
        "securityContext": {
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
        },
        "startupProbe": {
            "httpGet": health,
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": LONGER_THAN_ANY_ROUND_SECONDS,
        },
        // Routers learn of a pod's end a moment after the pod does: until then it goes on answering.
        "lifecycle": { "preStop": { "sleep": { "seconds": DRAIN_SECONDS } } },
        "readinessProbe": { "httpGet": health, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3 },
    });
    for (field, arguments) in [("command", &app.command), ("args", &app.args)] {
        if let Some(arguments) = arguments {
            container[field] = arguments
                .iter()
                .enumerate()
                .map(|(index, argument)| {
                    context.render(recipe, &format!("app.{field}[{index}]"), argument).map(|text| unexpanded(&text))
                })
                .collect::<Result<Value, Cause>>()?;
        }
    }
    Ok(container)
}

/// Every template of the recipe.
fn templates(app: &App) -> impl Iterator<Item = &Template> {
    let arguments = app.command.iter().chain(&app.args).flatten();
    [&app.image].into_iter().chain(app.env.values()).chain(arguments)
}

fn image(recipe: &Recipe, context: &Context<'_>) -> Result<String, Cause> {
    let template = &recipe.app.image;
    let image = context.render(recipe, "app.image", template)?;
    // A fork's author names its branch: it may be in a tag, but must not choose another registry, image or digest.
    if template.uses(Variable::Branch) && !is_tag(context.branch) {
        let rule = "uses the branch, whose name may not stand in a tag; use {{ sha }} or {{ pull_request }}";
        return Err(recipe.source.refuse("app.image", rule));
    }
    if !is_image_reference(&image) {
        return Err(recipe.source.refuse("app.image", "must be an image such as ghcr.io/acme/shop:{{ sha }}"));
    }
    Ok(image)
}

/// The recipe's environment variables, and previewd's where the recipe does not set them itself.
fn environment(recipe: &Recipe, context: &Context<'_>) -> Result<Value, Cause> {
    let mut variables = BTreeMap::from([
        ("PREVIEW_URL", context.url.as_str().to_owned()),
        ("PREVIEW_PULL_REQUEST", context.pull_request.to_string()),
    ]);
    // Like the label: it would restart pods that have nothing to do with the commit.
    if templates(&recipe.app).any(Template::uses_commit) {
        variables.insert("PREVIEW_COMMIT", context.commit.to_string());
    }
    for (name, template) in &recipe.app.env {
        let name = name.as_str();
        let text = context.render(recipe, &format!("app.env.{name}"), template)?;
        variables.insert(name, unexpanded(&text));
    }
    let size: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > LARGEST_ENVIRONMENT {
        let rule = format!("must be at most {} KiB with its variables filled in", LARGEST_ENVIRONMENT / 1_024);
        return Err(recipe.source.refuse("app.env", rule));
    }
    Ok(variables.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect())
}

/// `text` so that Kubernetes passes it on as it is. It would take `$(NAME)` for the value of another variable and `$$`
/// for `$`: a branch named `$(TOKEN)` would be shown as the token.
fn unexpanded(text: &str) -> String {
    text.replace('$', "$$")
}
