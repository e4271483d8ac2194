//! The part of a runtime that is the same for every engine on this host: images by the node's policy, the network of the
//! servers, the paths of volumes, and what the kernel can limit.
//!
//! An implementation of [`Runtime`](super::Runtime) for this host has one [`Host`], and is its [`Engine`].

mod check;
mod engine;
mod follow;
mod images;
mod in_flight;
mod paths;
mod volumes;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{SetOnce, broadcast};
use tokio::time::Instant;

use super::{
    BuiltSpec, ContainerSpec, ErrorKind, HostInfo, KernelLimits, NetworkInfo, PullLine, RuntimeError, spec_builder,
};
use crate::config::NodeConfig;
use crate::model::{NodeIdentity, ServerId};
use crate::tasks::{Blocking, Tasks};

pub use engine::Engine;
#[cfg(test)]
pub(crate) use follow::MountSource;
pub use follow::kernel_limits;
pub(crate) use paths::Paths;

/// This host, as its containers depend on it.
pub struct Host {
    node: Arc<NodeConfig>,
    kernel: KernelLimits,
    identity: Arc<NodeIdentity>,
    volumes: volumes::Volumes,
    images: images::Images,
    pub(crate) check: check::EngineCheck,
    /// The network of the servers, as observed last.
    network: Mutex<Option<NetworkInfo>>,
    /// Set when the first attempt to create the network has ended.
    settled: SetOnce<()>,
    /// Until when callers wait for `settled`.
    deadline: Instant,
}

impl Host {
    /// The host of a node without an identity, see [`Host::with_identity`].
    pub fn new(node: Arc<NodeConfig>, tasks: Tasks, blocking: Blocking, kernel: KernelLimits) -> Self {
        Self {
            kernel,
            identity: Arc::default(),
            volumes: volumes::Volumes::new(node.clone(), Paths::new(blocking)),
            images: images::Images::new(node.clone(), tasks),
            check: check::EngineCheck::default(),
            network: Mutex::default(),
            settled: SetOnce::new(),
            deadline: Instant::now() + crate::wait::LIST_FOR_NETWORK,
            node,
        }
    }

    /// Containers have the labels of this node.
    pub fn with_identity(self, identity: NodeIdentity) -> Self {
        Self { identity: Arc::new(identity), ..self }
    }

    /// The node, whose containers have its labels.
    pub fn identity(&self) -> &Arc<NodeIdentity> {
        &self.identity
    }

    /// What container specs depend on, as observed last.
    pub fn info(&self) -> HostInfo {
        HostInfo { network: self.network().unwrap_or_default(), kernel: self.kernel, identity: self.identity.clone() }
    }

    /// Subscribes to the progress of all pulls from now on.
    pub fn pulls(&self) -> broadcast::Receiver<PullLine> {
        self.images.lines()
    }

    /// Creates the network of the servers if it is missing. Afterwards [`Host::settled`] does not wait.
    ///
    /// # Errors
    /// The network does not exist.
    pub async fn prepare_node(&self, engine: &impl Engine) -> Result<(), RuntimeError> {
        let made = engine.ensure_network(&spec_builder::network(&self.node)).await.map(|network| {
            *self.network.lock().unwrap_or_else(PoisonError::into_inner) = Some(network);
        });
        self.settle();
        made
    }

    /// Ends the wait of [`Host::settled`].
    pub fn settle(&self) {
        // Only the first time counts.
        let _ = self.settled.set(());
    }

    /// Waits until the network of the servers was created or failed, or a few seconds after the start of the daemon.
    pub async fn settled(&self) {
        // Without the network only the starts of servers that need it fail.
        let _ = tokio::time::timeout_at(self.deadline, self.settled.wait()).await;
    }

    /// Ensures that the image and the network of a container exist. If the network of the servers cannot be created, the error is
    /// logged, and the start fails.
    ///
    /// # Errors
    /// The image or the container's own network does not exist.
    pub async fn prepare(&self, engine: &impl Engine, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.images.ensure(engine, &spec.image, spec.local_image).await?;
        match &spec.own_network {
            Some(network) => engine.ensure_network(network).await.map(drop),
            None if self.network().is_none() => {
                self.prepare_node_again(engine).await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the result of a start. If something was not found, the network of the servers may have been removed: it is created
    /// again for the next attempt.
    ///
    /// # Errors
    /// Those of the start.
    pub async fn started(&self, engine: &impl Engine, start: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
        if start.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound) {
            self.prepare_node_again(engine).await;
        }
        start
    }

    async fn prepare_node_again(&self, engine: &impl Engine) {
        if let Err(error) = self.prepare_node(engine).await {
            tracing::error!(%error, "cannot create the network of the servers");
        }
    }

    /// Adds the paths of the volumes and the id of the image, see [`Runtime::resolve`](super::Runtime::resolve).
    ///
    /// # Errors
    /// A file system does not answer.
    pub async fn resolve(&self, server: ServerId, mut built: BuiltSpec) -> Result<BuiltSpec, RuntimeError> {
        self.volumes.resolve(server, &mut built).await?;
        built.spec.image_id = self.images.id(&built.spec.image);
        Ok(built)
    }

    fn network(&self) -> Option<NetworkInfo> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
impl Host {
    /// Replaces how paths are resolved.
    pub(crate) fn with_paths(self, paths: Paths) -> Self {
        Self { volumes: volumes::Volumes::new(self.node.clone(), paths), ..self }
    }
}

#[cfg(test)]
mod tests;
