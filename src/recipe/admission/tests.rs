//! What is taken, beside what is not: that is in `tests/hostile`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Charted, Context, Files, Mistakes, Object, Policy, Recipe, Render, render};
use crate::environment::{Cause, CommitSha, Namespace, PublicUrl, RepositoryName};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the URL leads to, beside what a test is about.
const LED_TO: &str = "
---
{ apiVersion: v1, kind: Service, metadata: { name: led-to }, spec: { selector: { led: to }, ports: [{ port: 80 }] } }
---
{ apiVersion: apps/v1, kind: Deployment, metadata: { name: led-to }, spec: { selector: { matchLabels: { led: to } },
  template: { metadata: { labels: { led: to } }, spec: { containers: [{ name: a, image: 'a:{{ sha }}', ports: [{ containerPort: 80 }],
  resources: { limits: { cpu: 10m, memory: 16Mi } } }] } } } }
";

/// What becomes of these manifests under `policy`.
fn rendered_under(yaml: &str, policy: &Policy) -> Result<Render, Cause> {
    let yaml = format!("{yaml}{LED_TO}");
    let mut render = render_alone("expose: { service: led-to, port: 80 }", &yaml, policy).map_err(Cause::from)?;
    // What a test is about is left.
    render.objects.retain(|object| object.name != "led-to");
    render.notes.retain(|note| !note.contains(" names no version: "));
    render.phase_ends.clear();
    Ok(render)
}

