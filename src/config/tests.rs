use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("previewd.toml");
    std::fs::write(&file, text).unwrap();
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::load(Some(&file), Unnamed::OfTheUser, variables)
}

/// What is printed for a configuration that is refused, without the directory.
fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    let complaint = load(text, variables).expect_err(text).to_string();
    let lines = complaint.lines().map(|line| line.find("previewd.toml:").map_or(line, |start| &line[start..]));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn bad_files_are_refused_with_line_key_and_what_is_wanted() {
    let cases = [
        ("listn = '[::]:80'", "previewd.toml:1: listn: unknown key; the nearest known key is listen"),
        (
            "\n[github]\napi_ur = 'x'",
            "previewd.toml:3: github.api_ur: unknown key; the nearest known key is github.api_url",
        ),
        ("[gihub]\ntoken = 'x'", "previewd.toml:1: gihub: unknown key; the nearest known key is github"),
        (
            "webhook_secret = 'hunter2'",
            "previewd.toml:1: webhook_secret: unknown key; the nearest known key is github.webhook_secrets",
        ),
        (
            "[teams.shop]\nrepos = []\nmember = ['a']",
            "previewd.toml:3: teams.shop.member: unknown key; the nearest known key is teams.shop.members\n\
             previewd.toml:2: teams.shop.repos: unknown key; the nearest known key is teams.shop.repositories",
        ),
        ("members = ['a']", "previewd.toml:1: members: unknown key; the nearest known key is teams.NAME.members"),
        ("listen = 8787", "previewd.toml:1: listen: must be a string"),
        ("listen = 'here'", "previewd.toml:1: listen: must be an address and a port such as 127.0.0.1:8787"),
        ("database = 'mysql://db'", "previewd.toml:1: database: must be sqlite:PATH or postgres://USER@HOST/NAME"),
        ("migrate = 'never'", "previewd.toml:1: migrate: must be one of auto, check"),
        (
            "base_domain = 'https://x.dev'",
            "previewd.toml:1: base_domain: must be a DNS name such as preview.example.com, with a port where needed, and no scheme",
        ),
        ("public_url = 'x.dev'", "previewd.toml:1: public_url: must be a URL such as https://previewd.example.com"),
        ("[engine]\n\nworkers = 65", "previewd.toml:3: engine.workers: must be a whole number from 1 to 64"),
        ("engine.workers = 0", "previewd.toml:1: engine.workers: must be a whole number from 1 to 64"),
        ("[engine]\nworkers = -1", "previewd.toml:2: engine.workers: must be a whole number from 1 to 64"),
        ("[engine]\nworkers = 'four'", "previewd.toml:2: engine.workers: must be a whole number from 1 to 64"),
        (
            "[patience]\nattempt = '1s'",
            "previewd.toml:2: patience.attempt: must be a duration from 10s to 1h, such as 90s or 3m",
        ),
        ("engine = 8", "previewd.toml:1: engine: must be a table"),
        ("[log]\nformat = 'yaml'", "previewd.toml:2: log.format: must be one of text, json"),
        (
            "[log]\nfilter = 'a=b=c'",
            "previewd.toml:2: log.filter: must be log directives such as info or info,previewd::engine=debug",
        ),
        (
            "[teams.shop]\nrepositories = ['acme/*', 'acme']",
            "previewd.toml:2: teams.shop.repositories: must be owner/name or owner/*",
        ),
        (
            "[teams.shop]\nmembers = ['@octocat']",
            "previewd.toml:2: teams.shop.members: must be a GitHub login such as octocat, without @",
        ),
        ("[teams.shop]\nmembers = 'octocat'", "previewd.toml:2: teams.shop.members: must be a list of strings"),
        ("[github]\napi_url = 'x'", "previewd.toml:2: github.api_url: must be a URL such as https://example.com"),
        ("[quota]\ncpu = 'half'", "previewd.toml:2: quota.cpu: must be an amount of CPU such as 500m, 0.5 or 1"),
        (
            "denied_egress = ['10.0.0.1/8']",
            "previewd.toml:1: denied_egress: must have no bits of its address set beyond the prefix",
        ),
        ("[github]\nwebhook_secrets = 'hunter2'", "previewd.toml:2: github.webhook_secrets: must be a list of strings"),
        ("[github]\ntoken = 42", "previewd.toml:2: github.token: must be a string"),
        ("[github.app]\nprivate_key_path = 'key.pem'", "previewd.toml:1: github.app: id is missing"),
        ("listen = '[::]:80'\nlisten = '[::]:81'", "previewd.toml:2: duplicate key"),
        ("a b", "previewd.toml:1: key with no value, expected `=`"),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(text, &[]), expected, "{text}");
    }
}

