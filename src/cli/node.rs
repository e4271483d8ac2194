//! Which node is meant, and how it is reached: through its daemon's socket, or, where no daemon runs, in its state folder.
//! Who writes into the folder holds its lock; a daemon on it that does not answer where we ask keeps us from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::NodeArguments;
use super::client::Client;
use super::error::CliError;
use super::output;
use super::server::{self, ServerView};
use crate::clock::Clock;
use crate::config::{self, ConfigError, ConfigFile, DEFAULT_PATH, NodeConfig, Surroundings};
use crate::model::ServerId;
use crate::store::Store;
use crate::store::lock::{self, Holder, LockError, StateLock};

/// The name of the node's configuration file in its state folder.
pub const CONFIG_FILE: &str = "config.yml";

/// The folder of the servers in it.
const SERVERS: &str = "servers";

/// How a node is reached.
pub enum Door {
    /// Its daemon runs.
    Daemon(Client),
    /// No daemon runs: the state folder itself.
    Folder(Store),
}

/// A node that commands are about.
pub struct Node {
    /// Its configuration.
    pub config: Arc<NodeConfig>,
    /// How it is reached.
    pub door: Door,
    /// The right to write into its state folder, where that is the door and the command writes.
    lock: Option<StateLock>,
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
    let surroundings = Surroundings::of_this_process();
    match (&arguments.config, &arguments.root) {
        (Some(config), _) => Ok(config::load(config, surroundings)?.node),
        (None, None) => match config::load(Path::new(DEFAULT_PATH), surroundings) {
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
    let node = config::load(&path, Surroundings::of_this_process())?.node;
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

fn is_there(config: &NodeConfig) -> bool {
    config.directories.root.join(SERVERS).is_dir()
}

fn nowhere(config: &NodeConfig) -> CliError {
    CliError::Failed(format!(
        "there is no state folder {} (it would have a folder `servers`); name the right one with --config or --root, or \
         write the first server into it with `alula apply -f FILE`",
        config.directories.root.display()
    ))
}

/// Who keeps us from the state folder, and what to do.
fn in_use(config: &NodeConfig, holder: Option<&Holder>) -> String {
    let (root, socket) = (config.directories.root.display(), config.directories.socket.display());
    match holder {
        Some(Holder { daemon: false, pid, .. }) => {
            format!("another command (pid {pid}) writes into {root}; try again when it has ended")
        }
        holder => {
            let pid = holder.map(|holder| format!(" (pid {})", holder.pid)).unwrap_or_default();
            let file = holder.and_then(|holder| holder.config.as_ref());
            let file = file.map(|file| format!(" {}", file.display())).unwrap_or_default();
            format!(
                "a daemon{pid} runs on {root} but does not answer at {socket}; name its configuration file with \
                 --config{file}, or try again if it is just starting or ending"
            )
        }
    }
}

impl Node {
    /// Finds the node and looks whether its daemon runs, for a command that reads.
    ///
    /// # Errors
    /// There is no such node, or no permission to ask it.
    pub fn open(arguments: &NodeArguments) -> Result<Self, CliError> {
        Self::there(Arc::new(config_of(arguments)?))
    }

    /// The same where there may be no state folder yet: then it finds nothing.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn find(arguments: &NodeArguments) -> Result<Option<Self>, CliError> {
        Self::look(Arc::new(config_of(arguments)?))
    }

    /// The same for a command that writes.
    ///
    /// # Errors
    /// As [`Node::open`]; somebody else works in the state folder.
    pub async fn open_to_write(arguments: &NodeArguments) -> Result<Self, CliError> {
        Self::locked(Arc::new(config_of(arguments)?), false).await
    }

    /// The same for a command that may be a state folder's first: it is made where it is missing.
    ///
    /// # Errors
    /// As [`Node::open_to_write`].
    pub async fn open_or_create(arguments: &NodeArguments) -> Result<Self, CliError> {
        Self::locked(Arc::new(config_of(arguments)?), true).await
    }

    /// Looks again whether the daemon runs.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn reopen(&self) -> Result<Self, CliError> {
        Self::there(self.config.clone())
    }

    /// The node as it is now, to write.
    ///
    /// # Errors
    /// As [`Node::open_to_write`].
    pub async fn to_write(&self) -> Result<Self, CliError> {
        Self::locked(self.config.clone(), false).await
    }

    fn there(config: Arc<NodeConfig>) -> Result<Self, CliError> {
        Self::look(config.clone())?.ok_or_else(|| nowhere(&config))
    }

    fn look(config: Arc<NodeConfig>) -> Result<Option<Self>, CliError> {
        let directories = &config.directories;
        if let Some(client) = Client::find(&directories.socket)? {
            return Ok(Some(Self { config, door: Door::Daemon(client), lock: None }));
        }
        if !is_there(&config) {
            return Ok(None);
        }
        let store = Store::open_for_command(&directories.root)?;
        Ok(Some(Self { config, door: Door::Folder(store), lock: None }))
    }

    async fn locked(config: Arc<NodeConfig>, create: bool) -> Result<Self, CliError> {
        let directories = &config.directories;
        if let Some(client) = Client::find(&directories.socket)? {
            return Ok(Self { config, door: Door::Daemon(client), lock: None });
        }
        if !create && !is_there(&config) {
            return Err(nowhere(&config));
        }
        match StateLock::take(&directories.root, &Holder::command()).await {
            Ok(lock) => {
                // Read only now: what others have written before is seen, and nobody writes beside us.
                let store = Store::open_for_command(&directories.root)?;
                Ok(Self { config, door: Door::Folder(store), lock: Some(lock) })
            }
            // It may be a daemon that has just come up.
            Err(LockError::Held(holder)) => match Client::find(&directories.socket)? {
                Some(client) => Ok(Self { config, door: Door::Daemon(client), lock: None }),
                None => Err(CliError::Failed(in_use(&config, holder.as_ref()))),
            },
            Err(LockError::Disk { action, path, source }) => Err(CliError::File { action, path, source }),
        }
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
        let Door::Folder(_) = self.door else { return };
        let root = &self.config.directories.root;
        let hidden = if self.lock.is_some() { None } else { lock::daemon_on(root) };
        let why = match hidden {
            Some(holder) => in_use(&self.config, Some(&holder)),
            None => format!("no daemon runs on {}", root.display()),
        };
        output::tell(&format!("{why}: {consequence}"));
    }

    /// Every server, ordered by UUID.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn servers(&self) -> Result<Vec<ServerView>, CliError> {
        match &self.door {
            Door::Daemon(client) => client.get("/local/servers").await,
            Door::Folder(store) => Ok(store.list().iter().map(|snapshot| server::read(store, snapshot)).collect()),
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

    /// Now.
    pub fn now(&self) -> crate::model::Timestamp {
        Clock::System.now()
    }
}
