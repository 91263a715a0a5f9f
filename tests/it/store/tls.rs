//! A PostgreSQL that is spoken to over TLS.

use std::process::Command;

use uuid::Uuid;
use xtask::testing;

use super::database::execute_postgres;

#[tokio::test]
async fn postgres_is_trusted_over_tls_only_with_a_certificate_that_the_system_trusts() {
    let (Ok(server), Ok(authority)) = (std::env::var(testing::POSTGRES), std::env::var(testing::POSTGRES_CA)) else {
        return testing::skip("it needs the PostgreSQL that `cargo xtask test` starts");
    };
    let name = format!("previewd_tls_{}", Uuid::new_v4().simple());
    execute_postgres(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await;
    let folder = tempfile::tempdir().unwrap();

    for mode in ["require", "verify-full"] {
        let config = folder.path().join("previewd.toml");
        let database = format!("{server}/{name}?sslmode={mode}");
        std::fs::write(&config, format!("database = \"{database}\"\nbase_domain = \"localhost\"\n")).unwrap();
        let previewd = |command: &[&str], trusted: Option<&str>| {
            let mut previewd = Command::new(env!("CARGO_BIN_EXE_previewd"));
            previewd.arg("--config").arg(&config).args(command).env_remove("SSL_CERT_DIR");
            match trusted {
                Some(authority) => previewd.env("SSL_CERT_FILE", authority),
                None => previewd.env_remove("SSL_CERT_FILE"),
            };
            let output = previewd.output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (ok, told) = previewd(&["migrate"], None);
        assert!(!ok && told.contains("UnknownIssuer"), "{mode}: {told}");
        for command in [&["migrate"][..], &["list"]] {
            let (ok, told) = previewd(command, Some(&authority));
            assert!(ok, "{mode} {command:?}: {told}");
        }
    }
    execute_postgres(&format!("{server}/postgres"), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}
