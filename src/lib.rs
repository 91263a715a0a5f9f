//! previewd: a preview environment for every pull request, with the controls in the hands of AI agents.
//! ARCHITECTURE.md has the map.

pub mod alerts;
pub mod cluster;
pub mod config;
pub mod dashboard;
pub mod engine;
pub mod environment;
pub mod faults;
pub mod github;
pub mod helm;
pub mod http;
pub mod identity;
pub mod masking;
pub mod mcp;
pub mod metrics;
pub mod outbound;
pub mod recipe;
pub mod registry;
mod request;
pub mod router;
pub mod schemas;
pub mod sealing;
pub mod service;
pub mod sessions;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod traces;
pub mod webhook;
