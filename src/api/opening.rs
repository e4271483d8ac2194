//! The doors while the daemon comes up: what needs no server is answered at once, everything else waits for the state folder.
//!
//! [`Opening::router`] is served from the first moment; [`Opening::open`] hands it the API as soon as there is one. A node with
//! thousands of servers so says that it is alive while it still reads them, and nobody is refused meanwhile.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::Method;
use tokio::sync::watch;
use tower::ServiceExt;

use super::guard::{self, Door};
use super::{Api, system};
use crate::config::NodeConfig;

/// What the doors lead to. Cloned into each of them.
#[derive(Clone)]
pub struct Opening {
    inner: Arc<Inner>,
}

struct Inner {
    kernel: String,
    routes: OnceLock<Routes>,
    opened: watch::Sender<bool>,
}

struct Routes {
    tcp: Router,
    local: Router,
}

impl Opening {
    /// Doors that lead nowhere yet. `kernel` is the kernel's release.
    pub fn new(kernel: String) -> Self {
        let inner = Inner { kernel, routes: OnceLock::new(), opened: watch::Sender::new(false) };
        Self { inner: Arc::new(inner) }
    }

    /// The API is there. Only the first call counts.
    pub fn open(&self, api: &Arc<Api>) {
        let routes = Routes { tcp: api.routes(false), local: api.routes(true) };
        if self.inner.routes.set(routes).is_ok() {
            self.inner.opened.send_replace(true);
        }
    }

    /// What is served behind a door.
    pub fn router(&self, door: Door, node: &NodeConfig) -> Router {
        let local = matches!(door, Door::Local);
        let router = Router::new().fallback(lead).with_state(Way { inner: self.inner.clone(), local });
        guard::wrap(router, door, node)
    }
}

#[derive(Clone)]
struct Way {
    inner: Arc<Inner>,
    local: bool,
}

impl Way {
    /// The routes behind this door, once they are there.
    async fn routes(&self) -> Option<Router> {
        let mut opened = self.inner.opened.subscribe();
        // An error would mean that the daemon ends before it was up.
        opened.wait_for(|opened| *opened).await.ok()?;
        self.inner.routes.get().map(|routes| if self.local { routes.local.clone() } else { routes.tcp.clone() })
    }
}

async fn lead(State(way): State<Way>, request: Request) -> Response {
    let uri = request.uri();
    if request.method() == Method::GET && uri.path() == "/api/system" && !system::is_detailed(uri.query()) {
        return system::axum_json(&system::plain(&way.inner.kernel));
    }
    match way.routes().await {
        // A router never fails; it answers.
        Some(routes) => routes.oneshot(request).await.into_response(),
        None => http::StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
