//! The HTTP API that panels and the command line speak. Every route is in the table of `routes`.
//!
//! Requests that change what a server should be write it and answer: a 2xx means that it is on disk. Nothing here talks
//! to containers but `commands` (a line into a terminal), `logs` and `GET /api/system?v=2`, which are streams and facts, not
//! state. `request`, `body` and `error` speak the wire's dialect; `guard` does what every answer needs (request id, CORS, a 500
//! where a handler panics) and checks who may call a route; `view` renders servers once per change.
//!
//! Two listeners are served from that table: TCP, where the node's token is required, and a unix socket that needs permission on
//! the file and no token, and that has the routes of `local` for the command line, too.

mod body;
mod error;
mod guard;
mod local;
mod peer;
mod request;
mod routes;
mod servers;
pub mod startup;
mod stream;
mod system;
mod view;

use std::sync::Arc;

use axum::Router;

use self::startup::Startup;
use crate::reconcile::context::Context;
use crate::reconcile::pass::Reconciler;

pub use error::ApiError;
pub use guard::Endpoint;
pub use peer::Peer;
pub use routes::router;

/// What handlers work with.
pub struct Api {
    context: Arc<Context>,
    reconciler: Reconciler,
    view: view::ServerViews,
}

impl Api {
    /// An API over this reconciler's world.
    pub fn new(reconciler: Reconciler) -> Arc<Self> {
        Arc::new(Self { context: reconciler.context().clone(), reconciler, view: view::ServerViews::default() })
    }

    /// The routes of a listener of its own.
    pub fn router(self: &Arc<Self>, endpoint: Endpoint) -> Router {
        let opening = Startup::new(&self.context.node.kernel);
        opening.open(self.clone());
        routes::router(&opening, endpoint, &self.context.node.config)
    }
}