/// What becomes of these manifests and nothing else, with this of the recipe beside them.
fn render_alone(more: &str, yaml: &str, policy: &Policy) -> Result<Render, Mistakes> {
    let recipe = format!("version: 1\nmanifests: [k8s.yaml]\n{more}\n");
    let recipe = Recipe::parse(".preview.yaml", &recipe).expect("a recipe");
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

/// One that its own TTL takes away before anybody saw it end would be run again.
#[test]
fn a_job_that_ended_stays_until_it_was_seen() {
    for (asked, stays) in [(0, 3_600), (60, 3_600), (3_600, 3_600), (7_200, 7_200)] {
        let job = format!(
            "{{ apiVersion: batch/v1, kind: Job, metadata: {{ name: x }}, spec: {{ ttlSecondsAfterFinished: {asked}, \
             template: {{ spec: {{ restartPolicy: Never, containers: [{{ name: x, image: shop }}] }} }} }} }}"
        );
        let render = rendered(&job).expect("it is taken");
        let job = render.objects.iter().find(|object| object.kind == "Job").expect("the Job");
        assert_eq!(job.body["spec"]["ttlSecondsAfterFinished"], stays, "{asked}");
    }
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
        (
            "networking.k8s.io/v1",
            "Ingress",
            "ingressClassName: public, rules: [{ host: '{{ host }}', http: { paths: [{ path: /, pathType: Prefix, \
             backend: { service: { name: led-to, port: { number: 80 } } } }] } }]"
                .to_owned(),
        ),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            format!(
                "hostnames: ['{{{{ host }}}}'], {parent}, rules: [{{ backendRefs: [{{ group: '', kind: Service, name: led-to, port: 80, namespace: '{{{{ namespace }}}}' }}] }}]"
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
    assert_eq!(container["resources"]["limits"], json!({ "cpu": "240m", "memory": "240Mi" }));
    let pods: Vec<_> = render.making_pods().filter_map(Object::pod).map(|made| (made.pod.name, made.place)).collect();
    assert_eq!(pods[0], ("web".to_owned(), "spec.template".to_owned()));
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

/// It is refused for what it is, and not because its account comes with it.
#[test]
fn a_pod_under_an_account_of_its_own_is_tried_under_the_one_that_is_there() {
    let account = "{ apiVersion: v1, kind: ServiceAccount, metadata: { name: web } }";
    let web = deployment("serviceAccountName: web,", "");
    let render = rendered(&format!("{account}\n---\n{web}")).expect("a render");
    let account_of = |object: &Object| object.body["spec"]["template"]["spec"]["serviceAccountName"].clone();
    let is_it = |object: &Object| object.name == "web";
    let tried = render.to_try().find(|object| is_it(object)).expect("a Deployment");
    assert_eq!(account_of(&tried), "preview");
    assert_eq!(render.making_pods().find(|object| is_it(object)).map(account_of), Some("web".into()));
}

fn sentences(more: &str, yaml: &str) -> Vec<String> {
    let mistakes = render_alone(more, yaml, &Policy::default()).expect_err("mistakes");
    mistakes.causes().map(ToString::to_string).collect()
}

/// A pod that comes before what it reads would start with what was there before, or not at all.
#[test]
fn what_pods_use_is_applied_before_them() {
    let object = |version: &str, kind: &str, name: &str| {
        format!("{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: {name} }} }}\n---\n")
    };
    let yaml = [
        deployment("", ""),
        "\n---\n".to_owned(),
        object("v1", "ConfigMap", "b"),
        object("v1", "Secret", "key"),
        object("v1", "ConfigMap", "a"),
        object("v1", "ServiceAccount", "account"),
    ];
    let render = rendered(&yaml.concat()).expect("a render");
    let names: Vec<&str> = render.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["account", "key", "b", "a", "web", "preview"], "and of one kind as the files have them");
}

/// What is exported from a cluster is its own: it is left out, and that is said.
#[test]
fn what_another_cluster_added_is_left_out() {
    let exported = "metadata: { name: x, uid: 6a8f, resourceVersion: '41233', creationTimestamp: '2026-01-05T10:00:00Z', generation: 3, \
                    managedFields: [{ manager: kubectl }], selfLink: /api, ownerReferences: [{ uid: y }], finalizers: [kubernetes.io/pvc-protection], \
                    annotations: { kubectl.kubernetes.io/last-applied-configuration: '{}', pv.kubernetes.io/bind-completed: 'yes' } }";
    let claim = "accessModes: [ReadWriteOnce], resources: { requests: { storage: 16Mi } }";
    for (kind, spec, kept) in [
        ("v1, kind: ConfigMap", "data: { A: b }".to_owned(), json!(null)),
        (
            "v1, kind: Service",
            "spec: { clusterIP: 10.0.0.7, clusterIPs: [10.0.0.7], ipFamilies: [IPv4], selector: { led: to }, ports: [{ port: 80 }] }, status: { loadBalancer: {} }".to_owned(),
            json!({ "selector": { "led": "to" }, "ports": [{ "port": 80 }] }),
        ),
        (
            "v1, kind: PersistentVolumeClaim",
            format!("spec: {{ {claim}, volumeName: pvc-1 }}, status: {{ phase: Bound }}"),
            json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "16Mi" } } }),
        ),
    ] {
        let render = rendered(&format!("{{ apiVersion: {kind}, {exported}, {spec} }}")).expect(kind);
        let body = &render.objects[0].body;
        let metadata: Vec<&str> =
            body["metadata"].as_object().expect("metadata").keys().map(String::as_str).collect();
        assert_eq!((metadata, &body["spec"], &body["status"]), (vec!["labels", "name"], &kept, &json!(null)), "{kind}");
        assert_eq!(render.notes.len(), 1, "{:?}", render.notes);
        assert!(render.notes[0].contains("metadata.uid") && render.notes[0].contains("were left out"), "{:?}", render.notes);
    }
    let job = "{ apiVersion: batch/v1, kind: Job, metadata: { name: x, labels: { job-name: x } }, spec: { selector: { matchLabels: { controller-uid: y } }, \
               template: { metadata: { labels: { controller-uid: y, batch.kubernetes.io/job-name: x } }, spec: { restartPolicy: Never, \
               schedulerName: default-scheduler, volumes: [{ name: kube-api-access-abcde, projected: { sources: [{ serviceAccountToken: { path: token } }] } }], \
               containers: [{ name: x, image: x, volumeMounts: [{ name: kube-api-access-abcde, mountPath: /var/run/secrets }] }] } } } }";
    let render = rendered(job).expect("a Job");
    let spec = &render.objects[0].body["spec"];
    assert!(spec["selector"].is_null() && spec["template"]["metadata"]["labels"]["controller-uid"].is_null(), "{spec}");
    assert_eq!(spec["template"]["spec"]["containers"][0]["volumeMounts"], json!([]));
    assert!(rendered("{ apiVersion: v1, kind: ConfigMap, metadata: { name: kube-root-ca.crt } }").is_ok());
    // A file that nobody exported means what it says.
    let service = "{ apiVersion: v1, kind: Service, metadata: { name: x }, spec: { clusterIP: 10.0.0.7, selector: { led: to } } }";
    assert!(rendered(service).is_err());
}

