//! Lists, inspects, creates and changes containers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig,
    Mount, MountType, NetworkingConfig, PortBinding, ResourcesUlimits,
};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions, StartContainerOptions,
};
use serde::Deserialize;
use serde_json::Value;

use super::podman;
use super::wire::Wire;
use crate::files::directory_in;
use crate::model::{
    ContainerState, ContainerStatus, DirectoryId, Fields, LABEL_NODE, LABEL_ROOT, NodeIdentity, OtherNode, Owner,
    PublishedPort, Role, ServerId, Timestamp,
};
use crate::runtime::spec_builder::{INSTALL_FOLDER, SERVER_FOLDER};
use crate::runtime::{
    CPU_PERIOD, ContainerSpec, EngineInfo, LABEL_FIELDS, LABEL_LIMITS, LABEL_ROLE, LABEL_SERVER, LABEL_SPEC,
    LABEL_TOKEN, Limits, Listed, Purpose, Removal, Volume, container_name, parse_container_name,
};
use crate::tasks::Blocking;

/// The relative weight of a container with limited CPU time. It is the default of engines.
const CPU_SHARES: i64 = 1024;

/// Reads version and size of the engine.
pub(super) async fn engine(docker: &Docker) -> Result<EngineInfo, Error> {
    let info = docker.info().await?;
    let mut details = info.driver_status.unwrap_or_default().into_iter();
    let filesystem =
        details.find_map(|pair| <[String; 2]>::try_from(pair).ok().filter(|[name, _]| name == "Backing Filesystem"));
    // Podman does not return the version, only the program.
    let runc = info.runc_commit.and_then(|commit| commit.id).filter(|id| !id.is_empty());
    Ok(EngineInfo {
        version: info.server_version.unwrap_or_default(),
        cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        containers: [info.containers, info.containers_running, info.containers_paused, info.containers_stopped]
            .map(Option::unwrap_or_default),
        storage_driver: info.driver.unwrap_or_default(),
        storage_filesystem: filesystem.map(|[_, name]| name).unwrap_or_default(),
        runc: runc.or(info.default_runtime).unwrap_or_default(),
    })
}

/// A container in a listing. It is not bollard's type, which has the states of Docker only; nor is an inspection.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<HashMap<String, String>>,
    state: String,
    mounts: Option<Vec<Value>>,
}

