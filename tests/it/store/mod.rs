//! The store on both of its databases: each test runs on SQLite and on PostgreSQL.

mod backup;
mod budgets;
mod catalog;
mod claims;
pub mod database;
mod deliveries;
pub mod given;
mod list;
mod migrations;
mod operation;
mod pages;
mod places;
mod plans;
mod process;
mod requests;
mod retention;
mod sessions;
mod steps;
mod tls;
mod usage;
