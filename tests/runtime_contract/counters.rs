//! The counters of containers, from the kernel and from the engine.

use std::time::Duration;

use alula::model::{DiskIo, NetworkTraffic, Role};
use alula::runtime::{Counters, ErrorKind, Meter};

use crate::harness::{Harness, Subject, TestProgram, limits};

const MIB: u64 = 1 << 20;

/// The meter of a running container, whose process this test sees.
async fn meter(harness: &dyn Harness, subject: &Subject) -> Box<dyn Meter> {
    let status = subject.status(harness).await;
    harness.runtime().meter(&status).expect("the engine runs on this host")
}

/// Reads the counters until they fit.
async fn wait_for(meter: &mut dyn Meter, fit: impl Fn(&Counters) -> bool) -> Counters {
    loop {
        let counters = meter.read().unwrap();
        if fit(&counters) {
            return counters;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn the_counters_of_a_running_container_are_read(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Busy);
    subject.start(harness).await;
    let mut meter = meter(harness, &subject).await;
    let first = wait_for(meter.as_mut(), |counters| counters.memory_bytes > 0).await;
    assert_eq!(first.memory_limit_bytes, Some(32 * MIB));
    assert!(first.memory_bytes <= 32 * MIB, "{first:?}");
    // Its network has a loopback only.
    assert_eq!((first.network, first.disk_io.write_bytes), (NetworkTraffic::default(), 0));
    let used = Duration::from_millis(50);
    let later = wait_for(meter.as_mut(), |counters| counters.cpu >= first.cpu + used).await;
    meter.close();
    assert!(meter.read().unwrap().cpu >= later.cpu, "files are opened again");
}

pub async fn both_sources_of_counters_agree(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Busy);
    let id = subject.start(harness).await;
    let mut meter = meter(harness, &subject).await;
    let before = wait_for(meter.as_mut(), |counters| !counters.cpu.is_zero() && counters.memory_bytes > 0).await;
    let asked = harness.runtime().counters(&id).await.unwrap();
    let after = meter.read().unwrap();
    assert!(before.cpu <= asked.cpu && asked.cpu <= after.cpu, "{before:?} {asked:?} {after:?}");
    assert_eq!(asked.memory_limit_bytes, after.memory_limit_bytes);
    assert!(asked.memory_bytes.abs_diff(after.memory_bytes) <= 4 * MIB, "{asked:?} {after:?}");
    assert_eq!((asked.network, asked.disk_io), (NetworkTraffic::default(), DiskIo::default()));
}

pub async fn changed_limits_are_read(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    let mut meter = meter(harness, &subject).await;
    assert_eq!(meter.read().unwrap().memory_limit_bytes, Some(32 * MIB));
    harness.runtime().update(&id, &limits(48)).await.unwrap();
    assert_eq!(meter.read().unwrap().memory_limit_bytes, Some(48 * MIB));
}

pub async fn the_counters_of_a_container_end_with_it(harness: &dyn Harness) {
    let subject = Subject::new(harness, Role::Server, TestProgram::Answers);
    let id = subject.create(harness).await;
    let runtime = harness.runtime();
    assert!(runtime.meter(&subject.status(harness).await).is_none(), "it has no process");
    runtime.start(&id).await.unwrap();
    let mut meter = meter(harness, &subject).await;
    meter.read().unwrap();
    runtime.signal(&id, "SIGKILL").await.unwrap();
    let ended = subject.ended(harness).await;
    assert_eq!(ended.process, None);
    while meter.read().is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The next run has others.
    runtime.start(&id).await.unwrap();
    let status = subject.status(harness).await;
    runtime.meter(&status).expect("it runs again").read().unwrap();
    runtime.remove(&id).await.unwrap();
    let missing = runtime.counters(&id).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
}
