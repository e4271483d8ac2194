//! The runtime over the Docker API: Docker 20.10 and later, and Podman's socket that speaks the same.
//!
//! A client connects at the first call, so an engine that is unreachable or restarts is an error of the calls meanwhile. The API
//! version is negotiated at the first call, and again after the engine was unreachable.
//!
//! bollard sends most requests, and no type of bollard leaves this module. Two kinds of answers are read here, from the same pool of
//! connections. Streams (terminals, logs, events, pulls): bollard's decoders search for frame headers in a terminal's raw bytes and
//! buffer lines of any length, and containers and registries decide what is in them. The listing and inspections: bollard's types
//! have the states of Docker, but not those of Podman.
//!
//! Containers come in as [`ContainerSpec`] and leave as [`ContainerStatus`]; errors leave as [`RuntimeError`].

mod connection;
mod containers;
mod error;
mod events;
mod images;
mod lines;
mod networks;
mod podman;
mod stats;
mod streams;
mod subnets;
mod wire;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast;

use super::cgroup::Cgroups;
use super::host::{Engine, Host};
use super::spec_builder;
use super::{
    Attachment, BuiltSpec, ContainerSpec, Counters, EngineDiskUsage, EngineInfo, ErrorKind, HostInfo, Limits, Listed,
    LogPart, Meter, NetworkInfo, NetworkSpec, Output, PruneReport, PullLine, Purpose, Removal, Runtime, RuntimeError,
    RuntimeEvent, container_name,
};
use crate::config::RegistryFile;
use crate::model::{ContainerStatus, Role, ServerId};
pub use connection::{Address, InvalidAddress};
use wire::Wire;

/// The limit of calls that are answered at once.
const QUICK: Duration = Duration::from_secs(10);
/// The panel waits for 30 seconds.
const PRUNE: Duration = Duration::from_secs(25);
const PING: Duration = Duration::from_secs(3);
const START: Duration = Duration::from_secs(30);
const CREATE: Duration = Duration::from_secs(60);
/// The engine kills the container and removes its layers and volumes.
const REMOVE: Duration = Duration::from_secs(60);

/// The engine behind a Docker API.
#[derive(Clone)]
pub struct DockerRuntime {
    host: Arc<Host>,
    wire: Arc<Wire>,
    docker: Docker,
    /// Hash of the limits applied last, by container, because labels cannot be changed. After a restart the limits may be
    /// applied once more.
    current_limits: Arc<Mutex<HashMap<String, String>>>,
    cgroups: Arc<Cgroups>,
}

impl DockerRuntime {
    /// A client of the engine at `address`, on this host. It connects at the first call.
    pub fn connect(address: Address, host: Host) -> Self {
        let wire = Arc::new(Wire::new(address));
        let transport = {
            let wire = wire.clone();
            move |request| {
                let wire = wire.clone();
                async move { wire.send(request).await }
            }
        };
        // In seconds, and longer than the limits of all calls here.
        let backstop = 2 * REMOVE.as_secs();
        let docker =
            Docker::connect_with_custom_transport(transport, Some(wire::BASE), backstop, bollard::API_DEFAULT_VERSION)
                .expect("a custom transport needs no preparation that could fail");
        let cgroups = Arc::new(Cgroups::of_host(Path::new("/proc")));
        Self { host: Arc::new(host), wire, docker, current_limits: Arc::default(), cgroups }
    }

