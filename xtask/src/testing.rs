//! What the tests of every crate share.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use crate::shared_clusters::{CLUSTERS, SHARED_IMAGE, SHARED_ROOT_IMAGE, SharedClusters, shared_cluster};

/// Set by `cargo xtask test` to the address of its PostgreSQL, as the superuser of an otherwise empty server. Its name
/// does not begin with PREVIEWD_, because previewd refuses what it does not know of these.
pub const POSTGRES: &str = "XTASK_TEST_POSTGRES";

/// Set by `cargo xtask test` to the file with the authority that signed its PostgreSQL's certificate.
pub const POSTGRES_CA: &str = "XTASK_TEST_POSTGRES_CA";

/// Set by `cargo xtask test --require-node`: what would be skipped fails instead.
pub const REQUIRE_NODE: &str = "XTASK_TEST_REQUIRE_NODE";

/// How a test says that it did not run; `cargo xtask test` counts these lines.
pub const SKIPPED: &str = "skipped ";

/// Says by name and reason that the calling test does not run, past the capture of what tests print.
///
/// # Panics
/// Where nothing may be skipped.
pub fn skip(reason: &str) {
    assert!(std::env::var_os(REQUIRE_NODE).is_none(), "nothing may be skipped, but {reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "{SKIPPED}{test}: {reason}");
}

/// Whether this machine can have a cluster, and with `node` one that runs pods. Where it cannot, the calling test is
/// skipped with what is missing.
///
/// # Panics
/// Where nothing may be skipped.
pub fn has_cluster(node: bool) -> bool {
    match crate::cluster::requirements::ensure_machine(node) {
        Ok(()) => true,
        Err(lack) => {
            skip(&format!("{lack:#}").replace('\n', " "));
            false
        }
    }
}

/// A browser without a window. None, and the calling test is skipped with what is missing, where there is none.
///
/// # Panics
/// Where nothing may be skipped.
pub fn browser() -> Option<PathBuf> {
    match crate::cluster::requirements::ensure_browser() {
        Ok(browser) => Some(browser),
        Err(lack) => {
            skip(&format!("{lack:#}").replace('\n', " "));
            None
        }
    }
}

/// Awaits what the probe finds.
///
/// # Panics
/// Where it finds nothing before the deadline.
pub async fn eventually<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(began.elapsed() < deadline, "{what}: not within {} s", deadline.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
