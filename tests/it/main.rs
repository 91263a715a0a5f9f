//! The integration tests: one program, a module per topic. They act as users do, on real parts.

mod charts;
mod cluster_api;
mod cluster_node;
mod hostile;
mod http;
mod interfaces;
mod lifecycle;
mod mcp;
mod recipes;
mod router;
mod simulation;
mod store;
mod support;
