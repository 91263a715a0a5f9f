//! What strangers may try, and the sentence that each try ends in.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Charted, Context, Files, Policy, Recipe, Render, render};
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

fn refusal(yaml: &str) -> String {
    match rendered(yaml) {
        Err(cause @ Cause::ObjectRefused { .. }) => cause.to_string(),
        Err(cause) => panic!("refused for {cause}:\n{yaml}"),
        Ok(_) => panic!("taken:\n{yaml}"),
    }
}

/// A Deployment with `pod` in its pod's spec and `container` in its container.
fn deployment(pod: &str, container: &str) -> String {
    format!(
        "{{ apiVersion: apps/v1, kind: Deployment, metadata: {{ name: web }}, spec: {{ selector: {{ matchLabels: {{ a: b }} }}, \
         template: {{ metadata: {{ labels: {{ a: b }} }}, spec: {{ {pod} containers: [{{ name: web, image: shop, {container} }}] }} }} }} }}"
    )
}

#[test]
fn pods_that_reach_out_are_refused() {
    for (pod, field) in [
        ("hostNetwork: true,", "hostNetwork"),
        ("hostPID: true,", "hostPID"),
        ("hostIPC: true,", "hostIPC"),
        ("hostAliases: [{ ip: 10.0.0.1, hostnames: [x] }],", "hostAliases"),
        ("nodeName: master,", "nodeName"),
        ("priorityClassName: system-cluster-critical,", "priorityClassName"),
        ("priority: 1000000,", "priority"),
        ("preemptionPolicy: Never,", "preemptionPolicy"),
        ("runtimeClassName: other,", "runtimeClassName"),
        ("schedulerName: mine,", "schedulerName"),
        ("tolerations: [{ operator: Exists }],", "tolerations"),
        ("overhead: { cpu: 1 },", "overhead"),
        ("resourceClaims: [{ name: gpu }],", "resourceClaims"),
    ] {
        let expected = format!("Deployment web was refused: spec.template.spec.{field} must not be set.");
        assert_eq!(refusal(&deployment(pod, "")), expected);
    }
    // As charts write what they leave out.
    assert!(
        rendered(&deployment("hostNetwork: false, tolerations: [], nodeName: '', priorityClassName: null,", ""))
            .is_ok()
    );
}

#[test]
fn volumes_of_the_node_and_tokens_are_refused() {
    let allowed =
        "a volume may be configMap, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected, secret";
    for kind in ["hostPath", "nfs", "csi", "iscsi", "fc", "rbd", "gitRepo", "image", "awsElasticBlockStore"] {
        let yaml = deployment(&format!("volumes: [{{ name: v, {kind}: {{ path: / }} }}],"), "");
        assert_eq!(
            refusal(&yaml),
            format!("Deployment web was refused: spec.template.spec.volumes[0].{kind} must not be set; {allowed}.")
        );
    }
    for (volume, rule) in [
        (
            "projected: { sources: [{ serviceAccountToken: { path: token } }] }",
            "projected.sources[0].serviceAccountToken must not be set",
        ),
        (
            "projected: { sources: [{ configMap: { name: a } }, { clusterTrustBundle: { name: x } }] }",
            "projected.sources[1].clusterTrustBundle must not be set",
        ),
        ("secret: { secretName: previewd-registry }", "secret must not be previewd-registry, which is previewd's own"),
        (
            "projected: { sources: [{ secret: { name: previewd-registry } }] }",
            "projected.sources[0].secret is previewd's own",
        ),
        (
            "ephemeral: { volumeClaimTemplate: { spec: { volumeName: pv-of-others } } }",
            "ephemeral.volumeClaimTemplate.spec.volumeName must not be set",
        ),
    ] {
        let yaml = deployment(&format!("volumes: [{{ name: v, {volume} }}],"), "");
        assert_eq!(refusal(&yaml), format!("Deployment web was refused: spec.template.spec.volumes[0].{rule}."));
    }
}

