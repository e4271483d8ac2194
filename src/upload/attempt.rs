//! One attempt to send one part: each reads its body from the file again, and limited by its progress.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use reqwest::{Body, Client, Response};
use tokio::time::Instant;
use url::Url;

use crate::http_client::cause;
use crate::progress::Progress;
use crate::rate::Rate;
use crate::tasks::Blocking;

/// Bytes that are read and handed to the connection at once.
const BLOCK: u64 = 256 << 10;
/// Longest error page that is read, in bytes.
const MAX_PAGE: usize = 16 << 10;
/// How long an error page is waited for.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest ETag. S3 has 32 digits, quotes, and the number of parts.
const MAX_ETAG: usize = 1024;
/// Codes of 400 that another attempt may not get. Source: error responses of S3.
const TRANSIENT: [&str; 2] = ["RequestTimeout", "IncompleteBody"];
/// Codes of 403 that no other links of the same panel avoid.
const WRONG_KEY: [&str; 2] = ["SignatureDoesNotMatch", "InvalidAccessKeyId"];

/// The bytes of one part.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Why a part was not sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// 403: the link has expired, or was never good.
    Forbidden(String),
    /// Another answer, which is final.
    Rejected(StatusCode, String),
    /// 200 without an ETag.
    NoEtag,
    /// The file cannot be read.
    Unreadable(io::Error),
}

/// How long an attempt may stand still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stall {
    /// While the body is sent.
    pub(super) body: Duration,
    /// Between the end of the body and the answer.
    pub(super) answer: Duration,
}

/// Counts the bytes of attempts for the progress, which only grows: bytes that are sent again do not count again.
#[derive(Debug)]
pub(super) struct Tally {
    progress: Progress,
    /// Bytes sent that still count, and the most that there were.
    sent: Mutex<(u64, u64)>,
}

impl Tally {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, sent: Mutex::default() }
    }

    pub(super) fn add(&self, bytes: u64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.0 += bytes;
        if sent.0 > sent.1 {
            self.progress.add(sent.0 - sent.1);
            sent.1 = sent.0;
        }
    }

    pub(super) fn take_back(&self, bytes: u64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.0 = sent.0.saturating_sub(bytes);
    }

    /// All parts are sent again.
    pub(super) fn restart(&self) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).0 = 0;
    }
}

/// Where a body is. The connection's task writes it, the attempt watches it.
#[derive(Debug)]
struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    sent: u64,
    /// When the connection last took bytes.
    at: Instant,
    /// The next bytes are waited for, from the disk or by the limit of the rate: the store is not to blame.
    waiting: bool,
    /// The file could not be read.
    error: Option<io::Error>,
    /// The attempt is over. Its connection may ask for bytes until it is closed.
    ended: bool,
}

/// Ends an attempt when it is dropped. Its bytes do not count unless it succeeded.
struct Ending<'a> {
    activity: &'a Activity,
    tally: &'a Tally,
    succeeded: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        state.ended = true;
        if !self.succeeded {
            self.tally.take_back(state.sent);
        }
    }
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State { sent: 0, at: Instant::now(), waiting: false, error: None, ended: false }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when nothing has moved for too long.
    async fn stalled(&self, length: u64, stall: Stall) -> Failure {
        loop {
            let (at, limit) = {
                let state = self.lock();
                let limit = if state.sent < length { stall.body } else { stall.answer };
                (if state.waiting { Instant::now() } else { state.at }, limit)
            };
            if at.elapsed() >= limit {
                let sent = self.lock().sent;
                return Failure::Transient(format!("no progress for {limit:?} after {sent} of {length} bytes"));
            }
            tokio::time::sleep_until(at + limit).await;
        }
    }
}

