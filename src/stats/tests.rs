use std::time::Duration;

use futures_util::FutureExt;

use super::gauge::{BASELINE, RECENT, SHARED};
use super::*;
use crate::model::{DiskIo, NetworkTraffic, Record, Role};
use crate::testing::fake::{Load, Program};
use crate::testing::{IMAGE, TestNode, file_manifest, server_id};

const MIB: u64 = 1 << 20;

/// A node whose engine runs the containers of these servers, each with half a processor and 5 MiB.
async fn node(servers: u32) -> TestNode {
    let node = TestNode::new();
    let load = Load { memory_bytes: 5 * MIB, cpu_percent: 50, bytes_per_second: 10 };
    node.engine.set_program(IMAGE, Program::idle().uses(load));
    for number in 1..=servers {
        let mut manifest = file_manifest(number);
        manifest.spec.settings.build.memory_limit = 100;
        node.context.store.create(manifest, Record::default(), []).unwrap();
        start(&node, number).await;
    }
    node
}

/// Starts a server as a pass would.
async fn start(node: &TestNode, number: u32) {
    let (id, context) = (server_id(number), &node.context);
    let mut spec = crate::testing::container_spec(&id.to_string(), IMAGE);
    spec.limits.memory = 115 << 20;
    let purpose = crate::runtime::Purpose { server: id, role: Role::Server, token: "t".into() };
    let container = context.runtime.create(&spec, &purpose).await.unwrap();
    context.runtime.start(&container).await.unwrap();
    observe(node, number, PowerState::Running).await;
}

/// Publishes what a pass would.
async fn observe(node: &TestNode, number: u32, state: PowerState) {
    let (id, context) = (server_id(number), &node.context);
    let container = context.runtime.inspect(id, Role::Server).await.unwrap();
    context.store.set_status(id, |status| (status.state, status.disk_bytes) = (state, 77));
    context.stats.observed(id, container.as_ref().filter(|container| container.running()));
}