#[test]
fn containers_with_privileges_are_refused() {
    for (container, rule) in [
        ("securityContext: { privileged: true }", "securityContext.privileged must not be true"),
        (
            "securityContext: { allowPrivilegeEscalation: true }",
            "securityContext.allowPrivilegeEscalation must not be true",
        ),
        ("securityContext: { runAsUser: 0 }", "securityContext.runAsUser must not be 0: nothing runs as root"),
        ("securityContext: { runAsNonRoot: false }", "securityContext.runAsNonRoot must not be false"),
        ("securityContext: { procMount: Unmasked }", "securityContext.procMount must not be set"),
        ("securityContext: { seLinuxOptions: { type: spc_t } }", "securityContext.seLinuxOptions must not be set"),
        (
            "securityContext: { seccompProfile: { type: Unconfined } }",
            "securityContext.seccompProfile must not be Unconfined",
        ),
        (
            "securityContext: { appArmorProfile: { type: Unconfined } }",
            "securityContext.appArmorProfile must not be Unconfined",
        ),
        (
            "securityContext: { capabilities: { add: [NET_BIND_SERVICE, SYS_ADMIN] } }",
            "securityContext.capabilities.add may only have NET_BIND_SERVICE",
        ),
        ("ports: [{ containerPort: 80, hostPort: 80 }]", "ports[0].hostPort must not be set"),
        ("ports: [{ containerPort: 80, hostIP: 10.0.0.1 }]", "ports[0].hostIP must not be set"),
        ("volumeDevices: [{ name: v, devicePath: /dev/sda }]", "volumeDevices must not be set"),
        (
            "env: [{ name: A, valueFrom: { secretKeyRef: { name: previewd-registry, key: x } } }]",
            "env[0] must not read previewd-registry, which is previewd's own",
        ),
        (
            "envFrom: [{ secretRef: { name: previewd-registry } }]",
            "envFrom[0] must not read previewd-registry, which is previewd's own",
        ),
    ] {
        assert_eq!(
            refusal(&deployment("", container)),
            format!("Deployment web was refused: spec.template.spec.containers[0].{rule}.")
        );
    }
    for (pod, rule) in [
        ("securityContext: { runAsUser: 0 },", "securityContext.runAsUser must not be 0: nothing runs as root"),
        (
            "securityContext: { sysctls: [{ name: kernel.shm_rmid_forced, value: '0' }] },",
            "securityContext.sysctls must not be set",
        ),
        (
            "initContainers: [{ name: i, image: x, securityContext: { privileged: true } }],",
            "initContainers[0].securityContext.privileged must not be true",
        ),
    ] {
        assert_eq!(refusal(&deployment(pod, "")), format!("Deployment web was refused: spec.template.spec.{rule}."));
    }
    // It is the same wherever pods come from.
    for (kind, version, spec, path) in [
        (
            "StatefulSet",
            "apps/v1",
            "template: { spec: { hostPID: true, containers: [{ name: a, image: b }] } }",
            "spec.template.spec",
        ),
        (
            "Job",
            "batch/v1",
            "template: { spec: { hostPID: true, containers: [{ name: a, image: b }] } }",
            "spec.template.spec",
        ),
        (
            "CronJob",
            "batch/v1",
            "jobTemplate: { spec: { template: { spec: { hostPID: true, containers: [{ name: a, image: b }] } } } }",
            "spec.jobTemplate.spec.template.spec",
        ),
    ] {
        let yaml = format!("{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: x }}, spec: {{ {spec} }} }}");
        assert_eq!(refusal(&yaml), format!("{kind} x was refused: {path}.hostPID must not be set."));
    }
}

