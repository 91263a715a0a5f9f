//! A client for HTTP.

use rustls::crypto::ring::default_provider;

/// Of a client that asks without a proxy from the environment: everything here is on loopback.
pub fn client() -> reqwest::ClientBuilder {
    // Clients take the process's cryptography, and there is none before somebody says which.
    let _ = default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

/// One with nothing special.
///
/// # Panics
/// Where the machine has no trusted certificates.
pub fn plain_client() -> reqwest::Client {
    client().build().expect("a client of HTTP")
}
