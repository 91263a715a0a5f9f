//! What may differ from one preview to another: every key of the configuration and every field of the recipe is a part of
//! a factor here, or an exception with its reason.

/// Something that differs, and the ways in which it does.
pub struct Factor {
    /// One word each, which is the only of its kind among all factors. The first is what most have; names of rows say it
    /// of the first two factors only.
    pub levels: &'static [&'static str],
    /// Of the configuration, by their dotted paths: `*` stands for any name, `[]` for what a list holds.
    pub keys: &'static [&'static str],
    /// Of the recipe, by the same.
    pub fields: &'static [&'static str],
}

const fn factor(
    levels: &'static [&'static str],
    keys: &'static [&'static str],
    fields: &'static [&'static str],
) -> Factor {
    Factor { levels, keys, fields }
}

/// How many factors a row's name says in any case.
pub const ALWAYS_SAID: usize = 2;

pub const FACTORS: &[Factor] = &[
    // What happens. A broken push is one that does not start, and is followed by a good one; what is rolled back started.
    // `kill` is SIGKILL to previewd in the middle of a deployment.
    factor(&["open", "push", "broken", "rollback", "retry", "reset", "sleep", "reopen", "fork", "kill"], &[], &[]),
    // What is deployed.
    factor(&["app", "manifests", "chart"], &[], &["app.port", "manifests", "helm.chart"]),
    // Whether the URL is asked before it counts as running.
    factor(&["unproved", "proved"], &["probe_urls"], &[]),
    // The way in.
    factor(
        &["ingress", "router", "gateway"],
        &["router.enabled", "ingress.gateway.name", "ingress.gateway.namespace"],
        &[],
    ),
    factor(&["auto", "direct"], &["router.reach"], &[]),
    factor(&["public", "login"], &["router.login", "public_url"], &[]),
    // Class, certificate and annotations of the Ingress, and annotations that the repository's own may have.
    factor(
        &["plain", "dressed"],
        &["ingress.class", "ingress.annotations", "ingress.tls_secret", "ingress.allowed_annotations"],
        &[],
    ),
    // By what GitHub is told: the operator says `both`, the recipe `deployments`.
    factor(&["commented", "both", "deployments"], &["github.report"], &["report"]),
    // One that is there for every commit; the commit's own, which its registry has late; the same where nobody asks.
    factor(
        &["shared", "built", "unasked"],
        &[
            "images.ask_registries",
            "images.wait",
            "registries.*.username",
            "registries.*.password",
            "registries.*.plain_http",
        ],
        &["app.image"],
    ),
    // Whether it sleeps: the operator says `sleepy`, the recipe `drowsy`.
    factor(&["wakeful", "sleepy", "drowsy"], &["lifetime.sleep_after"], &["sleep_after"]),
    // The operator says `hours` and sets a limit, the recipe `never`.
    factor(&["days", "hours", "never"], &["lifetime.ttl", "limits.ttl"], &["ttl"]),
    // `limited`: there is one place of each kind, which this environment gives back and takes again.
    factor(
        &["unlimited", "limited"],
        &["limits.environments", "limits.environments_per_repository", "teams.*.environments"],
        &[],
    ),
    // The default of 500m is too much for as many rows at once on one node.
    factor(
        &["narrow", "wide"],
        &["quota.cpu", "quota.memory", "quota.pods", "quota.storage", "quota.persistent_volume_claims"],
        &[],
    ),
    // Where it may go and who may come: pods of the usual controllers, or ranges of addresses.
    factor(
        &["isolated", "ranges"],
        &[
            "denied_egress",
            "ingress.from[].range",
            "ingress.from[].pods.labels",
            "ingress.from[].pods.namespace_labels",
        ],
        &[],
    ),
    // Which pull requests: the operator says `filtered`, the recipe `labelled`.
    factor(
        &["everything", "filtered", "labelled"],
        &[
            "triggers.label",
            "triggers.drafts",
            "triggers.forks",
            "triggers.branches",
            "triggers.paths",
            "triggers.exclude_labels",
            "triggers.head_branches",
            "triggers.authors",
            "limits.forks",
        ],
        &[
            "triggers.label",
            "triggers.drafts",
            "triggers.forks",
            "triggers.branches",
            "triggers.paths",
            "triggers.exclude_labels",
            "triggers.head_branches",
            "triggers.authors",
        ],
    ),
    factor(&["secretless", "secrets"], &["secrets"], &["secrets"]),
    factor(&["unsealed", "sealed"], &["sealing.keys"], &[]),
    // previewd's own database.
    factor(&["sqlite", "postgresql"], &["database"], &[]),
    // What previewd is to GitHub: somebody's token, or an App.
    factor(&["token", "installed"], &["github.token", "github.app.id", "github.app.private_key_path"], &[]),
    factor(&["patient", "hurried"], &["patience.attempt", "patience.deletion"], &[]),
    factor(&["workers", "single"], &["engine.workers"], &[]),
    // A chat and a collector, where nobody listens, and prices.
    factor(
        &["unwatched", "watched"],
        &[
            "alerts.webhook_url",
            "traces.endpoint",
            "traces.headers",
            "prices.cpu_core_hour",
            "prices.memory_gib_hour",
            "prices.currency",
        ],
        &[],
    ),
    // The kind of what serves.
    factor(&["deployment", "stateful"], &[], &[]),
    // A claim of its own, or the StatefulSet's templates.
    factor(&["volumeless", "volume"], &[], &["app.volumes"]),
    factor(&["one", "two"], &[], &["app.replicas"]),
    // Another workload, or another container of the same pod.
    factor(&["alone", "worker", "sidecar"], &[], &["services.*.image", "services.*.port", "services.*.env"]),
    // What ends before the application begins: `setup`, a Job, a hook of install and upgrade.
    factor(&["unprepared", "setup"], &[], &["setup.command", "setup.env"]),
    // What is done once in a namespace: `seed`, a hook after the installation.
    factor(&["unseeded", "seed"], &[], &["seed.command", "seed.env"]),
    factor(
        &["stateless", "postgres"],
        &["database_images.postgres"],
        &[
            "databases.*.engine",
            "databases.*.version",
            "databases.*.storage",
            "databases.*.resources.cpu",
            "databases.*.resources.memory",
        ],
    ),
    // Instead of what the image says.
    factor(&["entrypoint", "command"], &[], &["app.command", "app.args", "app.run_as"]),
    factor(&["share", "sized"], &[], &["app.resources.cpu", "app.resources.memory"]),
    // Where the application's variables stand.
    factor(&["inline", "configmap", "secret"], &[], &["app.env"]),
    factor(&["health", "rootpath"], &[], &["app.health"]),
    // What the URL leads to: said, or by a route of the repository's own.
    factor(&["exposed", "routed"], &[], &["expose.service", "expose.port"]),
    factor(&["values", "files"], &[], &["helm.values", "helm.values_files"]),
    // Kinds that serve nobody: a CronJob, an autoscaler, a disruption budget, an account; and an init container.
    factor(&["few", "many"], &[], &[]),
];

