//! Which node is meant, and how it is reached: through its daemon's socket, or, where no daemon runs, in its state folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::NodeArguments;
use super::client::Client;
use super::error::CliError;
use super::output;
use super::server::{self, ServerView};
use crate::clock::Clock;
use crate::config::{self, ConfigError, ConfigFile, DEFAULT_PATH, NodeConfig, Surroundings};
use crate::store::Store;

/// The name of the node's configuration file in its state folder.
pub const CONFIG_FILE: &str = "config.yml";

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

impl Node {
    /// Finds the node and looks whether its daemon runs.
    ///
    /// # Errors
    /// There is no such node, or no permission to ask it.
    pub fn open(arguments: &NodeArguments) -> Result<Self, CliError> {
        Self::of(Arc::new(config_of(arguments)?), false)
    }

    /// The same for a command that may be a state folder's first: it is made where it is missing.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn open_or_create(arguments: &NodeArguments) -> Result<Self, CliError> {
        Self::of(Arc::new(config_of(arguments)?), true)
    }

    /// Looks again whether the daemon runs.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn reopen(&self) -> Result<Self, CliError> {
        Self::of(self.config.clone(), false)
    }

    fn of(config: Arc<NodeConfig>, create: bool) -> Result<Self, CliError> {
        let directories = &config.directories;
        if let Some(client) = Client::find(&directories.socket)? {
            return Ok(Self { config, door: Door::Daemon(client) });
        }
        if !create && !directories.root.join("servers").is_dir() {
            return Err(CliError::Failed(format!(
                "there is no state folder {} (it would have a folder `servers`); name the right one with --config or \
                 --root, or write the first server into it with `alula apply -f FILE`",
                directories.root.display()
            )));
        }
        let store = Store::open_for_command(&directories.root)?;
        Ok(Self { config, door: Door::Folder(store) })
    }

    /// Says on standard error that no daemon runs, and what follows from it.
    pub fn warn_without_daemon(&self, consequence: &str) {
        if let Door::Folder(_) = self.door {
            output::tell(&format!("no daemon runs on {}: {consequence}", self.config.directories.root.display()));
        }
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
