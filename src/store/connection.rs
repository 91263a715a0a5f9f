//! Two pools behind one type, and the macros that run a query body on either.

use std::{sync::Arc, time::Duration};

use diesel::{
    sql_types::{BigInt, Nullable},
    sqlite::SqliteConnection,
};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, TransactionManager,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Pool, PoolError},
    },
    sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper},
};
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use tokio::sync::Notify;

use super::{clock::Moment, environments::lower_utils, postgres};
use crate::{environment::Millis, faults::Faults, sealing::Keys};

pub(super) type AsyncSqlite = SyncConnectionWrapper<SqliteConnection, Statements>;

/// Where SQLite's statements run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statements {
    /// On threads that may wait for the file.
    OnThreads,
    /// Where they are asked for, one after the other: a simulation has no other threads, whose turn would be chance.
    InPlace,
}

impl SpawnBlocking for Statements {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn std::error::Error + Send + Sync>>> {
        match self {
            Self::OnThreads => tokio::task::spawn_blocking(task).map_err(Into::into).boxed(),
            Self::InPlace => {
                let done = task();
                async move {
                    // Others go on between two statements here as well.
                    tokio::task::yield_now().await;
                    Ok(done)
                }
                .boxed()
            }
        }
    }

    fn get_runtime() -> Self {
        Self::OnThreads
    }
}

/// Set first on every SQLite connection, so that the later ones wait as well. FULL: an answered webhook survives a
/// power cut.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;";
const SQLITE_READERS: usize = 4;
const POSTGRES_CONNECTIONS: usize = 10;

/// The database could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the database refused a statement")]
    Query(#[from] diesel::result::Error),
    #[error("a row holds what this version cannot read: {0}")]
    Unreadable(String),
    #[error("a row is sealed with a key that is not among sealing.keys")]
    Sealed,
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        Self::Unreachable(Box::new(error))
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) pools: Pools,
    /// Wakes the engine of this process after a commit that made a row due.
    due: Arc<Notify>,
    clock: Clock,
    /// What seals what nobody is to read in the database.
    pub(super) keys: Keys,
    pub(super) faults: Faults,
}

/// Whose time counts.
#[derive(Clone)]
enum Clock {
    /// The database's, so that leases mean the same to every process.
    Database,
    /// That of a simulation. Unix milliseconds.
    Given(Arc<dyn Fn() -> Millis + Send + Sync>),
}

#[derive(Clone)]
pub(super) enum Pools {
    /// SQLite lets one connection write at a time: ours is the only writer of this process, and waits for those of
    /// others under the busy timeout.
    Sqlite {
        writer: Pool<AsyncSqlite>,
        readers: Pool<AsyncSqlite>,
    },
    Postgres(Pool<AsyncPgConnection>),
}