#[test]
fn bad_variables_are_refused_by_name() {
    let cases = [
        (
            ("PREVIEWD_GITHUB_API_URL", "x"),
            "PREVIEWD_GITHUB_API_URL: unknown variable; the nearest known one is PREVIEWD_GITHUB__API_URL",
        ),
        (
            ("PREVIEWD_TEAMS__SHOP__MEMBER", "a"),
            "PREVIEWD_TEAMS__SHOP__MEMBER: unknown variable; the nearest known one is PREVIEWD_TEAMS__SHOP__MEMBERS",
        ),
        (("PREVIEWD_ENGINE__WORKERS", "many"), "PREVIEWD_ENGINE__WORKERS: must be a whole number from 1 to 64"),
        (("PREVIEWD_ENGINE__WORKERS", "65"), "PREVIEWD_ENGINE__WORKERS: must be a whole number from 1 to 64"),
        (("PREVIEWD_LOG__FORMAT", "JSON"), "PREVIEWD_LOG__FORMAT: must be one of text, json"),
        (("PREVIEWD_DATABASE", ""), "PREVIEWD_DATABASE: must be sqlite:PATH or postgres://USER@HOST/NAME"),
        (
            ("PREVIEWD_TEAMS__SHOP__REPOSITORIES", "acme/*,acme"),
            "PREVIEWD_TEAMS__SHOP__REPOSITORIES: must be owner/name or owner/*",
        ),
        (
            ("PREVIEWD_TEAMS", "{ shop = { membrs = [] } }"),
            "PREVIEWD_TEAMS: teams.shop.membrs: unknown key; the nearest known key is teams.shop.members",
        ),
        (("PREVIEWD_GITHUB__APP__PRIVATE_KEY", "x"), "PREVIEWD_GITHUB__APP__PRIVATE_KEY: github.app: id is missing"),
        (("PREVIEWD_TEAMS", "shop"), "PREVIEWD_TEAMS: must be a table"),
    ];
    for (variable, expected) in cases {
        assert_eq!(complaint("[log]\nformat = 'json'", &[variable]), expected);
    }
}

