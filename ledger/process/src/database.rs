//! How a program connects to Postgres, and what the sessions of a service are like.

use anyhow::Context;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

/// What every session of a service is like.
const SESSION: [(&str, &str); 7] = [
    // A process that hangs in the middle of a transaction, or a machine that is gone, would hold for
    // ever the rows that another process is to take over.
    ("idle_in_transaction_session_timeout", "3s"),
    // Every statement reads by key (a test holds that). What the planner takes the tables for depends
    // on when they were last analyzed; a plan made while they were small, and kept, reads them whole
    // when they are not. A plan for any values is then as good as one for these, and made once.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Connection options of a service, from a URL as [`options`] reads it.
pub fn service(url: &str, application: &str) -> anyhow::Result<PgConnectOptions> {
    Ok(options(url, application)?.options(SESSION))
}

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
    // Without what sqlx asks for besides: no statement gives a float, and poolers refuse it.
    let options = options.extra_float_digits(None);
    Ok(options.application_name(application).disable_statement_logging())
}