    /// Waits for an answer, at most for `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        attempt: impl FnOnce() -> String + Send,
        answer: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(attempt(), &error)),
            Err(_) => Err(RuntimeError::timeout(attempt(), limit)),
        }
    }

    fn failed(&self, attempt: String, error: &Error) -> RuntimeError {
        let error = error::translate(attempt, error, self.wire.address());
        if error.kind == ErrorKind::Unavailable {
            // The engine may have another version when it is reachable again.
            self.wire.forget_version();
        }
        error
    }

    fn current_limits(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.current_limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn host(&self) -> HostInfo {
        self.host.info()
    }

    fn pulls(&self) -> broadcast::Receiver<PullLine> {
        self.host.pulls()
    }

    async fn prepare_node(&self) -> Result<(), RuntimeError> {
        self.host.prepare_node(self).await
    }

    async fn node_settled(&self) {
        self.host.settled().await;
    }

    async fn resolve(&self, server: ServerId, built: BuiltSpec) -> Result<BuiltSpec, RuntimeError> {
        self.host.resolve(server, built).await
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.host.prepare(self, spec).await
    }

    async fn engine(&self) -> Result<EngineInfo, RuntimeError> {
        let answer = containers::engine(&self.docker);
        self.within(QUICK, || "inspecting the container engine".into(), answer).await
    }

    async fn disk_usage(&self) -> Result<EngineDiskUsage, RuntimeError> {
        let answer = stats::disk_usage(&self.wire);
        self.within(QUICK, || "measuring the disk usage of the container engine".into(), answer).await
    }

    async fn prune_images(&self) -> Result<PruneReport, RuntimeError> {
        let answer = stats::prune_images(&self.wire);
        self.within(PRUNE, || "removing unused images".into(), answer).await
    }

    async fn list(&self) -> Result<Vec<Listed>, RuntimeError> {
        let listed = self
            .within(QUICK, || "listing containers".into(), containers::list(&self.wire, self.host.identity()))
            .await?;
        self.current_limits().retain(|id, _| listed.iter().any(|container| container.id == *id));
        Ok(listed)
    }

    async fn ping(&self) -> Result<(), RuntimeError> {
        let answer = self.wire.ping();
        self.host.check.run(self.within(PING, || "checking the container engine".into(), answer)).await
    }

    async fn inspect(&self, server: ServerId, role: Role) -> Result<Option<ContainerStatus>, RuntimeError> {
        let name = container_name(server, role);
        let answer = containers::inspect(&self.wire, self.host.identity(), server, role);
        let mut status = self.within(QUICK, || format!("inspecting the container {name}"), answer).await?;
        if let Some(status) = &mut status
            && let Some(is_current) = self.current_limits().get(&status.id)
        {
            status.limits_hash = Some(is_current.clone());
        }
        Ok(status)
    }

    async fn create(&self, spec: &ContainerSpec, purpose: &Purpose) -> Result<String, RuntimeError> {
        let attempt = || format!("creating the container {} from the image {}", spec.name, spec.image);
        let identity = self.host.identity();
        let created = self.within(CREATE, attempt, containers::create(&self.docker, identity, spec, purpose)).await;
        if !created.as_ref().is_err_and(|error| error.kind == ErrorKind::NameTaken) {
            return created;
        }
        match self.within(QUICK, attempt, containers::other_node(&self.wire, identity, &spec.name)).await {
            Ok(Some((container, other))) => Err(RuntimeError::held_by_other_node(attempt(), &container, &other)),
            _ => created,
        }
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let attempt = || format!("starting the container {id}");
        let start = self.within(START, attempt, containers::start(&self.docker, id)).await;
        self.host.started(self, start).await
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        let attempt = || format!("sending {signal} to the container {id}");
        self.within(QUICK, attempt, containers::signal(&self.docker, id, signal)).await
    }

    async fn freeze(&self, id: &str, frozen: bool) -> Result<(), RuntimeError> {
        let attempt = || format!("{} the container {id}", if frozen { "freezing" } else { "thawing" });
        self.within(QUICK, attempt, containers::freeze(&self.docker, id, frozen)).await
    }

    async fn remove(&self, id: &str) -> Result<Removal, RuntimeError> {
        let attempt = || format!("removing the container {id}");
        let removal = self.within(REMOVE, attempt, containers::remove(&self.docker, id)).await?;
        if removal == Removal::Done {
            self.current_limits().remove(id);
        }
        Ok(removal)
    }

    async fn update(&self, id: &str, limits: &Limits) -> Result<(), RuntimeError> {
        let attempt = || format!("changing the limits of the container {id}");
        let there = self.within(QUICK, attempt, containers::update(&self.docker, &self.wire, id, limits)).await?;
        if there {
            self.current_limits().insert(id.to_owned(), limits.hash());
        }
        Ok(())
    }

    async fn remove_network(&self, server: ServerId) -> Result<(), RuntimeError> {
        let name = spec_builder::server_network_name(server);
        self.within(QUICK, || format!("removing the network {name}"), networks::remove(&self.docker, &name)).await
    }

    async fn attach(&self, id: &str) -> Result<Attachment, RuntimeError> {
        let attempt = || format!("attaching to the container {id}");
        self.within(QUICK, attempt, streams::attach(&self.wire, id)).await
    }

    async fn logs(&self, id: &str, part: LogPart) -> Result<Output, RuntimeError> {
        let attempt = || format!("reading the log of the container {id}");
        self.within(QUICK, attempt, streams::logs(&self.wire, id, part)).await
    }

    fn meter(&self, container: &ContainerStatus) -> Option<Box<dyn Meter>> {
        Some(Box::new(self.cgroups.meter(&container.id, container.process?)?))
    }

    async fn counters(&self, id: &str) -> Result<Counters, RuntimeError> {
        let attempt = || format!("reading the statistics of the container {id}");
        self.within(QUICK, attempt, stats::counters(&self.wire, id)).await
    }

    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let attempt = || "listening to the container engine's events".into();
        let events = self.within(QUICK, attempt, events::listen(&self.wire, self.host.identity().clone())).await;
        if events.is_err() {
            self.host.settle();
        }
        events
    }
}

#[async_trait]
impl Engine for DockerRuntime {
    async fn image(&self, reference: &str) -> Result<Option<String>, RuntimeError> {
        let answer = images::id(&self.docker, reference);
        self.within(QUICK, || format!("looking for the image {reference}"), answer).await
    }

    async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryFile>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        // The host limits the time of a pull.
        let pulled = images::pull(&self.wire, reference, auth, progress).await;
        pulled.map_err(|error| self.failed(format!("pulling the image {reference}"), &error))
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkInfo, RuntimeError> {
        let answer = networks::ensure(&self.wire, &self.docker, spec);
        self.within(CREATE, || format!("creating the network {}", spec.name), answer).await
    }
}

#[cfg(test)]
mod tests;
