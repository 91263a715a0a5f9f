//! The tables as both databases have them, against one written list, and `schema.rs` against the same.

use std::collections::BTreeSet;

use diesel::{prelude::*, sqlite::SqliteConnection};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, sync_connection_wrapper::SyncConnectionWrapper};
use previewd::{
    environment::{DeploymentStatus, EnvironmentStatus, Hold, PullRequestState, RepositoryState},
    store::schema::{deployments, environments, pull_requests},
};

use super::{
    database::for_each_database,
    given::{commit, many_environments},
};

/// Every column, key, reference and index there is to be.
const CATALOG: &str = include_str!("catalog.txt");

const SQLITE_TABLES: &str = "(SELECT name AS tbl FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
     AND name <> '__diesel_schema_migrations')";

const SQLITE: &[&str] = &[
    "SELECT tbl || '.' || name || ' ' || lower(type) || iif(\"notnull\", ' not null', '') AS line \
     FROM {tables}, pragma_table_xinfo(tbl)",
    "SELECT tbl || ' primary key (' || group_concat(name, ', ') || ')' AS line \
     FROM (SELECT tbl, name FROM {tables}, pragma_table_xinfo(tbl) WHERE pk > 0 ORDER BY tbl, pk) GROUP BY tbl",
    "SELECT tbl || ' foreign key (' || \"from\" || ') references ' || \"table\" || '(' || \"to\" || ')' \
     || iif(on_update = 'NO ACTION', '', ' on update ' || lower(on_update)) || ' on delete ' || lower(on_delete) AS line \
     FROM {tables}, pragma_foreign_key_list(tbl)",
    "SELECT tbl || ' unique (' || group_concat(name, ', ') || ')' AS line \
     FROM (SELECT tbl, list.name AS list, info.name FROM {tables}, pragma_index_list(tbl) AS list, \
     pragma_index_info(list.name) AS info WHERE origin = 'u' ORDER BY tbl, list, seqno) GROUP BY tbl, list",
    "SELECT 'index ' || list || ' on ' || tbl || ' (' || group_concat(name, ', ') || ')' || predicate AS line \
     FROM (SELECT tbl, list.name AS list, info.name || iif(info.\"desc\", ' DESC', '') AS name, \
     iif(partial, substr(sql, instr(sql, ' WHERE ')), '') AS predicate FROM {tables}, pragma_index_list(tbl) AS list, \
     pragma_index_xinfo(list.name) AS info JOIN sqlite_schema AS made ON made.name = list.name \
     WHERE origin = 'c' AND key ORDER BY tbl, list, seqno) GROUP BY tbl, list",
];

const POSTGRES_TABLES: &str = "(SELECT oid AS tbl_oid, relname AS tbl FROM pg_class WHERE relkind = 'r' \
     AND relnamespace = 'public'::regnamespace AND relname <> '__diesel_schema_migrations') AS tables";

const POSTGRES: &[&str] = &[
    "SELECT tbl || '.' || column_name || ' ' || data_type || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END \
     AS line FROM {tables} JOIN information_schema.columns ON table_name = tbl AND table_schema = 'public'",
    // Their definitions read as SQL has them.
    "SELECT tbl || ' ' || lower(pg_get_constraintdef(oid)) AS line \
     FROM {tables} JOIN pg_constraint ON conrelid = tbl_oid WHERE contype IN ('p', 'u', 'f')",
    "SELECT 'index ' || indexrelid::regclass || ' on ' || tbl || ' ' \
     || substring(pg_get_indexdef(indexrelid) FROM '\\([^)]*\\)') \
     || coalesce(' WHERE ' || trim(BOTH '()' FROM pg_get_expr(indpred, indrelid)), '') AS line \
     FROM {tables} JOIN pg_index ON indrelid = tbl_oid \
     WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))",
];

#[tokio::test]
async fn both_databases_have_the_written_tables() {
    for_each_database(async |database| {
        let (queries, tables) =
            if database.is_sqlite() { (SQLITE, SQLITE_TABLES) } else { (POSTGRES, POSTGRES_TABLES) };
        let mut found = Vec::new();
        for query in queries {
            found.extend(database.lines(&query.replace("{tables}", tables)).await);
        }
        assert_same_lines(found.into_iter(), CATALOG.lines().map(str::to_owned));
    })
    .await;
}

