//! Containers: specs to create bodies, inspections to status, and the calls that change one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Error;
use super::wire::Wire;
use crate::model::{ContainerState, ContainerStatus, Role, ServerId, Timestamp};
use crate::runtime::{
    CPU_PERIOD, ContainerSpec, EngineInfo, LABEL_LIMITS, LABEL_ROLE, LABEL_SERVER, LABEL_SPEC, LABEL_TOKEN, Limits,
    Listed, Purpose, Removal, Volume, parse_container_name,
};

/// The relative weight of a container with limited CPU time. It is the default of engines.
const CPU_SHARES: i64 = 1024;

/// Reads version and size of the engine.
pub(super) async fn engine(wire: &Wire) -> Result<EngineInfo, Error> {
    let info: Value = wire.get("/info").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let counts = ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped"];
    let mut details = info["DriverStatus"].as_array().into_iter().flatten();
    Ok(EngineInfo {
        version: text(&info["ServerVersion"]),
        cgroup_driver: text(&info["CgroupDriver"]),
        cgroup_version: text(&info["CgroupVersion"]),
        containers: counts.map(|key| info[key].as_i64().unwrap_or_default()),
        storage_driver: text(&info["Driver"]),
        storage_filesystem: details
            .find(|pair| pair[0] == "Backing Filesystem")
            .map(|pair| text(&pair[1]))
            .unwrap_or_default(),
        // Podman does not return the version, only the program.
        runc: Some(text(&info["RuncCommit"]["ID"]))
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| text(&info["DefaultRuntime"])),
    })
}

/// A container in a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<HashMap<String, String>>,
    state: String,
}

/// An inspected container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Inspection {
    id: String,
    state: EngineState,
    config: EngineConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EngineState {
    status: String,
    running: bool,
    exit_code: i64,
    /// Why the last start failed; empty if it did not.
    error: String,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    started_at: String,
    finished_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EngineConfig {
    labels: Option<HashMap<String, String>>,
    /// Podman may write a number.
    stop_signal: Value,
}

/// Lists the containers of all servers, by labels or names.
pub(super) async fn list(wire: &Wire) -> Result<Vec<Listed>, Error> {
    let all: Vec<Summary> = wire.get("/containers/json?all=true").await?;
    Ok(all.into_iter().filter_map(listed).collect())
}

fn listed(container: Summary) -> Option<Listed> {
    let labels = container.labels.unwrap_or_default();
    let names = container.names.unwrap_or_default();
    let (server, role) = belongs_to(|label| labels.get(label).map(String::as_str), names.iter().map(String::as_str))?;
    Some(Listed { server, role, id: container.id, running: runs(&container.state) })
}

/// Whether a container in this state runs. `stopping` is a state of Podman.
fn runs(status: &str) -> bool {
    matches!(status, "running" | "paused" | "restarting" | "stopping")
}

/// The server and the role of a container, by its labels, or by one of its names.
pub(super) fn belongs_to<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    mut names: impl Iterator<Item = &'a str>,
) -> Option<(ServerId, Role)> {
    let role = |word: &str| [Role::Server, Role::Installer].into_iter().find(|role| role.as_str() == word);
    let labelled = || Some((label(LABEL_SERVER)?.parse().ok()?, role(label(LABEL_ROLE)?)?));
    labelled().or_else(|| names.find_map(parse_container_name))
}

/// Inspects a container by its name or id.
pub(super) async fn inspect(wire: &Wire, name: &str) -> Result<Option<ContainerStatus>, Error> {
    Ok(found(inspection(wire, name).await)?.map(Inspection::status))
}

pub(super) async fn inspection(wire: &Wire, name: &str) -> Result<Inspection, Error> {
    wire.get(&format!("/containers/{name}/json")).await
}

impl Inspection {
    /// Whether the container has run and ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.state(), ContainerState::Exited { .. })
    }

    fn status(self) -> ContainerStatus {
        let mut labels = self.config.labels.unwrap_or_default();
        let (started_at, finished_at) =
            (Timestamp::parse(&self.state.started_at), Timestamp::parse(&self.state.finished_at));
        let state = self.state.state();
        let ended = matches!(state, ContainerState::Exited { .. });
        ContainerStatus {
            id: self.id,
            started_at,
            // The engine reads two clocks, so a short run may end before its start.
            finished_at: if ended {
                finished_at.max(started_at.filter(|_| finished_at.is_some()))
            } else {
                finished_at
            },
            state,
            token: labels.remove(LABEL_TOKEN),
            spec_hash: labels.remove(LABEL_SPEC),
            limits_hash: labels.remove(LABEL_LIMITS),
            stop_signal: signal_name(&self.config.stop_signal),
        }
    }
}

