//! The harness of a case around a runtime, and the programs of its containers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula::config::{NodeConfig, PullPolicy};
use alula::model::{ContainerStatus, NodeIdentity, Role, ServerId, Timestamp};
use alula::runtime::host::Host;
use alula::runtime::spec_builder::SERVER_FOLDER;
use alula::runtime::{
    ContainerSpec, KernelLimits, Limits, NetworkPurpose, NetworkSpec, Purpose, Runtime, Volume, VolumeRole,
    container_name,
};
use alula::tasks::{Blocking, Tasks};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use uuid::Uuid;

/// The image that all programs run in. It wants SIGQUIT at a native stop.
pub const IMAGE: &str = "alula-contract/box:2";
/// Variable that names the program.
pub const PROGRAM: &str = "PROGRAM";
/// Label of all that one run of a case makes; its value is [`Harness::run`].
pub const RUN_LABEL: &str = "alula-contract.run";
/// Longest time that a case may take.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A runtime and its engine.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The runtime.
    fn runtime(&self) -> &dyn Runtime;
    /// A runtime of another node on the same engine.
    fn runtime_of(&self, node: NodeConfig) -> Box<dyn Runtime>;
    /// A runtime on the same engine, of the node with this identity.
    fn runtime_as(&self, identity: NodeIdentity) -> Box<dyn Runtime>;
    /// Names this run of a case.
    fn run(&self) -> &str;
    /// Whether the engine is Podman, which states less: not that a start has failed, and on cgroup v1 not that memory was exceeded.
    fn is_podman(&self) -> bool {
        false
    }
    /// The time on the engine's clock.
    fn now(&self) -> Timestamp;
    /// Creates a container of [`IMAGE`] without the runtime and without labels of the product; returns its id.
    async fn create_foreign(&self, name: &str) -> String;
    /// Renames a container.
    async fn rename(&self, name: &str, new: &str);
    /// A network name that only this harness uses.
    fn network(&self, which: u8) -> String {
        format!("alula-contract-{which}-{}", self.run())
    }
}

/// A node that pulls images only where they are missing.
pub fn node() -> NodeConfig {
    let mut node = alula::testing::node_config(Path::new("/node"));
    node.pull_policy = PullPolicy::IfNotPresent;
    node
}

/// The host of a node.
pub fn host(node: NodeConfig) -> Host {
    Host::new(Arc::new(node), Tasks::new(), Blocking::Inline, KernelLimits::default())
}

/// A network of one container, in a subnet that the engine selects.
pub fn own_network(name: String) -> NetworkSpec {
    let purpose = NetworkPurpose::Outgoing { address: "10.213.84.1".into() };
    NetworkSpec { name, driver: "bridge".into(), internal: false, ipv6: false, v4: None, v6: None, purpose }
}

/// The program of a container, with the same effect in both engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestProgram {
    /// Prints `first`, `second`, `third`, and ends with 3.
    EndsWithThree,
    /// Prints `ready`; answers `x` with `got x`; the line `quit` ends it with 5, SIGTERM with 6.
    Answers,
    /// Prints `early`, after four seconds `late`, and keeps running.
    EarlyAndLate,
    /// Prints `early`, after a second `late`, and ends with 0.
    EarlyThenEnds,
    /// Exceeds its memory limit.
    ExceedsMemory,
    /// Cannot be executed.
    BadEntrypoint,
    /// Uses a processor for as long as it runs.
    Busy,
}

