//! The stack's database: a private cluster, or the server that DATABASE_URL names.

use anyhow::{Context, ensure};
use sqlx::{Connection, PgConnection};

use super::{Place, cluster_dir, own_server};
use crate::postgres::{Cluster, OWNER, Options};

/// The name of the database in the private cluster.
const NAME: &str = "frikort";

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

    /// The database's URL as one of our users; a named server is used as it is.
    pub(super) fn url(&self, user: &str) -> String {
        match self {
            Self::Private(cluster) => cluster.url(user, NAME),
            Self::Named(url) => url.clone(),
        }
    }

    /// Whether it runs, as far as that is our business.
    pub(super) async fn is_ready(&self) -> bool {
        let Self::Private(cluster) = self else { return true };
        let cluster = cluster.clone();
        tokio::task::spawn_blocking(move || cluster.is_ready()).await.unwrap_or(true)
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Self::Private(cluster) = self else { return Ok(()) };
        tokio::task::spawn_blocking(move || cluster.stop()).await?
    }
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
