//! Sends parts, with attempts until the links expire.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use reqwest::Client;
use url::Url;
use uuid::Uuid;

use super::attempt::{self, Failure, Source, Stall, Tally};
use super::error::UploadError;
use super::journal::Begun;

use crate::clock::Clock;
use crate::http_client::{self, cause, is_local};
use crate::panel::{Panel, Part};
use crate::rate::Rate;
use crate::retry::{self, Jitter};
use crate::tasks::Blocking;

/// Links are requested at most so often for one archive. Links live an hour, and the panel gives a backup up after six.
pub(super) const MAX_ROUNDS: u32 = 6;
/// Links that the store rejects with 403 at this age have never been good, unless they are the first ones. Older ones count as expired.
const MIN_AGE: Duration = Duration::from_secs(60);
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// How long an upload waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// For the store to take more bytes.
    pub stall: Duration,
    /// For the answer after the last byte.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(30), stall: seconds(60), answer: seconds(300) }
    }
}

/// Uploads of this node. They share a limit of bytes per second.
#[derive(Debug)]
pub struct Uploads {
    pub(super) clock: Clock,
    pub(super) blocking: Blocking,
    rate: Arc<Rate>,
    limits: Limits,
    ignore_certificate_errors: bool,
    jitter: Jitter,
    // Built at their first use, which loads the trusted certificates.
    local: OnceLock<Client>,
    remote: OnceLock<Client>,
}

/// Why parts were not sent.
#[derive(Debug)]
pub(super) enum PartError {
    /// The links have expired; the last error before.
    Expired(String),
    /// Final.
    Failed(UploadError),
}

impl From<UploadError> for PartError {
    fn from(error: UploadError) -> Self {
        Self::Failed(error)
    }
}

impl Uploads {
    /// Uploads that share this rate. As for the panel, `ignore_certificate_errors` is for tests.
    pub fn new(clock: Clock, blocking: Blocking, rate: Arc<Rate>, ignore_certificate_errors: bool) -> Self {
        Self {
            clock,
            blocking,
            rate,
            limits: Limits::default(),
            ignore_certificate_errors,
            jitter: Jitter::random(),
            local: OnceLock::new(),
            remote: OnceLock::new(),
        }
    }

    /// The same with other limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Requests links, which begins a multipart upload.
    pub(super) async fn links(
        &self,
        panel: &dyn Panel,
        backup: Uuid,
        size: u64,
        round: u32,
    ) -> Result<Begun, UploadError> {
        let fetched = self.clock.now();
        let links = panel.backup_upload(backup, size).await.map_err(UploadError::Links)?;
        Ok(Begun::new(size, round, fetched, links))
    }

    /// Sends a part until the store has it, its link has expired, or the answer is final.
    pub(super) async fn part(
        &self,
        begun: &Begun,
        number: u32,
        source: &Source,
        tally: &Arc<Tally>,
    ) -> Result<Part, PartError> {
        let link = begun.links.parts.get(number as usize - 1).ok_or(UploadError::TooLong { bytes: begun.size })?;
        let url = web_address(link).map_err(|reason| UploadError::Link { part: number, reason })?;
        let client = self.client(&url)?;
        let stall = Stall { body: self.limits.stall, answer: self.limits.answer };
        let (mut failures, mut last) = (0, "the links were too old".to_owned());
        loop {
            if self.clock.now() >= begun.expires {
                return Err(PartError::Expired(last));
            }
            match attempt::put(client, &url, source, &self.rate, self.blocking, tally, stall).await {
                Ok(etag) => return Ok(Part { etag, part_number: number }),
                Err(Failure::Transient(reason)) => last = reason,
                Err(Failure::Forbidden(reason)) if self.may_be_expired(begun) => {
                    return Err(PartError::Expired(format!("{}: {reason}", StatusCode::FORBIDDEN)));
                }
                Err(failure) => return Err(PartError::Failed(rejection(number, failure))),
            }
            failures += 1;
            let left = begun.expires.since(self.clock.now());
            let delay = retry::delay(retry::STORE, failures, &self.jitter).min(left);
            tracing::debug!(part = number, attempt = failures, error = %last, ?delay, "part was not sent");
            tokio::time::sleep(delay).await;
        }
    }

    /// Whether a 403 can mean that links have expired. So it is where the clock was set back since they were requested. The first
    /// links are believed to have expired at any age: the store's clock may be ahead of the panel's, and how long they live may not be in them.
    fn may_be_expired(&self, begun: &Begun) -> bool {
        let now = self.clock.now();
        let is_old = now >= begun.expires || now < begun.fetched || now.since(begun.fetched) >= MIN_AGE;
        is_old || begun.round == 1
    }

    fn client(&self, url: &Url) -> Result<&Client, UploadError> {
        let local = is_local(url);
        let slot = if local { &self.local } else { &self.remote };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        // One connection for each part under way. A redirect would be answered as final: the signature is for one host.
        let builder = http_client::builder()
            .connect_timeout(self.limits.connect)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tls_danger_accept_invalid_certs(self.ignore_certificate_errors);
        // As in Go: a store on this host is never behind a proxy.
        let builder = if local { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| UploadError::Client(cause(&error)))?;
        Ok(slot.get_or_init(|| client))
    }
}

fn rejection(part: u32, failure: Failure) -> UploadError {
    match failure {
        Failure::Rejected(status, reason) => UploadError::Rejected { part, status, reason },
        Failure::Forbidden(reason) | Failure::Transient(reason) => {
            UploadError::Rejected { part, status: StatusCode::FORBIDDEN, reason }
        }
        Failure::NoEtag => UploadError::NoEtag { part },
        Failure::Unreadable(source) => UploadError::File { action: "read the archive".into(), source },
    }
}

fn web_address(link: &str) -> Result<Url, String> {
    let url = Url::parse(link).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("it is of {other} and not of http or https")),
    }
}
