//! A database of its own for each test, on SQLite and on PostgreSQL.

use diesel::{Connection, QueryableByName, SqliteConnection, connection::SimpleConnection, sql_types::Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use previewd::store::{Migrate, Store, migrate};
use tempfile::TempDir;
use uuid::Uuid;
use xtask::testing;

/// The variable in which a test's own child process finds its database.
pub const CHILD_DATABASE: &str = "XTASK_TEST_CHILD_DATABASE";

/// A database that goes with this value.
pub struct Database {
    pub url: String,
    home: Home,
}

enum Home {
    Sqlite(TempDir),
    /// The server's address, and the database's name there.
    Postgres {
        server: String,
        name: String,
    },
}

/// One line of a result, as text.
#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

impl Database {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("previewd.db").display());
        Self { url, home: Home::Sqlite(folder) }
    }

    async fn postgres(server: &str) -> Self {
        let name = format!("previewd_test_{}", Uuid::new_v4().simple());
        execute_postgres(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await;
        Self { url: format!("{server}/{name}"), home: Home::Postgres { server: server.to_owned(), name } }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.home, Home::Sqlite(_))
    }

    /// The name that PostgreSQL's log has for it.
    pub fn name(&self) -> &str {
        match &self.home {
            Home::Sqlite(_) => "sqlite",
            Home::Postgres { name, .. } => name,
        }
    }

    /// A store of its own, as each process has one.
    pub fn store(&self) -> Store {
        Store::open(&self.url).unwrap()
    }

    /// Runs SQL that gives nothing, past the store.
    pub async fn execute(&self, sql: &str) {
        match &self.home {
            Home::Sqlite(_) => {
                self.sqlite_connection().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
            Home::Postgres { .. } => execute_postgres(&self.url, sql).await,
        }
    }

    /// Whether the database itself refuses this SQL.
    pub async fn refuses(&self, sql: &str) -> bool {
        match &self.home {
            Home::Sqlite(_) => self.sqlite_connection().batch_execute(sql).is_err(),
            Home::Postgres { .. } => {
                AsyncPgConnection::establish(&self.url).await.unwrap().batch_execute(sql).await.is_err()
            }
        }
    }

    /// Runs SQL that gives rows of one text column named `line`, past the store.
    pub async fn lines(&self, sql: &str) -> Vec<String> {
        let query = diesel::sql_query(sql);
        let lines: Vec<Line> = match &self.home {
            Home::Sqlite(_) => diesel::RunQueryDsl::load(query, &mut self.sqlite_connection()),
            Home::Postgres { .. } => {
                let mut connection = AsyncPgConnection::establish(&self.url).await.unwrap();
                diesel_async::RunQueryDsl::load(query, &mut connection).await
            }
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
        lines.into_iter().map(|line| line.line).collect()
    }

    /// The only line.
    pub async fn line(&self, sql: &str) -> String {
        let lines = self.lines(sql).await;
        assert_eq!(lines.len(), 1, "{sql}: {lines:?}");
        lines.into_iter().next().unwrap()
    }

    pub fn sqlite_connection(&self) -> SqliteConnection {
        let path = self.url.strip_prefix("sqlite:").unwrap();
        let mut connection = SqliteConnection::establish(path).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON;").unwrap();
        connection
    }

    async fn remove(self) {
        match self.home {
            Home::Sqlite(folder) => folder.close().unwrap(),
            Home::Postgres { server, name } => {
                execute_postgres(&format!("{server}/postgres"), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
        }
    }
}

/// Runs a test on an empty database of each kind. Without a PostgreSQL that half says that it is skipped.
pub async fn for_each_empty_database(test: impl AsyncFn(&Database)) {
    let sqlite = Database::sqlite();
    println!("on {}", sqlite.url);
    test(&sqlite).await;
    sqlite.remove().await;

    let Ok(server) = std::env::var(testing::POSTGRES) else {
        return testing::skip("its PostgreSQL half needs the server that `cargo xtask test` starts");
    };
    let postgres = Database::postgres(&server).await;
    println!("on {}", postgres.url);
    test(&postgres).await;
    postgres.remove().await;
}

/// Runs a test on a database of each kind that has its tables.
pub async fn for_each_database(test: impl AsyncFn(&Database)) {
    for_each_empty_database(async |database| {
        migrate(&database.url, Migrate::Auto).await.unwrap();
        test(database).await;
    })
    .await;
}

pub async fn execute_postgres(url: &str, sql: &str) {
    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
    connection.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
