//! What is taken, beside what is not: that is in `tests/hostile`.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::{Charted, Context, Files, Object, Policy, Recipe, Render, render};
use crate::environment::{Cause, CommitSha, Namespace, PublicUrl, RepositoryName};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What becomes of these manifests under `policy`.
fn rendered_under(yaml: &str, policy: &Policy) -> Result<Render, Cause> {
    let recipe = Recipe::parse(".preview.yaml", "version: 1\nmanifests: [k8s.yaml]\n").expect("a recipe");
    let repository: RepositoryName = "acme/shop".parse().expect("a repository");
    let namespace: Namespace = Namespace::of_pull_request(42, &repository, 7);
    let commit: CommitSha = COMMIT.parse().expect("a commit");
    let files = Files::from([("k8s.yaml".to_owned(), yaml.as_bytes().to_vec())]);
    render(
        &recipe,
        &Context {
            repository: &repository,
            pull_request: 7,
            commit: &commit,
            branch: "feature/cart",
            namespace: &namespace,
            url: &PublicUrl::of(&namespace, &"preview.example.com".parse().expect("a domain")),
            environment_id: "0198c0de-0000-7000-8000-000000000007",
            installation_id: "0198c0de-0000-7000-8000-000000000001",
            policy,
            passwords: &BTreeMap::new(),
            secrets: None,
            registries: None,
            files: &files,
            charted: &Charted::default(),
        },
    )
}

fn rendered(yaml: &str) -> Result<Render, Cause> {
    rendered_under(yaml, &Policy::default())
}

/// A Deployment with `pod` in its pod's spec and `container` in its container.
fn deployment(pod: &str, container: &str) -> String {
    format!(
        "{{ apiVersion: apps/v1, kind: Deployment, metadata: {{ name: web }}, spec: {{ selector: {{ matchLabels: {{ a: b }} }}, \
         template: {{ metadata: {{ labels: {{ a: b }} }}, spec: {{ {pod} containers: [{{ name: web, image: shop, {container} }}] }} }} }} }}"
    )
}

#[test]
fn what_charts_write_to_leave_something_out_is_left_out() {
    for pod in [
        "hostNetwork: false, tolerations: [], nodeName: '', priorityClassName: null,",
        "hostUsers: false, terminationGracePeriodSeconds: 120,",
    ] {
        assert!(rendered(&deployment(pod, "")).is_ok(), "{pod}");
    }
    for container in [
        "ports: [{ containerPort: 80, hostPort: 0 }], livenessProbe: { httpGet: { host: '', port: 80 } }",
        "resources: { limits: { cpu: 0.2, memory: null, ephemeral-storage: 1Gi }, requests: {} }",
        "securityContext: { procMount: Default, capabilities: { add: [NET_BIND_SERVICE] } }",
    ] {
        assert!(rendered(&deployment("", container)).is_ok(), "{container}");
    }
    for service in
        ["type: ''", "type: ClusterIP, clusterIP: ''", "clusterIP: None, clusterIPs: [None], externalIPs: []"]
    {
        let yaml = format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: x }}, spec: {{ selector: {{ a: b }}, {service} }} }}"
        );
        assert!(rendered(&yaml).is_ok(), "{service}");
    }
}

#[test]
fn routes_that_the_operator_has_room_for_are_taken() {
    let policy: Policy = toml::from_str(
        "[ingress]\nclass = \"public\"\nallowed_annotations = [\"example.com/allowed\"]\n\
         gateway = { name = \"public\", namespace = \"gateways\" }\n",
    )
    .expect("a policy");
    let parent = "parentRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: public, namespace: gateways }]";
    for (version, kind, spec) in [
        ("networking.k8s.io/v1", "Ingress", "ingressClassName: public, rules: [{ host: '{{ host }}' }]".to_owned()),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            format!(
                "hostnames: ['{{{{ host }}}}'], {parent}, rules: [{{ backendRefs: [{{ group: '', kind: Service, name: a, namespace: '{{{{ namespace }}}}' }}] }}]"
            ),
        ),
    ] {
        let yaml = format!(
            "{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: x, annotations: {{ example.com/allowed: a }} }}, spec: {{ {spec} }} }}"
        );
        assert!(rendered_under(&yaml, &policy).is_ok(), "{yaml}");
    }
}

#[test]
fn what_is_admitted_becomes_previewds_own() {
    let yaml = deployment(
        "automountServiceAccountToken: true,",
        "ports: [{ containerPort: 80 }], env: [{ name: A, value: '{{ branch }} {{ \"{{\" }}' }]",
    );
    let render = rendered(&yaml).expect("a render");
    let template = &render.objects[0].body["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["previewd.dev/environment"], "0198c0de-0000-7000-8000-000000000007");
    assert!(template["metadata"]["labels"]["previewd.dev/commit"].is_null(), "it does not use the commit");
    let spec = &template["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false, "no pod gets a token, whatever it asks for");
    assert_eq!(spec["serviceAccountName"], "preview");
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    let container = &spec["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["env"][0]["value"], "feature/cart {{");
    assert_eq!(container["resources"]["limits"], json!({ "cpu": "250m", "memory": "256Mi" }));
    let pods: Vec<_> = render.making_pods().filter_map(Object::pod).map(|made| (made.pod.name, made.place)).collect();
    assert_eq!(pods, [("web".to_owned(), "spec.template".to_owned())]);
    let account =
        "{ apiVersion: v1, kind: ServiceAccount, metadata: { name: web }, automountServiceAccountToken: true }";
    assert_eq!(rendered(account).expect("a render").objects[0].body["automountServiceAccountToken"], false);
}

/// What a StatefulSet's claims are called is known to its controller alone, so the pod that is tried has them too.
#[test]
fn a_pod_that_is_tried_has_the_claims_of_its_set() {
    let set = "{ apiVersion: apps/v1, kind: StatefulSet, metadata: { name: db }, spec: { serviceName: db, \
               selector: { matchLabels: { a: b } }, volumeClaimTemplates: [{ metadata: { name: data }, \
               spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 16Mi } } } }], \
               template: { metadata: { labels: { a: b } }, spec: { \
               volumes: [{ name: data, emptyDir: {} }, { name: tmp, emptyDir: {} }], \
               containers: [{ name: db, image: shop, volumeMounts: [{ name: data, mountPath: /data }] }] } } } }";
    let render = rendered(set).expect("a render");
    let pod = render.making_pods().find_map(Object::pod).expect("a pod").pod;
    assert_eq!(
        pod.body["spec"]["volumes"],
        json!([
            { "name": "tmp", "emptyDir": {} },
            { "name": "data", "persistentVolumeClaim": { "claimName": "data-db-0" } },
        ]),
    );
}