#[test]
fn what_would_hide_a_commit_or_lose_its_data_is_made_safe() {
    let set = "{ apiVersion: apps/v1, kind: StatefulSet, metadata: { name: db }, spec: { serviceName: db, selector: { matchLabels: { a: b } }, \
               persistentVolumeClaimRetentionPolicy: { whenScaled: Delete }, updateStrategy: { type: RollingUpdate, rollingUpdate: { partition: 1 } }, \
               template: { metadata: { labels: { a: b } }, spec: { containers: [{ name: db, image: x }] } } } }";
    let render = rendered(set).expect("a set");
    let spec = &render.objects[0].body["spec"];
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"],
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" })
    );
    assert_eq!(spec["updateStrategy"], json!({ "type": "RollingUpdate" }));
    assert_eq!(render.notes.len(), 2, "{:?}", render.notes);
    let waiting = set.replace("RollingUpdate, rollingUpdate: { partition: 1 }", "OnDelete");
    assert_eq!(
        rendered(&waiting).expect("a set").objects[0].body["spec"]["updateStrategy"],
        json!({ "type": "RollingUpdate" })
    );
    let paused = deployment("", "").replace("spec: { selector", "spec: { paused: true, selector");
    let render = rendered(&paused).expect("a Deployment");
    assert!(
        render.objects[0].body["spec"]["paused"].is_null() && render.notes[0].contains("spec.paused"),
        "{:?}",
        render.notes
    );
}

