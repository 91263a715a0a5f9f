//! What a row's repository holds: the recipe, and the manifests or the chart that it names. All of it is JSON, which YAML
//! includes.

use serde_json::{Value, json};
use xtask::cluster::POSTGRES_VERSION;

use super::{
    row::Row,
    settings::{ANNOTATION, LABEL, SECRET, sleep_after},
};
use crate::lifecycle::life::IMAGE;

/// The name of the Service that the URL leads to.
pub fn service(row: &Row) -> &'static str {
    if row.has("app") { "app" } else { "web" }
}

/// Paths and texts. `image` may use the recipe's variables; with `as_root` it is one that says nothing else of its user.
pub fn files(row: &Row, image: &str, as_root: bool) -> Vec<(String, String)> {
    let mut recipe = json!({ "version": 1 });
    if row.has("deployments") {
        recipe["report"] = json!("deployments");
    }
    if row.has("drowsy") {
        recipe["sleep_after"] = json!(sleep_after(row));
    }
    if row.has("never") {
        recipe["ttl"] = json!("never");
    }
    if row.has("labelled") {
        recipe["triggers"] =
            json!({ "label": LABEL, "drafts": false, "forks": "approve", "branches": ["main"], "paths": ["**"] });
    }
    if row.has("secrets") {
        recipe["secrets"] = json!([SECRET.0]);
    }
    if !row.has("app") && row.has("exposed") {
        recipe["expose"] = json!({ "service": "web", "port": 80 });
    }
    let mut files = Vec::new();
    if row.has("app") {
        app(row, image, as_root, &mut recipe);
    } else if row.has("manifests") {
        recipe["manifests"] = json!(["k8s/*.yaml"]);
        let variables = Variables { commit: "{{ sha }}", image, host: "{{ host }}" };
        files.push(("k8s/objects.yaml".to_owned(), documents(&objects(row, &variables, as_root))));
    } else {
        let values = json!({ "commit": "{{ sha }}", "image": image, "host": "{{ host }}" });
        recipe["helm"] = json!({ "chart": "./chart" });
        if row.has("files") {
            recipe["helm"]["values_files"] = json!(["preview-values.yaml"]);
            files.push(("preview-values.yaml".to_owned(), values.to_string()));
        } else {
            recipe["helm"]["values"] = values;
        }
        let chart = json!({ "apiVersion": "v2", "name": "web", "version": "1.0.0" });
        files.push(("chart/Chart.yaml".to_owned(), chart.to_string()));
        files.push((
            "chart/values.yaml".to_owned(),
            json!({ "commit": "none", "image": IMAGE, "host": "" }).to_string(),
        ));
        let variables =
            Variables { commit: "{{ .Values.commit }}", image: "{{ .Values.image }}", host: "{{ .Values.host }}" };
        files.push(("chart/templates/objects.yaml".to_owned(), documents(&objects(row, &variables, as_root))));
    }
    files.push((".preview.yaml".to_owned(), recipe.to_string()));
    files
}

fn documents(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The path that says whether it is ready.
fn health(row: &Row) -> &'static str {
    if row.has("rootpath") { "/" } else { "/healthz" }
}

fn app(row: &Row, image: &str, as_root: bool, recipe: &mut Value) {
    let mut app = json!({ "image": image, "port": 8080, "env": { "COMMIT": "{{ sha }}" } });
    if row.has("health") {
        app["health"] = json!(health(row));
    }
    if row.has("command") {
        app["command"] = json!(["/shop"]);
        app["args"] = json!([]);
        if !as_root {
            app["run_as"] = json!(4321);
        }
    }
    if row.has("sized") {
        app["resources"] = json!({ "cpu": "40m", "memory": "48Mi" });
    }
    if row.has("volume") {
        app["volumes"] = json!({ "/data": "16Mi" });
    }
    if row.has("two") {
        app["replicas"] = json!(2);
    }
    recipe["app"] = app;
    if row.has("worker") {
        recipe["services"] = json!({ "worker": { "image": IMAGE, "port": 8080, "env": { "COMMIT": "{{ sha }}" } } });
    }
    let has_database = row.has("postgres");
    if has_database {
        // Making a database takes a second of a whole core.
        let resources = json!({ "cpu": "100m", "memory": "128Mi" });
        recipe["databases"] = json!({
            "db": { "engine": "postgres", "version": POSTGRES_VERSION, "storage": "128Mi", "resources": resources }
        });
    }
    let task = |with_database: &str| {
        let word = if has_database { with_database } else { "check" };
        json!({ "command": ["/shop", word], "env": { "STEP": word } })
    };
    if row.has("setup") {
        recipe["setup"] = task("migrate");
    }
    if row.has("seed") {
        recipe["seed"] = task("seed");
    }
}

/// How a file says what differs from commit to commit.
struct Variables<'a> {
    commit: &'a str,
    image: &'a str,
    host: &'a str,
}

