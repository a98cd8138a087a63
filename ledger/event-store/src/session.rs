//! What a session with the database must be: one server process for as long as the connection
//! lasts, with the settings that were asked for.
//!
//! A pooler in transaction mode gives each transaction another server process. Prepared statements,
//! session settings, advisory locks and LISTEN are then lost between two statements, and a service
//! would wait for ever or meet the prepared statements of others. So that is found out at the
//! start. A pooler in session mode may leave out startup options, so settings are set again.
//!
//! Not here: which settings there are.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions, raw_sql};
use tokio::time::timeout;

use crate::StoreError;

/// How long one step of the probe may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a probe in which one connection waits for another is made before it is believed.
const PROBES: usize = 2;

/// Connections that hold a transaction while another connection is probed.
const HOLDERS: usize = 2;

/// What is lost between two statements that have no server process of their own.
const SESSION_FEATURES: &str = "session settings, prepared statements, advisory locks and LISTEN";

/// Marks the session that is probed.
const MARK: &str = "SELECT pg_backend_pid() AS process,
    set_config('frikort.session_mark', pg_backend_pid()::text, false) AS mark";

/// Whether it is still that session.
const MARKED: &str = "SELECT pg_backend_pid() AS process,
    coalesce(current_setting('frikort.session_mark', true), '') AS mark";

/// The settings that differ from those asked for. With `set_config`, sets them.
const DIFFERING: &str = "SELECT name FROM unnest($1::text[], $2::text[]) AS s (name, value)
    WHERE current_setting(name, true) IS DISTINCT FROM value";
const SET: &str = "SELECT set_config(name, value, false)
    FROM unnest($1::text[], $2::text[]) AS s (name, value)
    WHERE current_setting(name, true) IS DISTINCT FROM value";

/// A connection with the settings of its options.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    apply_settings(&mut connection, options).await?;
    Ok(connection)
}

/// Sets what the startup options ask for, where it is not in force: a pooler leaves them out.
pub async fn apply_settings(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<(), sqlx::Error> {
    let (names, values) = settings(options.get_options().unwrap_or_default());
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query(SET).bind(names).bind(values).fetch_all(connection).await?;
    Ok(())
}

/// Names and values in `-c name=value -c name=value`, where a space or backslash within a value has
/// a backslash before it.
fn settings(options: &str) -> (Vec<String>, Vec<String>) {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' => words.push(String::new()),
            '\\' => words.last_mut().map(|word| word.extend(characters.next())).unwrap_or_default(),
            other => words.last_mut().map(|word| word.push(other)).unwrap_or_default(),
        }
    }
    let pair = |word: &String| {
        let word = word.strip_prefix("-c").or(word.strip_prefix("--")).unwrap_or(word);
        let (name, value) = word.split_once('=')?;
        Some((name.replace('-', "_"), value.to_owned()))
    };
    words.iter().filter_map(pair).unzip()
}

/// What two connections show about their sessions.
enum Probed {
    /// Each has its own.
    Own,
    /// Two statements of one have had two server processes, or two connections have had one.
    Shared,
    /// One waits while the other is in a transaction: for its server process, or the server is slow.
    Waits,
}

/// Fails where connections with these options have no sessions of their own.
///
/// # Errors
/// [`StoreError::SharedSessions`] and [`StoreError::StartupRefused`], which last; what passes.
pub(crate) async fn require_own_sessions(options: &PgConnectOptions) -> Result<(), StoreError> {
    for _ in 0..PROBES {
        let mut probed = within(PgConnection::connect_with(options)).await?;
        match probe(&mut probed, options).await? {
            Probed::Own => {
                // Whether it is closed in order changes nothing.
                let _ = timeout(STEP_TIMEOUT, probed.close()).await;
                return Ok(());
            }
            Probed::Shared => {
                let missing = missing(&mut probed, options).await;
                return Err(StoreError::SharedSessions { missing });
            }
            Probed::Waits => {}
        }
    }
    // A server that only was slow answers now.
    let mut last = within(PgConnection::connect_with(options)).await?;
    within(session(&mut last, MARKED)).await?;
    Err(StoreError::SharedSessions { missing: missing(&mut last, options).await })
}

