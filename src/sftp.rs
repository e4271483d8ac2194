//! The SFTP service: SSH connections of users, and what they do with their servers' files.
//!
//! [`listen`] accepts connections on its own address. Each connection logs in through the panel (`login`), which opens a session
//! that ends with the user's or the server's access ([`Sessions`]). `russh` speaks SSH (`handler`);
//! the protocol above it is this module's own (`wire`, `channel`, `session`): requests go to the server's files through
//! [`ServerFiles`], which decides whether they are available, and what is done is recorded for the panel's log.

mod access;
mod algorithms;
mod channel;
mod connection;
mod handler;
mod host_key;
mod inbox;
mod limits;
mod listener;
mod login;
mod permissions;
mod progress;
mod recorder;
mod session;
mod stream;
#[allow(missing_docs)]
mod wire;

use std::sync::Arc;

use jiff::tz::TimeZone;

use self::inbox::Backlog;
use self::limits::Attempts;
use crate::config::SftpConfig;
use crate::panel::Panel;
use crate::reconcile::context::Context;
use crate::server_files::ServerFiles;
use crate::sessions::Sessions;

pub use listener::{Bound, bind, listen};

/// What all connections share.
pub struct Service {
    context: Arc<Context>,
    files: Arc<ServerFiles>,
    panel: Arc<dyn Panel>,
    sessions: Sessions,
    attempts: Attempts,
    backlog: Backlog,
    /// For the times in listings.
    zone: TimeZone,
}

impl Service {
    /// A service for the users of this panel. `sessions` is where other services end them.
    pub fn new(context: Arc<Context>, files: Arc<ServerFiles>, panel: Arc<dyn Panel>, sessions: Sessions) -> Arc<Self> {
        let zone = TimeZone::get(&context.node.config.timezone).unwrap_or(TimeZone::UTC);
        Arc::new(Self {
            context,
            files,
            panel,
            sessions,
            attempts: Attempts::default(),
            backlog: Backlog::default(),
            zone,
        })
    }

    fn config(&self) -> &SftpConfig {
        &self.context.node.config.sftp
    }
}
