//! Connections to PostgreSQL, with TLS where the URL asks for it.

use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects within 10 s. `sslmode=require` and `verify-full` are the same here: TLS, with a certificate for that host
/// that the system trusts (`SSL_CERT_FILE` names others). Everything else is without TLS: a connection that only prefers
/// it protects against nobody.
pub(super) async fn connect(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect_in_its_time(url));
    connected.await.unwrap_or_else(|_| Err(bad_connection("no answer within 10 seconds")))
}

async fn connect_in_its_time(url: &str) -> ConnectionResult<AsyncPgConnection> {
    let config: Config = url.replace("sslmode=verify-full", "sslmode=require").parse().map_err(failed)?;
    if config.get_ssl_mode() == SslMode::Require {
        let tls = rustls::ClientConfig::with_platform_verifier().map_err(bad_connection)?;
        let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.map_err(failed)?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    } else {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    }
}

/// tokio_postgres says only the kind of what went wrong, and keeps the rest as its source.
fn failed(error: tokio_postgres::Error) -> ConnectionError {
    bad_connection(format!("{:#}", anyhow::Error::from(error)))
}

fn bad_connection(why: impl ToString) -> ConnectionError {
    ConnectionError::BadConnection(why.to_string())
}