/// Sends a part and returns its ETag.
pub(super) async fn put(
    client: &Client,
    url: &Url,
    source: &Source,
    rate: &Arc<Rate>,
    blocking: Blocking,
    tally: &Arc<Tally>,
    stall: Stall,
) -> Result<String, Failure> {
    let activity = Arc::new(Activity::new());
    let mut ending = Ending { activity: &activity, tally, succeeded: false };
    let request = client
        .put(url.clone())
        .header(CONTENT_TYPE, "application/x-gzip")
        .header(CONTENT_LENGTH, source.length)
        .body(body(source.clone(), rate.clone(), blocking, activity.clone(), tally.clone()));
    let sent = tokio::select! {
        sent = request.send() => sent.map_err(|error| Failure::Transient(cause(&error))),
        stalled = activity.stalled(source.length, stall) => Err(stalled),
    };
    let result = match sent {
        Ok(response) => {
            let sent = activity.lock().sent;
            conclude(response, sent, source.length).await
        }
        Err(failure) => Err(activity.lock().error.take().map_or(failure, Failure::Unreadable)),
    };
    ending.succeeded = result.is_ok();
    result
}

fn body(source: Source, rate: Arc<Rate>, blocking: Blocking, activity: Arc<Activity>, tally: Arc<Tally>) -> Body {
    let blocks = stream::try_unfold(0, move |sent| {
        let (source, rate, activity, tally) = (source.clone(), rate.clone(), activity.clone(), tally.clone());
        async move {
            let length = BLOCK.min(source.length - sent);
            if length == 0 {
                return Ok(None);
            }
            {
                let mut state = activity.lock();
                (state.at, state.waiting) = (Instant::now(), true);
            }
            rate.take(length).await;
            let block = blocking.run(move || read(&source, sent, length)).await;
            let mut state = activity.lock();
            (state.at, state.waiting) = (Instant::now(), false);
            match block {
                _ if state.ended => Err(io::Error::other("the attempt has ended")),
                Ok(block) => {
                    state.sent += length;
                    tally.add(length);
                    Ok(Some((block, sent + length)))
                }
                Err(error) => {
                    state.error = Some(error);
                    Err(io::Error::other("the archive cannot be read"))
                }
            }
        }
    });
    Body::wrap_stream(blocks)
}

fn read(source: &Source, from: u64, length: u64) -> io::Result<Bytes> {
    let mut block = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    source.file.read_exact_at(&mut block, source.offset + from)?;
    Ok(block.into())
}

async fn conclude(response: Response, sent: u64, length: u64) -> Result<String, Failure> {
    let status = response.status();
    if status == StatusCode::OK {
        if sent < length {
            return Err(Failure::Transient(format!("it answered 200 after {sent} of {length} bytes")));
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::trim);
        let etag = etag.filter(|etag| !etag.is_empty() && etag.len() <= MAX_ETAG);
        return etag.map(str::to_owned).ok_or(Failure::NoEtag);
    }
    let code = code(response).await;
    let reason = code.clone().unwrap_or_else(|| "no reason".into());
    let has_code = |known: &[&str]| code.as_deref().is_some_and(|code| known.contains(&code));
    Err(match status {
        StatusCode::FORBIDDEN if !has_code(&WRONG_KEY) => Failure::Forbidden(reason),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Failure::Transient(format!("{status}: {reason}"))
        }
        _ if status.is_server_error() => Failure::Transient(format!("{status}: {reason}")),
        StatusCode::BAD_REQUEST if has_code(&TRANSIENT) => Failure::Transient(format!("{status}: {reason}")),
        _ => Failure::Rejected(status, reason),
    })
}

/// The code in an error page of S3: `<Error><Code>AccessDenied</Code>…`.
async fn code(mut response: Response) -> Option<String> {
    let mut page = Vec::new();
    let read = async {
        while page.len() < MAX_PAGE
            && let Ok(Some(chunk)) = response.chunk().await
        {
            page.extend_from_slice(&chunk);
        }
    };
    // The page only explains the status.
    let _ = tokio::time::timeout(PAGE_TIMEOUT, read).await;
    let page = String::from_utf8_lossy(&page);
    let code = page.split_once("<Code>")?.1.split_once("</Code>")?.0;
    (code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')).then(|| code.to_owned())
}