#[test]
fn kinds_that_reach_beyond_the_namespace_are_refused() {
    for (version, kind) in [
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("v1", "Namespace"),
        ("v1", "Node"),
        ("v1", "PersistentVolume"),
        ("v1", "Pod"),
        ("v1", "Endpoints"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("v1", "ResourceQuota"),
        ("v1", "LimitRange"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "ReplicaSet"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("storage.k8s.io/v1", "StorageClass"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ] {
        let sentence = refusal(&format!("{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: x }} }}"));
        let begin = format!(
            "{kind} x was refused: an environment holds no objects of this kind; it may hold ConfigMap, CronJob,"
        );
        assert!(sentence.starts_with(&begin), "{sentence}");
    }
    assert_eq!(
        refusal("{ apiVersion: extensions/v1beta1, kind: Ingress, metadata: { name: x } }"),
        "Ingress x was refused: apiVersion must be networking.k8s.io/v1."
    );
}

#[test]
fn services_routes_and_claims_stay_in_their_place() {
    let rule = "ingressClassName: other, rules: [{ host: '{{ host }}' }]";
    for (object, refused) in [
        (
            "apiVersion: v1, kind: Service, metadata: { name: x }, spec: { type: LoadBalancer, selector: { a: b } }",
            "Service x was refused: spec.type must be ClusterIP; the URL leads in, and nothing else does.",
        ),
        (
            "apiVersion: v1, kind: Service, metadata: { name: x }, spec: { type: NodePort, selector: { a: b } }",
            "Service x was refused: spec.type must be ClusterIP; the URL leads in, and nothing else does.",
        ),
        (
            "apiVersion: v1, kind: Service, metadata: { name: x }, spec: { type: ExternalName, externalName: 169.254.169.254 }",
            "Service x was refused: spec.type must be ClusterIP; the URL leads in, and nothing else does.",
        ),
        (
            "apiVersion: v1, kind: Service, metadata: { name: x }, spec: { externalIPs: [10.0.0.1], selector: { a: b } }",
            "Service x was refused: spec.externalIPs must not be set.",
        ),
        (
            "apiVersion: v1, kind: Service, metadata: { name: x }, spec: { ports: [{ port: 80 }] }",
            "Service x was refused: spec.selector must be set: a Service leads to pods of the environment.",
        ),
        (
            "apiVersion: v1, kind: Service, metadata: { name: x, annotations: { external-dns.alpha.kubernetes.io/hostname: bank.example.com } }, spec: { selector: { a: b } }",
            "Service x was refused: metadata.annotations must not have external-dns.alpha.kubernetes.io/hostname; the operator may allow it (ingress.allowed_annotations).",
        ),
        (
            "apiVersion: v1, kind: Secret, metadata: { name: x }, type: kubernetes.io/service-account-token",
            "Secret x was refused: type must be Opaque, kubernetes.io/tls or kubernetes.io/dockerconfigjson.",
        ),
        (
            "apiVersion: v1, kind: ServiceAccount, metadata: { name: preview }",
            "ServiceAccount preview was refused: metadata.name must not be preview, which is previewd's own.",
        ),
        (
            "apiVersion: v1, kind: PersistentVolumeClaim, metadata: { name: x }, spec: { volumeName: data-of-others }",
            "PersistentVolumeClaim x was refused: spec.volumeName must not be set.",
        ),
        (
            "apiVersion: v1, kind: PersistentVolumeClaim, metadata: { name: x }, spec: { dataSource: { kind: PersistentVolumeClaim, name: y } }",
            "PersistentVolumeClaim x was refused: spec.dataSource must not be set.",
        ),
        (
            "apiVersion: v1, kind: PersistentVolumeClaim, metadata: { name: x }, spec: { volumeMode: Block }",
            "PersistentVolumeClaim x was refused: spec.volumeMode must be Filesystem.",
        ),
        (
            "apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: x }, spec: { rules: [{ host: bank.example.com }] }",
            "Ingress x was refused: spec.rules[0].host must be {{ host }}: an environment answers at its own host only.",
        ),
        (
            "apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: x }, spec: { rules: [{ host: '{{ host }}' }, {}] }",
            "Ingress x was refused: spec.rules[1].host must be {{ host }}: an environment answers at its own host only.",
        ),
        (
            "apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: x }, spec: { defaultBackend: { service: { name: a } } }",
            "Ingress x was refused: spec.defaultBackend must not be set.",
        ),
        (
            "apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: x }",
            "Ingress x was refused: spec.rules must have a rule for {{ host }}.",
        ),
        (
            "apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: x }, spec: { rules: [{ host: '{{ host }}' }], tls: [{ hosts: [bank.example.com] }] }",
            "Ingress x was refused: spec.tls[0].hosts must be {{ host }}: an environment answers at its own host only.",
        ),
        (
            "apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: { name: x, annotations: { nginx.ingress.kubernetes.io/configuration-snippet: 'x' } }, spec: { rules: [{ host: '{{ host }}' }] }",
            "Ingress x was refused: metadata.annotations must not have nginx.ingress.kubernetes.io/configuration-snippet; the operator may allow it (ingress.allowed_annotations).",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: { name: x }, spec: { hostnames: ['{{ host }}'] }",
            "HTTPRoute x was refused: the operator names no gateway (ingress.gateway) that it could belong to.",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: { name: x }, spec: { hostnames: ['*.example.com'] }",
            "HTTPRoute x was refused: spec.hostnames must be {{ host }}: an environment answers at its own host only.",
        ),
    ] {
        assert_eq!(refusal(&format!("{{ {object} }}")), refused);
    }
    let class =
        format!("{{ apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{ name: x }}, spec: {{ {rule} }} }}");
    assert_eq!(
        refusal(&class),
        "Ingress x was refused: spec.ingressClassName must be the operator's (ingress.class), or left out."
    );
    let policy: Policy = toml::from_str(
        "[ingress]\nclass = \"other\"\nallowed_annotations = [\"example.com/allowed\"]\n\
         gateway = { name = \"public\", namespace = \"gateways\" }\n",
    )
    .expect("a policy");
    assert!(rendered_under(&class, &policy).is_ok());
    let route = |spec: &str| {
        format!(
            "{{ apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{ name: x }}, spec: {{ hostnames: ['{{{{ host }}}}'], {spec} }} }}"
        )
    };
    let own = "parentRefs: [{ name: public, namespace: gateways }]";
    assert!(rendered_under(&route(own), &policy).is_ok());
    for (spec, rule) in [
        (
            "parentRefs: [{ name: internal, namespace: gateways }]".to_owned(),
            "spec.parentRefs[0] must be the operator's gateway (ingress.gateway)",
        ),
        (
            format!("{own}, rules: [{{ backendRefs: [{{ name: a, namespace: kube-system }}] }}]"),
            "spec.rules[0].backendRefs[0] must be a Service of the environment",
        ),
        (
            format!("{own}, rules: [{{ filters: [{{ type: RequestMirror }}] }}]"),
            "spec.rules[0].filters must not be set",
        ),
    ] {
        let refused = rendered_under(&route(&spec), &policy).expect_err(&spec).to_string();
        assert_eq!(refused, format!("HTTPRoute x was refused: {rule}."));
    }
}

#[test]
fn names_labels_and_numbers_have_rules() {
    let map = |name: &str| format!("{{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: {name} }} }}");
    for (yaml, refused) in [
        (format!("{}\n---\n{}", map("a"), map("a")), "ConfigMap a was refused: there are two of this kind and name."),
        (
            map("'@everyone'"),
            "ConfigMap number 1 was refused: metadata.name must be a name of lower-case letters, digits, dashes and dots.",
        ),
        (
            map("''"),
            "ConfigMap number 1 was refused: metadata.name must be a name of lower-case letters, digits, dashes and dots.",
        ),
        ("[1, 2]".to_owned(), "Object number 1 was refused: it must be a mapping with apiVersion, kind and metadata."),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { generateName: a-, name: a } }".to_owned(),
            "ConfigMap a was refused: metadata.generateName must not be set.",
        ),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, finalizers: [example.com/never] } }".to_owned(),
            "ConfigMap a was refused: metadata.finalizers must not be set.",
        ),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, ownerReferences: [{ uid: x }] } }".to_owned(),
            "ConfigMap a was refused: metadata.ownerReferences must not be set.",
        ),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, namespace: kube-system } }".to_owned(),
            "ConfigMap a was refused: metadata.namespace must be {{ namespace }}, or left out.",
        ),
        (
            "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, labels: { previewd.dev/environment: other } } }"
                .to_owned(),
            "ConfigMap a was refused: metadata.labels must not begin with previewd.dev/.",
        ),
        (
            (0..201).map(|n| map(&format!("a{n}"))).collect::<Vec<_>>().join("\n---\n"),
            "The recipe as a whole was refused: it makes 201 objects, and may make 200.",
        ),
    ] {
        assert_eq!(refusal(&yaml), refused);
    }
    let large = (0..6).map(|n| format!("a{n}: '{}'", "{{ url }}".repeat(16_000))).collect::<Vec<_>>().join(", ");
    let sentence =
        refusal(&format!("{{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: a }}, data: {{ {large} }} }}"));
    assert!(sentence.contains("KiB large, and may be 1024 KiB"), "{sentence}");
}

