//! The node of a command, and how to reach it: through the daemon's socket or, to read while no daemon runs, in the state folder.
//! Only the daemon writes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::arguments::{NodeArguments, SOCKET_VARIABLE};
use super::client::Client;
use super::error::CliError;
use super::output;
use super::server::{self, ServerView};
use crate::config::{self, ConfigError, ConfigFile, DEFAULT_PATH, Directories, HostEnvironment, NodeConfig};
use crate::model::{ConditionStatus, NodeCondition};
use crate::store::lock::{self, Holder};
use crate::store::{CONFIG_FILE, Store, unknown_folders};

/// Pause between two attempts to reach a daemon that does not run.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// The folder of the servers, in the state folder.
const SERVERS: &str = "servers";

/// The route about the node itself.
const NODE: &str = "/local/node";

/// How to reach a node.
pub enum Endpoint {
    /// The daemon runs.
    Daemon(Client),
    /// No daemon was found: the state folder, to read, and the node's configuration.
    Folder(Store, Arc<NodeConfig>),
}

/// The node of a command.
pub struct Node {
    pub directories: Directories,
    /// Whether a panel manages the node.
    pub has_panel: bool,
    pub endpoint: Endpoint,
}

/// A node, as its daemon shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    directories: Directories,
    panel: bool,
    pub conditions: Vec<NodeCondition>,
    pub unknown_folders: Vec<String>,
}

/// The configuration file that `run` starts the daemon with.
///
/// # Errors
/// A socket is named. The state folder has no configuration file, or one that names another state folder.
pub fn config_path(arguments: &NodeArguments) -> Result<PathBuf, CliError> {
    if arguments.socket.is_some() {
        let message = "--socket names a daemon that runs; `alula.socket` in config.yml names the socket of a new one";
        return Err(CliError::Usage(message.into()));
    }
    if let Some(config) = &arguments.config {
        return Ok(config.clone());
    }
    let Some(root) = &arguments.root else { return Ok(DEFAULT_PATH.into()) };
    let path = root.join(CONFIG_FILE);
    if path.exists() {
        of_root(root)?;
        return Ok(path);
    }
    Err(CliError::Usage(format!(
        "there is no {}; to run a node without a panel, write into it:\n\nsystem:\n  root_directory: .\n\nand to run one \
         with a panel, name its file with --config",
        path.display()
    )))
}

/// The node's configuration.
///
/// # Errors
/// It is missing or invalid.
pub fn config_of(arguments: &NodeArguments) -> Result<NodeConfig, CliError> {
    let path = match (&arguments.config, &arguments.root) {
        (Some(config), _) => config,
        (None, Some(root)) => return of_root(root),
        (None, None) => Path::new(DEFAULT_PATH),
    };
    config::load(path, HostEnvironment::of_this_process()).map(|loaded| loaded.node).map_err(|error| match error {
        ConfigError::Missing { .. } if arguments.config.is_none() => {
            CliError::Failed(format!("{error}; or name a state folder with --root"))
        }
        ConfigError::Unreadable { ref source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            CliError::Failed(format!(
                "{error}; or name the daemon's socket with --socket or {SOCKET_VARIABLE} (`alula.socket` in that file, for \
                 members of `alula.socket_group`)"
            ))
        }
        error => error.into(),
    })
}

fn ignored(folders: Vec<String>) -> Vec<String> {
    folders.iter().map(|message| format!("ignored: {message}")).collect()
}

fn of_root(root: &Path) -> Result<NodeConfig, CliError> {
    let file_error = |source| CliError::File { action: "use the state folder", path: root.to_owned(), source };
    let root = std::path::absolute(root).map_err(file_error)?;
    let path = root.join(CONFIG_FILE);
    if !path.exists() {
        let mut file = ConfigFile::default();
        file.system.root_directory = root.display().to_string();
        let owner = config::host::current_user();
        return NodeConfig::resolve(&file, &path, &|_| None, owner, "UTC".into()).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            CliError::Failed(format!("{}: {}", root.display(), problems.join("; ")))
        });
    }
    let node = config::load(&path, HostEnvironment::of_this_process())?.node;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(&node.directories.root) != real(&root) {
        return Err(CliError::Usage(format!(
            "{} names {} as the state folder, and --root names {}; set `system.root_directory: .` there, or name the \
             file with --config",
            path.display(),
            node.directories.root.display(),
            root.display()
        )));
    }
    Ok(node)
}

impl Node {
    /// Finds the node, and whether its daemon runs.
    ///
    /// # Errors
    /// The node does not exist, or its socket cannot be opened.
    pub async fn open(arguments: &NodeArguments) -> Result<Self, CliError> {
        match &arguments.socket {
            Some(socket) => Self::at_socket(socket).await,
            None => Self::configured(config_of(arguments)?),
        }
    }

