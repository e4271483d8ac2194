//! A transfer in rounds over HTTP: what both sides say, and the source's side of it. Below the destination's address for transfers:
//!
//! ```text
//! POST   /session                             with the panel's token: the source's own secret, which admits it from then on
//! GET    /session/{server}                    how far it is
//! POST   /session/{server}/{part}/manifest    what is wanted; answered by the list of missing blocks, and with PAGES by hashes of pages
//! POST   /session/{server}/{part}/blocks      frames; answered when they are on disk
//! POST   /session/{server}/{part}/finish      the root hash; answered when everything was verified and is in its place
//! DELETE /session/{server}                    cancels the transfer
//! ```
//!
//! A destination that does not know the first one answers 404 or 405, and 401 or 403 where it asks for the node's token first, as Wings
//! does for paths that it does not know. Answers of this daemon have [`SESSIONS`], so its own 403 is a refusal.

use std::time::Duration;

use futures_util::StreamExt;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Body, Client, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::pipe::{PipeReceiver, PipeSender};
use super::send::{POOL, SendError, Target, Transfers, Watched, activity, detail};
use crate::http_client::cause;
use crate::model::{Authorization, ServerId};

/// Marks answers of a daemon that has sessions.
pub const SESSIONS: &str = "alula-transfer-sessions";
/// Marks a manifest whose source can use the hashes of pages. Without it, or from a destination that does not know it, there are none,
/// and blocks travel whole.
pub const PAGES: &str = "alula-transfer-pages";
/// The name of the install log among the extras.
pub const INSTALL_LOG: &str = "install.log";
/// What the names of backups end with there.
const EXTENSION: &[u8] = b".tar.gz";
/// How long the destination may take no bytes, and give none.
const STALL: Duration = Duration::from_secs(60);
/// How long a short question may take.
const SHORT: Duration = Duration::from_secs(30);

/// One of the two trees that go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum TransferPart {
    /// The server's files.
    Files,
    /// Its backups, and the log of its latest installation.
    Extras,
}

/// The backup whose archive has this path among the extras.
pub fn backup_of(path: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(path.strip_suffix(EXTENSION)?).ok()?;
    Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text)
}

/// The body that opens a session.
#[derive(Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SessionRequest {
    pub server: ServerId,
    pub secret: String,
}

/// The body that ends a part.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verification {
    /// The root hash, in hexadecimal digits.
    pub root: String,
}

/// How far a destination is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionState {
    /// Whether it goes on.
    pub phase: SessionPhase,
    /// Whether it has the extras for good.
    pub extras: bool,
    /// For people.
    pub message: String,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionPhase {
    /// It waits for what is missing.
    Receiving,
    /// The destination has the server.
    Completed,
    /// It has removed what it had.
    Failed,
}

/// A session as its source sees it.
pub struct Session {
    client: Client,
    server: ServerId,
    /// Where sessions are opened.
    url: Url,
    host: String,
    secret: Authorization,
}

impl Transfers {
    /// The session of a server at a destination, opened or not.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub fn session(&self, to: &Target, server: ServerId, secret: &Authorization) -> Result<Session, SendError> {
        let mut url = to.url.clone();
        url.set_path(&format!("{}/session", url.path().trim_end_matches('/')));
        let client = self.client(&url)?.clone();
        Ok(Session { client, server, url, host: to.host(), secret: secret.clone() })
    }
}

