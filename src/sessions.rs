//! The open file sessions of users: counted for each server, and ended when a user or a server loses its access.
//!
//! A protocol opens a session after a login ([`Sessions::open`]) and ends it once [`Session::ended`] is cancelled. A login that
//! began before an access ended does not open a session: its rights may be the former ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::ServerId;

/// Most open sessions of a server.
const MAX_OPEN: usize = 100;
/// Most open files of all sessions of a server.
const MAX_FILES: usize = 2048;

/// The open sessions of the node; clones share them.
#[derive(Clone, Default)]
pub struct Sessions {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Counts the ends of access.
    revision: u64,
    next: u64,
    servers: BTreeMap<ServerId, Open>,
}

/// The open sessions of a server.
struct Open {
    files: Arc<Semaphore>,
    /// By number.
    sessions: BTreeMap<u64, (Uuid, CancellationToken)>,
}

/// The moment at which a login began.
#[derive(Debug, Clone, Copy)]
pub struct Begun(u64);

/// Why no session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// Ask for the rights again.
    #[error("rights have changed since the login began")]
    Outdated,
    /// The server has too many.
    #[error("the server has {MAX_OPEN} open sessions, which is the most")]
    TooMany,
}

/// An open session, until it is dropped.
pub struct Session {
    sessions: Sessions,
    server: ServerId,
    number: u64,
    /// Cancelled when the session has to end.
    pub ended: CancellationToken,
    /// Permits for open files, which the sessions of the server share.
    pub files: Arc<Semaphore>,
}

impl Sessions {
    /// To be called before the rights of a login are fetched.
    pub fn begin(&self) -> Begun {
        Begun(self.state().revision)
    }

    /// Opens a session with rights that were fetched after `begun`.
    ///
    /// # Errors
    /// An access has ended in between, or the server has too many sessions.
    pub fn open(&self, server: ServerId, user: Uuid, begun: Begun) -> Result<Session, NotOpened> {
        let mut state = self.state();
        if state.revision != begun.0 {
            return Err(NotOpened::Outdated);
        }
        let number = state.next;
        let new = || Open { files: Arc::new(Semaphore::new(MAX_FILES)), sessions: BTreeMap::new() };
        let open = state.servers.entry(server).or_insert_with(new);
        if open.sessions.len() >= MAX_OPEN {
            return Err(NotOpened::TooMany);
        }
        let ended = CancellationToken::new();
        open.sessions.insert(number, (user, ended.clone()));
        let files = open.files.clone();
        state.next += 1;
        Ok(Session { sessions: self.clone(), server, number, ended, files })
    }

    /// Ends the sessions of a user on one server.
    pub fn end_user(&self, server: ServerId, user: Uuid) {
        self.end(|open, of| *open == server && of == user);
    }

    /// Ends the sessions of a user on all servers.
    pub fn end_user_everywhere(&self, user: Uuid) {
        self.end(|_, of| of == user);
    }

    /// Ends all sessions of a server.
    pub fn end_server(&self, server: ServerId) {
        self.end(|open, _| *open == server);
    }

    /// The servers with open sessions.
    pub fn servers(&self) -> Vec<ServerId> {
        self.state().servers.keys().copied().collect()
    }

    fn end(&self, ends: impl Fn(&ServerId, Uuid) -> bool) {
        let mut state = self.state();
        state.revision += 1;
        for (server, open) in &state.servers {
            for (user, ended) in open.sessions.values() {
                if ends(server, *user) {
                    ended.cancel();
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.sessions.state();
        if let Some(open) = state.servers.get_mut(&self.server) {
            open.sessions.remove(&self.number);
            if open.sessions.is_empty() {
                state.servers.remove(&self.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u128) -> ServerId {
        ServerId::new(Uuid::from_u128(number))
    }

    fn user(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn sessions_end_by_user_and_by_server() {
        let sessions = Sessions::default();
        let open = |on, of| sessions.open(server(on), user(of), sessions.begin()).unwrap();
        let [a, b, c, d] = [open(1, 1), open(1, 2), open(2, 1), open(2, 2)];
        let ended = || [&a, &b, &c, &d].map(|session| session.ended.is_cancelled());
        sessions.end_user(server(1), user(1));
        assert_eq!(ended(), [true, false, false, false]);
        sessions.end_user_everywhere(user(1));
        assert_eq!(ended(), [true, false, true, false]);
        sessions.end_server(server(2));
        assert_eq!(ended(), [true, false, true, true]);
        assert_eq!(sessions.servers(), [server(1), server(2)]);
        drop((a, b, c, d));
        assert!(sessions.servers().is_empty());
    }

    #[test]
    fn a_login_that_began_before_an_access_ended_opens_no_session() {
        let sessions = Sessions::default();
        let begun = sessions.begin();
        sessions.end_user(server(1), user(1));
        assert_eq!(sessions.open(server(1), user(1), begun).err(), Some(NotOpened::Outdated));
        assert!(sessions.open(server(1), user(1), sessions.begin()).is_ok());
    }

    #[test]
    fn a_server_has_a_limited_number_of_sessions() {
        let sessions = Sessions::default();
        let open = |on| sessions.open(server(on), user(1), sessions.begin());
        let all: Vec<Session> = (0..MAX_OPEN).map(|_| open(1).unwrap()).collect();
        assert_eq!(open(1).err(), Some(NotOpened::TooMany));
        assert!(open(2).is_ok());
        drop(all);
        assert!(open(1).is_ok());
    }
}
