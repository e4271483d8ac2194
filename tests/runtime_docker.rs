//! What only a real engine can show of the Docker runtime, beyond the contract: pulls from a registry, networks that
//! clash, and containers as the spec builder describes them.
//!
//! Without an engine these fail; `ALULA_SKIP_DOCKER=1` leaves them out, and says so.

#[path = "runtime_docker/networks.rs"]
mod networks;
#[path = "runtime_docker/pulls.rs"]
mod pulls;
#[path = "runtime_docker/registry.rs"]
mod registry;

use std::sync::Arc;

use alula::runtime::docker::{Address, DockerRuntime};
use alula::runtime::host::Host;
use alula::runtime::{KernelLimits, Runtime};
use alula::tasks::{Blocking, Tasks};
use bollard::Docker;

/// The runtime, and the engine past it for cleaning up; `None` where Docker is to be left out.
async fn engine() -> Option<(DockerRuntime, Docker)> {
    const SKIP: &str = "ALULA_SKIP_DOCKER";
    if std::env::var(SKIP).is_ok_and(|value| value == "1") {
        eprintln!("skipped: {SKIP}=1, so nothing is known about Docker");
        return None;
    }
    let node = Arc::new(alula::testing::node_config(std::path::Path::new("/node")));
    let host = Host::new(node, Tasks::new(), Blocking::Pool, KernelLimits::default());
    let address = Address::from_environment().expect("DOCKER_HOST is an address");
    let runtime = DockerRuntime::connect(address, host);
    runtime.engine().await.unwrap_or_else(|error| panic!("{error}, or leave these tests out with {SKIP}=1"));
    Some((runtime, Docker::connect_with_defaults().expect("an engine that answers")))
}

/// A name that no other test has.
fn unique(what: &str) -> String {
    format!("alula-test-{what}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}
