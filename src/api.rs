//! The HTTP API that panels and the command line speak. Every route is on this page.
//!
//! Requests that change what a server should be write intent and answer: a 2xx means that it is on disk. Nothing here talks
//! to containers but `commands` (a line into a terminal), `logs` and `GET /api/system?v=2`, which are streams and facts, not
//! state. `admission` decides about power wishes and is pure; `request`, `body` and `error` speak the wire's dialect; `guard` does
//! what every answer needs (request id, CORS, bearer token); `view` renders servers once per change.
//!
//! The same routes are served on two doors: TCP with the node's token, and a unix socket that needs permission on the
//! file and no token, with `local` beside them for the command line.

pub mod admission;
mod body;
mod error;
mod guard;
mod local;
mod request;
mod servers;
mod system;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::reconcile::pass::Reconciler;
use crate::reconcile::world::World;

pub use error::ApiError;
pub use guard::Door;

/// What handlers work with.
pub struct Api {
    world: Arc<World>,
    reconciler: Reconciler,
    view: view::ServerViews,
}

impl Api {
    /// An API over this reconciler's world.
    pub fn new(reconciler: Reconciler) -> Arc<Self> {
        Arc::new(Self { world: reconciler.world().clone(), reconciler, view: view::ServerViews::default() })
    }

    /// The routes behind a door.
    pub fn router(self: &Arc<Self>, door: Door) -> Router {
        let mut router = Router::new()
            .route("/api/system", get(system::system))
            .route("/api/servers", get(servers::list).post(servers::create))
            .route("/api/servers/{server}", get(servers::get).delete(servers::delete))
            .route("/api/servers/{server}/power", post(servers::power))
            .route("/api/servers/{server}/commands", post(servers::commands))
            .route("/api/servers/{server}/install", post(servers::install))
            .route("/api/servers/{server}/reinstall", post(servers::reinstall))
            .route("/api/servers/{server}/sync", post(servers::sync))
            .route("/api/servers/{server}/logs", get(servers::logs))
            .route("/api/servers/{server}/install-logs", get(servers::install_logs))
            .route("/api/servers/{server}/ws/deny", post(servers::deny_tokens));
        if matches!(door, Door::Local) {
            router = router
                .route("/local/servers", get(local::list))
                .route("/local/events", get(local::events))
                .route("/local/servers/{server}", get(local::describe).put(local::apply).delete(local::delete))
                .route("/local/servers/{server}/plan", get(local::plan))
                .route("/local/servers/{server}/power", post(local::power));
        }
        let router =
            router.fallback(guard::no_route).method_not_allowed_fallback(guard::no_route).with_state(self.clone());
        guard::wrap(router, door, &self.world.node)
    }
}
