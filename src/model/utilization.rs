//! Resources that a server uses, as the panel and its browsers read them.
//!
//! Source: lifecycle, "Stats"; HTTP API, "Server object"; websocket, "Payloads".

#![allow(missing_docs)]

use serde::{Deserialize, Serialize};

use super::PowerState;

/// Resources in use at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Utilization {
    /// Without the file cache that the kernel may drop.
    pub memory_bytes: u64,
    /// The container's limit; the memory of the host for a server without one.
    pub memory_limit_bytes: u64,
    /// Percent of one processor, with three decimals.
    pub cpu_absolute: f64,
    pub network: NetworkTraffic,
    pub disk_io: DiskIo,
    /// Milliseconds since the container was started, at least 1. 0 if the server is offline, which is what the panel takes 0 for.
    pub uptime: u64,
    pub state: PowerState,
    /// Disk usage at the last disk scan.
    pub disk_bytes: u64,
}

/// Bytes since the container was started, of all its network interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkTraffic {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// Bytes since the container was started, of all its block devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DiskIo {
    pub read_bytes: u64,
    pub write_bytes: u64,
}