/// The objects of manifests, or of a chart.
fn objects(row: &Row, variables: &Variables<'_>, as_root: bool) -> Vec<Value> {
    let commit = json!({ "COMMIT": variables.commit, "MODE": "ok" });
    let mut objects = vec![workload(row, variables, as_root), service_object(row)];
    if row.has("configmap") {
        let metadata = json!({ "name": "settings" });
        objects.push(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": commit }));
    }
    if row.has("secret") {
        let metadata = json!({ "name": "settings" });
        objects.push(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": commit }));
    }
    if row.has("volume") && row.has("deployment") {
        let metadata = json!({ "name": "data" });
        objects.push(
            json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim() }),
        );
    }
    if row.has("worker") {
        let container = json!({ "name": "worker", "image": IMAGE, "env": variable(variables.commit) });
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "worker" },
            "spec": {
                "selector": { "matchLabels": { "app": "worker" } },
                "template": { "metadata": { "labels": { "app": "worker" } }, "spec": { "containers": [container] } },
            },
        }));
    }
    if row.has("setup") {
        objects.push(job("prepare", variables, row.has("chart").then_some("pre-install,pre-upgrade")));
    }
    if row.has("seed") {
        objects.push(job("seed", variables, Some("post-install")));
    }
    if row.has("routed") {
        objects.push(route(row, variables.host));
    }
    if row.has("many") {
        objects.extend(others(row));
    }
    objects
}

fn variable(commit: &str) -> Value {
    json!([{ "name": "COMMIT", "value": commit }])
}

fn claim() -> Value {
    json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "16Mi" } } })
}

/// What serves.
fn workload(row: &Row, variables: &Variables<'_>, as_root: bool) -> Value {
    let mut container = json!({
        "name": "web", "image": variables.image, "ports": [{ "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "path": health(row), "port": 8080 }, "periodSeconds": 1, "timeoutSeconds": 5 },
    });
    if row.has("inline") {
        container["env"] = variable(variables.commit);
    } else {
        let kind = if row.has("secret") { "secretRef" } else { "configMapRef" };
        container["envFrom"] = json!([{ kind: { "name": "settings" } }]);
    }
    if row.has("sized") {
        container["resources"] = json!({ "limits": { "cpu": "40m", "memory": "48Mi" } });
    }
    let mut spec = json!({ "terminationGracePeriodSeconds": 5 });
    if row.has("command") {
        container["command"] = json!(["/shop"]);
        container["args"] = json!([]);
        if !as_root {
            spec["securityContext"] = json!({ "runAsUser": 4321, "fsGroup": 4321 });
        }
    }
    if row.has("volume") {
        container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    }
    let mut containers = vec![container];
    if row.has("sidecar") {
        let env = json!([{ "name": "PORT", "value": "8081" }, { "name": "COMMIT", "value": variables.commit }]);
        containers.push(json!({ "name": "side", "image": IMAGE, "env": env }));
    }
    spec["containers"] = json!(containers);
    if row.has("many") {
        spec["initContainers"] = json!([{ "name": "first", "image": IMAGE, "command": ["/shop", "check"] }]);
        spec["serviceAccountName"] = json!("web");
    }
    let replicas = if row.has("two") { 2 } else { 1 };
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } } },
    });
    if row.has("stateful") {
        object["kind"] = json!("StatefulSet");
        object["spec"]["serviceName"] = json!("web");
        if row.has("volume") {
            object["spec"]["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" }, "spec": claim() }]);
        }
    } else if row.has("volume") {
        object["spec"]["strategy"] = json!({ "type": "Recreate" });
        spec["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
    }
    object["spec"]["template"] = json!({ "metadata": { "labels": { "app": "web" } }, "spec": spec });
    object
}

/// What the operator allows, on what is asked of it.
fn annotations(row: &Row) -> Value {
    if row.has("dressed") { json!({ ANNOTATION: "yes" }) } else { json!({}) }
}

fn service_object(row: &Row) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "annotations": annotations(row) },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

/// What runs to its end, as a hook of a chart at these moments.
fn job(name: &str, variables: &Variables<'_>, hook: Option<&str>) -> Value {
    let env = variable(variables.commit);
    let container = json!({ "name": name, "image": IMAGE, "command": ["/shop", "check"], "env": env });
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": { "backoffLimit": 1, "template": { "spec": { "restartPolicy": "Never", "containers": [container] } } },
    });
    if let Some(moments) = hook {
        job["metadata"]["annotations"] =
            json!({ "helm.sh/hook": moments, "helm.sh/hook-delete-policy": "before-hook-creation" });
    }
    job
}

/// A route of the repository's own.
fn route(row: &Row, host: &str) -> Value {
    let metadata = json!({ "name": "own", "annotations": annotations(row) });
    if row.has("gateway") {
        return json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata,
            "spec": {
                "hostnames": [host], "parentRefs": [{ "name": "public", "namespace": "gateways" }],
                "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }],
            },
        });
    }
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    let paths = json!([{ "path": "/", "pathType": "Prefix", "backend": backend }]);
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
        "spec": { "rules": [{ "host": host, "http": { "paths": paths } }] },
    })
}

/// Kinds that serve nobody.
fn others(row: &Row) -> [Value; 4] {
    let replicas = if row.has("two") { 2 } else { 1 };
    let kind = if row.has("stateful") { "StatefulSet" } else { "Deployment" };
    let container = json!({ "name": "yearly", "image": IMAGE, "command": ["/shop", "check"] });
    let pod = json!({ "spec": { "restartPolicy": "Never", "containers": [container] } });
    [
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "yearly" },
            "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": pod } } },
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "web" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": kind, "name": "web" },
                "minReplicas": replicas, "maxReplicas": replicas,
                "metrics": [{
                    "type": "Resource",
                    "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } },
                }],
            },
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "web" },
            "spec": { "maxUnavailable": 1, "selector": { "matchLabels": { "app": "web" } } },
        }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web" } }),
    ]
}