impl Store {
    /// Opens `url`: `sqlite:PATH`, or `postgres://…`. Connects at the first use.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, Statements::OnThreads)
    }

    fn open_with(url: &str, statements: Statements) -> Result<Self, StoreError> {
        let unreachable =
            |error: diesel_async::pooled_connection::deadpool::BuildError| StoreError::Unreachable(Box::new(error));
        let pools = match url.strip_prefix("sqlite:") {
            Some(path) => Pools::Sqlite {
                writer: Pool::builder(sqlite_manager(path, statements)).max_size(1).build().map_err(unreachable)?,
                readers: Pool::builder(sqlite_manager(path, statements))
                    .max_size(SQLITE_READERS)
                    .build()
                    .map_err(unreachable)?,
            },
            None => Pools::Postgres(
                Pool::builder(postgres_manager(url)).max_size(POSTGRES_CONNECTIONS).build().map_err(unreachable)?,
            ),
        };
        Ok(Self {
            pools,
            due: Arc::new(Notify::new()),
            clock: Clock::Database,
            keys: Keys::default(),
            faults: Faults::default(),
        })
    }

    /// With the keys that seal secrets. Without them nothing with a secret in it can be kept.
    pub fn sealing(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Whether something with a secret in it can be kept.
    pub fn can_seal(&self) -> bool {
        self.keys.can_seal()
    }

    /// Opens `url` in a simulation, under a clock that gives Unix milliseconds.
    pub fn simulated(url: &str, clock: impl Fn() -> Millis + Send + Sync + 'static) -> Result<Self, StoreError> {
        Ok(Self { clock: Clock::Given(Arc::new(clock)), ..Self::open_with(url, Statements::InPlace)? })
    }

    /// As another process of the simulation has it. The connections are shared: two that wait for each other's lock
    /// would do so in real time.
    pub fn of_process(&self, faults: Faults) -> Self {
        Self { due: Arc::new(Notify::new()), faults, ..self.clone() }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        read!(self, |connection| connection.batch_execute("SELECT 1").await)
    }

    /// Returns when a commit of this process may have made a row due.
    pub async fn made_due(&self) {
        self.due.notified().await;
    }

    pub(super) fn announce_due(&self) {
        self.due.notify_one();
    }

    /// The database's clock, so that leases mean the same to every process.
    pub(super) fn now(&self) -> Moment<BigInt> {
        self.now_plus(Duration::ZERO)
    }

    pub(super) fn now_plus(&self, wait: Duration) -> Moment<BigInt> {
        self.clock_moved_by(Some(wait.as_millis() as i64))
    }

    pub(super) fn now_minus(&self, since: Duration) -> Moment<BigInt> {
        self.clock_moved_by(Some(-(since.as_millis() as i64)))
    }

    /// The moment after `wait`, or NULL.
    pub(super) fn now_plus_or_never(&self, wait: Option<Duration>) -> Moment<Nullable<BigInt>> {
        self.clock_moved_by(wait.map(|wait| wait.as_millis() as i64))
    }

    fn clock_moved_by<T>(&self, milliseconds: Option<i64>) -> Moment<T> {
        match (&self.clock, &self.pools) {
            (Clock::Given(clock), _) => Moment::at(milliseconds.map(|milliseconds| clock() + milliseconds)),
            (Clock::Database, Pools::Sqlite { .. }) => Moment::by_sqlite(milliseconds),
            (Clock::Database, Pools::Postgres(_)) => Moment::by_postgres(milliseconds),
        }
    }

    /// This process's clock, for times that people read. What processes compare goes by the database's, [`Store::now`].
    pub(super) fn wall_clock(&self) -> Millis {
        match &self.clock {
            Clock::Given(clock) => clock(),
            Clock::Database => {
                let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Millis::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or(Millis::MAX)
            }
        }
    }

    /// What the database's clock says.
    pub async fn clock(&self) -> Result<Millis, StoreError> {
        use diesel_async::RunQueryDsl;
        let now = self.now();
        read!(self, |connection| diesel::select(now).get_result::<Millis>(connection).await)
    }
}

/// Runs a write where dropping the caller's future, as a cancelled request does, cannot cut it half-way. Boxed, so that
/// the compiler proves only here that a transaction may be sent, and not again in each caller.
pub(super) async fn uncancelled<T: Send + 'static>(
    write: BoxFuture<'static, Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::spawn(write).await {
        Ok(result) => result,
        Err(panic) => Err(StoreError::Unreachable(Box::new(panic))),
    }
}

/// `read!(store, |connection| query)`: runs the query on a connection of either backend.
macro_rules! read {
    ($store:expr, |$connection:ident| $query:expr) => {
        match &$store.pools {
            $crate::store::connection::Pools::Sqlite { readers, .. } => {
                let mut object = readers.get().await?;
                let $connection = &mut *object;
                $query.map_err($crate::store::StoreError::from)
            }
            $crate::store::connection::Pools::Postgres(pool) => {
                let mut object = pool.get().await?;
                let $connection = &mut *object;
                $query.map_err($crate::store::StoreError::from)
            }
        }
    };
}
pub(super) use read;