#[test]
fn files_that_are_no_manifests_are_refused_with_their_line() {
    for (yaml, line, rule) in [
        ("a: 1\na: 2\n", 2, "has the same key twice in one mapping"),
        ("{ apiVersion: v1, kind: ConfigMap, metadata: { name: a } }\n---\na: [\n", 4, "is not valid YAML"),
        ("a: !!python/object x\n", 1, "must not use YAML tags"),
        ("a: {{ sha }}\n", 1, "is not valid YAML"),
    ] {
        let Err(Cause::InvalidRecipe { file, line: found, rule: said, .. }) = rendered(yaml) else {
            panic!("taken: {yaml}");
        };
        assert_eq!((file.as_str(), said.as_str()), ("k8s.yaml", rule), "{yaml}");
        assert!(found.abs_diff(line) <= 1, "{yaml}: line {found}");
    }
    let bomb = {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        bomb
    };
    let refused = rendered(&bomb).expect_err("a bomb").to_string();
    assert!(refused.contains("is too large or too deep"), "{refused}");
    let unknown = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: 'at {{ shaa }}'\n";
    assert_eq!(
        rendered(unknown).expect_err("an unknown variable").to_string(),
        "k8s.yaml, line 6: data.x uses an unknown variable; did you mean {{ sha }}?"
    );
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
    let pods: Vec<&Value> = render.pod_templates.iter().map(|pod| &pod.body["metadata"]["name"]).collect();
    assert_eq!(pods, [&json!("web")]);
    let account =
        "{ apiVersion: v1, kind: ServiceAccount, metadata: { name: web }, automountServiceAccountToken: true }";
    assert_eq!(rendered(account).expect("a render").objects[0].body["automountServiceAccountToken"], false);
}
