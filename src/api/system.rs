//! `GET /api/system`: information about the node.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::request::parameter;
use super::startup::Startup;
use super::{Api, ApiError, response};
use crate::panel::client::WINGS_VERSION;
use crate::stats;

/// `GET /api/system[?v=2]`. The first form is constant and answered during the startup; the second one asks the container engine.
pub async fn system(State(startup): State<Startup>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let is_detailed = parameter(query.as_deref(), "v") == Some("2");
    let value = if is_detailed { detailed(&*startup.api().await).await? } else { plain() };
    Ok(response::json(value.to_string()))
}

/// The first form.
fn plain() -> Value {
    json!({
        "architecture": architecture(),
        "cpu_count": cpus(),
        "kernel_version": kernel(),
        "os": std::env::consts::OS,
        "version": WINGS_VERSION,
    })
}

async fn detailed(api: &Api) -> Result<Value, ApiError> {
    let engine = api.context.runtime.engine().await.map_err(|error| ApiError::Failed(error.to_string()))?;
    let [total, running, paused, stopped] = engine.containers;
    Ok(json!({
        "version": WINGS_VERSION,
        "docker": {
            "version": engine.version,
            "cgroups": {"driver": engine.cgroup_driver, "version": engine.cgroup_version},
            "containers": {"total": total, "running": running, "paused": paused, "stopped": stopped},
            "storage": {"driver": engine.storage_driver, "filesystem": engine.storage_filesystem},
            "runc": {"version": engine.runc},
        },
        "system": {
            "architecture": architecture(),
            "cpu_threads": cpus(),
            "memory_bytes": stats::memory_bytes(),
            "kernel_version": kernel(),
            "os": os_name(),
            "os_type": std::env::consts::OS,
        },
    }))
}

/// The kernel's release.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The processor's name in Go, which the panel expects.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn os_name() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches('"').to_owned()).unwrap_or_else(|| "Linux".into())
}
