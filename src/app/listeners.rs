//! The listening sockets: TCP for panels (with TLS where it is configured), a unix socket for the command line.

mod accept;
mod acme;
mod activity;
mod certificates;
mod connection;
mod limits;

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener, UnixSocket};

use self::accept::{Acceptor, Listener};
use self::acme::Acme;
pub use self::acme::AutomaticTls;
use self::certificates::Certificates;
use self::limits::Limits;
use crate::api::Endpoint;
use crate::config::host::socket_group;
use crate::config::{MAX_SOCKET_PATH, NodeConfig, Problem, SocketAccess};
use crate::reconcile::node_conditions::NodeConditions;
use crate::store::lock::Holder;
use crate::tasks::Tasks;

/// Interval between two checks of the certificate's files.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(1);

/// Connections to the local socket that wait to be accepted.
const BACKLOG: u32 = 128;

/// Mode of a socket that only the daemon's user may use.
const OWN_MODE: u32 = 0o600;

/// Listening sockets that are not served yet.
pub struct Listeners {
    tcp: Option<(Listener, Endpoint)>,
    local: UnixListener,
    /// Gets the certificate.
    acme: Option<Acme>,
}

/// Opens the sockets. `automatic`: how the certificate is got, instead of from the files that `api.ssl` names.
///
/// # Errors
/// A port or a path cannot be used. The problem says what to do.
pub async fn open(
    node: &NodeConfig,
    automatic: Option<AutomaticTls>,
    conditions: &NodeConditions,
) -> Result<Listeners, Problem> {
    if !node.serves_api() {
        tracing::info!("no token is configured: the API is served on the local socket only");
        let local = local(&node.directories.socket, &node.socket_access)?;
        return Ok(Listeners { tcp: None, local, acme: None });
    }
    let acme = automatic.map(|options| Acme::new(options, &node.directories.root, conditions.clone()));
    let certificates = match (&acme, &node.api.tls) {
        (Some(acme), _) => Some(acme.certificates()),
        (None, Some(files)) => Some(Certificates::load(files, CERTIFICATE_INTERVAL, conditions.clone())),
        (None, None) => None,
    };
    let tcp = Some((Listener::Tcp(bind(&node.api.address).await?, certificates), Endpoint::Tcp));
    Ok(Listeners { tcp, local: local(&node.directories.socket, &node.socket_access)?, acme })
}

/// Finds out whether the sockets of a node can be opened now. Nothing listens afterwards, and no file is made.
///
/// `running`: the address of the daemon that runs on the node's state folder already; its sockets are not in the way.
pub async fn check(node: &NodeConfig, running: Option<&Holder>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let address = &node.api.address;
    let own = running.is_some_and(|daemon| daemon.api.as_ref() == Some(address));
    if node.serves_api() && !own {
        problems.extend(bind(address).await.err());
    }
    problems.extend(check_path(&node.directories.socket, running.is_some()).err());
    let group = socket_group(&node.socket_access);
    problems.extend(group.and_then(|group| check_folders(&node.directories.socket, &node.socket_access, group)).err());
    problems
}

/// Removes the unix socket's file.
pub fn close(node: &NodeConfig) {
    // If this fails, connections to the file are refused, which clients take for "no daemon runs".
    let _ = std::fs::remove_file(&node.directories.socket);
}

async fn bind(address: &str) -> Result<TcpListener, Problem> {
    TcpListener::bind(address).await.map_err(|error| {
        let (key, next) = match error.kind() {
            ErrorKind::AddrInUse => ("api.port", "; is another daemon running? stop it, or name another port"),
            ErrorKind::PermissionDenied => ("api.port", "; run this as root, or name a port above 1023"),
            _ => ("api.host", "; name an address or name of this host"),
        };
        Problem::new(key, format!("cannot listen on {address}: {error}{next}"))
    })
}

/// `ours`: what answers there is the daemon of this node.
fn check_path(path: &Path, ours: bool) -> Result<(), Problem> {
    let problem = |message| Err(Problem::new("alula.socket", message));
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return problem(format!(
            "{} has {length} bytes, and the path of a socket at most {MAX_SOCKET_PATH}: name a shorter one in \
             `alula.socket`, such as /run/alula.sock",
            path.display()
        ));
    }
    // Otherwise that daemon has another state folder: this one is locked by the caller.
    if !ours && std::os::unix::net::UnixStream::connect(path).is_ok() {
        return problem(format!(
            "{} answers already: another daemon listens there; stop it first, or name another path in `alula.socket`",
            path.display()
        ));
    }
    Ok(())
}

fn local(path: &Path, access: &SocketAccess) -> Result<UnixListener, Problem> {
    check_path(path, false)?;
    let opened = || {
        match std::fs::symlink_metadata(path) {
            // Left by an earlier run.
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(std::io::Error::new(ErrorKind::AlreadyExists, "it exists and is no socket")),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let socket = UnixSocket::new_stream()?;
        // The file is made with this mode, so that no other user connects before its owner is set.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(path)?;
        socket.listen(BACKLOG)
    };
    let listener = opened().map_err(|error| {
        let message =
            format!("cannot open the socket {}: {error}; name another path in `alula.socket`", path.display());
        Problem::new("alula.socket", message)
    })?;
    // Without them the socket is the daemon's user's only, and the node can be controlled.
    if let Err(problem) = share(path, access) {
        tracing::warn!("{problem}");
    }
    Ok(listener)
}

/// Gives the socket's file its group and mode.
fn share(path: &Path, access: &SocketAccess) -> Result<(), Problem> {
    let group = socket_group(access)?;
    let denied = |error: std::io::Error| {
        let message =
            format!("the group and mode of {} cannot be set: {error}; they are the daemon's own", path.display());
        Problem::new("alula.socket_group", message)
    };
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(denied)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode)).map_err(denied)?;
    check_folders(path, access, group)
}

/// Those who may use the socket must be able to enter each folder above it.
fn check_folders(path: &Path, access: &SocketAccess, group: Option<u32>) -> Result<(), Problem> {
    let closed = |folder: &&Path| {
        std::fs::metadata(folder).is_ok_and(|found| {
            let of_group = Some(found.gid()) == group && found.mode() & 0o010 != 0;
            !of_group && found.mode() & 0o001 == 0
        })
    };
    match path.ancestors().skip(1).filter(closed).last() {
        Some(folder) if access.mode != OWN_MODE => {
            let message = format!(
                "other users cannot enter the folder {}, so they cannot use the socket in it: name another path, such as \
                 /run/alula.sock",
                folder.display()
            );
            Err(Problem::new("alula.socket", message))
        }
        _ => Ok(()),
    }
}

impl Listeners {
    /// Serves both listeners until the tasks are shut down.
    pub fn serve(self, tasks: &Tasks, router: impl Fn(Endpoint) -> Router) {
        let serve = |name: &'static str, listener, router| {
            let acceptor = Acceptor::new(listener, router, Limits::API, tasks.clone());
            tasks.spawn_graceful(name, |end| acceptor.run(end));
        };
        if let Some((listener, endpoint)) = self.tcp {
            match (self.acme, &listener) {
                (Some(acme), _) => drop(tasks.spawn("certificate", acme.keep(tasks.clone()))),
                (None, Listener::Tcp(_, Some(certificates))) => {
                    tasks.spawn("certificate", certificates.clone().await_first());
                }
                _ => {}
            }
            serve("api", listener, router(endpoint));
        }
        serve("local api", Listener::Local(self.local), router(Endpoint::Local));
    }
}

#[cfg(test)]
mod tests;
