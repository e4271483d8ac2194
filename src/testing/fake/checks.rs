//! Checks of the fake engine before it creates or starts a container.

use super::container::Container;
use super::images::canonical;
use super::program::Program;
use super::rejection::Rejection;
use super::state::State;
use crate::runtime::ContainerSpec;

impl State {
    pub(super) fn reject_creation(&self, spec: &ContainerSpec) -> Option<Rejection> {
        if let Some(other) = self.containers.values().find(|other| other.name == spec.name) {
            return Some(Rejection::new(
                409,
                format!(
                    "Conflict. The container name \"/{}\" is already in use by container \"{}\". You have to \
                     remove (or rename) that container to be able to reuse that name.",
                    spec.name, other.id
                ),
            ));
        }
        if !self.images.local.contains_key(&canonical(&spec.image)) {
            return Some(Rejection::new(404, format!("No such image: {}", spec.image)));
        }
        self.reject_mounts(spec)
    }

    fn reject_mounts(&self, spec: &ContainerSpec) -> Option<Rejection> {
        let paths = spec.volumes.iter().map(|volume| volume.path.as_deref().unwrap_or_default());
        let path = paths.filter(|_| self.checks_mounts).find(|path| !std::path::Path::new(path).exists())?;
        let text = "invalid mount config for type \"bind\": bind source path does not exist";
        Some(Rejection::new(400, format!("{text}: {path}")))
    }

    pub(super) fn reject_start(&self, number: u64, program: &Program) -> Option<Rejection> {
        let container = &self.containers[&number];
        if let Some(message) = &program.unstartable {
            return Some(Rejection::new(400, message.clone()));
        }
        if let Some(rejection) = self.reject_mounts(&container.spec) {
            return Some(rejection);
        }
        let endpoint = container.spec.endpoint.as_ref().map(|endpoint| endpoint.network.as_str());
        for network in endpoint.into_iter().chain([container.spec.network_mode.as_str()]) {
            let built_in = matches!(network, "" | "default" | "bridge" | "host" | "none");
            if !built_in && !network.starts_with("container:") && !self.networks.contains_key(network) {
                return Some(Rejection::new(404, format!("network {network} not found")));
            }
        }
        self.reject_ports(container)
    }

    fn reject_ports(&self, container: &Container) -> Option<Rejection> {
        let overlap = |one: &str, other: &str| one == other || one == "0.0.0.0" || other == "0.0.0.0";
        let failed = format!("driver failed programming external connectivity on endpoint {}", container.name);
        for wanted in &container.spec.ports {
            let running = self.containers.values().filter(|other| other.running());
            let taken = |port: u16, address: &str| port == wanted.port && overlap(address, &wanted.address);
            let socket = format!("{}:{}", wanted.address, wanted.port);
            if running.flat_map(|other| &other.spec.ports).any(|other| taken(other.port, &other.address)) {
                let text = format!("{failed}: Bind for {socket} failed: port is already allocated");
                return Some(Rejection::new(500, text));
            }
            if self.taken_ports.iter().any(|(address, port)| taken(*port, address)) {
                let text = format!("{failed}: listen tcp4 {socket}: bind: address already in use");
                return Some(Rejection::new(500, text));
            }
        }
        None
    }
}
