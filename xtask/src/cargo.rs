//! Cargo, started by a program that cargo itself started.

use std::process::Command;

/// The cargo that runs this program, in the environment that it was started in.
///
/// What `cargo run` adds for its program stays out: build scripts that watch these variables (ring's does) would run
/// anew whenever an inner and an outer cargo take turns, and everything above them would be compiled again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}
