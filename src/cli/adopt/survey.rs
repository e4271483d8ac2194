//! What is found on a host that Wings has run: files, containers, and the panel's list. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::cli::plan;
use crate::config::{Loaded, NodeConfig, Problem};
use crate::model::ServerId;
use crate::panel::client::HttpPanel;
use crate::panel::{ListedServer, Panel, PanelServer};
use crate::runtime::{EngineInfo, Listed, Runtime, RuntimeError};
use crate::store::lock::{self, Holder};
use crate::store::states::{FoundStates, read_states};
use crate::store::wings::{self, WingsProcess};

/// How long the engine and the panel have to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Containers that are inspected at the same time.
const CONCURRENCY: usize = 8;

/// What was found.
pub struct Survey {
    pub states: FoundStates,
    /// The servers that have a folder of files.
    pub volumes: BTreeSet<ServerId>,
    pub engine: Result<EngineInfo, String>,
    pub containers: Vec<FoundContainer>,
    /// The panel's servers; `None` without a panel.
    pub panel: Option<Result<BTreeMap<ServerId, OnPanel>, String>>,
    pub wings: Option<WingsProcess>,
    /// The alula that runs on the state folder.
    pub daemon: Option<Holder>,
    /// The context that Docker's command line uses and a daemon does not.
    pub context: Option<String>,
    /// What keeps a daemon from starting here.
    pub problems: Vec<Problem>,
}

/// A server as the panel lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnPanel {
    pub name: String,
    pub suspended: bool,
}

/// A container of a server.
pub struct FoundContainer {
    pub listed: Listed,
    pub image: Option<String>,
}

/// An installation that Wings has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Installer {
    Running,
    Ended,
}

impl Survey {
    /// Looks at this host.
    pub async fn of(loaded: &Loaded, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let node = &loaded.node;
        let (engine, panel) = tokio::join!(containers(node), panel(node));
        let (engine, containers) = match engine {
            Ok((engine, containers)) => (Ok(engine), containers),
            Err(error) => (Err(error), Vec::new()),
        };
        Self {
            states: read_states(&node.directories.root),
            volumes: volumes(node),
            engine,
            containers,
            panel,
            wings: wings::wings_on(node),
            daemon: lock::daemon_on(&node.directories.root),
            context: docker_context(variable),
            problems: Vec::new(),
        }
    }

    /// Every server of which something was found.
    pub fn ids(&self) -> BTreeSet<ServerId> {
        let listed = self.panel.iter().flatten().flat_map(|panel| panel.keys());
        let left = self.states.states.keys();
        let containers = self.containers.iter().map(|found| &found.listed.server);
        self.volumes.iter().chain(listed).chain(left).chain(containers).copied().collect()
    }

    /// The server on the panel.
    pub fn on_panel(&self, id: ServerId) -> Option<&OnPanel> {
        self.panel.as_ref()?.as_ref().ok()?.get(&id)
    }
}

fn volumes(node: &NodeConfig) -> BTreeSet<ServerId> {
    let Some(data) = &node.directories.data else { return BTreeSet::new() };
    let folders = std::fs::read_dir(data).into_iter().flatten().flatten();
    folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

async fn containers(node: &NodeConfig) -> Result<(EngineInfo, Vec<FoundContainer>), String> {
    let engine = plan::engine(&Arc::new(node.clone())).map_err(|error| error.to_string())?;
    let looked = async {
        let info = engine.engine().await?;
        let found = stream::iter(engine.list().await?).map(async |listed| {
            // One that is removed meanwhile has no image.
            let inspected = engine.inspect(listed.server, listed.role).await.ok().flatten();
            FoundContainer { image: inspected.and_then(|found| found.image), listed }
        });
        Ok((info, found.buffered(CONCURRENCY).collect().await))
    };
    let looked = tokio::time::timeout(TIMEOUT, looked).await;
    looked
        .map_err(|_| "the container engine does not answer".to_owned())?
        .map_err(|error: RuntimeError| error.to_string())
}

async fn panel(node: &NodeConfig) -> Option<Result<BTreeMap<ServerId, OnPanel>, String>> {
    let client = HttpPanel::new(node.panel.as_ref()?, false);
    let listed = async {
        let client = client.map_err(|error| error.to_string())?;
        let listed = client.list().await.map_err(|error| error.to_string())?;
        let on_panel = |server: PanelServer| OnPanel { name: server.settings.meta.name, suspended: server.suspended };
        let found = |listed: ListedServer| (listed.id, listed.server.map(on_panel).unwrap_or_default());
        Ok(listed.servers.into_iter().map(found).collect())
    };
    Some(tokio::time::timeout(TIMEOUT, listed).await.unwrap_or_else(|_| Err("the panel does not answer".into())))
}

/// The context of Docker's command line, where it may lead to another engine than the daemon's.
fn docker_context(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DockerConfig {
        current_context: Option<String>,
    }
    if variable("DOCKER_HOST").is_some() {
        return None;
    }
    let home = || Some(PathBuf::from(variable("HOME")?).join(".docker"));
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home)?;
    let config = || serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok();
    let named = variable("DOCKER_CONTEXT").and_then(|name| name.into_string().ok());
    let context = named.or_else(|| config().and_then(|config: DockerConfig| config.current_context));
    context.filter(|context| !context.is_empty() && context != "default")
}
