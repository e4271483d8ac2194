//! Servers that come in rounds: each request finds its session by the secret that its source has chosen.
//!
//! The record says what was agreed, and `reconcile::receptions` has the trees. A request that breaks off costs what was in it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::response::Response;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::reception::{fetch, not_begun};
use super::{admit, shares_storage};
use crate::api::files::{body_pieces, drained};
use crate::api::request::RequestBody;
use crate::api::response::json;
use crate::api::servers::transfer::request_cancellation;
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body};
use crate::files::denylist::Denylist;
use crate::model::{Incoming, IncomingSession, ServerId, Transfer};
use crate::reconcile::file_locks::FilesLock;
use crate::reconcile::job::Subject;
use crate::reconcile::receptions::{Reception, VERIFIED, complete_verified};
use crate::replication::ReplicationError;
use crate::tasks::Blocking;
use crate::transfer::{
    Destination, PAGES, PipeReader, ReceiveError, SESSIONS, SessionPhase, SessionRequest, SessionState, TransferPart,
    Verification, pipe,
};

/// How long a source may send nothing of what it has begun.
const STALL: Duration = Duration::from_secs(60);
/// How exactly the record knows when a source was last heard of, in milliseconds.
const CONTACT: i64 = 5 * 60 * 1000;
/// Attempts to get at the files of a server that something else uses.
const ATTEMPTS: u32 = 200;
/// The time between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// The shortest secret, in characters.
const MIN_SECRET: usize = 32;
/// The longest one.
const MAX_SECRET: usize = 256;
/// Bytes of the list of missing blocks that are read at once.
const PIECE: usize = 64 << 10;

/// `POST /api/transfers/session`: another node wants to send a server in rounds.
pub async fn open(
    Started(api): Started,
    headers: HeaderMap,
    request: RequestBody,
) -> ([(&'static str, &'static str); 1], Result<StatusCode, ApiError>) {
    ([(SESSIONS, "1")], begin(&api, &headers, &request).await)
}

async fn begin(api: &Api, headers: &HeaderMap, request: &RequestBody) -> Result<StatusCode, ApiError> {
    if shares_storage(api, headers) {
        // Nothing is copied: the form says that in one request.
        return Err(ApiError::no_server());
    }
    let SessionRequest { server, secret } = body::object(request)?;
    if !(MIN_SECRET..=MAX_SECRET).contains(&secret.len()) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "The secret of a session is too short or too long."));
    }
    let secret_hash = hash(&secret);
    if known(api, server).is_some_and(|(_, session)| is_same(&session.secret_hash, &secret_hash)) {
        // The answer got lost.
        return Ok(StatusCode::OK);
    }
    if admit(api, headers, Some(&secret_hash))? != server {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "The token of the transfer is for another server."));
    }
    let context = &api.context;
    let fetched = fetch(api, server).await?;
    let session = IncomingSession { secret_hash, contact: context.clock.now(), backups: None };
    let incoming = Incoming { session: Some(session), ..Incoming::default() };
    // What is left of a deleted server of this id is removed first.
    let _files = context.operations.files().exclusive(server).await;
    let begun = context.begin_incoming(server, fetched, context.ids.next_uuid(), incoming).await;
    begun.map_err(|error| not_begun(server, error))?;
    Ok(StatusCode::CREATED)
}

/// `GET /api/transfers/session/{server}`
pub async fn state(
    Started(api): Started,
    Path(server): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut found = admitted(&api, &server, &headers)?;
    if found.transfer.is_pending() && !found.transfer.cancelled && found.is_verified(&api).await? {
        found.complete(&api, VERIFIED.to_owned()).await?;
        found = admitted(&api, &server, &headers)?;
    }
    let (phase, message) = match &found.transfer.result {
        None => (SessionPhase::Receiving, String::new()),
        Some(result) if result.succeeded => (SessionPhase::Completed, result.message.clone()),
        Some(result) => (SessionPhase::Failed, result.message.clone()),
    };
    let state = SessionState { phase, extras: found.session.backups.is_some(), message };
    Ok(json(serde_json::to_string(&state).map_err(|error| ApiError::Failed(error.to_string()))?))
}

