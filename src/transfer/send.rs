//! Sends a form to the destination, which has the server when it answers 200.
//!
//! The connection may stand still for a while, and no longer: the destination stores what it gets, and prepares itself at the end.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use reqwest::{Body, Client, Response};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::pipe::{PipeReceiver, PipeStream};
use crate::http_client::{self, cause, is_local};
use crate::model::Authorization;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the destination may take no bytes.
const STALL: Duration = Duration::from_secs(300);
/// How long it may take to answer after the last byte: a destination with Wings pulls the server's image before.
const ANSWER: Duration = Duration::from_secs(3600);
/// How often the connection is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// After this time without bytes the kernel asks whether the other host is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Longest error page that is read, in bytes.
const MAX_PAGE: usize = 16 << 10;
/// How long an error page is waited for.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest text of an error page that is shown, in characters.
const SHOWN: usize = 300;
/// The header with the name of the shared storage.
pub const POOL: &str = "x-storage-pool";

/// Where a server goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The destination's address for transfers.
    pub url: Url,
    /// The value of the header `Authorization`.
    pub authorization: Authorization,
    /// The storage that this node shares with others.
    pub pool: Option<String>,
}

/// Why the destination does not have the server.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A value cannot be sent.
    #[error("the panel's token for the destination cannot be sent: it has characters that a header cannot have")]
    Header,
    /// The HTTP client.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// The connection.
    #[error("the connection to the destination {host} has failed: {cause}")]
    Connection {
        /// The destination.
        host: String,
        /// For people.
        cause: String,
    },
    /// The destination takes nothing, or does not answer.
    #[error("the destination {host} has not {what} for {} minutes", after.as_secs() / 60)]
    Stalled {
        /// The destination.
        host: String,
        /// What it has not done.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// Another answer than 200.
    #[error("the destination {host} has answered {status}{detail}")]
    Rejected {
        /// The destination.
        host: String,
        /// Its answer.
        status: StatusCode,
        /// What its page says.
        detail: String,
    },
}

impl SendError {
    /// Whether the same attempt cannot succeed later.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Stalled { .. } => false,
            Self::Header | Self::Client(_) => true,
            Self::Rejected { status, .. } => {
                let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS];
                !status.is_server_error() && !again.contains(status)
            }
        }
    }
}

/// Transfers of this node to others.
#[derive(Debug)]
pub struct Transfers {
    ignore_certificate_errors: bool,
    // Built at their first use, which loads the trusted certificates.
    local: OnceLock<Client>,
    remote: OnceLock<Client>,
}

impl Target {
    /// Reads the destination's address.
    ///
    /// # Errors
    /// It is none of http or https.
    pub fn url(text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        match url.scheme() {
            "http" | "https" if url.host().is_some() => Ok(url),
            other => Err(format!("it is of {other} and not of http or https")),
        }
    }

    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl Transfers {
    /// As for the panel, `ignore_certificate_errors` is for tests.
    pub fn new(ignore_certificate_errors: bool) -> Self {
        Self { ignore_certificate_errors, local: OnceLock::new(), remote: OnceLock::new() }
    }

    /// Sends a form of this type. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The destination does not have the server.
    pub async fn send(&self, to: &Target, content_type: &str, form: PipeReceiver) -> Result<(), SendError> {
        let mut authorization = HeaderValue::from_str(to.authorization.expose()).map_err(|_| SendError::Header)?;
        authorization.set_sensitive(true);
        let activity = activity();
        let body = Body::wrap_stream(Watched { form: form.into_stream(), activity: activity.clone() });
        let mut request = self.client(&to.url)?.post(to.url.clone()).header(AUTHORIZATION, authorization);
        request = request.header(CONTENT_TYPE, content_type).body(body);
        if let Some(pool) = &to.pool {
            request = request.header(POOL, pool);
        }
        let host = to.host();
        let answer = tokio::select! {
            answer = request.send() => answer,
            stalled = activity.stalled(&host, STALL) => return Err(stalled),
        };
        let connection = |error: reqwest::Error| SendError::Connection { host: to.host(), cause: cause(&error) };
        let answer = answer.map_err(connection)?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            status => Err(SendError::Rejected { host: to.host(), status, detail: detail(answer).await }),
        }
    }

    pub(super) fn client(&self, url: &Url) -> Result<&Client, SendError> {
        let local = is_local(url);
        let slot = if local { &self.local } else { &self.remote };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        // A redirect would carry the token to another host.
        let builder = http_client::builder()
            .connect_timeout(CONNECT)
            .tcp_keepalive(KEEPALIVE)
            .pool_max_idle_per_host(0)
            .tls_danger_accept_invalid_certs(self.ignore_certificate_errors);
        let builder = if local { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| SendError::Client(cause(&error)))?;
        Ok(slot.get_or_init(|| client))
    }
}

/// A form that notes when the connection takes bytes.
pub(super) struct Watched {
    pub(super) form: PipeStream,
    pub(super) activity: Arc<Activity>,
}

impl Stream for Watched {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.form.poll_next_unpin(cx);
        let mut state = self.activity.lock();
        state.at = Instant::now();
        (state.waiting, state.ended) = match &polled {
            Poll::Pending => (true, false),
            Poll::Ready(Some(_)) => (false, false),
            Poll::Ready(None) => (false, true),
        };
        drop(state);
        polled
    }
}

/// Where the body is.
pub(super) struct Activity(Mutex<State>);

/// A body of which nothing was asked yet.
pub(super) fn activity() -> Arc<Activity> {
    Arc::new(Activity(Mutex::new(State { at: Instant::now(), waiting: false, ended: false })))
}

struct State {
    /// When the connection last asked for bytes.
    at: Instant,
    /// It waits for this node.
    waiting: bool,
    /// It has all of them.
    ended: bool,
}

impl Activity {
    /// The connection has all bytes.
    pub(super) fn ended(&self) {
        self.lock().ended = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when nothing has moved for too long.
    pub(super) async fn stalled(&self, host: &str, stall: Duration) -> SendError {
        loop {
            tokio::time::sleep(WATCH).await;
            let state = self.lock();
            let (what, after) = if state.ended { ("answered", ANSWER) } else { ("taken any data", stall) };
            if !state.waiting && state.at.elapsed() >= after {
                return SendError::Stalled { host: host.to_owned(), what, after };
            }
        }
    }
}

/// What an error page says, after a colon.
pub(super) async fn detail(answer: Response) -> String {
    #[derive(Deserialize)]
    struct Page {
        error: String,
    }
    let read = async {
        let (mut page, mut pieces) = (Vec::new(), answer.bytes_stream());
        while let Some(Ok(piece)) = pieces.next().await {
            page.extend_from_slice(&piece);
            if page.len() >= MAX_PAGE {
                break;
            }
        }
        page
    };
    let page = tokio::time::timeout(PAGE_TIMEOUT, read).await.unwrap_or_default();
    let text = match serde_json::from_slice::<Page>(&page) {
        Ok(page) => page.error,
        Err(_) => String::from_utf8_lossy(&page).into_owned(),
    };
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}
