//! One connection: its deadlines, and its end.

use std::net::SocketAddr;
use std::sync::Arc;

use russh::Disconnect;
use russh::server::{Config, Handle, RunningSession, run_stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Service;
use super::handler::{Connection, ConnectionError};
use super::host_key::random;
use super::limits::{FAREWELL, HANDSHAKE, IDLE, LOGIN};
use super::progress::{Phase, Progress};
use super::stream::Stream;

/// Why the daemon ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
enum Ending {
    #[strum(to_string = "the client did not log in in time")]
    Late,
    #[strum(to_string = "your access to this server's files has ended")]
    AccessEnded,
    #[strum(to_string = "nothing was requested for a long time")]
    Idle,
    #[strum(to_string = "the daemon ends")]
    Shutdown,
}

/// Serves a connection until it ends. `logged_in` is called once its client is logged in.
pub async fn serve(
    service: Arc<Service>,
    config: Arc<Config>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    logged_in: impl FnOnce(),
    end: CancellationToken,
) {
    let cut = CancellationToken::new();
    // `russh` serves the connection in a task of its own, which ends with its stream.
    let _cut = cut.clone().drop_guard();
    // Ends the channels, before the client learns about the end.
    let stop = cut.child_token();
    let (stream, version) = Stream::new(stream, cut.clone());
    let mut session_id = [0; 32];
    if let Err(error) = random(&mut session_id) {
        tracing::warn!(%error, "cannot serve an sftp connection");
        return;
    }
    let progress = Arc::new(Progress::new());
    let handler = Connection::new(service, peer, session_id, version, progress.clone(), stop.clone());
    let begun = Instant::now();
    let started = end.run_until_cancelled(timeout(HANDSHAKE, run_stream(config, stream, handler))).await;
    let Some(Ok(Ok(mut session))) = started else {
        tracing::debug!(%peer, "no ssh connection");
        return;
    };
    let handle = session.handle();
    let ending = tokio::select! {
        ended = &mut session => return note(peer, ended),
        ending = ending(begun, &progress, logged_in) => ending,
        () = end.cancelled() => Ending::Shutdown,
    };
    stop.cancel();
    tracing::debug!(%peer, reason = %ending, "sftp connection closed");
    farewell(&handle, &mut session, ending).await;
}

/// Sends the reason to the client, if it still listens.
async fn farewell(handle: &Handle, session: &mut RunningSession<Connection>, ending: Ending) {
    let leave = async {
        // Where it fails the connection has ended.
        let _ = handle.disconnect(Disconnect::ByApplication, ending.to_string(), String::new()).await;
        let _ = session.await;
    };
    let _ = timeout(FAREWELL, leave).await;
}

/// Waits until the connection must end.
async fn ending(begun: Instant, progress: &Progress, logged_in: impl FnOnce()) -> Ending {
    let mut phases = progress.phases();
    let ended = loop {
        let phase = phases.borrow_and_update().clone();
        let deadline = match phase {
            Phase::Handshake => begun + HANDSHAKE,
            Phase::Login => begun + LOGIN,
            Phase::LoggedIn(ended) => break ended,
        };
        tokio::select! {
            () = sleep_until(deadline) => return Ending::Late,
            changed = phases.changed() => if changed.is_err() { return Ending::Late },
        }
    };
    logged_in();
    tokio::select! {
        () = ended.cancelled() => Ending::AccessEnded,
        () = idle(progress) => Ending::Idle,
    }
}

/// Waits until nothing was requested for a long time.
async fn idle(progress: &Progress) {
    loop {
        let until = progress.last_request() + IDLE;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

fn note(peer: SocketAddr, ended: Result<(), ConnectionError>) {
    match ended {
        Ok(()) => tracing::debug!(%peer, "sftp connection ended"),
        Err(error) => tracing::debug!(%peer, %error, "sftp connection failed"),
    }
}