fn calls(node: &TestNode, name: &str) -> u64 {
    node.engine.calls().get(name).copied().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_running_server_is_measured_and_an_offline_one_has_zeros() {
    let node = node(1).await;
    let (id, stats) = (server_id(1), &node.context.stats);
    tokio::time::sleep(Duration::from_secs(9)).await;
    let used = stats.read(id).await;
    let expected = Utilization {
        memory_bytes: 5 * MIB,
        memory_limit_bytes: 115 * MIB,
        cpu_absolute: 50.0,
        network: NetworkTraffic { rx_bytes: 90, tx_bytes: 0 },
        disk_io: DiskIo { read_bytes: 0, write_bytes: 90 },
        uptime: 9100,
        state: PowerState::Running,
        disk_bytes: 77,
    };
    assert_eq!(used, expected);
    assert_eq!(calls(&node, "counters"), 0, "the engine is not asked");

    node.engine.kill_outside(&id.to_string());
    // The container has ended, and no pass has seen it.
    tokio::time::sleep(SHARED).await;
    let used = stats.read(id).await;
    assert_eq!((used.memory_bytes, used.state), (0, PowerState::Running));
    assert!(used.uptime > 0);
    observe(&node, 1, PowerState::Offline).await;
    let off = Utilization { memory_limit_bytes: 115 * MIB, disk_bytes: 77, ..Utilization::default() };
    assert_eq!(stats.read(id).await, off);

    // A state of a server that has no container yet.
    observe(&node, 1, PowerState::Starting).await;
    let starting = stats.read(id).await;
    assert_eq!((starting.uptime, starting.memory_bytes), (1, 0), "0 would be offline for the panel");
}

#[tokio::test(start_paused = true)]
async fn readings_are_shared_and_the_load_is_that_of_the_time_between_them() {
    let node = node(3).await;
    let (id, stats) = (server_id(1), &node.context.stats);
    let began = Instant::now();
    assert_eq!(stats.read(id).await.cpu_absolute, 50.0);
    assert_eq!(began.elapsed(), BASELINE, "the first load needs two readings");
    assert_eq!(node.engine.meter_reads(), 4, "all servers have one reading now, and this one has two");
    for _ in 0..5 {
        stats.read(id).await;
    }
    assert_eq!((node.engine.meter_reads(), began.elapsed()), (4, BASELINE), "shared");
    let others = stats.read_all(&[server_id(2), server_id(3), server_id(4)]).await;
    assert_eq!((node.engine.meter_reads(), began.elapsed()), (6, BASELINE), "they have a reading to compare with");
    assert_eq!(others.iter().map(|used| used.cpu_absolute).collect::<Vec<_>>(), [50.0, 50.0, 0.0]);

    // Polled every few seconds, as a panel does.
    tokio::time::sleep(RECENT / 2).await;
    let before = Instant::now();
    assert_eq!(stats.read(id).await.cpu_absolute, 50.0);
    assert_eq!((node.engine.meter_reads(), before.elapsed()), (7, Duration::ZERO));
    // Not polled for an hour.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let before = Instant::now();
    let (one, two) = tokio::join!(stats.read(id), stats.read(server_id(2)));
    assert_eq!((one.cpu_absolute, two.cpu_absolute, before.elapsed()), (50.0, 50.0, BASELINE));
}

#[tokio::test(start_paused = true)]
async fn a_listener_gets_a_value_a_second_and_zeros_at_the_end() {
    let node = node(2).await;
    let (id, stats) = (server_id(1), &node.context.stats);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(node.engine.meter_reads(), 0, "without a listener nothing is read");
    let mut listener = stats.listen(id);
    let began = Instant::now();
    for second in 0..4 {
        let used = listener.next().await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(second));
        let cpu = if second == 0 { 0.0 } else { 50.0 };
        assert_eq!((used.cpu_absolute, used.memory_bytes), (cpu, 5 * MIB), "{second}");
        assert_eq!(used.uptime, (600 + second) * 1000);
    }
    assert_eq!(node.engine.meter_reads(), 4, "of this server only");
    let second = stats.listen(id);
    assert!(listener.next().now_or_never().is_none());
    listener.next().await.unwrap();
    assert_eq!(node.engine.meter_reads(), 5, "both listeners share the values");
    drop(second);

    node.engine.kill_outside(&id.to_string());
    observe(&node, 1, PowerState::Offline).await;
    let last = listener.next().await.unwrap();
    assert_eq!((last.state, last.memory_bytes, last.uptime, last.disk_bytes), (PowerState::Offline, 0, 0, 77));
    assert!(tokio::time::timeout(Duration::from_secs(60), listener.next()).await.is_err(), "nothing more");

    node.engine.remove_outside(&id.to_string());
    start(&node, 1).await;
    assert_eq!(listener.next().await.unwrap().state, PowerState::Running, "the next start");
    drop(listener);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reads = node.engine.meter_reads();
    assert_eq!(node.context.tasks.running(), Vec::<String>::new(), "the sampler ends with the last listener");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(node.engine.meter_reads(), reads);

    let mut listener = stats.listen(id);
    listener.next().await.unwrap();
    stats.remove(id);
    assert!(listener.next().await.is_none(), "the server is gone");
}

#[tokio::test(start_paused = true)]
async fn an_engine_elsewhere_is_asked_in_the_background() {
    let node = node(2).await;
    let (id, stats) = (server_id(1), &node.context.stats);
    node.engine.set_remote(true);
    let began = Instant::now();
    let first = stats.read(id).await;
    assert_eq!((first.memory_bytes, first.memory_limit_bytes), (0, 115 * MIB));
    assert_eq!(began.elapsed(), Duration::ZERO, "no caller waits for the engine");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = stats.read(id).await;
    assert_eq!((second.memory_bytes, second.cpu_absolute), (5 * MIB, 0.0));
    tokio::time::sleep(Duration::from_secs(5)).await;
    stats.read(id).await;
    tokio::time::sleep(SHARED).await;
    assert_eq!(stats.read(id).await.cpu_absolute, 50.0);

    let mut listener = stats.listen(id);
    let mut last = listener.next().await.unwrap();
    for _ in 0..3 {
        last = listener.next().await.unwrap();
    }
    assert_eq!(last.cpu_absolute, 50.0);
    let asked = calls(&node, "counters");
    node.engine.hang(&id.to_string(), true);
    for _ in 0..5 {
        let before = Instant::now();
        last = listener.next().await.unwrap();
        assert!(before.elapsed() <= PERIOD);
    }
    assert_eq!(last.memory_bytes, 5 * MIB, "the latest answer counts");
    assert_eq!(calls(&node, "counters"), asked, "and no call follows one that hangs");
    let other = server_id(2);
    stats.read(other).await;
    tokio::time::sleep(SHARED).await;
    assert_eq!(stats.read(other).await.memory_bytes, 5 * MIB, "another container is asked for meanwhile");
    assert_eq!(node.engine.meter_reads(), 0);
}
