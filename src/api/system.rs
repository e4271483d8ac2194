//! `/api/system`: information about the node.
//!
//! Source: HTTP API, "GET /api/system" and "Other system routes".

mod addresses;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::request::parameter;
use super::startup::{Started, Startup};
use super::{Api, ApiError, response};
use crate::panel::client::WINGS_VERSION;
use crate::stats;

/// `GET /api/system[?v=2]`. The first form is constant and answered during the startup; the second one asks the container engine.
pub async fn system(State(startup): State<Startup>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let is_detailed = parameter(query.as_deref(), "v") == Some("2");
    let value = if is_detailed { detailed(&*startup.api().await).await? } else { plain() };
    Ok(response::json(value.to_string()))
}

/// `GET /api/system/ips`: the addresses that a panel offers for allocations.
pub async fn ips(Started(api): Started) -> Result<Response, ApiError> {
    let addresses = addresses::of_host()
        .map_err(|error| ApiError::Failed(format!("cannot read the addresses of the network interfaces: {error}")))?;
    let configured = &api.context.node.config.docker.system_ips;
    Ok(response::json(json!({"ip_addresses": addresses::listed(addresses, configured)}).to_string()))
}

/// `GET /api/system/utilization`.
pub async fn utilization(Started(api): Started) -> Result<Response, ApiError> {
    serialized(&api.context.stats.node().await)
}

/// `GET /api/system/docker/disk`.
pub async fn engine_disk(Started(api): Started) -> Result<Response, ApiError> {
    let usage = api.context.runtime.disk_usage().await.map_err(|error| ApiError::Failed(error.to_string()))?;
    serialized(&usage)
}

/// `DELETE /api/system/docker/image/prune`: removes images without a name and without a container. A server whose image is named by
/// its digest alone pulls it again at its next start.
pub async fn prune_images(Started(api): Started) -> Result<Response, ApiError> {
    let report = api.context.runtime.prune_images().await.map_err(|error| ApiError::Failed(error.to_string()))?;
    let removed = report.images_deleted.as_ref().map_or(0, Vec::len);
    tracing::info!(removed, bytes = report.space_reclaimed, "images without a name removed");
    serialized(&report)
}

fn serialized(value: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_vec(value);
    text.map(response::json).map_err(|error| ApiError::Failed(format!("cannot write the answer as JSON: {error}")))
}

/// The first form.
fn plain() -> Value {
    json!({
        "architecture": architecture(),
        "cpu_count": cpus(),
        "kernel_version": stats::kernel(),
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
            "kernel_version": stats::kernel(),
            "os": stats::os_name(),
            "os_type": std::env::consts::OS,
        },
    }))
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