impl EngineState {
    fn state(&self) -> ContainerState {
        match self.status.as_str() {
            status if runs(status) => ContainerState::Running,
            // The last two are Podman's.
            "created" | "configured" | "initialized" if self.error.is_empty() => ContainerState::Created,
            "created" | "configured" | "initialized" => ContainerState::StartFailed,
            "" if self.running => ContainerState::Running,
            _ => ContainerState::Exited { code: self.exit_code, oom_killed: self.oom_killed },
        }
    }
}

/// A signal by name, or by number from Podman: engines accept both.
fn signal_name(signal: &Value) -> Option<String> {
    match signal {
        Value::String(name) => Some(name.clone()).filter(|name| !name.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The answer to the creation of a container.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    warnings: Option<Vec<String>>,
}

/// Creates a container and returns its id.
pub(super) async fn create(wire: &Wire, spec: &ContainerSpec, purpose: &Purpose) -> Result<String, Error> {
    let path = format!("/containers/create?name={}", spec.name);
    let mut body = create_body(spec, purpose);
    let created = match wire.post(&path, &body).await {
        Err(Error::Rejected { message, .. }) if spec.log.is_some() && message.contains("invalid log driver") => {
            // Podman has no driver `local`, which is the default of Wings' configuration. Its own driver keeps logs, too.
            tracing::debug!(container = %spec.name, message, "using the engine's own log driver");
            body["HostConfig"]["LogConfig"] = Value::Null;
            wire.post(&path, &body).await?
        }
        created => created?,
    };
    let created: Created = serde_json::from_slice(&created)?;
    for warning in created.warnings.unwrap_or_default() {
        tracing::debug!(container = %spec.name, %warning, "warning of the container engine");
    }
    Ok(created.id)
}

/// Starts a container; a running one stays as it is.
pub(super) async fn start(wire: &Wire, id: &str) -> Result<(), Error> {
    wire.call(Method::POST, &format!("/containers/{id}/start")).await
}

/// Sends a signal; a container that is gone or has ended is no error.
pub(super) async fn signal(wire: &Wire, id: &str, signal: &str) -> Result<(), Error> {
    match wire.call(Method::POST, &format!("/containers/{id}/kill?signal={signal}")).await {
        Err(Error::Rejected { status: 404 | 409, .. }) => Ok(()),
        // Older engines, and Podman.
        Err(Error::Rejected { message, .. })
            if message.contains("is not running") || message.contains("can only kill running containers") =>
        {
            Ok(())
        }
        sent => sent,
    }
}

/// Removes a container with its anonymous volumes, killing it first; one that is gone is no error.
pub(super) async fn remove(wire: &Wire, id: &str) -> Result<Removal, Error> {
    match wire.call(Method::DELETE, &format!("/containers/{id}?v=true&force=true")).await {
        Ok(()) | Err(Error::Rejected { status: 404, .. }) => Ok(Removal::Done),
        Err(Error::Rejected { status: 409, message }) if message.contains("already in progress") => {
            Ok(Removal::UnderWay)
        }
        Err(error) => Err(error),
    }
}

/// Changes limits in place. Returns whether the container exists.
pub(super) async fn update(wire: &Wire, id: &str, limits: &Limits) -> Result<bool, Error> {
    match wire.post(&format!("/containers/{id}/update"), &update_body(limits)).await {
        Err(Error::Rejected { status: 404 | 405, message }) if !is_about_a_container(&message) => {
            // Podman before 5. An error would make the controller retry without end.
            tracing::warn!(container = id, "the engine cannot change limits in place; the next start applies them");
            Ok(true)
        }
        updated => Ok(found(updated)?.is_some()),
    }
}

/// Whether a "not found" is about the container and not about the request.
fn is_about_a_container(message: &str) -> bool {
    message.to_lowercase().contains("no such container") || message.contains("no container with name")
}

/// `None` for what does not exist.
pub(super) fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Rejected { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// To the engine `null` and empty values are the same as absent ones.
fn create_body(spec: &ContainerSpec, purpose: &Purpose) -> Value {
    let ports: BTreeSet<String> = spec.ports.iter().flat_map(|port| protocols(port.port)).collect();
    json!({
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": spec.user,
        "AttachStdin": true,
        "AttachStdout": true,
        "AttachStderr": true,
        "OpenStdin": true,
        // The daemon detaches when it restarts, which must not end the input of the server.
        "StdinOnce": false,
        "Tty": true,
        "Env": spec.environment,
        "Cmd": spec.command,
        "Image": spec.image,
        "Labels": labels(spec, purpose),
        "ExposedPorts": ports.into_iter().map(|port| (port, json!({}))).collect::<BTreeMap<_, _>>(),
        "HostConfig": host_config(spec),
        "NetworkingConfig": spec.endpoint.as_ref().map(|endpoint| {
            json!({"EndpointsConfig": {&endpoint.network: {
                "IPAMConfig": {"IPv4Address": endpoint.address},
                "IPAddress": endpoint.address,
                "Gateway": endpoint.gateway,
            }}})
        }),
    })
}

fn labels(spec: &ContainerSpec, purpose: &Purpose) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    // Last, so that no label of a panel or a file replaces one of these.
    labels.extend([
        (LABEL_SERVER.to_owned(), purpose.server.to_string()),
        (LABEL_ROLE.to_owned(), purpose.role.as_str().to_owned()),
        (LABEL_TOKEN.to_owned(), purpose.token.clone()),
        (LABEL_SPEC.to_owned(), spec.hash()),
        (LABEL_LIMITS.to_owned(), spec.limits.hash()),
    ]);
    labels
}

fn host_config(spec: &ContainerSpec) -> Value {
    let limits = &spec.limits;
    let mount = |volume: &Volume| json!({"Type": "bind", "Source": volume.path, "Target": volume.target, "ReadOnly": volume.read_only});
    json!({
        "Mounts": spec.volumes.iter().map(mount).collect::<Vec<_>>(),
        "Tmpfs": spec.tmpfs,
        "Dns": spec.dns,
        "LogConfig": spec.log.as_ref().map(|log| json!({"Type": log.driver, "Config": log.options})),
        "SecurityOpt": spec.security_opt,
        "ReadonlyRootfs": spec.read_only_root,
        "CapDrop": spec.cap_drop,
        "NetworkMode": spec.network_mode,
        "UsernsMode": spec.userns_mode,
        "PortBindings": port_bindings(spec),
        "Memory": limits.memory,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.blkio_weight,
        "CpuQuota": limits.cpu,
        "CpuPeriod": limits.cpu.map(|_| CPU_PERIOD),
        "CpuShares": limits.cpu.map(|_| CPU_SHARES),
        "CpusetCpus": limits.cpuset,
    })
}

/// The limits that an engine can change in place.
///
/// It can neither remove a limit of memory or cores nor change the OOM killer; these are applied by the next container. It can
/// remove a limit of CPU time.
fn update_body(limits: &Limits) -> Value {
    let memory = (limits.memory > 0).then_some(limits);
    json!({
        "Memory": memory.map(|limits| limits.memory),
        "MemoryReservation": memory.map(|limits| limits.memory_reservation),
        "MemorySwap": memory.map(|limits| limits.memory_swap),
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.blkio_weight,
        "CpuQuota": limits.cpu.unwrap_or(-1),
        "CpuPeriod": limits.cpu.map(|_| CPU_PERIOD),
        "CpuShares": limits.cpu.map(|_| CPU_SHARES),
        "CpusetCpus": limits.cpuset,
    })
}

fn port_bindings(spec: &ContainerSpec) -> BTreeMap<String, Vec<Value>> {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for published in &spec.ports {
        for protocol in protocols(published.port) {
            let binding = json!({"HostIp": published.address, "HostPort": published.port.to_string()});
            bindings.entry(protocol).or_default().push(binding);
        }
    }
    bindings
}

fn protocols(port: u16) -> [String; 2] {
    ["tcp", "udp"].map(|protocol| format!("{port}/{protocol}"))
}

#[cfg(test)]
pub(super) mod tests;
