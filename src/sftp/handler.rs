//! The SSH side of a connection: logins, and channels for the subsystem `sftp`. Everything else is refused.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty};
use tokio_util::sync::CancellationToken;

use super::Service;
use super::algorithms::methods;
use super::channel;
use super::inbox::Inbox;
use super::limits::{CHANNELS, LOGIN_CALLS};
use super::login::{Access, Granted, Refusal};
use super::progress::Progress;
use super::stream::ClientVersion;
use crate::config::Secret;
use crate::panel::{Credential, SftpLogin};

/// The subsystem.
const SUBSYSTEM: &str = "sftp";

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    #[error("too many attempts to log in on one connection")]
    Attempts,
    #[error(transparent)]
    Overflow(#[from] super::inbox::Overflow),
}

/// The state of a connection for `russh`.
pub struct Connection {
    pub service: Arc<Service>,
    pub peer: SocketAddr,
    pub session_id: [u8; 32],
    pub version: ClientVersion,
    pub progress: Arc<Progress>,
    /// Ends the connection's channels.
    pub cut: CancellationToken,
    access: Option<Arc<Access>>,
    /// The key that the panel has accepted, until the client proves that it has it.
    offered: Option<(SftpLogin, Granted)>,
    calls: usize,
    channels: HashMap<ChannelId, State>,
}

enum State {
    /// Without a subsystem yet.
    Open(ChannelWriteHalf<Msg>),
    Served(Arc<Inbox>),
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(
        service: Arc<Service>,
        peer: SocketAddr,
        session_id: [u8; 32],
        version: ClientVersion,
        progress: Arc<Progress>,
        cut: CancellationToken,
    ) -> Self {
        let channels = HashMap::new();
        Self { service, peer, session_id, version, progress, cut, access: None, offered: None, calls: 0, channels }
    }

    fn login(&self, user: &str, credential: Credential) -> SftpLogin {
        SftpLogin {
            username: user.to_owned(),
            credential,
            peer: self.peer,
            session_id: self.session_id.to_vec(),
            client_version: self.version.get().cloned().unwrap_or_default(),
        }
    }

    /// Asks the panel. The error ends the connection.
    async fn ask(&mut self, login: &SftpLogin) -> Result<Option<Granted>, ConnectionError> {
        self.progress.attempted();
        self.calls += 1;
        if self.calls > LOGIN_CALLS {
            return Err(ConnectionError::Attempts);
        }
        let granted = self.service.ask(login).await;
        Ok(granted.inspect_err(|refusal| note(refusal, login)).ok())
    }

    async fn open(&mut self, login: &SftpLogin, granted: Granted) -> Auth {
        match self.service.open(login, granted).await {
            Ok(access) => {
                tracing::debug!(server.id = %access.server, user = login.username, peer = %self.peer, "sftp login");
                self.progress.logged_in(access.session.ended.clone());
                self.access = Some(Arc::new(access));
                Auth::Accept
            }
            Err(refusal) => {
                note(&refusal, login);
                rejected()
            }
        }
    }
}

/// Guesses are no news, and an attacker must not fill the log. An outage is.
fn note(refusal: &Refusal, login: &SftpLogin) {
    let (user, peer) = (&login.username, login.peer);
    match refusal {
        Refusal::Panel(error) if !error.is_final() => {
            tracing::warn!(user, %peer, %error, "sftp login failed: the panel does not decide about it");
        }
        Refusal::PanelTimeout => tracing::warn!(user, %peer, reason = %refusal, "sftp login failed"),
        refusal => tracing::debug!(user, %peer, reason = %refusal, "sftp login refused"),
    }
}

/// Type and key, as Wings sends them: without a comment.
fn line(key: &PublicKey) -> Option<String> {
    PublicKey::new(key.key_data().clone(), "").to_openssh().ok()
}

/// Another attempt is possible, with each method.
fn rejected() -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}

impl Handler for Connection {
    type Error = ConnectionError;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(rejected())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let login = self.login(user, Credential::Password(Secret::new(password)));
        match self.ask(&login).await? {
            Some(granted) => Ok(self.open(&login, granted).await),
            None => Ok(rejected()),
        }
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        let Some(login) = line(offer.public_key).map(|line| self.login(user, Credential::PublicKey(line))) else {
            return Ok(rejected());
        };
        if self.offered.as_ref().is_some_and(|(offered, _)| *offered == login) {
            return Ok(Auth::Accept);
        }
        self.offered = None;
        match self.ask(&login).await? {
            Some(granted) => self.offered = Some((login, granted)),
            None => return Ok(rejected()),
        }
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let proven = line(key.public_key).map(|line| self.login(user, Credential::PublicKey(line)));
        match self.offered.take() {
            Some((login, granted)) if Some(&login) == proven.as_ref() => Ok(self.open(&login, granted).await),
            _ => Ok(rejected()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.channels.len() >= CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // What arrives is taken by `data` below, so that it never waits where it must not.
        let (_, answers) = channel.split();
        self.channels.insert(id, State::Open(answers));
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        let (Some(access), SUBSYSTEM) = (&self.access, name) else { return Ok(session.channel_failure(id)?) };
        match self.channels.remove(&id) {
            Some(State::Open(answers)) => {
                let inbox = Arc::new(Inbox::new(self.service.backlog.clone()));
                self.channels.insert(id, State::Served(inbox.clone()));
                session.channel_success(id)?;
                let channel = channel::Channel {
                    service: self.service.clone(),
                    access: access.clone(),
                    inbox,
                    answers,
                    progress: self.progress.clone(),
                    cut: self.cut.clone(),
                };
                let name = format!("sftp session of {}", self.peer);
                self.service.context.tasks.spawn(name, channel.serve());
            }
            other => {
                self.channels.extend(other.map(|state| (id, state)));
                session.channel_failure(id)?;
            }
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(State::Served(inbox)) = self.channels.get(&id) {
            self.progress.requested();
            inbox.put(data).await?;
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(State::Served(inbox)) = self.channels.get(&id) {
            inbox.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(State::Served(inbox)) = self.channels.remove(&id) {
            inbox.end();
        }
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        Ok(session.channel_failure(id)?)
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        Ok(session.channel_failure(id)?)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(session.channel_failure(id)?)
    }

    async fn env_request(&mut self, id: ChannelId, _: &str, _: &str, session: &mut Session) -> Result<(), Self::Error> {
        Ok(session.channel_failure(id)?)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(session.channel_failure(id)?)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for state in self.channels.values() {
            if let State::Served(inbox) = state {
                inbox.end();
            }
        }
    }
}
