//! The HTTP API that panels and the command line speak. Every route is on this page.
//!
//! Requests that change what a server should be write it and answer: a 2xx means that it is on disk. Nothing here talks
//! to containers but `commands` (a line into a terminal), `logs` and `GET /api/system?v=2`, which are streams and facts, not
//! state. `request`, `body` and `error` speak the wire's dialect; `guard` does what every answer needs (request id, CORS,
//! bearer token); `view` renders servers once per change.
//!
//! The same routes are served on two doors: TCP with the node's token, and a unix socket that needs permission on the
//! file and no token, with `local` beside them for the command line.

mod body;
mod error;
mod guard;
mod local;
pub mod opening;
mod request;
mod servers;
mod stream;
mod system;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodRouter, get, post};

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

    /// What a door of its own leads to, guard included.
    pub fn router(self: &Arc<Self>, door: Door) -> Router {
        guard::wrap(self.routes(matches!(door, Door::Local)), door, &self.world.node)
    }

    /// The routes, behind no guard; `local` are those of the unix socket too.
    fn routes(self: &Arc<Self>, local: bool) -> Router {
        let known = guard::KnownRoutes::new(&routes(local), self);
        let router =
            routes(local).into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
        let no_route = move |request: Request| known.no_route(request);
        router.fallback(no_route.clone()).method_not_allowed_fallback(no_route).with_state(self.clone())
    }
}

/// Paths with what their methods do.
type Routes = Vec<(&'static str, MethodRouter<Arc<Api>>)>;

fn routes(local: bool) -> Routes {
    let mut routes: Routes = vec![
        ("/api/system", get(system::system)),
        ("/api/servers", get(servers::list).post(servers::create)),
        ("/api/servers/{server}", get(servers::get).delete(servers::delete)),
        ("/api/servers/{server}/power", post(servers::power)),
        ("/api/servers/{server}/commands", post(servers::commands)),
        ("/api/servers/{server}/install", post(servers::install)),
        ("/api/servers/{server}/reinstall", post(servers::reinstall)),
        ("/api/servers/{server}/sync", post(servers::sync)),
        ("/api/servers/{server}/logs", get(servers::logs)),
        ("/api/servers/{server}/install-logs", get(servers::install_logs)),
        ("/api/servers/{server}/ws/deny", post(servers::deny_tokens)),
    ];
    if local {
        routes.extend([
            ("/local/servers", get(local::list)),
            ("/local/events", get(local::events::events)),
            ("/local/servers/{server}", get(local::describe).put(local::apply).delete(local::delete)),
            ("/local/servers/{server}/logs", get(local::logs::logs)),
            ("/local/servers/{server}/plan", get(local::plan)),
            ("/local/servers/{server}/power", post(local::power)),
            ("/local/servers/{server}/install", post(local::install)),
        ]);
    }
    routes
}