#[test]
fn what_stands_twice_is_merged_or_told_apart() {
    let twice = deployment(
        "volumes: [{ name: v, emptyDir: {} }, { name: v, emptyDir: {} }], imagePullSecrets: [{ name: a }, { name: a }],",
        "env: [{ name: A, value: '1' }, { name: B, value: '2' }, { name: A, value: '3' }], ports: [{ containerPort: 80 }, { containerPort: 80 }], \
         volumeMounts: [{ name: v, mountPath: /a }, { name: v, mountPath: /a }]",
    );
    let render = rendered(&twice).expect("a render");
    let spec = &render.objects[0].body["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(container["env"], json!([{ "name": "A", "value": "3" }, { "name": "B", "value": "2" }]));
    for list in [&container["ports"], &container["volumeMounts"], &spec["volumes"], &spec["imagePullSecrets"]] {
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    }
    assert_eq!(render.notes.len(), 5, "{:?}", render.notes);
    for (pod, container, sentence) in [
        (
            "",
            "ports: [{ containerPort: 80 }, { containerPort: 80, name: http, protocol: TCP }]",
            "spec.template.spec.containers[0].ports[1] has 80/TCP once more; leave one of them out",
        ),
        (
            "volumes: [{ name: v, emptyDir: {} }, { name: v, configMap: { name: a } }],",
            "",
            "spec.template.spec.volumes[1] has v once more; leave one of them out",
        ),
        (
            "initContainers: [{ name: web, image: a }],",
            "",
            "spec.template.spec.containers[0].name must be another than web, which spec.template.spec.initContainers[0] has",
        ),
    ] {
        let refused = rendered(&deployment(pod, container)).expect_err(sentence).to_string();
        assert_eq!(refused, format!("Deployment web was refused: {sentence}."));
    }
}

#[test]
fn bare_numbers_and_truths_are_told_where_text_is_asked_for() {
    let quotes =
        |field: &str| format!("Deployment web was refused: spec.template.{field} must be text; put it in quotes.");
    for (container, field) in [
        ("env: [{ name: A, value: a }, { name: PORT, value: 8080 }]", "spec.containers[0].env[1].value (PORT of web)"),
        ("env: [{ name: DEBUG, value: yes }]", "spec.containers[0].env[0].value (DEBUG of web)"),
        ("args: [--port, 8080]", "spec.containers[0].args[1] (of web)"),
        ("command: [sleep, 1.5]", "spec.containers[0].command[1] (of web)"),
        (
            "livenessProbe: { exec: { command: [sleep, 1] } }",
            "spec.containers[0].livenessProbe.exec.command[1] (of web)",
        ),
    ] {
        assert_eq!(rendered(&deployment("", container)).expect_err(field).to_string(), quotes(field));
    }
    for (object, field) in [
        ("v1, kind: ConfigMap, metadata: { name: x }, data: { PORT: 8080 }", "data.PORT"),
        ("v1, kind: ConfigMap, metadata: { name: x, labels: { v: 1.2 } }", "metadata.labels.v"),
        ("v1, kind: ConfigMap, metadata: { name: x, annotations: { debug: true } }", "metadata.annotations.debug"),
        ("v1, kind: Secret, metadata: { name: x }, stringData: { PIN: 1234 }", "stringData.PIN"),
    ] {
        let refused = rendered(&format!("{{ apiVersion: {object} }}")).expect_err(field).to_string();
        assert!(refused.ends_with(&format!("x was refused: {field} must be text; put it in quotes.")), "{refused}");
    }
    let secret = "{ apiVersion: v1, kind: Secret, metadata: { name: x }, data: { a: b2xk, b: c3RheXM= }, stringData: { a: new } }";
    let render = rendered(secret).expect("a Secret");
    let body = &render.objects[0].body;
    assert_eq!((&body["data"], &body["stringData"]), (&json!({ "a": "bmV3", "b": "c3RheXM=" }), &Value::Null));
    let secret = "{ apiVersion: v1, kind: Secret, metadata: { name: x }, data: { a: hunter2! } }";
    let refused = rendered(secret).expect_err("no base64").to_string();
    assert_eq!(refused, "Secret x was refused: data.a must be in base64; write text under stringData.");
}

#[test]
fn what_is_mounted_selected_or_restarted_has_to_be_there() {
    for (yaml, rule) in [
        (
            deployment("volumes: [{ name: tmp, emptyDir: {} }],", "volumeMounts: [{ name: data, mountPath: /data }]"),
            "spec.template.spec.containers[0].volumeMounts[0].name names no volume of the pod; there are: tmp",
        ),
        (
            deployment("", "").replace("matchLabels: { a: b }", "matchLabels: { a: c }"),
            "spec.selector.matchLabels.a must be as spec.template.metadata.labels has it",
        ),
        (
            deployment("", "").replace("selector: { matchLabels: { a: b } },", ""),
            "spec.selector must be set: matchLabels with labels that spec.template.metadata.labels has",
        ),
        (deployment("restartPolicy: Never,", ""), "spec.template.spec.restartPolicy must be Always, or left out"),
    ] {
        assert_eq!(rendered(&yaml).expect_err(rule).to_string(), format!("Deployment web was refused: {rule}."));
    }
}

/// A Service and what it selects; parts of both may be replaced.
fn led_to() -> String {
    let service = "{ apiVersion: v1, kind: Service, metadata: { name: web }, spec: { selector: { a: b }, ports: [{ name: http, port: 80, targetPort: http }] } }";
    format!("{service}\n---\n{}", deployment("", "ports: [{ name: http, containerPort: 8080 }]"))
}

const EXPOSE: &str = "expose: { service: web, port: 80 }";

#[test]
fn a_url_that_leads_nowhere_is_told_by_the_recipe_alone() {
    assert!(render_alone(EXPOSE, &led_to(), &Policy::default()).is_ok());
    let in_recipe = |rule: &str| format!(".preview.yaml, line 3: {rule}.");
    let expose = |recipe: &str| sentences(recipe, &led_to());
    assert_eq!(
        expose("expose: { service: shop, port: 80 }"),
        [in_recipe("expose.service must name a Service of the recipe; there are: web")]
    );
    assert_eq!(
        expose("expose: { service: web, port: 8080 }"),
        [in_recipe("expose.port must be a port of Service web; it has: 80 (http)")]
    );
    let no_route =
        "expose must say which Service the URL leads to, unless an Ingress or HTTPRoute leads there from {{ host }}";
    assert_eq!(expose(""), [format!(".preview.yaml, line 1: {no_route}.")]);
    for (from, to, sentence) in [
        (
            "selector: { a: b }, ports",
            "selector: { a: c }, ports",
            "Service web was refused: spec.selector must be labels that the pods of one of these have: Deployment web.",
        ),
        (
            "targetPort: http",
            "targetPort: web",
            "Service web was refused: spec.ports[0].targetPort must name a port of the pods that it selects; they have: http.",
        ),
        (
            "spec: { selector: { matchLabels",
            "spec: { replicas: 0, selector: { matchLabels",
            "Service web was refused: spec.selector selects pods of which there are none; spec.replicas of Deployment web must be more than 0.",
        ),
    ] {
        assert_eq!(sentences(EXPOSE, &led_to().replace(from, to)), [sentence]);
    }
    let udp = led_to().replace("port: 80, targetPort", "port: 80, protocol: UDP, targetPort");
    let rule = "Service web was refused: spec.ports[0].protocol must be TCP: the URL leads to it.";
    assert_eq!(sentences(EXPOSE, &udp), [rule]);
    let both =
        led_to().replace("ports: [{ name: http", "ports: [{ name: quic, port: 80, protocol: UDP }, { name: http");
    assert!(render_alone(EXPOSE, &both, &Policy::default()).is_ok());
    // A container may listen on what it does not declare.
    let render = render_alone(EXPOSE, &led_to().replace("targetPort: http", "targetPort: 9999"), &Policy::default())
        .expect("a render");
    assert!(render.notes.iter().any(|note| note.contains("spec.ports[0].targetPort is 9999")), "{:?}", render.notes);
}

/// A worker whose labels are those of the whole application, as charts have them that leave its component out.
#[test]
fn pods_that_a_service_selects_and_do_not_have_its_port_are_noted() {
    let worker = deployment("", "").replace("name: web", "name: worker");
    let notes = |service: &str, worker: &str| {
        let yaml = format!("{}\n---\n{worker}", led_to().replace("targetPort: http", service));
        let notes = render_alone(EXPOSE, &yaml, &Policy::default()).expect("a render").notes;
        notes.into_iter().filter(|note| note.starts_with("Service ")).collect::<Vec<_>>()
    };
    let noted = "Service web: spec.selector also selects pods of Deployment worker, which do not declare port 8080: part of the visits fail, unless they listen there.";
    assert_eq!(notes("targetPort: 8080", &worker), [noted]);
    let with_port = deployment("", "ports: [{ containerPort: 8080 }]").replace("name: web", "name: worker");
    let asleep = worker.replace("spec: { selector: {", "spec: { replicas: 0, selector: {");
    let other = worker.replace("a: b", "a: c");
    for (service, worker) in [
        // By its name only pods are found that have it.
        ("targetPort: http", &worker),
        ("targetPort: 8080", &with_port),
        ("targetPort: 8080", &asleep),
        ("targetPort: 8080", &other),
    ] {
        assert_eq!(notes(service, worker), Vec::<String>::new(), "{service}, {worker}");
    }
}

/// By `expose` under previewd's router, and elsewhere: what is refused or noted of the port that the URL leads to.
#[test]
fn a_port_that_speaks_no_plain_http_is_told() {
    let router = Policy { has_router: true, ..Policy::default() };
    let said = |port: &str, policy: &Policy| -> Vec<String> {
        let yaml = led_to().replace("name: http, port: 80, targetPort: http", port);
        let recipe = EXPOSE.replace("80", if port.contains("port: 443") { "443" } else { "80" });
        match render_alone(&recipe, &yaml, policy) {
            Ok(render) => render.notes.into_iter().filter(|note| note.starts_with("Service ")).collect(),
            Err(mistakes) => mistakes.causes().map(ToString::to_string).collect(),
        }
    };
    let of = |rest: &str| format!("Service web: spec.ports[0]{rest}.");
    for (protocol, is_known) in [("https", true), ("kubernetes.io/h2c", true), ("GRPC", true), ("example.com/x", false)]
    {
        let port = format!("port: 80, targetPort: http, appProtocol: {protocol}");
        let protocol = protocol.to_ascii_lowercase();
        let elsewhere = format!(".appProtocol is {protocol}: the URL answers only if whatever leads to it speaks that");
        assert_eq!(said(&port, &Policy::default()), [of(&elsewhere)]);
        let refused = "Service web was refused: spec.ports[0].appProtocol must be http, or left out: previewd's router speaks plain HTTP/1.1 to it.";
        let noted = format!(".appProtocol is {protocol}: the URL answers only if plain HTTP/1.1 is spoken there too");
        assert_eq!(said(&port, &router), [if is_known { refused.to_owned() } else { of(&noted) }]);
    }
    let tls = " looks like a port for TLS: the URL answers only if plain HTTP is spoken there";
    for port in ["port: 443, targetPort: http", "name: https, port: 80, targetPort: http", "port: 80, targetPort: 8443"]
    {
        let elsewhere = of(&format!("{tls}, or where whatever leads to it is told otherwise"));
        assert!(said(port, &Policy::default()).contains(&elsewhere), "{port}");
        assert!(said(port, &router).contains(&of(tls)), "{port}");
    }
    for port in ["port: 80, targetPort: http", "port: 443, targetPort: http, appProtocol: http"] {
        assert_eq!(said(port, &router), Vec::<String>::new(), "{port}");
    }
    // The router reads no route where the recipe says what the URL leads to.
    let grpc = led_to().replace(
        "port: 80, targetPort: http",
        "port: 80, targetPort: http }, { name: grpc, port: 81, targetPort: http, appProtocol: grpc",
    );
    let route = "{ apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: own }, spec: { rules: [{ host: '{{ host }}', \
                 http: { paths: [{ path: /rpc, pathType: Prefix, backend: { service: { name: web, port: { number: 81 } } } }] } }] } }";
    assert!(render_alone(EXPOSE, &format!("{grpc}\n---\n{route}"), &router).is_ok());
    assert!(render_alone("", &format!("{grpc}\n---\n{route}"), &router).is_err());
}

/// As Kubernetes finds a port by its name: of containers that run along with each other, and of the Service's protocol.
#[test]
fn a_port_is_one_of_a_container_that_stays() {
    let init = |more: &str| {
        let init = format!(
            "initContainers: [{{ name: a, image: a, {more} ports: [{{ name: http, containerPort: 8080 }}] }}],"
        );
        let service = led_to();
        let (service, _) = service.split_once("\n---\n").expect("a Service");
        format!("{service}\n---\n{}", deployment(&init, ""))
    };
    assert!(render_alone(EXPOSE, &init("restartPolicy: Always,"), &Policy::default()).is_ok());
    let none = "Service web was refused: spec.ports[0].targetPort must name a port of the pods that it selects; they have: none.";
    assert_eq!(sentences(EXPOSE, &init("")), [none]);
    let udp = led_to().replace("containerPort: 8080", "containerPort: 8080, protocol: UDP");
    assert_eq!(sentences(EXPOSE, &udp), [none]);
}

#[test]
fn a_route_of_its_own_has_to_lead_to_a_service_that_there_is() {
    let ingress = |backend: &str| {
        format!(
            "{}\n---\n{{ apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{ name: own }}, spec: {{ rules: [{{ host: '{{{{ host }}}}', \
             http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ {backend} }} }} }}] }} }}] }} }}",
            led_to()
        )
    };
    for backend in ["name: web, port: { number: 80 }", "name: web, port: { name: http }"] {
        assert!(render_alone("", &ingress(backend), &Policy::default()).is_ok(), "{backend}");
    }
    let place = "Ingress own was refused: spec.rules[0].http.paths[0].backend.service";
    for (backend, rule) in [
        ("name: shop, port: { number: 80 }", "name must name a Service of the recipe; there are: web"),
        ("name: web, port: { number: 81 }", "port must be a port of Service web; it has: 80 (http)"),
        ("name: web, port: { name: web }", "port must be a port of Service web; it has: 80 (http)"),
        ("name: web", "port must be a port of Service web; it has: 80 (http)"),
    ] {
        assert_eq!(sentences("", &ingress(backend)), [format!("{place}.{rule}.")]);
    }
    // Where the application is asked whether it is well, its routes lead to it.
    let health = "expose: { health: '/healthz?full=1' }";
    let backend = "name: web, port: { number: 80 }";
    for path in ["path: /,", "path: /healthz,", "path: '/(api|healthz)',"] {
        assert!(
            render_alone(health, &ingress(backend).replace("path: /,", path), &Policy::default()).is_ok(),
            "{path}"
        );
    }
    let rule = "expose.health must be a path that a route leads to a Service; /healthz?full=1 is none, there are: /api";
    let below = ingress(backend).replace("path: /,", "path: /api,");
    assert_eq!(sentences(health, &below), [format!(".preview.yaml, line 3: {rule}.")]);
    assert!(render_alone("", &below, &Policy::default()).is_ok());
    let nowhere = "{ apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: own }, spec: { rules: [{ host: '{{ host }}' }] } }";
    assert!(sentences("", &format!("{}\n---\n{nowhere}", led_to()))[0].contains("expose must say"));
}

#[test]
fn where_a_gateway_leads_in_an_ingress_alone_leads_nowhere() {
    let gateway = "[ingress]\ngateway = { name = \"public\", namespace = \"gateways\" }\n";
    let policy = |text: &str| toml::from_str::<Policy>(text).expect("a policy");
    let ingress = format!(
        "{}\n---\n{{ apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{ name: own }}, spec: {{ rules: [{{ host: '{{{{ host }}}}', \
         http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ name: web, port: {{ number: 80 }} }} }} }}] }} }}] }} }}",
        led_to()
    );
    let rule = "kind must be HTTPRoute, unless expose says which Service the URL leads to: the operator's gateway (ingress.gateway) is the only way in";
    let refused = render_alone("", &ingress, &policy(gateway)).map_err(Cause::from).expect_err(rule);
    assert_eq!(refused.to_string(), format!("Ingress own was refused: {rule}."));
    let route = "{ apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: { name: own }, spec: { hostnames: ['{{ host }}'], \
                 rules: [{ backendRefs: [{ name: web, port: 80 }] }] } }";
    let both = render_alone("", &format!("{ingress}\n---\n{route}"), &policy(gateway)).expect("a render");
    let route = both.objects.iter().find(|object| object.kind == "HTTPRoute").expect("the route");
    assert_eq!(route.body["spec"]["parentRefs"], json!([{ "name": "public", "namespace": "gateways" }]));
    assert!(render_alone(EXPOSE, &ingress, &policy(gateway)).is_ok(), "previewd has a route of its own");
    let with_class = gateway.replace("[ingress]", "[ingress]\nclass = \"public\"");
    let render = render_alone("", &ingress, &policy(&with_class)).expect("there is a controller too");
    let ingress_of = |render: &Render| render.objects.iter().find(|object| object.kind == "Ingress").cloned();
    assert_eq!(ingress_of(&render).expect("the Ingress").body["spec"]["ingressClassName"], "public");
    assert!(render_alone("", &ingress, &policy(&format!("has_router = true\n{gateway}"))).is_ok());
}

/// It reads routes in their controllers' place, and knows no controller's expressions.
#[test]
fn a_route_has_a_path_that_the_router_can_follow() {
    let policy = Policy { has_router: true, ..Policy::default() };
    let ingress = |path: &str| {
        format!(
            "{}\n---\n{{ apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{ name: own }}, spec: {{ rules: [{{ host: '{{{{ host }}}}' }}, \
             {{ host: '{{{{ host }}}}', http: {{ paths: [{{ path: '{path}', pathType: ImplementationSpecific, backend: {{ service: {{ name: web, port: {{ \
             number: 80 }} }} }} }}] }} }}] }} }}",
            led_to()
        )
    };
    for path in ["/", "/*", "/(.*)", "/api(/|$)(.*)"] {
        assert!(render_alone("", &ingress(path), &policy).is_ok(), "{path}");
    }
    let told = |more: &str, path: &str| -> Vec<String> {
        let mistakes = render_alone(more, &ingress(path), &policy).expect_err("mistakes");
        mistakes.causes().map(ToString::to_string).collect()
    };
    let expression = "/(api|web)/.*";
    let rule = "spec.rules[1].http.paths[0].path must be a path such as /api: previewd's router follows no expressions but /* and (.*) at their end";
    assert_eq!(told("", expression), [format!("Ingress own was refused: {rule}.")]);
    assert!(render_alone("", &ingress(expression), &Policy::default()).is_ok(), "its controller follows it");
    assert!(render_alone(EXPOSE, &ingress(expression), &policy).is_ok(), "the recipe says where the URL leads");
    let rule = "expose.health must be a path that a route leads to a Service; /healthz is none, there are: /api";
    let health = told("expose: { health: /healthz }", "/api(/|$)(.*)");
    assert_eq!(health, [format!(".preview.yaml, line 3: {rule}.")]);
}

#[test]
fn everything_that_is_wrong_with_objects_is_told_at_once() {
    let yaml = format!(
        "{}\n---\n{}\n---\n{}",
        deployment(
            "hostNetwork: true, nodeName: x,",
            "env: [{ name: A, value: 1 }], securityContext: { privileged: true }"
        ),
        "{ apiVersion: v1, kind: ConfigMap, metadata: { name: x, namespace: other }, data: { a: 1 } }",
        "{ apiVersion: v1, kind: Pod, metadata: { name: x } }",
    );
    let told = sentences("", &yaml);
    for words in [
        "spec.hostNetwork",
        "spec.nodeName",
        "securityContext.privileged",
        "(A of web) must be text",
        "metadata.namespace",
        "data.a must be text",
        "no objects of this kind",
        "expose must say",
    ] {
        assert_eq!(told.iter().filter(|sentence| sentence.contains(words)).count(), 1, "{words}: {told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
}

#[test]
fn a_tag_that_is_no_commits_is_noted() {
    let notes = |image: &str| {
        let yaml = led_to().replace("image: shop", &format!("image: '{image}'"));
        render_alone(EXPOSE, &yaml, &Policy::default()).expect("a render").notes
    };
    assert_eq!(notes("ghcr.io/acme/shop:{{ sha }}"), Vec::<String>::new());
    assert_eq!(notes("shop:{{ short_sha }}-slim"), Vec::<String>::new());
    for image in [
        "shop:pr-{{ pull_request }}",
        "shop:pr{{ pull_request }}-web",
        "shop:feature-cart",
        "registry:5000/shop",
        "shop:latest",
    ] {
        assert!(notes(image).iter().any(|note| note.contains("name the commit")), "{image}: {:?}", notes(image));
    }
}

/// What others made says nothing of which commit the application is.
#[test]
fn images_without_a_version_are_noted_by_name() {
    let digest = format!("db@sha256:{}", "0a".repeat(32));
    let digest = digest.as_str();
    for (images, noted) in [
        (["shop:{{ sha }}", "db:16"], vec![]),
        (["shop:{{ sha }}", "db"], vec!["Deployment other: the image db names no version"]),
        (["shop:1", digest], vec!["No image names the commit"]),
        (["shop:latest", digest], vec!["Deployment web: the image shop:latest names", "No image names the commit"]),
        (["shop:main", "shop:main"], vec!["Deployment web: the image shop:main names no version"]),
        (["shop:pr-7", "shop:pr-7"], vec!["Deployment web: the tag of shop:pr-7 is the pull request's"]),
    ] {
        let [web, other] = images.map(|image| format!("image: '{image}'"));
        let web = led_to().replace("image: shop", &web);
        let other = deployment("", "").replace("web", "other").replace("a: b", "c: d").replace("image: shop", &other);
        let yaml = format!("{web}\n---\n{other}");
        let notes = render_alone(EXPOSE, &yaml, &Policy::default()).expect("a render").notes;
        assert_eq!(notes.len(), noted.len(), "{images:?}: {notes:?}");
        for words in noted {
            assert!(notes.iter().any(|note| note.starts_with(words)), "{words}: {notes:?}");
        }
    }
}

/// What the recipe fills from the pull request's own variables is its own, whatever it looks like.
#[test]
fn images_of_the_pull_request_are_known_by_their_templates() {
    for (image, own) in [
        ("shop:{{ pull_request }}", "shop:7"),
        ("shop:{{ pull_request }}-web", "shop:7-web"),
        ("shop:preview{{ pull_request }}", "shop:preview7"),
        ("{{ namespace }}/shop", "NAMESPACE/shop"),
        ("shop:pr-7", "shop:pr-7"),
        ("shop:{{ pull_request }}-{{ sha }}", ""),
        ("shop:7", ""),
        ("{{ repository }}:7", ""),
    ] {
        let yaml = deployment("", "").replace("image: shop", &format!("image: '{image}'"));
        let render =
            rendered(&format!("{yaml}\n---\n{}", deployment("", "").replace("web", "other"))).expect("a render");
        let own = own.replace("NAMESPACE", &render.namespace.name);
        let found: Vec<&String> = render.own_images.iter().collect();
        assert_eq!(found, if own.is_empty() { vec![] } else { vec![&own] }, "{image}");
        let is_pulled_anew = |name: &str| {
            let web = render.objects.iter().find(|object| object.kind == "Deployment" && object.name == name);
            web.expect(name).body["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "Always"
        };
        assert_eq!((is_pulled_anew("web"), is_pulled_anew("other")), (!own.is_empty(), false), "{image}");
    }
}

#[test]
fn images_of_the_pull_request_are_pulled_anew_whatever_a_chart_says() {
    let digest = format!("shop:pr-7@sha256:{}", "0a".repeat(32));
    for (image, asked, policy, is_noted) in [
        ("shop:pr-7", "IfNotPresent", "Always", false),
        ("shop:pr-7", "Always", "Always", false),
        ("shop:pr-7", "Never", "Never", true),
        ("shop:1", "IfNotPresent", "IfNotPresent", false),
        ("shop:1", "Never", "Never", false),
        (digest.as_str(), "IfNotPresent", "IfNotPresent", false),
    ] {
        let container = format!("imagePullPolicy: {asked}");
        let yaml = deployment("", &container).replace("image: shop", &format!("image: '{image}'"));
        let render = rendered(&yaml).expect("a render");
        let container = &render.objects[0].body["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], policy, "{image}, {asked}");
        let has_note = render.notes.iter().any(|note| note.contains("imagePullPolicy is Never"));
        assert_eq!(has_note, is_noted, "{image}, {asked}: {:?}", render.notes);
    }
}

#[test]
fn what_no_pod_starts_without_is_noted() {
    let yaml = deployment(
        "volumes: [{ name: v, persistentVolumeClaim: { claimName: data } }, { name: c, configMap: { name: kube-root-ca.crt } }],",
        "envFrom: [{ secretRef: { name: nope } }, { configMapRef: { name: led-to, optional: true } }]",
    );
    let render = rendered(&yaml).expect("a render");
    let missing: Vec<_> = render.missing().map(|(object, missing)| (object.name.as_str(), missing)).collect();
    assert_eq!(missing, [("web", ("PersistentVolumeClaim", "data")), ("web", ("Secret", "nope"))]);
    let notes = render.notes;
    let told = |what: &str| {
        format!(
            "Deployment web: spec.template.spec names {what}, which the recipe does not make: no pod starts without it."
        )
    };
    assert_eq!(notes, [told("PersistentVolumeClaim data"), told("Secret nope")]);
}
