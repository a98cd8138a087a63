//! How a service connects to Postgres.

use anyhow::Context;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

/// Connection options from a URL. Encryption is left out on sockets and loopback, and full
/// verification is the default elsewhere; `sslmode` in the URL decides otherwise.
pub fn options(url: &str, application: &str) -> anyhow::Result<PgConnectOptions> {
    // The URL may hold a password, so it is in no error text.
    let mut options: PgConnectOptions =
        url.parse().ok().context("DATABASE_URL is not a Postgres URL (postgresql://…)")?;
    if !url.contains("sslmode=") {
        let local = options.get_socket().is_some()
            || ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&options.get_host());
        let mode = if local { PgSslMode::Disable } else { PgSslMode::VerifyFull };
        options = options.ssl_mode(mode);
    }
    Ok(options.application_name(application).disable_statement_logging())
}
