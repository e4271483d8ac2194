//! The API during the daemon's startup. Requests that need no server are answered at once, all others wait until the state folder is
//! read.
//!
//! [`router`](super::router) is served from the beginning; [`Startup::finish`] provides the API. So a node with thousands of servers
//! answers health checks while it still reads them, and rejects no request meanwhile.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::sync::SetOnce;

use super::Api;

/// Provides handlers with the API; clones share it.
#[derive(Clone, Default)]
pub struct Startup {
    api: Arc<SetOnce<Arc<Api>>>,
}

impl Startup {
    /// Provides the API. Only the first call counts.
    pub fn finish(&self, api: Arc<Api>) {
        // The error would return a second API.
        let _ = self.api.set(api);
    }

    /// Waits for the API.
    pub async fn api(&self) -> Arc<Api> {
        self.api.wait().await.clone()
    }
}

/// The API, for handlers that wait for the end of the startup.
pub struct Started(pub Arc<Api>);

impl FromRequestParts<Startup> for Started {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, startup: &Startup) -> Result<Self, Infallible> {
        Ok(Self(startup.api().await))
    }
}
