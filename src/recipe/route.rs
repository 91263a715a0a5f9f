//! The way in: what leads from the environment's URL to one of its Services.

use serde_json::{Value, json};

use super::{Backend, Context, Object, admission::is_set};

/// The name of the route.
const NAME: &str = "preview";
/// What named an Ingress' class before there was a field for it:
/// <https://kubernetes.io/docs/concepts/services-networking/ingress/#deprecated-annotation>.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// An HTTPRoute or an Ingress for the environment's host, still to be filled in.
pub(super) fn route(context: &Context<'_>, backend: &Backend) -> Object {
    let host = context.url.host();
    if context.policy.ingress.gateway.is_some() {
        Object::from_body(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": NAME },
            "spec": {
                "hostnames": [host],
                "rules": [{ "backendRefs": [{ "name": backend.service, "port": backend.port }] }],
            },
        }))
    } else {
        let service = json!({ "service": { "name": backend.service, "port": { "number": backend.port } } });
        let path = json!({ "path": "/", "pathType": "Prefix", "backend": service });
        let mut spec = json!({ "rules": [{ "host": host, "http": { "paths": [path] } }] });
        if is_by_tls(context) {
            spec["tls"] = json!([{ "hosts": [host] }]);
        }
        Object::from_body(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": { "name": NAME },
            "spec": spec,
        }))
    }
}

fn is_by_tls(context: &Context<'_>) -> bool {
    context.url.as_str().starts_with("https://")
}

/// Has a route be the operator's where it leaves that open: nobody would serve it otherwise.
pub(super) fn fill_in(route: &mut Object, context: &Context<'_>) {
    match route.kind.as_str() {
        "Ingress" => fill_in_ingress(&mut route.body, context),
        "HTTPRoute" => fill_in_http_route(&mut route.body, context),
        _ => {}
    }
}

fn fill_in_ingress(body: &mut Value, context: &Context<'_>) {
    let policy = &context.policy.ingress;
    let names_class =
        is_set(&body["spec"]["ingressClassName"]) || is_set(&body["metadata"]["annotations"][CLASS_ANNOTATION]);
    if let Some(class) = policy.class.as_ref().filter(|_| !names_class) {
        body["spec"]["ingressClassName"] = json!(class);
    }
    for (annotation, value) in &policy.annotations {
        let own = &mut body["metadata"]["annotations"][annotation];
        if own.is_null() {
            *own = json!(value);
        }
    }
    // TLS may end before the controller, which sends whoever comes without it round in a circle where it is told of TLS.
    let ends_here = policy.tls_secret.is_some() || !policy.annotations.is_empty();
    let names_tls = is_set(&body["spec"]["tls"]);
    if is_by_tls(context) && (names_tls || ends_here) {
        let tls = &mut body["spec"]["tls"];
        if !names_tls {
            *tls = json!([{ "hosts": [context.url.host()] }]);
        }
        for entry in tls.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            let names_secret = entry.get("secretName").is_some_and(is_set);
            if let Some(secret) = policy.tls_secret.as_ref().filter(|_| !names_secret) {
                entry.insert("secretName".to_owned(), json!(secret));
            }
        }
    }
}

fn fill_in_http_route(body: &mut Value, context: &Context<'_>) {
    let parents = &mut body["spec"]["parentRefs"];
    if let Some(gateway) = context.policy.ingress.gateway.as_ref().filter(|_| !is_set(parents)) {
        *parents = json!([{ "name": gateway.name, "namespace": gateway.namespace }]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{Charted, Files, Policy},
        *,
    };
    use crate::environment::{CommitSha, Namespace, PublicUrl, RepositoryName};

    /// What becomes of a route of a recipe's own under `policy`.
    fn filled_in(policy: &str, mut body: Value) -> Value {
        let policy: Policy = toml::from_str(policy).expect("a policy");
        let repository: RepositoryName = "acme/shop".parse().expect("a repository");
        let namespace: Namespace = "pr-7-shop".parse().expect("a namespace");
        let commit: CommitSha = "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit");
        let context = Context {
            repository: &repository,
            pull_request: 7,
            commit: &commit,
            branch: "cart",
            namespace: &namespace,
            url: &PublicUrl::of(&namespace, &"preview.example.com".parse().expect("a domain")),
            environment_id: "7",
            installation_id: "1",
            policy: &policy,
            passwords: &BTreeMap::new(),
            secrets: None,
            registries: None,
            files: &Files::new(),
            charted: &Charted::default(),
        };
        body["metadata"]["name"] = json!("own");
        let mut route = Object::from_body(body);
        fill_in(&mut route, &context);
        route.body
    }

    #[test]
    fn an_ingress_is_the_operators_where_it_leaves_that_open() {
        let policy =
            "[ingress]\nclass = \"public\"\nannotations = { a = \"1\", b = \"2\" }\ntls_secret = \"certificate\"\n";
        let filled = |more: Value, annotations: Value| {
            filled_in(policy, json!({ "kind": "Ingress", "metadata": { "annotations": annotations }, "spec": more }))
        };
        let host = "pr-7-shop.preview.example.com";
        let all = filled(json!({}), Value::Null);
        let tls = json!([{ "hosts": [host], "secretName": "certificate" }]);
        assert_eq!(all["spec"], json!({ "ingressClassName": "public", "tls": tls }));
        assert_eq!(all["metadata"]["annotations"], json!({ "a": "1", "b": "2" }));

        let own = json!({ "ingressClassName": "public", "tls": [{ "hosts": [host], "secretName": "own" }, {}] });
        let kept = filled(own, json!({ "a": "own", "c": "3" }));
        let tls = json!([{ "hosts": [host], "secretName": "own" }, { "secretName": "certificate" }]);
        assert_eq!(kept["spec"]["tls"], tls);
        assert_eq!(kept["metadata"]["annotations"], json!({ "a": "own", "b": "2", "c": "3" }));
        let by_annotation = filled(json!({}), json!({ (CLASS_ANNOTATION): "other" }));
        assert_eq!(by_annotation["spec"]["ingressClassName"], Value::Null);

        let class_alone = filled_in("[ingress]\nclass = \"public\"\n", json!({ "kind": "Ingress", "spec": {} }));
        assert_eq!(class_alone["spec"], json!({ "ingressClassName": "public" }), "TLS may end elsewhere");
        let nothing = filled_in("", json!({ "kind": "Ingress", "spec": { "tls": [{ "hosts": [host] }] } }));
        assert_eq!(nothing["spec"], json!({ "tls": [{ "hosts": [host] }] }));
        assert_eq!(nothing["metadata"], json!({ "name": "own" }));
    }

    #[test]
    fn an_http_route_is_of_the_operators_gateway() {
        let policy = "[ingress]\ngateway = { name = \"public\", namespace = \"gateways\" }\n";
        let parent = json!({ "name": "public", "namespace": "gateways" });
        for left_out in [json!({}), json!({ "parentRefs": [] }), json!({ "parentRefs": null })] {
            let route = filled_in(policy, json!({ "kind": "HTTPRoute", "spec": left_out }));
            assert_eq!(route["spec"], json!({ "parentRefs": [parent] }), "{left_out}");
        }
        let own = json!([{ "name": "public", "namespace": "gateways", "sectionName": "https" }]);
        let route = filled_in(policy, json!({ "kind": "HTTPRoute", "spec": { "parentRefs": own } }));
        assert_eq!(route["spec"]["parentRefs"], own);
    }
}
