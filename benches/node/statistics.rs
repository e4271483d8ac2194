//! What statistics cost: an answer about one server, and 20 servers that are watched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula::clock::Clock;
use alula::files::DiskAccounts;
use alula::model::{PowerState, Record, Role};
use alula::runtime::docker::{Address, DockerRuntime};
use alula::runtime::host::Host;
use alula::runtime::{ContainerSpec, KernelLimits, Purpose, Runtime, container_name};
use alula::stats::Stats;
use alula::store::{Blocking, Store};
use alula::tasks::Tasks;
use alula::testing::{container_spec, file_manifest, node_config, server_id};

use crate::daemon_process::{Node, with_node};
use crate::table::{Table, load, millis};
use crate::{options, process};

const WATCHED: u32 = 20;
const WATCHED_FOR: Duration = Duration::from_secs(30);

/// Measures both.
pub async fn measure(table: &mut Table) {
    with_node(options(), async |node| {
        node.boot().await;
        let id = node.define("true");
        node.create(&id, true).await;
        node.panel.wait_state(0, &id, "running").await;
        answers(node, &id, "running", table).await;
        watched(&node.image, table).await;
        let idle = node.define("true");
        node.create(&idle, false).await;
        process::quiet(node.pid()).await;
        answers(node, &idle, "offline", table).await;
        node.delete(&idle).await;
        node.delete(&id).await;
    })
    .await;
}

async fn answers(node: &Node, id: &str, state: &str, table: &mut Table) {
    const REQUESTS: u32 = 2000;
    let path = format!("/api/servers/{id}");
    node.get_bytes(&path).await;
    let (before, _) = process::cpu(node.pid());
    for _ in 0..REQUESTS {
        node.get_bytes(&path).await;
    }
    let (after, _) = process::cpu(node.pid());
    let each = millis(after.saturating_sub(before)) * 1e3 / f64::from(REQUESTS);
    table.row(
        &format!("CPU time of one {state} server's answer"),
        format!("{each:.1} µs"),
        load(),
        "20 µs".into(),
        each <= 20.0,
    );
}

/// The service in this process, so that nothing but the measuring counts.
async fn watched(image: &str, table: &mut Table) {
    let (root, tasks) = (tempfile::tempdir().expect("a folder"), Tasks::new());
    let node = Arc::new(node_config(root.path()));
    let store = Store::open(Path::new(root.path()), Blocking::Pool, Clock::System, None).expect("a state folder");
    let host = Host::new(node.clone(), tasks.clone(), Blocking::Pool, KernelLimits::default());
    let runtime = Arc::new(DockerRuntime::connect(Address::from_environment().expect("an address"), host));
    let accounts = DiskAccounts::new(Arc::new(|_| {}));
    let stats = Stats::new(store.clone(), runtime.clone(), node, Clock::System, tasks.clone(), accounts);
    let mut containers = Vec::new();
    for number in 1..=WATCHED {
        let id = server_id(number);
        store.create(file_manifest(number), Record::default(), []).expect("a server");
        // No node has made a network, and none is measured.
        let spec =
            ContainerSpec { network_mode: "none".into(), ..container_spec(&container_name(id, Role::Server), image) };
        let purpose = Purpose { server: id, role: Role::Server, token: "bench".into() };
        let container = runtime.create(&spec, &purpose).await.expect("a container");
        runtime.start(&container).await.expect("it starts");
        let status = runtime.inspect(id, Role::Server).await.expect("the engine answers");
        store.set_status(id, |status| status.state = PowerState::Running);
        stats.observed(id, status.as_ref());
        containers.push((id, container));
    }
    let engine = engine_cpu();
    let (before, _) = process::cpu(std::process::id());
    let listeners = containers.iter().map(|(id, _)| stats.listen(*id));
    let values = futures_util::future::join_all(listeners.map(|mut listener| async move {
        let (mut values, until) = (0u32, tokio::time::Instant::now() + WATCHED_FOR);
        while let Ok(Some(used)) = tokio::time::timeout_at(until, listener.next()).await {
            assert!(used.memory_bytes > 0, "{used:?}");
            values += 1;
        }
        values
    }))
    .await;
    let (after, _) = process::cpu(std::process::id());
    let of_engine = engine_cpu().saturating_sub(engine);
    for (_, container) in &containers {
        runtime.remove(container).await.expect("it is removed");
    }
    tasks.abort_all();
    let used = after.saturating_sub(before);
    let against = format!("{} values; engine {} ms; load {}", values.iter().sum::<u32>(), millis(of_engine), load());
    let met = used <= Duration::from_millis(50);
    table.row("20 watched servers, 30 s", format!("{:.1} ms", millis(used)), against, "50 ms".into(), met);
}

/// CPU time of the engine, if it is on this machine.
fn engine_cpu() -> Duration {
    let pid = std::fs::read_to_string("/var/run/docker.pid").ok().and_then(|pid| pid.trim().parse().ok());
    pid.map_or(Duration::ZERO, process::cpu_ever)
}