/// What is used of an inspection.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Inspection {
    id: String,
    state: EngineState,
    config: EngineConfig,
    network_settings: EngineNetwork,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EngineNetwork {
    /// By port and protocol in the container.
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Binding {
    /// Podman leaves the address of all interfaces empty.
    host_ip: String,
    host_port: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EngineState {
    status: String,
    running: bool,
    pid: u32,
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
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
    /// Podman may write a number.
    stop_signal: Value,
}

/// Lists the containers of all servers, by labels or names.
pub(super) async fn list(wire: &Wire, node: &NodeIdentity) -> Result<Vec<Listed>, Error> {
    let all: Vec<Summary> = wire.get("/containers/json?all=true").await?;
    let mut listed: Vec<Listed> = all.into_iter().filter_map(|container| listed(node, container)).collect();
    // Of two with the same server and role, the one that runs counts.
    listed.sort_by_key(|container| container.running);
    Ok(listed)
}

fn listed(node: &NodeIdentity, container: Summary) -> Option<Listed> {
    let labels = container.labels.unwrap_or_default();
    let names = container.names.unwrap_or_default();
    let label = |label: &str| labels.get(label).map(String::as_str);
    let (server, role) = belongs_to(label, names.iter().map(String::as_str))?;
    Some(Listed { server, role, id: container.id, running: runs(&container.state), owner: node.owner(label) })
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

/// Inspects the container of a server: the one with its name, or one with its labels that a person has renamed. One that runs comes
/// first.
pub(super) async fn inspect(
    wire: &Wire,
    node: &NodeIdentity,
    server: ServerId,
    role: Role,
) -> Result<Option<ContainerStatus>, Error> {
    let name = container_name(server, role);
    let (named, labelled) = tokio::join!(inspection(wire, &name), labelled(wire, node, server, role));
    let named = found(named)?
        .filter(|named| named.belongs_to(&name) == Some((server, role)) && named.owner(node).other().is_none());
    let mut others = labelled?;
    others.retain(|other| named.as_ref().is_none_or(|named| named.id != other.id));
    others.sort_by_key(|other| !other.running);
    let named_counts = |named: &Inspection| named.state.state() == ContainerState::Running;
    let renamed = others.first().filter(|other| match &named {
        Some(named) => other.running && !named_counts(named),
        None => true,
    });
    let found = match renamed {
        Some(renamed) => found(inspection(wire, &renamed.id).await)?,
        None => named,
    };
    let mut status = found.map(Inspection::status);
    if let Some(status) = &mut status {
        if let Some(process) = status.process {
            status.files = mounted(process, role).await;
        }
        let second = others.into_iter().filter(|other| other.running && other.id != status.id);
        status.others = second.map(|other| other.id).collect();
    }
    Ok(status)
}

/// The containers with the labels of a server that mount its files. A container of an image that a person has made from a server's
/// container has these labels, too.
async fn labelled(wire: &Wire, node: &NodeIdentity, server: ServerId, role: Role) -> Result<Vec<Listed>, Error> {
    let labels = [format!("{LABEL_SERVER}={server}"), format!("{LABEL_ROLE}={}", role.as_str())];
    let filters = serde_json::json!({ "label": labels }).to_string();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("all", "true")
        .append_pair("filters", &filters)
        .finish();
    let all: Vec<Summary> = wire.get(&format!("/containers/json?{query}")).await?;
    let folder = files_folder(role);
    // An engine that lists no mounts may have some.
    let mounts_files = |container: &Summary| {
        let mounts = container.mounts.as_ref();
        mounts.is_none_or(|mounts| mounts.iter().any(|mount| mount["Destination"] == folder))
    };
    let containers = all.into_iter().filter(mounts_files).filter_map(|container| listed(node, container));
    Ok(containers.filter(|container| container.owner.other().is_none()).collect())
}

/// The id of the container with this name, and the other node that has created it.
pub(super) async fn other_node(
    wire: &Wire,
    node: &NodeIdentity,
    name: &str,
) -> Result<Option<(String, OtherNode)>, Error> {
    let holder = found(inspection(wire, name).await)?;
    Ok(holder.and_then(|holder| Some((holder.id.clone(), holder.owner(node).other()?.clone()))))
}

/// Inspects a container by its name or id.
pub(super) async fn inspection(wire: &Wire, name: &str) -> Result<Inspection, Error> {
    wire.get(&format!("/containers/{name}/json")).await
}

impl Inspection {
    /// The server and the role of the container, which has this name.
    fn belongs_to(&self, name: &str) -> Option<(ServerId, Role)> {
        belongs_to(|label| self.label(label), [name].into_iter())
    }

    fn owner(&self, node: &NodeIdentity) -> Owner {
        node.owner(|label| self.label(label))
    }

    fn label(&self, label: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(label).map(String::as_str)
    }

    /// Whether the container has run and ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.state(), ContainerState::Exited { .. })
    }

    /// Whether the container counts as running, and its process is gone or not visible from here.
    pub(super) async fn seems_over(&self) -> bool {
        let process = self.state.pid;
        let running = process > 0 && self.state.state() == ContainerState::Running;
        running && Blocking::Pool.run(move || is_gone(process)).await
    }

    fn status(self) -> ContainerStatus {
        let mut labels = self.config.labels.unwrap_or_default();
        let (started_at, finished_at) =
            (Timestamp::parse(&self.state.started_at), Timestamp::parse(&self.state.finished_at));
        let state = self.state.state();
        let paused = self.state.status == "paused";
        let (running, ended) = (state == ContainerState::Running, matches!(state, ContainerState::Exited { .. }));
        ContainerStatus {
            id: self.id,
            paused,
            process: Some(self.state.pid).filter(|pid| *pid > 0 && state == ContainerState::Running),
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
            image: self.config.image.filter(|image| !image.is_empty()),
            fields: labels.remove(LABEL_FIELDS).and_then(|label| Fields::from_label(&label)),
            // Podman lists them of a container that does not run, too.
            ports: if running { self.network_settings.bound() } else { Vec::new() },
            stop_signal: signal_name(&self.config.stop_signal),
            others: Vec::new(),
            files: None,
        }
    }
}

impl EngineNetwork {
    /// The ports of the host, each once for both protocols.
    fn bound(self) -> Vec<PublishedPort> {
        let bindings = self.ports.into_iter().flatten().filter_map(|(_, bindings)| bindings).flatten();
        let bound = bindings.filter_map(|Binding { host_ip, host_port }| {
            let address = if host_ip.is_empty() { "0.0.0.0".to_owned() } else { host_ip };
            Some(PublishedPort { address, port: host_port.parse().ok()? })
        });
        bound.collect::<BTreeSet<_>>().into_iter().collect()
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

/// The directory that a process has mounted as the server's files. A file system that hangs does not delay other calls.
async fn mounted(process: u32, role: Role) -> Option<DirectoryId> {
    let folder = files_folder(role);
    Blocking::Pool.run(move || directory_in(process, folder)).await
}

/// Whether a process has ended; its parent may still have to read its exit code.
fn is_gone(process: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{process}/exe"));
    program.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Where a container of this role has the server's files.
fn files_folder(role: Role) -> &'static str {
    match role {
        Role::Server => SERVER_FOLDER,
        Role::Installer => INSTALL_FOLDER,
    }
}

/// Creates a container and returns its id.
pub(super) async fn create(
    docker: &Docker,
    node: &NodeIdentity,
    spec: &ContainerSpec,
    purpose: &Purpose,
) -> Result<String, Error> {
    let options = CreateContainerOptions { name: Some(spec.name.clone()), ..CreateContainerOptions::default() };
    let mut body = create_body(node, spec, purpose);
    let created = match docker.create_container(Some(options.clone()), body.clone()).await {
        Err(Error::DockerResponseServerError { message, .. })
            if spec.log.is_some() && message.contains("invalid log driver") =>
        {
            // Podman has no driver `local`, which is the default of Wings' configuration. Its own driver keeps logs, too.
            tracing::debug!(container = %spec.name, message, "using the engine's own log driver");
            body.host_config.get_or_insert_default().log_config = None;
            docker.create_container(Some(options), body).await?
        }
        created => created?,
    };
    for warning in created.warnings {
        tracing::debug!(container = %spec.name, %warning, "warning of the container engine");
    }
    Ok(created.id)
}

/// Starts a container; a running one stays as it is.
pub(super) async fn start(docker: &Docker, id: &str) -> Result<(), Error> {
    docker.start_container(id, None::<StartContainerOptions>).await
}

/// Sends a signal; a container that is gone or has ended is no error.
pub(super) async fn signal(docker: &Docker, id: &str, signal: &str) -> Result<(), Error> {
    let sent = docker.kill_container(id, Some(KillContainerOptions { signal: signal.to_owned() })).await;
    match sent {
        Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        // Older engines, and Podman.
        Err(Error::DockerResponseServerError { message, .. })
            if message.contains("is not running") || message.contains("can only kill running containers") =>
        {
            Ok(())
        }
        sent => sent,
    }
}

/// Freezes a container, or thaws it. One that is so already, has ended or does not exist is no error.
pub(super) async fn freeze(docker: &Docker, id: &str, frozen: bool) -> Result<(), Error> {
    let done = if frozen { docker.pause_container(id).await } else { docker.unpause_container(id).await };
    match done {
        Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        // Docker answers 500 to the thawing of a container that is not frozen, and Podman to both.
        Err(Error::DockerResponseServerError { message, .. })
            if ["is not paused", "already paused", "not running", "state improper"]
                .iter()
                .any(|text| message.contains(text)) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Removes a container with its anonymous volumes, after a SIGKILL. A missing container is no error.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<Removal, Error> {
    let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
    match docker.remove_container(id, Some(options)).await {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(Removal::Done),
        Err(Error::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(Removal::UnderWay)
        }
        Err(error) => Err(error),
    }
}

/// Changes limits in place. Returns whether the container is there.
pub(super) async fn update(docker: &Docker, wire: &Wire, id: &str, limits: &Limits) -> Result<bool, Error> {
    let mut updated = docker.update_container(id, update_body(limits)).await.map(|_| ());
    if has_no_route(&updated) {
        updated = podman::update(wire, id, limits).await;
    }
    match updated {
        updated if has_no_route(&updated) => {
            // An error would be retried without end.
            tracing::warn!(container = id, "this container engine changes no limits in place; the next start does");
            Ok(true)
        }
        updated => Ok(found(updated)?.is_some()),
    }
}

/// Whether the engine does not know the path of the request.
fn has_no_route(answer: &Result<(), Error>) -> bool {
    matches!(answer, Err(Error::DockerResponseServerError { status_code: 404 | 405, message }) if !is_about_a_container(message))
}

/// Whether "not found" is about the container, and not about the path of the request.
fn is_about_a_container(message: &str) -> bool {
    message.to_lowercase().contains("no such container") || message.contains("no container with name")
}

/// Turns the error of a missing object into `None`.
pub(super) fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn create_body(node: &NodeIdentity, spec: &ContainerSpec, purpose: &Purpose) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: some_text(&spec.hostname),
        domainname: some_text(&spec.domainname),
        user: spec.user.clone(),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // The input stays open while the daemon restarts.
        stdin_once: Some(false),
        tty: Some(true),
        env: Some(spec.environment.clone()),
        cmd: spec.command.clone(),
        image: Some(spec.image.clone()),
        labels: Some(labels(node, spec, purpose)),
        exposed_ports: some_list(spec.ports.iter().flat_map(|port| protocols(port.port)).collect()),
        host_config: Some(host_config(spec)),
        networking_config: spec.endpoint.as_ref().map(|endpoint| {
            let settings = EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: Some(endpoint.address.clone()),
                    ..EndpointIpamConfig::default()
                }),
                ip_address: Some(endpoint.address.clone()),
                gateway: Some(endpoint.gateway.clone()),
                ..EndpointSettings::default()
            };
            NetworkingConfig { endpoints_config: Some(HashMap::from([(endpoint.network.clone(), settings)])) }
        }),
        ..ContainerCreateBody::default()
    }
}

fn labels(node: &NodeIdentity, spec: &ContainerSpec, purpose: &Purpose) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    // Last, so that neither settings nor images replace the labels of the daemon.
    labels.extend([
        (LABEL_NODE.to_owned(), node.id.clone()),
        (LABEL_ROOT.to_owned(), node.root.clone()),
        (LABEL_SERVER.to_owned(), purpose.server.to_string()),
        (LABEL_ROLE.to_owned(), purpose.role.as_str().to_owned()),
        (LABEL_TOKEN.to_owned(), purpose.token.clone()),
        (LABEL_SPEC.to_owned(), spec.hash()),
        (LABEL_LIMITS.to_owned(), spec.limits.hash()),
    ]);
    if !spec.fields.is_empty() {
        labels.insert(LABEL_FIELDS.to_owned(), spec.fields.to_label());
    }
    labels
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let limits = &spec.limits;
    HostConfig {
        mounts: Some(spec.volumes.iter().map(mount).collect()),
        tmpfs: Some(spec.tmpfs.clone().into_iter().collect()),
        dns: some_list(spec.dns.clone()),
        log_config: spec.log.as_ref().map(|log| HostConfigLogConfig {
            typ: Some(log.driver.clone()),
            config: Some(log.options.clone().into_iter().collect()),
        }),
        security_opt: some_list(spec.security_opt.clone()),
        readonly_rootfs: spec.read_only_root.then_some(true),
        cap_drop: some_list(spec.cap_drop.clone()),
        network_mode: Some(spec.network_mode.clone()),
        userns_mode: some_text(&spec.userns_mode),
        port_bindings: Some(port_bindings(spec)),
        memory: Some(limits.memory),
        memory_reservation: Some(limits.memory_reservation),
        memory_swap: Some(limits.memory_swap),
        oom_kill_disable: Some(limits.oom_kill_disable),
        pids_limit: limits.pids,
        blkio_weight: limits.blkio_weight,
        cpu_quota: limits.cpu,
        cpu_period: limits.cpu.map(|_| CPU_PERIOD),
        cpu_shares: limits.cpu.map(|_| CPU_SHARES),
        cpuset_cpus: some_text(&limits.cpuset),
        shm_size: spec.shm_mib.map(|mib| mib.saturating_mul(1024 * 1024)),
        ulimits: some_ulimits(spec),
        ..HostConfig::default()
    }
}