impl TestProgram {
    pub const ALL: [TestProgram; 7] = [
        TestProgram::EndsWithThree,
        TestProgram::Answers,
        TestProgram::EarlyAndLate,
        TestProgram::EarlyThenEnds,
        TestProgram::ExceedsMemory,
        TestProgram::BadEntrypoint,
        TestProgram::Busy,
    ];

    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The command that does it, with busybox.
    fn command(self) -> Vec<String> {
        let script = match self {
            TestProgram::EndsWithThree => "echo first; echo second; echo third; exit 3",
            TestProgram::Answers => {
                "trap 'exit 6' TERM; echo ready
                while read -r line; do [ \"$line\" = quit ] && exit 5; echo \"got $line\"; done"
            }
            TestProgram::EarlyAndLate => "echo early; sleep 4; echo late; exec sleep 300",
            TestProgram::EarlyThenEnds => "echo early; sleep 1; echo late",
            TestProgram::ExceedsMemory => "exec tail /dev/zero",
            TestProgram::Busy => "echo busy; while :; do :; done",
            TestProgram::BadEntrypoint => return vec!["/no/such/program".into()],
        };
        ["/bin/sh", "-c", script].map(String::from).to_vec()
    }
}

/// A new server of a case.
pub struct Subject {
    pub server: ServerId,
    pub role: Role,
    pub spec: ContainerSpec,
    pub purpose: Purpose,
}

impl Subject {
    pub fn new(harness: &dyn Harness, role: Role, program: TestProgram) -> Self {
        let server = ServerId::new(Uuid::new_v4());
        let spec = ContainerSpec {
            hostname: "contract".into(),
            command: Some(program.command()),
            environment: vec![format!("{PROGRAM}={}", program.name())],
            labels: BTreeMap::from([(RUN_LABEL.into(), harness.run().into())]),
            tmpfs: BTreeMap::from([("/tmp".into(), "rw,exec,nosuid,size=4M".into())]),
            security_opt: vec!["no-new-privileges".into()],
            read_only_root: true,
            cap_drop: vec!["setpcap".into(), "mknod".into()],
            network_mode: "none".into(),
            limits: limits(32),
            ..alula::testing::container_spec(&container_name(server, role), IMAGE)
        };
        let purpose = Purpose { server, role, token: format!("token-of-{server}") };
        Self { server, role, spec, purpose }
    }

    pub fn server(harness: &dyn Harness, program: TestProgram) -> Self {
        Self::new(harness, Role::Server, program)
    }

    /// Mounts a folder as the server's files.
    pub fn mount_files(&mut self, folder: &Path) {
        let path = Some(folder.to_str().unwrap().to_owned());
        let volume = Volume { role: VolumeRole::Data, path, target: SERVER_FOLDER.into(), read_only: false };
        self.spec.volumes.push(volume);
    }

    pub async fn create(&self, harness: &dyn Harness) -> String {
        harness.runtime().create(&self.spec, &self.purpose).await.unwrap()
    }

    pub async fn start(&self, harness: &dyn Harness) -> String {
        let id = self.create(harness).await;
        harness.runtime().start(&id).await.unwrap();
        id
    }

    pub async fn status(&self, harness: &dyn Harness) -> ContainerStatus {
        harness.runtime().inspect(self.server, self.role).await.unwrap().expect("a container")
    }

    /// Waits until the container has ended.
    pub async fn ended(&self, harness: &dyn Harness) -> ContainerStatus {
        loop {
            let status = self.status(harness).await;
            if !status.running() && !status.is_created() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the whole log holds this text.
    pub async fn printed(&self, harness: &dyn Harness, text: &str) {
        let id = self.status(harness).await.id;
        loop {
            let log = harness.runtime().logs(&id, alula::runtime::LogPart::All).await.unwrap();
            if read_all(log).await.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Limits with this much memory, MiB.
pub fn limits(memory: i64) -> Limits {
    let memory = memory << 20;
    Limits {
        memory,
        memory_reservation: memory / 2,
        memory_swap: memory,
        oom_kill_disable: false,
        pids: Some(64),
        blkio_weight: None,
        cpu: Some(100_000),
        cpuset: String::new(),
    }
}

type Output = BoxStream<'static, Result<Bytes, alula::runtime::RuntimeError>>;

/// Reads a stream to its end.
pub async fn read_all(mut stream: Output) -> String {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads a stream until what was read holds all of these texts.
pub async fn read_until(stream: &mut Output, texts: &[&str]) -> String {
    let mut bytes = Vec::new();
    loop {
        let read = String::from_utf8_lossy(&bytes).into_owned();
        if texts.iter().all(|text| read.contains(text)) {
            return read;
        }
        match stream.next().await {
            Some(piece) => bytes.extend_from_slice(&piece.unwrap()),
            None => panic!("the output ended without {texts:?}: {read:?}"),
        }
    }
}
