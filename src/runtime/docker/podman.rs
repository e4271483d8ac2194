//! What Podman does by routes of its own.

use bollard::errors::Error;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::wire::Wire;
use crate::runtime::{CPU_PERIOD, Limits};

/// Changes the limits of a container. Podman before 5 has no such route in Docker's API. The answer of another engine is 404.
pub(super) async fn update(wire: &Wire, id: &str, limits: &Limits) -> Result<(), Error> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let body = resources(limits).to_string().into();
    wire.open(Method::POST, &format!("/libpod/containers/{id}/update"), headers, body).await?;
    Ok(())
}

/// The limits as the runtime specification of OCI names them.
fn resources(limits: &Limits) -> Value {
    let mut resources = json!({"cpu": {"quota": limits.cpu.unwrap_or(-1)}});
    if limits.cpu.is_some() {
        resources["cpu"]["period"] = CPU_PERIOD.into();
    }
    if !limits.cpuset.is_empty() {
        resources["cpu"]["cpus"] = limits.cpuset.clone().into();
    }
    if limits.memory > 0 {
        let Limits { memory, memory_reservation, memory_swap, .. } = limits;
        resources["memory"] = json!({"limit": memory, "reservation": memory_reservation, "swap": memory_swap});
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({"limit": pids});
    }
    if let Some(weight) = limits.blkio_weight {
        resources["blockIO"] = json!({"weight": weight});
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_sent_as_the_specification_names_them() {
        let limits = Limits {
            memory: 3,
            memory_reservation: 2,
            memory_swap: -1,
            pids: Some(512),
            blkio_weight: Some(500),
            cpu: Some(150_000),
            cpuset: "0-1".into(),
            ..Limits::default()
        };
        let expected = json!({
            "memory": {"limit": 3, "reservation": 2, "swap": -1},
            "cpu": {"quota": 150_000, "period": CPU_PERIOD, "cpus": "0-1"},
            "pids": {"limit": 512},
            "blockIO": {"weight": 500},
        });
        assert_eq!(resources(&limits), expected);
        assert_eq!(resources(&Limits::default()), json!({"cpu": {"quota": -1}}));
    }
}
