//! Counters of a container, and what images and containers occupy, as the engine tells them.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::errors::Error;
use serde::Deserialize;

use super::wire::Wire;
use crate::model::{DiskIo, NetworkTraffic};
use crate::runtime::{Counters, EngineDiskUsage, PruneReport};

/// What is used of a container's statistics. Engines leave out what a controller does not count.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Statistics {
    memory_stats: Memory,
    cpu_stats: Cpu,
    networks: Option<BTreeMap<String, NetworkTraffic>>,
    blkio_stats: Blkio,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: Option<MemoryDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryDetails {
    /// Of version 1 of the control groups.
    total_inactive_file: Option<u64>,
    inactive_file: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    cpu_usage: CpuUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    /// Nanoseconds.
    total_usage: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BlkioEntry {
    op: String,
    value: u64,
}

/// Reads the counters once. The engine does not wait for a second reading, from which it would compute the CPU's load.
pub(super) async fn counters(wire: &Wire, id: &str) -> Result<Counters, Error> {
    let statistics: Statistics = wire.get(&format!("/containers/{id}/stats?stream=false&one-shot=true")).await?;
    Ok(statistics.counters())
}

/// What is used of `docker system df`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DiskUsage {
    layers_size: i64,
    images: Option<Vec<Image>>,
    containers: Option<Vec<Container>>,
    build_cache: Option<Vec<CacheEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Image {
    /// -1 where the engine did not count.
    containers: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    size_rw: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CacheEntry {
    size: i64,
    /// Its bytes are those of an image, too.
    shared: bool,
}

/// What images, containers and the builder's cache occupy.
pub(super) async fn disk_usage(wire: &Wire) -> Result<EngineDiskUsage, Error> {
    let usage: DiskUsage = wire.get("/system/df").await?;
    Ok(usage.sum())
}

impl DiskUsage {
    fn sum(self) -> EngineDiskUsage {
        let total = |sizes: &mut dyn Iterator<Item = i64>| sizes.fold(0, i64::saturating_add);
        let images = self.images.unwrap_or_default();
        let cache = self.build_cache.into_iter().flatten().filter(|entry| !entry.shared);
        EngineDiskUsage {
            containers_size: total(&mut self.containers.into_iter().flatten().map(|container| container.size_rw)),
            images_total: images.len(),
            images_active: images.iter().filter(|image| image.containers > 0).count(),
            images_size: self.layers_size,
            build_cache_size: total(&mut cache.map(|entry| entry.size)),
        }
    }
}

/// Removes images without a name, as the engine does by default.
pub(super) async fn prune_images(wire: &Wire) -> Result<PruneReport, Error> {
    wire.post("/images/prune").await
}

impl Statistics {
    fn counters(self) -> Counters {
        let Memory { usage, limit, stats } = self.memory_stats;
        let smaller = |cache: Option<u64>| cache.filter(|cache| *cache < usage);
        let cache = stats.and_then(|stats| smaller(stats.total_inactive_file).or_else(|| smaller(stats.inactive_file)));
        let mut network = NetworkTraffic::default();
        for traffic in self.networks.into_iter().flatten().map(|(_, traffic)| traffic) {
            network.rx_bytes = network.rx_bytes.saturating_add(traffic.rx_bytes);
            network.tx_bytes = network.tx_bytes.saturating_add(traffic.tx_bytes);
        }
        let mut disk_io = DiskIo::default();
        for BlkioEntry { op, value } in self.blkio_stats.io_service_bytes_recursive.into_iter().flatten() {
            match op {
                op if op.eq_ignore_ascii_case("read") => disk_io.read_bytes = disk_io.read_bytes.saturating_add(value),
                op if op.eq_ignore_ascii_case("write") => {
                    disk_io.write_bytes = disk_io.write_bytes.saturating_add(value)
                }
                _ => {}
            }
        }
        Counters {
            memory_bytes: usage - cache.unwrap_or(0),
            memory_limit_bytes: Some(limit).filter(|limit| *limit > 0),
            cpu: Duration::from_nanos(self.cpu_stats.cpu_usage.total_usage),
            network,
            disk_io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_usage_of_engines_is_summed_up() {
        let docker = r#"{"LayersSize":700,"Images":[{"Containers":2,"Size":500},{"Containers":0},{"Containers":-1}],
            "Containers":[{"SizeRw":5,"SizeRootFs":100},{"SizeRootFs":100},{"SizeRw":7}],"Volumes":null,
            "BuildCache":[{"Size":10,"Shared":true},{"Size":20,"Shared":false}]}"#;
        let expected = EngineDiskUsage {
            containers_size: 12,
            images_total: 3,
            images_active: 1,
            images_size: 700,
            build_cache_size: 20,
        };
        let read = |text: &str| serde_json::from_str::<DiskUsage>(text).unwrap().sum();
        assert_eq!(read(docker), expected);
        assert_eq!(read(r#"{"LayersSize":0,"Images":null}"#), EngineDiskUsage::default());
    }

    #[test]
    fn the_statistics_of_engines_are_reduced_to_counters() {
        let v1 = r#"{"read":"2026-11-29T10:00:00Z","memory_stats":{"usage":5000,"limit":154350387,
            "stats":{"inactive_file":4000,"total_inactive_file":1000}},
            "cpu_stats":{"cpu_usage":{"total_usage":1500,"percpu_usage":[1500,0]},"system_cpu_usage":9},
            "networks":{"eth0":{"rx_bytes":5,"rx_packets":1,"tx_bytes":7},"eth1":{"rx_bytes":1,"tx_bytes":2}},
            "blkio_stats":{"io_service_bytes_recursive":[{"major":8,"minor":0,"op":"Read","value":10},
            {"major":8,"minor":0,"op":"Write","value":20},{"major":8,"minor":0,"op":"Sync","value":5}]}}"#;
        let expected = Counters {
            memory_bytes: 4000,
            memory_limit_bytes: Some(154_350_387),
            cpu: Duration::from_nanos(1500),
            network: NetworkTraffic { rx_bytes: 6, tx_bytes: 9 },
            disk_io: DiskIo { read_bytes: 10, write_bytes: 20 },
        };
        let read = |text: &str| serde_json::from_str::<Statistics>(text).unwrap().counters();
        assert_eq!(read(v1), expected);
        let v2 = r#"{"memory_stats":{"usage":5000,"limit":2000,"stats":{"inactive_file":1000}},
            "blkio_stats":{"io_service_bytes_recursive":null},"networks":null}"#;
        assert_eq!((read(v2).memory_bytes, read(v2).disk_io), (4000, DiskIo::default()));
        let larger = r#"{"memory_stats":{"usage":500,"stats":{"total_inactive_file":1000,"inactive_file":600}}}"#;
        assert_eq!((read(larger).memory_bytes, read(larger).memory_limit_bytes), (500, None));
        // A container that does not run.
        assert_eq!(read(r#"{"memory_stats":{},"cpu_stats":{"cpu_usage":{"total_usage":0}}}"#), Counters::default());
    }
}
