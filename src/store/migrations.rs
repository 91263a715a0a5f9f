//! Migrations: embedded, and applied under a lock of ours, because diesel takes none.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use diesel::{
    Connection, OptionalExtension, QueryDsl, RunQueryDsl,
    connection::{LoadConnection, SimpleConnection},
    migration::Migration,
    sqlite::SqliteConnection,
};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::runtime::Handle;

use super::{installation::GENERATION, postgres, schema::installation};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
/// Any number of our own: one advisory lock in each database.
const POSTGRES_LOCK: i64 = 0x7072_6576_6965_7764;

/// Takes the lock for writing once, because some ways of being read-only show only then.
const SQLITE_WRITABLE: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; COMMIT;";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What to do with migrations that are not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Apply them.
    Auto,
    /// Refuse to go on.
    Check,
    /// Revert all of them: the tables go, and what is in them.
    Revert,
}

#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error("cannot open the database {database}; is its folder there, and may previewd write to it?")]
    Open { database: String, source: Failure },
    /// Without the URL, which holds a password.
    #[error("cannot connect to PostgreSQL; is it running, and are address, name and password of the database right?")]
    Connect(#[source] Failure),
    #[error("the database {database} is read-only; give previewd the right to write to it")]
    ReadOnly { database: String },
    #[error(
        "the database was made by a newer previewd (generation {theirs}, this one reads {GENERATION}); update previewd"
    )]
    Newer { theirs: i64 },
    #[error("{count} migrations are not applied; run `previewd migrate`")]
    Pending { count: usize },
    #[error("a migration failed")]
    Failed(#[source] Failure),
}

/// Brings the database at `url` to this version's tables. Gives how many migrations ran. Any number of processes may do
/// so at once.
pub async fn migrate(url: &str, mode: Migrate) -> Result<usize, MigrationError> {
    let url = url.to_owned();
    let outcome = tokio::task::spawn_blocking(move || match url.strip_prefix("sqlite:") {
        Some(path) => migrate_sqlite(path, mode),
        None => migrate_postgres(&url, mode),
    });
    outcome.await.unwrap_or_else(|panic| Err(MigrationError::Failed(Box::new(panic))))
}

fn migrate_sqlite(path: &str, mode: Migrate) -> Result<usize, MigrationError> {
    let open = |source: Failure| MigrationError::Open { database: path.to_owned(), source };
    let is_read_only = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.permissions().readonly());
    if is_read_only(Path::new(path)) {
        return Err(MigrationError::ReadOnly { database: path.to_owned() });
    }
    let lock = open_private(&format!("{path}.lock")).map_err(|error| open(error.into()))?;
    lock.lock().map_err(|error| open(error.into()))?;
    open_private(path).map_err(|error| open(error.into()))?;
    let mut connection = SqliteConnection::establish(path).map_err(|error| open(error.into()))?;
    connection.batch_execute(SQLITE_WRITABLE).map_err(|error| {
        if error.to_string().contains("readonly") {
            MigrationError::ReadOnly { database: path.to_owned() }
        } else {
            open(error.into())
        }
    })?;
    run(&mut connection, mode, |connection| {
        installation::table.find(1).select(installation::oldest_generation).first(connection).optional()
    })
}

/// Opens a file for writing, made where there is none, for nobody else to read: SQLite gives its other files the same
/// rights.
fn open_private(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn migrate_postgres(url: &str, mode: Migrate) -> Result<usize, MigrationError> {
    let connect = |source: Failure| MigrationError::Connect(source);
    let connected = Handle::current().block_on(postgres::connect(url)).map_err(|error| connect(error.into()))?;
    let mut connection = AsyncConnectionWrapper::<AsyncPgConnection>::from(connected);
    // Held until this connection ends.
    connection
        .batch_execute(&format!("SELECT pg_advisory_lock({POSTGRES_LOCK})"))
        .map_err(|error| connect(error.into()))?;
    run(&mut connection, mode, |connection| {
        installation::table.find(1).select(installation::oldest_generation).first(connection).optional()
    })
}

fn run<C>(
    connection: &mut C,
    mode: Migrate,
    oldest_generation: impl Fn(&mut C) -> diesel::QueryResult<Option<i64>>,
) -> Result<usize, MigrationError>
where
    C: MigrationHarness<C::Backend> + LoadConnection,
    C::Backend: 'static,
{
    let is_new = connection.applied_migrations().map_err(MigrationError::Failed)?.is_empty();
    if !is_new {
        let theirs = oldest_generation(connection).map_err(|error| MigrationError::Failed(error.into()))?;
        if let Some(theirs) = theirs.filter(|theirs| *theirs > GENERATION) {
            return Err(MigrationError::Newer { theirs });
        }
    }
    match mode {
        Migrate::Auto => Ok(connection.run_pending_migrations(MIGRATIONS).map_err(MigrationError::Failed)?.len()),
        Migrate::Check => {
            let pending: Vec<Box<dyn Migration<C::Backend>>> =
                connection.pending_migrations(MIGRATIONS).map_err(MigrationError::Failed)?;
            if pending.is_empty() { Ok(0) } else { Err(MigrationError::Pending { count: pending.len() }) }
        }
        Migrate::Revert => Ok(connection.revert_all_migrations(MIGRATIONS).map_err(MigrationError::Failed)?.len()),
    }
}
