//! What the node itself has and uses.
//!
//! Source: HTTP API, "Other system routes".

#![allow(missing_docs)]

mod disks;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Directories;
use crate::tasks::Blocking;
pub use disks::Disk;
use disks::Disks;

/// The load of an interval between these is that of the processors now.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// What the node uses, as the panel reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeUtilization {
    pub memory_total: u64,
    pub memory_used: u64,
    pub swap_total: u64,
    pub swap_used: u64,
    pub load_average1: f64,
    pub load_average5: f64,
    pub load_average15: f64,
    /// Of all processors together, up to 100.
    pub cpu_percent: f64,
    pub disk_total: u64,
    pub disk_used: u64,
    /// `None` if there are none.
    pub disk_details: Option<Vec<Disk>>,
}

/// Measures the node.
#[derive(Default)]
pub(super) struct NodeGauge {
    cpu: Mutex<Option<CpuReading>>,
    disks: Disks,
}

/// The time of all processors since the boot, in ticks.
#[derive(Debug, Clone, Copy)]
struct CpuReading {
    at: Instant,
    total: u64,
    idle: u64,
    /// Since the reading before.
    percent: Option<f64>,
}

impl NodeGauge {
    /// Measures now. A file system that does not answer is left out or has its earlier values.
    pub(super) async fn measure(&self, directories: &Directories, blocking: Blocking) -> NodeUtilization {
        let (cpu_percent, disks) = tokio::join!(self.cpu_percent(), self.disks.measure(directories, blocking));
        // Files in memory, which are read in microseconds.
        let memory = Meminfo::current().ok();
        let load = LoadAverage::current().ok();
        let rounded = |load: Option<f32>| load.map_or(0.0, |load| (f64::from(load) * 100.0).round() / 100.0);
        let of = |value: fn(&Meminfo) -> u64| memory.as_ref().map_or(0, value);
        let available =
            |memory: &Meminfo| memory.mem_available.unwrap_or(memory.mem_free + memory.buffers + memory.cached);
        let sum = |value: fn(&Disk) -> u64| disks.iter().map(value).fold(0, u64::saturating_add);
        NodeUtilization {
            memory_total: of(|memory| memory.mem_total),
            memory_used: memory.as_ref().map_or(0, |memory| memory.mem_total.saturating_sub(available(memory))),
            swap_total: of(|memory| memory.swap_total),
            swap_used: of(|memory| memory.swap_total.saturating_sub(memory.swap_free)),
            load_average1: rounded(load.as_ref().map(|load| load.one)),
            load_average5: rounded(load.as_ref().map(|load| load.five)),
            load_average15: rounded(load.as_ref().map(|load| load.fifteen)),
            cpu_percent,
            disk_total: sum(|disk| disk.total_space),
            disk_used: sum(|disk| disk.used_space),
            disk_details: Some(disks).filter(|disks| !disks.is_empty()),
        }
    }

    /// The load since the call before if that is recent, or else of a moment from now on.
    async fn cpu_percent(&self) -> f64 {
        let recent = |reading: &CpuReading| reading.at.elapsed() <= MAX_INTERVAL;
        let first = match self.latest().filter(recent) {
            Some(latest) => latest,
            None => match CpuReading::now() {
                Some(first) => *self.lock().insert(first),
                None => return 0.0,
            },
        };
        if first.percent.is_none() {
            tokio::time::sleep_until(first.at + MIN_INTERVAL).await;
        } else if first.at.elapsed() < MIN_INTERVAL {
            return first.percent.unwrap_or_default();
        }
        let Some(mut reading) = CpuReading::now() else { return 0.0 };
        let total = reading.total.saturating_sub(first.total);
        let idle = reading.idle.saturating_sub(first.idle).min(total);
        let percent = if total == 0 { 0.0 } else { (total - idle) as f64 / total as f64 * 100.0 };
        reading.percent = Some(percent);
        *self.lock() = Some(reading);
        percent
    }

    fn latest(&self) -> Option<CpuReading> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<CpuReading>> {
        self.cpu.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CpuReading {
    fn now() -> Option<Self> {
        let cpu = KernelStats::current().ok()?.total;
        let idle = cpu.idle.saturating_add(cpu.iowait.unwrap_or(0));
        // The time of guests is part of the user's time.
        let others =
            [cpu.user, cpu.nice, cpu.system, cpu.irq.unwrap_or(0), cpu.softirq.unwrap_or(0), cpu.steal.unwrap_or(0)];
        let total = others.into_iter().fold(idle, u64::saturating_add);
        Some(Self { at: Instant::now(), total, idle, percent: None })
    }
}

/// The memory of this host.
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// The kernel's release.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The name of the distribution.
pub fn os_name() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches('"').to_owned()).unwrap_or_else(|| "Linux".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_node_is_measured_within_the_time_of_a_panel() {
        let root = tempfile::tempdir().unwrap();
        let directories = crate::testing::node_config(root.path()).directories;
        let gauge = NodeGauge::default();
        let began = std::time::Instant::now();
        let used = gauge.measure(&directories, Blocking::Pool).await;
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(0 < used.memory_used && used.memory_used < used.memory_total, "{used:?}");
        assert!(used.memory_total.abs_diff(memory_bytes()) < memory_bytes() / 10, "{used:?}");
        assert!((0.0..=100.0).contains(&used.cpu_percent), "{used:?}");
        assert!(0 < used.disk_used && used.disk_used <= used.disk_total, "{used:?}");
        let tagged = used.disk_details.unwrap().into_iter().find(|disk| disk.tags.contains(&"Root"));
        assert!(tagged.is_some_and(|disk| disk.tags.len() == 6), "all directories are on one file system");
    }

    #[tokio::test]
    async fn processors_are_measured_since_the_call_before() {
        let gauge = NodeGauge::default();
        let began = Instant::now();
        gauge.cpu_percent().await;
        assert!(began.elapsed() >= MIN_INTERVAL, "the first call needs an interval");
        let first = gauge.latest().unwrap();
        assert_eq!(gauge.cpu_percent().await, first.percent.unwrap(), "shared");
        tokio::time::sleep(MIN_INTERVAL).await;
        let before = Instant::now();
        gauge.cpu_percent().await;
        assert!(before.elapsed() < MIN_INTERVAL, "a later call does not wait");
        assert!(gauge.latest().unwrap().total >= first.total);
    }
}
