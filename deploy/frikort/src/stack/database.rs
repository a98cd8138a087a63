//! The stack's database: a private cluster, or the server that DATABASE_URL names.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{Connection, PgConnection};

use super::{Place, cluster_dir, own_server, restarts::Restarts};
use crate::{
    output,
    postgres::{Cluster, OWNER, Options},
};

/// The name of the database in the private cluster.
const NAME: &str = "frikort";

/// How often it is looked after.
const CHECK: Duration = Duration::from_millis(250);

pub(super) enum Database {
    Private(Cluster),
    Named(String),
}

impl Database {
    /// Starts the private cluster and makes the database in it, unless a server is named.
    pub(super) async fn start(place: &Place) -> anyhow::Result<Self> {
        if let Some(url) = own_server() {
            return Ok(Self::Named(url));
        }
        let dir = cluster_dir(place.dir());
        let start = move || Cluster::start(&dir, &Options::default());
        let cluster = tokio::task::spawn_blocking(start).await??;
        create(&cluster).await.context("cannot create the database")?;
        Ok(Self::Private(cluster))
    }

    /// The database's URL as the user who brings it up to date: of a named server, the one named.
    pub(super) fn url_to_migrate(&self) -> String {
        match self {
            Self::Private(cluster) => cluster.url(OWNER, NAME),
            Self::Named(url) => url.clone(),
        }
    }

    /// The database's URL as one of the roles of the services, which run as no other.
    pub(super) fn url_as(&self, role: &str) -> String {
        match self {
            Self::Private(cluster) => cluster.url(role, NAME),
            Self::Named(url) => with_user(url, role),
        }
    }

    /// Starts a private cluster again whenever it ends, until that has to be given up; answers
    /// why. A named server is its owner's to look after.
    pub(super) async fn watch(&mut self, place: &Place) -> anyhow::Error {
        loop {
            tokio::time::sleep(CHECK).await;
            let Self::Private(cluster) = self else { continue };
            let looked_at = cluster.clone();
            match tokio::task::spawn_blocking(move || looked_at.is_ready()).await {
                Ok(true) => continue,
                Ok(false) => output::note("the database ended; starting it again"),
                Err(error) => return error.into(),
            }
            match Self::start_again(place).await {
                Ok(database) => *self = database,
                Err(error) => return error.context("cannot start the database again"),
            }
        }
    }

    /// One start may fail because whatever ended the database ends it once more meanwhile.
    async fn start_again(place: &Place) -> anyhow::Result<Self> {
        let mut restarts = Restarts::default();
        loop {
            let error = match Self::start(place).await {
                Ok(database) => return Ok(database),
                Err(error) => error,
            };
            let Some(delay) = restarts.after_death(Duration::ZERO) else { return Err(error) };
            tokio::time::sleep(delay).await;
        }
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Self::Private(cluster) = self else { return Ok(()) };
        tokio::task::spawn_blocking(move || cluster.stop()).await?
    }
}

/// The same URL with another user; a password in it stays.
fn with_user(url: &str, user: &str) -> String {
    // A parameter counts more than what stands before the host.
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}user={user}")
}

async fn create(cluster: &Cluster) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&cluster.url(OWNER, "postgres")).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(NAME)
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        // The name cannot be a parameter here; the assertion keeps the two in step.
        ensure!(NAME == "frikort", "the statement below names another database");
        sqlx::query("CREATE DATABASE frikort OWNER frikort_owner").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::with_user;

    #[test]
    fn a_role_takes_the_place_of_the_user_in_a_url() {
        for url in [
            "postgresql://owner:secret@db/frikort",
            "postgresql://owner@db/frikort?sslmode=disable",
            "postgresql:///frikort?host=/run/postgresql&user=owner",
        ] {
            let options: PgConnectOptions =
                with_user(url, "frikort_ledger").parse().expect("a URL");
            assert_eq!(options.get_username(), "frikort_ledger", "{url}");
            assert_eq!(options.get_database(), Some("frikort"), "{url}");
        }
    }
}
