//! `previewd doctor`, where the cluster has what is needed and where it lacks it.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::IngressClass;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use xtask::testing::eventually;

use super::{
    exposure::define_gateway_api,
    life::{self, Life, SOON, allow},
};

/// What doctor says of each piece, by its name.
async fn doctor(life: &Life) -> BTreeMap<String, Value> {
    let mut command = xtask::previewd::command(&life.stand.config).unwrap();
    let output = command.args(["doctor", "--output", "json"]).output().await.unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let failed = checks.iter().any(|check| check["result"] == "fail");
    assert_eq!(output.status.success(), !failed, "{checks:#?}");
    checks.into_iter().map(|check| (check["name"].as_str().unwrap().to_owned(), check)).collect()
}

/// That doctor finds a piece so, and says this of it.
#[track_caller]
fn assert_said(checks: &BTreeMap<String, Value>, name: &str, result: &str, words: &str) {
    let check = &checks[name];
    assert!(check["result"] == result && check.to_string().contains(words), "{result}, {words}: {check:#}");
}

async fn apply(life: &Life, group: &str, version: &str, kind: &str, namespace: Option<&str>, object: Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let objects: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(life.kube.clone(), namespace, &resource),
        None => Api::all_with(life.kube.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    objects.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_what_the_cluster_lacks() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::prepare(ground, "doctor", None).await;
    let checks = doctor(&life).await;
    assert_said(&checks, "cluster", "ok", "allows all that is needed");
    assert_said(&checks, "ingress", "warn", "no default ingress class");

    let mut role = previewd::cluster::cluster_role();
    role["metadata"]["name"] = "doctors".into();
    let rules = role["rules"].as_array_mut().unwrap();
    let of_jobs = rules.iter_mut().find(|rule| rule["resources"][0] == "jobs").unwrap();
    of_jobs["verbs"].as_array_mut().unwrap().retain(|verb| verb != "watch");
    rules.retain(|rule| rule["resources"][0] != "ingressclasses");
    allow(&life.kube, &serde_json::from_value(role).unwrap(), "hindered").await;
    life.proxy.act_as("hindered");
    let checks = eventually("what is allowed is known", SOON, async || {
        let checks = doctor(&life).await;
        checks.contains_key("ingress").then_some(checks)
    })
    .await;
    assert_said(&checks, "cluster", "fail", "may not watch jobs");
    assert_said(&checks, "ingress", "warn", "give it the role");

    life.proxy.act_as("somebody-else");
    let checks = doctor(&life).await;
    assert_said(&checks, "cluster", "fail", "give it the role");
    assert!(!checks.contains_key("ingress"), "of a cluster that tells nothing, that alone is said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_at_what_leads_to_environments() {
    let Some(ground) = life::api_only().await else { return };
    let classed = Life::prepare(ground, "doctor-class", None).await;
    classed.configure("[ingress]\nclass = \"doctors\"\n");
    let class = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": { "name": "doctors" }, "spec": { "controller": "example.com/doctors" },
    });
    assert_said(&doctor(&classed).await, "ingress", "fail", "has no ingress class doctors");
    apply(&classed, "networking.k8s.io", "v1", "IngressClass", None, class).await;
    assert_said(&doctor(&classed).await, "ingress", "ok", "the ingress class doctors");
    Api::<IngressClass>::all(classed.kube.clone()).delete("doctors", &Default::default()).await.unwrap();

    let behind = Life::prepare(ground, "doctor-gateway", None).await;
    define_gateway_api(&behind.kube).await;
    behind.configure("[ingress.gateway]\nname = \"doctors\"\nnamespace = \"default\"\n");
    let gateway = |from: &str, label: &str| {
        let namespaces = json!({ "from": from, "selector": { "matchLabels": { label: "previewd" } } });
        let listener =
            json!({ "name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": { "namespaces": namespaces } });
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": { "name": "doctors" },
            "spec": { "gatewayClassName": "any", "listeners": [listener] },
        })
    };
    assert_said(&doctor(&behind).await, "ingress", "fail", "default/doctors is not there");
    let ours = "app.kubernetes.io/managed-by";
    for (from, label, result, words) in [
        ("Same", ours, "fail", "takes no routes"),
        ("Selector", "team", "warn", "may lack"),
        ("Selector", ours, "ok", "takes routes"),
        ("All", "team", "ok", "takes routes"),
    ] {
        apply(&behind, "gateway.networking.k8s.io", "v1", "Gateway", Some("default"), gateway(from, label)).await;
        assert_said(&doctor(&behind).await, "ingress", result, words);
    }

    // The API server knows a network plugin by what it brings with it.
    assert_said(&doctor(&behind).await, "network policies", "warn", "Calico and Cilium can be installed");
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let tiers = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "tiers.crd.antrea.io" },
        "spec": {
            "group": "crd.antrea.io", "scope": "Cluster",
            "names": { "kind": "Tier", "plural": "tiers" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true, "schema": schema }],
        },
    });
    apply(&behind, "apiextensions.k8s.io", "v1", "CustomResourceDefinition", None, tiers).await;
    eventually("the plugin shows", SOON, async || {
        let checks = doctor(&behind).await;
        (checks["network policies"]["result"] == "ok").then(|| assert_said(&checks, "network policies", "ok", "Antrea"))
    })
    .await;
}
