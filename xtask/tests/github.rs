//! The loopback GitHub, used as previewd uses the real one: through octocrab, and as a receiver of webhooks.

#[path = "github/app.rs"]
mod app;
#[path = "github/control.rs"]
mod control;
#[path = "github/faults.rs"]
mod faults;
#[path = "github/rest.rs"]
mod rest;
#[path = "github/support.rs"]
mod support;
#[path = "github/webhooks.rs"]
mod webhooks;