#[test]
fn complaints_never_repeat_a_secret() {
    let key = "-----BEGIN hunter2";
    for text in [
        format!("[github]\napi_url = 'https://me:{key}@x y'"),
        format!("[github]\ntoken = ['{key}']"),
        format!("[github]\nwebhook_secrets = ['{key}', 3]"),
        format!("[github]\ntoken = '{key}"),
        format!("database = '{key}'"),
        format!("listen = '{key}'"),
        format!("github = '{key}'"),
        format!("log = {{ format = '{key}' }}"),
    ] {
        let error = load(&text, &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let config = load(
        &format!("database = 'postgres://u:hunter2@db/x'\n[github]\ntoken = '{key}'\nwebhook_secrets = ['{key}']"),
        &[("PREVIEWD_GITHUB__APP", "{ id = 1, private_key = 'hunter2' }")],
    );
    assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
}

#[test]
fn variables_win_over_the_file() {
    let file = "database = 'sqlite:x.db'\n[engine]\nworkers = 2\n[teams.shop]\nmembers = ['Octocat']";
    let config = load(
        file,
        &[
            ("PREVIEWD_ENGINE__WORKERS", "3"),
            ("PREVIEWD_LISTEN", "0.0.0.0:80"),
            ("PREVIEWD_PUBLIC_URL", "https://previewd.example.com"),
            ("PREVIEWD_GITHUB__WEBHOOK_SECRETS", "one, two"),
            ("PREVIEWD_GITHUB__APP__ID", "7"),
            ("PREVIEWD_MCP__ALLOWED_HOSTS", "['a.example.com']"),
            ("PREVIEWD_TEAMS__SHOP__REPOSITORIES", "acme/*"),
            ("PREVIEWD_QUOTA__CPU", "2"),
            ("PREVIEWD_INGRESS__FROM", "[{ range = '192.0.2.0/24' }]"),
            ("PREVIEWD_INGRESS__ANNOTATIONS", "{ 'cert-manager.io/cluster-issuer' = 'letsencrypt' }"),
            ("PREVIEWD_DENIED_EGRESS", "203.0.113.0/24,2001:db8::/32"),
            ("PREVIEWD_TEAMS__WEB__MEMBERS", "mona"),
            ("PREVIEWD_TOKEN", "pvd_x"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.engine.workers.count().get(), 3);
    assert_eq!(config.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.require_webhook_secrets().unwrap()[1].expose_secret(), "two");
    assert_eq!(config.github.app.as_ref().unwrap().id, 7);
    assert_eq!(config.teams["shop"].members[0].as_str(), "octocat");
    assert!(config.teams["shop"].repositories[0].covers(&"acme/shop".parse().unwrap()));
    assert_eq!(config.policy().quota.cpu, "2".parse().unwrap());
    assert_eq!((config.ingress.from.len(), config.denied_egress.len()), (1, 2));
    assert_eq!(config.ingress.annotations["cert-manager.io/cluster-issuer"], "letsencrypt");
    assert_eq!(config.teams["web"].members[0].as_str(), "mona");
    assert_eq!(config.allowed_hosts(), ["localhost", "127.0.0.1", "::1", "previewd.example.com", "a.example.com"]);
}

#[test]
fn relative_paths_start_at_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("previewd.toml");
    std::fs::write(&file, "[kubernetes]\nkubeconfig = '/etc/kubeconfig'").unwrap();
    let variables = [("PREVIEWD_CONFIG".to_owned(), file.to_str().unwrap().to_owned())];
    let config = Config::load(None, Unnamed::OfTheUser, variables.into_iter()).unwrap();
    let DatabaseUrl::Sqlite(database) = &config.database else { panic!("SQLite is the default") };
    assert_eq!(*database, directory.path().join("previewd.db"));
    assert_eq!(config.kubernetes.kubeconfig, Some(PathBuf::from("/etc/kubeconfig")));
}

#[test]
fn a_named_file_must_be_there() {
    let error =
        Config::load(Some(Path::new("/nowhere/previewd.toml")), Unnamed::OfTheUser, std::iter::empty()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration /nowhere/previewd.toml");
}

#[test]
fn empty_webhook_secrets_are_refused() {
    for text in ["", "[github]\nwebhook_secrets = []", "[github]\nwebhook_secrets = ['real', ' ']"] {
        assert!(matches!(load(text, &[]).unwrap().require_webhook_secrets(), Err(ConfigError::GitHub(_))), "{text}");
    }
    let from_variable = load("", &[("PREVIEWD_GITHUB__WEBHOOK_SECRETS", "")]).unwrap();
    assert!(from_variable.require_webhook_secrets().is_err());
}

#[test]
fn variables_of_kubernetes_services_are_none_of_ours() {
    let variables = [
        ("PREVIEWD_SERVICE_HOST", "10.0.0.1"),
        ("PREVIEWD_SERVICE_PORT", "80"),
        ("PREVIEWD_SERVICE_PORT_HTTP", "80"),
        ("PREVIEWD_PORT", "tcp://10.0.0.1:80"),
        ("PREVIEWD_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("PREVIEWD_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("PREVIEWD_METRICS_SERVICE_HOST", "10.0.0.2"),
    ];
    load("", &variables).unwrap();
    assert!(load("", &[("PREVIEWD_PORT", "80")]).is_err());
}

/// The example with its settings, lines that begin with `#` and no blank, switched on.
fn example() -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/previewd.example.toml")).unwrap();
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && (!setting.starts_with(' ') || setting.starts_with("    ")) => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The value at a key's path, `*` standing for whatever name comes first.
fn value_at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match part.as_str() {
        schema::ANY_NAME => value.as_object()?.values().next(),
        name => value.get(name),
    })
}

#[test]
fn the_example_has_every_key_with_its_default() {
    load(&example(), &[]).unwrap();
    let values: Value = toml::from_str(&example()).unwrap();
    for key in schema::keys() {
        let is_entry = key.path.last().is_some_and(|part| part == schema::ANY_NAME);
        let value = value_at(&values, &key.path);
        assert!(value.is_some() || is_entry, "{} is not in previewd.example.toml", key.path.join("."));
        match key.default {
            Some(default) if !key.is_section && !default.is_null() && !key.path.iter().any(|part| part == "*") => {
                assert_eq!(value, Some(&default), "{}", key.path.join("."));
            }
            _ => {}
        }
    }
}

#[test]
fn the_schema_states_the_real_defaults() {
    let default = |key: &str| schema::schema().pointer(&format!("/properties/{key}/default")).cloned();
    let config = Config::default();
    assert_eq!(default("database"), Some(config.database.to_string().into()));
    assert_eq!(default("listen"), Some(config.listen.to_string().into()));
    assert_eq!(default("base_domain"), Some(config.base_domain.as_str().into()));
}

#[test]
fn every_key_is_described_and_has_its_own_variable() {
    let mut variables = std::collections::BTreeSet::new();
    for key in schema::keys() {
        assert!(key.is_section || key.description.is_some() || key.path.contains(&"*".to_owned()), "{:?}", key.path);
        assert!(variables.insert(schema::variable(&key.path)), "{:?}", key.path);
    }
    assert!(variables.contains("PREVIEWD_GITHUB__APP__PRIVATE_KEY_PATH"));
}

#[test]
fn the_schema_is_as_written_down() {
    insta::assert_json_snapshot!(schema::schema());
}

/// Credentials of Docker Hub are found by whichever of its names an image, or the configuration, has.
#[test]
fn registries_have_one_name() {
    for (text, host) in [
        ("ghcr.io", "ghcr.io"),
        ("Registry.Internal:5000", "registry.internal:5000"),
        ("localhost", "localhost"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("mirror.docker.io", "mirror.docker.io"),
    ] {
        let parsed: RegistryHost = text.parse().unwrap();
        assert_eq!(parsed.as_str(), host, "{text}");
    }
    for text in ["", "acme", "library", "ghcr.io/acme", "index.docker.io/acme", "https://ghcr.io"] {
        assert!(text.parse::<RegistryHost>().is_err(), "{text}");
    }
}
