//! The usual ground of a test: a database, one ledger, one projector, and what can be counted.

use frikort_proto::v1::allowance_service_client::AllowanceServiceClient;
use sqlx::PgPool;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{
    client::{Ledger, allowances},
    database::Database,
    process::{Kind, Service},
};

/// One ledger and one projector on a database of their own.
#[derive(Debug)]
pub struct Stack {
    /// The ledger's process.
    pub ledger: Service,
    /// The projector's process.
    pub projector: Service,
    /// What they stand on.
    pub database: Database,
    /// Logs and keys; removed last.
    pub dir: TempDir,
}

/// What a refused call must leave as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Rows of the event table.
    pub events: i64,
    /// The heads' positions, added up.
    pub positions: i64,
    /// Rows of the register.
    pub persons: i64,
}

impl Stack {
    /// Starts both and waits until they serve.
    pub async fn start(partitions: i32) -> anyhow::Result<Self> {
        Self::start_with(partitions, Vec::new()).await
    }

    /// The same, with settings of both as their environment.
    pub async fn start_with(
        partitions: i32,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let database = Database::create(partitions).await?;
        let start = |kind| Service::start_with(kind, &database, dir.path(), settings.clone());
        let ledger = start(Kind::Ledger).await?;
        let projector = start(Kind::Projector).await?;
        Ok(Self { ledger, projector, database, dir })
    }

    /// Clients of the ledger.
    pub async fn ledger(&self) -> anyhow::Result<Ledger> {
        Ok(Ledger::new(self.ledger.channel().await?))
    }

    /// A client of the projector.
    pub async fn allowances(&self) -> anyhow::Result<AllowanceServiceClient<Channel>> {
        Ok(allowances(self.projector.channel().await?))
    }

    /// What stands in the tables.
    pub async fn recorded(&self) -> anyhow::Result<Recorded> {
        recorded(&self.database.pool().await?).await
    }
}

async fn recorded(owner: &PgPool) -> anyhow::Result<Recorded> {
    let (events, positions, persons) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM ledger.event),
                (SELECT sum(position)::bigint FROM ledger.partition_head),
                (SELECT count(*) FROM register.person)",
    )
    .fetch_one(owner)
    .await?;
    Ok(Recorded { events, positions, persons })
}
