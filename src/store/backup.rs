//! Backups: every row of every table that outlives processes and sessions, read in one snapshot while others go on working, as lines of JSON that either
//! database takes back. The only place besides the clock where SQL is text: it is the same for every table, whatever its
//! columns.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use diesel::{ExpressionMethods, NullableExpressionMethods, QueryableByName, sql_query, sql_types::Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Store, StoreError,
    connection::{Pools, transaction, write},
    installation::GENERATION,
    schema::{environments, installation},
};

/// The tables with their keys, each after those that it refers to. What only living processes need is left out.
const TABLES: [(&str, &str); 16] = [
    ("installation", "id"),
    ("repositories", "github_id"),
    ("pull_requests", "github_id"),
    ("environments", "id"),
    ("standings", "environment_id"),
    ("deployments", "id"),
    ("renders", "deployment_id"),
    ("kept_logs", "deployment_id, place"),
    ("objects", "environment_id, api_version, kind, name"),
    ("events", "id"),
    ("deliveries", "guid"),
    ("approvals", "pull_request_id, commit_sha"),
    ("commands", "kind, comment_id, place"),
    ("idempotency", "subject, idempotency_key"),
    ("tokens", "id"),
    ("orphans", "namespace"),
];
/// Rows that are in memory at once.
const PAGE: usize = 1_000;
const FORMAT: u64 = 1;

/// The first line of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    previewd_backup: u64,
    generation: i64,
}

/// A row, and the table that it is of.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    table: String,
    row: Value,
}

/// The last line of a backup: a file that was cut short has none.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    rows: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no backup of previewd, or it was cut short (line {line})", path.display())]
    NotABackup { path: PathBuf, line: u64 },
    #[error("{} was made by a newer previewd; update this one first", path.display())]
    Newer { path: PathBuf },
    #[error("the database is not empty; restore into a new one")]
    NotEmpty,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    row: String,
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The columns of each table. `$query` makes the text that reads their names.
macro_rules! columns {
    ($connection:expr, |$table:ident| $query:expr) => {{
        let mut columns: std::collections::HashMap<&'static str, Vec<String>> = std::collections::HashMap::new();
        for ($table, _) in TABLES {
            let found: Vec<Column> = sql_query($query).load($connection).await.map_err(StoreError::from)?;
            columns.insert($table, found.into_iter().map(|Column { name }| name).collect());
        }
        columns
    }};
}

/// Writes every table's rows through `$line`, from inside a transaction. `$select` makes the text that reads a table.
macro_rules! dump {
    ($connection:expr, $write:expr, |$table:ident| $select:expr) => {{
        for (name, key) in TABLES {
            let $table = name;
            let select: String = $select;
            for page in 0.. {
                let query = format!("{select} ORDER BY {key} LIMIT {PAGE} OFFSET {}", page * PAGE);
                let rows: Vec<Row> = sql_query(query).load($connection).await?;
                let count = rows.len();
                $write(name, rows)?;
                if count < PAGE {
                    break;
                }
            }
        }
        Ok(())
    }};
}