impl Session {
    /// Asks for the session with the panel's token. `false`: the destination has none to offer. Asked again, it changes nothing.
    /// Source: HTTP API, "Authentication classes".
    ///
    /// # Errors
    /// The connection, or another answer.
    pub async fn open(&self, to: &Target) -> Result<bool, SendError> {
        let body = SessionRequest { server: self.server, secret: self.secret.expose().to_owned() };
        let mut request = self.client.post(self.url.clone()).json(&body).timeout(SHORT);
        request = request.header(AUTHORIZATION, header(&to.authorization)?);
        if let Some(pool) = &to.pool {
            request = request.header(POOL, pool);
        }
        let answer = request.send().await.map_err(|error| self.connection(&error))?;
        let knows_sessions = answer.headers().contains_key(SESSIONS);
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !knows_sessions => Ok(false),
            _ => self.checked(Ok(answer)).await.map(|_| true),
        }
    }

    /// Asks how far the destination is.
    ///
    /// # Errors
    /// The connection, or another answer.
    pub async fn state(&self) -> Result<SessionState, SendError> {
        let answer = self.request(Method::GET, "")?.timeout(SHORT).send().await;
        self.checked(answer).await?.json().await.map_err(|error| self.connection(&error))
    }

    /// Sends a manifest. The list of missing blocks, and the hashes of pages behind it, go into `missing`.
    ///
    /// # Errors
    /// The connection, or another answer.
    pub async fn manifest(&self, part: TransferPart, body: PipeReceiver, missing: PipeSender) -> Result<(), SendError> {
        let request = self.request(Method::POST, &format!("/{part}/manifest"))?.header(PAGES, "1");
        let answer = self.send(request, body).await?;
        let mut pieces = answer.bytes_stream();
        loop {
            let piece = tokio::time::timeout(STALL, pieces.next()).await.map_err(|_| self.stalled("given any data"))?;
            let Some(piece) = piece else { break };
            if missing.send(piece.map_err(|error| self.connection(&error))?).await.is_err() {
                // Its reader has an error of its own.
                return Ok(());
            }
        }
        // As above.
        let _ended = missing.finish().await;
        Ok(())
    }

    /// Sends blocks. They are on the destination's disk afterwards.
    ///
    /// # Errors
    /// The connection, or another answer.
    pub async fn blocks(&self, part: TransferPart, body: PipeReceiver) -> Result<(), SendError> {
        self.send(self.request(Method::POST, &format!("/{part}/blocks"))?, body).await.map(drop)
    }

    /// Ends a part. The destination has verified all of it afterwards, and with the files it has the server.
    ///
    /// # Errors
    /// The connection, or another answer.
    pub async fn finish(&self, part: TransferPart, root: &[u8]) -> Result<(), SendError> {
        let root = root.iter().map(|byte| format!("{byte:02x}")).collect();
        let request = self.request(Method::POST, &format!("/{part}/finish"))?.json(&Verification { root });
        let activity = activity();
        activity.ended();
        let answer = tokio::select! {
            answer = request.send() => answer,
            stalled = activity.stalled(&self.host, STALL) => return Err(stalled),
        };
        self.checked(answer).await.map(drop)
    }

    /// Cancels the transfer at the destination.
    ///
    /// # Errors
    /// The connection, or another answer.
    pub async fn cancel(&self) -> Result<(), SendError> {
        let answer = self.request(Method::DELETE, "")?.timeout(SHORT).send().await;
        self.checked(answer).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, SendError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{}{path}", url.path(), self.server));
        let secret = Authorization::new(format!("Bearer {}", self.secret.expose()));
        Ok(self.client.request(method, url).header(AUTHORIZATION, header(&secret)?))
    }

    async fn send(&self, request: RequestBuilder, body: PipeReceiver) -> Result<Response, SendError> {
        let activity = activity();
        let body = Body::wrap_stream(Watched { form: body.into_stream(), activity: activity.clone() });
        let answer = tokio::select! {
            answer = request.body(body).send() => answer,
            stalled = activity.stalled(&self.host, STALL) => return Err(stalled),
        };
        self.checked(answer).await
    }

    async fn checked(&self, answer: reqwest::Result<Response>) -> Result<Response, SendError> {
        let answer = answer.map_err(|error| self.connection(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => Err(SendError::Rejected { host: self.host.clone(), status, detail: detail(answer).await }),
        }
    }

    fn connection(&self, error: &reqwest::Error) -> SendError {
        SendError::Connection { host: self.host.clone(), cause: cause(error) }
    }

    fn stalled(&self, what: &'static str) -> SendError {
        SendError::Stalled { host: self.host.clone(), what, after: STALL }
    }
}

fn header(value: &Authorization) -> Result<HeaderValue, SendError> {
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| SendError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}
