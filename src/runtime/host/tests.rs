//! The host, with the engine in memory.

use std::time::Duration;

use super::*;
use crate::config::PullPolicy;
use crate::model::Role;
use crate::runtime::{Purpose, Runtime, container_name};
use crate::testing::fake::{Call, FakeEngine, FakeRuntime, Faults, LocalImage, NoFaults, RemoteImage};

const SECOND: Duration = Duration::from_secs(1);

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

/// A node with this pull policy, connected to an engine.
fn runtime(machine: &FakeEngine, policy: PullPolicy, faults: Arc<dyn Faults>) -> FakeRuntime {
    let mut node = crate::testing::node_config(std::path::Path::new("/node"));
    node.pull_policy = policy;
    let host = Host::new(Arc::new(node), Tasks::new(), Blocking::Inline, KernelLimits::default());
    FakeRuntime::new(machine.clone(), faults, host)
}

/// A machine whose registry has `game:1`; a pull takes five seconds.
fn machine() -> FakeEngine {
    let machine = FakeEngine::default();
    machine.publish_image("game:1", RemoteImage { takes: 5 * SECOND, ..RemoteImage::default() });
    machine.set_checks_mounts(false);
    machine
}

fn spec() -> ContainerSpec {
    let node = crate::testing::node_config(std::path::Path::new("/node"));
    let mut manifest = crate::model::Manifest::new(id(), crate::model::ManagedBy::File);
    manifest.spec.settings.container.image = "game:1".into();
    spec_builder::server_container(&manifest, &node, &HostInfo::default()).spec
}

#[tokio::test(start_paused = true)]
async fn servers_share_a_pull_that_outlives_its_callers() {
    let machine = machine();
    let runtime = runtime(&machine, PullPolicy::Always, Arc::new(NoFaults));
    let (spec, began) = (spec(), Instant::now());
    assert!(tokio::time::timeout(2 * SECOND, runtime.prepare(&spec)).await.is_err());
    let (one, two) = tokio::join!(runtime.prepare(&spec), runtime.prepare(&spec));
    assert_eq!((one, two, began.elapsed()), (Ok(()), Ok(()), 5 * SECOND));
    assert_eq!(machine.pulls("game:1").begun, 1);
    runtime.prepare(&spec).await.unwrap();
    assert_eq!(machine.pulls("game:1").begun, 2, "what was pulled before is asked for again");
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_about_pulls() {
    for (policy, there, local, pulls, prepared) in [
        (PullPolicy::Always, true, false, 1, true),
        (PullPolicy::Always, true, true, 0, true),
        (PullPolicy::Always, false, true, 0, false),
        (PullPolicy::IfNotPresent, true, false, 0, true),
        (PullPolicy::IfNotPresent, false, false, 1, true),
        (PullPolicy::Never, true, false, 0, true),
        (PullPolicy::Never, false, false, 0, false),
    ] {
        let machine = machine();
        if there {
            machine.add_image("game:1", LocalImage::default());
        }
        let runtime = runtime(&machine, policy, Arc::new(NoFaults));
        let spec = ContainerSpec { local_image: local, ..spec() };
        let result = runtime.prepare(&spec).await;
        assert_eq!((machine.pulls("game:1").begun, result.is_ok()), (pulls, prepared), "{policy:?} {there} {local}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_image_is_used_if_the_registry_fails() {
    let machine = machine();
    machine.set_registry_up(false);
    let runtime = runtime(&machine, PullPolicy::Always, Arc::new(NoFaults));
    let error = runtime.prepare(&spec()).await.unwrap_err();
    assert!(!error.is_outage() && error.kind != ErrorKind::InvalidImage, "{error:?}");
    machine.add_image("game:1", LocalImage::default());
    runtime.prepare(&spec()).await.unwrap();
    machine.set_engine_up(false);
    assert_eq!(runtime.prepare(&spec()).await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_endless_pull_times_out() {
    let machine = machine();
    machine.publish_image("game:1", RemoteImage { takes: 3600 * SECOND, ..RemoteImage::default() });
    let error = runtime(&machine, PullPolicy::Always, Arc::new(NoFaults)).prepare(&spec()).await.unwrap_err();
    assert_eq!(error.to_string(), "the pull of game:1 took longer than 15 minutes");
    assert_eq!(machine.pulls("game:1").running, 0);
}

/// The engine cannot create networks in this number of calls.
struct NoNetworks(std::sync::atomic::AtomicU32);

#[async_trait::async_trait]
impl Faults for NoNetworks {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        let left = &self.0;
        if call.name != "ensure_network" || left.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            return Ok(());
        }
        left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        Err(RuntimeError::new(ErrorKind::Failed, call.name, "no"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_network_is_created_again_at_a_start() {
    let machine = machine();
    let runtime = runtime(&machine, PullPolicy::Always, Arc::new(NoNetworks(3.into())));
    runtime.prepare_node().await.unwrap_err();
    let waited = Instant::now();
    runtime.node_settled().await;
    assert_eq!(waited.elapsed(), Duration::ZERO, "it was tried once");
    // The image is pulled all the same; the start fails.
    runtime.prepare(&spec()).await.unwrap();
    let purpose = Purpose { server: id(), role: Role::Server, token: "t".into() };
    let container = runtime.create(&spec(), &purpose).await.unwrap();
    assert_eq!(runtime.start(&container).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(runtime.host().network, NetworkInfo::default());
    assert_eq!(runtime.start(&container).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_ne!(runtime.host().network, NetworkInfo::default(), "it was made for the next attempt");
    runtime.start(&container).await.unwrap();
    assert!(machine.state_of(&container_name(id(), Role::Server)).is_some());
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_the_network_until_five_seconds_after_the_start() {
    let runtime = runtime(&machine(), PullPolicy::Always, Arc::new(NoFaults));
    let began = Instant::now();
    runtime.node_settled().await;
    runtime.node_settled().await;
    assert_eq!(began.elapsed(), crate::wait::LIST_FOR_NETWORK);
}
