//! A server that waits causes no calls and no writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::{ContainerState, Role, ServerId};
use alula::runtime::container_name;
use axum::http::Method;
use serde_json::json;

use crate::daemon::Machine;
use crate::faults::{ProcessFaults, Rates};
use crate::setup::{panel_side, set_up};

/// A deletion whose running installer the engine does not remove: seed 175 found passes that released the install slot and
/// acquired it again, without end.
pub fn a_deletion_that_is_held_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let machine = Machine::new();
        let runs: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        set_up(&machine, 1, &runs, true);
        let id = ServerId::new(uuid::Builder::from_random_bytes([9; 16]).into_uuid());
        machine.panel.lock().servers.insert(id, panel_side(id, "only"));
        let faults = ProcessFaults::new(1, Rates::default(), None);
        let daemon = machine.boot(faults.clone(), 1).unwrap();
        daemon.request(Method::POST, "/api/servers", json!({"uuid": id})).await.unwrap();
        let installer = container_name(id, Role::Installer);
        while machine.engine.state_of(&installer) != Some(ContainerState::Running) {
            daemon.wait(Duration::from_millis(100)).await;
        }
        faults.reject("remove");
        let before = faults.passed();
        daemon.request(Method::DELETE, &format!("/api/servers/{id}"), json!(null)).await.unwrap();
        daemon.wait(Duration::from_secs(600)).await;
        let tried = faults.passed() - before;
        assert!(tried < 200, "{tried} calls and writes in ten minutes in which nothing could succeed");
        faults.reject("");
        daemon.wait(Duration::from_secs(120)).await;
        assert!(daemon.node.context.store.get(id).is_none(), "deleted when the engine allows it");
        daemon.kill().await;
    });
}
