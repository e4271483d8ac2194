//! How far a connection is: what its deadlines depend on.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How far a connection is.
#[derive(Debug, Clone)]
pub enum Phase {
    /// The client has not tried to log in.
    Handshake,
    /// It has.
    Login,
    /// It is logged in, until this is cancelled.
    LoggedIn(CancellationToken),
}

/// The phase of a connection, and when something was last requested on it.
pub struct Progress {
    phase: watch::Sender<Phase>,
    requested: Mutex<Instant>,
}

impl Progress {
    /// A connection that has just been accepted.
    pub fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Handshake), requested: Mutex::new(Instant::now()) }
    }

    /// The client tries to log in.
    pub fn attempted(&self) {
        self.phase.send_if_modified(|phase| {
            let first = matches!(phase, Phase::Handshake);
            if first {
                *phase = Phase::Login;
            }
            first
        });
    }

    /// The client is logged in until `ended` is cancelled.
    pub fn logged_in(&self, ended: CancellationToken) {
        self.phase.send_replace(Phase::LoggedIn(ended));
    }

    /// Something is requested.
    pub fn requested(&self) {
        *self.requested.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The phases from now on.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// When something was last requested, or answered.
    pub fn last_request(&self) -> Instant {
        *self.requested.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
