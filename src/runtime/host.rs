//! What every container engine on this host needs beside its own API: images by the node's policy and one pull for all servers
//! that want it, the network of the servers, volumes as paths, and what the kernel can limit.
//!
//! An implementation of [`Runtime`](super::Runtime) whose containers run on this host keeps one [`Host`], is its [`Engine`], and
//! hands the calls of these subjects on to it.

mod check;
mod engine;
mod follow;
mod images;
mod in_flight;
mod paths;
mod volumes;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::SetOnce;
use tokio::time::Instant;

use super::{BuiltSpec, ContainerSpec, ErrorKind, HostInfo, KernelLimits, NetworkInfo, RuntimeError, spec_builder};
use crate::config::NodeConfig;
use crate::model::ServerId;
use crate::tasks::{Blocking, Tasks};

pub use engine::Engine;
#[cfg(test)]
pub(crate) use follow::MountSource;
pub use follow::kernel_limits;
pub(crate) use paths::Paths;

/// This host, as the containers of an engine on it see it.
pub struct Host {
    node: Arc<NodeConfig>,
    kernel: KernelLimits,
    volumes: volumes::Volumes,
    images: images::Images,
    /// Whether the engine takes new calls.
    pub(crate) check: check::EngineCheck,
    /// The network of the servers as it was last seen.
    network: Mutex<Option<NetworkInfo>>,
    /// The first attempt at that network has ended.
    settled: SetOnce<()>,
    /// When callers no longer wait for it.
    deadline: Instant,
}

impl Host {
    /// The host of this node; `kernel` is what its kernel can limit.
    pub fn new(node: Arc<NodeConfig>, tasks: Tasks, blocking: Blocking, kernel: KernelLimits) -> Self {
        Self {
            kernel,
            volumes: volumes::Volumes::new(node.clone(), Paths::new(blocking)),
            images: images::Images::new(node.clone(), tasks),
            check: check::EngineCheck::default(),
            network: Mutex::default(),
            settled: SetOnce::new(),
            deadline: Instant::now() + crate::wait::LIST_FOR_NETWORK,
            node,
        }
    }

    /// What container specs depend on, as last seen.
    pub fn info(&self) -> HostInfo {
        HostInfo { network: self.network().unwrap_or_default(), kernel: self.kernel }
    }

    /// Makes the network of the servers where it is missing. Whatever comes of it, [`Host::settled`] no longer waits.
    ///
    /// # Errors
    /// It is not there afterwards.
    pub async fn prepare_node(&self, engine: &impl Engine) -> Result<(), RuntimeError> {
        let made = engine.ensure_network(&spec_builder::network(&self.node)).await.map(|network| {
            *self.network.lock().unwrap_or_else(PoisonError::into_inner) = Some(network);
        });
        self.settle();
        made
    }

    /// The network of the servers has been prepared, or cannot be.
    pub fn settle(&self) {
        // Only the first time counts.
        let _ = self.settled.set(());
    }

    /// Waits until the network of the servers has been prepared, cannot be, or has taken too long since the start.
    pub async fn settled(&self) {
        // Callers get by with a network that is late: servers that need it say so.
        let _ = tokio::time::timeout_at(self.deadline, self.settled.wait()).await;
    }

    /// Makes sure that the image and the network of a container are there. A network of the servers that cannot be made is
    /// logged, and becomes an error of the start.
    ///
    /// # Errors
    /// The image, or the container's own network, is not there afterwards.
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

    /// A container was started, or not. If something that it needs is not there it may be the network of the servers, which was
    /// removed: the next attempt finds it.
    ///
    /// # Errors
    /// The start's.
    pub async fn started(&self, engine: &impl Engine, start: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
        if start.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound) {
            self.prepare_node_again(engine).await;
        }
        start
    }

    async fn prepare_node_again(&self, engine: &impl Engine) {
        if let Err(error) = self.prepare_node(engine).await {
            tracing::error!("the servers' network is not ready: {error}");
        }
    }

    /// Fills in the paths of the volumes and the id of the image, see [`Runtime::resolve`](super::Runtime::resolve).
    ///
    /// # Errors
    /// A path that does not answer.
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
    /// Follows paths in another way.
    pub(crate) fn with_paths(self, paths: Paths) -> Self {
        Self { volumes: volumes::Volumes::new(self.node.clone(), paths), ..self }
    }
}

#[cfg(test)]
mod tests;
