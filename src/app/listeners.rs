//! The listening sockets: TCP for panels (with TLS where it is configured), a unix socket for the command line.

mod accept;
mod activity;
mod certificates;
mod connection;
mod limits;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, UnixListener};

use self::accept::{Acceptor, Listener};
use self::certificates::Certificates;
use self::limits::Limits;
use crate::api::Endpoint;
use crate::config::NodeConfig;
use crate::tasks::Tasks;

/// Interval between two checks of the certificate's files.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(1);

/// Listening sockets that are not served yet.
pub struct Listeners {
    tcp: Option<(Listener, Endpoint)>,
    local: UnixListener,
}

/// Opens the sockets.
///
/// # Errors
/// A port is in use. The message says what to do.
pub async fn open(node: &NodeConfig) -> anyhow::Result<Listeners> {
    let Some(token) = node.api_token.clone() else {
        tracing::info!("no token is configured: the API is served on the local socket only");
        return Ok(Listeners { tcp: None, local: local(&node.directories.socket)? });
    };
    let certificates = node.api.tls.as_ref().map(|files| Certificates::load(files, CERTIFICATE_INTERVAL));
    let address = &node.api.address;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}; is another daemon running? see `api.host` and `api.port` in {}",
            node.source.display()
        )
    })?;
    let tcp = Some((Listener::Tcp(listener, certificates), Endpoint::Tcp(token)));
    Ok(Listeners { tcp, local: local(&node.directories.socket)? })
}

/// Removes the unix socket's file.
pub fn close(node: &NodeConfig) {
    // If this fails, connections to the file are refused, which clients take for "no daemon runs".
    let _ = std::fs::remove_file(&node.directories.socket);
}

fn local(path: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("cannot open the socket {}", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        // That daemon has another state folder: this one is locked by this process.
        anyhow::bail!(
            "{} answers already: another daemon listens there; stop it first, or name another path in `alula.socket`",
            path.display()
        );
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(what)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    Ok(listener)
}

impl Listeners {
    /// Serves both listeners until the tasks are shut down.
    pub fn serve(self, tasks: &Tasks, router: impl Fn(Endpoint) -> Router) {
        let serve = |name: &'static str, listener, router| {
            let acceptor = Acceptor::new(listener, router, Limits::API, tasks.clone());
            tasks.spawn_graceful(name, |end| acceptor.run(end));
        };
        if let Some((listener, endpoint)) = self.tcp {
            serve("api", listener, router(endpoint));
        }
        serve("local api", Listener::Local(self.local), router(Endpoint::Local));
    }
}

#[cfg(test)]
mod tests;
