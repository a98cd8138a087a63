//! The static files of a log by plain HTTP GET (c2sp.org/tlog-tiles), one after the other on one
//! connection. What must stay out: what is in the files.

use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataMap;

use crate::{
    client::{QUERY_PATIENCE, Service},
    profile::Credentials,
};

/// How long one file may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a text that are read at most.
const MOST_TEXT: usize = 64 * 1024;

/// A log's files.
pub(super) struct Published {
    /// As it was named.
    pub(super) url: String,
    uri: Uri,
    credentials: Credentials,
    connection: Option<http1::SendRequest<Empty<Bytes>>>,
}

impl Published {
    /// The files below a URL; connects when first asked.
    pub(super) fn new(url: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let (Some("http" | "https"), Some(_)) = (uri.scheme_str(), uri.authority()) else {
            bail!("{url}: give a URL as https://HOST:PORT/log/partition/0");
        };
        Ok(Self { url: url.to_owned(), uri, credentials: credentials.clone(), connection: None })
    }

    /// The log of a partition, from the ledger itself.
    pub(super) fn of_partition(ledger: &Service, partition: i32) -> anyhow::Result<Self> {
        let url = ledger.credentials.url(ledger.address.trim_end_matches('/'))?;
        Self::new(&format!("{url}/log/partition/{partition}"), &ledger.credentials)
    }

    /// A file of at most so many bytes; `None` where there is none. Repeated while the connection
    /// fails, for a few seconds.
    pub(super) async fn get(&mut self, name: &str, most: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + QUERY_PATIENCE;
        loop {
            let got = timeout(TIMEOUT, self.attempt(name, most)).await;
            let failed = match got.unwrap_or_else(|_| bail!("no answer in time")) {
                Ok((StatusCode::OK, file)) => return Ok(Some(file)),
                Ok((StatusCode::NOT_FOUND, _)) => return Ok(None),
                Ok((status, text)) => {
                    let text = String::from_utf8_lossy(&text);
                    bail!("{}/{name}: {status}: {}", self.url, text.trim_end());
                }
                Err(failed) => failed,
            };
            self.connection = None;
            if Instant::now() + PAUSE > deadline {
                return Err(failed).with_context(|| format!("{}/{name}", self.url));
            }
            sleep(PAUSE).await;
        }
    }

    /// A text file.
    pub(super) async fn text(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.get(name, MOST_TEXT).await? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        text.map(Some).with_context(|| format!("{}/{name} is no text", self.url))
    }

    async fn attempt(&mut self, name: &str, most: usize) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        if self.connection.as_ref().is_none_or(http1::SendRequest::is_closed) {
            let stream = self.credentials.connect(&self.uri).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the sender; what goes wrong is told there.
            tokio::spawn(connection);
            self.connection = Some(sender);
        }
        let connection = self.connection.as_mut().context("no connection")?;
        let path = self.uri.path().trim_end_matches('/');
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(format!("{path}/{name}")).header(HOST, host);
        if let Some(headers) = request.headers_mut() {
            let mut said = MetadataMap::new();
            self.credentials.said.say(&mut said)?;
            headers.extend(said.into_headers());
        }
        let request = request.body(Empty::new())?;
        connection.ready().await?;
        let answer = connection.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok((status, body.to_bytes().to_vec()))
    }
}
