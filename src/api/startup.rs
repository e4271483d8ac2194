//! The API while the daemon starts: what needs no server is answered at once, everything else waits for the state folder.
//!
//! [`router`](super::router) is served from the first moment; [`Startup::open`] hands over the API as soon as there is one. A node
//! with thousands of servers so shows that it is alive while it still reads them, and no caller is refused meanwhile.

use std::sync::Arc;

use tokio::sync::SetOnce;

use super::Api;

/// Where handlers get the API from; clones share it.
#[derive(Clone)]
pub struct Startup {
    kernel: Arc<str>,
    api: Arc<SetOnce<Arc<Api>>>,
}

impl Startup {
    /// Without an API yet. `kernel` is the kernel's release.
    pub fn new(kernel: &str) -> Self {
        Self { kernel: kernel.into(), api: Arc::default() }
    }

    /// Answers with `api` from now on. Only the first call counts.
    pub fn open(&self, api: Arc<Api>) {
        // The error returns a second API.
        let _ = self.api.set(api);
    }

    /// The API, once it is there.
    pub async fn api(&self) -> Arc<Api> {
        self.api.wait().await.clone()
    }

    /// The kernel's release.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }
}
