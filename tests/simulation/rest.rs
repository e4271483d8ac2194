//! A server that waits for something costs nothing meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::{ContainerState, Role, ServerId};
use alula::runtime::container_name;
use axum::http::Method;
use serde_json::json;

use crate::crash::{Fate, Rates};
use crate::daemon::Machine;
use crate::furnish::{furnish, panel_side};

/// A deletion whose running installer the engine does not want to remove: seed 175 found passes that gave the installer's
/// place back and took it again, without end.
pub fn a_deletion_that_is_held_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let machine = Machine::new();
        let runs: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        furnish(&machine, 1, &runs, true);
        let id = ServerId::new(uuid::Builder::from_random_bytes([9; 16]).into_uuid());
        machine.panel.lock().servers.insert(id, panel_side(id, "only"));
        let fate = Fate::new(1, Rates::default(), None);
        let daemon = machine.boot(fate.clone(), 1).unwrap();
        daemon.request(Method::POST, "/api/servers", json!({"uuid": id})).await.unwrap();
        let installer = container_name(id, Role::Installer);
        while machine.docker.state_of(&installer) != Some(ContainerState::Running) {
            daemon.wait(Duration::from_millis(100)).await;
        }
        fate.reject("remove");
        let before = fate.passed();
        daemon.request(Method::DELETE, &format!("/api/servers/{id}"), json!(null)).await.unwrap();
        daemon.wait(Duration::from_secs(600)).await;
        let tried = fate.passed() - before;
        assert!(tried < 200, "{tried} calls and writes in ten minutes in which nothing could be done");
        fate.reject("");
        daemon.wait(Duration::from_secs(120)).await;
        assert!(daemon.world.store.get(id).is_none(), "deleted when the engine allows it");
        daemon.kill().await;
    });
}