/// `DELETE /api/transfers/session/{server}`
pub async fn cancel(
    Started(api): Started,
    Path(server): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let found = admitted(&api, &server, &headers)?;
    if found.transfer.is_pending() {
        request_cancellation(&api, found.server).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/transfers/session/{server}/{part}/manifest`: answered by the list of missing blocks, and for a source that can use them by the
/// hashes of pages.
pub async fn manifest(
    Started(api): Started,
    Path((server, part)): Path<(String, String)>,
    request: Request,
) -> Result<Body, ApiError> {
    let with_pages = request.headers().contains_key(PAGES);
    let receive = move |reception: &Reception, part, from| reception.manifest(part, from, with_pages);
    let file = store(&api, &server, &part, request, receive).await?;
    let pieces = futures_util::stream::try_unfold(file, |file| async {
        let read = move || {
            let mut piece = vec![0; PIECE];
            let length = std::io::Read::read(&mut &file, &mut piece)?;
            piece.truncate(length);
            Ok::<_, std::io::Error>((length > 0).then_some((piece, file)))
        };
        Blocking::Pool.run(read).await
    });
    Ok(Body::from_stream(pieces))
}

/// `POST /api/transfers/session/{server}/{part}/blocks`
pub async fn blocks(
    Started(api): Started,
    Path((server, part)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    store(&api, &server, &part, request, Reception::blocks).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/transfers/session/{server}/{part}/finish`
pub async fn finish(
    Started(api): Started,
    Path((server, part)): Path<(String, String)>,
    headers: HeaderMap,
    request: RequestBody,
) -> Result<StatusCode, ApiError> {
    let found = admitted(&api, &server, &headers)?;
    let part = part.parse().map_err(|_| ApiError::no_server())?;
    let Verification { root } = body::object(&request)?;
    let root = digest(&root).ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "The root hash is none."))?;
    let reception = found.open(&api).await?;
    let (context, blocking) = (&api.context, api.context.store.blocking());
    match part {
        TransferPart::Extras if found.session.backups.is_some() => {}
        TransferPart::Extras => {
            let verifying = reception.clone();
            let backups = blocking.run(move || verifying.verify_extras(root)).await.map_err(answer)?;
            context.expect_backups(found.server, found.transfer.token, backups.clone()).await?;
            let keeping = reception.clone();
            let kept = blocking.run(move || keeping.keep_extras(&backups)).await.map_err(answer)?;
            context.record_backups(found.server, found.transfer.token, kept).await?;
            blocking.run(move || reception.drop_extras()).await;
        }
        TransferPart::Files => {
            let message = blocking.run(move || reception.complete(root)).await.map_err(answer)?;
            found.complete(&api, message).await?;
        }
    }
    Ok(StatusCode::OK)
}

/// Hands a body to a thread that stores it.
async fn store<T: Send + 'static>(
    api: &Api,
    server: &str,
    part: &str,
    request: Request,
    work: impl FnOnce(&Reception, TransferPart, PipeReader) -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, ApiError> {
    let found = admitted(api, server, request.headers())?;
    let part = part.parse().map_err(|_| ApiError::no_server())?;
    let reception = found.open(api).await?;
    found.note_contact(api).await?;
    let mut body = body_pieces(request.into_body());
    let (sender, receiver) = pipe();
    let storing = reception.clone();
    // Always on a thread: the two sides wait for each other.
    let stored = Blocking::Pool.run(move || work(&storing, part, receiver.into_reader()));
    let feed = async {
        loop {
            let piece = tokio::select! {
                piece = tokio::time::timeout(STALL, body.next()) => piece,
                () = reception.when_closed() => return Err(ReceiveError::Cancelled),
            };
            match piece {
                Ok(Some(Ok(piece))) => {
                    if sender.send(piece).await.is_err() {
                        // The thread has ended.
                        return Ok(());
                    }
                }
                Ok(None) => {
                    let _ended = sender.finish().await;
                    return Ok(());
                }
                Ok(Some(Err(error))) => return Err(ReceiveError::Broken(error.to_string())),
                Err(_) => return Err(ReceiveError::Broken("nothing has arrived for a minute".to_owned())),
            }
        }
    };
    let (fed, stored) = tokio::join!(feed, stored);
    if fed.is_ok() {
        // A sender that is still sending would not read the answer.
        drained(body).await;
    }
    match (fed, stored) {
        (_, Ok(stored)) => Ok(stored),
        (Err(broken), Err(_)) => Err(answer(broken)),
        (Ok(()), Err(error)) => Err(answer(error)),
    }
}

/// A session whose source has asked for something.
struct Found {
    server: ServerId,
    transfer: Transfer,
    session: IncomingSession,
}

/// Finds the session, and compares the secret.
fn admitted(api: &Api, server: &str, headers: &HeaderMap) -> Result<Found, ApiError> {
    let server: ServerId = server.parse().map_err(|_| ApiError::no_server())?;
    let (transfer, session) = known(api, server).ok_or_else(ApiError::no_server)?;
    let secret = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match secret.is_some_and(|secret| is_same(&session.secret_hash, &hash(secret))) {
        true => Ok(Found { server, transfer, session }),
        false => Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden.")),
    }
}

