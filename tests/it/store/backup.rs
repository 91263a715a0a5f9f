//! What is backed up comes back whole, in either database.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path};

use previewd::store::{BackupError, Migrate, Store, migrate};

use super::{
    database::{Database, for_each_database, for_each_empty_database},
    given::{claim, environment_of, many_environments, pull_request, tell_of},
};

/// The lines of a backup, without what a restore looks at anew.
async fn lines(store: &Store, path: &Path) -> BTreeSet<String> {
    store.backup(path).await.unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    let mut lines = BTreeSet::new();
    for line in text.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["table"] == "environments" {
            for column in ["lease_token", "lease_until", "due_at", "refresh"] {
                line["row"][column] = serde_json::Value::Null;
            }
        }
        // SQLite has numbers for what is true and false.
        lines.insert(line.to_string().replace(":true", ":1").replace(":false", ":0"));
    }
    lines
}

async fn fill(database: &Database) -> Store {
    let store = database.store();
    store.installation().await.unwrap();
    many_environments(database, 1_200).await;
    tell_of(&store, &pull_request(7_000)).await;
    claim(&store).await;
    store
}

#[tokio::test]
async fn a_backup_is_restored_into_either_database() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for_each_database(async |from| {
        let store = fill(from).await;
        let backup = folder.join("previewd.backup");
        assert!(store.backup(&backup).await.unwrap() > 10_000);
        let again = store.backup(&backup).await.unwrap_err();
        assert!(matches!(again, BackupError::Write { .. }), "nothing is written over: {again}");
        assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
        let before = lines(&store, &folder.join("before")).await;

        for_each_empty_database(async |to| {
            migrate(&to.url, Migrate::Auto).await.unwrap();
            let restored = to.store();
            // As every process does before anything else.
            restored.installation().await.unwrap();
            restored.restore(&backup).await.unwrap();
            assert_eq!(lines(&restored, &folder.join("after")).await, before);
            assert!(environment_of(&restored, 7_000).await.environment.refresh);
            claim(&restored).await;
            let refused = restored.restore(&backup).await.unwrap_err();
            assert!(matches!(refused, BackupError::NotEmpty), "{refused}");
        })
        .await;
        std::fs::remove_file(&backup).unwrap();
    })
    .await;
}

/// One that an earlier previewd made, whose tables had fewer columns.
#[tokio::test]
async fn what_a_backup_does_not_have_has_its_default() {
    let folder = tempfile::tempdir().unwrap();
    for_each_database(async |from| {
        let store = from.store();
        store.installation().await.unwrap();
        tell_of(&store, &pull_request(7_000)).await;
        let lease = claim(&store).await;
        store.record_trouble(&lease, "GitHub did not answer").await.unwrap();
        let path = folder.path().join(from.name());
        store.backup(&path).await.unwrap();
        let lines = std::fs::read_to_string(&path).unwrap();
        let earlier = lines.lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            if line["table"] == "standings" {
                line["row"].as_object_mut().unwrap().remove("half_applied").expect("it has that column");
            }
            format!("{line}\n")
        });
        let earlier: String = earlier.collect();
        assert_ne!(earlier.lines().filter(|line| line.contains("\"standings\"")).count(), 0);
        std::fs::write(&path, earlier).unwrap();
        for_each_empty_database(async |to| {
            migrate(&to.url, Migrate::Auto).await.unwrap();
            to.store().restore(&path).await.unwrap();
            let id = &lease.environment_id;
            assert!(!to.store().standing(id).await.unwrap().half_applied);
            assert!(to.store().trouble(id).await.unwrap().is_some(), "what it has is there");
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_backup_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    for_each_database(async |from| {
        let store = fill(from).await;
        let writing = async {
            for number in 8_000..8_100 {
                tell_of(&store, &pull_request(number)).await;
            }
        };
        let path = folder.path().join(from.name());
        let (backed_up, ()) = tokio::join!(store.backup(&path), writing);
        backed_up.unwrap();
        for_each_empty_database(async |to| {
            migrate(&to.url, Migrate::Auto).await.unwrap();
            // What refers to what is not there would be refused.
            to.store().restore(&path).await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for_each_database(async |database| {
        let store = fill(database).await;
        let path = folder.path().join(database.name());
        store.backup(&path).await.unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let cut = &whole[..whole.len() / 2];
        let newer = whole.replacen("\"previewd_backup\":1", "\"previewd_backup\":2", 1);
        for_each_empty_database(async |to| {
            migrate(&to.url, Migrate::Auto).await.unwrap();
            for wrong in ["", "hello", cut, &newer] {
                std::fs::write(&path, wrong).unwrap();
                let refused = to.store().restore(&path).await.unwrap_err();
                let expected = matches!(refused, BackupError::NotABackup { .. } | BackupError::Newer { .. });
                assert!(expected, "{refused}");
            }
            assert_eq!(to.line("SELECT CAST(count(*) AS TEXT) AS line FROM environments").await, "0");
        })
        .await;
    })
    .await;
}
