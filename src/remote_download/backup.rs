//! Opens the archive of a backup by a link of the panel, for a restore.
//!
//! The link is checked as a user's would be: only hosts of the internet, and those that the node's file allows, are connected to, at each
//! redirect. The body is limited by its progress. A broken connection is resumed where the store can do that; otherwise the caller begins
//! again.
//!
//! Source: HTTP API, "Backups".

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode};
use url::{Host, Url};

use super::address::is_allowed;
use super::request::Refused;
use crate::config::AllowedHosts;
use crate::http_client::{self, cause};
use crate::retry::{self, Jitter};

const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the connection and the headers of an answer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest pause in a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Failed attempts to resume, one after the other.
const MAX_FAILURES: u32 = 8;
/// Resumed connections of one download.
const MAX_RESUMED: u32 = 1000;
const TYPES: [&str; 2] = ["application/x-gzip", "application/gzip"];

/// Why a backup cannot be read. The messages of what is rejected are those of Wings; none has the link, whose query is secret.
#[derive(Debug, thiserror::Error)]
pub enum BackupLinkError {
    /// No URL, or one without a host.
    #[error("The provided backup link is not a valid URL.")]
    Invalid,
    /// Neither http nor https.
    #[error("The provided backup link must use HTTP or HTTPS.")]
    Scheme,
    /// An address that is neither of the internet nor allowed.
    #[error("The provided backup link resolves to a blocked address.")]
    Blocked,
    /// Redirected more than ten times.
    #[error("The provided backup link redirects too many times.")]
    TooManyRedirects,
    /// Another status than 200.
    #[error("The provided backup link returned an invalid response status: {0}")]
    Status(StatusCode),
    /// Not the type of a gzip archive.
    #[error("The provided backup link has the content type {0:?}: expected application/x-gzip or application/gzip.")]
    ContentType(String),
    /// No answer.
    #[error("cannot download the backup: {0}")]
    Transport(String),
    /// The connection broke, and the rest cannot be read.
    #[error("the download of the backup broke off after {received} bytes: {reason}")]
    BrokenOff {
        /// Bytes that arrived.
        received: u64,
        /// What happened.
        reason: String,
    },
}

impl BackupLinkError {
    /// Whether the link is at fault, and not the network: the request is answered with 400.
    pub fn is_rejection(&self) -> bool {
        !matches!(self, Self::Transport(_) | Self::BrokenOff { .. })
    }
}

impl From<BackupLinkError> for std::io::Error {
    fn from(error: BackupLinkError) -> Self {
        Self::other(error)
    }
}

/// Opens archives of backups. Clones share the client.
#[derive(Debug, Clone)]
pub struct BackupDownloads {
    client: Client,
    rules: Arc<Rules>,
    stall: Duration,
    jitter: Arc<Jitter>,
}

/// Where a link may lead.
#[derive(Debug)]
struct Rules(AllowedHosts);

impl BackupDownloads {
    /// A client for the internet and these hosts.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(allowed: AllowedHosts) -> Result<Self, BackupLinkError> {
        let rules = Arc::new(Rules(allowed));
        // A proxy would resolve and connect where nothing is checked.
        let client = http_client::builder()
            .no_proxy()
            .dns_resolver(Arc::new(Checked(rules.clone())))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| BackupLinkError::Transport(cause(&error)))?;
        Ok(Self { client, rules, stall: STALL_TIMEOUT, jitter: Arc::new(Jitter::random()) })
    }

    /// Ends a body without bytes after this time.
    pub fn with_stall_timeout(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Checks a link without a request: its form, and an address in it.
    ///
    /// # Errors
    /// The link is rejected.
    pub fn check(&self, link: &str) -> Result<Url, BackupLinkError> {
        let url = Url::parse(link).map_err(|_| BackupLinkError::Invalid)?;
        self.rules.check(&url)?;
        // The parser takes the first part of a path for a host that is missing.
        match link.split_once("://") {
            Some((_, rest)) if rest.starts_with('/') => Err(BackupLinkError::Invalid),
            _ => Ok(url),
        }
    }

    /// Opens the archive behind a link.
    ///
    /// # Errors
    /// The link is rejected, or there was no answer.
    pub async fn open(&self, link: &str) -> Result<BackupStream, BackupLinkError> {
        let url = self.check(link)?;
        let response = self.request(&url, None).await?;
        if response.status() != StatusCode::OK {
            return Err(BackupLinkError::Status(response.status()));
        }
        let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = String::from_utf8_lossy(kind);
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
            return Err(BackupLinkError::ContentType(kind.chars().take(100).collect()));
        }
        // A weak ETag says nothing about single bytes.
        let etag = response.headers().get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\"")).cloned();
        let length = response.content_length();
        Ok(BackupStream { downloads: self.clone(), url, response, etag, length, received: 0, failures: 0, resumed: 0 })
    }

    /// Sends a request and follows redirects. With `from`, only for the bytes from there on of the same object.
    async fn request(&self, url: &Url, from: Option<(u64, &HeaderValue)>) -> Result<Response, BackupLinkError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.rules.check(&url)?;
            let mut request = self.client.get(url.clone());
            if let Some((offset, etag)) = from {
                request = request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, etag);
            }
            let response = tokio::time::timeout(HEADER_TIMEOUT, request.send()).await;
            let response = response
                .map_err(|_| BackupLinkError::Transport(format!("no answer within {HEADER_TIMEOUT:?}")))?
                .map_err(failed)?;
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => url = target(&url, &response)?,
                200 | 206 => return Ok(response),
                _ => return Err(BackupLinkError::Status(response.status())),
            }
        }
        Err(BackupLinkError::TooManyRedirects)
    }
}

