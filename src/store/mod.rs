//! The rows, on SQLite or PostgreSQL through one code path: the only module that speaks SQL.
//!
//! diesel-async has no connection that is either of two backends, so the pools are an enum, and two small macros expand
//! one query body for both. Every change of state is one conditional statement, or one transaction that writes first.

mod backup;
mod budgets;
mod clock;
mod commands;
mod connection;
mod deliveries;
mod deployments;
mod engines;
mod environments;
mod events;
mod facts;
mod idempotency;
mod installation;
mod kept_logs;
mod lease;
mod migrations;
mod objects;
mod operation;
mod places;
mod postgres;
mod pull_requests;
mod record;
mod repair;
mod requests;
mod retention;
pub mod schema;
mod sessions;
mod standings;
mod tokens;
mod usage;

pub use backup::BackupError;
pub use budgets::Turn;
pub use commands::Command;
pub use connection::{Store, StoreError};
pub use deliveries::{ArrivedDelivery, Delivery, RecordedDelivery};
pub use deployments::Deployment;
pub use environments::{Environment, EnvironmentFilter, EnvironmentOrder, Overview};
pub use events::{Event, EventFilter, EventKind, Interface, Origin, PastEvent, Refusal};
pub use facts::Confirmed;
pub use idempotency::Keyed;
pub use installation::Installation;
pub use kept_logs::KeptLog;
pub use lease::{Lease, LeaseLost};
pub use migrations::{Migrate, MigrationError, migrate};
pub use objects::{Inventoried, Made, ObjectKey, Settled};
pub use operation::{Budget, Gauges, Occupancy, Overdue, RepositoryUsage};
pub use pull_requests::{PullRequest, Repository};
pub use record::{DeploymentChanges, EnvironmentChanges, Record};
pub use repair::{ListTag, SweepPeriods, SweptRepository};
pub use requests::Request;
pub use retention::Retention;
pub use sessions::{NewSession, SessionKind};
pub use standings::{Standing, Trouble};
pub use tokens::{NewToken, Token};
pub use usage::{Restarts, SAMPLE_FRESH, SAMPLED_EVERY, Sampling, Usage, UsageBucket};
