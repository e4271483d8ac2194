//! The HTTP API for panels and for the command line. The table in `routes` has every route.
//!
//! A request that changes a server is written to disk before its 2xx response. Handlers do not talk to the container engine, except
//! for streams and for what only the engine knows: `commands`, `logs`, diagnostics and the engine's part of `/api/system`. `request`, `body` and `error`
//! implement Wings' dialect; `guard` adds to every response what it must carry (request id, CORS, a 500 if a handler panics) and
//! checks who may call a route; `view` renders servers once per change.
//!
//! Two listeners are served from the table: TCP, which requires the node's token, and a unix socket, which requires permission on
//! its file. The socket also has the routes of `local`.

mod body;
mod client_address;
mod diagnostics;
mod error;
mod files;
mod form;
mod guard;
mod local;
mod peer;
mod request;
mod response;
mod revoke;
mod routes;
mod servers;
mod signed;
pub mod startup;
mod stream;
mod system;
mod tokens;
mod transfers;
mod update;
mod view;
mod ws;

use std::sync::{Arc, OnceLock};

use crate::model::Timestamp;
use crate::reconcile::context::Context;
use crate::remote_download::Downloads;
use crate::server_files::ServerFiles;
use crate::sessions::Sessions;
use tokens::{Revocations, UsedLinks};

pub use client_address::ClientAddress;
pub use error::ApiError;
pub use guard::Endpoint;
pub use peer::Peer;
pub use routes::router;
pub use ws::Sockets;

/// The state of the handlers.
pub struct Api {
    context: Arc<Context>,
    view: view::ServerViews,
    /// Tokens of browsers that are not accepted any more.
    revocations: Revocations,
    /// Links that were used.
    used_links: UsedLinks,
    /// Consoles of browsers.
    sockets: Sockets,
    /// Sessions of users over other protocols.
    sessions: Sessions,
    /// Servers' files.
    files: Arc<ServerFiles>,
    /// The zone of times in answers about files.
    zone: files::Zone,
    /// What fetches files from the web, made when the first is asked for.
    downloads: OnceLock<Downloads>,
}

impl Api {
    /// An API on these services, of a daemon that was started at this time. It counts its consoles in `sockets`, and ends
    /// `sessions` of users who lose their access.
    pub fn new(files: Arc<ServerFiles>, started_at: Timestamp, sockets: Sockets, sessions: Sessions) -> Arc<Self> {
        Arc::new(Self {
            context: files.context().clone(),
            view: view::ServerViews::default(),
            revocations: Revocations::new(started_at),
            used_links: UsedLinks::default(),
            sockets,
            sessions,
            files,
            zone: files::Zone::of_the_daemon(),
            downloads: OnceLock::new(),
        })
    }
}