fn some_ulimits(spec: &ContainerSpec) -> Option<Vec<ResourcesUlimits>> {
    let ulimits = spec.ulimits.iter().map(|(name, ulimit)| ResourcesUlimits {
        name: Some(name.as_str().to_owned()),
        soft: Some(ulimit.soft),
        hard: Some(ulimit.hard),
    });
    (!spec.ulimits.is_empty()).then(|| ulimits.collect())
}

/// The limits that an engine can change in place.
///
/// It can neither remove a limit of memory or cores nor change the OOM killer; these are applied by the next container. It can
/// remove a limit of CPU time.
fn update_body(limits: &Limits) -> ContainerUpdateBody {
    let limited = limits.memory > 0;
    ContainerUpdateBody {
        memory: limited.then_some(limits.memory),
        memory_reservation: limited.then_some(limits.memory_reservation),
        memory_swap: limited.then_some(limits.memory_swap),
        pids_limit: limits.pids,
        blkio_weight: limits.blkio_weight,
        cpu_quota: Some(limits.cpu.unwrap_or(-1)),
        cpu_period: limits.cpu.map(|_| CPU_PERIOD),
        cpu_shares: limits.cpu.map(|_| CPU_SHARES),
        cpuset_cpus: some_text(&limits.cpuset),
        ..ContainerUpdateBody::default()
    }
}

fn mount(volume: &Volume) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: volume.path.clone(),
        target: Some(volume.target.clone()),
        read_only: Some(volume.read_only),
        ..Mount::default()
    }
}

fn port_bindings(spec: &ContainerSpec) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for published in &spec.ports {
        for protocol in protocols(published.port) {
            let binding =
                PortBinding { host_ip: Some(published.address.clone()), host_port: Some(published.port.to_string()) };
            bindings.entry(protocol).or_default().get_or_insert_default().push(binding);
        }
    }
    bindings
}

fn protocols(port: u16) -> [String; 2] {
    ["tcp", "udp"].map(|protocol| format!("{port}/{protocol}"))
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn some_list(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
pub(super) mod tests;