impl Rules {
    /// Checks what needs no resolution.
    fn check(&self, url: &Url) -> Result<(), BackupLinkError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BackupLinkError::Scheme);
        }
        let address = match url.host() {
            Some(Host::Domain("")) | None => return Err(BackupLinkError::Invalid),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
        };
        if self.allows(address) { Ok(()) } else { Err(BackupLinkError::Blocked) }
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_allowed(address) || self.0.has_address(address)
    }
}

fn target(from: &Url, response: &Response) -> Result<Url, BackupLinkError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or(BackupLinkError::Status(response.status()))?;
    from.join(location).map_err(|_| BackupLinkError::Invalid)
}

/// Resolves names whose addresses are all allowed. What is returned is connected to, so there is no second resolution to trick.
struct Checked(Arc<Rules>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match rules.0.has_name(&name) || found.iter().all(|address| rules.allows(address.ip())) {
                true => Ok(Box::new(found.into_iter()) as Addrs),
                false => Err(Box::new(Refused(name)) as Box<dyn std::error::Error + Send + Sync>),
            }
        })
    }
}

fn failed(error: reqwest::Error) -> BackupLinkError {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if cause.is::<Refused>() {
            return BackupLinkError::Blocked;
        }
        source = cause.source();
    }
    BackupLinkError::Transport(cause(&error))
}

/// The bytes of an archive.
#[derive(Debug)]
pub struct BackupStream {
    downloads: BackupDownloads,
    url: Url,
    response: Response,
    /// Identifies the object, so that the rest can be requested.
    etag: Option<HeaderValue>,
    length: Option<u64>,
    received: u64,
    /// Attempts since the last byte.
    failures: u32,
    resumed: u32,
}

impl BackupStream {
    /// Bytes of the archive, where the store has announced them.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Bytes that arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes; `None` at the end. A call that is dropped loses nothing but a resumption under way.
    ///
    /// # Errors
    /// The connection broke, and the rest cannot be requested.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BackupLinkError> {
        loop {
            let reason = match tokio::time::timeout(self.downloads.stall, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    self.received += chunk.len() as u64;
                    self.failures = 0;
                    return Ok(Some(chunk));
                }
                Ok(Ok(None)) if self.length.is_none_or(|length| length == self.received) => return Ok(None),
                Ok(Ok(None)) => "the connection ended".into(),
                Ok(Err(error)) => cause(&error),
                Err(_) => format!("no bytes for {:?}", self.downloads.stall),
            };
            self.resume(reason).await?;
        }
    }

    /// The bytes as a stream, for readers.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, BackupLinkError>> + Send {
        stream::try_unfold(self, |mut body| async move { Ok(body.chunk().await?.map(|chunk| (chunk, body))) })
    }

    /// Requests the rest.
    async fn resume(&mut self, mut reason: String) -> Result<(), BackupLinkError> {
        let received = self.received;
        let broken_off = |reason| BackupLinkError::BrokenOff { received, reason };
        let (Some(etag), Some(length)) = (self.etag.clone(), self.length) else { return Err(broken_off(reason)) };
        while self.failures < MAX_FAILURES && self.resumed < MAX_RESUMED {
            self.failures += 1;
            self.resumed += 1;
            tokio::time::sleep(retry::delay(retry::STORE, self.failures, &self.downloads.jitter)).await;
            match self.downloads.request(&self.url, Some((received, &etag))).await {
                Ok(response) if is_rest(&response, received, length) => {
                    tracing::debug!(received, length, error = %reason, "download of a backup was resumed");
                    self.response = response;
                    return Ok(());
                }
                Ok(response) => {
                    let status = response.status();
                    return Err(broken_off(format!("{reason}; the rest was answered with {status} and another range")));
                }
                Err(BackupLinkError::Transport(again)) => reason = again,
                Err(BackupLinkError::Status(status)) if status.is_server_error() => reason = status.to_string(),
                Err(error) => return Err(broken_off(format!("{reason}; {error}"))),
            }
        }
        Err(broken_off(reason))
    }
}

/// Whether an answer is the rest of the object from this byte on.
fn is_rest(response: &Response, from: u64, length: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let expected = format!("bytes {from}-{}/{length}", length.saturating_sub(1));
    response.status() == StatusCode::PARTIAL_CONTENT && range.trim() == expected
}

#[cfg(test)]
mod tests;
