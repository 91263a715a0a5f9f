//! A recipe, for one commit, to everything that the cluster is to hold.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Backend, Charted, Content, Mistakes, Object, Pins, Policy, Recipe, Template, Variable, admission, app, helm,
    image::is_of_pull_request, manifests, mistakes::Findings, pods, references, route, shares, tags, walls,
};
use crate::environment::{Cause, CommitSha, Namespace, PublicUrl, RepositoryName};

/// The longest text that a template may render to, in bytes. Linux would take 128 KiB; Kubernetes' database takes 1.5 MiB
/// for the whole object.
const LONGEST_RENDERED: usize = 8_192;

/// What a recipe is rendered for.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub repository: &'a RepositoryName,
    pub pull_request: i64,
    pub commit: &'a CommitSha,
    /// The pull request's branch, as its author named it.
    pub branch: &'a str,
    pub namespace: &'a Namespace,
    pub url: &'a PublicUrl,
    /// The environment's id, which every object carries as a label.
    pub environment_id: &'a str,
    /// The id of this installation of previewd, on which every listing selects.
    pub installation_id: &'a str,
    pub policy: &'a Policy,
    /// The password of each of the recipe's databases, by its name.
    pub passwords: &'a BTreeMap<String, String>,
    /// What the operator gives the repository's recipes, by name. None: it comes from a fork, and gets nothing.
    pub secrets: Option<&'a Secrets>,
    /// The credentials of registries, as `.dockerconfigjson`. None: images are pulled by anybody.
    pub registries: Option<&'a str>,
    /// The files that [`Recipe::files`] asks for.
    pub files: &'a Files,
    /// What helm made of [`Recipe::chart`].
    pub charted: &'a Charted,
}

/// Secret values, by the names of their variables.
pub type Secrets = BTreeMap<String, SecretString>;

/// Files of the repository, by their path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a kind of recipe makes, before previewd makes it its own.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Each phase is applied once what the ones before it started is ready, or has ended well.
    pub phases: Vec<Vec<Object>>,
    /// What the URL leads to. None: one of the objects is a route.
    pub backend: Option<Backend>,
}

/// The objects of one environment, in the order in which they are applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Render {
    pub namespace: Object,
    /// What limits the environment. Applied before any of its objects.
    pub walls: Vec<Object>,
    pub objects: Vec<Object>,
    /// How many of the objects belong to the phases up to each: a phase is applied once what the ones before it started
    /// is ready, or has ended well. The last phase has the rest.
    #[serde(default)]
    pub phase_ends: Vec<usize>,
    /// What the URL leads to. None: one of the objects is a route that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Sentences for whoever wrote the recipe: what was made safe, and what may not be as it is meant. They are not kept.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// The digests that images are deployed by, where their tags may be moved.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
    /// The images, as the recipe names them, that are pushed anew for each commit of the pull request under the same name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub own_images: BTreeSet<String>,
    /// Of a chart: whether it was made for an upgrade of its release, and not for its installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrades: Option<bool>,
}

