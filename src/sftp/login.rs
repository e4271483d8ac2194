//! A login: the panel decides about it, and a session is opened for the server that it names.
//!
//! Source: SFTP, "Authentication flow".

use std::net::SocketAddr;

use tokio::time::Instant;
use uuid::Uuid;

use super::Service;
use super::limits::PANEL;
use super::permissions::Permissions;
use crate::model::ServerId;
use crate::panel::{Credential, PanelError, SftpLogin, SftpUser};
use crate::retry;
use crate::sessions::{Begun, NotOpened, Session};

/// The rights of a user who has logged in.
pub struct Access {
    pub server: ServerId,
    pub user: Uuid,
    pub permissions: Permissions,
    pub peer: SocketAddr,
    /// Ends with the access.
    pub session: Session,
}

/// Why a login is refused. The client only learns that it is.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the name has no server: expected USER.SERVER with the first 8 characters of the server's id")]
    Name,
    #[error("passwords are not accepted (`system.sftp.key_only`)")]
    KeyOnly,
    #[error("too many attempts from this address")]
    TooMany,
    #[error(transparent)]
    Panel(PanelError),
    #[error("no answer from the panel within {PANEL:?}")]
    PanelTimeout,
    #[error("the server {0} is not on this node")]
    UnknownServer(ServerId),
    #[error(transparent)]
    Session(NotOpened),
}

/// What the panel has answered, and since when that counts.
pub struct Granted {
    user: SftpUser,
    begun: Begun,
}

impl Service {
    /// Asks the panel about a client.
    ///
    /// # Errors
    /// The client may not log in, or the panel cannot decide now.
    pub(super) async fn ask(&self, login: &SftpLogin) -> Result<Granted, Refusal> {
        if !names_a_server(&login.username) {
            return Err(Refusal::Name);
        }
        if self.config().key_only && matches!(login.credential, Credential::Password(_)) {
            return Err(Refusal::KeyOnly);
        }
        let address = login.peer.ip();
        if !self.attempts.take(address, Instant::now()) {
            return Err(Refusal::TooMany);
        }
        let granted = self.ask_panel(login).await?;
        self.attempts.give_back(address);
        Ok(granted)
    }

    async fn ask_panel(&self, login: &SftpLogin) -> Result<Granted, Refusal> {
        let begun = self.sessions.begin();
        let asked = retry::within(PANEL, retry::PANEL, &self.context.jitter, pause, || self.panel.sftp_login(login));
        let user = asked.await.map_err(|error| error.map_or(Refusal::PanelTimeout, Refusal::Panel))?;
        Ok(Granted { user, begun })
    }

    /// Opens a session for a client. Where rights have changed since the panel's answer, the panel is asked once more.
    ///
    /// # Errors
    /// The server is unknown or has too many sessions, or as [`ask`](Self::ask).
    pub(super) async fn open(&self, login: &SftpLogin, granted: Granted) -> Result<Access, Refusal> {
        match self.open_now(login, &granted) {
            Err(Refusal::Session(NotOpened::Outdated)) => self.open_now(login, &self.ask_panel(login).await?),
            opened => opened,
        }
    }

    fn open_now(&self, login: &SftpLogin, Granted { user, begun }: &Granted) -> Result<Access, Refusal> {
        let SftpUser { user, server, permissions } = user;
        let session = self.sessions.open(*server, *user, *begun).map_err(Refusal::Session)?;
        // After the session is open: a deletion from now on ends it.
        if !self.context.store.get(*server).is_some_and(|snapshot| snapshot.is_listed()) {
            return Err(Refusal::UnknownServer(*server));
        }
        let permissions = Permissions::named(permissions.iter().map(String::as_str));
        Ok(Access { server: *server, user: *user, permissions, peer: login.peer, session })
    }
}

/// The least pause before another attempt; `None` if the panel has decided.
fn pause(error: &PanelError) -> Option<std::time::Duration> {
    match error {
        PanelError::Failed { status: 400..=499, .. } => None,
        error => error.pause_of_waiting(),
    }
}

/// Whether a name ends with a dot and eight letters or digits, after at least one other character.
fn names_a_server(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(user, server)| {
        !user.is_empty() && server.len() == 8 && server.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_user_ends_with_that_of_the_server() {
        for name in ["bob.550e8400", "a.b.ABCDEF12", "first.last@example.com.550e8400", "..12345678", "ä.abcdefgh"] {
            assert!(names_a_server(name), "{name}");
        }
        for name in ["", "nodot", "x.1111111", "x.111111111", ".12345678", "x.1234567!", "x.1234567\n", "x.ſ2345678"] {
            assert!(!names_a_server(name), "{name}");
        }
    }
}
