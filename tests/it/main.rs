//! The integration tests: one program, a module per topic. They act as users do, on real parts.

mod authorization;
mod charts;
mod cli;
mod cluster_api;
mod cluster_node;
mod dashboard;
mod deploy;
mod hostile;
mod http;
mod interfaces;
mod lifecycle;
mod mcp;
mod metrics_api;
mod oidc;
mod pairs;
mod recipes;
mod router;
mod setup;
mod simulation;
mod store;
mod streams;
mod support;