/// The objects of `recipe` for the commit and the environment of `context`.
///
/// # Errors
///
/// [`Cause::InvalidRecipe`] where a template renders to what its field may not be, [`Cause::ObjectRefused`] where it
/// makes what an environment may not hold, and [`Cause::QuotaExceeded`] where it asks for more than one may have: all of
/// them at once.
pub fn render(recipe: &Recipe, context: &Context<'_>) -> Result<Render, Mistakes> {
    let mut findings = Findings::default();
    let mut draft = match recipe.content() {
        Some(Content::App(app)) => app::draft(recipe, app, context, &mut findings),
        Some(Content::Helm) => helm::draft(recipe, context, &mut findings),
        Some(Content::Manifests) | None => manifests::draft(recipe, context, &mut findings),
    };
    let secret = operators_secrets(recipe, context, &mut findings);
    let could_be_read = !findings.are_mistakes();
    // What nobody may do is told before what only does not work.
    let mut others = Findings::default();
    let are_shaped = admission::admit(&mut draft.phases, context, &mut findings, &mut others);
    let own_images = tags::own_images(recipe, &draft.phases, context);
    // What could not be read is not missing.
    if are_shaped && could_be_read {
        if recipe.app.is_none() {
            admission::admit_leads(recipe, &draft.phases, draft.backend.as_ref(), context, &mut others);
        }
        admission::note_what_is_missing(&draft.phases, &mut others);
        tags::note_tags(recipe, &draft.phases, &own_images, context, &mut others);
    }
    // previewd's own router reads it from the render.
    if let Some(backend) = draft.backend.as_ref().filter(|_| !context.policy.has_router) {
        let route = route::route(context, backend);
        admission::admit_beside(&draft.phases, &route, &mut findings);
        // With the Service that it leads to: what comes after that may already want to be reached.
        let is_service = |object: &Object| object.kind == "Service" && object.name == backend.service;
        let with_service = draft.phases.iter().position(|phase| phase.iter().any(is_service));
        let last = draft.phases.iter().rposition(|phase| !phase.is_empty());
        if let Some(phase) = with_service.or(last).and_then(|phase| draft.phases.get_mut(phase)) {
            phase.push(route);
        }
    }
    if are_shaped {
        shares::share(&mut draft.phases, &context.policy.quota, &mut findings);
    }
    findings.append(others);
    let notes = findings.into_notes()?;
    if let Some(secret) = secret {
        draft.phases.insert(0, vec![secret]);
    }
    draft.phases.retain(|phase| !phase.is_empty());
    // What previewd makes itself is in order, and hooks have an order of their own.
    if recipe.app.is_none() {
        let without_hooks = |phase: &&mut Vec<Object>| phase.iter().all(|object| object.event().is_none());
        let phases = draft.phases.iter_mut().filter(without_hooks);
        phases.for_each(|phase| phase.sort_by_key(|object| admission::place_of(&object.kind)));
    }
    draft.phases.iter_mut().flatten().for_each(|object| {
        pods::take_over(object, &own_images, context);
        route::fill_in(object, context);
    });
    draft.phases.iter_mut().flatten().filter(|object| object.kind == "Secret").for_each(text_as_data);
    references::stamp_configuration(&mut draft.phases);
    let mut phase_ends = Vec::new();
    let mut objects = Vec::new();
    for phase in draft.phases {
        objects.extend(phase);
        phase_ends.push(objects.len());
    }
    let mut render = Render {
        namespace: walls::namespace(context),
        walls: walls::walls(context),
        objects,
        phase_ends,
        backend: draft.backend,
        notes,
        pins: Pins::new(),
        own_images,
        upgrades: recipe.helm.as_ref().map(|_| context.charted.is_upgrade),
    };
    if render.leaves_passing_objects() {
        // A phase in which nothing comes: with it goes what was there for the hooks of the last one.
        render.phase_ends.push(render.objects.len());
    }
    Ok(render)
}

/// Writes a Secret's text as the data that it stands for, over what is there under the same key. Applied as text, what a
/// commit leaves out of it would stay: <https://github.com/kubernetes/kubernetes/issues/108008>.
fn text_as_data(secret: &mut Object) {
    let Some(serde_json::Value::Object(text)) = secret.body.as_object_mut().and_then(|body| body.remove("stringData"))
    else {
        return;
    };
    for (key, value) in text {
        secret.body["data"][&key] = BASE64.encode(value.as_str().unwrap_or_default()).into();
    }
}

/// The Secret with what the operator gives the repository. None where the recipe asks for nothing of it.
fn operators_secrets(recipe: &Recipe, context: &Context<'_>, findings: &mut Findings) -> Option<Object> {
    let given = context.secrets.filter(|_| !recipe.secrets.is_empty())?;
    let mut data = serde_json::Map::new();
    for (index, name) in recipe.secrets.iter().enumerate() {
        match given.get(name.as_str()) {
            Some(value) => {
                data.insert(name.as_str().to_owned(), BASE64.encode(value.expose_secret()).into());
            }
            None => {
                let rule = "is none of the secrets that the operator gives this repository";
                findings.refuse(recipe.refuse(&format!("secrets[{index}]"), rule));
            }
        }
    }
    Some(Object::from_body(serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": walls::OPERATORS_SECRET },
        "type": "Opaque",
        "data": data,
    })))
}

