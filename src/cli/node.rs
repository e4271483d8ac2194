//! Which node is meant, and how it is reached: through its daemon's socket, or, to read where no daemon runs, in its state
//! folder. Only the daemon writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::arguments::NodeArguments;
use super::client::Client;
use super::error::CliError;
use super::output;
use super::server::{self, ServerView};
use crate::config::{self, ConfigError, ConfigFile, DEFAULT_PATH, HostEnvironment, NodeConfig};
use crate::model::ServerId;
use crate::store::Store;
use crate::store::lock::{self, Holder};

/// The name of the node's configuration file in its state folder.
pub const CONFIG_FILE: &str = "config.yml";

/// How long a daemon that is away is left alone before it is looked for again.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// The folder of the servers in it.
const SERVERS: &str = "servers";

/// How a node is reached.
pub enum Endpoint {
    /// Its daemon runs.
    Daemon(Client),
    /// No daemon was found: the state folder itself, to read.
    Folder(Store),
}

/// A node that commands are about.
pub struct Node {
    /// Its configuration.
    pub config: Arc<NodeConfig>,
    /// How it is reached.
    pub endpoint: Endpoint,
}

/// The file that `run` starts the daemon from.
///
/// # Errors
/// The state folder that was named has none.
pub fn config_path(arguments: &NodeArguments) -> Result<PathBuf, CliError> {
    if let Some(config) = &arguments.config {
        return Ok(config.clone());
    }
    let Some(root) = &arguments.root else { return Ok(DEFAULT_PATH.into()) };
    let path = root.join(CONFIG_FILE);
    if path.exists() {
        // Found out here, so that the folder that was named is the one that is used.
        config_of(arguments)?;
        return Ok(path);
    }
    Err(CliError::Usage(format!(
        "there is no {}; to run a node without a panel, write into it:\n\nsystem:\n  root_directory: .\n\nand to run one \
         with a panel, name its file with --config",
        path.display()
    )))
}

/// What the named node's configuration is.
///
/// # Errors
/// Its file is missing or broken, or belongs to another state folder.
pub fn config_of(arguments: &NodeArguments) -> Result<NodeConfig, CliError> {
    let host_environment = HostEnvironment::of_this_process();
    match (&arguments.config, &arguments.root) {
        (Some(config), _) => Ok(config::load(config, host_environment)?.node),
        (None, None) => match config::load(Path::new(DEFAULT_PATH), host_environment) {
            Ok(loaded) => Ok(loaded.node),
            Err(error @ ConfigError::Missing { .. }) => Err(CliError::NoConfig(error)),
            Err(error) => Err(error.into()),
        },
        (None, Some(root)) => of_root(root),
    }
}

fn of_root(root: &Path) -> Result<NodeConfig, CliError> {
    let file_error = |source| CliError::File { action: "use the state folder", path: root.to_owned(), source };
    let root = std::path::absolute(root).map_err(file_error)?;
    let path = root.join(CONFIG_FILE);
    if !path.exists() {
        let mut file = ConfigFile::default();
        file.system.root_directory = root.display().to_string();
        let owner = config::host::current_user();
        return NodeConfig::resolve(&file, &path, &|_| None, owner, "UTC".into())
            .map_err(|problem| CliError::Root { root, problem });
    }
    let node = config::load(&path, HostEnvironment::of_this_process())?.node;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(&node.directories.root) != real(&root) {
        return Err(CliError::Usage(format!(
            "{} says that the state folder is {}, and --root says {}; set `system.root_directory: .` there, or name the \
             file with --config",
            path.display(),
            node.directories.root.display(),
            root.display()
        )));
    }
    Ok(node)
}

/// Why something in `servers/` is no server, and what to do.
fn stranger(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    match uuid::Uuid::try_parse(name) {
        Ok(uuid) => {
            let id = ServerId::new(uuid);
            format!("{} is no server: its UUID is not in lower case with dashes; rename it to {id}", path.display())
        }
        Err(_) => format!(
            "{} is no server: its name is no UUID; rename it to the server's UUID, or move it out of {SERVERS}/",
            path.display()
        ),
    }
}

fn nowhere(config: &NodeConfig) -> CliError {
    CliError::Failed(format!(
        "there is no state folder {} (it would have a folder `servers`); name the right one with --config or --root, or \
         start the daemon, which makes it (`alula run`)",
        config.directories.root.display()
    ))
}