/// Levels of which no row has both, and why.
pub const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("login", "ingress", "router.login is the router's"),
    ("login", "gateway", "router.login is the router's"),
    ("gateway", "proved", "no controller serves gateways here, so that no URL of theirs answers"),
    ("wakeful", "sleep", "nothing says that it sleeps"),
    ("unsealed", "postgresql", "previewd keeps no secrets in PostgreSQL without a key, which doctor says"),
    ("app", "stateful", "previewd makes Deployments of an app"),
    ("app", "sidecar", "an app is one container; what is beside it is a service"),
    ("app", "configmap", "an app's variables are its env"),
    ("app", "secret", "an app's variables are its env"),
    ("app", "routed", "the URL leads to the app"),
    ("app", "many", "an app's objects are previewd's"),
    ("app", "files", "values are a chart's"),
    ("manifests", "files", "values are a chart's"),
    ("manifests", "seed", "manifests know nothing that is done once"),
    ("manifests", "postgres", "databases are there beside an app"),
    ("chart", "postgres", "databases are there beside an app"),
    ("volume", "two", "pods of a Deployment would share one volume"),
];

/// Keys of the configuration that are no factor.
pub const OTHER_KEYS: &[(&[&str], &str)] = &[
    (
        &[
            "base_domain",
            "listen",
            "kubernetes.kubeconfig",
            "kubernetes.context",
            "github.api_url",
            "github.webhook_secrets",
            "teams.*.repositories",
            "helm.path",
            "log.format",
            "log.filter",
        ],
        "where a row is played: each has its own, and there is one of each",
    ),
    (
        &["migrate", "retention.deliveries", "retention.events"],
        "of previewd's own rows, which no environment sees: store::migrations, store::retention",
    ),
    (
        &[
            "github.login.client_id",
            "github.login.client_secret",
            "oidc.issuer",
            "oidc.audience",
            "oidc.default_role",
            "oidc.groups_claim",
            "oidc.roles",
            "oidc.subject_claim",
            "oidc.teams",
            "mcp.allowed_hosts",
            "mcp.allowed_origins",
            "trusted_proxies",
            "teams.*.members",
            "teams.*.admins",
            "teams.*.operate",
        ],
        "who may ask, and from where, which no environment sees: authorization, oidc, dashboard, http",
    ),
    (&["github.app.private_key"], "what github.app.private_key_path leads to: config::tests"),
    (&["helm.repositories"], "where a chart comes from, which is over before its objects are there: charts"),
    (&["database_images.redis"], "there is no image of Redis to test with; it is rendered as PostgreSQL is"),
];

/// Fields of the recipe that are no factor.
pub const OTHER_FIELDS: &[(&[&str], &str)] = &[
    (&["version"], "there is only 1"),
    (&["expose.health"], "app.health for what is not an app, read by the same code: lifecycle::meetings"),
    (
        &["helm.repository", "helm.version"],
        "where a chart comes from, which is over before its objects are there: charts",
    ),
    (
        &[
            "services.*.args",
            "services.*.command",
            "services.*.health",
            "services.*.replicas",
            "services.*.resources.cpu",
            "services.*.resources.memory",
            "services.*.run_as",
            "services.*.volumes",
            "setup.args",
            "setup.image",
            "setup.resources.cpu",
            "setup.resources.memory",
            "setup.run_as",
            "seed.args",
            "seed.image",
            "seed.resources.cpu",
            "seed.resources.memory",
            "seed.run_as",
        ],
        "the app's field of the same name, by the same code: recipe::render",
    ),
];