impl Render {
    /// What stays in the namespace, in the order in which it is applied.
    pub fn applied(&self) -> impl Iterator<Item = &Object> {
        self.walls.iter().chain(&self.objects)
    }

    /// The objects of each phase, from the first to be applied.
    pub fn phases(&self) -> Vec<&[Object]> {
        let mut phases = Vec::new();
        let mut begin = 0;
        for end in &self.phase_ends {
            phases.push(self.objects.get(begin..*end).unwrap_or_default());
            begin = *end;
        }
        if begin < self.objects.len() || phases.is_empty() {
            phases.push(self.objects.get(begin..).unwrap_or_default());
        }
        phases
    }

    /// The same without what runs to its end, and what was there for that alone: it was done, and is not to be done again.
    pub fn lasting(&self) -> Self {
        let lasts = |object: &&Object| object.kind != "Job" && !object.is_passing();
        let objects = self.objects.iter().filter(lasts).cloned().collect();
        Self { objects, phase_ends: Vec::new(), ..self.clone() }
    }

    /// The objects that make pods.
    pub fn making_pods(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|object| pods::template(object).is_some())
    }

    /// The same, to be tried before they are applied, because what Pod Security, the limits or the quota refuse of a pod
    /// shows only when a controller makes it, and the rollout would only hang. A ServiceAccount of the recipe's own comes
    /// with its objects: pods that run under it are tried under the one that is there before.
    pub fn to_try(&self) -> impl Iterator<Item = Cow<'_, Object>> {
        let accounts = self.objects.iter().filter(|object| object.kind == "ServiceAccount");
        let accounts: BTreeSet<&str> = accounts.map(|object| object.name.as_str()).collect();
        self.making_pods().map(move |object| {
            let mut object = Cow::Borrowed(object);
            let account = |template: &Value| template["spec"]["serviceAccountName"].as_str().map(str::to_owned);
            let own = pods::template(&object).and_then(|(template, _)| account(template));
            if own.is_some_and(|own| accounts.contains(own.as_str()))
                && let Some(template) = pods::template_mut(object.to_mut())
            {
                template["spec"]["serviceAccountName"] = walls::SERVICE_ACCOUNT.into();
            }
            object
        })
    }

    /// The same with no pods.
    pub fn asleep(&self) -> Self {
        let mut asleep = self.clone();
        for object in asleep.objects.iter_mut().filter(|object| object.sleeps()) {
            match object.has_replicas() {
                true => object.body["spec"]["replicas"] = 0.into(),
                false => object.body["spec"]["suspend"] = true.into(),
            }
        }
        asleep
    }

    /// Whether there is something in it that only its pods are to read.
    pub fn holds_secrets(&self) -> bool {
        self.applied().any(|object| object.kind == "Secret")
    }

    /// As it is kept for later.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The reverse of [`Self::to_json`].
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Hex SHA-256 over the walls and the objects. Equal for renders that would put the same into the cluster.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for object in self.applied() {
            hash.update(object.digest());
        }
        hex::encode(hash.finalize())
    }
}

