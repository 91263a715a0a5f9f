//! The rows, on SQLite or PostgreSQL through one code path: the only module that speaks SQL.
//!
//! diesel-async has no connection that is either of two backends, so the pools are an enum, and two small macros expand
//! one query body for both. Every change of state is one conditional statement, or one transaction that writes first.

mod backup;
mod budgets;
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
mod migrations;
mod objects;
mod places;
mod postgres;
mod pull_requests;
mod repair;
mod requests;
mod retention;
pub mod schema;
mod tokens;

pub use backup::BackupError;
pub use budgets::Turn;
pub use commands::Command;
pub use connection::{Store, StoreError};
pub use deliveries::{ArrivedDelivery, Delivery, RecordedDelivery};
pub use deployments::{Confirmed, Deployment, DeploymentChanges, EnvironmentChanges, Record};
pub use environments::{Environment, EnvironmentFilter, Lease, LeaseLost, Overview};
pub use events::{Event, EventKind, PastEvent};
pub use idempotency::Keyed;
pub use installation::Installation;
pub use migrations::{Migrate, MigrationError, migrate};
pub use objects::ObjectKey;
pub use pull_requests::{PullRequest, Repository};
pub use repair::{ListTag, SweepPeriods, SweptRepository};
pub use requests::Request;
pub use retention::Retention;
pub use tokens::{NewToken, Token};
