//! What a case needs around the runtime, and the programs that it runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula::config::{NodeConfig, PullPolicy};
use alula::model::{ContainerStatus, Role, ServerId, Timestamp};
use alula::runtime::host::Host;
use alula::runtime::{
    ContainerSpec, KernelLimits, Limits, NetworkPurpose, NetworkSpec, Purpose, Runtime, container_name,
};
use alula::tasks::{Blocking, Tasks};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use uuid::Uuid;

/// The image that all programs run in. It wants SIGQUIT at a native stop.
pub const IMAGE: &str = "alula-contract/box:2";
/// Variable that names the program.
pub const ROUTINE: &str = "ROUTINE";
/// Label of all that one run of a case makes; its value is [`Bench::run`].
pub const RUN_LABEL: &str = "alula-contract.run";
/// Longest time that a case may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime with an engine around it.
#[async_trait]
pub trait Bench: Send + Sync {
    /// The runtime.
    fn runtime(&self) -> &dyn Runtime;
    /// A runtime of another node on the same engine.
    fn runtime_of(&self, node: NodeConfig) -> Box<dyn Runtime>;
    /// Names this run of a case.
    fn run(&self) -> &str;
    /// The time on the engine's clock.
    fn now(&self) -> Timestamp;
    /// Makes a container of [`IMAGE`] past the runtime, without any label of the product; returns its id.
    async fn create_foreign(&self, name: &str) -> String;
    /// A name for a network, of this bench alone.
    fn network(&self, which: u8) -> String {
        format!("alula-contract-{which}-{}", self.run())
    }
}

/// A node that pulls images only where they are missing.
pub fn node() -> NodeConfig {
    let mut node = alula::testing::node_config(Path::new("/node"));
    node.docker.pull_policy = PullPolicy::IfNotPresent;
    node
}

/// The host of a node.
pub fn host(node: NodeConfig) -> Host {
    Host::new(Arc::new(node), Tasks::new(), Blocking::Inline, KernelLimits::default())
}

/// A network of a container's own, made where the engine has room.
pub fn own_network(name: String) -> NetworkSpec {
    let purpose = NetworkPurpose::Outgoing { address: "10.213.84.1".into() };
    NetworkSpec { name, driver: "bridge".into(), internal: false, ipv6: false, v4: None, v6: None, purpose }
}

/// What a container does. Each has the same effect in both engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routine {
    /// Prints `first`, `second`, `third`, and ends with 3.
    EndsWithThree,
    /// Prints `ready`; answers `x` with `got x`; the line `quit` ends it with 5, SIGTERM with 6.
    Answers,
    /// Prints `early`, after four seconds `late`, and waits on.
    EarlyAndLate,
    /// Prints `early`, after a second `late`, and ends with 0.
    EarlyThenEnds,
    /// Uses more memory than it may.
    EatsMemory,
    /// Cannot be run.
    BadEntrypoint,
}

impl Routine {
    pub const ALL: [Routine; 6] = [
        Routine::EndsWithThree,
        Routine::Answers,
        Routine::EarlyAndLate,
        Routine::EarlyThenEnds,
        Routine::EatsMemory,
        Routine::BadEntrypoint,
    ];

    pub fn word(self) -> String {
        format!("{self:?}")
    }

    /// The command that does it, with busybox.
    fn command(self) -> Vec<String> {
        let script = match self {
            Routine::EndsWithThree => "echo first; echo second; echo third; exit 3",
            Routine::Answers => {
                "trap 'exit 6' TERM; echo ready
                while read -r line; do [ \"$line\" = quit ] && exit 5; echo \"got $line\"; done"
            }
            Routine::EarlyAndLate => "echo early; sleep 4; echo late; exec sleep 300",
            Routine::EarlyThenEnds => "echo early; sleep 1; echo late",
            Routine::EatsMemory => "exec tail /dev/zero",
            Routine::BadEntrypoint => return vec!["/no/such/program".into()],
        };
        ["/bin/sh", "-c", script].map(String::from).to_vec()
    }
}

/// One server of a case, fresh.
pub struct Subject {
    pub server: ServerId,
    pub role: Role,
    pub spec: ContainerSpec,
    pub purpose: Purpose,
}

impl Subject {
    pub fn new(bench: &dyn Bench, role: Role, routine: Routine) -> Self {
        let server = ServerId::new(Uuid::new_v4());
        let spec = ContainerSpec {
            name: container_name(server, role),
            image: IMAGE.into(),
            local_image: false,
            image_id: None,
            hostname: "contract".into(),
            domainname: String::new(),
            user: None,
            command: Some(routine.command()),
            environment: vec![format!("{ROUTINE}={}", routine.word())],
            labels: BTreeMap::from([(RUN_LABEL.into(), bench.run().into())]),
            volumes: Vec::new(),
            tmpfs: BTreeMap::from([("/tmp".into(), "rw,exec,nosuid,size=4M".into())]),
            dns: Vec::new(),
            log: None,
            security_opt: vec!["no-new-privileges".into()],
            read_only_root: true,
            cap_drop: vec!["setpcap".into(), "mknod".into()],
            network_mode: "none".into(),
            own_network: None,
            endpoint: None,
            userns_mode: String::new(),
            ports: Vec::new(),
            limits: limits(32),
        };
        let purpose = Purpose { server, role, token: format!("token-of-{server}") };
        Self { server, role, spec, purpose }
    }

    pub fn server(bench: &dyn Bench, routine: Routine) -> Self {
        Self::new(bench, Role::Server, routine)
    }

    pub async fn create(&self, bench: &dyn Bench) -> String {
        bench.runtime().create(&self.spec, &self.purpose).await.unwrap()
    }

    pub async fn start(&self, bench: &dyn Bench) -> String {
        let id = self.create(bench).await;
        bench.runtime().start(&id).await.unwrap();
        id
    }

    pub async fn facts(&self, bench: &dyn Bench) -> ContainerStatus {
        bench.runtime().inspect(self.server, self.role).await.unwrap().expect("a container")
    }

    /// Waits until the container has ended.
    pub async fn ended(&self, bench: &dyn Bench) -> ContainerStatus {
        loop {
            let facts = self.facts(bench).await;
            if !facts.running() && !facts.fresh() {
                return facts;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the whole log holds this text.
    pub async fn printed(&self, bench: &dyn Bench, text: &str) {
        let id = self.facts(bench).await.id;
        loop {
            let log = bench.runtime().logs(&id, alula::runtime::LogPart::All).await.unwrap();
            if read_all(log).await.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Limits with so much memory, MiB.
pub fn limits(memory: i64) -> Limits {
    let memory = memory << 20;
    Limits {
        memory,
        memory_reservation: memory / 2,
        memory_swap: memory,
        oom_kill_disable: false,
        pids: Some(64),
        blkio_weight: None,
        cpu: Some(alula::runtime::CpuLimit { quota: 100_000, period: 100_000, shares: 1024 }),
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