/// The body between begin and commit. diesel-async's own `transaction` takes an async closure over any lifetime, which
/// makes rustc 1.95 stop with an internal error in incremental builds.
macro_rules! transaction {
    ($open:expr, |$connection:ident| $body:expr) => {{
        let open = $open;
        $crate::store::connection::begin(open).await?;
        let $connection = &mut *open;
        let outcome: diesel::QueryResult<_> = async move { $body }.await;
        $crate::store::connection::end(open, outcome).await
    }};
}
pub(super) use transaction;

pub(super) async fn begin<C: AsyncConnection>(connection: &mut C) -> diesel::QueryResult<()> {
    C::TransactionManager::begin_transaction(connection).await
}

/// Commits what came out well, and rolls back what did not.
pub(super) async fn end<C: AsyncConnection, T>(
    connection: &mut C,
    outcome: diesel::QueryResult<T>,
) -> Result<T, StoreError> {
    match outcome {
        Ok(value) => {
            C::TransactionManager::commit_transaction(connection).await?;
            Ok(value)
        }
        Err(error) => {
            // A connection that cannot even roll back is broken, and its pool takes it out.
            let _ = C::TransactionManager::rollback_transaction(connection).await;
            Err(error.into())
        }
    }
}

/// `write!(store, |connection| body)`: runs the body, which gives a `QueryResult`, in a transaction that nobody can cut
/// half-way. The body must write before it reads: SQLite's lock is then taken at once and never upgraded.
macro_rules! write {
    ($store:expr, |$connection:ident| $body:expr) => {{
        let pools = $store.pools.clone();
        $crate::store::connection::uncancelled(Box::pin(async move {
            match pools {
                $crate::store::connection::Pools::Sqlite { writer, .. } => {
                    let mut object = writer.get().await?;
                    $crate::store::connection::transaction!(&mut *object, |$connection| $body)
                }
                $crate::store::connection::Pools::Postgres(pool) => {
                    let mut object = pool.get().await?;
                    let connection: &mut diesel_async::AsyncPgConnection = &mut object;
                    $crate::store::connection::transaction!(connection, |$connection| $body)
                }
            }
        }))
        .await
    }};
}
pub(super) use write;

fn sqlite_manager(path: &str, statements: Statements) -> AsyncDieselConnectionManager<AsyncSqlite> {
    let mut config = ManagerConfig::<AsyncSqlite>::default();
    config.custom_setup = Box::new(move |path| {
        let path = path.to_owned();
        async move {
            let mut threads = statements;
            let opened = threads.spawn_blocking(move || establish_sqlite(&path)).await;
            let opened = opened.map_err(|error| diesel::ConnectionError::BadConnection(error.to_string()))??;
            let mut connection = AsyncSqlite::with_runtime(opened, statements);
            connection
                .batch_execute(SQLITE_PRAGMAS)
                .await
                .map_err(diesel::result::ConnectionError::CouldntSetupConfiguration)?;
            Ok(connection)
        }
        .boxed()
    });
    // The database is a file of ours: a connection to it does not go away.
    config.recycling_method = RecyclingMethod::Fast;
    AsyncDieselConnectionManager::new_with_config(path, config)
}

fn establish_sqlite(path: &str) -> diesel::ConnectionResult<SqliteConnection> {
    let mut connection = <SqliteConnection as diesel::Connection>::establish(path)?;
    lower_utils::register_impl(&mut connection, |text: String| {
        // As PostgreSQL does it: not by what comes after a letter.
        text.chars().flat_map(char::to_lowercase).collect::<String>()
    })
    .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

fn postgres_manager(url: &str) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    let mut config = ManagerConfig::<AsyncPgConnection>::default();
    config.custom_setup = Box::new(|url| postgres::connect(url).boxed());
    AsyncDieselConnectionManager::new_with_config(url, config)
}