fn known(api: &Api, server: ServerId) -> Option<(Transfer, IncomingSession)> {
    let transfer = api.context.store.get(server)?.record.transfer.clone()?;
    let session = transfer.incoming()?.session.clone()?;
    Some((transfer, session))
}

impl Found {
    fn destination(&self, api: &Api) -> Result<Destination, ApiError> {
        let context = &api.context;
        let snapshot = context.store.get(self.server).ok_or_else(ApiError::no_server)?;
        let manifest = snapshot.manifest.as_ref().ok_or_else(ApiError::no_server)?;
        Ok(Destination {
            layout: context.node.layout.clone(),
            server: self.server,
            token: self.transfer.token,
            limit: manifest.spec.settings.build.disk_limit(),
            // What the egg denies its users belongs to the server, too.
            denylist: Arc::new(Denylist::default()),
            rate: context.operations.download_rate().clone(),
            progress: crate::progress::Progress::new(),
        })
    }

    /// Whether the files are the server's already. The request that has verified them was interrupted before it recorded that: by the
    /// end of its connection, by an error, or by the end of the daemon.
    async fn is_verified(&self, api: &Api) -> Result<bool, ApiError> {
        let (context, blocking) = (&api.context, api.context.store.blocking());
        if let Some(open) = context.receptions.get(self.server, self.transfer.token) {
            return blocking.run(move || open.complete_verified()).await.map_err(answer);
        }
        let Some(files) = context.operations.files().try_exclusive(self.server) else { return Ok(false) };
        let at = self.destination(api)?;
        let complete = move || {
            let _files = files;
            complete_verified(&at)
        };
        blocking.run(complete).await.map_err(answer)
    }

    async fn open(&self, api: &Api) -> Result<Arc<Reception>, ApiError> {
        let token = self.transfer.token;
        let files = match self.files(api).await? {
            Ok(files) => files,
            Err(open) => return Ok(open),
        };
        let (context, at, subject) = (api.context.clone(), self.destination(api)?, Subject::Transfer(token));
        let open = move || {
            let begin = || {
                let snapshot = context.store.get(at.server)?;
                let pending = snapshot.record.pending_transfer()?;
                let wanted = pending.token == at.token && !pending.cancelled && !snapshot.is_being_deleted();
                wanted.then(|| context.operations.begin(at.server, &subject))
            };
            context.receptions.open(&at, files, begin)
        };
        api.context.store.blocking().run(open).await.map_err(answer)
    }

    /// The lock of the server's files, or the session that has it.
    async fn files(&self, api: &Api) -> Result<Result<FilesLock, Arc<Reception>>, ApiError> {
        let context = &api.context;
        for _ in 0..ATTEMPTS {
            if let Some(open) = context.receptions.get(self.server, self.transfer.token) {
                return Ok(Err(open));
            }
            if let Some(files) = context.operations.files().try_exclusive(self.server) {
                return Ok(Ok(files));
            }
            // Another request opens it.
            tokio::time::sleep(PAUSE).await;
        }
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The files of this server are in use."))
    }

    async fn note_contact(&self, api: &Api) -> Result<(), ApiError> {
        let now = api.context.clock.now().as_millis();
        match now - self.session.contact.as_millis() > CONTACT {
            true => Ok(api.context.note_contact(self.server, self.transfer.token).await?),
            false => Ok(()),
        }
    }

    /// Records that the server is here.
    async fn complete(&self, api: &Api, message: String) -> Result<(), ApiError> {
        let (context, token): (_, Uuid) = (&api.context, self.transfer.token);
        let backups = known(api, self.server).and_then(|(_, session)| session.backups).unwrap_or_default();
        match context.complete_incoming(self.server, token, backups, message).await? {
            true => Ok(()),
            false => Err(ApiError::new(StatusCode::GONE, ReceiveError::Cancelled.to_string())),
        }
    }
}

fn answer(error: ReceiveError) -> ApiError {
    let message = error.to_string();
    match error {
        ReceiveError::Cancelled | ReceiveError::Replication(ReplicationError::Cancelled) => {
            ApiError::new(StatusCode::GONE, message)
        }
        // The next round has it.
        ReceiveError::Replication(ReplicationError::Differs(_)) => ApiError::new(StatusCode::CONFLICT, message),
        ReceiveError::Broken(_) => ApiError::new(StatusCode::REQUEST_TIMEOUT, message),
        error if error.is_of_sender() => ApiError::new(StatusCode::BAD_REQUEST, message),
        _ => ApiError::Failed(format!("a server cannot be received: {message}")),
    }
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Reads 32 bytes in hexadecimal digits.
fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