impl Store {
    /// Writes everything to a new file at `path`, which nobody else may read. Gives the number of rows.
    pub async fn backup(&self, path: &Path) -> Result<u64, BackupError> {
        let failed = |source| BackupError::Write { path: path.to_owned(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut file = BufWriter::new(file);
        let mut written = 0;
        let mut outcome = write_line(&mut file, &Header { previewd_backup: FORMAT, generation: GENERATION });
        let mut write_rows = |table: &str, rows: Vec<Row>| -> diesel::QueryResult<()> {
            for Row { row } in rows {
                let row = serde_json::from_str(&row)
                    .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
                if outcome.is_ok() {
                    outcome = write_line(&mut file, &Line { table: table.to_owned(), row });
                }
                written += 1;
            }
            Ok(())
        };
        match &self.pools {
            Pools::Sqlite { readers, .. } => {
                let mut object = readers.get().await.map_err(StoreError::from)?;
                let connection = &mut *object;
                let columns = columns!(connection, |table| sqlite_columns(table));
                let dumped: Result<(), StoreError> = async {
                    transaction!(connection, |connection| {
                        dump!(connection, write_rows, |table| {
                            let pairs: Vec<String> =
                                columns[table].iter().map(|column| format!("'{column}', {column}")).collect();
                            format!("SELECT json_object({}) AS row FROM {table}", pairs.join(", "))
                        })
                    })
                }
                .await;
                dumped?;
            }
            Pools::Postgres(pool) => {
                let mut object = pool.get().await.map_err(StoreError::from)?;
                let connection: &mut diesel_async::AsyncPgConnection = &mut object;
                let dumped: Result<(), StoreError> = async {
                    transaction!(connection, |connection| {
                        // One snapshot for all tables.
                        connection.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                        dump!(connection, write_rows, |table| {
                            format!("SELECT CAST(row_to_json({table}) AS TEXT) AS row FROM {table}")
                        })
                    })
                }
                .await;
                dumped?;
            }
        }
        outcome.map_err(failed)?;
        write_line(&mut file, &End { rows: written }).map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(written)
    }

    /// Puts everything of a backup into a database that has its tables and no rows, all of it or nothing. What was under
    /// way is looked at anew: GitHub and the cluster may have moved on. Gives the number of rows.
    pub async fn restore(&self, path: &Path) -> Result<u64, BackupError> {
        let rows = read_backup(path)?;
        let count = rows.len() as u64;
        let columns = match &self.pools {
            Pools::Sqlite { readers, .. } => {
                let mut object = readers.get().await.map_err(StoreError::from)?;
                let connection = &mut *object;
                columns!(connection, |table| sqlite_columns(table))
            }
            Pools::Postgres(pool) => {
                let mut object = pool.get().await.map_err(StoreError::from)?;
                let connection: &mut diesel_async::AsyncPgConnection = &mut object;
                columns!(connection, |table| format!(
                    "SELECT CAST(column_name AS TEXT) AS name FROM information_schema.columns \
                     WHERE table_schema = current_schema() AND table_name = '{table}' ORDER BY ordinal_position"
                ))
            }
        };
        let is_sqlite = matches!(self.pools, Pools::Sqlite { .. });
        let now = self.now();
        let restored: Result<(), StoreError> = write!(self, |connection| {
            // Every process makes one before anything else. Takes the lock before it looks.
            diesel::delete(installation::table).execute(connection).await?;
            for (table, _) in TABLES {
                let row: Vec<Row> =
                    sql_query(format!("SELECT '' AS row FROM {table} LIMIT 1")).load(connection).await?;
                if !row.is_empty() {
                    return Err(diesel::result::Error::RollbackTransaction);
                }
            }
            for Line { table, row } in rows {
                // What came after the backup has its default.
                let known = columns[table.as_str()].iter().filter(|column| row.get(column.as_str()).is_some());
                let known: Vec<&str> = known.map(String::as_str).collect();
                let names = format!("\"{}\"", known.join("\", \""));
                let insert = if is_sqlite {
                    let values: Vec<String> =
                        known.iter().map(|column| format!("json_extract(json, '$.{column}')")).collect();
                    format!("INSERT INTO {table} ({names}) SELECT {} FROM (SELECT ? AS json)", values.join(", "))
                } else {
                    format!(
                        "INSERT INTO {table} ({names}) SELECT {names} \
                         FROM json_populate_record(NULL::{table}, CAST($1 AS JSON))"
                    )
                };
                sql_query(insert).bind::<Text, _>(row.to_string()).execute(connection).await?;
            }
            diesel::update(environments::table)
                .set((
                    environments::lease_token.eq(None::<String>),
                    environments::lease_until.eq(0),
                    environments::refresh.eq(true),
                    environments::due_at.eq(now.nullable()),
                ))
                .execute(connection)
                .await?;
            Ok(())
        });
        match restored {
            Ok(()) => Ok(count),
            Err(StoreError::Query(diesel::result::Error::RollbackTransaction)) => Err(BackupError::NotEmpty),
            Err(error) => Err(error.into()),
        }
    }
}

fn sqlite_columns(table: &str) -> String {
    format!("SELECT name FROM pragma_table_info('{table}')")
}

fn write_line(file: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// The rows of a backup, checked to be whole.
fn read_backup(path: &Path) -> Result<Vec<Line>, BackupError> {
    let failed = |source| BackupError::Read { path: path.to_owned(), source };
    let no_backup = |line: usize| BackupError::NotABackup { path: path.to_owned(), line: line as u64 + 1 };
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).lines().enumerate();
    let header = match lines.next() {
        Some((_, line)) => line.map_err(failed)?,
        None => return Err(no_backup(0)),
    };
    let Header { previewd_backup, generation } = serde_json::from_str(&header).map_err(|_| no_backup(0))?;
    if previewd_backup > FORMAT || generation > GENERATION {
        return Err(BackupError::Newer { path: path.to_owned() });
    }
    let mut rows: Vec<Line> = Vec::new();
    for (number, line) in lines {
        let line = line.map_err(failed)?;
        if let Ok(End { rows: count }) = serde_json::from_str(&line) {
            return if count == rows.len() as u64 { Ok(rows) } else { Err(no_backup(number)) };
        }
        let line: Line = serde_json::from_str(&line).map_err(|_| no_backup(number))?;
        if !TABLES.iter().any(|(name, _)| *name == line.table) || !line.row.is_object() {
            return Err(no_backup(number));
        }
        rows.push(line);
    }
    Err(no_backup(rows.len() + 1))
}