async fn probe(
    probed: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<Probed, StoreError> {
    let (process, _) = within(session(probed, MARK)).await?;
    let mut holders = Vec::with_capacity(HOLDERS);
    for _ in 0..HOLDERS {
        let mut holder = within(PgConnection::connect_with(options)).await?;
        let held = timeout(STEP_TIMEOUT, async {
            raw_sql("BEGIN").execute(&mut holder).await?;
            session(&mut holder, MARKED).await
        });
        let other = match held.await {
            Ok(Ok((other, _))) => other,
            // In statement mode a pooler refuses transactions.
            Ok(Err(error)) if code(&error) == "08P01" => return Ok(Probed::Shared),
            Ok(Err(error)) => return Err(lasting(error)),
            Err(_) => return Ok(Probed::Waits),
        };
        holders.push(holder);
        match timeout(STEP_TIMEOUT, session(probed, MARKED)).await {
            Ok(Ok((now, mark))) => {
                if other == process || now != process || mark != process.to_string() {
                    return Ok(Probed::Shared);
                }
            }
            Ok(Err(error)) => return Err(lasting(error)),
            Err(_) => return Ok(Probed::Waits),
        }
    }
    for holder in holders {
        let _ = timeout(STEP_TIMEOUT, holder.close()).await;
    }
    Ok(Probed::Own)
}

/// The server process of a statement, and the mark of its session.
async fn session(
    connection: &mut PgConnection,
    statement: &'static str,
) -> Result<(i32, String), sqlx::Error> {
    // By the simple protocol, which needs no prepared statement.
    let row = raw_sql(statement).fetch_one(connection).await?;
    Ok((row.try_get("process")?, row.try_get("mark")?))
}

async fn missing(connection: &mut PgConnection, options: &PgConnectOptions) -> String {
    let (names, values) = settings(options.get_options().unwrap_or_default());
    // In one statement, whose name nobody has used: only to say more.
    let differing = sqlx::query_scalar::<_, String>(DIFFERING).persistent(false);
    let differing = differing.bind(names).bind(values).fetch_all(connection);
    match timeout(STEP_TIMEOUT, differing).await {
        Ok(Ok(names)) if !names.is_empty() => {
            format!("{SESSION_FEATURES}; and startup options ({})", names.join(", "))
        }
        _ => SESSION_FEATURES.to_owned(),
    }
}

async fn within<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match timeout(STEP_TIMEOUT, step).await {
        Ok(result) => result.map_err(lasting),
        Err(_) => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
    }
}

/// The SQLSTATE of an error; empty where it has none.
fn code(error: &sqlx::Error) -> String {
    let database = error.as_database_error();
    database.and_then(|error| error.code()).unwrap_or_default().into_owned()
}

/// At the start some errors that else pass say that it will never work.
pub(crate) fn lasting(error: sqlx::Error) -> StoreError {
    match code(&error).as_str() {
        // A session that we opened has prepared statements of others, or has lost ours.
        "42P05" | "26000" => StoreError::SharedSessions { missing: SESSION_FEATURES.to_owned() },
        "08P01" if error.to_string().contains("startup parameter") => {
            StoreError::StartupRefused(error)
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_given() {
        let options = PgConnectOptions::new_without_pgpass().options([
            ("jit", "off"),
            ("search_path", "a b\\c"),
            ("lock_timeout", "5ms"),
        ]);
        let (names, values) = settings(options.get_options().unwrap());
        assert_eq!(names, ["jit", "search_path", "lock_timeout"]);
        assert_eq!(values, ["off", "a b\\c", "5ms"]);
        assert_eq!(settings("-cjit=on --enable-sort=off").0, ["jit", "enable_sort"]);
        assert!(settings("").0.is_empty());
    }
}
