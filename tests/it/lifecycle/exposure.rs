//! How people reach a preview: the Ingress or the route of a gateway, as the operator has them.

use k8s_openapi::api::{core::v1::Secret, networking::v1::Ingress};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use previewd::environment::{ENVIRONMENT_LABEL, INSTALLATION_LABEL};
use serde_json::{Value, json};
use xtask::{github::NewPullRequest, testing::eventually};

use super::{
    life::{self, Life, SOON, TO_GONE, recipe},
    names,
    objects::in_the_inventory,
};

/// What a route of a repository's own leads to.
const LED_TO: &str =
    "{ apiVersion: v1, kind: Service, metadata: { name: app }, spec: { selector: { led: to }, ports: [{ port: 80 }] } }
---
{ apiVersion: apps/v1, kind: Deployment, metadata: { name: app }, spec: { selector: { matchLabels: { led: to } },
  template: { metadata: { labels: { led: to } }, spec: { containers: [{ name: app, image: 'shop:{{ sha }}' }] } } } }
";

fn routes(kube: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    Api::namespaced_with(kube.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// Has the cluster know the Gateway API's kinds, by their own definitions.
pub async fn define_gateway_api(kube: &Client) {
    let texts = tokio::task::spawn_blocking(xtask::cluster::gateway_definitions).await.unwrap().unwrap();
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(kube.clone(), &ApiResource::from_gvk(&kind));
    let mut defined = 0;
    // Beside them are policies, several in a file.
    for text in texts.iter().filter(|text| text.contains("kind: CustomResourceDefinition")) {
        let definition: Value = serde_saphyr::from_str(text).unwrap();
        let name = definition["metadata"]["name"].as_str().unwrap();
        if ["httproutes.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io"].contains(&name) {
            let parameters = PatchParams::apply("test").force();
            definitions.patch(name, &parameters, &Patch::Apply(&definition)).await.unwrap();
            defined += 1;
        }
    }
    assert_eq!(defined, 2, "routes and gateways");
    let gateway = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
    let gateways: Api<DynamicObject> = Api::all_with(kube.clone(), &ApiResource::from_gvk(&gateway));
    for kind in [routes(kube, "default"), gateways] {
        eventually("the cluster serves both", SOON, async || kind.list(&ListParams::default()).await.ok()).await;
    }
}

const GATEWAY: &str = "[ingress.gateway]\nname = \"public\"\nnamespace = \"gateways\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_leads_to_a_preview_by_a_route() {
    let Some(ground) = life::api_only().await else { return };
    let mut life = Life::prepare(ground, "gateway", None).await;
    define_gateway_api(&life.kube).await;
    life.configure(GATEWAY);
    life.begin().await;
    let store = life.store();
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    let row = life.row(&store, number).await.environment;
    let namespace = row.namespace.as_str();
    let routes = routes(&life.kube, namespace);
    let route = eventually("the route", SOON, async || routes.get_opt("preview").await.unwrap()).await;
    let labels = route.labels();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "previewd");
    assert_eq!((&labels[ENVIRONMENT_LABEL], labels.contains_key(INSTALLATION_LABEL)), (&row.id, true));
    let spec = &route.data["spec"];
    assert_eq!(spec["hostnames"], json!([format!("{namespace}.localhost")]));
    // With what the definition adds by itself.
    let parent = &spec["parentRefs"][0];
    assert_eq!((&parent["name"], &parent["namespace"]), (&json!("public"), &json!("gateways")));
    assert_eq!((&parent["kind"], &parent["group"]), (&json!("Gateway"), &json!("gateway.networking.k8s.io")));
    let backend = &spec["rules"][0]["backendRefs"][0];
    assert_eq!((&backend["name"], &backend["port"], &backend["kind"]), (&json!("app"), &json!(80), &json!("Service")));
    assert_eq!(names::<Ingress>(&life, namespace).await, Vec::<String>::new(), "one way in");
    let inventory = in_the_inventory(&store, &row).await;
    assert!(inventory.contains(&("HTTPRoute".to_owned(), "preview".to_owned())), "{inventory:?}");

    // A route of the repository's own is judged by the same definition, after previewd's own rules.
    let manifests = |rule: &str| {
        format!(
            "{{ apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{ name: own }}, spec: {{ hostnames: ['{{{{ host }}}}'], \
             parentRefs: [{{ name: public, namespace: gateways }}], rules: [{{ {rule} }}] }} }}\n"
        )
    };
    let own = |rule: &str| {
        NewPullRequest::new("A route", &format!("own-{}", rule.len()))
            .file(".preview.yaml", "version: 1\nmanifests: [route.yaml]\n")
            .file("route.yaml", &format!("{}---\n{LED_TO}", manifests(rule)))
    };
    let github = &life.stand.github;
    let good = "matches: [{ path: { value: /api } }], backendRefs: [{ name: app, port: 80 }]";
    let taken = github.open_pull_request(&life.repository, own(good)).await.unwrap();
    let bad = "matches: [{ path: { value: api } }], backendRefs: [{ name: app, port: 80 }]";
    let refused = github.open_pull_request(&life.repository, own(bad)).await;
    let refused = life.until_status(refused.unwrap(), "failed").await;
    assert_eq!(refused["reason"], "object_refused", "{refused:#}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("HTTPRoute own was refused: spec.rules[0].matches[0].path "), "{message}");
    let its_namespace = life.row(&store, taken).await.environment.namespace.to_string();
    let its_routes = self::routes(&life.kube, &its_namespace);
    eventually("its route", SOON, async || its_routes.get_opt("own").await.unwrap()).await;

    github.close(&life.repository, number).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    assert!(routes.get_opt("preview").await.unwrap().is_none(), "the route goes with the environment");
    life.finish().await;
}

/// The Ingress of a preview under these settings, once it is there; and no certificate is beside it.
async fn ingress_under(ground: &life::Ground, name: &str, settings: &str) -> Ingress {
    let mut life = Life::prepare(ground, name, None).await;
    life.configure_first("base_domain = \"preview.example.com\"\n");
    life.configure(settings);
    life.begin().await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    let environment = life.get(number).await;
    let namespace = environment["namespace"].as_str().unwrap();
    assert_eq!(environment["url"], format!("https://{namespace}.preview.example.com"));
    let ingresses = Api::<Ingress>::namespaced(life.kube.clone(), namespace);
    let ingress = eventually("the Ingress", SOON, async || ingresses.get_opt("preview").await.unwrap()).await;
    let spec = ingress.spec.as_ref().unwrap();
    let host = format!("{namespace}.preview.example.com");
    let rules = spec.rules.as_deref().unwrap_or_default();
    assert_eq!(rules.iter().map(|rule| rule.host.as_deref()).collect::<Vec<_>>(), [Some(host.as_str())]);
    let tls = spec.tls.as_deref().unwrap_or_default();
    assert_eq!(tls.iter().map(|tls| tls.hosts.clone().unwrap_or_default()).collect::<Vec<_>>(), [vec![host]]);
    // Whoever reads a preview's Secrets finds no key that opens more than that preview.
    assert_eq!(names::<Secret>(&life, namespace).await, Vec::<String>::new());
    life.finish().await;
    ingress
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_is_as_the_operator_wants_it_and_brings_no_key() {
    let Some(ground) = life::api_only().await else { return };
    let issued = "[ingress]\nclass = \"public\"\ntls_secret = \"preview-tls\"\n\
                  annotations = { \"cert-manager.io/cluster-issuer\" = \"letsencrypt\" }\n";
    let (plain, issued) =
        tokio::join!(ingress_under(ground, "plain-ingress", ""), ingress_under(ground, "issued", issued));
    let spec = plain.spec.unwrap();
    assert_eq!((spec.ingress_class_name, plain.metadata.annotations), (None, None));
    assert_eq!(spec.tls.unwrap()[0].secret_name, None, "the controller's own certificate");
    let spec = issued.spec.unwrap();
    assert_eq!(spec.ingress_class_name.as_deref(), Some("public"));
    assert_eq!(spec.tls.unwrap()[0].secret_name.as_deref(), Some("preview-tls"), "what the issuer fills");
    assert_eq!(issued.metadata.annotations.unwrap()["cert-manager.io/cluster-issuer"], "letsencrypt");
}
