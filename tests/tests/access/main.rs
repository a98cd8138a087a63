//! Who may do what, against real services with TLS: certificates, tokens, roles, scopes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod command;
mod connections;
mod ends;
mod forgetting;
mod forgotten;
mod log;
mod revoked;
mod roles;
mod rotation;
mod scopes;
mod shares;
mod sight;
mod tokens;
mod unclaimed;

use std::path::Path;

use frikort_tests::{
    client::Ledger,
    database::Database,
    pki::{self, Authority, CALLERS, Pair},
    process::{self, Kind, Service},
};
use tempfile::TempDir;
use tonic::{Request, transport::Channel};

/// A request that says what it is for.
fn purpose<T>(mut request: Request<T>, purpose: &'static str) -> Request<T> {
    request.metadata_mut().insert(frikort_access::PURPOSE, purpose.parse().unwrap());
    request
}

/// One ledger and one projector with TLS.
struct Secured {
    ledger: Service,
    projector: Service,
    database: Database,
    authority: Authority,
    dir: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Secured {
    async fn start() -> Self {
        Self::start_with(CALLERS, |_| Vec::new()).await
    }

    /// The same with other callers, and more settings, which may be about files in a directory.
    async fn start_with(
        callers: &str,
        more: impl FnOnce(&Path) -> Vec<(&'static str, String)>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        let mut settings = authority.write(dir.path(), callers).unwrap();
        settings.extend(more(dir.path()));
        let database = Database::create(1).await.unwrap();
        let start = |kind| Service::start_with(kind, &database, dir.path(), settings.clone());
        let (ledger, projector) =
            (start(Kind::Ledger).await.unwrap(), start(Kind::Projector).await.unwrap());
        Self { ledger, projector, database, authority, dir, settings }
    }

    /// Starts another projector in the place of one that has ended.
    async fn start_projector(&mut self) {
        let (settings, dir) = (self.settings.clone(), self.dir.path());
        let started = Service::start_with(Kind::Projector, &self.database, dir, settings);
        self.projector = started.await.unwrap();
    }

    /// Waits until all look-ups that were noted are in the access log.
    async fn until_noted(&self) {
        process::until_noted(self.dir.path()).await.unwrap();
    }

    /// A connection that shows this certificate.
    async fn connect(
        &self,
        service: &Service,
        shown: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        pki::connect(&self.authority.pem(), service.address(), shown).await
    }

    /// Clients of the ledger in the name of somebody.
    async fn as_caller(&self, name: &str) -> Ledger {
        let shown = self.authority.sign(&format!("{name}.test")).unwrap();
        Ledger::new(self.connect(&self.ledger, Some(&shown)).await.unwrap())
    }

    /// Events on record.
    async fn events(&self) -> i64 {
        let pool = self.database.pool().await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM ledger.event").fetch_one(&pool).await.unwrap()
    }
}