    /// The node of a daemon, without its configuration file.
    async fn at_socket(socket: &Path) -> Result<Self, CliError> {
        let Some(client) = Client::find(socket)? else {
            return Err(CliError::Failed(format!(
                "no daemon answers at {} (--socket or {SOCKET_VARIABLE}); start it (`alula run`), or name its configuration \
                 file with --config to read what it has written",
                socket.display()
            )));
        };
        let NodeView { directories, panel, .. } = client.get(NODE).await?;
        // The daemon may know the socket under another path.
        let directories = Directories { socket: socket.to_owned(), ..directories };
        Ok(Self { directories, has_panel: panel, endpoint: Endpoint::Daemon(client) })
    }

    fn configured(config: NodeConfig) -> Result<Self, CliError> {
        let (directories, has_panel) = (config.directories.clone(), config.panel.is_some());
        let root = &directories.root;
        let endpoint = match Client::find(&directories.socket)? {
            Some(client) => Endpoint::Daemon(client),
            None if root.join(SERVERS).is_dir() => Endpoint::Folder(Store::open_to_read(root)?, Arc::new(config)),
            None => {
                return Err(CliError::Failed(format!(
                    "there is no state folder {} (it would have a folder `{SERVERS}`); name the right one with --config or \
                     --root, or start the daemon, which creates it (`alula run`)",
                    root.display()
                )));
            }
        };
        Ok(Self { directories, has_panel, endpoint })
    }

    /// What is wrong with the node as a whole, one message for each. Empty parts of the state folder are no problem.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn troubles(&self) -> Result<Vec<String>, CliError> {
        let Endpoint::Daemon(client) = &self.endpoint else {
            return Ok(ignored(unknown_folders(&self.directories.root.join(SERVERS))));
        };
        let NodeView { conditions, unknown_folders, .. } = client.get(NODE).await?;
        let unmet = conditions.into_iter().filter(|condition| condition.status != ConditionStatus::True);
        let unmet = unmet.map(|condition| format!("node: {}=False: {}", condition.r#type, condition.message));
        Ok(unmet.chain(ignored(unknown_folders)).collect())
    }

    /// Waits until a daemon runs, and reports if that takes longer than a moment.
    pub async fn daemon_again(&self) -> Client {
        let mut waiting = false;
        loop {
            tokio::time::sleep(RECONNECT_DELAY).await;
            // A socket that cannot be opened is treated as if no daemon ran.
            if let Ok(Some(client)) = Client::find(&self.directories.socket) {
                if waiting {
                    output::notify("the daemon runs");
                }
                return client;
            }
            if !std::mem::replace(&mut waiting, true) {
                output::notify("no daemon runs; waiting for it");
            }
        }
    }

    /// The daemon, for a command that writes.
    ///
    /// # Errors
    /// It does not run, or listens on another socket.
    pub fn daemon(&self) -> Result<&Client, CliError> {
        match &self.endpoint {
            Endpoint::Daemon(client) => Ok(client),
            Endpoint::Folder(..) => {
                let servers = self.directories.root.join(SERVERS);
                Err(self.no_daemon(&format!(
                    ", and nothing was done; start it (`alula run`) and try again, or edit the server's file yourself: \
                     {}/{{uuid}}/{CONFIG_FILE}",
                    servers.display()
                )))
            }
        }
    }

    /// The error of a command that needs the daemon. `consequence` follows "no daemon runs on" and the state folder.
    pub fn no_daemon(&self, consequence: &str) -> CliError {
        let none = || format!("no daemon runs on {}{consequence}", self.directories.root.display());
        CliError::Failed(self.unreachable_daemon().unwrap_or_else(none))
    }

    /// The message about a daemon that runs on the state folder and listens on another socket.
    fn unreachable_daemon(&self) -> Option<String> {
        let directories = &self.directories;
        let Holder { pid, config, .. } = lock::daemon_on(&directories.root)?;
        Some(format!(
            "a daemon (pid {pid}) runs on {} but does not answer at {}; name its configuration file with --config {}, or try \
             again if it is just starting or ending",
            directories.root.display(),
            directories.socket.display(),
            config.display()
        ))
    }

    /// Reports on standard error that no daemon answers, and the consequence for the command's output.
    pub fn warn_without_daemon(&self, consequence: &str) {
        if let Endpoint::Folder(..) = self.endpoint {
            output::notify(&format!("{}: {consequence}", self.no_daemon("")));
        }
    }

    /// Every server, ordered by UUID.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn servers(&self) -> Result<Vec<ServerView>, CliError> {
        match &self.endpoint {
            Endpoint::Daemon(client) => client.get("/local/servers").await,
            Endpoint::Folder(store, _) => {
                Ok(store.list().iter().map(|snapshot| server::read(store, snapshot)).collect())
            }
        }
    }

    /// The named servers, or all servers if `names` is empty.
    ///
    /// # Errors
    /// A name is too short, or does not match exactly one server.
    pub async fn pick(&self, names: &[String]) -> Result<Vec<ServerView>, CliError> {
        let servers = self.servers().await?;
        if names.is_empty() { Ok(servers) } else { server::pick(servers, names) }
    }
}
