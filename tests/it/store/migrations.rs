//! Migrations: made by several processes at once, reverted and made again, refused with a word on what to do.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use diesel::{Connection, sqlite::SqliteConnection};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use previewd::store::{Migrate, MigrationError, migrate};
use tokio::process::Command;

use super::{
    database::{Database, for_each_database, for_each_empty_database},
    given::many_environments,
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
const TABLES: &[&str] =
    &["repositories", "pull_requests", "environments", "deployments", "objects", "events", "deliveries", "tokens"];

/// Every row, as one text.
async fn rows(database: &Database) -> Vec<String> {
    let mut rows = Vec::new();
    for table in TABLES {
        let line = if database.is_sqlite() {
            let columns = database.lines(&format!("SELECT name AS line FROM pragma_table_info('{table}')")).await;
            format!("json_array({})", columns.join(", "))
        } else {
            format!("CAST(row_to_json({table}) AS TEXT)")
        };
        rows.extend(database.lines(&format!("SELECT '{table} ' || {line} AS line FROM {table} ORDER BY 1")).await);
    }
    rows
}

/// Reverts what came after the first migration; gives how many that were.
async fn revert_to_first(url: &str) -> usize {
    fn revert<C: MigrationHarness<C::Backend> + diesel::Connection>(connection: &mut C) -> usize {
        let later = connection.applied_migrations().unwrap().len() - 1;
        for _ in 0..later {
            connection.revert_last_migration(MIGRATIONS).unwrap();
        }
        later
    }
    let url = url.to_owned();
    let reverted = tokio::task::spawn_blocking(move || match url.strip_prefix("sqlite:") {
        Some(path) => revert(&mut SqliteConnection::establish(path).unwrap()),
        None => revert(&mut AsyncConnectionWrapper::<AsyncPgConnection>::establish(&url).unwrap()),
    });
    reverted.await.unwrap()
}

#[tokio::test]
async fn two_processes_migrate_at_once() {
    for_each_empty_database(async |database| {
        // Where no configuration lies.
        let folder = tempfile::tempdir().unwrap();
        let processes = (0..2).map(|_| {
            Command::new(env!("CARGO_BIN_EXE_previewd"))
                .arg("migrate")
                .env("PREVIEWD_DATABASE", &database.url)
                .current_dir(folder.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut said = Vec::new();
        for process in processes.collect::<Vec<_>>() {
            let output = process.wait_with_output().await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            said.push(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let count = |end: &str| said.iter().filter(|said| said.trim_end().ends_with(end)).count();
        assert_eq!((count("applied"), count("is up to date")), (1, 1), "{said:?}");
        assert_eq!(migrate(&database.url, Migrate::Check).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_reverted_can_be_made_again() {
    for_each_empty_database(async |database| {
        let pending = migrate(&database.url, Migrate::Check).await.unwrap_err();
        assert!(matches!(pending, MigrationError::Pending { count: 1.. }), "{pending:?}");
        assert!(pending.to_string().ends_with("run `previewd migrate`"), "{pending}");

        let made = migrate(&database.url, Migrate::Auto).await.unwrap();
        many_environments(database, 20).await;
        assert_eq!(migrate(&database.url, Migrate::Auto).await.unwrap(), 0);
        assert_eq!(migrate(&database.url, Migrate::Revert).await.unwrap(), made);
        assert_eq!(migrate(&database.url, Migrate::Auto).await.unwrap(), made);
        assert!(rows(database).await.is_empty());
        many_environments(database, 20).await;
    })
    .await;
}

/// The first migration makes the tables; every later one gives rows back as they were.
#[tokio::test]
async fn every_migration_after_the_first_keeps_the_rows() {
    for_each_database(async |database| {
        many_environments(database, 20).await;
        let before = rows(database).await;
        assert_eq!(before.len(), 50 + 20 + 20 + 60 + 60 + 20 + 20 + 20);
        let reverted = revert_to_first(&database.url).await;
        assert_eq!(migrate(&database.url, Migrate::Auto).await.unwrap(), reverted);
        assert_eq!(rows(database).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    for_each_database(async |database| {
        let installation = database.store().installation().await.unwrap();
        assert_eq!(database.store().installation().await.unwrap(), installation, "made once");
        database.execute("UPDATE installation SET oldest_generation = 99").await;
        for mode in [Migrate::Auto, Migrate::Check, Migrate::Revert] {
            let refused = migrate(&database.url, mode).await.unwrap_err();
            assert!(matches!(refused, MigrationError::Newer { theirs: 99 }), "{refused:?}");
            assert!(refused.to_string().ends_with("update previewd"), "{refused}");
        }
        assert_eq!(database.store().installation().await.unwrap(), installation);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/previewd.db").display().to_string();
    let refused = migrate(&format!("sqlite:{missing}"), Migrate::Auto).await.unwrap_err();
    assert!(matches!(&refused, MigrationError::Open { database, .. } if *database == missing), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        format!("cannot open the database {missing}; is its folder there, and may previewd write to it?")
    );

    let file = folder.path().join("previewd.db");
    let url = format!("sqlite:{}", file.display());
    migrate(&url, Migrate::Auto).await.unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let refused = migrate(&url, Migrate::Check).await.unwrap_err();
    assert!(matches!(refused, MigrationError::ReadOnly { .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        format!("the database {} is read-only; give previewd the right to write to it", file.display())
    );

    let text = folder.path().join("notes.txt");
    fs::write(&text, "no database, but long enough to be looked at as one".repeat(100)).unwrap();
    let refused = migrate(&format!("sqlite:{}", text.display()), Migrate::Auto).await.unwrap_err();
    assert!(matches!(refused, MigrationError::Open { .. }), "{refused:?}");
}

#[tokio::test]
async fn nobody_else_may_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("previewd.db").display());
    migrate(&url, Migrate::Auto).await.unwrap();
    let store = previewd::store::Store::open(&url).unwrap();
    store.installation().await.unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 3, "the database, its log and its lock: {files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file:?} has mode {mode:o}");
    }
}

#[tokio::test]
async fn a_postgres_that_is_away_is_named_without_its_password() {
    let refused = migrate("postgres://me:secret@127.0.0.1:1/previewd", Migrate::Auto).await.unwrap_err();
    assert!(matches!(refused, MigrationError::Connect(_)), "{refused:?}");
    let told = format!("{:#}", anyhow::Error::from(refused));
    assert!(told.starts_with("cannot connect to PostgreSQL;"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}