impl Context<'_> {
    fn value(&self, variable: Variable) -> Cow<'_, str> {
        match variable {
            Variable::Sha => self.commit.as_str().into(),
            Variable::ShortSha => self.commit.short().into(),
            Variable::PullRequest => self.pull_request.to_string().into(),
            Variable::Branch => self.branch.into(),
            Variable::Repository => self.repository.as_str().into(),
            Variable::Namespace => self.namespace.as_str().into(),
            Variable::Host => self.url.host().into(),
            Variable::Url => self.url.as_str().into(),
        }
    }

    /// Whether an image is pushed anew for each commit of the pull request, under the same tag.
    pub(super) fn builds(&self, image: &str) -> bool {
        is_of_pull_request(image, self.pull_request, self.branch)
    }

    /// What `template` is in this context.
    pub(super) fn fill(&self, template: &Template) -> String {
        template.render(|variable| self.value(variable))
    }

    /// What `template`, which `recipe` has as `field`, is in this context.
    pub(super) fn render(&self, recipe: &Recipe, field: &str, template: &Template) -> Result<String, Cause> {
        let rendered = self.fill(template);
        if rendered.len() > LONGEST_RENDERED {
            let rule = format!("must be at most {LONGEST_RENDERED} bytes long with its variables filled in");
            return Err(recipe.source.refuse(field, rule));
        }
        if rendered.contains('\0') {
            return Err(recipe.source.refuse(field, "must not contain a NUL character with its variables filled in"));
        }
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, networking::v1 as networking};
    use serde_json::json;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const DEFAULT: &str = "version: 1\napp: { image: 'ghcr.io/acme/shop:{{ sha }}', port: 8080 }\n";

    /// The render of `text` for pull request 7 of acme/shop, on `branch`, under `policy`.
    fn render_on(text: &str, branch: &str, policy: &Policy) -> Result<Render, Cause> {
        render_with(text, branch, policy, &Charted::default()).map_err(Cause::from)
    }

    fn render_with(text: &str, branch: &str, policy: &Policy, charted: &Charted) -> Result<Render, Mistakes> {
        let recipe = Recipe::parse(".preview.yaml", text)?;
        let repository: RepositoryName = "acme/shop".parse().expect("a repository");
        let namespace = Namespace::of_pull_request(42, &repository, 7);
        render(
            &recipe,
            &Context {
                repository: &repository,
                pull_request: 7,
                commit: &COMMIT.parse().expect("a commit"),
                branch,
                namespace: &namespace,
                url: &PublicUrl::of(&namespace, &"preview.example.com".parse().expect("a domain")),
                environment_id: "0198c0de-0000-7000-8000-000000000007",
                installation_id: "0198c0de-0000-7000-8000-000000000001",
                policy,
                passwords: &BTreeMap::from([("db".to_owned(), "hunter2".to_owned())]),
                secrets: None,
                registries: None,
                files: &Files::new(),
                charted,
            },
        )
    }

    fn rendered(text: &str) -> Render {
        render_on(text, "feature/cart", &Policy::default()).expect("a render")
    }

    fn app(fields: &str) -> String {
        format!("version: 1\napp:\n  image: shop\n  port: 8080\n  {fields}\n")
    }

    fn bodies(render: &Render) -> Value {
        let bodies = |objects: &[Object]| objects.iter().map(|object| object.body.clone()).collect::<Vec<_>>();
        json!({
            "namespace": render.namespace.body,
            "walls": bodies(&render.walls),
            "objects": bodies(&render.objects),
            "pods": pods_of(render).iter().map(|pod| pod.body.clone()).collect::<Vec<_>>(),
        })
    }

    fn pods_of(render: &Render) -> Vec<Object> {
        render.objects.iter().filter_map(Object::pod).map(|made| made.pod).collect()
    }

    fn spec(render: &Render) -> &Value {
        &render.objects[0].body["spec"]
    }

    fn container(render: &Render) -> &Value {
        &spec(render)["template"]["spec"]["containers"][0]
    }

    fn variable<'a>(render: &'a Render, name: &str) -> Option<&'a str> {
        let variables = container(render)["env"].as_array()?;
        variables.iter().find(|variable| variable["name"] == name)?["value"].as_str()
    }

    #[test]
    fn the_default_render_is_as_reviewed() {
        insta::assert_json_snapshot!(bodies(&rendered(DEFAULT)));
    }

    #[test]
    fn a_render_with_every_field_and_setting_is_as_reviewed() {
        let policy: Policy = toml::from_str(
            r#"
            denied_egress = ["203.0.113.0/24", "2001:db8::/32"]
            [quota]
            cpu = 2
            memory = "2Gi"
            [ingress]
            class = "nginx"
            annotations = { "cert-manager.io/cluster-issuer" = "letsencrypt" }
            tls_secret = "certificate"
            from = [{ range = "192.0.2.0/24" }, { pods = { labels = { app = "edge" } } }]
            "#,
        )
        .expect("a policy");
        let text = "
version: 1
app:
  image: ghcr.io/{{ repository }}:pr-{{ pull_request }}
  port: 3000
  health: /healthz
  env: { HOST: '{{ host }}', GREETING: 'hello from {{ branch }} at {{ short_sha }}', PREVIEW_URL: mine }
  command: [/shop]
  args: [serve, '--name={{ namespace }}']
  replicas: 2
  resources: { cpu: 0.5, memory: 1Gi }
  run_as: 1000
";
        insta::assert_json_snapshot!(bodies(&render_on(text, "feature/cart", &policy).expect("a render")));
    }

    /// A misspelled field would be dropped by the type, and the two would differ.
    #[test]
    fn kubernetes_knows_every_field() {
        fn through<T: serde::de::DeserializeOwned + serde::Serialize>(body: &Value) -> Value {
            serde_json::to_value(serde_json::from_value::<T>(body.clone()).expect("its type")).expect("JSON")
        }
        let render = rendered(&app("run_as: 5\n  command: [a]\n  args: [b]"));
        let objects = [&render.namespace].into_iter().chain(&render.walls).chain(&render.objects);
        for object in objects.chain(&pods_of(&render)) {
            let body = &object.body;
            let known = match object.kind.as_str() {
                "Namespace" => through::<core::Namespace>(body),
                "ResourceQuota" => through::<core::ResourceQuota>(body),
                "LimitRange" => through::<core::LimitRange>(body),
                "NetworkPolicy" => through::<networking::NetworkPolicy>(body),
                "ServiceAccount" => through::<core::ServiceAccount>(body),
                "Deployment" => through::<apps::Deployment>(body),
                "Service" => through::<core::Service>(body),
                "Ingress" => through::<networking::Ingress>(body),
                "Pod" => through::<core::Pod>(body),
                kind => panic!("{kind} has no type here"),
            };
            assert_eq!(&known, body);
            assert_eq!(object.api_version, body["apiVersion"]);
            assert!(!object.name.is_empty() && body["metadata"].get("namespace").is_none());
        }
    }

    #[test]
    fn names_are_told_apart_by_kind() {
        let render = rendered(DEFAULT);
        let names: std::collections::BTreeSet<_> =
            render.walls.iter().chain(&render.objects).map(|object| (&object.kind, &object.name)).collect();
        assert_eq!(names.len(), render.walls.len() + render.objects.len());
    }

    #[test]
    fn the_route_comes_with_its_service_and_waits_for_nothing() {
        let recipe = "version: 1\nhelm: { chart: ./chart }\nexpose: { service: web, port: 80 }\n";
        let service = "apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { selector: { app: web }, ports: [{ port: 80 }] }\n---\n\
                       apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { selector: { matchLabels: { app: web } }, \
                       template: { metadata: { labels: { app: web } }, spec: { containers: [{ name: web, image: shop }] } } }\n";
        let hook = "---\napiVersion: batch/v1\nkind: Job\nmetadata: { name: check, annotations: { helm.sh/hook: post-install } }\n\
                    spec: { template: { spec: { restartPolicy: Never, containers: [{ name: check, image: shop }] } } }\n";
        let phases = |output: String| {
            let charted = Charted { outputs: vec![output], ..Charted::default() };
            let render = render_with(recipe, "main", &Policy::default(), &charted).expect("a render");
            let route = render.objects.iter().position(|object| object.kind == "Ingress").expect("a route");
            (render.phase_ends.len(), render.phase_ends.iter().position(|end| route < *end))
        };
        assert_eq!(phases(service.to_owned()), (1, Some(0)));
        assert_eq!(phases(format!("{service}{hook}")), (2, Some(0)), "hooks after it may use it");
    }

    #[test]
    fn with_a_router_of_previewds_own_there_is_no_route() {
        let routed = |has_router| {
            let render = render_on(DEFAULT, "main", &Policy { has_router, ..Policy::default() }).expect("a render");
            let backend = render.backends().of("/").cloned();
            (render.objects.iter().any(|object| object.kind == "Ingress"), backend)
        };
        let backend = Some(Backend { service: "app".to_owned(), port: 80 });
        assert_eq!(routed(false), (true, backend.clone()));
        assert_eq!(routed(true), (false, backend));
    }

    #[test]
    fn the_quota_is_shared_so_that_a_new_commit_starts_beside_the_old() {
        for (fields, cpu, memory, strategy) in [
            ("replicas: 1", "250m", "256Mi", "RollingUpdate"),
            ("replicas: 3", "83m", "85Mi", "RollingUpdate"),
            ("resources: { cpu: 100m }", "100m", "256Mi", "RollingUpdate"),
            ("resources: { memory: 512Mi }", "250m", "512Mi", "Recreate"),
            ("resources: { cpu: 251m }", "251m", "256Mi", "Recreate"),
            ("resources: { cpu: 0.5, memory: 512Mi }", "500m", "512Mi", "Recreate"),
            ("replicas: 6", "41m", "42Mi", "Recreate"),
        ] {
            let render = rendered(&app(fields));
            let amounts = json!({ "cpu": cpu, "memory": memory });
            assert_eq!(container(&render)["resources"], json!({ "requests": amounts, "limits": amounts }), "{fields}");
            assert_eq!(spec(&render)["strategy"]["type"], strategy, "{fields}");
        }
    }

    #[test]
    fn more_than_the_quota_is_refused_with_both_figures() {
        let policy = Policy { quota: toml::from_str("pods = 2").expect("a quota"), ..Policy::default() };
        for (fields, resource, needed, allowed) in [
            ("resources: { cpu: 501m }", "CPU", "501m", "500m"),
            ("resources: { cpu: 251m, memory: 1Gi }\n  replicas: 2", "CPU", "502m", "500m"),
            ("resources: { memory: 0.6Gi }", "memory", "644245095", "512Mi"),
            ("resources: { memory: 7Ei }\n  replicas: 10", "memory", "18446744073709551615", "512Mi"),
            ("replicas: 3", "pods", "3", "2"),
        ] {
            let (resource, needed, allowed) = (resource.to_owned(), needed.to_owned(), allowed.to_owned());
            let refused = render_on(&app(fields), "main", &policy);
            assert_eq!(refused, Err(Cause::QuotaExceeded { resource, needed, allowed }), "{fields}");
        }
    }

    #[test]
    fn everything_of_which_there_is_too_much_is_named_at_once() {
        let policy =
            Policy { quota: toml::from_str("pods = 2\nstorage = \"1Gi\"").expect("a quota"), ..Policy::default() };
        let fields = "resources: { cpu: 501m, memory: 0.6Gi }\n  replicas: 3\n  volumes: { /data: 2Gi }";
        let refused = render_with(&app(fields), "main", &policy, &Charted::default()).expect_err("too much");
        let resources: Vec<&str> = refused
            .causes()
            .map(|cause| match cause {
                Cause::QuotaExceeded { resource, .. } => resource.as_str(),
                _ => panic!("{cause}"),
            })
            .collect();
        assert_eq!(resources, ["CPU", "memory", "storage", "pods"]);
    }

    /// Applications that look at the host they are asked for know theirs, and not their pods' addresses.
    #[test]
    fn what_is_asked_over_http_is_asked_for_the_previews_host() {
        let text = "version: 1\napp: { image: a, port: 80 }\n\
                    services: { api: { image: b, port: 81, health: /up }, queue: { image: c, port: 82 } }\n";
        let render = rendered(text);
        let probe = |name: &str| {
            let deployment = render.objects.iter().find(|object| object.kind == "Deployment" && object.name == name);
            deployment.expect(name).body["spec"]["template"]["spec"]["containers"][0]["readinessProbe"].clone()
        };
        let host = PublicUrl::of(
            &render.namespace.name.parse().expect("a namespace"),
            &"preview.example.com".parse().expect("a domain"),
        );
        let headers = json!([{ "name": "Host", "value": host.host() }]);
        for (name, path) in [("app", "/"), ("api", "/up")] {
            assert_eq!(probe(name)["httpGet"]["path"], path, "{name}");
            assert_eq!(probe(name)["httpGet"]["httpHeaders"], headers, "{name}");
        }
        assert_eq!((&probe("queue")["httpGet"], &probe("queue")["tcpSocket"]["port"]), (&json!(null), &json!("http")));
    }

    #[test]
    fn images_of_the_pull_request_are_pulled_anew_whatever_they_look_like() {
        let text = "version: 1\napp: { image: 'shop:{{ pull_request }}', port: 80 }\n\
                    services: { api: { image: 'api:{{ sha }}', port: 81 }, queue: { image: 'queue:7', port: 82 } }\n";
        let render = rendered(text);
        let policy = |name: &str| {
            let made = render.objects.iter().find(|object| object.kind == "Deployment" && object.name == name);
            made.expect(name).body["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"].clone()
        };
        assert_eq!(["app", "api", "queue"].map(policy), ["Always", "IfNotPresent", "IfNotPresent"]);
        assert_eq!(render.own_images.iter().collect::<Vec<_>>(), ["shop:7"]);
        assert_eq!(variable(&render, "PREVIEW_COMMIT"), None);
        assert_eq!(spec(&render)["template"]["metadata"]["labels"]["previewd.dev/commit"], COMMIT, "for each commit");
    }

    #[test]
    fn images_beside_the_app_are_noted_once_where_they_name_no_version() {
        let text = "version: 1\napp: { image: 'shop:{{ sha }}', port: 80 }\n\
                    services: { a: { image: api, port: 81 }, b: { image: api, port: 82 }, c: { image: 'c:7', port: 83 } }\n";
        let notes = rendered(text).notes;
        assert!(notes[0].starts_with("services.a.image (api) names no version: "), "{notes:?}");
        assert_eq!(notes.len(), 1, "{notes:?}");
    }

    /// SQLAlchemy takes no `postgres://`, and no library refuses the longer name.
    #[test]
    fn the_url_of_a_database_begins_as_every_library_reads_it() {
        let of = |engine: &str| {
            let text = format!("{DEFAULT}databases: {{ db: {{ engine: {engine}, version: '7' }} }}\n");
            let render = rendered(&text);
            let secret = render.objects.iter().find(|object| object.kind == "Secret").expect("a Secret").body.clone();
            let url = secret["data"]["URL"].as_str().expect("a URL").to_owned();
            String::from_utf8(BASE64.decode(url).expect("base64")).expect("text")
        };
        assert_eq!(of("postgres"), "postgresql://preview:hunter2@db:5432/preview");
        assert_eq!(of("redis"), "redis://default:hunter2@db:6379/0");
    }

    #[test]
    fn the_commit_is_stamped_only_where_it_is_used() {
        let stamp =
            |render: &Render| spec(render)["template"]["metadata"]["labels"].get("previewd.dev/commit").cloned();
        for fields in [
            "env: { A: '{{ sha }}' }",
            "env: { A: 'x{{ short_sha }}' }",
            "args: ['{{ sha }}']",
            "command: ['{{ sha }}']",
        ] {
            let render = rendered(&app(fields));
            assert_eq!(stamp(&render), Some(json!(COMMIT)), "{fields}");
            assert_eq!(variable(&render, "PREVIEW_COMMIT"), Some(COMMIT));
        }
        let render = rendered(&app("env: { A: '{{ branch }}' }"));
        assert_eq!(stamp(&render), None);
        assert_eq!(variable(&render, "PREVIEW_COMMIT"), None);
    }

    #[test]
    fn a_hostile_branch_is_data() {
        let text = app("env: { BRANCH: '{{ branch }}', MIXED: '${{ branch }}' }\n  args: ['{{ branch }}']");
        for branch in [
            "$(PREVIEW_URL)",
            "(PREVIEW_URL)",
            "$$(X)",
            "'; rm -rf /",
            "a\"}], \"x\": [{\"",
            "{{ sha }}",
            "\n- evil: true",
            "ünïcode",
            "x y",
        ] {
            let render = render_on(&text, branch, &Policy::default()).expect("a render");
            // Kubernetes reads $$ as $, and would otherwise expand $(NAME).
            let read_back = |value: Option<&str>| value.map(|value| value.replace("$$", "$"));
            let value = variable(&render, "BRANCH");
            assert_eq!(read_back(value).as_deref(), Some(branch));
            assert!(!value.unwrap_or_default().replace("$$", "").contains('$'));
            assert_eq!(
                variable(&render, "MIXED").map(|value| value.replace("$$", "")),
                variable(&render, "BRANCH").map(|value| value.replace("$$", ""))
            );
            assert_eq!(read_back(container(&render)["args"][0].as_str()).as_deref(), Some(branch));
        }
    }

    #[test]
    fn a_branch_chooses_no_image() {
        let text = "version: 1\napp:\n  port: 80\n  image: ghcr.io/acme/shop:{{ branch }}\n";
        assert!(render_on(text, "release-1.2", &Policy::default()).is_ok());
        for branch in ["feature/cart", "1@sha256:0", "a:b", "", "-x", "x y", &"a".repeat(129)] {
            let Err(Cause::InvalidRecipe { file, line, field, rule }) = render_on(text, branch, &Policy::default())
            else {
                panic!("{branch} was taken");
            };
            assert_eq!((file.as_str(), line, field.as_str()), (".preview.yaml", 4, "app.image"));
            assert_eq!(rule, "uses the branch, whose name may not stand in a tag; use {{ sha }} or {{ pull_request }}");
        }
    }

    #[test]
    fn what_only_shows_when_rendered_is_refused_with_its_line() {
        let long = format!("env:\n    A: '{}'", "{{ url }}".repeat(200));
        let many: String = (0..60).map(|index| format!("\n    A{index}: '{}'", "{{ url }}".repeat(100))).collect();
        for (text, line, field, rule) in [
            (
                "version: 1\napp:\n  image: not an image\n  port: 1".to_owned(),
                3,
                "app.image",
                "must be an image such as ghcr.io/acme/shop:{{ sha }}",
            ),
            (app(&long), 6, "app.env.A", "must be at most 8192 bytes long with its variables filled in"),
            (app(&format!("env:{many}")), 6, "app.env", "must be at most 256 KiB with its variables filled in"),
        ] {
            let refused = Cause::InvalidRecipe {
                file: ".preview.yaml".to_owned(),
                line,
                field: field.to_owned(),
                rule: rule.to_owned(),
            };
            assert_eq!(render_on(&text, "main", &Policy::default()), Err(refused));
        }
    }

    #[test]
    fn the_digest_changes_with_what_is_applied_and_with_nothing_else() {
        let digest = |text: &str| rendered(text).digest();
        assert_eq!(digest(DEFAULT), digest(&format!("# a comment\n{DEFAULT}")));
        assert_ne!(digest(DEFAULT), digest(&app("")));
        let wider = Policy { denied_egress: vec!["203.0.113.0/24".parse().expect("a range")], ..Policy::default() };
        assert_ne!(digest(DEFAULT), render_on(DEFAULT, "feature/cart", &wider).expect("a render").digest());
        assert_eq!(digest(DEFAULT), render_on(DEFAULT, "other", &Policy::default()).expect("a render").digest());
    }

    #[test]
    fn nobody_and_nowhere_are_walls_too() {
        let policy: Policy =
            toml::from_str("denied_egress = [\"0.0.0.0/0\", \"::/0\"]\ningress.from = []").expect("a policy");
        let render = render_on(DEFAULT, "main", &policy).expect("a render");
        let policies: Vec<_> =
            render.walls.iter().filter(|wall| wall.kind == "NetworkPolicy").map(|wall| wall.name.as_str()).collect();
        assert_eq!(policies, ["deny-everything", "allow-within-namespace", "allow-dns"]);
    }
}
