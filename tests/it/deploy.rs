//! Files of `deploy/`, as the reference readers of such files and previewd's configuration take them.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;
use xtask::cluster::{compose, prometheus_rules};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

#[tokio::test]
async fn prometheus_takes_the_alerts_and_the_dashboards_expressions() {
    let reader = tokio::task::spawn_blocking(prometheus_rules).await.unwrap().unwrap();
    let mut command = Command::new(reader);
    command.args(["prometheus/alerts.yaml", "grafana/previewd.json"]).current_dir(DEPLOY);
    let read = command.output().await.unwrap();
    let (counted, complaints) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
    assert!(read.status.success(), "{complaints}");
    assert!(counted.lines().count() == 2 && !counted.contains(": 0 expressions"), "{counted}");
}

#[tokio::test]
async fn the_services_start_as_nobody_with_a_configuration_that_is_taken() {
    let reader = tokio::task::spawn_blocking(compose).await.unwrap().unwrap();
    let mut command = Command::new(reader);
    // Paths in it are beside it.
    command.args(["-no-interpolation", "-format", "json", "docker-compose.yaml"]).current_dir(DEPLOY);
    let read = command.output().await.unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let project: Value = serde_json::from_slice(&read.stdout).unwrap();
    let service = &project["services"]["previewd"];
    assert_eq!((&service["read_only"], &service["cap_drop"]), (&json!(true), &json!(["ALL"])));
    assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
    assert_eq!(service["user"], "${PREVIEWD_USER:-65532:65532}");
    let ports: Vec<_> = service["ports"].as_array().unwrap().iter().map(|port| &port["host_ip"]).collect();
    assert_eq!(ports, ["127.0.0.1"], "TLS ends before it");
    let root = Path::new(service["build"]["context"].as_str().unwrap());
    assert!(root.join(service["build"]["dockerfile"].as_str().unwrap()).is_file());

    // What whoever starts it gives.
    let given = BTreeMap::from([
        ("PREVIEWD_SEALING__KEYS", "ab".repeat(32)),
        ("PREVIEWD_GITHUB__WEBHOOK_SECRETS", "cd".repeat(32)),
        ("PREVIEWD_GITHUB__APP__ID", "123".to_owned()),
    ]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("previewd.toml"), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewd"));
    command.args(["token", "list"]).current_dir(folder.path()).env_clear().env("HOME", folder.path());
    for (key, value) in service["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let value = match (key.as_str(), given.get(key.as_str())) {
            // There is no other database here; the rest is taken as it is.
            ("PREVIEWD_DATABASE", _) => {
                assert!(value.starts_with("postgres://") && value.ends_with("@postgres/previewd"), "{value}");
                "sqlite:previewd.db"
            }
            (_, Some(given)) => {
                assert!(value.starts_with(&format!("${{{key}:?")), "{key} must be given: {value}");
                given
            }
            (_, None) => value,
        };
        command.env(key, value);
    }
    let taken = command.stdin(Stdio::null()).output().await.unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let unknown = command.env("PREVIEWD_GITHUB__APP__NAME", "previewd").output().await.unwrap();
    assert!(!unknown.status.success(), "a variable that nobody reads is refused");
}
