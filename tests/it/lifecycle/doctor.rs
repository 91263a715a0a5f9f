//! `previewd doctor`, where the cluster has what is needed and where it lacks it.

use std::{collections::BTreeMap, process::Command};

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
    life::{self, Life, SOON},
};

/// What doctor says of each piece, by its name.
async fn doctor(life: &Life) -> BTreeMap<String, Value> {
    let mut command = Command::new(xtask::previewd::binary().unwrap());
    command.arg("--config").arg(&life.stand.config).args(["doctor", "--output", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
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
    assert_said(&checks, "way in", "warn", "no default ingress class");
    life.proxy.act_as("somebody-else");
    let checks = doctor(&life).await;
    assert_said(&checks, "cluster", "fail", "");
    assert!(!checks.contains_key("way in"), "of a cluster that does not answer, that alone is said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_for_the_way_in() {
    let Some(ground) = life::api_only().await else { return };
    let classed = Life::prepare(ground, "doctor-class", None).await;
    classed.configure("[ingress]\nclass = \"doctors\"\n");
    let class = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": { "name": "doctors" }, "spec": { "controller": "example.com/doctors" },
    });
    assert_said(&doctor(&classed).await, "way in", "fail", "has no ingress class doctors");
    apply(&classed, "networking.k8s.io", "v1", "IngressClass", None, class).await;
    assert_said(&doctor(&classed).await, "way in", "ok", "the ingress class doctors");
    // Others on this cluster are told that there is none.
    Api::<IngressClass>::all(classed.kube.clone()).delete("doctors", &Default::default()).await.unwrap();

    let behind = Life::prepare(ground, "doctor-gateway", None).await;
    define_gateway_api(&behind.kube).await;
    behind.configure("[ingress.gateway]\nname = \"doctors\"\nnamespace = \"default\"\n");
    let gateway = |from: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": { "name": "doctors" },
            "spec": { "gatewayClassName": "any", "listeners": [{
                "name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": { "namespaces": { "from": from, "selector": { "matchLabels": { "a": "b" } } } },
            }] },
        })
    };
    assert_said(&doctor(&behind).await, "way in", "fail", "default/doctors is not there");
    for (from, result, words) in
        [("Same", "fail", "takes no routes"), ("Selector", "warn", "certain labels"), ("All", "ok", "takes routes")]
    {
        apply(&behind, "gateway.networking.k8s.io", "v1", "Gateway", Some("default"), gateway(from)).await;
        assert_said(&doctor(&behind).await, "way in", result, words);
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