/// Which daemon runs on the state folder and does not answer, and what to do.
fn in_use(config: &NodeConfig, Holder { pid, config: file }: &Holder) -> String {
    format!(
        "a daemon (pid {pid}) runs on {} but does not answer at {}; name its configuration file with --config {}, or try \
         again if it is just starting or ending",
        config.directories.root.display(),
        config.directories.socket.display(),
        file.display()
    )
}

impl Node {
    /// Finds the node and whether its daemon runs.
    ///
    /// # Errors
    /// There is no such node, or no permission to ask it.
    pub fn open(arguments: &NodeArguments) -> Result<Self, CliError> {
        Self::of(Arc::new(config_of(arguments)?))
    }

    /// Waits until a daemon can be asked, a moment at least, and says so if that takes longer.
    pub async fn daemon_again(&self) -> Client {
        let mut away = false;
        loop {
            tokio::time::sleep(RECONNECT_DELAY).await;
            // Someone else's daemon, or a socket that cannot be opened, is no daemon.
            if let Ok(Some(client)) = Client::find(&self.config.directories.socket) {
                if away {
                    output::tell("the daemon runs");
                }
                return client;
            }
            if !std::mem::replace(&mut away, true) {
                output::tell("no daemon runs; waiting for it");
            }
        }
    }

    fn of(config: Arc<NodeConfig>) -> Result<Self, CliError> {
        let directories = &config.directories;
        let endpoint = match Client::find(&directories.socket)? {
            Some(client) => Endpoint::Daemon(client),
            None if directories.root.join(SERVERS).is_dir() => {
                Endpoint::Folder(Store::open_to_read(&directories.root)?)
            }
            None => return Err(nowhere(&config)),
        };
        Ok(Self { config, endpoint })
    }

    /// The daemon, for a command that writes.
    ///
    /// # Errors
    /// It does not run, or not where it is looked for.
    pub fn daemon(&self) -> Result<&Client, CliError> {
        if let Endpoint::Daemon(client) = &self.endpoint {
            return Ok(client);
        }
        Err(self.no_daemon(|root| {
            format!(
                "no daemon runs on {root}, and nothing was done; start it (`alula run`) and try again, or edit the \
                 server's file yourself: {root}/{SERVERS}/{{uuid}}/config.yml"
            )
        }))
    }

    /// Why a command that needs the daemon does nothing: it runs elsewhere, or `message` of the state folder.
    pub fn no_daemon(&self, message: impl FnOnce(std::path::Display<'_>) -> String) -> CliError {
        let root = self.config.directories.root.display();
        CliError::Failed(self.hidden_daemon().unwrap_or_else(|| message(root)))
    }

    /// What to say of a daemon that runs and does not answer where it is looked for.
    fn hidden_daemon(&self) -> Option<String> {
        lock::daemon_on(&self.config.directories.root).map(|holder| in_use(&self.config, &holder))
    }

    /// What lies among the servers' folders and is none of them, each with what to do about it.
    pub fn strangers(&self) -> Vec<String> {
        let folder = self.config.directories.root.join(SERVERS);
        let mut strangers: Vec<String> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|item| item.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.') && name.parse::<ServerId>().is_err())
            .map(|name| stranger(&folder, &name))
            .collect();
        strangers.sort();
        strangers
    }

    /// Says on standard error that no daemon runs, or none that answers, and what follows from it.
    pub fn warn_without_daemon(&self, consequence: &str) {
        let Endpoint::Folder(_) = self.endpoint else { return };
        let none = || format!("no daemon runs on {}", self.config.directories.root.display());
        output::tell(&format!("{}: {consequence}", self.hidden_daemon().unwrap_or_else(none)));
    }

    /// Every server, ordered by UUID.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn servers(&self) -> Result<Vec<ServerView>, CliError> {
        match &self.endpoint {
            Endpoint::Daemon(client) => client.get("/local/servers").await,
            Endpoint::Folder(store) => Ok(store.list().iter().map(|snapshot| server::read(store, snapshot)).collect()),
        }
    }

    /// The servers that are meant: those named, or all where none is.
    ///
    /// # Errors
    /// A name is no beginning of a UUID, or of none, or of several.
    pub async fn pick(&self, names: &[String]) -> Result<Vec<ServerView>, CliError> {
        let servers = self.servers().await?;
        if names.is_empty() { Ok(servers) } else { server::pick(servers, names) }
    }
}