#[test]
fn the_code_has_the_written_tables() {
    let code = include_str!("../../../src/store/schema.rs");
    let mut found = Vec::new();
    let mut table = "";
    for line in code.lines().map(str::trim) {
        if let Some((name, key)) = line.strip_suffix(") {").and_then(|line| line.split_once(" (")) {
            table = name;
            found.push(format!("{table} primary key ({key})"));
        } else if let Some((column, kind)) = line.strip_suffix(',').and_then(|line| line.split_once(" -> ")) {
            let nullable = kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>'));
            let name = match nullable.unwrap_or(kind) {
                "Text" => "text",
                "BigInt" => "bigint",
                "Bool" => "boolean",
                other => panic!("{table}.{column} is a {other}, which is not portable"),
            };
            found.push(format!("{table}.{column} {name}{}", if nullable.is_some() { "" } else { " not null" }));
        }
    }
    let written =
        CATALOG.lines().filter(|line| line.split(' ').next().unwrap().contains('.') || line.contains(" primary "));
    assert_same_lines(found.into_iter(), written.map(str::to_owned));
}

/// Both ways of the relation between deployments and pull requests, on a connection of either kind.
macro_rules! both_ways {
    ($connection:expr) => {{
        let mut connection = $connection.await.unwrap();
        let numbers: Vec<i64> = deployments::table
            .inner_join(environments::table.inner_join(pull_requests::table))
            .filter(deployments::commit_sha.eq(commit(2).as_str()))
            .select(pull_requests::number)
            .load(&mut connection)
            .await
            .unwrap();
        let commits: Vec<String> = pull_requests::table
            .inner_join(environments::table.inner_join(deployments::table))
            .filter(pull_requests::number.eq(1))
            .order(deployments::created_at)
            .select(deployments::commit_sha)
            .load(&mut connection)
            .await
            .unwrap();
        (numbers, commits)
    }};
}

#[tokio::test]
async fn deployments_and_pull_requests_are_joined_both_ways() {
    for_each_database(async |database| {
        many_environments(database, 2).await;
        let (numbers, commits) = match database.url.strip_prefix("sqlite:") {
            Some(path) => both_ways!(SyncConnectionWrapper::<SqliteConnection>::establish(path)),
            None => both_ways!(AsyncPgConnection::establish(&database.url)),
        };
        assert_eq!(numbers, [1]);
        assert_eq!(commits, [1, 2, 3].map(commit_text));
    })
    .await;
}

#[tokio::test]
async fn the_databases_refuse_what_must_not_be() {
    for_each_database(async |database| {
        many_environments(database, 2).await;
        let environment = database.line("SELECT min(id) AS line FROM environments").await;
        let deployment = |id: &str, environment: &str, commit: &str| {
            format!(
                "INSERT INTO deployments (id, environment_id, commit_sha, status, round, attempt, created_at) \
                 VALUES ('{id}', '{environment}', '{commit}', 'pending', 1, 0, 0)"
            )
        };
        let known = commit_text(1);
        assert!(database.refuses(&deployment("again", &environment, &known)).await, "the same commit twice");
        assert!(database.refuses(&deployment("short", &environment, "abc")).await, "no whole commit");
        assert!(database.refuses(&deployment("orphan", "nowhere", &commit_text(9))).await, "no environment");
        database.execute(&deployment("other", &environment, &commit_text(9))).await;
        assert!(database.refuses("UPDATE environments SET namespace = 'same'").await, "one namespace for two");
        assert!(database.refuses("UPDATE pull_requests SET number = 0").await, "a pull request number of 0");

        for (column, codes) in [
            ("environments.status", EnvironmentStatus::ALL.iter().map(|code| code.code()).collect::<Vec<_>>()),
            ("environments.hold", Hold::ALL.iter().map(|code| code.code()).collect()),
            ("deployments.status", DeploymentStatus::ALL.iter().map(|code| code.code()).collect()),
            ("pull_requests.state", PullRequestState::ALL.iter().map(|code| code.code()).collect()),
            ("repositories.state", RepositoryState::ALL.iter().map(|code| code.code()).collect()),
        ] {
            let (table, column) = column.split_once('.').unwrap();
            for code in codes {
                database.execute(&format!("UPDATE {table} SET {column} = '{code}'")).await;
            }
            assert!(database.refuses(&format!("UPDATE {table} SET {column} = 'nonsense'")).await, "{table}.{column}");
        }

        database.execute("DELETE FROM repositories").await;
        for table in ["pull_requests", "environments", "deployments", "objects", "events"] {
            let left = database.line(&format!("SELECT CAST(count(*) AS TEXT) AS line FROM {table}")).await;
            assert_eq!(left, "0", "{table} goes with the repository");
        }
    })
    .await;
}

fn commit_text(n: u64) -> String {
    commit(n).to_string()
}

fn assert_same_lines(found: impl Iterator<Item = String>, written: impl Iterator<Item = String>) {
    let (found, written): (BTreeSet<String>, BTreeSet<String>) = (found.collect(), written.collect());
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>().join("\n");
    let (new, gone) = (only(&found, &written), only(&written, &found));
    assert!(new.is_empty() && gone.is_empty(), "not in catalog.txt:\n{new}\n\nonly in catalog.txt:\n{gone}\n");
}
